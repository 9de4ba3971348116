//! A viewer's raw bytes: the same messages and the same end however the bytes are cut, and nothing
//! beyond the limit is kept. The first byte says how the rest is cut.
#![no_main]

use danmu_wire::frame::{FrameError, Inbound, Message};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 256;

#[derive(Debug, PartialEq)]
enum Heard {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

fn hear(bytes: &[u8], piece: usize) -> (Vec<Heard>, Result<(), FrameError>) {
    let mut inbound = Inbound::default();
    let mut heard = Vec::new();
    for bytes in bytes.chunks(piece) {
        let taken = inbound.take(&mut bytes.to_vec(), LIMIT, |message| {
            heard.push(match message {
                Message::Text(text) => Heard::Text(text.to_owned()),
                Message::Binary(bytes) => Heard::Binary(bytes.to_vec()),
                Message::Ping(payload) => Heard::Ping(payload.to_vec()),
                Message::Pong => Heard::Pong,
                Message::Close(code) => Heard::Close(code),
            });
            true
        });
        match taken {
            Err(error) => return (heard, Err(error)),
            Ok(()) if matches!(heard.last(), Some(Heard::Close(_))) => break,
            Ok(()) => {}
        }
    }
    (heard, Ok(()))
}

fuzz_target!(|input: &[u8]| {
    let Some((cut, bytes)) = input.split_first() else { return };
    let whole = hear(bytes, bytes.len().max(1));
    let pieces = hear(bytes, usize::from(*cut).max(1));
    assert_eq!(whole, pieces);
    for heard in &whole.0 {
        match heard {
            Heard::Text(text) => assert!(text.len() <= LIMIT),
            Heard::Binary(bytes) => assert!(bytes.len() <= LIMIT),
            Heard::Ping(payload) => assert!(payload.len() <= 125),
            Heard::Pong | Heard::Close(_) => {}
        }
    }
});
