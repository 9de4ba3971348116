//! Frames of an exact number of bytes.

use danmu_wire::frame::{push_pong, push_text};

use crate::stamp::{Stamp, pad};

/// The run that the floor's messages are of.
const RUN: &str = "floor";

/// Fewest bytes of a frame: `[]` and its header.
pub(super) const SMALLEST: usize = 4;

/// Fewest bytes of one message on the wire: the longest stamp in the shortest chat.
pub(super) const SMALLEST_MESSAGE: usize = 116;

/// One message in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Its place in the run.
    pub(super) sequence: u32,
    /// When it was due on the monotonic clock; the viewers' latency counts from here.
    pub(super) due_ns: u64,
}

/// Bytes for one send: one text frame with `messages`, or with none where they do not fit. Some
/// sizes no frame has (128 is one: its header would be 4 bytes, for 124); there a pong of 7 bytes
/// goes along.
pub(super) fn encode(messages: &[Message], bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + 16);
    let filler = usize::from(payload_of(bytes).is_none()) * 7;
    let payload = payload_of(bytes - filler).unwrap_or(2);
    let json = chats(messages, payload).unwrap_or_else(|| format!("[{}]", " ".repeat(payload - 2)));
    push_text(&mut out, json.as_bytes());
    if filler > 0 {
        push_pong(&mut out, &[0; 5]);
    }
    out
}

/// The payload of a frame of `bytes`.
const fn payload_of(bytes: usize) -> Option<usize> {
    match bytes {
        2..=127 => Some(bytes - 2),
        130..=65_539 => Some(bytes - 4),
        65_546.. => Some(bytes - 10),
        _ => None,
    }
}

/// A JSON array of chats, exactly `bytes` long; `None` where that is too short.
fn chats(messages: &[Message], bytes: usize) -> Option<String> {
    let mut json = String::with_capacity(bytes);
    json.push('[');
    for (place, message) in messages.iter().enumerate() {
        let left = messages.len() - place;
        // The comma or bracket after it belongs to each chat.
        let end = json.len() + (bytes - json.len()) / left;
        json.push_str(&format!(r#"{{"ev":"chat","id":"{:026}","text":""#, message.sequence));
        let stamp = Stamp { speaker: Some(0), sequence: message.sequence, sent_ns: message.due_ns };
        json.push_str(&stamp.text(RUN, 0));
        let padded = end.checked_sub(3)?;
        if json.len() > padded {
            return None;
        }
        pad(&mut json, padded, message.sequence as usize);
        json.push_str(if left == 1 { "\"}]" } else { "\"}," });
    }
    (json.len() == bytes).then_some(json)
}

#[cfg(test)]
mod tests {
    use danmu_wire::Event;
    use proptest::prelude::*;
    use tungstenite::protocol::frame::FrameHeader;

    use super::*;

    fn message(sequence: u32) -> Message {
        Message { sequence, due_ns: u64::from(sequence) * 1_000_000_007 }
    }

    fn events(bytes: &[u8]) -> Vec<Event> {
        let mut cursor = std::io::Cursor::new(bytes);
        let (_, length) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
        let start = cursor.position() as usize;
        serde_json::from_slice(&bytes[start..start + length as usize]).unwrap()
    }

    #[test]
    fn every_size_of_frame_can_be_had() {
        for bytes in (SMALLEST..3000).chain(65_500..65_600) {
            let frame = encode(&[message(bytes as u32)], bytes);
            assert_eq!(frame.len(), bytes);
            assert_eq!(
                events(&frame).len(),
                usize::from(bytes >= SMALLEST_MESSAGE || !events(&frame).is_empty())
            );
        }
    }

    proptest! {
        #[test]
        fn a_batch_holds_all_its_messages_in_its_size(
            first in 0..u32::MAX - 64,
            due_ns in any::<u64>(),
            count in 1_usize..64,
            each in SMALLEST_MESSAGE..400,
        ) {
            let messages: Vec<Message> =
                (0..count).map(|n| Message { sequence: first + n as u32, due_ns }).collect();
            let frame = encode(&messages, count * each);
            prop_assert_eq!(frame.len(), count * each);
            let read = events(&frame).into_iter().map(|event| {
                let Event::Chat(chat) = event else { panic!() };
                Stamp::parse(RUN, &chat.text).unwrap()
            });
            let read: Vec<_> = read.map(|stamp| Message { sequence: stamp.sequence, due_ns: stamp.sent_ns }).collect();
            prop_assert_eq!(read, messages);
        }
    }
}
