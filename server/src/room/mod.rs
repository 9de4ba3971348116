//! What a room is and does: batch, merge, number, remember, count.
//!
//! [`Rooms`] are the rooms of this process. `edge` brings viewers in and publishes through the relay,
//! which delivers here. A room is divided into sub-rooms, most of them into one; each of those is a [`state::State`]
//! driven by what arrives, by the workers that finish a fan-out, and by its tick.

mod desk;
mod division;
pub mod id;
mod moderation;
mod policies;
mod replay;
mod reseating;
mod rooms;
mod shedding;
pub mod state;
mod sub_room;
mod traced;

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use danmu_crds::Anonymous;
use danmu_wire::{Chat, Enter, Event, Mode, OnDemand, Position};

use crate::{
    gate::{Bucket, Gate, Policy, Rate},
    relay::{Here, Opening, Peers},
    rows::RoomKey,
    segments::Segments,
};
use desk::Desk;
pub use desk::{ActError, Acted, Address, Tell};
use division::Lane;
pub use division::{SubViewers, Whom};
pub use replay::{Destination, Place};
pub use reseating::{Reseat, Turn};
pub use rooms::{Entrance, Expel, Expelled, Rooms, Summary, Visitor};
pub use state::Entry;
use state::Full;
pub use sub_room::SubRoom;
use sub_room::Ways;

/// How long an empty room is kept: a viewer who reloads finds the history.
const GRACE: Duration = Duration::from_secs(60);
/// How long an empty room with priority events is kept, for recovery after a long cut.
const LOG_GRACE: Duration = Duration::from_secs(600);
/// How long a viewer waits at most for a room that the relay is about to connect.
const SETTLE: Duration = Duration::from_millis(1500);

/// How often it is told who comes in, on each pod.
const ARRIVALS: Rate = Rate { limit: 5, period: Duration::from_secs(1) };

/// The relay has not answered yet.
const OPENING: u8 = 0;
/// The relay has told the epoch.
const OPEN: u8 = 1;
/// The relay is away; the room goes on by itself.
const ALONE: u8 = 2;

/// One room of this process: what spans all its sub-rooms.
pub struct Room {
    /// Its id.
    pub id: Arc<str>,
    /// What may be said here by whom; swapped when the manifest changes.
    policy: ArcSwap<Policy>,
    /// Mutes, bans and rate limits at work here.
    pub gate: Gate,
    /// Sub-room 0: all there is of a room that is not divided.
    first: Arc<SubRoom>,
    /// The other sub-rooms that are open here; changed under the lock for the lane.
    others: ArcSwap<Vec<Arc<SubRoom>>>,
    /// The sub-rooms that are placed on this pod; empty where none are told.
    placed: ArcSwap<Arc<[u32]>>,
    lane: Mutex<Lane>,
    /// [`OPENING`], [`OPEN`] or [`ALONE`].
    phase: AtomicU8,
    /// The other pods of this room.
    peers: Mutex<Peers>,
    /// What the viewers here were last told.
    told_mode: Mutex<Mode>,
    arrivals: Mutex<Bucket>,
    desk: Desk,
    tell: Arc<OnceLock<Tell>>,
    /// Messages said here since load was last looked at, shown or not.
    offered: AtomicU64,
    shedder: Mutex<shedding::Shedder>,
    /// The shedder's last word.
    stage: AtomicU8,
    /// Viewers are about to be looked at for whether they are in the right sub-room.
    reseating: AtomicBool,
    segments: Arc<Segments>,
    ways: Arc<Ways>,
    next_key: Arc<AtomicU64>,
}

impl Room {
    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// What the rows call its sub-rooms.
    pub fn keys(&self) -> Vec<RoomKey> {
        let mut keys = Vec::new();
        self.each(|sub| keys.push(sub.key));
        keys
    }

    /// Viewers on this process.
    pub fn viewers(&self) -> u64 {
        let mut viewers = 0;
        self.each(|sub| viewers += sub.viewers());
        viewers
    }

