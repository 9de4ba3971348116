//! How many messages a second a room shows, and whose: nobody can read more than so many, so the rest
//! is left out, and those who write the most are left out first.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(1);
/// How often the share of a sender is worked out anew: a walk over all senders, so not at every message.
const RECKONING: Duration = Duration::from_millis(50);
/// Senders told apart at once; those beyond share one sender's part.
const MAX_SENDERS: usize = 16_384;
/// All the senders beyond [`MAX_SENDERS`].
const EVERYONE_ELSE: u64 = u64::MAX;
/// The most messages a second a room can be set to show: the log holds one entry (24 bytes) for each.
const MAX_CAP: u32 = 16_384;

#[derive(Debug, Default)]
struct Sender {
    /// Offered in this generation (of one [`WINDOW`]) and in the one before.
    offered: u32,
    offered_before: u32,
    /// Shown in the trailing window.
    shown: u32,
}

/// A sender's part of the trailing window. Messages are whole: of 20 places 11 loud senders have one each,
/// and 9 of them a second one, rather than 9 places left empty.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Share {
    each: u32,
    /// So many senders may have one more.
    on_top: u32,
}

/// Chooses what is shown: never more than the cap in any trailing second, all of it at once if need be;
/// and when more is offered than fits, no sender more than the water level (max-min fairness).
#[derive(Debug, Default)]
pub struct Sampler {
    senders: HashMap<u64, Sender>,
    /// What was shown in the trailing window, oldest first.
    log: VecDeque<(Instant, u64)>,
    /// What one sender may have in the trailing window; nothing while all fit.
    share: Option<Share>,
    /// How many senders have one more than their share in the trailing window.
    on_top: u32,
    reckoned: Option<Instant>,
    turned: Option<Instant>,
    latest: Option<Instant>,
}

impl Sampler {
    /// Whether this message is shown in a room that shows at most `cap` a second.
    pub fn offer(&mut self, sender: u64, cap: u32, now: Instant) -> bool {
        let cap = cap.min(MAX_CAP);
        // Threads may come with clocks read in another order than they get the lock.
        let now = self.latest.map_or(now, |latest| latest.max(now));
        self.latest = Some(now);
        self.forget(now);
        self.reckon(cap, now);
        let full = self.senders.len() >= MAX_SENDERS && !self.senders.contains_key(&sender);
        let key = if full { EVERYONE_ELSE } else { sender };
        let state = self.senders.entry(key).or_default();
        state.offered = state.offered.saturating_add(1);
        let has_its_share = self.share.is_some_and(|share| state.shown >= share.each);
        let may_have_more =
            self.share.is_some_and(|share| state.shown == share.each && self.on_top < share.on_top);
        if (has_its_share && !may_have_more) || self.log.len() >= cap as usize {
            return false;
        }
        state.shown += 1;
        self.on_top += u32::from(has_its_share);
        self.log.push_back((now, key));
        true
    }

    /// Senders that offered something in the last one to two seconds.
    pub fn senders(&mut self, now: Instant) -> u32 {
        let now = self.latest.map_or(now, |latest| latest.max(now));
        self.forget(now);
        let active = self.senders.values().filter(|sender| sender.offered > 0 || sender.offered_before > 0);
        active.count() as u32
    }

    fn forget(&mut self, now: Instant) {
        while let Some(&(at, sender)) = self.log.front() {
            if now.saturating_duration_since(at) < WINDOW {
                break;
            }
            self.log.pop_front();
            if let Some(state) = self.senders.get_mut(&sender) {
                let had_more = self.share.is_some_and(|share| state.shown > share.each);
                self.on_top = self.on_top.saturating_sub(u32::from(had_more));
                state.shown = state.shown.saturating_sub(1);
            }
        }
        let turned = *self.turned.get_or_insert(now);
        let age = now.saturating_duration_since(turned);
        if age >= WINDOW {
            let idle = age >= WINDOW * 2;
            self.senders.retain(|_, state| {
                state.offered_before = if idle { 0 } else { state.offered };
                state.offered = 0;
                state.offered_before > 0 || state.shown > 0
            });
            self.turned = Some(now);
        }
    }

    /// Fills the room's capacity with the senders' demand of the last one to two seconds, like water.
    fn reckon(&mut self, cap: u32, now: Instant) {
        if self.reckoned.is_some_and(|at| now.saturating_duration_since(at) < RECKONING) {
            return;
        }
        self.reckoned = Some(now);
        let age = self.turned.map_or(Duration::ZERO, |turned| now.saturating_duration_since(turned));
        let seconds = (WINDOW + age).as_secs_f64();
        let budget = (f64::from(cap) * seconds) as u64;
        let demands =
            self.senders.values().map(|state| u64::from(state.offered) + u64::from(state.offered_before));
        self.share = water_level(demands, budget).map(|(left, waiting)| {
            let rate = left as f64 / waiting as f64 / seconds;
            let each = (rate as u32).max(1);
            Share { each, on_top: ((rate - f64::from(each)).max(0.0) * waiting as f64).round() as u32 }
        });
        let has_more = |state: &&Sender| self.share.is_some_and(|share| state.shown > share.each);
        self.on_top = self.senders.values().filter(has_more).count() as u32;
    }
}

