//! One audience of a room: what is said in it, who sits in it, and what its viewers are written.
//!
//! A room that is not divided has one, of number 0. What spans all of them (rules, moderation, the priority lane's
//! order) is the room's; each keeps its own copy of the lane's newest events, because each flushes at its own time.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use danmu_wire::{
    Event, Stats,
    frame::{self, Format},
};
use tokio::sync::Notify;

use super::state::{Batch, Next, State};
use crate::{
    gate::Sampler,
    relay::{Peers, Relay},
    rows::{FanOut, Flush, Flushed, Frames, RoomKey},
    traces::{Taken, Traces},
};

/// Least time between two `stats`: every one is a write to every viewer.
const STATS: Duration = Duration::from_secs(5);

/// What all sub-rooms of a room write through.
pub(super) struct Ways {
    /// The room's id.
    pub(super) id: Arc<str>,
    pub(super) relay: Arc<Relay>,
    pub(super) fan_out: Arc<dyn FanOut>,
    pub(super) runtime: tokio::runtime::Handle,
    /// Rung when the room's phase or the lane went on, for viewers who wait for it.
    pub(super) settled: Notify,
    /// Where messages are traced, once that is set.
    pub(super) traces: Arc<OnceLock<Arc<Traces>>>,
}

/// One audience of a room on this process.
pub struct SubRoom {
    /// Its number, from 0.
    pub number: u32,
    /// What the rows call it.
    pub key: RoomKey,
    state: Mutex<State>,
    /// Viewers by worker and format.
    seats: Vec<[AtomicU32; Format::ALL.len()]>,
    sampled: AtomicU64,
    /// Chooses what is shown: the cap is what one viewer sees.
    sampler: Mutex<Sampler>,
    tended: Mutex<Tended>,
    /// The relay has a channel open for it: the room is divided and somebody is here.
    on_channel: AtomicBool,
    /// The other pods on that channel.
    peers: Mutex<Peers>,
    /// The senders here as the other pods were last told.
    announced: AtomicU32,
    pub(super) ways: Arc<Ways>,
    me: Weak<SubRoom>,
}

/// What was last told in `stats`, and since when nobody is here.
struct Tended {
    viewers: u64,
    sub_viewers: Option<u64>,
    /// Somebody who joined was told another number than that.
    mixed: bool,
    at: Option<Instant>,
    empty_since: Option<Instant>,
}