    /// What the room allows, as viewers are told.
    pub fn mode(&self) -> Mode {
        let policy = self.policy.load();
        let rules = policy.rules();
        Mode {
            offset: 0,
            anonymous: match rules.anonymous {
                Anonymous::Deny => "deny",
                Anonymous::Watch => "watch",
                Anonymous::Speak => "speak",
            }
            .to_owned(),
            slow_mode_seconds: self.gate.slow_mode_seconds(&policy),
            max_length: rules.max_length,
            on_demand: self.on_demand(),
        }
    }

    /// A message was left out of a sub-room's sample.
    pub fn left_out(&self, sub: &SubRoom) {
        self.offered.fetch_add(1, Ordering::Relaxed);
        sub.left_out();
    }

    /// Takes another policy; whether it is another one.
    fn set_policy(&self, policy: &Arc<Policy>) -> bool {
        if Arc::ptr_eq(&self.policy.load(), policy) {
            return false;
        }
        self.policy.store(Arc::clone(policy));
        self.divide();
        self.each(|sub| sub.state().set_history(policy.rules().history as usize));
        self.tell_mode();
        true
    }

    /// Tells everybody here what the room allows, if that changed. Every pod learns of it itself, so the mode
    /// does not go through the relay.
    fn tell_mode(&self) {
        let mut told = self.told_mode.lock().unwrap_or_else(PoisonError::into_inner);
        let mode = self.mode();
        // The live position moves by itself and is no change.
        let fixed =
            Mode { on_demand: mode.on_demand.map(|it| OnDemand { at_ms: None, ..it }), ..mode.clone() };
        if *told != fixed && self.tell(Event::Mode(mode)) {
            *told = fixed;
        }
    }

    /// Tells everybody here, with the priority lane; whether there was room for it everywhere.
    fn tell(&self, event: Event) -> bool {
        let mut told = true;
        self.each(|sub| told &= sub.tell(event.clone()));
        told
    }

    /// Takes the next numbered event of the priority lane: in all sub-rooms, or in none, so that nobody gets it twice
    /// when it comes again.
    fn take_priority(&self, event: &Event) -> Result<(), Full> {
        let now = Instant::now();
        let lane = self.lane();
        let mut is_full = false;
        self.each(|sub| is_full |= sub.state().is_full());
        if is_full {
            return Err(Full);
        }
        let mut next = Vec::new();
        self.each(|sub| {
            sub.arrives(event);
            let then = sub.state().priority_in_any_case(event.clone(), now);
            next.push((Arc::clone(sub), then));
        });
        drop(lane);
        next.into_iter().for_each(|(sub, next)| sub.drive(next));
        Ok(())
    }

    /// Says something in a sub-room on this pod: to its viewers at once, to other pods with the next flush. While
    /// viewers fetch because the room sheds load, it is recorded only.
    pub fn say(&self, sub: &SubRoom, chat: Chat) {
        self.offered.fetch_add(1, Ordering::Relaxed);
        let event = Event::Chat(chat);
        self.record(&event);
        if !self.fetches() {
            sub.take_live([event], true);
        }
    }

