//! What is begun and never ended has a deadline, and ends alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

#[allow(dead_code, unreachable_pub, reason = "shared with other test binaries, which use the rest")]
mod support;

use std::time::{Duration, Instant};

use danmu_server::rows::Limits;
use danmu_wire::CloseCode;
use support::{
    Danmu,
    raw::{PING, Raw, TEXT, frame},
};
use tokio::io::AsyncReadExt;

fn short() -> Limits {
    let second = Duration::from_secs(1);
    Limits { half_frame: second, stalled: second, closing: second, ..Limits::default() }
}

/// The offender sends these bytes, and goes on with `then` every 100 ms; it is closed with 1002 while the
/// other viewer talks on.
async fn never_ends(begin: &[u8], then: &[u8]) {
    let danmu = Danmu::start_with(&[], short()).await;
    let mut innocent = danmu.join("talk").await;
    let mut offender = Raw::join(&danmu).await;
    let started = Instant::now();
    offender.send(begin).await;
    let drip = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            innocent.say("still here").await;
            innocent.hears("still here").await;
        }
    };
    let closed = async {
        let (mut reading, mut writing) = offender.stream.split();
        let write = async {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let _ = tokio::io::AsyncWriteExt::write_all(&mut writing, then).await;
            }
        };
        let read = async {
            let mut got = Vec::new();
            let mut buffer = [0; 4096];
            // The close frame is the last: 0x88, its length, the code, the reason.
            while close_code(&got).is_none() {
                let read = reading.read(&mut buffer).await.unwrap();
                assert!(read > 0, "closed without a close frame");
                got.extend_from_slice(&buffer[..read]);
            }
            close_code(&got).unwrap()
        };
        tokio::select! {
            code = read => code,
            () = write => unreachable!(),
        }
    };
    let code = tokio::select! {
        code = closed => code,
        () = drip => unreachable!(),
    };
    assert_eq!(code, CloseCode::Protocol.code());
    let took = started.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(4)).contains(&took), "{took:?}");
    innocent.say("the last word").await;
    innocent.hears("the last word").await;
}

/// The code of the close frame among whole server frames, once it has come.
fn close_code(mut bytes: &[u8]) -> Option<u16> {
    while let [first, length, rest @ ..] = bytes {
        let (header, length) = match *length {
            126 => (2, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
            n => (0, usize::from(n)),
        };
        let payload = rest.get(header..header + length)?;
        if *first == 0x88 {
            return payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        }
        bytes = &rest[header + length..];
    }
    None
}

#[tokio::test]
async fn half_a_frame_is_closed_at_its_deadline() {
    let whole = frame(TEXT, br#"{"op":"ping"}"#);
    never_ends(&whole[..7], &[]).await;
}

#[tokio::test]
async fn a_frame_that_drips_is_closed_at_its_deadline() {
    let whole = frame(TEXT, &[b' '; 2000]);
    never_ends(&whole[..8], b"x").await;
}

#[tokio::test]
async fn a_message_whose_last_fragment_never_comes_is_closed_at_its_deadline() {
    never_ends(&frame(0x01, b"{"), &[]).await;
}

#[tokio::test]
async fn fragments_and_pings_without_end_do_not_move_the_deadline() {
    let more = [frame(0x00, b" "), frame(PING, b"")].concat();
    never_ends(&frame(0x01, b"{"), &more).await;
}
