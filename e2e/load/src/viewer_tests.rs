use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream as Peer},
};

use danmu_wire::{CloseCode, frame};

use super::*;
use crate::handshake;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const JOINED: &[u8] = br#"[{"ev":"joined","epoch":"E","offset":4,"recovered":true,"viewers":1}]"#;

fn pair(state: State) -> (Viewer, Peer, Desk) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = Peer::connect(listener.local_addr().unwrap()).unwrap();
    let peer = listener.accept().unwrap().0;
    stream.set_nonblocking(true).unwrap();
    let desk = Desk {
        buffer: vec![0; 4096].into(),
        payloads: PayloadReader::new("r"),
        tally: Tally::default(),
        now: || 9_000,
    };
    (Viewer::new(1, TcpStream::from_std(stream), state, false, 0), peer, desk)
}

fn text(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::push_text(&mut bytes, payload);
    bytes
}

#[test]
fn bytes_in_any_cut_give_the_same_account() {
    let mut bytes = text(JOINED);
    for chat in 0..3 {
        bytes.extend(text(format!(r#"[{{"ev":"chat","id":"A","text":"r.0.{chat}.8000"}}]"#).as_bytes()));
        bytes.extend(text(
            format!(r#"[{{"ev":"notice","id":"A","offset":{},"text":"n"}}]"#, 5 + chat).as_bytes(),
        ));
    }
    for cut in 1..bytes.len() {
        let (mut viewer, _peer, mut desk) = pair(State::Joining);
        let mut account = Account::default();
        for piece in bytes.chunks(cut) {
            viewer.take(piece, &mut desk, &mut account).unwrap();
        }
        assert!(viewer.is_joined() && viewer.partial.is_empty());
        assert_eq!((desk.tally.frames, desk.tally.received, account.priority.missing), (7, 3, 0));
    }
}

#[test]
fn the_upgrade_and_joined_may_come_in_one_read() {
    let (mut viewer, _peer, mut desk) = pair(State::Upgrading { key: KEY.into() });
    let target = handshake::Target::parse("ws://127.0.0.1:1/rooms/a/ws").unwrap();
    let mut bytes =
        handshake::answer(&target.request(KEY, frame::Format::Json, None, None)).unwrap().unwrap();
    bytes.extend(text(JOINED));
    viewer.take(&bytes[..20], &mut desk, &mut Account::default()).unwrap();
    viewer.take(&bytes[20..], &mut desk, &mut Account::default()).unwrap();
    assert!(viewer.is_joined());
    assert_eq!(desk.tally.connect.count(), 1);
}

#[test]
fn a_first_event_other_than_joined_is_a_fault() {
    let (mut viewer, _peer, mut desk) = pair(State::Joining);
    let result = viewer.take(
        &text(br#"[{"ev":"stats","viewers":1,"sampled":0}]"#),
        &mut desk,
        &mut Account::default(),
    );
    assert!(matches!(result, Err(Ended::Frame(_))), "{result:?}");
}

#[test]
fn a_close_is_known_by_its_code() {
    let (mut viewer, _peer, mut desk) = pair(State::Joining);
    let result = viewer.take(&frame::close(CloseCode::TooBusy), &mut desk, &mut Account::default());
    assert!(matches!(result, Err(Ended::Closed(4013))), "{result:?}");
}

#[test]
fn broken_frames_end_the_connection_with_a_reason() {
    for bytes in [&[0xc1, 0x00][..], &[0x81, 0x80, 0, 0, 0, 0], &[0x01, 0x00], &[0x80, 0x00], &[0x83, 0x00]] {
        let (mut viewer, _peer, mut desk) = pair(State::Joined);
        assert!(
            matches!(viewer.take(bytes, &mut desk, &mut Account::default()), Err(Ended::Frame(_))),
            "{bytes:?}"
        );
    }
    let (mut viewer, _peer, mut desk) = pair(State::Joined);
    let endless = [0x81, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert!(viewer.take(&endless, &mut desk, &mut Account::default()).is_err());
    let (mut viewer, _peer, mut desk) = pair(State::Joined);
    assert!(matches!(
        viewer.take(&text(b"nonsense"), &mut desk, &mut Account::default()),
        Err(Ended::Payload(_))
    ));
}

#[test]
fn a_ping_is_answered_with_its_payload_masked() {
    let (mut viewer, mut peer, mut desk) = pair(State::Joined);
    viewer.take(&[0x89, 2, b'h', b'i'], &mut desk, &mut Account::default()).unwrap();
    let mut answer = [0; 8];
    peer.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..2], [0x8a, 0x82]);
    assert_eq!([answer[6] ^ answer[2], answer[7] ^ answer[3]], *b"hi");
}

#[test]
fn what_is_said_can_be_read_by_the_server_half_of_the_protocol() {
    let (mut viewer, mut peer, _desk) = pair(State::Joined);
    let say = br#"{"op":"say","text":"r.0.0.1"}"#;
    assert!(viewer.send(OpCode::Data(Data::Text), say, &mut Vec::new()).unwrap());
    let mut bytes = vec![0; say.len() + 6];
    peer.read_exact(&mut bytes).unwrap();
    let mut heard = Vec::new();
    let mut inbound = frame::Inbound::default();
    inbound
        .take(&mut bytes, 4096, |message| {
            heard.push(format!("{message:?}"));
            true
        })
        .unwrap();
    assert_eq!(heard, [format!("Text({:?})", std::str::from_utf8(say).unwrap())]);
}

#[test]
fn a_socket_that_takes_nothing_keeps_a_bounded_amount() {
    let (mut viewer, _peer, _desk) = pair(State::Joined);
    let chunk = vec![b'x'; 4000];
    let mut refused = 0;
    for _ in 0..20_000 {
        refused += u32::from(!viewer.send(OpCode::Data(Data::Text), &chunk, &mut Vec::new()).unwrap());
    }
    assert!(refused > 0 && viewer.waiting.len() <= MAX_WAITING);
}

#[test]
fn a_server_that_goes_away_is_noticed() {
    let (mut viewer, mut peer, mut desk) = pair(State::Joined);
    peer.write_all(&text(b"[]")).unwrap();
    drop(peer);
    // The end is there as soon as the drop returned; the frame before it is still read.
    let results = [
        viewer.readable(&mut desk, &mut Account::default()),
        viewer.readable(&mut desk, &mut Account::default()),
    ];
    assert!(results.iter().any(|result| matches!(result, Err(Ended::Cut))), "{results:?}");
    assert_eq!(desk.tally.frames, 1);
}
