//! One room that no pod could hold: seven pods, each a process with a limit of 20,000 descriptors.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{Fleet, deliveries, judge_priority};
use crate::bench::{
    measure::Talk,
    scenarios::{Faults, Scale},
    table::Row,
};

const PODS: usize = 7;

/// Workers of a pod: there are more pods than cores already.
const WORKERS: usize = 1;

/// Loopback addresses that viewers come from; each has 28,000 ports, and half of them are found fast.
const SOURCES: u8 = 16;

/// Processes of the load. No divisor of the pods: each has viewers on all of them.
const PROCESSES: &str = "6";

/// Connections a second over all pods.
const CONNECT_RATE: &str = "5000";

fn crowd() -> Vec<String> {
    let sources = (1..=SOURCES).flat_map(|last| ["--source".to_owned(), format!("127.0.0.{last}")]);
    let more = ["--processes", PROCESSES, "--connect-rate", CONNECT_RATE, "--connect-timeout", "60"];
    sources.chain(more.map(str::to_owned)).collect()
}

/// All of them hear chats and gifts; beside it, as many floors replay what the pods wrote.
pub(in crate::bench) fn large(scale: &Scale) -> Result<Vec<Row>, String> {
    let viewers = scale.viewers(100_000);
    let (count, seconds, crowd) = (viewers.to_string(), scale.seconds(15), crowd());
    let crowd: Vec<&str> = crowd.iter().map(String::as_str).collect();
    let (mut ratios, mut ours, mut floors, mut faults) =
        (Vec::new(), Vec::new(), Vec::new(), Faults::default());
    let (mut p99, mut priority_p99, mut joining) = (Vec::new(), Vec::new(), Vec::new());
    let (mut lane, mut account) = (String::new(), String::new());
    // A pair takes a minute and a half.
    let pairs = scale.pairs.div_ceil(5);
    for pair in 1..=pairs {
        let fleet = Fleet::start(PODS, WORKERS)?;
        let mut options =
            vec!["--viewers", &count, "--speakers", "50", "--rate", "5", "--duration", &seconds];
        options.extend(["--settle", "60", "--priority-rate", "1", "--publish-url", fleet.admin()]);
        options.extend(&crowd);
        let (run, calls) = fleet.run(&options)?;
        drop(fleet);
        if run.number("/connect/joined") != viewers as f64 {
            faults.problems.push(format!("only {} have joined", run.number("/connect/joined")));
        }
        lane = judge_priority(&run, &mut faults);
        let floor = run.replay_with(viewers, WORKERS, &crowd)?;
        let server_us = run.used.cpu_seconds / run.used.writes * 1e6;
        let floor_us = floor.cpu_seconds / floor.sends * 1e6;
        account = format!(
            "{} of {} deliveries, {} told as left out, {:.1} in a write; {:.3} operations of Redis per 1,000",
            run.number("/deliveries/received"),
            run.number("/deliveries/expected"),
            run.number("/deliveries/told"),
            deliveries(&run) / run.used.writes,
            calls.total() / deliveries(&run) * 1e3
        );
        println!(
            "    {pair}/{pairs}: server {server_us:.2} µs × {:.0} writes, floor {floor_us:.2} µs × {:.0}, ratio {:.3}; \
             {account}; {lane}",
            run.used.writes,
            floor.sends,
            server_us / floor_us
        );
        ratios.push(server_us / floor_us);
        ours.push(server_us);
        floors.push(floor_us);
        p99.push(run.number("/deliveries/ms/p99") / 1e3);
        priority_p99.push(run.number("/priority/ms/p99") / 1e3);
        joining.push(run.joining.as_secs_f64());
        faults.add(&run);
        faults.add_floor(&floor);
    }
    let note = format!("{viewers} viewers on {PODS} pods");
    Ok(vec![
        faults.told(Row::new("large", "CPU per write, pods ÷ floors", &ratios, "×"), note),
        Row::new("large", "  pods", &ours, "µs"),
        Row::new("large", "  floors, the same flushes", &floors, "µs"),
        Row::new("large", "  all are in", &joining, "s"),
        Row::new("large", "  p99", &p99, "s").note(account),
        Row::new("large", "  p99 of the priority lane", &priority_p99, "s").note(lane),
    ])
}

/// The last pod is emptied while gifts go on.
pub(in crate::bench) fn drain(scale: &Scale) -> Result<Vec<Row>, String> {
    let viewers = scale.viewers(98_000);
    // Viewers are asked in the first half of a drain.
    let (calm, length) = if scale.quick { (3, 8) } else { (15, 60) };
    let crowd = crowd();
    let (count, seconds, split) =
        (viewers.to_string(), (calm + length / 2 + 8).to_string(), calm.to_string());
    let fleet = Fleet::start(PODS, WORKERS)?;
    let mut options = vec!["--viewers", &count, "--duration", &seconds, "--split", &split, "--follow"];
    options.extend(["--settle", "60", "--priority-rate", "1", "--publish-url", fleet.admin()]);
    options.extend(crowd.iter().map(String::as_str));
    let talk = Talk::begin(&fleet.pods, &options)?;
    thread::sleep(Duration::from_secs(calm));
    let last = fleet.pods.last().ok_or("there is no pod to drain")?;
    let [moving] = last.metrics(["danmu_viewers"])?;
    let start = Instant::now();
    last.drain(length)?;
    let emptied = loop {
        let [left] = last.metrics(["danmu_viewers"])?;
        if left == 0.0 || start.elapsed() > Duration::from_secs(length + 10) {
            break start.elapsed().as_secs_f64();
        }
        thread::sleep(Duration::from_millis(100));
    };
    let (run, ()) = talk.end(|| Ok(()))?;
    let mut faults = Faults::default();
    faults.add(&run);
    let lane = judge_priority(&run, &mut faults);
    let (before, after) =
        (run.number("/priority/ms_before_split/p99"), run.number("/priority/ms_after_split/p99"));
    let moved = format!(
        "{moving} viewers, {} joined again, p99 {:.0} ms after they were asked; cut {}",
        run.number("/follow/rejoined"),
        run.number("/follow/ms/p99"),
        run.report["follow"]["cuts"]
    );
    if run.number("/follow/rejoined") < moving {
        faults.problems.push(moved.clone());
    }
    println!(
        "    empty after {emptied:.1} s of {length} s; {moved}; {lane}; p99 {before:.0} → {after:.0} ms"
    );
    Ok(vec![
        faults.told(Row::new("drain", "all are elsewhere", &[emptied], "s").goal(length as f64), moved),
        Row::new("drain", "p99 of who stayed, during ÷ before", &[after / before], "×")
            .goal(1.2)
            .note(format!("{before:.0} ms before, {after:.0} ms during; {lane}")),
    ])
}
