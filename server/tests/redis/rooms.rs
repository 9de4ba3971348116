//! Many rooms on one pod.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::support::{
    pod::{Pod, eventually},
    redis::RedisServer,
};

const ROOMS: usize = 5000;

/// How often each command ran.
fn commands(redis: &RedisServer) -> HashMap<String, u64> {
    let stats = redis.text(&["INFO", "commandstats"]);
    let count = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    stats.lines().filter_map(count).collect()
}

fn figure(redis: &RedisServer, section: &str, name: &str) -> u64 {
    let info = redis.text(&["INFO", section]);
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.parse().unwrap()
}

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_rooms_are_few_commands_and_silent_at_rest() {
    let redis = RedisServer::start();
    let pod = Pod::on_redis(&redis.url(), false, "test/rooms");
    pod.open("first").await;
    let rooms: Vec<String> = (0..ROOMS).map(|i| format!("room{i}")).collect();
    let (started, memory) = (Instant::now(), (resident_kb(), figure(&redis, "memory", "used_memory")));
    rooms.iter().for_each(|room| pod.start_to_open(room));
    eventually("all are open", async || rooms.iter().all(|room| pod.seen(room).openings == 1)).await;
    let took = started.elapsed();
    let calls = commands(&redis);
    println!("{ROOMS} rooms open after {took:?} with {} SUBSCRIBE", calls["subscribe"]);
    assert!(calls["subscribe"] <= 50, "{calls:?}");
    assert!(calls["evalsha"] <= ROOMS as u64 + 10, "one load each: {calls:?}");
    assert!(calls["publish"] <= 3 * ROOMS as u64 + 10, "an epoch and two words to other pods: {calls:?}");
    let here = (resident_kb().saturating_sub(memory.0) << 10) / ROOMS as u64;
    let there = figure(&redis, "memory", "used_memory").saturating_sub(memory.1) / ROOMS as u64;
    println!("memory a room: {here} bytes in the pod (with the test's record), {there} bytes in Redis");

    // Between the first tick, when each room says that it is here, and 30 s later, when each says it again:
    // that is all there is, 5,000 publishes in 30 s.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = figure(&redis, "stats", "total_commands_processed");
    tokio::time::sleep(Duration::from_secs(4)).await;
    let at_rest = figure(&redis, "stats", "total_commands_processed") - before;
    println!("{at_rest} commands in 4 s at rest");
    assert!(at_rest < 20, "pings and this test's own: {at_rest}");

    rooms.iter().for_each(|room| pod.close(room));
    eventually("closed rooms are unsubscribed", async || {
        let names = redis.command(&["PUBSUB", "CHANNELS"]).unwrap();
        matches!(names, redis::Value::Array(names) if names.len() == 1)
    })
    .await;
}
