//! From a frame's payload to what it tells a viewer, parsed once per distinct payload and thread.
//!
//! All viewers of a room get the same bytes. Each delivery is still compared byte by byte with a
//! payload seen before; only the first one is inflated and parsed.

use std::collections::HashMap;

use danmu_wire::{Chat, Event, Lane, RefusalCode};
use flate2::{Decompress, FlushDecompress, Status};

use crate::stamp::Stamp;

/// How many distinct payloads a thread remembers. Viewers of one thread can be seconds apart when
/// the server is over capacity: 6 s at 20 frames a second were seen, so 8 would be too few.
const REMEMBERED: usize = 256;

/// Longest payload after inflating; a server's frames are a few dozen kilobytes at most.
const MAX_INFLATED: usize = 16 * 1024 * 1024;

/// How many messages keep their number; 64 bytes each.
const MAX_NUMBERED: usize = 1 << 20;

/// One thing a frame tells a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A chat of this run. `number` grows in the order in which this thread first saw the messages.
    Chat { number: u32, times: u32, sent_ns: u64 },
    /// A chat of somebody else.
    Foreign,
    /// An event of the priority lane; `sent_ns` when it is of this run.
    Priority { offset: u64, sent_ns: Option<u64> },
    /// How many messages the server left out since it last said so.
    Stats { sampled: u64 },
    /// The answer to the join; the epoch by its place in [`PayloadReader::name`].
    Joined { epoch: u32, offset: u64, recovered: bool },
    /// A chat of this run among those that `joined` remembers.
    History { number: u32, times: u32, sent_ns: u64 },
    /// An own message was taken; `sent_ns` is what we sent as `ref`.
    Ack { sent_ns: Option<u64>, shown: bool },
    /// An own message was not taken.
    Refused(RefusalCode),
    /// Something was lost; `None` is an unknown number. With an epoch, by its place in
    /// [`PayloadReader::name`], the priority lane begins anew under it.
    Gap { lane: Lane, dropped: Option<u64>, epoch: Option<u32> },
    /// The server wants us elsewhere: at the URL of this name, or at the same address.
    Move { url: Option<u32> },
}

/// A payload that says nothing we know.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PayloadError {
    /// Not a JSON array of events of `danmu.v1`.
    #[error("not an array of events: {0}")]
    Json(#[from] serde_json::Error),
    /// Not raw deflate, cut short, or too long.
    #[error("not a raw deflate stream of at most {MAX_INFLATED} bytes")]
    Deflate,
}

/// Reads payloads for all viewers of one thread.
pub(crate) struct PayloadReader {
    run: String,
    remembered: Vec<Remembered>,
    oldest: usize,
    personal: Vec<Seen>,
    numbers: HashMap<(u32, u32), u32>,
    next_number: u32,
    names: Vec<String>,
    inflate: Decompress,
}

struct Remembered {
    binary: bool,
    payload: Vec<u8>,
    seen: Vec<Seen>,
}

impl PayloadReader {
    /// For messages stamped with `run`.
    pub(crate) fn new(run: &str) -> PayloadReader {
        PayloadReader {
            run: run.to_owned(),
            remembered: Vec::new(),
            oldest: 0,
            personal: Vec::new(),
            numbers: HashMap::new(),
            next_number: 1,
            names: Vec::new(),
            inflate: Decompress::new(false),
        }
    }

    /// What the payload of a text or `binary` frame tells. `place` is where this viewer's last
    /// payload was remembered: its next one is most likely the next.
    ///
    /// # Errors
    /// [`PayloadError`] for what is no payload of `danmu.v1`.
    pub(crate) fn read(
        &mut self,
        binary: bool,
        payload: &[u8],
        place: &mut u16,
    ) -> Result<&[Seen], PayloadError> {
        let known = self.remembered.len();
        let first = usize::from(*place) + 1;
        let found = (0..known)
            .map(|step| (first + step) % known)
            .find(|&at| self.remembered[at].binary == binary && self.remembered[at].payload == payload);
        if let Some(at) = found {
            *place = at as u16;
            return Ok(&self.remembered[at].seen);
        }
        let seen = if binary {
            let json = self.inflate(payload)?;
            self.parse(&json)?
        } else {
            self.parse(payload)?
        };
        if seen.iter().all(Seen::is_shared) {
            *place = self.remember(Remembered { binary, payload: payload.to_vec(), seen });
            Ok(&self.remembered[usize::from(*place)].seen)
        } else {
            self.personal = seen;
            Ok(&self.personal)
        }
    }

