//! What is done to the server, and what it should come to.

use std::{
    thread,
    time::{Duration, Instant},
};

use clap::ValueEnum;

use super::{
    measure::{Floor, Load, Measured, Subject, floor, texts_file},
    relay,
    sub_rooms::sub_rooms,
    table::Row,
};
use crate::commands::root;

/// Room for everything: what the limits cost is measured with `once`.
pub(super) const OPEN: &str =
    "  limits: {messagesPerSecond: 1000, perViewer: {messages: 500, seconds: 5}, maxLength: 500, history: 50}
  moderation: {anonymous: Speak}
";

/// The limits of a busy evening.
const STRICT: &str =
    "  limits: {messagesPerSecond: 20, perViewer: {messages: 3, seconds: 5}, maxLength: 100, history: 50}
  moderation:
    anonymous: Speak
    slowModeSeconds: 5
    bannedUsers: [troll-1, troll-2]
    mutedUsers: [loud-1]
    bannedNetworks: [203.0.113.0/24, \"2001:db8::/32\"]
    words: {block: [spoil, penalty, 裁判], mask: [referee, 作业]}
";

/// One thing that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Scenario {
    Write,
    Message,
    Over,
    Memory,
    Deflate,
    Slow,
    Once,
    Connect,
    SubRooms,
    Large,
    RedisOps,
    Pair,
    Drain,
    Cut,
    Rooms,
}

/// What is measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Suite {
    /// One server beside the floor.
    Server,
    /// Several servers on one Redis, which is installed when it is missing.
    Relay,
}

impl Suite {
    /// Its scenarios, in their order.
    pub(super) const fn scenarios(self) -> &'static [Scenario] {
        match self {
            Suite::Server => &Scenario::ALL,
            Suite::Relay => &Scenario::RELAY,
        }
    }
}

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) pairs: usize,
    pub(super) quick: bool,
}

impl Scale {
    /// So many viewers.
    pub(super) fn viewers(&self, viewers: u64) -> u64 {
        if self.quick { viewers / 10 } else { viewers }
    }

    /// So many seconds.
    pub(super) fn seconds(&self, seconds: u64) -> String {
        (if self.quick { seconds.min(2) } else { seconds }).to_string()
    }

    /// How often a run without a partner is made.
    fn repeats(&self) -> usize {
        self.pairs.div_ceil(3)
    }
}

impl Scenario {
    const ALL: [Scenario; 9] = [
        Scenario::Write,
        Scenario::Message,
        Scenario::Over,
        Scenario::Memory,
        Scenario::Deflate,
        Scenario::Slow,
        Scenario::Once,
        Scenario::Connect,
        Scenario::SubRooms,
    ];

    /// Those of several pods.
    const RELAY: [Scenario; 6] = [
        Scenario::RedisOps,
        Scenario::Pair,
        Scenario::Cut,
        Scenario::Rooms,
        Scenario::Drain,
        Scenario::Large,
    ];

