//! The time of day for positions, which must not jump when the clock of the machine does.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A wall clock this far off is a jump, and not drift that is followed.
const JUMP: Duration = Duration::from_secs(2);
/// A jump that stays this long is the truth.
const SETTLED: Duration = Duration::from_secs(30);

/// Milliseconds since 1970, steady: a wall clock that jumps and comes back within half a minute is ignored, so
/// that what is said meanwhile is not recorded elsewhere in the video; one that stays where it is is believed.
#[derive(Debug)]
pub struct Clock {
    /// A moment on both clocks.
    anchor: (Instant, Duration),
    off_since: Option<Instant>,
    jumps: u64,
}

impl Clock {
    /// Starts at this moment.
    pub fn new(now: Instant, wall: SystemTime) -> Clock {
        Clock { anchor: (now, since_1970(wall)), off_since: None, jumps: 0 }
    }

    /// The time.
    pub fn millis(&mut self, now: Instant, wall: SystemTime) -> u64 {
        let wall = since_1970(wall);
        let steady = self.anchor.1 + now.saturating_duration_since(self.anchor.0);
        if steady.abs_diff(wall) < JUMP {
            self.off_since = None;
            self.anchor = (now, wall);
            return wall.as_millis() as u64;
        }
        let since = *self.off_since.get_or_insert_with(|| {
            self.jumps += 1;
            now
        });
        if now.saturating_duration_since(since) < SETTLED {
            return steady.as_millis() as u64;
        }
        self.off_since = None;
        self.anchor = (now, wall);
        wall.as_millis() as u64
    }

    /// How often the wall clock jumped.
    pub fn jumps(&self) -> u64 {
        self.jumps
    }
}

fn since_1970(wall: SystemTime) -> Duration {
    wall.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// The clock after so many seconds, with the wall off by so much from then on.
    fn told(clock: &mut Clock, start: (Instant, SystemTime), second: u64, off: i64) -> i64 {
        let passed = Duration::from_secs(second);
        let wall = match off {
            0.. => start.1 + passed + HOUR * off as u32,
            _ => start.1 + passed - HOUR * off.unsigned_abs() as u32,
        };
        let millis = clock.millis(start.0 + passed, wall) as i64;
        (millis - since_1970(start.1).as_millis() as i64) / 1000
    }

    #[test]
    fn a_clock_that_jumps_and_comes_back_moves_nothing() {
        let start = (Instant::now(), SystemTime::now());
        let mut clock = Clock::new(start.0, start.1);
        for (second, off) in [(1, 0), (2, 5), (3, -5), (20, 5), (21, 0), (50, 1)] {
            assert_eq!(told(&mut clock, start, second, off), second as i64, "off by {off} h");
        }
        assert_eq!(clock.jumps(), 2);
    }

    #[test]
    fn a_clock_that_stays_where_it_jumped_is_believed() {
        let start = (Instant::now(), SystemTime::now());
        let mut clock = Clock::new(start.0, start.1);
        assert_eq!(told(&mut clock, start, 10, -1), 10);
        assert_eq!(told(&mut clock, start, 39, -1), 39);
        assert_eq!(told(&mut clock, start, 40, -1), 40 - 3600);
        assert_eq!(told(&mut clock, start, 41, -1), 41 - 3600);
    }

    #[test]
    fn drift_is_followed() {
        let start = (Instant::now(), SystemTime::now());
        let mut clock = Clock::new(start.0, start.1);
        for step in 1..10 {
            let (now, wall) = (start.0 + HOUR * step, start.1 + (HOUR + Duration::from_secs(1)) * step);
            assert_eq!(clock.millis(now, wall), since_1970(wall).as_millis() as u64);
        }
        assert_eq!(clock.jumps(), 0);
    }
}