    fn remember(&mut self, new: Remembered) -> u16 {
        let at = if self.remembered.len() < REMEMBERED {
            self.remembered.push(new);
            self.remembered.len() - 1
        } else {
            let at = self.oldest;
            self.remembered[at] = new;
            self.oldest = (at + 1) % REMEMBERED;
            at
        };
        at as u16
    }

    fn parse(&mut self, json: &[u8]) -> Result<Vec<Seen>, PayloadError> {
        let events: Vec<Event> = serde_json::from_slice(json)?;
        let mut seen = Vec::with_capacity(events.len());
        let mut own_echo_follows = false;
        for event in &events {
            let own_echo = std::mem::take(&mut own_echo_follows) && matches!(event, Event::Chat(_));
            match self.see(event) {
                // The echo of a sampled-out message is for its sender only: no delivery.
                _ if own_echo => {}
                Some(one) => {
                    own_echo_follows = matches!(one, Seen::Ack { shown: false, .. });
                    seen.push(one);
                    if let Event::Joined(joined) = event {
                        seen.extend(joined.history.iter().filter_map(|chat| self.remembered_chat(chat)));
                    }
                }
                None => {}
            }
        }
        Ok(seen)
    }

    fn see(&mut self, event: &Event) -> Option<Seen> {
        let priority = |offset: u64, text: Option<&str>| {
            let stamp = text.and_then(|text| Stamp::parse(&self.run, text));
            Some(Seen::Priority { offset, sent_ns: stamp.map(|stamp| stamp.sent_ns) })
        };
        match event {
            Event::Chat(chat) => match Stamp::parse(&self.run, &chat.text) {
                Some(Stamp { speaker: Some(speaker), sequence, sent_ns }) => {
                    Some(Seen::Chat { number: self.number(speaker, sequence), times: chat.n, sent_ns })
                }
                _ => Some(Seen::Foreign),
            },
            Event::Gift(gift) => priority(gift.offset, gift.text.as_deref()),
            Event::Notice(notice) => priority(notice.offset, Some(&notice.text)),
            Event::Removed(removed) => priority(removed.offset, None),
            Event::Mode(mode) => priority(mode.offset, None),
            Event::Stats(stats) => Some(Seen::Stats { sampled: stats.sampled }),
            Event::Joined(joined) => Some(Seen::Joined {
                epoch: self.intern(&joined.epoch),
                offset: joined.offset,
                recovered: joined.recovered,
            }),
            Event::Ack(ack) => Some(Seen::Ack {
                sent_ns: ack.reference.as_ref().and_then(|sent| sent.parse().ok()),
                shown: ack.shown,
            }),
            Event::Refused(refused) => Some(Seen::Refused(refused.code)),
            Event::Gap(gap) => Some(Seen::Gap {
                lane: gap.lane,
                dropped: gap.dropped,
                epoch: gap.epoch.as_deref().map(|epoch| self.intern(epoch)),
            }),
            Event::Move(to) => Some(Seen::Move { url: to.url.as_deref().map(|url| self.intern(url)) }),
            _ => None,
        }
    }

    fn remembered_chat(&mut self, chat: &Chat) -> Option<Seen> {
        let Stamp { speaker: Some(speaker), sequence, sent_ns } = Stamp::parse(&self.run, &chat.text)? else {
            return None;
        };
        Some(Seen::History { number: self.number(speaker, sequence), times: chat.n, sent_ns })
    }

    /// An epoch or a URL as a server wrote it.
    pub(crate) fn name(&self, place: u32) -> &str {
        self.names.get(place as usize).map_or("", String::as_str)
    }

    /// Few servers have few epochs: a search is enough.
    fn intern(&mut self, name: &str) -> u32 {
        let known = self.names.iter().position(|known| known == name);
        known.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        }) as u32
    }

    fn number(&mut self, speaker: u32, sequence: u32) -> u32 {
        if self.numbers.len() >= MAX_NUMBERED {
            // Only a duplicate across this moment goes unseen; a run without end keeps its memory.
            self.numbers.clear();
        }
        *self.numbers.entry((speaker, sequence)).or_insert_with(|| {
            self.next_number += 1;
            self.next_number - 1
        })
    }

    fn inflate(&mut self, payload: &[u8]) -> Result<Vec<u8>, PayloadError> {
        self.inflate.reset(false);
        let mut json = Vec::with_capacity(payload.len() * 4 + 64);
        loop {
            let rest = payload.get(self.inflate.total_in() as usize..).unwrap_or(&[]);
            let before = (self.inflate.total_in(), self.inflate.total_out());
            match self.inflate.decompress_vec(rest, &mut json, FlushDecompress::Finish) {
                Ok(Status::StreamEnd) => return Ok(json),
                Err(_) => return Err(PayloadError::Deflate),
                Ok(Status::Ok | Status::BufError) => {
                    let stuck = before == (self.inflate.total_in(), self.inflate.total_out());
                    if json.len() > MAX_INFLATED || (stuck && json.capacity() > json.len()) {
                        return Err(PayloadError::Deflate);
                    }
                    json.reserve(json.capacity().max(256));
                }
            }
        }
    }
}

