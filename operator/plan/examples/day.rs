//! A day of a large fleet: 10,000 rooms on up to 1,000 pods, an evening peak and sudden spikes, planned each minute.
//!
//! `cargo run --release -p danmu-plan --example day` prints, for each hour, the pods used beside the fewest that could
//! hold the planned demand, how many shares moved, and how long planning took.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use danmu_plan::{Observation, Plan, Room, Share, Window, plan};
use jiff::SignedDuration;

#[path = "../tests/world/mod.rs"]
mod world;

const ROOMS: u32 = 10_000;
const PODS: u32 = 1_000;
const VIEWERS_PER_POD: u32 = 15_000;
/// The largest room's audience at the peak. The n-th room has this over n^0.8: 11 million viewers in all.
const LARGEST: f64 = 400_000.0;
const SPIKES: u64 = 60;

fn main() {
    let day = Day::new();
    println!("one day, {ROOMS} rooms, at most {PODS} pods of {VIEWERS_PER_POD} viewers, a plan each minute");
    println!(
        "hour    viewers  hot rooms   pods  fewest  over %   moved  forced  uncovered  plan ms: median   most"
    );
    day.run();
    hardest(PODS);
    hardest(PODS / 2);
}

/// The audience of each room at each minute.
struct Day {
    world: world::World,
    spikes: Vec<Spike>,
}

struct Spike {
    room: usize,
    minute: i64,
    times: f64,
}

impl Day {
    fn new() -> Self {
        let start = world::start();
        let mut spikes = Vec::new();
        for nth in 0..SPIKES {
            let room = below(nth, 2_000) as usize;
            let minute = i64::from(below(nth + 1_000, 1_400));
            let times = f64::from(below(nth + 2_000, 8)) + 3.0;
            spikes.push(Spike { room, minute, times });
        }
        let rooms = (0..ROOMS as usize).map(|nth| {
            // Every other spike is announced.
            let announced = spikes.iter().step_by(2).filter(|spike| spike.room == nth);
            let schedule = announced.map(|spike| {
                let begins = start + SignedDuration::from_mins(spike.minute);
                let end = begins + SignedDuration::from_mins(40);
                Window { start: begins, end, expected_viewers: viewers(nth, spike.minute, spike.times) }
            });
            Room { name: format!("room-{nth:05}"), schedule: schedule.collect(), ..Room::default() }
        });
        let mut fleet = world::fleet(VIEWERS_PER_POD, 10, PODS);
        fleet.max_hot_rooms = 2_000;
        Self { world: world::World::new(fleet, 500, rooms.collect()), spikes }
    }

    fn audience(&self, room: usize, minute: i64) -> u32 {
        let spikes = self.spikes.iter().filter(|spike| spike.room == room);
        let times = spikes.map(|spike| spike.at(minute)).fold(1.0, f64::max);
        viewers(room, minute, times)
    }

    fn run(mut self) {
        let (mut hour, mut all, mut peak) = (Hour::default(), Hour::default(), 0);
        for minute in 0..24 * 60 {
            self.world.audience = (0..ROOMS as usize).map(|room| self.audience(room, minute)).collect();
            let began = Instant::now();
            let planned = plan(&self.world.seen);
            let took = began.elapsed();
            hour.add(&self.world.seen, &planned, took);
            all.add(&self.world.seen, &planned, took);
            self.world.step(&planned, 60);
            if minute % 60 == 59 {
                let viewers: u64 = self.world.audience.iter().map(|&viewers| u64::from(viewers)).sum();
                peak = peak.max(viewers);
                std::mem::take(&mut hour).print(&(minute / 60).to_string(), viewers);
            }
        }
        all.print("day", peak);
    }
}

impl Spike {
    /// The factor: up in 5 minutes, down in the 5 after 40.
    fn at(&self, minute: i64) -> f64 {
        let into = minute - self.minute;
        let rise = (into as f64 / 5.0).min((45 - into) as f64 / 5.0).clamp(0.0, 1.0);
        1.0 + (self.times - 1.0) * rise
    }
}