/// What viewers are told of the room.
#[derive(Clone, Copy)]
pub(super) struct Told {
    pub(super) viewers: u64,
    pub(super) is_divided: bool,
    pub(super) shedding: u8,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SubRoom {
    pub(super) fn new(
        number: u32,
        key: RoomKey,
        state: State,
        ways: &Arc<Ways>,
        now: Instant,
    ) -> Arc<SubRoom> {
        Arc::new_cyclic(|me| SubRoom {
            number,
            key,
            state: Mutex::new(state),
            seats: (0..ways.fan_out.workers()).map(|_| Default::default()).collect(),
            sampled: AtomicU64::new(0),
            sampler: Mutex::default(),
            tended: Mutex::new(Tended {
                viewers: 0,
                sub_viewers: None,
                mixed: false,
                at: None,
                empty_since: Some(now),
            }),
            on_channel: AtomicBool::new(false),
            peers: Mutex::default(),
            announced: AtomicU32::new(0),
            ways: Arc::clone(ways),
            me: me.clone(),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Viewers on this process.
    pub fn viewers(&self) -> u64 {
        self.seats.iter().flatten().map(|seat| u64::from(seat.load(Ordering::Acquire))).sum()
    }

    /// Viewers on all pods, where the room is divided.
    pub fn audience(&self) -> u64 {
        self.viewers().saturating_add(self.peers().viewers)
    }

    pub(super) fn is_on_channel(&self) -> bool {
        self.on_channel.load(Ordering::Acquire)
    }

    /// Notes that the relay has a channel for it, or has none any more; whether that is news.
    pub(super) fn set_on_channel(&self, is_on: bool) -> bool {
        self.on_channel.swap(is_on, Ordering::AcqRel) != is_on
    }

    pub(super) fn peers(&self) -> Peers {
        *locked(&self.peers)
    }

    pub(super) fn set_peers(&self, peers: Peers) {
        *locked(&self.peers) = peers;
    }

    /// A viewer takes a place, under the room's lock for the lane.
    pub(super) fn seat(&self, worker: usize, format: Format) {
        if let Some(seat) = self.seat_of(worker, format) {
            seat.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// A viewer left its row.
    pub fn leave(&self, worker: usize, format: Format) {
        if let Some(seat) = self.seat_of(worker, format) {
            seat.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn seat_of(&self, worker: usize, format: Format) -> Option<&AtomicU32> {
        self.seats.get(worker)?.get(format as usize)
    }

    /// A message was left out of the sample; the others learn the count in `stats`.
    pub(super) fn left_out(&self) {
        self.sampled.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a message of this sender is shown, where `cap` is this pod's part of what is shown each second.
    pub(super) fn sample(&self, sender: u64, cap: u32, now: Instant) -> bool {
        locked(&self.sampler).offer(sender, cap, now)
    }

    /// Distinct senders of the last one to two seconds, as the other pods are told now.
    pub(super) fn announce(&self, now: Instant) -> u32 {
        let senders = locked(&self.sampler).senders(now);
        self.announced.store(senders, Ordering::Relaxed);
        senders
    }

    pub(super) fn announced(&self) -> u32 {
        self.announced.load(Ordering::Relaxed)
    }

    /// Tells everybody here, with the priority lane; whether there was room for it.
    pub(super) fn tell(&self, event: Event) -> bool {
        let told = self.state().tell(event, Instant::now());
        match told {
            Ok(next) => {
                self.drive(next);
                true
            }
            Err(_) => {
                tracing::warn!(room = &*self.ways.id, "too much waits: viewers were not told");
                false
            }
        }
    }

    pub(super) fn take_live(&self, events: impl IntoIterator<Item = Event>, ours: bool) {
        let now = Instant::now();
        let mut state = self.state();
        let mut next = Next::Nothing;
        for event in events {
            if ours {
                self.arrives(&event);
            }
            let then = state.live(event, ours, now);
            next = if next == Next::Nothing { then } else { next };
        }
        drop(state);
        self.drive(next);
    }

    /// Does what the state asks for, until a worker or the tick goes on.
    pub(super) fn drive(&self, mut next: Next) {
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
                        self.ways.settled.notify_waiters();
                    }
                    if !batch.ours.is_empty() {
                        self.ways.relay.chat(&self.ways.id, batch.channel, batch.published, &batch.ours);
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
        let Some(sub) = self.me.upgrade() else { return };
        self.ways.runtime.spawn(async move {
            tokio::time::sleep_until(at.into()).await;
            let next = sub.state().ticked(Instant::now());
            sub.drive(next);
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
        let owner: Arc<dyn Flushed> = match traced {
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
            self.ways.fan_out.fan_out(worker, Arc::clone(&flush));
        }
        true
    }

    /// The numbers for somebody who joins. Should they be passing ones, `stats` correct them, also when the others know
    /// the right ones already.
    pub(super) fn tell_audience(&self, viewers: u64, is_divided: bool) -> (u64, Option<u64>) {
        let sub_viewers = is_divided.then(|| self.audience());
        let mut tended = locked(&self.tended);
        tended.mixed |= (tended.viewers, tended.sub_viewers) != (viewers, sub_viewers);
        (viewers, sub_viewers)
    }

    /// The next `stats` are told, also when the number of viewers is the same.
    pub(super) fn mix(&self) {
        locked(&self.tended).mixed = true;
    }

    /// Tells stats if they changed. Answers for how long nobody has been here; none while somebody is.
    pub(super) fn tend(&self, told: Told, now: Instant) -> Option<Duration> {
        let here = self.viewers();
        let mut tended = locked(&self.tended);
        if here == 0 {
            let since = *tended.empty_since.get_or_insert(now);
            return Some(now.saturating_duration_since(since));
        }
        tended.empty_since = None;
        let sub_viewers = told.is_divided.then(|| self.audience());
        let soon = tended.at.is_some_and(|at| now.saturating_duration_since(at) < STATS);
        let known = (tended.viewers, tended.sub_viewers) == (told.viewers, sub_viewers) && !tended.mixed;
        if soon || (known && self.sampled.load(Ordering::Relaxed) == 0) {
            return None;
        }
        (tended.viewers, tended.sub_viewers) = (told.viewers, sub_viewers);
        (tended.mixed, tended.at) = (false, Some(now));
        drop(tended);
        let sampled = self.sampled.swap(0, Ordering::Relaxed);
        let stats = Stats { viewers: told.viewers, sub_viewers, sampled, shedding: told.shedding };
        let next = self.state().stats(stats, now);
        self.drive(next);
        None
    }
}

impl Flushed for SubRoom {
    fn flushed(self: Arc<Self>, _: &Flush) {
        let next = self.state().flushed(Instant::now());
        self.drive(next);
    }
}

impl std::fmt::Debug for SubRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SubRoom").field("number", &self.number).finish_non_exhaustive()
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
