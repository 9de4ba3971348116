//! How far a room sheds load: a state machine without a clock of its own.
//!
//! Every pod decides for itself, from numbers that all pods of the room tell each other each second (viewers,
//! messages said). So there is nothing to elect and nothing to agree on, and no pod waits for Redis when it has
//! too much to do. They tell each other their stage too, and the furthest leads: a stage depends on what was before, so
//! a pod that opens the room in the middle of it would stay behind, and its viewers would not see what is said where
//! others fetch already. For the second until all know, that is so.

use std::time::{Duration, Instant};

use danmu_crds::Shedding;

/// The stage from which on viewers fetch.
pub(super) const FETCH: u8 = 3;
/// Percent of a limit over which each stage begins.
const BEGINS: [u64; 4] = [0, 100, 150, 200];
/// A stage ends when the load was under this much of its beginning ...
const ENDS_PERCENT: u64 = 80;
/// ... for so long.
const CALM: Duration = Duration::from_secs(30);

/// What a room has to do, on all its pods.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    pub(super) viewers: u64,
    /// Said each second, shown or not.
    pub(super) messages: u64,
}

#[derive(Debug, Default)]
pub(super) struct Shedder {
    stage: u8,
    calm_since: Option<Instant>,
    /// Messages a second, smoothed over some five, in hundredths.
    rate: u64,
}

impl Shedder {
    /// Takes the messages of the last second on this pod; answers how many a second there are.
    pub(super) fn count(&mut self, messages: u64) -> u64 {
        self.rate = (self.rate * 3 + messages * 100) / 4;
        self.rate.div_ceil(100)
    }

    /// Messages a second on this pod, as last counted.
    pub(super) fn rate(&self) -> u64 {
        self.rate.div_ceil(100)
    }

    /// The stage, as last looked at.
    pub(super) fn stage(&self) -> u8 {
        self.stage
    }

    /// The stage under this load. Up at once, as far as it must; down one by one.
    pub(super) fn look(&mut self, limits: Option<Shedding>, load: Load, now: Instant) -> u8 {
        let Some(limits) = limits else {
            (self.stage, self.calm_since) = (0, None);
            return 0;
        };
        let of =
            |have: u64, above: Option<u32>| above.map_or(0, |above| have * 100 / u64::from(above.max(1)));
        let percent =
            of(load.viewers, limits.viewers_above).max(of(load.messages, limits.messages_per_second_above));
        let wanted = BEGINS.iter().rposition(|begins| percent > *begins).unwrap_or(0) as u8;
        if wanted > self.stage {
            (self.stage, self.calm_since) = (wanted, None);
        } else if percent * 100 < BEGINS[usize::from(self.stage)] * ENDS_PERCENT {
            let since = *self.calm_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= CALM {
                (self.stage, self.calm_since) = (self.stage - 1, None);
            }
        } else {
            self.calm_since = None;
        }
        self.stage
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Option<Shedding> =
        Some(Shedding { viewers_above: Some(1000), messages_per_second_above: Some(100) });

    fn viewers(viewers: u64) -> Load {
        Load { viewers, messages: 0 }
    }

    #[test]
    fn the_stages_begin_at_one_one_and_a_half_and_two_times_the_limit() {
        let now = Instant::now();
        for (load, stage) in
            [(0, 0), (1000, 0), (1010, 1), (1500, 1), (1510, 2), (2000, 2), (2010, 3), (9999, 3)]
        {
            assert_eq!(Shedder::default().look(LIMITS, viewers(load), now), stage, "{load} viewers");
        }
        let talk = Load { viewers: 10, messages: 151 };
        assert_eq!(Shedder::default().look(LIMITS, talk, now), 2, "the worse of the two counts");
        assert_eq!(Shedder::default().look(None, viewers(9999), now), 0);
    }

    #[test]
    fn it_comes_back_step_by_step_and_only_after_calm() {
        let (mut shedder, start) = (Shedder::default(), Instant::now());
        let mut look =
            |second: u64, load| shedder.look(LIMITS, viewers(load), start + Duration::from_secs(second));
        assert_eq!(look(0, 5000), 3);
        assert_eq!(look(1, 1700), 3, "not calm enough");
        assert_eq!((look(2, 100), look(31, 100)), (3, 3));
        assert_eq!(look(32, 100), 2);
        assert_eq!((look(33, 100), look(62, 100), look(63, 100)), (2, 2, 1));
        assert_eq!(look(80, 900), 1, "calm ends");
        assert_eq!((look(81, 100), look(110, 100), look(111, 100)), (1, 1, 0));
    }

    #[test]
    fn limits_that_are_taken_away_end_it_at_once() {
        let (mut shedder, now) = (Shedder::default(), Instant::now());
        assert_eq!(shedder.look(LIMITS, viewers(5000), now), 3);
        assert_eq!(shedder.look(None, viewers(5000), now), 0);
    }

    #[test]
    fn a_burst_of_one_second_is_not_a_load() {
        let mut shedder = Shedder::default();
        assert_eq!(shedder.count(200), 50);
        assert_eq!((0..20).map(|_| shedder.count(200)).last(), Some(200));
    }

    proptest! {
        /// A load that swings by less than the hysteresis never makes a room swing.
        #[test]
        fn a_swing_within_the_hysteresis_changes_the_stage_once(middle in 100u64..3000, swings in proptest::collection::vec(0u64..10, 20..200)) {
            let (mut shedder, start) = (Shedder::default(), Instant::now());
            let stages: Vec<u8> = swings.iter().enumerate().map(|(second, swing)| {
                let load = middle + middle * swing / 100;
                shedder.look(LIMITS, viewers(load), start + Duration::from_secs(second as u64))
            }).collect();
            prop_assert!(stages.is_sorted(), "{stages:?}");
        }
    }
}
