//! Which pods hold which hot room: equal shares over the fewest pods that fit, moving as little as possible.
//!
//! The order in which rooms choose makes moves rare: first the rooms whose shares do not grow stay where they are, then
//! those that grow and still fit, then those that must take pods more or move, the largest first, then new rooms; and
//! last, rooms that became much smaller give pods back.

use std::borrow::Cow;
use std::cmp::Reverse;

mod free;

use crate::Share;
use crate::pods::{Pods, Standing};
use crate::scale::Shared;
pub(crate) use free::Slots;

/// A room gives pods back only when its demand and so much more (15 %, at most a quarter of a pod) fits on fewer: adding
/// and dropping the same pod in turns would cost its viewers' locality each time.
const SPARE_PERCENT: u64 = 15;

/// A hot room that wants pods.
pub(crate) struct Wish<'a> {
    /// Decides between rooms of the same size, and comes back in the answer.
    pub(crate) room: usize,
    /// Viewers to place.
    pub(crate) viewers: u64,
    /// The fewest pods.
    pub(crate) min_pods: usize,
    /// Where it was, ascending by pod, each once.
    pub(crate) previous: Cow<'a, [Share]>,
}

impl Wish<'_> {
    fn unplaced(&self) -> Placement {
        Placement { room: self.room, shares: self.previous.to_vec(), uncovered: self.viewers }
    }

    /// What stays on pods that are `frozen`, and what is left to place.
    fn split(&self, frozen: impl Fn(&Share) -> bool) -> (Placement, Option<Wish<'_>>) {
        let mut kept = Placement { room: self.room, shares: Vec::new(), uncovered: 0 };
        if !self.previous.iter().any(&frozen) {
            return (kept, Some(Wish { previous: Cow::Borrowed(&self.previous), ..*self }));
        }
        let mut viewers = self.viewers;
        let (stays, previous): (Vec<Share>, Vec<Share>) =
            self.previous.iter().partition(|share| frozen(share));
        for share in stays {
            let here = u32::try_from(viewers).unwrap_or(u32::MAX).min(share.viewers);
            viewers -= u64::from(here);
            kept.shares.push(Share { viewers: here, ..share });
        }
        let min_pods = self.min_pods.saturating_sub(kept.shares.len());
        let done = viewers == 0 && min_pods == 0;
        let rest = Wish { room: self.room, viewers, min_pods, previous: Cow::Owned(previous) };
        (kept, (!done).then_some(rest))
    }
}

/// Where a room is placed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) room: usize,
    /// Equal shares (they differ by at most 1), ascending by pod.
    pub(crate) shares: Vec<Share>,
    /// Viewers over the pods' capacity.
    pub(crate) uncovered: u64,
}

/// How far rooms may be spread to make them fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// About twice the pods that the room's size asks for; if that does not do, there is no placement.
    Tidy,
    /// Whatever it takes, and over the pods' capacity if nothing does.
    Any,
}

