//! Looks for what third parties are told of rooms: one that became hot, one that ended.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use danmu_crds::{HookEvent, RoomMode};
use serde_json::json;

use crate::{catalog::Catalog, hooks::Hooks, relay::Relay, room::Rooms};

/// How often rooms are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often a pod says that a room is still hot; while one does, no other tells it.
const STILL: Duration = Duration::from_secs(20);
/// Without that word a room may become hot again. All pods hear of the same manifest in this time.
const CLAIM: Duration = Duration::from_secs(60);
/// A room is hot no more under so many per cent of what made it hot.
const COOL: u64 = 60;

/// What is known of the rooms.
#[derive(Debug)]
pub(super) struct Watch {
    hooks: Arc<Hooks>,
    rooms: Arc<Rooms>,
    relay: Arc<Relay>,
    hot_from: AtomicU32,
    /// The listed rooms' modes.
    modes: Mutex<HashMap<String, RoomMode>>,
}

fn modes(catalog: &Catalog) -> HashMap<String, RoomMode> {
    catalog.rooms.iter().map(|(id, policy)| (id.clone(), policy.replay.mode)).collect()
}

/// The rooms that ended, and how.
fn ended(before: &HashMap<String, RoomMode>, now: &HashMap<String, RoomMode>) -> Vec<(String, &'static str)> {
    let ended = |(id, mode): (&String, &RoomMode)| match (mode, now.get(id)) {
        (_, None) => Some((id.clone(), "removed")),
        (RoomMode::Live, Some(RoomMode::OnDemand)) => Some((id.clone(), "onDemand")),
        _ => None,
    };
    before.iter().filter_map(ended).collect()
}

/// What a look at a room's audience leads to.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// It became hot.
    Hot,
    /// It is hot still, and it is time to say so.
    Still,
    Nothing,
}

/// The rooms that are hot, and when that was last said.
#[derive(Debug, Default)]
struct HotRooms(HashMap<Arc<str>, Instant>);

impl HotRooms {
    /// Forgets rooms that are hot no more, or not open here.
    fn cool(&mut self, audiences: &[(Arc<str>, u64)], from: u64) {
        let warm: HashMap<&str, u64> = audiences.iter().map(|(id, viewers)| (&**id, *viewers)).collect();
        self.0.retain(|id, _| warm.get(&**id).is_some_and(|viewers| viewers * 100 >= from * COOL));
    }

    fn look(&self, id: &str, viewers: u64, from: u64, now: Instant) -> Seen {
        match self.0.get(id) {
            Some(said) if now.saturating_duration_since(*said) >= STILL => Seen::Still,
            None if viewers >= from => Seen::Hot,
            _ => Seen::Nothing,
        }
    }
}

impl Watch {
    pub(super) fn new(
        catalog: &Catalog,
        hooks: Arc<Hooks>,
        rooms: Arc<Rooms>,
        relay: Arc<Relay>,
    ) -> Arc<Watch> {
        let hot_from = AtomicU32::new(catalog.fleet.hot_room_viewers);
        let modes = Mutex::new(modes(catalog));
        Arc::new(Watch { hooks, rooms, relay, hot_from, modes })
    }

    /// Takes a new catalog; of rooms that ended the first pod to claim it tells.
    pub(super) fn take(self: &Arc<Self>, catalog: &Catalog) {
        self.hot_from.store(catalog.fleet.hot_room_viewers, Ordering::Relaxed);
        let now = modes(catalog);
        let mut known = self.modes.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = ended(&known, &now);
        *known = now;
        drop(known);
        // Those who are told by this catalog for the first time hear of it too, those it leaves away no more.
        self.hooks.apply(&catalog.fleet);
        if ended.is_empty() || !self.hooks.wants(HookEvent::RoomEnded) {
            return;
        }
        let watch = Arc::clone(self);
        tokio::spawn(async move {
            for (room, reason) in ended {
                // Without Redis nobody knows who else tells it: twice is better than not at all.
                if watch.relay.claim(&room, &format!("ended-{reason}"), CLAIM).await.unwrap_or(true) {
                    let id = ulid::Ulid::generate().to_string();
                    watch.hooks.tell(HookEvent::RoomEnded, &id, json!({"room": room, "reason": reason}));
                }
            }
        });
    }

    /// Tells of rooms that become hot, for as long as the process lives.
    pub(super) async fn hot_rooms(self: Arc<Self>) {
        let mut hot = HotRooms::default();
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if !self.hooks.wants(HookEvent::RoomHot) {
                hot = HotRooms::default();
                continue;
            }
            self.look(&mut hot).await;
        }
    }

    async fn look(&self, hot: &mut HotRooms) {
        let from = u64::from(self.hot_from.load(Ordering::Relaxed));
        let audiences = self.rooms.audiences();
        hot.cool(&audiences, from);
        for (room, viewers) in audiences {
            let now = Instant::now();
            let seen = hot.look(&room, viewers, from, now);
            if seen == Seen::Nothing {
                continue;
            }
            // Redis is away: the next look tries again.
            let Ok(ours) = self.relay.claim(&room, "hot", CLAIM).await else { continue };
            if ours && seen == Seen::Hot {
                let id = ulid::Ulid::generate().to_string();
                self.hooks.tell(HookEvent::RoomHot, &id, json!({"room": &*room, "viewers": viewers}));
            }
            hot.0.insert(room, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_hot_until_it_has_cooled_well_below() {
        let (mut hot, now) = (HotRooms::default(), Instant::now());
        let room: Arc<str> = "a".into();
        let mut look = |viewers: u64, now: Instant| {
            hot.cool(&[(Arc::clone(&room), viewers)], 100);
            let seen = hot.look(&room, viewers, 100, now);
            if seen != Seen::Nothing {
                hot.0.insert(Arc::clone(&room), now);
            }
            seen
        };
        for (viewers, after, seen) in [
            (99, 0, Seen::Nothing),
            (100, 1, Seen::Hot),
            (99, 2, Seen::Nothing),
            (100, 3, Seen::Nothing),
            (60, 4, Seen::Nothing),
            (100, 21, Seen::Still),
            (59, 22, Seen::Nothing),
            (100, 23, Seen::Hot),
        ] {
            assert_eq!(look(viewers, now + Duration::from_secs(after)), seen, "{viewers} at {after}");
        }
    }

    #[test]
    fn a_room_that_is_not_open_here_any_more_is_forgotten() {
        let mut hot = HotRooms(HashMap::from([("a".into(), Instant::now())]));
        hot.cool(&[], 100);
        assert!(hot.0.is_empty());
    }

    #[test]
    fn a_room_ends_with_its_manifest_and_when_it_becomes_a_replay() {
        use RoomMode::{Live, OnDemand};
        let rooms = |all: &[(&str, RoomMode)]| {
            all.iter().map(|(id, mode)| ((*id).to_owned(), *mode)).collect::<HashMap<_, _>>()
        };
        let before = rooms(&[("gone", Live), ("kept", Live), ("replay", Live), ("again", OnDemand)]);
        let now = rooms(&[("kept", Live), ("replay", OnDemand), ("again", Live), ("new", Live)]);
        let mut ended = ended(&before, &now);
        ended.sort();
        assert_eq!(ended, [("gone".to_owned(), "removed"), ("replay".to_owned(), "onDemand")]);
    }
}