    /// As in the table.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Scenario::Write => "write",
            Scenario::Message => "message",
            Scenario::Over => "over",
            Scenario::Memory => "memory",
            Scenario::Deflate => "deflate",
            Scenario::Slow => "slow",
            Scenario::Once => "once",
            Scenario::Connect => "connect",
            Scenario::SubRooms => "sub-rooms",
            Scenario::Large => "large",
            Scenario::RedisOps => "redis-ops",
            Scenario::Pair => "pair",
            Scenario::Drain => "drain",
            Scenario::Cut => "cut",
            Scenario::Rooms => "rooms",
        }
    }

    /// In a few words.
    pub(super) const fn about(self) -> &'static str {
        match self {
            Scenario::Write => {
                "10,000 viewers × 10 messages/s, CPU of a write beside a replay of the same flushes"
            }
            Scenario::Message => {
                "1,000 viewers × 200 messages/s, CPU of a delivery beside a floor with a 50 ms tick"
            }
            Scenario::Over => "15,000 viewers × 20 messages/s: more than can be written one by one",
            Scenario::Memory => "15,000 viewers who only watch",
            Scenario::Deflate => "danmu.v1.deflate beside danmu.v1.json at 200 messages/s",
            Scenario::Slow => "one in twenty viewers does not read: what the others feel",
            Scenario::Once => "15,000 viewers speak once within 30 s under a cap of 20 messages/s",
            Scenario::Connect => "15,000 viewers connect, are cut and connect again at once",
            Scenario::SubRooms => {
                "8,000 viewers × 10 messages/s in one audience beside the same in 8 sub-rooms"
            }
            Scenario::Large => {
                "100,000 viewers of one room on 7 pods × 5 messages/s and 1 gift/s, beside 7 floors"
            }
            Scenario::RedisOps => "what two pods with 10,000 viewers ask of Redis",
            Scenario::Pair => "two pods with 5,000 viewers each, on Redis beside each alone in memory",
            Scenario::Drain => "one of 7 pods with 14,000 viewers each is emptied while gifts go on",
            Scenario::Cut => "Redis is gone for 10 s under 3 pods with 6,000 viewers: frozen, then killed",
            Scenario::Rooms => "5,000 small rooms on a pod in a fleet of 50,000",
        }
    }

    pub(super) fn run(self, scale: &Scale) -> Result<Vec<Row>, String> {
        match self {
            Scenario::Write => write(scale),
            Scenario::Message => message(scale),
            Scenario::Over => over(scale),
            Scenario::Memory => memory(scale),
            Scenario::Deflate => deflate(scale),
            Scenario::Slow => slow(scale),
            Scenario::Once => once(scale),
            Scenario::Connect => connect(scale),
            Scenario::SubRooms => sub_rooms(scale),
            Scenario::Large => relay::large(scale),
            Scenario::RedisOps => relay::redis_ops(scale),
            Scenario::Pair => relay::pair(scale),
            Scenario::Drain => relay::drain(scale),
            Scenario::Cut => relay::cut(scale),
            Scenario::Rooms => relay::rooms(scale),
        }
    }
}

/// What went wrong in several runs, each thing once.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) problems: Vec<String>,
    bottleneck: Vec<String>,
}

impl Faults {
    pub(super) fn add(&mut self, run: &Measured) {
        self.problems.extend(run.problems());
        self.bottleneck.extend(run.bottleneck());
    }

    pub(super) fn add_floor(&mut self, floor: &Floor) {
        self.problems.extend(floor.problems.iter().map(|problem| format!("floor: {problem}")));
    }

    pub(super) fn told(self, row: Row, note: impl Into<String>) -> Row {
        let mut note = note.into();
        if let Some(why) = self.bottleneck.first() {
            let joint = if note.is_empty() { "" } else { "; " };
            note =
                format!("{note}{joint}in {} runs the load was the bottleneck ({why})", self.bottleneck.len());
        }
        let mut problems = self.problems;
        problems.truncate(3);
        row.note(note).problems(&problems)
    }
}

fn write(scale: &Scale) -> Result<Vec<Row>, String> {
    let viewers = scale.viewers(10_000);
    let (count, seconds) = (viewers.to_string(), scale.seconds(6));
    let options = [
        "--viewers",
        &count,
        "--speakers",
        "40",
        "--rate",
        "10",
        "--duration",
        &seconds,
        "--connect-rate",
        "2500",
    ];
    let (mut ours, mut floors, mut ratios, mut faults) =
        (Vec::new(), Vec::new(), Vec::new(), Faults::default());
    let mut p99 = Vec::new();
    for pair in 1..=scale.pairs {
        let run = Subject::start(OPEN)?.run(&options)?;
        let replay = run.replay(viewers)?;
        let (server, floor) =
            (run.used.cpu_seconds / run.used.writes * 1e6, replay.cpu_seconds / replay.sends * 1e6);
        println!(
            "    {pair}/{}: server {server:.2} µs × {:.0} writes, floor {floor:.2} µs × {:.0}, ratio {:.3}",
            scale.pairs,
            run.used.writes,
            replay.sends,
            server / floor
        );
        ours.push(server);
        floors.push(floor);
        ratios.push(server / floor);
        p99.push(run.number("/deliveries/ms/p99"));
        faults.add(&run);
        faults.add_floor(&replay);
    }
    let ratio = Row::new("write", "CPU per write, server ÷ floor", &ratios, "×").goal(1.08);
    Ok(vec![
        faults.told(ratio, ""),
        Row::new("write", "  server", &ours, "µs"),
        Row::new("write", "  floor, the same flushes", &floors, "µs"),
        Row::new("write", "  p99", &p99, "ms"),
    ])
}

