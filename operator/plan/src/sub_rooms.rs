//! Which pods of a hot room hold which of its sub-rooms.
//!
//! The shares stay what they are. Where that keeps them about even, each pod holds whole sub-rooms, or each sub-room has
//! whole pods; else a sub-room may begin on one pod and end on the next. Either way there are fewer pairs of a pod and a
//! sub-room than there are pods and sub-rooms. As long as neither the pods nor the number change, nothing moves.

use std::collections::HashMap;

use crate::pods::Pods;
use crate::scale::Shared;
use crate::{Part, Room, Share, placement::Placement};

/// More sub-rooms than any room has; a higher number in a snapshot is a mistake, and must not cost time.
const MOST: u32 = 64;
/// How much more than its share a pod may hold for the sake of whole sub-rooms: its audiences come out larger by so much.
const UNEVEN_PERCENT: u64 = 125;

/// What is left on each pod, by ordinal, after all rooms are placed.
pub(crate) fn left(pods: &Pods<'_>, shared: &Shared, placements: &[Placement]) -> Vec<u64> {
    let counted = |pod: u32| shared.counted.get(pod as usize).copied().unwrap_or(0);
    let mut left: Vec<u64> =
        (0..pods.replicas).map(|pod| pods.capacity(pod).saturating_sub(counted(pod))).collect();
    for share in placements.iter().flat_map(|placement| &placement.shares) {
        if let Some(left) = left.get_mut(share.pod as usize) {
            *left = left.saturating_sub(u64::from(share.viewers));
        }
    }
    left
}

/// The parts of a room's sub-rooms on its pods, ascending; nothing for a room that has none.
pub(crate) fn lay(room: &Room, shares: &[Share], left: &[u64]) -> Vec<Part> {
    let number = room.sub_rooms.min(MOST);
    if number < 2 || shares.is_empty() {
        return Vec::new();
    }
    let mut before = room.parts.clone();
    before.sort_unstable();
    before.dedup();
    let table = Table { number: number as usize, shares, left };
    let hints = table.hints(&before);
    if hints.len() == before.len() && table.is_whole(&hints) {
        return before;
    }
    let pairs = if table.fits_evenly() { table.deal_out(&hints) } else { table.cut(&hints) };
    let parts = pairs
        .into_iter()
        .map(|(pod, sub)| Part { pod: shares[pod].pod, sub_room: u32::try_from(sub).unwrap_or(u32::MAX) });
    let mut parts: Vec<Part> = parts.collect();
    parts.sort_unstable();
    parts
}

/// The place of a share in the list, and a sub-room.
type Pair = (usize, usize);

struct Table<'a> {
    number: usize,
    /// Ascending by pod.
    shares: &'a [Share],
    left: &'a [u64],
}

