//! Full jitter: a random wait below a cap that doubles, so that a cut crowd comes back spread out.

use std::time::Duration;

use rand::RngExt;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Backoff {
    cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { cap: FIRST }
    }
}

impl Backoff {
    /// How long until the next try.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.cap.mul_f64(rand::rng().random_range(0.0..1.0));
        self.cap = (self.cap * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_are_spread_below_a_cap_that_doubles_up_to_half_a_minute() {
        for (tries, cap) in [(0, 1), (1, 2), (4, 16), (5, 30), (50, 30)] {
            let waits: Vec<Duration> = (0..200)
                .map(|_| {
                    let mut backoff = Backoff::default();
                    (0..tries).for_each(|_| {
                        backoff.next();
                    });
                    backoff.next()
                })
                .collect();
            let cap = Duration::from_secs(cap);
            assert!(waits.iter().all(|wait| *wait < cap), "{tries} {waits:?}");
            assert!(waits.iter().any(|wait| *wait > cap / 2) && waits.iter().any(|wait| *wait < cap / 2));
        }
    }
}
