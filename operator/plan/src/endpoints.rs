//! Which pods of a hot room take its new viewers now.
//!
//! A gateway spreads connections as it likes. Taking a pod that has more than its share out of the room's EndpointSlice
//! for a while brings the real numbers to the planned ones, whatever the gateway does.

use jiff::{SignedDuration, Timestamp};

use crate::pods::Pods;
use crate::{Endpoints, Room, Share};

/// A pod leaves at this part of its share, and comes back under 100 %.
const OVER_PERCENT: u64 = 110;
/// Under so many viewers a pod is never over its share: 11 viewers instead of 10 are no imbalance.
const SMALL_SHARE: u64 = 100;
/// A slice changes at most so often because of shares: some proxies reload, and cut connections, on each change. A new
/// placement is followed at once, and a full pod leaves at once.
const REST: SignedDuration = SignedDuration::from_secs(10);

/// The endpoints of a room placed so; `takers` are the pods that take viewers at all, ascending. While a rollout runs,
/// viewers come to pods at the newest revision while these have room: the others will send them away again.
pub(crate) fn endpoints(
    room: &Room,
    placement: &[Share],
    pods: &Pods<'_>,
    takers: &[u32],
    rolls: bool,
    now: Timestamp,
) -> Endpoints {
    let serves = |pod: u32| takers.binary_search(&pod).is_ok();
    let before = &room.endpoints;
    let mut alive: Vec<u32> = before.pods.iter().copied().filter(|&pod| serves(pod)).collect();
    alive.sort_unstable();
    alive.dedup();
    let counted = counted(room, placement);
    let able = || placement.iter().zip(&counted).filter(|(share, _)| serves(share.pod));
    let mut wanted: Vec<u32> = able()
        .filter(|(share, counted)| takes(share, **counted, pods, before))
        .map(|(share, _)| share.pod)
        .collect();
    if rolls && wanted.iter().any(|&pod| !pods.is_outdated(pod)) {
        wanted.retain(|&pod| !pods.is_outdated(pod));
    }
    if wanted.is_empty() {
        // All are over: turning everybody away from their pods would only move the load elsewhere.
        wanted = able().map(|(share, _)| share.pod).collect();
    }
    if wanted == alive {
        return Endpoints { pods: alive, changed_at: before.changed_at };
    }
    let rests = before.changed_at.is_some_and(|at| now.duration_since(at) < REST);
    if rests && !alive.is_empty() && !is_urgent(room, placement, pods, &alive, &wanted) {
        return Endpoints { pods: alive, changed_at: before.changed_at };
    }
    Endpoints { pods: wanted, changed_at: Some(now) }
}

/// Whether the slice has a pod that is full or not the room's any more, or lacks one that has just become the room's.
fn is_urgent(room: &Room, placement: &[Share], pods: &Pods<'_>, alive: &[u32], wanted: &[u32]) -> bool {
    let placed = |placement: &[Share], pod: u32| placement.iter().any(|share| share.pod == pod);
    let full = |pod: u32| pods.viewers(pod).is_some_and(|viewers| u64::from(viewers) >= pods.capacity(pod));
    alive.iter().any(|&pod| !placed(placement, pod) || (full(pod) && !wanted.contains(&pod)))
        || wanted.iter().any(|&pod| !alive.contains(&pod) && !placed(&room.placement, pod))
}

/// The room's viewers on each pod of its placement. A large room may have strays on a thousand others.
fn counted(room: &Room, placement: &[Share]) -> Vec<u64> {
    let mut counted = vec![0; placement.len()];
    for share in &room.viewers {
        if let Ok(nth) = placement.binary_search_by_key(&share.pod, |placed| placed.pod) {
            counted[nth] += u64::from(share.viewers);
        }
    }
    counted
}

fn takes(share: &Share, viewers: u64, pods: &Pods<'_>, before: &Endpoints) -> bool {
    let was_in = before.pods.contains(&share.pod);
    let Some(all) = pods.viewers(share.pod) else {
        // Unknown: as it was. One that was never in takes nothing new.
        return was_in;
    };
    let planned = u64::from(share.viewers).max(SMALL_SHARE);
    let percent = if was_in { OVER_PERCENT } else { 100 };
    u64::from(all) < pods.capacity(share.pod) && viewers * 100 < planned * percent
}

#[cfg(test)]
mod tests;
