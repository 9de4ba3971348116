//! Very many small rooms: what they cost at rest, and whether a message costs more beside them.

use std::{
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use super::Fleet;
use crate::bench::{
    measure::{Load, Subject},
    redis::Redis,
    scenarios::Scale,
    table::Row,
};

/// Rooms in which somebody talks, among few and among many.
const TALKING: usize = 100;

/// Who talks in them; each says less than a connection may.
const SPEAKERS: usize = 500;

/// Messages published at one time, to find what one costs.
const PUBLISHED: usize = 10_000;

/// A pod on a Redis that also serves the rest of a fleet.
struct Setting {
    fleet: Fleet,
    rooms: usize,
    /// Viewers who only watch, one or two a room.
    _watching: Load,
    /// Subscriptions of the rest of the fleet.
    _held: Vec<TcpStream>,
    /// CPU seconds of the pod per second without a message.
    rest: f64,
}

impl Setting {
    /// Pods that all have the same rooms, and a fleet with so many more; answers the kilobytes of the
    /// first pod for a room, too.
    fn start(pods: usize, rooms: usize, elsewhere: usize) -> Result<(Setting, f64), String> {
        let fleet = Fleet::start(pods, 1)?;
        let pod = fleet.pods.first().ok_or("there is no pod")?;
        thread::sleep(Duration::from_millis(500));
        let empty = pod.read()?.resident_bytes;
        let viewers = rooms * pods + rooms / 2;
        let count = viewers.to_string();
        let options = ["--viewers", &count, "--connect-rate", "2500", "--duration", "3600"];
        let urls_of = |pod: &Subject| (0..rooms).map(|room| pod.url_of(&name(room))).collect::<Vec<_>>();
        let urls: Vec<String> = fleet.pods.iter().flat_map(urls_of).collect();
        let mut watching = Load::start(&urls, &options)?;
        let joined = watching.line("joined")?;
        if joined != viewers as f64 {
            return Err(format!("{joined} of {viewers} viewers came in"));
        }
        let channels: Vec<String> = (0..elsewhere).map(channel).collect();
        let each = channels.len().div_ceil(10).max(1);
        let held = channels.chunks(each).map(|some| fleet.redis.hold(some)).collect::<Result<_, _>>()?;
        let full = fleet.pods.first().map_or(Ok(0), |pod| pod.read().map(|now| now.resident_bytes))?;
        let memory = full.saturating_sub(empty) as f64 / rooms as f64 / 1000.0;
        Ok((Setting { fleet, rooms, _watching: watching, _held: held, rest: 0.0 }, memory))
    }

    fn pod(&self) -> Result<&Subject, String> {
        self.fleet.pods.first().ok_or_else(|| "there is no pod".to_owned())
    }

    /// What it does without a message: operations of Redis a second, and milliseconds of CPU a second
    /// of the pod and of Redis.
    fn rest(&mut self, seconds: u64) -> Result<([f64; 3], String), String> {
        // Rooms that have just opened have more to say.
        thread::sleep(Duration::from_secs(3));
        let read =
            || Ok::<_, String>((self.fleet.redis.calls()?, self.cpu()?, self.fleet.redis.cpu_seconds()?));
        let before = read()?;
        thread::sleep(Duration::from_secs(seconds));
        let after = read()?;
        let calls = after.0.since(&before.0);
        let seconds = seconds as f64;
        let (pod, redis) = ((after.1 - before.1) / seconds, (after.2 - before.2) / seconds);
        self.rest = pod;
        Ok(([calls.total() / seconds, pod * 1e3, redis * 1e3], calls.list()))
    }

    fn cpu(&self) -> Result<f64, String> {
        Ok(self.pod()?.read()?.cpu_seconds)
    }

    /// Microseconds of the pod for a message said in one of its rooms, beyond what it uses at rest.
    fn message_us(&self, seconds: f64) -> Result<f64, String> {
        let pod = self.pod()?;
        let urls: Vec<String> = (0..TALKING).map(|room| pod.url_of(&name(room))).collect();
        let (count, duration) = (SPEAKERS.to_string(), seconds.to_string());
        let options = ["--viewers", &count, "--speakers", &count, "--rate", "1000", "--duration", &duration];
        let mut load = Load::start(&urls, &options)?;
        load.wait_for("joined")?;
        let (start, before) = (Instant::now(), self.cpu()?);
        load.wait_for("warm")?;
        load.wait_for("quiet")?;
        let used = self.cpu()? - before - self.rest * start.elapsed().as_secs_f64();
        let report = load.report()?;
        let shown = report["messages"]["shown"].as_f64().unwrap_or(0.0);
        if shown == 0.0 { Err(format!("nobody could speak: {report}")) } else { Ok(used / shown * 1e6) }
    }

    /// Microseconds of Redis for one PUBLISH to a room that somebody is subscribed to.
    fn publish_us(&self) -> Result<f64, String> {
        let before = self.fleet.redis.calls()?;
        publish(&self.fleet.redis)?;
        let (calls, micros) = self.fleet.redis.calls()?.since(&before).of("publish");
        Ok(micros / calls)
    }
}

fn name(room: usize) -> String {
    format!("room-{room}")
}

fn channel(room: usize) -> String {
    format!("danmu:{{local/elsewhere/room-{room}}}:live")
}

fn publish(redis: &Redis) -> Result<(), String> {
    let mut connection = redis.connect()?;
    for _ in 0..PUBLISHED / TALKING {
        let mut pipe = redis::pipe();
        for room in 0..TALKING {
            pipe.cmd("PUBLISH").arg(channel(room)).arg([b'x'; 150].as_slice()).ignore();
        }
        pipe.exec(&mut connection).map_err(|error| format!("Redis: PUBLISH: {error}"))?;
    }
    Ok(())
}

/// A pod with 5,000 rooms in a fleet with 50,000, beside a pod with 100 in a fleet with 100.
pub(in crate::bench) fn rooms(scale: &Scale) -> Result<Vec<Row>, String> {
    let (here, elsewhere) = if scale.quick { (500, 5000) } else { (5000, 50_000) };
    // A room that is on one pod alone asks around every 30 s.
    let seconds = if scale.quick { 3 } else { 30 };
    let shared = shared(here, seconds.min(10))?;
    let (mut many, memory) = Setting::start(1, here, elsewhere)?;
    let (mut few, _) = Setting::start(1, TALKING, TALKING)?;
    let ([operations, pod, redis], calls) = many.rest(seconds)?;
    few.rest(seconds.min(5))?;
    println!("    at rest {operations:.1} operations/s ({calls}), pod {pod:.2} ms/s, Redis {redis:.2} ms/s");
    let (mut publishing, mut messages) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let talk = if scale.quick { 2.0 } else { 3.0 };
    for number in 1..=scale.pairs {
        for which in if number % 2 == 0 { [1, 0] } else { [0, 1] } {
            let setting = [&many, &few][which];
            publishing[which].push(setting.publish_us()?);
            messages[which].push(setting.message_us(talk)?);
        }
        let last = |values: &[Vec<f64>; 2]| values.each_ref().map(|all| all.last().copied().unwrap_or(0.0));
        let ([publish, publish_few], [message, message_few]) = (last(&publishing), last(&messages));
        println!(
            "    {number}/{}: PUBLISH {publish:.2} µs among many, {publish_few:.2} µs among few; \
             a message {message:.1} and {message_few:.1} µs",
            scale.pairs
        );
    }
    let ratios = |values: &[Vec<f64>; 2]| -> Vec<f64> {
        values[0].iter().zip(&values[1]).map(|(many, few)| many / few).collect()
    };
    let (rooms, fleet) = (many.rooms, elsewhere + many.rooms);
    let on_pod = |what: &str| format!("{rooms} rooms: {what}");
    let mut rows = vec![
        Row::new("rooms", &on_pod("operations of Redis at rest"), &[operations], "/s").note(calls),
        Row::new("rooms", &on_pod("CPU of the pod at rest"), &[pod], "ms/s"),
        Row::new("rooms", &on_pod("CPU of Redis at rest"), &[redis], "ms/s"),
        Row::new("rooms", &on_pod("memory a room"), &[memory], "kB").note("with its one or two viewers"),
        Row::new("rooms", "PUBLISH in Redis, many ÷ few rooms", &ratios(&publishing), "×")
            .goal(1.2)
            .note(format!("{fleet} rooms and {}", 2 * TALKING)),
        Row::new("rooms", "  among many", &publishing[0], "µs"),
        Row::new("rooms", "CPU of the pod a message, many ÷ few", &ratios(&messages), "×")
            .goal(1.2)
            .note("beyond what it uses at rest"),
        Row::new("rooms", "  among many", &messages[0], "µs"),
    ];
    rows.extend(shared);
    Ok(rows)
}

/// What rooms cost at rest that are on two pods: these tell each other that they live.
fn shared(rooms: usize, seconds: u64) -> Result<Vec<Row>, String> {
    let (mut setting, _) = Setting::start(2, rooms, 0)?;
    let ([operations, pod, redis], calls) = setting.rest(seconds)?;
    println!(
        "    on two pods {operations:.1} operations/s ({calls}), a pod {pod:.2} ms/s, Redis {redis:.2} ms/s"
    );
    let on_both = |what: &str| format!("{rooms} rooms on two pods: {what}");
    Ok(vec![
        Row::new("rooms", &on_both("operations of Redis at rest"), &[operations], "/s").note(calls),
        Row::new("rooms", &on_both("CPU of a pod at rest"), &[pod], "ms/s"),
        Row::new("rooms", &on_both("CPU of Redis at rest"), &[redis], "ms/s"),
    ])
}
