//! A viewer's text message: read or refused, and a refusal never echoes it whole.
#![no_main]

use danmu_wire::Op;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Op::parse(text) {
        Ok(Op::Say(say)) => {
            assert!(say.reference.is_none_or(|reference| reference.len() <= 64));
            assert!(say.style.color.is_none_or(|color| color.len() == 7 && color.is_ascii()));
        }
        Ok(Op::Moderate(moderate)) => {
            assert!(moderate.reference.is_none_or(|reference| reference.len() <= 64));
        }
        Ok(Op::Join(join)) => drop(join.position()),
        Ok(Op::Token { .. } | Op::Ping {}) => {}
        Err(error) => {
            let told = error.to_string();
            assert!(told.len() <= 600 && !told.contains(char::is_control), "{told:?}");
        }
    }
});
