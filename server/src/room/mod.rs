//! What a room is and does: batch, merge, number, remember, count.
//!
//! [`Rooms`] are the rooms of this process. `edge` brings viewers in and publishes through the relay,
//! which delivers here; each room is a [`state::State`] driven by what arrives, by the workers that
//! finish a fan-out, and by its tick. Every flush is encoded once a format, here.

mod desk;
pub mod id;
mod moderation;
mod policies;
mod replay;
mod rooms;
mod shedding;
pub mod state;
mod traced;

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use danmu_crds::Anonymous;
use danmu_wire::{
    Chat, Enter, Event, Mode, OnDemand, Position, Stats,
    frame::{self, Format},
};
use tokio::sync::Notify;

use crate::{
    gate::{Bucket, Gate, Policy, Rate},
    relay::{Here, Opening, Peers, Relay},
    rows::{FanOut, Flush, Flushed, Frames, RoomKey},
    segments::Segments,
    traces::{Taken, Traces},
};
use desk::Desk;
pub use desk::{ActError, Acted, Address, Tell};
pub use replay::{Destination, Place};
pub use rooms::{Entrance, Expel, Expelled, Rooms, Summary, Visitor};
use state::{Batch, Next, State};

/// How long an empty room is kept: a viewer who reloads finds the history.
const GRACE: Duration = Duration::from_secs(60);
/// How long an empty room with priority events is kept, for recovery after a long cut.
const LOG_GRACE: Duration = Duration::from_secs(600);
/// Least time between two `stats`: every one is a write to every viewer.
const STATS: Duration = Duration::from_secs(5);
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

/// One room of this process.
pub struct Room {
    /// What the rows call it.
    pub key: RoomKey,
    /// Its id.
    pub id: Arc<str>,
    /// What may be said here by whom; swapped when the manifest changes.
    policy: ArcSwap<Policy>,
    /// Mutes, bans and rate limits at work here.
    pub gate: Gate,
    state: Mutex<State>,
    /// Viewers by worker and format.
    seats: Vec<[AtomicU32; Format::ALL.len()]>,
    sampled: AtomicU64,
    tended: Mutex<Tended>,
    /// [`OPENING`], [`OPEN`] or [`ALONE`].
    phase: AtomicU8,
    /// Rung when the phase or the lane went on, for viewers who wait for it.
    settled: Notify,
    /// The other pods of this room.
    peers: Mutex<Peers>,
    /// The senders here as the other pods were last told.
    announced: AtomicU32,
    /// What the viewers here were last told.
    told_mode: Mutex<Mode>,
    arrivals: Mutex<Bucket>,
    desk: Desk,
    tell: Arc<OnceLock<Tell>>,
    traces: Arc<OnceLock<Arc<Traces>>>,
    /// Messages said here since load was last looked at, shown or not.
    offered: AtomicU64,
    shedder: Mutex<shedding::Shedder>,
    /// The shedder's last word.
    stage: AtomicU8,
    segments: Arc<Segments>,
    relay: Arc<Relay>,
    fan_out: Arc<dyn FanOut>,
    runtime: tokio::runtime::Handle,
    me: Weak<Room>,
}

/// What was last told in `stats`, and since when the room is empty.
struct Tended {
    viewers: u64,
    /// Somebody who joined was told another number than that.
    mixed: bool,
    at: Option<Instant>,
    empty_since: Option<Instant>,
}