fn message(scale: &Scale) -> Result<Vec<Row>, String> {
    let viewers = scale.viewers(1000).max(300);
    let (count, seconds) = (viewers.to_string(), scale.seconds(7));
    let options = ["--viewers", &count, "--speakers", "200", "--rate", "200", "--duration", &seconds];
    let (mut ours, mut floors, mut ratios, mut faults) =
        (Vec::new(), Vec::new(), Vec::new(), Faults::default());
    let (mut p99, mut floor_p99) = (Vec::new(), Vec::new());
    for pair in 1..=scale.pairs {
        let run = Subject::start(OPEN)?.run(&options)?;
        let (used, received) = (run.steady.used, run.steady.received);
        let bytes = (used.sent_bytes / received.max(1.0)).round().max(116.0).to_string();
        let plan = ["--tick", "50", "200", "--bytes", &bytes, "--duration", &seconds];
        let ticked = floor(viewers, &plan, seconds.parse().unwrap_or(6.0))?;
        let (server, floor) =
            (used.cpu_seconds / received * 1e6, ticked.cpu_seconds / ticked.deliveries * 1e6);
        println!(
            "    {pair}/{}: server {server:.3} µs a delivery in {:.1} of a write, floor {floor:.3} µs in {:.1}, \
             {bytes} bytes each, ratio {:.3}",
            scale.pairs,
            received / used.writes,
            ticked.deliveries / ticked.sends,
            server / floor
        );
        ours.push(server);
        floors.push(floor);
        ratios.push(server / floor);
        p99.push(run.number("/deliveries/ms/p99"));
        floor_p99.push(ticked.report.pointer("/deliveries/ms/p99").and_then(|ms| ms.as_f64()).unwrap_or(0.0));
        faults.add(&run);
        faults.add_floor(&ticked);
    }
    let ratio = Row::new("message", "CPU per delivery, server ÷ floor", &ratios, "×").goal(1.15);
    Ok(vec![
        faults.told(ratio, ""),
        Row::new("message", "  server", &ours, "µs"),
        Row::new("message", "  floor with a 50 ms tick", &floors, "µs"),
        Row::new("message", "p99", &p99, "ms").goal(70.0),
        Row::new("message", "  p99 of the floor", &floor_p99, "ms"),
    ])
}

fn over(scale: &Scale) -> Result<Vec<Row>, String> {
    let (count, seconds) = (scale.viewers(15_000).to_string(), scale.seconds(8));
    let (mut p99, mut priority_p99, mut cpu, mut faults) =
        (Vec::new(), Vec::new(), Vec::new(), Faults::default());
    let (mut balance, mut lane) = (String::new(), String::new());
    for time in 1..=scale.repeats() {
        let subject = Subject::start(OPEN)?;
        let mut options =
            vec!["--viewers", &count, "--speakers", "40", "--rate", "20", "--duration", &seconds];
        options.extend(["--connect-rate", "2500", "--priority-rate", "1", "--publish-url", subject.admin()]);
        let run = subject.run(&options)?;
        let of = |name: &str| run.number(&format!("/deliveries/{name}"));
        balance = format!(
            "offered {} = {} received + {} told as left out",
            of("expected"),
            of("received"),
            of("told")
        );
        let of = |name: &str| run.number(&format!("/priority/{name}"));
        lane = format!("{} published, {} of {} delivered", of("published"), of("received"), of("expected"));
        println!(
            "    {time}/{}: p99 {:.0} ms, {balance}; priority: {lane}",
            scale.repeats(),
            run.number("/deliveries/ms/p99")
        );
        if of("received") != of("expected") {
            faults.problems.push(format!("priority: {lane}"));
        }
        p99.push(run.number("/deliveries/ms/p99") / 1e3);
        priority_p99.push(run.number("/priority/ms/p99") / 1e3);
        cpu.push(run.used.cpu_seconds / run.number("/deliveries/received") * 1e6);
        faults.add(&run);
    }
    Ok(vec![
        faults.told(Row::new("over", "p99", &p99, "s").goal(0.25), balance),
        Row::new("over", "  p99 of the priority lane", &priority_p99, "s").note(lane),
        Row::new("over", "  CPU per delivery", &cpu, "µs"),
    ])
}