/// Places all rooms on the pods that take viewers now (`takers`, ascending).
///
/// A pod whose load is unknown keeps exactly what it had. Without any pod, the placement stays what it was: it may be
/// the operator that does not see them.
pub(crate) fn settle(
    wishes: &[Wish<'_>],
    shared: &Shared,
    pods: &Pods<'_>,
    takers: &[u32],
) -> Vec<Placement> {
    if takers.is_empty() {
        return wishes.iter().map(Wish::unplaced).collect();
    }
    let serving = takers.iter().copied().filter(|&pod| pods.standing(pod) == Standing::Serving);
    let mut slots = shared.slots(pods, serving, takers.len());
    let frozen = |share: &Share| {
        pods.standing(share.pod) == Standing::Frozen && takers.binary_search(&share.pod).is_ok()
    };
    let (mut kept, mut open) = (Vec::with_capacity(wishes.len()), Vec::with_capacity(wishes.len()));
    for wish in wishes {
        let (fixed, rest) = wish.split(frozen);
        kept.push(fixed);
        open.extend(rest);
    }
    let mut placed = place(&open, &mut slots, Spread::Any).unwrap_or_default().into_iter().peekable();
    for kept in &mut kept {
        if let Some(placed) = placed.next_if(|placed| placed.room == kept.room) {
            kept.shares.extend(placed.shares);
            kept.shares.sort_unstable();
            kept.uncovered = placed.uncovered;
        }
    }
    kept
}

/// Places all rooms. With [`Spread::Tidy`], `None` says that they do not fit.
pub(crate) fn place(wishes: &[Wish<'_>], slots: &mut Slots, spread: Spread) -> Option<Vec<Placement>> {
    let wanted: u64 = wishes.iter().map(|wish| wish.viewers).sum();
    if spread == Spread::Tidy && wanted > slots.total_free() {
        return None;
    }
    let mut orders: Vec<Order<'_>> = wishes.iter().map(|wish| Order::new(wish, slots)).collect();
    orders.sort_unstable_by_key(Order::turn);
    let (mut placed, mut deferred, mut shrunk) = (Vec::with_capacity(orders.len()), Vec::new(), Vec::new());
    for order in orders {
        if !order.may_stay(slots) {
            deferred.push(order);
            continue;
        }
        let placement = order.take(order.previous.clone(), slots);
        if order.share_over(order.previous.len()) < order.share {
            shrunk.push((order, placement));
        } else {
            placed.push(placement);
        }
    }
    for order in deferred {
        let chosen = match order.change(slots, spread) {
            Some(chosen) => chosen,
            None if spread == Spread::Tidy => return None,
            None => order.crowd_in(slots),
        };
        placed.push(order.take(chosen, slots));
    }
    placed.extend(shrunk.into_iter().map(|(order, placement)| order.give_back(placement, slots)));
    placed.sort_unstable_by_key(|placement| placement.room);
    Some(placed)
}

/// A wish, seen from the slots.
struct Order<'a> {
    wish: &'a Wish<'a>,
    /// The slots where the room is, in the slots' order.
    previous: Vec<usize>,
    /// The largest share it had.
    share: u64,
    /// `min_pods`, or as many as there are.
    fewest: usize,
}

impl<'a> Order<'a> {
    fn new(wish: &'a Wish<'a>, slots: &Slots) -> Self {
        let mut previous: Vec<usize> =
            wish.previous.iter().filter_map(|share| slots.slot(share.pod)).collect();
        previous.sort_unstable();
        previous.dedup();
        let share = wish.previous.iter().map(|share| u64::from(share.viewers)).max().unwrap_or(0);
        let fewest = wish.min_pods.max(1).min(slots.len().max(1));
        Self { wish, previous, share, fewest }
    }

    fn turn(&self) -> (u8, Reverse<u64>, usize) {
        let class = match self.previous.len() {
            0 => 2,
            pods => u8::from(self.share_over(pods) > self.share),
        };
        (class, Reverse(self.wish.viewers), self.wish.room)
    }

    fn share_over(&self, pods: usize) -> u64 {
        self.wish.viewers.div_ceil(pods as u64)
    }

    /// Whether the pods it has are enough and hold its share.
    fn may_stay(&self, slots: &Slots) -> bool {
        let share = self.share_over(self.previous.len().max(1));
        self.previous.len() >= self.fewest && self.previous.iter().all(|&slot| slots.free(slot) >= share)
    }

    /// Only the lowest of its pods, if it has become much smaller and what the others left free is enough.
    fn give_back(&self, placement: Placement, slots: &mut Slots) -> Placement {
        let had = self.previous.len();
        let spare = (self.wish.viewers * SPARE_PERCENT / 100).min(slots.largest() / 4);
        let roomy = self.wish.viewers + spare;
        let least = self.fewest.max(pods_for(roomy, slots.largest()));
        let own = self.share_over(had).saturating_sub(1);
        let fits = |pods: usize| {
            self.previous[..pods].iter().all(|&slot| slots.free(slot) + own >= roomy.div_ceil(pods as u64))
        };
        let Some(pods) = (least..had).find(|&pods| fits(pods)) else { return placement };
        for share in &placement.shares {
            if let Some(slot) = slots.slot(share.pod) {
                slots.release(slot, u64::from(share.viewers));
            }
        }
        self.take(self.previous[..pods].to_vec(), slots)
    }

    /// The least change that makes it fit: another pod for one in four, more pods, other pods.
    fn change(&self, slots: &mut Slots, spread: Spread) -> Option<Vec<usize>> {
        let had = self.previous.len();
        let tidy = self
            .settle_from(had, had / 4, slots, Spread::Tidy)
            .or_else(|| self.add(slots, Spread::Tidy))
            .or_else(|| self.settle_from(had, had, slots, Spread::Tidy))
            .or_else(|| self.settle_from(0, had, slots, Spread::Tidy));
        match spread {
            Spread::Tidy => tidy,
            Spread::Any => tidy.or_else(|| self.settle_from(had, had, slots, Spread::Any)),
        }
    }

    /// All the pods it has and the fewest more.
    fn add(&self, slots: &mut Slots, spread: Spread) -> Option<Vec<usize>> {
        let least_free = self.previous.iter().map(|&slot| slots.free(slot)).min().filter(|&free| free > 0)?;
        let fewest = self.fewest.max(self.previous.len()).max(pods_for(self.wish.viewers, least_free));
        self.counts(fewest, slots, spread).find_map(|pods| {
            let others = pods - self.previous.len();
            let mut chosen = slots.find(others, self.share_over(pods), &self.previous)?;
            chosen.extend(&self.previous);
            Some(chosen)
        })
    }

    /// The fewest pods from `fewest` on that fit. Pods it has stay if they hold the share; at most `replaced` do not.
    fn settle_from(
        &self,
        fewest: usize,
        replaced: usize,
        slots: &mut Slots,
        spread: Spread,
    ) -> Option<Vec<usize>> {
        let fewest = fewest.max(self.fewest).max(pods_for(self.wish.viewers, slots.most_free()));
        self.counts(fewest, slots, spread).find_map(|pods| {
            let share = self.share_over(pods);
            let mut chosen: Vec<usize> =
                self.previous.iter().copied().filter(|&slot| slots.free(slot) >= share).take(pods).collect();
            if chosen.len() + replaced < self.previous.len() {
                return None;
            }
            let others = slots.find(pods - chosen.len(), share, &self.previous)?;
            chosen.extend(others);
            Some(chosen)
        })
    }

    /// Numbers of pods to try. The steps grow, so that a room that fits nowhere does not cost pods squared.
    fn counts(&self, fewest: usize, slots: &Slots, spread: Spread) -> impl Iterator<Item = usize> + use<> {
        let ideal = self.fewest.max(pods_for(self.wish.viewers, slots.largest())).min(slots.len());
        let most = match spread {
            Spread::Tidy => (ideal * 2 + 6).min(slots.len()),
            Spread::Any => slots.len(),
        };
        std::iter::successors(Some(fewest), |&pods| Some(pods.saturating_add(1 + pods / 16)))
            .take_while(move |&pods| pods <= most)
    }

    /// Where the most of it is covered, when it cannot all be: the pods it has, and those with the most free.
    fn crowd_in(&self, slots: &Slots) -> Vec<usize> {
        let had = self.previous.len();
        if slots.most_free() == 0 {
            return if had >= self.fewest { self.previous.clone() } else { slots.least_over(self.fewest) };
        }
        let mut ranked = self.previous.clone();
        ranked.extend(slots.by_free().into_iter().filter(|slot| self.previous.binary_search(slot).is_err()));
        let covered = |pods: usize| {
            let share = self.share_over(pods.max(1));
            ranked[..pods].iter().map(|&slot| share.min(slots.free(slot))).sum::<u64>()
        };
        // Each pod more must be worth a quarter of one: an overfull fleet should not also be restless.
        let worth = (slots.largest() / 4).min(self.wish.viewers / 4);
        let mut pods = if had >= self.fewest { had } else { self.fewest.min(ranked.len()) };
        let (mut best, mut most) = (pods, covered(pods) + worth);
        while pods < ranked.len() {
            pods = (pods + 1 + pods / 4).min(ranked.len());
            let now = covered(pods);
            if now > most {
                (best, most) = (pods, now);
            }
        }
        ranked.truncate(best);
        ranked
    }

    fn take(&self, mut chosen: Vec<usize>, slots: &mut Slots) -> Placement {
        chosen.sort_unstable_by_key(|&slot| slots.pod(slot));
        let (pods, mut uncovered) = (chosen.len().max(1) as u64, 0);
        let (share, rest) = (self.wish.viewers / pods, self.wish.viewers % pods);
        let shares = (0u64..).zip(chosen).map(|(nth, slot)| {
            let viewers = share + u64::from(nth < rest);
            uncovered += viewers.saturating_sub(slots.free(slot));
            slots.reserve(slot, viewers);
            Share { pod: slots.pod(slot), viewers: u32::try_from(viewers).unwrap_or(u32::MAX) }
        });
        let shares: Vec<Share> = shares.collect();
        if shares.is_empty() {
            uncovered = self.wish.viewers;
        }
        Placement { room: self.wish.room, shares, uncovered }
    }
}

fn pods_for(viewers: u64, capacity: u64) -> usize {
    if capacity == 0 {
        return usize::from(viewers > 0) * usize::MAX;
    }
    usize::try_from(viewers.div_ceil(capacity)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
