use proptest::prelude::*;

use super::*;

/// A frame as a client sends it.
fn client_frame(opcode: u8, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    push_frame(&mut frame, OpCode::from(opcode), payload);
    frame[0] = opcode | if is_final { 0x80 } else { 0 };
    frame[1] |= 0x80;
    let at = frame.len() - payload.len();
    let mask = [0x11, 0x22, 0x33, 0x44];
    frame.splice(at..at, mask);
    unmask(&mut frame[at + 4..], mask);
    frame
}

#[derive(Debug, Clone, PartialEq)]
enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

fn owned(message: Message<'_>) -> Owned {
    match message {
        Message::Text(t) => Owned::Text(t.to_owned()),
        Message::Binary(b) => Owned::Binary(b.to_vec()),
        Message::Ping(p) => Owned::Ping(p.to_vec()),
        Message::Pong => Owned::Pong,
        Message::Close(c) => Owned::Close(c),
    }
}

/// Feeds the bytes in pieces of the given sizes (the last one takes the rest).
fn feed(bytes: &[u8], pieces: &[usize]) -> (Vec<Owned>, Result<(), FrameError>, bool) {
    let mut inbound = Inbound::default();
    let mut got = Vec::new();
    let mut rest = bytes;
    let mut sizes = pieces.iter();
    while !rest.is_empty() {
        let size = sizes.next().map_or(rest.len(), |s| (*s).clamp(1, rest.len()));
        let (piece, after) = rest.split_at(size);
        rest = after;
        let result = inbound.take(&mut piece.to_vec(), MAX_MESSAGE, |m| {
            got.push(owned(m));
            true
        });
        if result.is_err() || matches!(got.last(), Some(Owned::Close(_))) {
            return (got, result, inbound.is_incomplete());
        }
    }
    (got, Ok(()), inbound.is_incomplete())
}

#[test]
fn a_control_frame_may_come_between_fragments() {
    let bytes =
        [client_frame(1, false, "héll".as_bytes()), client_frame(9, true, b"p"), client_frame(0, true, b"o")]
            .concat();
    let (got, result, incomplete) = feed(&bytes, &[]);
    assert_eq!(got, [Owned::Ping(b"p".to_vec()), Owned::Text("héllo".into())]);
    assert_eq!((result, incomplete), (Ok(()), false));
}

#[test]
fn offences_get_their_code() {
    let mut unmasked = Vec::new();
    push_text(&mut unmasked, b"x");
    let mut reserved_bit = client_frame(1, true, b"x");
    reserved_bit[0] |= 0x40;
    // A 64-bit length with the top bit set (CVE-2020-27813's shape) is judged by the header.
    let huge = [0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].to_vec();
    for (bytes, code) in [
        (unmasked, CloseCode::Protocol),
        (reserved_bit, CloseCode::Protocol),
        (client_frame(3, true, b""), CloseCode::Protocol),
        (client_frame(11, true, b""), CloseCode::Protocol),
        (client_frame(9, false, b""), CloseCode::Protocol),
        (client_frame(9, true, &[0; 126]), CloseCode::Protocol),
        (client_frame(0, true, b"x"), CloseCode::Protocol),
        ([client_frame(1, false, b"a"), client_frame(1, true, b"b")].concat(), CloseCode::Protocol),
        (client_frame(8, true, &[3]), CloseCode::Protocol),
        (client_frame(8, true, &1005u16.to_be_bytes()), CloseCode::Protocol),
        (client_frame(1, true, &[0xff]), CloseCode::NotUtf8),
        (client_frame(1, false, &[0xc3, 0x28]), CloseCode::NotUtf8),
        (client_frame(8, true, &[3, 232, 0xff]), CloseCode::NotUtf8),
        (client_frame(1, true, &[b'a'; MAX_MESSAGE + 1]), CloseCode::TooBig),
        (
            [client_frame(1, false, &[b'a'; MAX_MESSAGE]), client_frame(0, true, b"b")].concat(),
            CloseCode::TooBig,
        ),
        (huge, CloseCode::TooBig),
    ] {
        let (_, result, _) = feed(&bytes, &[]);
        assert_eq!(result.unwrap_err().close_code(), code, "{bytes:02x?}");
    }
}