/// A room's viewers: Zipf by size, over a curve of the day, with a little noise.
fn viewers(room: usize, minute: i64, times: f64) -> u32 {
    let of_day = (minute as f64 / (24.0 * 60.0) * std::f64::consts::TAU - 2.2).sin();
    let noise = f64::from(below(room as u64 * 10_007 + minute as u64, 200)) / 10_000.0 - 0.01;
    let peak = LARGEST / (room as f64 + 1.0).powf(0.8);
    (peak * (0.65 + 0.35 * of_day) * (1.0 + noise) * times) as u32
}

#[derive(Default)]
struct Hour {
    times: Vec<Duration>,
    hot: usize,
    pods: u64,
    fewest: u64,
    /// Shares that a room gave up on a pod that goes on serving.
    moved: usize,
    /// Shares given up because the pod went, or the room became cold.
    forced: usize,
    uncovered: u64,
}

impl Hour {
    fn add(&mut self, seen: &Observation, planned: &Plan, time: Duration) {
        self.times.push(time);
        self.hot = planned.rooms.iter().filter(|room| room.hot).count();
        self.pods += u64::from(planned.replicas.target);
        self.fewest += planned.demand.div_ceil(u64::from(VIEWERS_PER_POD));
        self.uncovered = self.uncovered.max(planned.uncovered);
        let before: HashMap<&str, &[Share]> =
            seen.rooms.iter().map(|room| (room.name.as_str(), room.placement.as_slice())).collect();
        for room in &planned.rooms {
            for share in before[room.name.as_str()] {
                if !room.placement.iter().any(|now| now.pod == share.pod) {
                    let forced = !room.hot || share.pod >= planned.replicas.target;
                    *(if forced { &mut self.forced } else { &mut self.moved }) += 1;
                }
            }
        }
    }

    fn print(mut self, hour: &str, viewers: u64) {
        self.times.sort_unstable();
        let plans = self.times.len() as u64;
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        let over = (self.pods as f64 / self.fewest as f64 - 1.0) * 100.0;
        println!(
            "{hour:>4} {viewers:>10} {:>10} {:>6} {:>7} {over:>7.2} {:>7} {:>7} {:>10} {:>16.1} {:>6.1}",
            self.hot,
            self.pods / plans,
            self.fewest / plans,
            self.moved,
            self.forced,
            self.uncovered,
            milliseconds(self.times[self.times.len() / 2]),
            milliseconds(self.times[self.times.len() - 1]),
        );
    }
}

/// The hardest plan: 10,000 hot rooms and no placement yet, on pods that are enough or not; then the same, placed.
fn hardest(pods: u32) {
    println!("\nevery room hot, at most {pods} pods:");
    let rooms = (0..u64::from(ROOMS)).map(|nth| Room {
        name: format!("room-{nth:05}"),
        expected_viewers: 500 + below(nth, 1_900),
        min_pods: 2,
        ..Room::default()
    });
    let mut fleet = world::fleet(VIEWERS_PER_POD, 1, pods);
    fleet.max_hot_rooms = ROOMS;
    let mut world = world::World::new(fleet, pods, rooms.collect());
    for what in ["from nothing", "again", "again"] {
        let began = Instant::now();
        let planned = plan(&world.seen);
        let took = began.elapsed();
        let fewest = planned.demand.div_ceil(u64::from(VIEWERS_PER_POD));
        println!(
            "{what}: {took:.1?}, {} pods, at least {fewest}, {} uncovered",
            planned.replicas.target, planned.uncovered
        );
        world.step(&planned, 60);
    }
}

/// A number under `limit` that looks random.
fn below(seed: u64, limit: u32) -> u32 {
    u32::try_from(mix(seed) % u64::from(limit)).unwrap_or(0)
}

/// A number that looks random, always the same for the same input (SplitMix64).
fn mix(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
