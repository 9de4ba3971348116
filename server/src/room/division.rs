//! How a room is divided into sub-rooms: who goes where, which of them are open here, and what happens when an edit
//! makes them more or fewer.

use std::{
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use danmu_wire::{Chat, Enter, Event};

use super::{
    GRACE, Room, Visitor,
    state::Entry,
    sub_room::{SubRoom, Told},
};
use crate::{relay::desk::unix_ms, splitmix::mixed};

/// What is held while the lane goes on or somebody takes a place, so that both happen in one order in all sub-rooms.
pub(super) struct Lane {
    /// Whether sub-room 0 publishes on a channel of its own.
    is_divided: bool,
    /// What this pod has published on whichever of the two channels sub-room 0 is not on: the room's, while it is divided.
    elsewhere: u64,
    /// Since when nobody is in the room.
    pub(super) empty_since: Option<Instant>,
}

impl Lane {
    pub(super) fn new(now: Instant) -> Lane {
        Lane { is_divided: false, elsewhere: 0, empty_since: Some(now) }
    }
}

/// A sub-room, as told to whoever looks at the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubViewers {
    /// Its number.
    pub sub: u32,
    /// Viewers on all pods, where somebody is in it here.
    pub viewers: u64,
    /// Viewers on this one.
    pub here: u64,
}

impl Room {
    pub(super) fn lane(&self) -> MutexGuard<'_, Lane> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many sub-rooms the room has.
    pub fn sub_rooms(&self) -> u32 {
        self.policy.load().rules().sub_rooms
    }

    /// Whether viewers are told of sub-rooms.
    pub(super) fn is_divided(&self) -> bool {
        self.sub_rooms() > 1
    }

    /// Every sub-room that is open here; 0 always is.
    pub(super) fn each(&self, mut each: impl FnMut(&Arc<SubRoom>)) {
        each(&self.first);
        self.others.load().iter().for_each(each);
    }

    /// The sub-room of this number, if it is open here.
    pub(super) fn sub(&self, number: u32) -> Option<Arc<SubRoom>> {
        if number == 0 {
            return Some(Arc::clone(&self.first));
        }
        self.others.load().iter().find(|sub| sub.number == number).cloned()
    }

    /// Where a viewer goes who asks for `wanted`: there, if the room has it; else to one of those placed on this pod.
    pub fn pick(&self, wanted: Option<u32>, viewer: Whom<'_>) -> u32 {
        let count = self.sub_rooms();
        if count < 2 {
            return 0;
        }
        if let Some(wanted) = wanted.filter(|wanted| *wanted < count) {
            return wanted;
        }
        let placed = self.placed.load();
        let here = placed.iter().copied().filter(|number| *number < count);
        choose(here, viewer).or_else(|| choose(0..count, viewer)).unwrap_or(0)
    }

    /// Takes the sub-rooms that are placed on this pod; whether they are others.
    pub(super) fn set_placed(&self, placed: Arc<[u32]>) -> bool {
        let is_news = **self.placed.load() != placed;
        self.placed.store(Arc::new(placed));
        is_news
    }

    /// Opens a sub-room here, if it is not open, and its channel, if the room is divided. It begins where another one
    /// stands in the lane: under the lock for the lane no event falls between the two.
    pub(super) fn open_sub(&self, lane: &Lane, number: u32) -> Arc<SubRoom> {
        let sub = self.sub(number).unwrap_or_else(|| {
            let now = Instant::now();
            let state = self.first.state().sibling(number, now);
            let key = self.next_key.fetch_add(1, Ordering::Relaxed);
            let sub = SubRoom::new(number, key, state, &self.ways, now);
            let mut others = self.others.load().as_ref().clone();
            others.push(Arc::clone(&sub));
            self.others.store(Arc::new(others));
            sub
        });
        if (lane.is_divided || number > 0) && sub.set_on_channel(true) {
            self.ways.relay.open_sub(&self.id, number);
        }
        sub
    }

