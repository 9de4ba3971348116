//! What travels on a room's channel: a letter, a few words, and JSON where there is more to say.

use std::str::{SplitN, from_utf8};

use danmu_wire::{Event, Held, Lane, Settled};

use crate::relay::{Change, Here};

/// Longest packet taken. A flush of 4,096 chats of 1,000 characters would be larger; it is not sent.
pub const MAX_PACKET: usize = 1 << 20;

/// One packet.
#[derive(Debug, PartialEq)]
pub enum Packet<'a> {
    /// Chats of one flush of a pod.
    Chat {
        /// The pod's id, new at each start.
        pod: &'a str,
        /// How many chats it published to this room before.
        before: u64,
        /// When it was sent, in microseconds since 1970.
        sent: u64,
        /// The chats, and who came in.
        chats: Vec<Event>,
    },
    /// A pod's numbers.
    Here {
        /// The pod's id.
        pod: &'a str,
        /// Its viewers of this room.
        viewers: u64,
        /// Its distinct senders of the last two seconds.
        senders: u32,
        /// Messages said on it each second, shown or not; 0 from a pod that does not tell.
        messages: u32,
        /// How far it sheds load.
        stage: u8,
    },
    /// A pod has closed the room.
    Gone {
        /// The pod's id.
        pod: &'a str,
    },
    /// A priority event.
    Priority {
        /// The lane's epoch.
        epoch: &'a str,
        /// The event's place.
        offset: u64,
        /// The event, numbered.
        event: Event,
    },
    /// The lane begins anew.
    Epoch(&'a str),
    /// A moderator's change.
    Moderate(Change),
    /// A message waits for a moderator.
    Held(Box<Held>),
    /// A message waits no more.
    Settled(Settled),
}

/// The pod that sent a packet, without reading all of it: every pod gets its own packets back.
pub fn sender(bytes: &[u8]) -> Option<&[u8]> {
    let (kind, rest) = bytes.split_first()?;
    matches!(kind, b'C' | b'H' | b'G').then(|| rest.split(|b| *b == b' ').next().unwrap_or_default())
}

/// Chats of one flush.
pub fn chat(pod: &str, before: u64, sent: u64, chats: &[Event]) -> Option<Vec<u8>> {
    let mut bytes = format!("C{pod} {before} {sent} ").into_bytes();
    serde_json::to_writer(&mut bytes, chats).ok()?;
    Some(bytes)
}

/// A pod's numbers.
pub fn here(pod: &str, here: &Here) -> Vec<u8> {
    let Here { viewers, senders, messages, stage, .. } = here;
    format!("H{pod} {viewers} {senders} {messages} {stage}").into_bytes()
}

/// A pod has closed the room.
pub fn gone(pod: &str) -> Vec<u8> {
    format!("G{pod}").into_bytes()
}

impl Packet<'_> {
    /// Reads a packet; `None` for anything that is none, for whoever may write to Redis.
    pub fn parse(bytes: &[u8]) -> Option<Packet<'_>> {
        if bytes.len() > MAX_PACKET {
            return None;
        }
        let text = from_utf8(bytes).ok()?;
        let kind = text.chars().next().filter(char::is_ascii)?;
        let rest = text.get(1..)?;
        match kind {
            'C' => {
                let mut words = rest.splitn(4, ' ');
                let (pod, before, sent) = (word(&mut words)?, number(&mut words)?, number(&mut words)?);
                let chats = serde_json::from_str::<Vec<Event>>(words.next()?).ok()?;
                let is_said = |event: &Event| matches!(event, Event::Chat(_) | Event::Enter(_));
                let chats: Vec<Event> = chats.into_iter().filter(is_said).collect();
                before.checked_add(chats.len() as u64)?;
                Some(Packet::Chat { pod, before, sent, chats })
            }
            'H' => {
                let mut words = rest.splitn(5, ' ');
                let pod = word(&mut words)?;
                let viewers = number(&mut words)?;
                let senders = words.next()?.parse().ok()?;
                let messages = words.next().map_or(Some(0), |word| word.parse().ok())?;
                let stage = words.next().map_or(Some(0), |word| word.parse().ok())?;
                Some(Packet::Here { pod, viewers, senders, messages, stage })
            }
            'G' => name(rest).map(|pod| Packet::Gone { pod }),
            'P' => {
                let mut words = rest.splitn(3, ' ');
                let (epoch, offset) = (word(&mut words)?, number(&mut words)?);
                let event = priority(words.next()?, offset)?;
                Some(Packet::Priority { epoch, offset, event })
            }
            'E' => name(rest).map(Packet::Epoch),
            'M' => serde_json::from_str(rest).ok().map(Packet::Moderate),
            'Q' => serde_json::from_str(rest).ok().map(Packet::Held),
            'S' => serde_json::from_str(rest).ok().map(Packet::Settled),
            _ => None,
        }
    }
}

