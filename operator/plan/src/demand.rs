//! How many viewers each room must have room for, and which rooms are hot.

use std::cmp::Reverse;

use jiff::{SignedDuration, Timestamp};

use crate::pods::Pods;
use crate::{Fleet, Room, Source};

/// A hot room stays hot down to this part of `hotRoomViewers`: a route made and taken away costs every proxy.
const COLD_PERCENT: u64 = 60;
/// A planned number stands while the counted one is this near to it (5 %). Servers watch the rooms' status, so it must
/// not move with every viewer; the headroom covers the difference.
const HOLD_DIVISOR: u64 = 20;

/// What a room needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Viewers to have room for.
    pub(crate) viewers: u64,
    /// Viewers counted.
    pub(crate) observed: u64,
    pub(crate) source: Source,
}

/// A room's demand: what is scheduled or expected, or what is counted with headroom, whichever is more.
pub(crate) fn demand(room: &Room, fleet: &Fleet, pods: &Pods<'_>, now: Timestamp) -> Demand {
    let observed: u64 = room.viewers.iter().map(|share| u64::from(share.viewers)).sum();
    // Pods that never told: what was planned for them (headroom included) is the best guess, so that a restart of the
    // operator does not take every route away.
    let kept: u64 = room
        .placement
        .iter()
        .filter(|share| {
            pods.is_unknown(share.pod) && pods.get(share.pod).is_some_and(|pod| pod.load.is_none())
        })
        .map(|share| u64::from(share.viewers))
        .sum();
    let counted = hold(with_headroom(observed, fleet) + kept, room);
    let (planned, source) = planned(room, now, fleet.warmup_seconds);
    if counted > planned {
        Demand { viewers: counted, observed, source: Source::Observed }
    } else {
        Demand { viewers: planned, observed, source }
    }
}

/// Counted viewers and what is kept free above them.
pub(crate) fn with_headroom(viewers: u64, fleet: &Fleet) -> u64 {
    viewers.saturating_mul(100 + u64::from(fleet.headroom_percent)).div_ceil(100)
}

fn hold(counted: u64, room: &Room) -> u64 {
    let before: u64 = room.placement.iter().map(|share| u64::from(share.viewers)).sum();
    if counted.abs_diff(before) <= before / HOLD_DIVISOR { before } else { counted }
}

/// A window that runs says what to expect, more or less than usual; one that is about to start only adds.
fn planned(room: &Room, now: Timestamp, warmup_seconds: u32) -> (u64, Source) {
    let warmup = SignedDuration::from_secs(i64::from(warmup_seconds));
    let most = |windows: &mut dyn Iterator<Item = &crate::Window>| {
        windows.map(|window| u64::from(window.expected_viewers)).max()
    };
    let running = most(&mut room.schedule.iter().filter(|window| window.start <= now && now < window.end));
    let starting = most(&mut room.schedule.iter().filter(|window| {
        now < window.start && window.start.duration_since(now) <= warmup && window.start < window.end
    }));
    let usual = u64::from(room.expected_viewers);
    let base = running.unwrap_or(usual);
    match starting {
        Some(starting) if starting > base => (starting, Source::Scheduled),
        _ if running.is_some() => (base, Source::Scheduled),
        _ => (base, Source::Expected),
    }
}

/// What a room is: hot, cold, or cold only because the fleet has too many hot ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heat {
    Hot,
    Cold,
    /// Large enough, but one of too many.
    Crowded,
}

/// Which rooms are hot: by size or `minPods`, the largest if there are too many.
pub(crate) fn heat(rooms: &[&Room], demands: &[Demand], fleet: &Fleet) -> Vec<Heat> {
    let threshold = u64::from(fleet.hot_room_viewers).max(1);
    let mut heat = vec![Heat::Cold; rooms.len()];
    let mut hot: Vec<usize> = Vec::new();
    for (index, (room, demand)) in rooms.iter().zip(demands).enumerate() {
        let at_least = if room.hot { (threshold * COLD_PERCENT).div_ceil(100) } else { threshold };
        if !room.on_demand && (room.min_pods > 1 || demand.viewers >= at_least) {
            hot.push(index);
        }
    }
    // A room that is hot already counts as a quarter larger, so that two of a size do not take turns.
    let weight =
        |index: usize| if rooms[index].hot { demands[index].viewers * 5 / 4 } else { demands[index].viewers };
    hot.sort_by_key(|&index| (Reverse(rooms[index].min_pods > 1), Reverse(weight(index)), index));
    for (rank, index) in hot.into_iter().enumerate() {
        heat[index] = if rank < fleet.max_hot_rooms as usize { Heat::Hot } else { Heat::Crowded };
    }
    heat
}

#[cfg(test)]
mod tests;