    /// Puts the number of sub-rooms in force: from then on sub-room 0 has a channel of its own, or none any more.
    pub(super) fn divide(&self) {
        let mut lane = self.lane();
        let is_divided = self.is_divided();
        if lane.is_divided != is_divided {
            let channel = is_divided.then_some(0);
            lane.elsewhere = self.first.state().set_channel(channel, lane.elsewhere);
            lane.is_divided = is_divided;
            if !is_divided {
                self.close_channel(&self.first);
            } else if self.first.viewers() > 0 {
                self.open_sub(&lane, 0);
            }
        }
        // Those who are here learn the numbers of their sub-room, or that there is none.
        self.each(|sub| sub.mix());
    }

    fn close_channel(&self, sub: &SubRoom) {
        if sub.set_on_channel(false) {
            self.ways.relay.close_sub(&self.id, sub.number);
            sub.set_peers(crate::relay::Peers::default());
        }
    }

    /// Says something that came from elsewhere: in one sub-room, or in all of them.
    pub fn say_in(&self, sub: Option<u32>, chat: Chat) {
        self.offered.fetch_add(1, Ordering::Relaxed);
        let event = Event::Chat(chat);
        self.record(&event);
        if !self.fetches() {
            self.publish_in(sub, event);
        }
    }

    /// Tells who came in elsewhere, in one sub-room or in all of them.
    pub fn enter_in(&self, sub: Option<u32>, enter: Enter) {
        self.publish_in(sub, Event::Enter(enter));
    }

    fn publish_in(&self, sub: Option<u32>, event: Event) {
        let mut lane = self.lane();
        match sub {
            _ if !lane.is_divided => {
                drop(lane);
                self.first.take_live([event], true);
            }
            Some(number) => {
                let sub = self.open_sub(&lane, number);
                drop(lane);
                sub.take_live([event], true);
            }
            // On the room's own channel, once: every pod has that, and gives it to all its sub-rooms.
            None => {
                if self.ways.relay.has_peers() {
                    self.ways.relay.chat(&self.id, None, lane.elsewhere, std::slice::from_ref(&event));
                    lane.elsewhere += 1;
                }
                drop(lane);
                self.each(|sub| {
                    sub.arrives(&event);
                    sub.take_live([event.clone()], false);
                });
            }
        }
    }

    /// Takes what other pods have for the chat lane. What comes on the room's own channel is for all: it was said before
    /// its pod learned that the room is divided, or by the platform.
    pub(super) fn take_from_others(&self, sub: Option<u32>, events: Vec<Event>) {
        match sub {
            Some(number) => {
                if let Some(sub) = self.sub(number) {
                    sub.take_live(events, false);
                }
            }
            None if self.others.load().is_empty() => self.first.take_live(events, false),
            None => self.each(|sub| sub.take_live(events.iter().cloned(), false)),
        }
    }

    /// Gives a viewer of `from` another place, if that is not where it belongs, without a moment in which it is in
    /// neither. `written` is the last flush that it has got. None also while the new place is behind what it has seen: try
    /// again later.
    pub fn reseat(
        &self,
        from: &SubRoom,
        who: &Visitor<'_>,
        is_chosen: bool,
        written: u64,
    ) -> Option<(Arc<SubRoom>, Entry)> {
        let lane = self.lane();
        let number = self.pick(is_chosen.then_some(from.number), who.whom());
        if number == from.number {
            return None;
        }
        let position = from.state().seen(written);
        let sub = self.open_sub(&lane, number);
        let entry = sub.state().enter(position.as_ref(), unix_ms());
        if entry.behind {
            return None;
        }
        sub.seat(who.worker, who.format);
        Some((sub, entry))
    }

    /// Whether somebody here is in a sub-room that the room does not have any more.
    pub(super) fn has_misplaced(&self) -> bool {
        let count = self.sub_rooms();
        self.others.load().iter().any(|sub| sub.number >= count && sub.viewers() > 0)
    }