/// A priority event as kept in the log, numbered.
pub fn priority(json: &str, offset: u64) -> Option<Event> {
    let mut event: Event = serde_json::from_str(json).ok()?;
    if event.lane() != Some(Lane::Priority) {
        return None;
    }
    event.set_offset(offset);
    Some(event)
}

/// Ids of pods and epochs are ULIDs; the bound keeps what others write small.
fn name(word: &str) -> Option<&str> {
    ((1..=64).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_graphic())).then_some(word)
}

fn word<'a>(words: &mut SplitN<'a, char>) -> Option<&'a str> {
    words.next().and_then(name)
}

fn number(words: &mut SplitN<'_, char>) -> Option<u64> {
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use danmu_wire::{Chat, Enter, Gift};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_sent_is_what_arrives() {
        let said = Event::Chat(Chat { id: "1".into(), text: "hi {} 弹幕".into(), n: 2, ..Chat::default() });
        let came = Event::Enter(Enter { user: Some("ann".into()), name: None });
        let bytes = chat("POD", 7, 99, &[said.clone(), came.clone()]).unwrap();
        assert_eq!(sender(&bytes), Some(&b"POD"[..]));
        let expected = Packet::Chat { pod: "POD", before: 7, sent: 99, chats: vec![said, came] };
        assert_eq!(Packet::parse(&bytes), Some(expected));
        let held = Held { chat: Chat { id: "1".into(), n: 1, ..Chat::default() }, at: 5, sub: None };
        let bytes = format!("Q{}", serde_json::to_string(&held).unwrap());
        assert_eq!(Packet::parse(bytes.as_bytes()), Some(Packet::Held(Box::new(held))));
        let settled = Settled { id: "1".into(), shown: true, by: "mod".into() };
        let bytes = format!("S{}", serde_json::to_string(&settled).unwrap());
        assert_eq!(Packet::parse(bytes.as_bytes()), Some(Packet::Settled(settled)));
        let here = here(
            "POD",
            &Here { room: "r".into(), sub: None, viewers: 3, senders: 2, messages: 40, stage: 1 },
        );
        assert_eq!(
            Packet::parse(&here),
            Some(Packet::Here { pod: "POD", viewers: 3, senders: 2, messages: 40, stage: 1 })
        );
        // A pod of an earlier version tells no load.
        let earlier = Packet::Here { pod: "POD", viewers: 3, senders: 2, messages: 0, stage: 0 };
        assert_eq!(Packet::parse(b"HPOD 3 2"), Some(earlier));
        assert_eq!(Packet::parse(&gone("POD")), Some(Packet::Gone { pod: "POD" }));
        let event = Event::Gift(Gift { offset: 4, gift: "rose".into(), ..Gift::default() });
        let bytes = format!("PE 4 {}", serde_json::to_string(&event).unwrap());
        assert_eq!(Packet::parse(bytes.as_bytes()), Some(Packet::Priority { epoch: "E", offset: 4, event }));
    }

    #[test]
    fn a_chat_does_not_pass_as_priority() {
        assert_eq!(Packet::parse(br#"PE 4 {"ev":"chat","id":"1","text":"x"}"#), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in "[CHGPEMQS]") {
            let _ = Packet::parse(&bytes);
            let mut with_kind = kind.into_bytes();
            with_kind.extend(bytes);
            let _ = (Packet::parse(&with_kind), sender(&with_kind));
        }
    }
}