#[test]
fn a_length_that_is_only_announced_costs_no_memory() {
    let mut inbound = Inbound::default();
    let mut header = client_frame(1, true, &[b'a'; 4000]);
    header.truncate(8);
    inbound.take(&mut header, MAX_MESSAGE, |_| true).unwrap();
    assert_eq!(inbound.0.as_ref().unwrap().head.len(), 8);
    assert!(inbound.0.as_ref().unwrap().head.capacity() < 64);
}

#[test]
fn nothing_after_a_close_counts() {
    let bytes = [client_frame(8, true, &1000u16.to_be_bytes()), client_frame(1, true, b"late")].concat();
    let (got, result, incomplete) = feed(&bytes, &[]);
    assert_eq!((got, result, incomplete), (vec![Owned::Close(Some(1000))], Ok(()), false));
}

#[test]
fn an_idle_viewer_keeps_eight_bytes() {
    assert_eq!(size_of::<Inbound>(), 8);
}

#[test]
fn deflate_is_only_for_frames_that_gain() {
    let mut small = Vec::new();
    Format::Deflate.push(&mut small, b"[]");
    assert_eq!(small[0], 0x81);
    let json = br#"{"ev":"chat","id":"01K","text":"hello"},"#.repeat(100);
    let mut large = Vec::new();
    Format::Deflate.push(&mut large, &json);
    assert_eq!(large[0], 0x82);
    let payload = &large[if large[1] == 126 { 4 } else { 2 }..];
    let mut plain = vec![0; json.len() + 1];
    let mut inflate = flate2::Decompress::new(false);
    inflate.decompress(payload, &mut plain, flate2::FlushDecompress::Finish).unwrap();
    assert_eq!(&plain[..inflate.total_out() as usize], json.as_slice());
}

prop_compose! {
    fn any_frame()(opcode in prop_oneof![Just(1u8), Just(2), Just(9), Just(10)],
                   text in "\\PC{0,40}", cuts in proptest::collection::vec(0usize..40, 0..3)) -> (Owned, Vec<u8>) {
        let payload = text.as_bytes();
        if opcode >= 8 {
            let payload = &payload[..payload.len().min(125)];
            let message = if opcode == 9 { Owned::Ping(payload.to_vec()) } else { Owned::Pong };
            return (message, client_frame(opcode, true, payload));
        }
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(payload.len())).collect();
        cuts.sort_unstable();
        let mut bytes = Vec::new();
        let mut from = 0;
        for (i, cut) in cuts.iter().enumerate() {
            bytes.extend(client_frame(if i == 0 { opcode } else { 0 }, false, &payload[from..*cut]));
            from = *cut;
        }
        bytes.extend(client_frame(if cuts.is_empty() { opcode } else { 0 }, true, &payload[from..]));
        let message = if opcode == 1 { Owned::Text(text.clone()) } else { Owned::Binary(payload.to_vec()) };
        (message, bytes)
    }
}

proptest! {
    #[test]
    fn messages_are_the_same_however_the_bytes_are_cut(
        frames in proptest::collection::vec(any_frame(), 0..6),
        pieces in proptest::collection::vec(1usize..30, 0..60),
    ) {
        let bytes = frames.iter().flat_map(|(_, b)| b.clone()).collect::<Vec<_>>();
        let expected = frames.into_iter().map(|(m, _)| m).collect::<Vec<_>>();
        let (got, result, incomplete) = feed(&bytes, &pieces);
        prop_assert_eq!(result, Ok(()));
        prop_assert_eq!(got, expected);
        prop_assert!(!incomplete);
    }

    #[test]
    fn any_bytes_are_survived_and_memory_stays_bounded(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        pieces in proptest::collection::vec(1usize..200, 0..20),
    ) {
        let _ = feed(&bytes, &pieces);
        let mut inbound = Inbound::default();
        for piece in bytes.chunks(7) {
            if inbound.take(&mut piece.to_vec(), 64, |_| true).is_err() { break; }
            let kept = inbound.0.as_ref().map_or(0, |p| p.head.len() + p.message.len());
            prop_assert!(kept <= 64 + 14 + 64 + 125, "{}", kept);
        }
    }
}