/// The level to which each demand can be met within the budget, as what is left for how many; nothing if
/// all can be met in full.
fn water_level(demands: impl Iterator<Item = u64>, budget: u64) -> Option<(u64, u64)> {
    let mut demands: Vec<u64> = demands.collect();
    demands.sort_unstable();
    let (mut left, mut waiting) = (budget, demands.len() as u64);
    for demand in demands {
        if demand.saturating_mul(waiting) > left {
            return Some((left, waiting));
        }
        left -= demand;
        waiting -= 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn a_quiet_room_shows_a_burst_of_the_cap_at_once_and_no_more() {
        let (mut sampler, now) = (Sampler::default(), Instant::now());
        assert_eq!((0..100).filter(|sender| sampler.offer(*sender, 20, now)).count(), 20);
        assert!(!sampler.offer(7, 20, now + Duration::from_millis(999)));
        assert!(sampler.offer(200, 20, now + WINDOW));
    }

    #[test]
    fn no_trailing_second_ever_holds_more_than_the_cap() {
        for seed in 0..20 {
            let mut random = StdRng::seed_from_u64(seed);
            let (mut sampler, mut now) = (Sampler::default(), Instant::now());
            let cap = random.random_range(1..40);
            let mut shown: Vec<Instant> = Vec::new();
            for _ in 0..5_000 {
                now += Duration::from_micros(random.random_range(0..20_000));
                if sampler.offer(random.random_range(0..50), cap, now) {
                    shown.push(now);
                }
            }
            assert!(shown.len() > 100, "seed {seed} shows something");
            for window in shown.windows(cap as usize + 1) {
                assert!(window[cap as usize] - window[0] >= WINDOW, "seed {seed}");
            }
        }
    }

    #[test]
    fn a_loud_sender_leaves_room_for_the_others() {
        let (mut sampler, start) = (Sampler::default(), Instant::now());
        let (mut loud, mut quiet) = (0, 0);
        for millisecond in 0..20_000_u64 {
            let now = start + Duration::from_millis(millisecond);
            let settled = u32::from(millisecond >= 2_000);
            loud += settled * u32::from(sampler.offer(1, 20, now));
            if millisecond % 100 == 50 {
                // Nine others and one turn idle: each of them once a second.
                quiet += settled * u32::from(sampler.offer(2 + (millisecond / 100) % 10, 20, now));
            }
        }
        assert!(quiet >= 175, "of 180 messages of the quiet {quiet} were shown");
        assert!((120..=190).contains(&loud), "of 18,000 messages of the loud one {loud} were shown");
    }

    #[test]
    fn shares_of_whole_messages_leave_no_place_empty() {
        for senders in [3, 7, 11, 13, 19] {
            let (mut sampler, start) = (Sampler::default(), Instant::now());
            let mut shown = vec![0; senders];
            for i in 0..10_000 {
                let sender = i as usize % senders;
                if sampler.offer(sender as u64, 20, start + Duration::from_millis(i)) && i >= 2_000 {
                    shown[sender] += 1;
                }
            }
            let all: u32 = shown.iter().sum();
            assert!((150..=160).contains(&all), "{senders}: {all} of 160");
            let (least, most) = (shown.iter().min().unwrap(), shown.iter().max().unwrap());
            assert!(most - least <= 8 + least / 4, "{senders}: {shown:?}");
        }
    }

    #[test]
    fn a_lone_sender_gets_the_whole_room() {
        let (mut sampler, start) = (Sampler::default(), Instant::now());
        let offers = (0..10_000).filter(|i| sampler.offer(1, 20, start + Duration::from_millis(*i)));
        assert_eq!(offers.count(), 200);
    }

    #[test]
    fn of_15_000_senders_once_each_within_30_s_about_600_are_shown() {
        let (mut sampler, start) = (Sampler::default(), Instant::now());
        let offers = (0..15_000).filter(|i| sampler.offer(*i, 20, start + Duration::from_millis(i * 2)));
        let shown = offers.count();
        assert!((580..=620).contains(&shown), "{shown}");
    }

    #[test]
    fn any_number_of_senders_is_tracked_in_bounded_memory() {
        let (mut sampler, now) = (Sampler::default(), Instant::now());
        for sender in 0..50_000 {
            sampler.offer(sender, 20, now);
        }
        assert!(sampler.senders.len() <= MAX_SENDERS + 1 && sampler.log.len() <= 20);
        sampler.offer(1, 20, now + Duration::from_secs(5));
        assert_eq!(sampler.senders.len(), 1, "who is silent is forgotten");
    }

    #[test]
    fn water_fills_small_demands_first() {
        assert_eq!(water_level([1, 1, 100].into_iter(), 20), Some((18, 1)));
        assert_eq!(water_level([5, 5].into_iter(), 10), None);
        assert_eq!(water_level([9, 9, 9].into_iter(), 10), Some((10, 3)));
    }
}
