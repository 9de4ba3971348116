//! `danmu-load run` beside `danmu-load floor`: the two halves of the tool check each other.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::Value;

const TOOL: &str = env!("CARGO_BIN_EXE_danmu-load");

/// A floor on a free port; killed when the test ends early.
struct Floor {
    child: Child,
    output: BufReader<ChildStdout>,
    url: String,
}

impl Floor {
    fn start(options: &[&str]) -> Floor {
        let mut child = Command::new(TOOL)
            .arg("floor")
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let listening = line(&mut output)["listening"].as_str().unwrap().to_owned();
        Floor { child, output, url: format!("ws://{listening}/rooms/floor/ws") }
    }

    /// Waits until as many viewers have joined as were asked for.
    fn wait_for_viewers(&mut self) {
        assert!(line(&mut self.output)["joined"].is_u64());
    }

    /// The floor's report.
    fn finish(mut self) -> Value {
        line(&mut self.output)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn line(output: &mut impl BufRead) -> Value {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

/// Runs viewers against the floor; answers whether the tool found all well, and its report.
fn run(url: &str, options: &[&str]) -> (bool, Value) {
    let output = Command::new(TOOL)
        .args(["run", "--json", "--run-id", "floor", "--url", url, "--duration", "2"])
        .args(options)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    (output.status.success(), line(&mut output.stdout.as_slice()))
}

#[test]
fn every_delivery_of_the_floor_is_accounted_for() {
    let mut floor = Floor::start(&["--viewers", "200", "--strict", "50", "--duration", "1"]);
    let (clean, report) = run(&floor.url, &["--viewers", "200", "--threads", "2", "--expect", "50"]);
    let deliveries = &report["deliveries"];
    assert_eq!(report["problems"], serde_json::json!([]), "{report}");
    assert!(clean);
    assert_eq!(report["connect"]["joined"], 200);
    assert_eq!((&deliveries["received"], &deliveries["expected"]), (&10_000.into(), &10_000.into()));
    assert_eq!((&deliveries["lost"], &deliveries["duplicates"]), (&0.into(), &0.into()));
    assert_eq!(deliveries["ms"]["count"], 10_000);
    floor.wait_for_viewers();
    let cost = floor.finish();
    assert_eq!(
        (&cost["sends"], &cost["eagains"], &cost["messages"]),
        (&10_000.into(), &0.into(), &50.into())
    );
    assert_eq!(cost["bytes"], 10_000 * 120);
    assert!(cost["cpu_seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_promise_that_is_not_kept_is_reported_as_loss() {
    let floor = Floor::start(&["--viewers", "20", "--strict", "50", "--duration", "1"]);
    let (clean, report) = run(&floor.url, &["--viewers", "20", "--expect", "52"]);
    assert!(!clean);
    assert_eq!(report["deliveries"]["lost"], 40, "{report}");
    assert_eq!(report["problems"], serde_json::json!(["40 deliveries lost without a word"]));
}

#[test]
fn two_processes_count_what_one_would() {
    let mut floor = Floor::start(&["--viewers", "100", "--tick", "100", "200", "--duration", "1"]);
    let (clean, report) = run(&floor.url, &["--viewers", "100", "--processes", "2", "--expect", "200"]);
    assert!(clean, "{report}");
    assert_eq!(report["connect"]["joined"], 100);
    assert_eq!(report["deliveries"]["received"], 20_000, "{report}");
    assert_eq!(report["deliveries"]["ms"]["count"], 20_000);
    floor.wait_for_viewers();
    let cost = floor.finish();
    assert!(cost["sends"].as_u64().unwrap() <= 1100, "a tick is one send: {cost}");
}

#[test]
fn viewers_that_do_not_read_are_in_nobodys_account() {
    let floor = Floor::start(&["--viewers", "40", "--merge", "50", "--duration", "1", "--threads", "2"]);
    let (clean, report) = run(
        &floor.url,
        &["--viewers", "40", "--slow-percent", "10", "--format", "deflate", "--expect", "50"],
    );
    assert!(clean, "{report}");
    assert_eq!((&report["slow"], &report["deliveries"]["viewers"]), (&4.into(), &36.into()));
    assert_eq!(report["deliveries"]["received"], 36 * 50, "{report}");
    drop(floor);
}

#[test]
fn a_schedule_is_replayed_to_the_byte_and_starts_when_it_is_told_to() {
    let path = std::env::temp_dir().join(format!("danmu-load-schedule-{}", std::process::id()));
    std::fs::write(&path, "0 120\n10000 130\n20000 50\n20000 3000\n").unwrap();
    let mut floor =
        Floor::start(&["--viewers", "10", "--start-on-stdin", "--schedule", path.to_str().unwrap()]);
    let url = floor.url.clone();
    let viewers = std::thread::spawn(move || run(&url, &["--viewers", "10", "--expect", "3"]));
    floor.wait_for_viewers();
    floor.child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let (clean, report) = viewers.join().unwrap();
    std::fs::remove_file(&path).unwrap();
    let cost = floor.finish();
    assert_eq!((&cost["sends"], &cost["bytes"]), (&40.into(), &(10 * 3300).into()), "{cost}");
    assert!(clean, "{report}");
}

#[test]
fn a_server_that_is_not_there_is_told_in_words() {
    let (clean, report) = run("ws://127.0.0.1:1/rooms/a/ws", &["--viewers", "3"]);
    assert!(!clean);
    assert_eq!(report["connect"]["failed"], serde_json::json!({"connection refused": 3}), "{report}");
}