fn memory(scale: &Scale) -> Result<Vec<Row>, String> {
    let viewers = scale.viewers(15_000);
    let subject = Subject::start(OPEN)?;
    thread::sleep(Duration::from_millis(500));
    let empty = subject.read()?.resident_bytes;
    let seconds = scale.seconds(3);
    let run = subject.run(&[
        "--viewers",
        &viewers.to_string(),
        "--duration",
        &seconds,
        "--connect-rate",
        "2500",
    ])?;
    let full = run.used.resident_bytes;
    let each = full.saturating_sub(empty) as f64 / viewers as f64 / 1000.0;
    let mut faults = Faults::default();
    faults.add(&run);
    let note =
        format!("resident: {:.1} MB empty, {:.1} MB with {viewers}", empty as f64 / 1e6, full as f64 / 1e6);
    println!("    {each:.2} kB; {note}");
    Ok(vec![faults.told(Row::new("memory", "an idle viewer", &[each], "kB").goal(1.0), note)])
}

fn deflate(scale: &Scale) -> Result<Vec<Row>, String> {
    let texts = root().join(texts_file()).to_string_lossy().into_owned();
    let (mut ratios, mut faults, mut note) = (Vec::new(), Faults::default(), String::new());
    for _ in 0..scale.repeats().min(3) {
        let mut each = Vec::new();
        for format in ["json", "deflate"] {
            let seconds = scale.seconds(5);
            let mut options =
                vec!["--viewers", "300", "--speakers", "200", "--rate", "200", "--texts", &texts];
            options.extend(["--duration", &seconds, "--format", format]);
            let run = Subject::start(OPEN)?.run(&options)?;
            each.push(run.used.sent_bytes / run.number("/deliveries/received"));
            faults.add(&run);
        }
        if let [json, deflate] = each[..] {
            ratios.push(deflate / json);
            note = format!("{json:.0} → {deflate:.0} bytes a message");
            println!("    {:.3}: {note}", deflate / json);
        }
    }
    Ok(vec![faults.told(Row::new("deflate", "bytes, deflate ÷ JSON", &ratios, "×").goal(0.4), note)])
}

fn slow(scale: &Scale) -> Result<Vec<Row>, String> {
    let (count, seconds) = (scale.viewers(2000).max(500).to_string(), scale.seconds(6));
    let mut options = vec!["--viewers", &count, "--speakers", "100", "--rate", "100", "--text-bytes", "400"];
    options.extend(["--duration", &seconds, "--slow-percent"]);
    let (mut ratios, mut faults, mut resident, mut p99) =
        (Vec::new(), Faults::default(), [0.0_f64; 2], Vec::new());
    for pair in 1..=scale.pairs {
        // Which of the two comes first alternates: warming up must not favour one.
        let order = if pair % 2 == 0 { [1, 0] } else { [0, 1] };
        let mut times = [0.0; 2];
        for which in order {
            let run = Subject::start(OPEN)?.run(&[options.as_slice(), &[["0", "5"][which]]].concat())?;
            times[which] = run.number("/deliveries/ms/p99");
            resident[which] = resident[which].max(run.used.resident_bytes as f64 / 1e6);
            faults.add(&run);
        }
        println!(
            "    {pair}/{}: p99 {:.1} ms alone, {:.1} ms beside slow ones",
            scale.pairs, times[0], times[1]
        );
        ratios.push(times[1] / times[0]);
        p99.push(times[1]);
    }
    let note = format!("resident at most {:.1} MB, without slow ones {:.1} MB", resident[1], resident[0]);
    Ok(vec![
        faults.told(Row::new("slow", "p99 of the others, with ÷ without", &ratios, "×").goal(1.1), note),
        Row::new("slow", "  p99 of the others", &p99, "ms"),
    ])
}