    /// Tells in a sub-room who came in, while the room is small enough that anybody would look.
    pub fn arrived(&self, sub: &SubRoom, user: &str, name: Option<&str>, now: Instant) {
        let below = u64::from(self.policy.load().rules().enter_below);
        if below <= self.audience() || self.gate.is_shadowed(user, now) {
            return;
        }
        let taken = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).take(ARRIVALS, now);
        if taken.is_ok() {
            let enter = Enter { user: Some(user.to_owned()), name: name.map(str::to_owned) };
            sub.take_live([Event::Enter(enter)], true);
        }
    }

    fn opened(&self, opening: Opening) {
        // Under the lock that a viewer is seated under: whoever came in before is told, whoever comes after
        // finds the epoch.
        let lane = self.lane();
        let in_use = self.phase.swap(OPEN, Ordering::AcqRel) != OPENING;
        let now = Instant::now();
        let others = self.others.load();
        let then: Vec<_> =
            others.iter().map(|sub| sub.state().opened(opening.clone(), in_use, now)).collect();
        let next = self.first.state().opened(opening, in_use, now);
        drop(lane);
        self.ways.settled.notify_waiters();
        self.first.drive(next);
        others.iter().zip(then).for_each(|(sub, next)| sub.drive(next));
    }

    /// Waits until the relay has told the room's epoch, and as much of its lane as the viewer has seen has come to its
    /// sub-room, or until that takes too long.
    pub async fn settle(&self, seen: Option<(&SubRoom, &Position)>) {
        let settled = async {
            loop {
                let rung = self.ways.settled.notified();
                let phase = self.phase.load(Ordering::Acquire);
                let is_behind = || seen.is_some_and(|(sub, position)| sub.state().is_behind(position));
                if phase == ALONE || (phase == OPEN && !is_behind()) {
                    return;
                }
                rung.await;
            }
        };
        let _ = tokio::time::timeout(SETTLE, settled).await;
    }

    /// Viewers on all pods.
    pub fn audience(&self) -> u64 {
        self.viewers().saturating_add(self.peers().viewers)
    }

    /// The same for somebody who joins, and those of the sub-room where the room is divided.
    pub fn tell_audience(&self, sub: &SubRoom) -> (u64, Option<u64>) {
        sub.tell_audience(self.audience(), self.is_divided())
    }

    fn peers(&self) -> Peers {
        *self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a message is shown to its sub-room.
    pub fn sample(&self, sub: &SubRoom, sender: u64, policy: &Policy, now: Instant) -> bool {
        sub.sample(sender, self.share(sub, policy), now)
    }

    /// How many messages a second this pod shows of the cap, which is what one viewer sees.
    fn share(&self, sub: &SubRoom, policy: &Policy) -> u32 {
        let cap = self.shed(policy.rules().messages_per_second);
        let peers = if sub.is_on_channel() { sub.peers() } else { self.peers() };
        if self.ways.relay.is_degraded() {
            return peers.share_alone(cap);
        }
        peers.share(cap, sub.announced())
    }

    /// The room as other pods are told of it, and its sub-rooms that have channels of their own.
    fn here(&self, now: Instant, all: &mut Vec<Here>) {
        let (messages, stage) = self.load();
        let at = all.len();
        let room = Here { room: Arc::clone(&self.id), sub: None, viewers: 0, senders: 0, messages, stage };
        all.push(room.clone());
        let (mut viewers, mut senders) = (0, 0);
        self.each(|sub| {
            let here = Here {
                sub: Some(sub.number),
                viewers: sub.viewers(),
                senders: sub.announce(now),
                ..room.clone()
            };
            (viewers, senders) = (viewers + here.viewers, senders + here.senders);
            if sub.is_on_channel() {
                all.push(Here { messages: 0, stage: 0, ..here });
            }
        });
        if let Some(room) = all.get_mut(at) {
            (room.viewers, room.senders) = (viewers, senders);
        }
    }

    /// Looks after the room; whether it may be forgotten.
    fn tend(&self, now: Instant) -> bool {
        self.sweep_desk(now);
        self.look_at_load(now);
        self.tend_subs(now);
        let mut lane = self.lane();
        if self.viewers() > 0 {
            lane.empty_since = None;
            return false;
        }
        let empty_since = *lane.empty_since.get_or_insert(now);
        drop(lane);
        let grace = if self.first.state().has_log() { LOG_GRACE } else { GRACE };
        // Runtime bans and mutes live in the room when there is no Redis: they outlast an empty room.
        let keeps = || !self.ways.relay.has_peers() && !self.gate.list(now).is_empty();
        now.saturating_duration_since(empty_since) > grace && !keeps()
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
