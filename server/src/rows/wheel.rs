//! One timing wheel a worker: a deadline costs 4 bytes, and a turn touches only what is due.

use std::time::{Duration, Instant};

/// Seconds since the worker's start, rounded up; 0 is "never".
pub(super) type Tick = u32;

/// Farther deadlines fire early, find nothing due, and are set again.
const TICKS: usize = 64;

/// Connections by the second in which they want attention.
#[derive(Debug)]
pub(super) struct Wheel {
    start: Instant,
    /// The next tick to fire.
    next: Tick,
    buckets: Vec<Vec<u32>>,
}

impl Wheel {
    pub(super) fn new(start: Instant) -> Self {
        Wheel { start, next: 1, buckets: vec![Vec::new(); TICKS] }
    }

    /// The tick by which `at` has passed.
    pub(super) fn tick(&self, at: Instant) -> Tick {
        let since = at.saturating_duration_since(self.start);
        Tick::try_from(since.as_secs()).unwrap_or(Tick::MAX - 1) + 1
    }

    /// The tick that has passed at `now`.
    pub(super) fn passed(&self, now: Instant) -> Tick {
        self.tick(now) - 1
    }

    /// Sets a connection to fire at the tick, or as far ahead as the wheel reaches; answers when.
    pub(super) fn set(&mut self, connection: u32, tick: Tick) -> Tick {
        let tick = tick.clamp(self.next, self.next + TICKS as Tick - 1);
        if let Some(bucket) = self.buckets.get_mut(tick as usize % TICKS) {
            bucket.push(connection);
        }
        tick
    }

    /// Moves what is due at `now` into `due`, with its tick.
    pub(super) fn fire(&mut self, now: Instant, due: &mut Vec<(u32, Tick)>) {
        let passed = self.passed(now);
        while self.next <= passed {
            let tick = self.next;
            if let Some(bucket) = self.buckets.get_mut(tick as usize % TICKS) {
                due.extend(bucket.drain(..).map(|connection| (connection, tick)));
            }
            self.next += 1;
        }
    }

    /// How long until the next tick.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        (self.start + Duration::from_secs(u64::from(self.next))).saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(wheel: &mut Wheel, now: Instant) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.fire(now, &mut due);
        due.into_iter().map(|(connection, _)| connection).collect()
    }

    #[test]
    fn a_deadline_fires_once_and_never_early() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let at = start + Duration::from_millis(2500);
        let tick = wheel.tick(at);
        wheel.set(7, tick);
        assert_eq!(fired(&mut wheel, at - Duration::from_millis(1)), [0u32; 0]);
        assert_eq!(fired(&mut wheel, start + Duration::from_secs(3)), [7]);
        assert_eq!(fired(&mut wheel, start + Duration::from_secs(100)), [0u32; 0]);
    }

    #[test]
    fn a_deadline_beyond_the_wheel_fires_early_and_says_when() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let tick = wheel.set(7, 1000);
        assert_eq!(tick as usize, TICKS);
        assert_eq!(fired(&mut wheel, start + Duration::from_secs(u64::from(tick))), [7]);
    }

    #[test]
    fn after_a_long_sleep_everything_due_fires() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        for connection in 0..200 {
            wheel.set(connection, 1 + connection % 50);
        }
        assert_eq!(fired(&mut wheel, start + Duration::from_secs(500)).len(), 200);
        assert_eq!(wheel.set(1, 3), 501);
    }
}