fn once(scale: &Scale) -> Result<Vec<Row>, String> {
    let (count, seconds) = (scale.viewers(15_000).to_string(), scale.seconds(30));
    let texts = root().join(texts_file()).to_string_lossy().into_owned();
    // As many addresses as an audience has, or the limit of an address is all that is measured.
    let sources: Vec<String> = (1..=250).map(|last| format!("127.0.1.{last}")).collect();
    let mut options = vec!["--viewers", &count, "--once-within", &seconds, "--texts", &texts];
    options.extend(["--connect-rate", "2500"]);
    options.extend(sources.iter().flat_map(|source| ["--source", source]));
    let run = Subject::start(STRICT)?.run(&options)?;
    let of = |name: &str| run.number(&format!("/messages/{name}"));
    let refused = run.report["messages"]["refused"].clone();
    let refusals: f64 =
        refused.as_object().into_iter().flatten().filter_map(|(_, times)| times.as_f64()).sum();
    let note = format!(
        "sent {} = {} shown + {} sampled out + {refusals} refused {refused}",
        of("offered"),
        of("shown"),
        of("sampled")
    );
    println!("    {note}");
    let mut faults = Faults::default();
    faults.add(&run);
    if of("offered") != of("shown") + of("sampled") + refusals
        || of("offered") != count.parse().unwrap_or(0.0)
    {
        faults.problems.push("the messages do not add up".to_owned());
    }
    Ok(vec![
        faults.told(Row::new("once", "p99", &[run.number("/deliveries/ms/p99")], "ms"), note),
        Row::new("once", "  p99 of the answer", &[run.number("/messages/ack_ms/p99")], "ms"),
        Row::new("once", "  CPU of the server", &[run.used.cpu_seconds], "s").note(format!("in {seconds} s")),
    ])
}

fn connect(scale: &Scale) -> Result<Vec<Row>, String> {
    let viewers = scale.viewers(15_000);
    let subject = Subject::start(OPEN)?;
    let (count, rate) = (viewers.to_string(), viewers.to_string());
    let options = ["--viewers", &count, "--connect-rate", &rate];
    // Four addresses a load: the kernel searches long for a port once half of an address's are taken.
    let from = |sources: [&'static str; 4], seconds: &'static str| {
        let sources = sources.into_iter().flat_map(|source| ["--source", source]);
        options.into_iter().chain(sources).chain(["--duration", seconds]).collect::<Vec<&str>>()
    };
    let [here, there] = [
        ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"],
        ["127.0.0.6", "127.0.0.7", "127.0.0.8", "127.0.0.9"],
    ];
    // All connections of the first load are cut at once when it is killed; the second is there at the
    // same moment, from other addresses, whose ports are free.
    let started = Instant::now();
    let mut first = Load::start(&[subject.url()], &from(here, "60"))?;
    let came = first.line("joined")?;
    let joined = started.elapsed().as_secs_f64();
    let missing = (came < viewers as f64).then(|| format!("only {came} of {viewers} viewers came in"));
    drop(first);
    let again = subject.run(&from(there, "2"))?;
    let mut faults = Faults::default();
    faults.add(&again);
    let retried = again.number("/connect/retried");
    println!("    {joined:.2} s, after the cut {:.2} s", again.joining.as_secs_f64());
    Ok(vec![
        Row::new("connect", "all are in", &[joined], "s")
            .goal(6.0)
            .note(format!("{viewers} viewers, all at once"))
            .problems(&missing.into_iter().collect::<Vec<_>>()),
        faults.told(
            Row::new("connect", "all are in again after a cut", &[again.joining.as_secs_f64()], "s")
                .goal(6.0),
            format!("{retried} times told 503 and when to come back"),
        ),
    ])
}
