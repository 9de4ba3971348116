//! `<epoch>.<offset>` from the URL: what is read is written back the same, leading zeros apart.
#![no_main]

use danmu_wire::{Position, is_room_id};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(position) = text.parse::<Position>() {
        assert!(text.is_ascii() && text.len() <= 32 + 1 + 20);
        assert_eq!(position.to_string().parse(), Ok(position));
    }
    // Room ids come from the same URL and become keys: nothing outside the grammar may pass.
    if is_room_id(text) {
        assert!(
            text.len() <= 63 && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        );
    }
});