impl Room {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// Viewers on this process.
    pub fn viewers(&self) -> u64 {
        self.seats.iter().flatten().map(|seat| u64::from(seat.load(Ordering::Acquire))).sum()
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

    /// A viewer left its row.
    pub fn leave(&self, worker: usize, format: Format) {
        if let Some(seat) = self.seat(worker, format) {
            seat.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// A message was left out of the sample; the others learn the count in `stats`.
    pub fn left_out(&self) {
        self.offered.fetch_add(1, Ordering::Relaxed);
        self.sampled.fetch_add(1, Ordering::Relaxed);
    }

    fn seat(&self, worker: usize, format: Format) -> Option<&AtomicU32> {
        self.seats.get(worker)?.get(format as usize)
    }

    /// Takes another policy; whether it is another one.
    fn set_policy(&self, policy: &Arc<Policy>) -> bool {
        if Arc::ptr_eq(&self.policy.load(), policy) {
            return false;
        }
        self.policy.store(Arc::clone(policy));
        self.state().set_history(policy.rules().history as usize);
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

    /// Tells everybody here, with the priority lane; whether there was room for it.
    fn tell(&self, event: Event) -> bool {
        let told = self.state().tell(event, Instant::now());
        match told {
            Ok(next) => {
                self.drive(next);
                true
            }
            Err(_) => {
                tracing::warn!(room = &*self.id, "too much waits: viewers were not told");
                false
            }
        }
    }

    /// Says something on this pod: to its viewers at once, to other pods with the next flush. While viewers
    /// fetch because the room sheds load, it is recorded only.
    pub fn say(&self, chat: Chat) {
        self.offered.fetch_add(1, Ordering::Relaxed);
        let event = Event::Chat(chat);
        self.record(&event);
        if !self.fetches() {
            self.arrives(&event);
            self.take_live(vec![event], true);
        }
    }

    /// Tells on all pods who came in, while the room is small enough that anybody would look.
    pub fn arrived(&self, user: &str, name: Option<&str>, now: Instant) {
        let below = u64::from(self.policy.load().rules().enter_below);
        if below <= self.audience() || self.gate.is_shadowed(user, now) {
            return;
        }
        let taken = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).take(ARRIVALS, now);
        if taken.is_ok() {
            self.enter(Enter { user: Some(user.to_owned()), name: name.map(str::to_owned) });
        }
    }

    /// Tells on all pods who came in.
    pub fn enter(&self, enter: Enter) {
        self.take_live(vec![Event::Enter(enter)], true);
    }

    fn take_live(&self, events: Vec<Event>, ours: bool) {
        let now = Instant::now();
        let mut state = self.state();
        let mut next = Next::Nothing;
        for event in events {
            let then = state.live(event, ours, now);
            next = if next == Next::Nothing { then } else { next };
        }
        drop(state);
        self.drive(next);
    }

    fn opened(&self, opening: Opening) {
        // Under the lock that a viewer is seated under: whoever came in before is told, whoever comes after
        // finds the epoch.
        let mut state = self.state();
        let in_use = self.phase.swap(OPEN, Ordering::AcqRel) != OPENING;
        let next = state.opened(opening, in_use, Instant::now());
        drop(state);
        self.settled.notify_waiters();
        self.drive(next);
    }

    /// Waits until the relay has told the room's epoch, and as much of its lane as the viewer has seen, or
    /// until that takes too long.
    pub async fn settle(&self, position: Option<&Position>) {
        let settled = async {
            loop {
                let rung = self.settled.notified();
                let phase = self.phase.load(Ordering::Acquire);
                if phase == ALONE
                    || (phase == OPEN && !position.is_some_and(|position| self.state().is_behind(position)))
                {
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

    /// The same for somebody who joins. Should it be a passing number, `stats` correct it, also when the
    /// others know the right one already.
    pub fn tell_audience(&self) -> u64 {
        let viewers = self.audience();
        let mut tended = self.tended.lock().unwrap_or_else(PoisonError::into_inner);
        tended.mixed |= tended.viewers != viewers;
        viewers
    }

    fn peers(&self) -> Peers {
        *self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many messages a second this pod shows of the room's cap.
    pub fn share(&self, policy: &Policy) -> u32 {
        let cap = self.shed(policy.rules().messages_per_second);
        if self.relay.is_degraded() {
            return self.peers().share_alone(cap);
        }
        self.peers().share(cap, self.announced.load(Ordering::Relaxed))
    }

    fn here(&self, now: Instant) -> Here {
        let senders = self.gate.senders(now);
        self.announced.store(senders, Ordering::Relaxed);
        let (messages, stage) = self.load();
        Here { room: Arc::clone(&self.id), viewers: self.viewers(), senders, messages, stage }
    }

    /// Does what the state asks for, until a worker or the tick goes on.
    fn drive(&self, mut next: Next) {
        loop {
            match next {
                Next::Nothing => return,
                Next::TickAt(at) => return self.tick_at(at),
                Next::Flush => {
                    let now = Instant::now();
                    let batch = self.state().take(now);
                    let traced = self.traced(&batch, now);
                    // Not when an event arrives: a viewer who is ahead waits for what is flushed.
                    if !batch.priority.is_empty() {
                        self.settled.notify_waiters();
                    }
                    if !batch.ours.is_empty() {
                        self.relay.chat(&self.id, batch.published, &batch.ours);
                    }
                    if self.fan_out(&batch, traced) {
                        return;
                    }
                    // Nobody is here: the batch is history already.
                    next = self.state().flushed(Instant::now());
                }
            }
        }
    }

    fn tick_at(&self, at: Instant) {
        let Some(room) = self.me.upgrade() else { return };
        self.runtime.spawn(async move {
            tokio::time::sleep_until(at.into()).await;
            let next = room.state().ticked(Instant::now());
            room.drive(next);
        });
    }

    /// Encodes the batch once a format and hands it to the workers with viewers; whether there are any.
    fn fan_out(&self, batch: &Batch, traced: Option<Taken>) -> bool {
        let here = |format: Format| {
            self.seats.iter().any(|s| s.get(format as usize).is_some_and(|s| s.load(Ordering::Acquire) > 0))
        };
        let workers: Vec<usize> = (0..self.seats.len())
            .filter(|w| self.seats.get(*w).is_some_and(|s| s.iter().any(|s| s.load(Ordering::Acquire) > 0)))
            .collect();
        let Some(owner) = self.me.upgrade().filter(|_| !workers.is_empty()) else { return false };
        let owner = match traced {
            Some(traced) => traced.follow(owner, self.viewers(), workers.len()),
            None => owner,
        };
        let frames = Format::ALL.map(|format| here(format).then(|| encode(batch, format)));
        let flush = Arc::new(Flush::new(
            self.key,
            batch.sequence,
            frames,
            batch.chats,
            batch.accepted,
            workers.len(),
            owner,
        ));
        for worker in workers {
            self.fan_out.fan_out(worker, Arc::clone(&flush));
        }
        true
    }

    /// Tells stats if they changed; whether the room may be forgotten.
    fn tend(&self, now: Instant) -> bool {
        self.sweep_desk(now);
        self.look_at_load(now);
        let (here, viewers) = (self.viewers(), self.audience());
        let mut tended = self.tended.lock().unwrap_or_else(PoisonError::into_inner);
        if here > 0 {
            tended.empty_since = None;
            let soon = tended.at.is_some_and(|at| now.saturating_duration_since(at) < STATS);
            let known = tended.viewers == viewers && !tended.mixed;
            if soon || (known && self.sampled.load(Ordering::Relaxed) == 0) {
                return false;
            }
            (tended.viewers, tended.mixed, tended.at) = (viewers, false, Some(now));
            drop(tended);
            let sampled = self.sampled.swap(0, Ordering::Relaxed);
            let next = self.state().stats(Stats { viewers, sampled, shedding: self.stage() }, now);
            self.drive(next);
            return false;
        }
        let empty_since = *tended.empty_since.get_or_insert(now);
        let grace = if self.state().has_log() { LOG_GRACE } else { GRACE };
        // Runtime bans and mutes live in the room when there is no Redis: they outlast an empty room.
        let keeps = || !self.relay.has_peers() && !self.gate.list(now).is_empty();
        now.saturating_duration_since(empty_since) > grace && !keeps()
    }
}

impl Flushed for Room {
    fn flushed(self: Arc<Self>, _: &Flush) {
        let next = self.state().flushed(Instant::now());
        self.drive(next);
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room").field("id", &self.id).finish_non_exhaustive()
    }
}

fn encode(batch: &Batch, format: Format) -> Frames {
    let mut bytes = Vec::new();
    if !batch.priority.is_empty() {
        format.push(&mut bytes, &frame::json_array(&batch.priority));
    }
    let priority = bytes.len();
    if !batch.chat.is_empty() {
        format.push(&mut bytes, &frame::json_array(&batch.chat));
    }
    Frames { bytes: bytes.into(), priority }
}
