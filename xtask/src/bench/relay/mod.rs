//! The relay: several pods on one Redis.
//!
//! ```text
//! mod      the fleet; what the relay costs two pods, and Redis
//! large    one room on seven pods: a talk, and a drain
//! cut      Redis goes away
//! rooms    very many small rooms
//! ```

mod cut;
mod large;
mod rooms;

use std::thread;

use super::{
    measure::{Measured, Subject, Talk},
    redis::{Calls, Redis},
    scenarios::{Faults, OPEN, Scale},
    table::Row,
};

pub(super) use cut::cut;
pub(super) use large::{drain, large};
pub(super) use rooms::rooms;

/// Pods and their Redis.
struct Fleet {
    redis: Redis,
    pods: Vec<Subject>,
}

impl Fleet {
    /// So many pods, with so many workers each.
    fn start(pods: usize, workers: usize) -> Result<Fleet, String> {
        let redis = Redis::start()?;
        let url = redis.url();
        let start = |_| Subject::start_with(OPEN, workers, &["--redis", &url]);
        let pods = (0..pods).map(start).collect::<Result<_, _>>()?;
        Ok(Fleet { redis, pods })
    }

    /// The admin address of its first pod.
    fn admin(&self) -> &str {
        self.pods.first().map_or("", Subject::admin)
    }

    /// Runs viewers against all pods; what they made Redis do meanwhile comes with it.
    fn run(&self, options: &[&str]) -> Result<(Measured, Calls), String> {
        let talk = Talk::begin(&self.pods, options)?;
        let before = self.redis.calls()?;
        let (run, after) = talk.end(|| self.redis.calls())?;
        Ok((run, after.since(&before)))
    }
}

/// Deliveries of both lanes.
fn deliveries(run: &Measured) -> f64 {
    run.number("/deliveries/received") + run.number("/priority/received")
}

/// The priority lane in a few words; a fault when it is not whole.
fn judge_priority(run: &Measured, faults: &mut Faults) -> String {
    let of = |name: &str| run.number(&format!("/priority/{name}"));
    let lane = format!(
        "priority: {} published, {} of {} delivered, {} offsets passed over",
        of("published"),
        of("received"),
        of("expected"),
        of("missing_offsets")
    );
    if of("published") == 0.0 || of("received") != of("expected") || of("missing_offsets") > 0.0 {
        faults.problems.push(lane.clone());
    }
    lane
}

/// Operations of Redis per delivered message.
pub(super) fn redis_ops(scale: &Scale) -> Result<Vec<Row>, String> {
    let (count, seconds) = (scale.viewers(10_000).to_string(), scale.seconds(10));
    let fleet = Fleet::start(2, 1)?;
    let mut options = vec!["--viewers", &count, "--speakers", "40", "--rate", "5", "--duration", &seconds];
    options.extend(["--connect-rate", "4000", "--processes", "2"]);
    options.extend(["--priority-rate", "1", "--publish-url", fleet.admin()]);
    let (run, calls) = fleet.run(&options)?;
    let mut faults = Faults::default();
    faults.add(&run);
    judge_priority(&run, &mut faults);
    let said = run.number("/messages/shown") + run.number("/priority/published");
    let note = format!("{} for {said} messages, delivered {} times", calls.list(), deliveries(&run));
    println!("    {note}");
    let each = calls.total() / deliveries(&run) * 1e3;
    Ok(vec![
        faults.told(Row::new("redis-ops", "operations per 1,000 deliveries", &[each], ""), note),
        Row::new("redis-ops", "  operations per message said", &[calls.total() / said], ""),
    ])
}

/// Two pods on Redis beside two pods that know nothing of each other; both are told as much.
pub(super) fn pair(scale: &Scale) -> Result<Vec<Row>, String> {
    let half = scale.viewers(5000);
    let (count, both, seconds) = (half.to_string(), (2 * half).to_string(), scale.seconds(7));
    let options = ["--speakers", "20", "--rate", "5", "--duration", &seconds];
    let (mut ratios, mut a_write, mut redis_cpu, mut writes) =
        (Vec::new(), Vec::new(), Vec::new(), [0.0_f64; 2]);
    let (mut cpu, mut faults) = ([Vec::new(), Vec::new()], Faults::default());
    for number in 1..=scale.pairs {
        let mut used = [(0.0, 0.0); 2];
        // Which of the two comes first alternates: warming up must not favour one.
        for which in if number % 2 == 0 { [1, 0] } else { [0, 1] } {
            let runs = if which == 0 {
                let more = ["--viewers", &both, "--processes", "2", "--connect-rate", "4000"];
                let fleet = Fleet::start(2, 1)?;
                let before = fleet.redis.cpu_seconds()?;
                let run = fleet.run(&[&options[..], &more].concat())?.0;
                redis_cpu.push(fleet.redis.cpu_seconds()? - before);
                vec![run]
            } else {
                let more = ["--viewers", &count, "--connect-rate", "2000"];
                apart(&[&options[..], &more].concat())?
            };
            for run in &runs {
                used[which].0 += run.used.cpu_seconds;
                used[which].1 += run.used.writes;
                faults.add(run);
            }
        }
        let [(on_redis, its_writes), (alone, their_writes)] = used;
        let each = (on_redis / its_writes) / (alone / their_writes);
        println!(
            "    {number}/{}: on Redis {on_redis:.2} s, {its_writes:.0} writes; in memory {alone:.2} s, \
             {their_writes:.0} writes; ratio {:.3}, a write {each:.3}",
            scale.pairs,
            on_redis / alone
        );
        ratios.push(on_redis / alone);
        a_write.push(each);
        cpu[0].push(on_redis);
        cpu[1].push(alone);
        writes = [writes[0] + its_writes, writes[1] + their_writes];
    }
    let note = format!("writes: {:.0} on Redis, {:.0} in memory", writes[0], writes[1]);
    let ratio = Row::new("pair", "CPU of two pods, Redis ÷ memory", &ratios, "×").goal(1.05);
    Ok(vec![
        faults.told(ratio, note),
        Row::new("pair", "  the same per write", &a_write, "×"),
        Row::new("pair", "  on Redis", &cpu[0], "s"),
        Row::new("pair", "  in memory", &cpu[1], "s"),
        Row::new("pair", "  Redis itself, joining included", &redis_cpu, "s"),
    ])
}

/// Two pods in memory at the same time, each with viewers of its own.
fn apart(options: &[&str]) -> Result<Vec<Measured>, String> {
    let pods = [Subject::start_with(OPEN, 1, &[])?, Subject::start_with(OPEN, 1, &[])?];
    thread::scope(|scope| {
        let runs: Vec<_> = pods.iter().map(|pod| scope.spawn(|| pod.run(options))).collect();
        let end = |run: thread::ScopedJoinHandle<'_, _>| {
            run.join().unwrap_or_else(|_| Err("a thread of the benchmark panicked".to_owned()))
        };
        runs.into_iter().map(end).collect()
    })
}