    /// Tells stats where they changed, and forgets sub-rooms that have been empty for long.
    pub(super) fn tend_subs(&self, now: Instant) {
        let told = Told { viewers: self.audience(), is_divided: self.is_divided(), shedding: self.stage() };
        let mut empty = Vec::new();
        let count = self.sub_rooms();
        self.each(|sub| {
            let grace = if sub.number < count { GRACE } else { Duration::ZERO };
            let idle = sub.tend(told, now);
            let is_open = sub.number > 0 || sub.is_on_channel();
            if is_open && idle.is_some_and(|idle| idle >= grace) {
                empty.push(Arc::clone(sub));
            }
        });
        for sub in empty {
            // Places are taken under this lock.
            let _lane = self.lane();
            if sub.viewers() > 0 {
                continue;
            }
            self.close_channel(&sub);
            let mut others = self.others.load().as_ref().clone();
            others.retain(|other| !Arc::ptr_eq(other, &sub));
            self.others.store(Arc::new(others));
        }
    }

    /// The sub-rooms that are open here, by number; none where the room is not divided.
    pub fn sub_viewers(&self) -> Vec<SubViewers> {
        let mut all = Vec::new();
        if self.is_divided() {
            self.each(|sub| {
                all.push(SubViewers { sub: sub.number, viewers: sub.audience(), here: sub.viewers() });
            });
            all.sort_by_key(|sub| sub.sub);
        }
        all
    }
}

/// By what a viewer is told apart.
#[derive(Clone, Copy, Debug)]
pub struct Whom<'a> {
    /// The token's subject.
    pub user: Option<&'a str>,
    /// The viewer's number on this pod.
    pub number: u64,
}

/// The number that ranks highest for this viewer: the same on every pod and in every version, and when numbers come or
/// go only the viewers of those move.
fn choose(numbers: impl Iterator<Item = u32>, viewer: Whom<'_>) -> Option<u32> {
    let seed = match viewer.user {
        // FNV-1a, 64 bits.
        Some(user) => user.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }),
        None => viewer.number,
    };
    numbers.max_by_key(|number| mixed(mixed(seed) ^ u64::from(*number).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(user: &str) -> Whom<'_> {
        Whom { user: Some(user), number: 0 }
    }

    #[test]
    fn a_user_has_the_same_sub_room_on_every_pod_and_in_every_version() {
        let chosen = ["ann", "bob", "名無し", ""].map(|user| choose(0..8, of(user)));
        assert_eq!(chosen, CHOSEN.map(Some));
        let elsewhere = Whom { user: Some("ann"), number: 77 };
        assert_eq!(choose(0..8, elsewhere), chosen[0]);
    }

    /// Written down, not computed: a reconnect during a rollout must not change anybody's audience.
    const CHOSEN: [u32; 4] = [5, 7, 0, 6];

    #[test]
    fn viewers_with_and_without_a_name_are_spread_evenly() {
        for count in [2, 3, 8, 64] {
            let mut seats = [vec![0u32; count as usize], vec![0u32; count as usize]];
            for number in 0..20_000u64 {
                let user = format!("user-{number}");
                let anonymous = choose(0..count, Whom { user: None, number }).unwrap();
                seats[0][anonymous as usize] += 1;
                seats[1][choose(0..count, of(&user)).unwrap() as usize] += 1;
            }
            let fair = 20_000 / count;
            // Six standard deviations.
            let off = 6 * f64::from(fair).sqrt() as u32;
            for seats in seats.iter().flatten() {
                assert!(seats.abs_diff(fair) <= off, "{seats} of {fair} in one of {count}");
            }
        }
    }

    proptest! {
        /// One more sub-room takes viewers from all others and moves nobody between those; one that goes gives its own
        /// viewers away and moves nobody else.
        #[test]
        fn only_viewers_of_what_comes_or_goes_move(user in ".{0,20}", count in 1u32..64, gone in 0u32..64) {
            let (before, after) = (choose(0..count, of(&user)), choose(0..=count, of(&user)));
            prop_assert!(after == before || after == Some(count));
            let left = choose((0..=count).filter(|number| *number != gone), of(&user));
            prop_assert!(left == after || after == Some(gone));
            prop_assert_ne!(left, Some(gone));
        }
    }
}
