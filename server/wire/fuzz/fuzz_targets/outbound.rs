//! The server's frames: a payload comes back the same in each format, and events that can be read are
//! written so that they are read the same.
#![no_main]

use danmu_wire::{
    Event,
    frame::{DEFLATE_FROM, Format, json_array},
};
use flate2::{Decompress, FlushDecompress, Status};
use libfuzzer_sys::fuzz_target;

/// The opcode and payload of the only frame.
fn only_frame(frame: &[u8]) -> (u8, &[u8]) {
    let header = match frame[1] {
        0..=125 => 2,
        126 => 4,
        _ => 10,
    };
    let length = match header {
        2 => usize::from(frame[1]),
        4 => usize::from(u16::from_be_bytes([frame[2], frame[3]])),
        _ => u64::from_be_bytes(frame[2..10].try_into().unwrap()) as usize,
    };
    assert_eq!(frame[0] & 0xf0, 0x80, "whole, without reserved bits");
    assert_eq!(frame.len(), header + length);
    (frame[0] & 0x0f, &frame[header..])
}

fn inflate(deflated: &[u8], length: usize) -> Vec<u8> {
    let mut plain = Vec::with_capacity(length + 1);
    let status = Decompress::new(false).decompress_vec(deflated, &mut plain, FlushDecompress::Finish);
    assert!(matches!(status, Ok(Status::StreamEnd)), "{status:?}");
    plain
}

fuzz_target!(|payload: &[u8]| {
    // Repeated, so that inputs of a few bytes reach every length of header and the deflate side.
    let times = 80_000 / payload.len().max(100);
    for payload in [payload.to_vec(), payload.repeat(times)] {
        for format in Format::ALL {
            let mut frame = Vec::new();
            format.push(&mut frame, &payload);
            match only_frame(&frame) {
                (1, plain) => assert_eq!(plain, payload),
                (2, deflated) => {
                    assert!(format == Format::Deflate && payload.len() >= DEFLATE_FROM);
                    assert_eq!(inflate(deflated, payload.len()), payload);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    if let Ok(events) = serde_json::from_slice::<Vec<Event>>(payload) {
        let again: Vec<Event> = serde_json::from_slice(&json_array(&events)).expect("our own JSON");
        assert_eq!(events, again);
    }
});