impl Table<'_> {
    /// What was before and may still be: the sub-rooms on the fewest pods first, because others have other places to
    /// stay at.
    fn hints(&self, before: &[Part]) -> Vec<Pair> {
        let there = before.iter().filter_map(|part| {
            let pod = self.shares.binary_search_by_key(&part.pod, |share| share.pod).ok()?;
            Some((pod, usize::try_from(part.sub_room).ok().filter(|sub| *sub < self.number)?))
        });
        let mut hints: Vec<Pair> = there.collect();
        let places = tally(hints.iter().map(|&(_, sub)| sub));
        hints.sort_by_key(|&(pod, sub)| (places[&sub], pod, sub));
        hints
    }

    /// Whether every pod has a sub-room and every sub-room a pod, with no more pairs than needed.
    fn is_whole(&self, pairs: &[Pair]) -> bool {
        tally(pairs.iter().map(|&(pod, _)| pod)).len() == self.shares.len()
            && tally(pairs.iter().map(|&(_, sub)| sub)).len() == self.number
            && pairs.len() < self.shares.len() + self.number
    }

    /// Whether pods can hold whole sub-rooms, or be held by one, at about their shares and within their room.
    fn fits_evenly(&self) -> bool {
        let (pods, number) = (self.shares.len() as u64, self.number as u64);
        let viewers: u64 = self.shares.iter().map(|share| u64::from(share.viewers)).sum();
        let most = if number >= pods {
            (viewers * number.div_ceil(pods)).div_ceil(number)
        } else {
            viewers.div_ceil(number * (pods / number))
        };
        self.shares.iter().all(|share| {
            // Equal shares differ by 1.
            let planned = u64::from(share.viewers) + 1;
            let left = self.left.get(share.pod as usize).copied().unwrap_or(0);
            most <= planned + left && most * 100 <= planned * UNEVEN_PERCENT
        })
    }

    /// Whole sub-rooms for each pod, or whole pods for each sub-room.
    fn deal_out(&self, hints: &[Pair]) -> Vec<Pair> {
        if self.number >= self.shares.len() {
            let hints = hints.iter().map(|&(pod, sub)| (sub, pod));
            deal(self.number, self.shares.len(), hints).into_iter().map(|(sub, pod)| (pod, sub)).collect()
        } else {
            let on = tally(hints.iter().map(|&(pod, _)| pod));
            let mut hints = hints.to_vec();
            hints.sort_by_key(|(pod, _)| on[pod]);
            deal(self.shares.len(), self.number, hints.into_iter())
        }
    }

    /// Sub-rooms and pods in two lines of the same length, cut where either ends; what was before is cut out first. Each
    /// pair uses up a pod or a sub-room, the last one both: that bounds their number.
    fn cut(&self, hints: &[Pair]) -> Vec<Pair> {
        // A pod without viewers has a sub-room all the same.
        let weights = self.shares.iter().map(|share| u64::from(share.viewers.max(1)));
        let each: u64 = weights.clone().sum();
        let mut pods: Vec<u64> = weights.map(|weight| weight * self.number as u64).collect();
        let mut subs = vec![each; self.number];
        let mut pairs = Vec::new();
        let mut take = |(pod, sub): Pair| {
            let part = pods[pod].min(subs[sub]);
            pods[pod] -= part;
            subs[sub] -= part;
            if part > 0 {
                pairs.push((pod, sub));
            }
            (pods[pod] == 0, subs[sub] == 0)
        };
        for &hint in hints {
            take(hint);
        }
        let (mut pod, mut sub) = (0, 0);
        while pod < self.shares.len() && sub < self.number {
            let (full, placed) = take((pod, sub));
            pod += usize::from(full);
            sub += usize::from(placed);
        }
        pairs
    }
}

/// A bin for each item, about equally many in each: (item, bin). Items stay in a bin of `hints` if they can.
fn deal(items: usize, bins: usize, hints: impl Iterator<Item = Pair>) -> Vec<Pair> {
    let (each, mut more) = (items / bins, items % bins);
    let mut held = vec![0; bins];
    let mut bin_of = vec![None; items];
    let mut takes = |bin: usize| {
        let takes = held[bin] < each || (held[bin] == each && more > 0);
        more -= usize::from(takes && held[bin] == each);
        held[bin] += usize::from(takes);
        takes
    };
    for (item, bin) in hints {
        if bin_of[item].is_none() && takes(bin) {
            bin_of[item] = Some(bin);
        }
    }
    for bin_of in bin_of.iter_mut().filter(|bin| bin.is_none()) {
        *bin_of = (0..bins).find(|&bin| takes(bin));
    }
    bin_of.into_iter().enumerate().filter_map(|(item, bin)| Some((item, bin?))).collect()
}

fn tally(of: impl Iterator<Item = usize>) -> HashMap<usize, usize> {
    let mut tally = HashMap::new();
    for one in of {
        *tally.entry(one).or_default() += 1;
    }
    tally
}

#[cfg(test)]
mod tests;