impl Seen {
    /// Whether all viewers of a room are told this in the same bytes.
    const fn is_shared(&self) -> bool {
        matches!(self, Seen::Chat { .. } | Seen::Foreign | Seen::Priority { .. } | Seen::Stats { .. })
    }
}

#[cfg(test)]
mod tests {
    use danmu_wire::{Ack, Gift, frame};

    use super::*;

    fn chat(text: &str, n: u32) -> Event {
        Event::Chat(Chat { id: "A".into(), text: text.into(), n, ..Chat::default() })
    }

    fn read(reader: &mut PayloadReader, events: &[Event]) -> Vec<Seen> {
        reader.read(false, &frame::json_array(events), &mut 0).unwrap().to_vec()
    }

    #[test]
    fn the_same_message_has_the_same_number_in_every_payload() {
        let mut reader = PayloadReader::new("r");
        let one = read(&mut reader, &[chat("r.0.0.5", 1), chat("r.1.0.6", 3)]);
        assert_eq!(
            one,
            [Seen::Chat { number: 1, times: 1, sent_ns: 5 }, Seen::Chat { number: 2, times: 3, sent_ns: 6 }]
        );
        let again = read(&mut reader, &[chat("r.1.0.6", 1), chat("hello", 1)]);
        assert_eq!(again, [Seen::Chat { number: 2, times: 1, sent_ns: 6 }, Seen::Foreign]);
    }

    #[test]
    fn a_payload_that_differs_in_one_byte_is_another_payload() {
        let mut reader = PayloadReader::new("r");
        let mut place = 0;
        for sent in 10..(10 + 2 * REMEMBERED as u64) {
            let payload = frame::json_array(&[chat(&format!("r.0.{sent}.{sent}"), 1)]);
            for _ in 0..2 {
                let seen = reader.read(false, &payload, &mut place).unwrap();
                assert!(matches!(seen, [Seen::Chat { sent_ns, .. }] if *sent_ns == sent), "{seen:?}");
            }
        }
        assert_eq!(reader.remembered.len(), REMEMBERED);
    }

    #[test]
    fn a_compressed_payload_says_the_same() {
        let mut reader = PayloadReader::new("r");
        let json = frame::json_array(&[chat("r.0.0.5", 1), chat(&"x".repeat(90_000), 1)]);
        let packed = frame::deflate(&json);
        let expected = [Seen::Chat { number: 1, times: 1, sent_ns: 5 }, Seen::Foreign];
        assert_eq!(reader.read(true, &packed, &mut 0).unwrap(), expected);
        assert_eq!(reader.read(true, &packed, &mut 0).unwrap(), expected);
        let cut = &packed[..packed.len() - 4];
        assert!(matches!(reader.read(true, cut, &mut 0), Err(PayloadError::Deflate)));
    }

    #[test]
    fn the_echo_of_a_message_left_out_is_no_delivery() {
        let mut reader = PayloadReader::new("r");
        let ack =
            |shown| Event::Ack(Ack { reference: Some("77".into()), id: "A".into(), shown, held: false });
        let seen = read(&mut reader, &[ack(false), chat("r.0.0.5", 1)]);
        assert_eq!(seen, [Seen::Ack { sent_ns: Some(77), shown: false }]);
        let seen = read(&mut reader, &[ack(true), chat("r.0.1.5", 1)]);
        assert_eq!(seen.len(), 2);
        assert!(reader.remembered.is_empty(), "personal frames are not worth remembering");
    }

    #[test]
    fn a_gift_of_the_run_carries_its_time() {
        let mut reader = PayloadReader::new("r");
        let gift = |text: &str| Event::Gift(Gift { offset: 7, text: Some(text.into()), ..Gift::default() });
        let seen = read(&mut reader, &[gift("r.p.0.5"), gift("for you")]);
        assert_eq!(
            seen,
            [Seen::Priority { offset: 7, sent_ns: Some(5) }, Seen::Priority { offset: 7, sent_ns: None }]
        );
    }

    #[test]
    fn nonsense_is_told_apart_from_events() {
        let mut reader = PayloadReader::new("r");
        for bad in ["", "{}", "null", r#"[{"ev":"unheard"}]"#, r#"[{"ev":"chat"}]"#, "[1]"] {
            assert!(reader.read(false, bad.as_bytes(), &mut 0).is_err(), "{bad}");
        }
    }
}
