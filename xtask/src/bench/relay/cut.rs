//! Redis goes away in the middle of a talk: what is lost, what is told, how soon it is whole again.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::Fleet;
use crate::bench::{
    measure::{Measured, Subject, Talk},
    scenarios::Scale,
    table::Row,
};

/// How Redis goes away.
#[derive(Clone, Copy)]
enum Cut {
    /// It stops as a whole: connections stay open and nothing answers.
    Frozen,
    /// It is killed, and comes back with nothing.
    Killed,
}

/// How long until it must be whole again.
const DEADLINE: Duration = Duration::from_secs(30);

/// Both kinds.
pub(in crate::bench) fn cut(scale: &Scale) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for (kind, name) in [(Cut::Frozen, "frozen"), (Cut::Killed, "killed")] {
        rows.extend(one(scale, kind, name)?);
    }
    Ok(rows)
}

fn one(scale: &Scale, kind: Cut, name: &str) -> Result<Vec<Row>, String> {
    let count = scale.viewers(6000).to_string();
    let mut fleet = Fleet::start(3, 1)?;
    let publish_url = fleet.admin().to_owned();
    // Three seconds of peace, ten without Redis, seven to become whole.
    let mut options = vec!["--viewers", &count, "--speakers", "30", "--rate", "10", "--duration", "20"];
    options.extend(["--connect-rate", "3000", "--priority-rate", "5", "--publish-url", &publish_url]);
    let Fleet { redis, pods } = &mut fleet;
    let talk = Talk::begin(pods, &options)?;
    thread::sleep(Duration::from_secs(3));
    match kind {
        Cut::Frozen => redis.freeze()?,
        Cut::Killed => redis.kill(),
    }
    let degraded = all_know(pods)?;
    thread::sleep(Duration::from_secs(10).saturating_sub(degraded));
    match kind {
        Cut::Frozen => redis.thaw()?,
        Cut::Killed => redis.start_again()?,
    }
    let whole = whole(pods)?;
    let (run, ()) = talk.end(|| Ok(()))?;
    Ok(rows(&run, name, degraded.as_secs_f64(), whole.as_secs_f64()))
}

fn rows(run: &Measured, name: &str, degraded: f64, whole: f64) -> Vec<Row> {
    let of = |lane: &str, what: &str| run.number(&format!("/{lane}/{what}"));
    let lane = |lane: &str| {
        format!(
            "{} of {} delivered, told as lost {} and {} without a number, lost without a word {}",
            of(lane, "received"),
            of(lane, "expected"),
            of(lane, "told"),
            of(lane, "told_without_number"),
            of(lane, "lost")
        )
    };
    let refused = format!(
        "{} published, {} not taken",
        of("priority", "published"),
        run.report["priority"]["unpublished"]
    );
    let (chats, gifts) = (lane("deliveries"), lane("priority"));
    println!("    {name}: known after {degraded:.1} s, whole {whole:.2} s after it came back");
    println!("    {name}: chats {chats}");
    println!("    {name}: priority {gifts}; {refused}");
    // That publishers are refused meanwhile is what they were promised; they wait for it, and are late.
    let mut problems = run.problems();
    problems.retain(|problem| !problem.contains("not taken by the admin API"));
    let row = |what: &str, value: f64, unit| Row::new("cut", &format!("{name}: {what}"), &[value], unit);
    vec![
        row("chats lost without a word", of("deliveries", "lost"), "")
            .goal(0.0)
            .note(chats)
            .problems(&problems),
        row("priority lost without a word", of("priority", "lost") + of("priority", "untold_offsets"), "")
            .goal(0.0)
            .note(format!("{gifts}; {refused}")),
        row("all pods know it", degraded, "s").goal(5.0),
        row("whole again", whole, "s").goal(5.0),
    ]
}

/// How long until all pods say that they are cut off.
fn all_know(pods: &[Subject]) -> Result<Duration, String> {
    until(pods, |pod| Ok(pod.metrics(["danmu_relay_degraded"])? == [1.0]))
}

/// How long until all pods are connected and hear from each other.
fn whole(pods: &[Subject]) -> Result<Duration, String> {
    let start = Instant::now();
    until(pods, |pod| Ok(pod.metrics(["danmu_relay_degraded"])? == [0.0]))?;
    let received = |pod: &Subject| pod.metrics(["danmu_relay_received_packets_total"]);
    let before = pods.iter().map(received).collect::<Result<Vec<_>, _>>()?;
    for (pod, before) in pods.iter().zip(before) {
        until(std::slice::from_ref(pod), |pod| Ok(received(pod)? > before))?;
    }
    Ok(start.elapsed())
}

fn until(pods: &[Subject], holds: impl Fn(&Subject) -> Result<bool, String>) -> Result<Duration, String> {
    let start = Instant::now();
    for pod in pods {
        while !holds(pod)? {
            if start.elapsed() > DEADLINE {
                return Err(format!("the pods did not come so far within {} s", DEADLINE.as_secs()));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(start.elapsed())
}
