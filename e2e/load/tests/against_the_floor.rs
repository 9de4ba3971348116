//! Viewers against a bare send loop: the account says what was sent, and what was not.
#![allow(clippy::unwrap_used, reason = "clippy does not take what the tests here share for a test")]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_danmu-load");
const VIEWERS: u64 = 100;
const FRAMES: u64 = 50;

/// Ends the floor also when an assertion fails.
struct Floor(Child);

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The reports of the viewers and of the floor.
fn run_against_floor(name: &str, floor_arguments: &[&str], run_arguments: &[&str]) -> (Value, Value) {
    let schedule = format!("{}/{name}.schedule", env!("CARGO_TARGET_TMPDIR"));
    let lines: String = (0..FRAMES).map(|k| format!("{} {}\n", 100_000 + k * 5000, 130 + k)).collect();
    fs::write(&schedule, lines).unwrap();
    let viewers = VIEWERS.to_string();
    let mut floor = Floor(
        Command::new(BINARY)
            .args(["floor", "--listen", "127.0.0.1:0", "--viewers", &viewers, "--schedule", &schedule])
            .args(floor_arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut output = BufReader::new(floor.0.stdout.take().unwrap());
    let mut port = String::new();
    output.read_line(&mut port).unwrap();
    let run = Command::new(BINARY)
        .args(["run", "--url", &format!("ws://127.0.0.1:{}/rooms/a/ws", port.trim())])
        .args(["--viewers", &viewers, "--duration", "1", "--threads", "2", "--json"])
        .args(run_arguments)
        .output()
        .unwrap();
    assert!(run.status.success(), "{run:?}");
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    (serde_json::from_slice(&run.stdout).unwrap(), serde_json::from_str(&rest).unwrap())
}

#[test]
fn everything_a_floor_sends_is_accounted_for() {
    let (run, floor) = run_against_floor("whole", &[], &["--speakers", "0"]);
    assert_eq!(run["viewers"]["accounted"], VIEWERS, "{run}");
    assert_eq!(run["priority"]["received"], VIEWERS * FRAMES, "{run}");
    assert_eq!(run["priority"]["latency_ms"]["count"], VIEWERS * FRAMES, "{run}");
    for nothing in ["lost", "duplicates", "missing_offsets", "gap_told"] {
        assert_eq!(run["priority"][nothing], 0, "{nothing}: {run}");
    }
    assert_eq!((&floor["sends"], &floor["failed_sends"]), (&(VIEWERS * FRAMES).into(), &0.into()), "{floor}");
    assert!(floor["cpu_seconds"].as_f64().unwrap() > 0.0, "{floor}");
}

#[test]
fn sends_that_a_floor_leaves_out_are_reported_as_lost() {
    // 7 and 100 share no divisor: the losses go round all viewers and the last frame is among them.
    let (run, floor) = run_against_floor("holes", &["--drop-every", "7"], &["--speakers", "0"]);
    let dropped = floor["dropped_sends"].as_u64().unwrap();
    assert_eq!(dropped, VIEWERS * FRAMES / 7);
    assert_eq!(run["priority"]["lost"], dropped, "{run}");
    assert_eq!(run["priority"]["received"], VIEWERS * FRAMES - dropped, "{run}");
}

#[test]
fn messages_that_nobody_answers_are_told_apart_from_losses() {
    let (run, _) = run_against_floor("deaf", &[], &["--speakers", "10", "--rate", "50"]);
    assert_eq!(run["offered"]["sent"], 50, "{run}");
    assert_eq!(run["offered"]["unanswered"], 50, "{run}");
    assert_eq!((&run["chat"]["expected"], &run["chat"]["lost"]), (&0.into(), &0.into()), "{run}");
}
