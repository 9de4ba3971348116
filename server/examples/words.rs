//! What a list of 100,000 words costs: to compile once, and for every message.
//! `cargo run --release --package danmu-server --example words`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement ends where it goes wrong"
)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use danmu_crds::RoomPolicy;
use danmu_server::gate::{Bucket, Gate, Policy, Shared, Speaker, Words, prepare};
use danmu_wire::{Role, Style};

const WORDS: usize = 100_000;
const MESSAGES: usize = 50_000;

/// The same words in every run: a small generator, so that the figure can be compared.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    fn han(&mut self, count: u64) -> String {
        (0..count).filter_map(|_| char::from_u32(0x4e00 + self.below(3000) as u32)).collect()
    }

    fn latin(&mut self, count: u64) -> String {
        (0..count).map(|_| char::from(b'a' + self.below(26) as u8)).collect()
    }
}

fn words(random: &mut Random) -> Vec<String> {
    let word = |i| if i % 2 == 0 { 2 + random.below(3) } else { 4 + random.below(8) };
    let lengths: Vec<u64> = (0..WORDS).map(word).collect();
    let word =
        |(i, length): (usize, &u64)| if i % 2 == 0 { random.han(*length) } else { random.latin(*length) };
    lengths.iter().enumerate().map(word).collect()
}

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

/// Median and 99th percentile of one message's way through the gate.
fn measure(policy: &Policy, texts: &[String]) -> (Duration, Duration) {
    let (gate, now) = (Gate::default(), Instant::now());
    let speaker = Speaker { user: Some("ann"), address: [192, 0, 2, 1].into(), role: Role::Speaker };
    let mut times: Vec<Duration> = texts
        .iter()
        .map(|text| {
            let begin = Instant::now();
            let said = gate.say(policy, &speaker, &mut Bucket::default(), text, &Style::default(), now);
            let took = begin.elapsed();
            std::hint::black_box(said.ok());
            took
        })
        .collect();
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

fn main() {
    prepare();
    let mut random = Random(7);
    let list = words(&mut random);
    let (before, begin) = (resident_kb(), Instant::now());
    let compiled = Arc::new(Words::compile(&list));
    println!("{WORDS} words compiled in {:?}, {} MB kept", begin.elapsed(), (resident_kb() - before) / 1024);
    let rules = || RoomPolicy { per_viewer_seconds: 0, max_length: 500, ..RoomPolicy::default() };
    let without = Policy::compile(rules());
    let shared =
        |list| Shared { hold: Some(Arc::clone(&compiled)), mask: Some(Arc::clone(&compiled)), block: list };
    let one =
        Policy::compile_with(rules(), Shared { hold: Some(Arc::clone(&compiled)), ..Shared::default() });
    let three = Policy::compile_with(rules(), shared(Some(Arc::new(Words::compile(&["never-said"])))));
    let texts: [(&str, Vec<String>); 4] = [
        ("15 Chinese characters", (0..MESSAGES).map(|_| random.han(15)).collect()),
        ("100 Chinese characters", (0..MESSAGES).map(|_| random.han(100)).collect()),
        (
            "10 Latin words",
            (0..MESSAGES).map(|_| (0..10).map(|_| random.latin(5)).collect::<Vec<_>>().join(" ")).collect(),
        ),
        ("the same word 25 times", (0..MESSAGES).map(|_| format!("{} ", list[1]).repeat(25)).collect()),
    ];
    for (name, texts) in &texts {
        let ((none, none_p99), (hold, hold_p99), (all, all_p99)) =
            (measure(&without, texts), measure(&one, texts), measure(&three, texts));
        println!(
            "{name}: without lists {none:?} (p99 {none_p99:?}), one of {WORDS} {hold:?} (p99 {hold_p99:?}), \
             two of {WORDS} and one short {all:?} (p99 {all_p99:?})"
        );
    }
}
