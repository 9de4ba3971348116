//! What a room is and does: batch, merge, number, remember, count.
//!
//! [`Rooms`] are the rooms of this process. `edge` brings viewers in and publishes through the relay,
//! which delivers here; each room is a [`state::State`] driven by what arrives, by the workers that
//! finish a fan-out, and by its tick. Every flush is encoded once a format, here.

pub mod state;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError, RwLock, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use danmu_crds::RoomPolicy;
use danmu_wire::{
    CloseCode, Event, Mode, Position, Stats,
    frame::{self, Format},
};

use crate::{
    catalog::Catalog,
    gate::{Anonymous, Gate, Policy, Rules},
    relay::{Deliver, PublishError},
    rows::{FanOut, Flush, Flushed, Frames, RoomKey},
};
use state::{Batch, Entry, Next, Settings, State};

/// How long an empty room is kept: a viewer who reloads finds the history.
const GRACE: Duration = Duration::from_secs(60);
/// How long an empty room with priority events is kept, for recovery after a long cut.
const LOG_GRACE: Duration = Duration::from_secs(600);

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
    /// What was last told in `stats`, and since when the room is empty.
    told: Mutex<(u64, Option<Instant>)>,
    fan_out: Arc<dyn FanOut>,
    runtime: tokio::runtime::Handle,
    me: Weak<Room>,
}

/// The rooms of this process.
pub struct Rooms {
    rooms: RwLock<HashMap<Arc<str>, Arc<Room>>>,
    policies: ArcSwap<Policies>,
    next_key: AtomicU64,
    fan_out: Arc<dyn FanOut>,
    settings: Settings,
    runtime: tokio::runtime::Handle,
}

/// Compiled policies of the catalog, with what they were compiled from.
#[derive(Default)]
struct Policies {
    listed: HashMap<String, (Arc<RoomPolicy>, Arc<Policy>)>,
    unlisted: Option<(Arc<RoomPolicy>, Arc<Policy>)>,
}

impl Policies {
    fn of(&self, id: &str) -> Option<&(Arc<RoomPolicy>, Arc<Policy>)> {
        self.listed.get(id).or(self.unlisted.as_ref())
    }
}

/// A room as told by `GET /rooms` and the admin API.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// The room's id.
    pub id: String,
    /// Viewers in it.
    pub viewers: u64,
}

impl Rooms {
    /// No rooms yet. `runtime` runs the ticks of busy rooms.
    pub fn new(fan_out: Arc<dyn FanOut>, settings: Settings, runtime: tokio::runtime::Handle) -> Arc<Self> {
        Arc::new(Rooms {
            rooms: RwLock::new(HashMap::new()),
            policies: ArcSwap::default(),
            next_key: AtomicU64::new(1),
            fan_out,
            settings,
            runtime,
        })
    }

    /// Takes a new catalog: compiles what changed, swaps it into open rooms, tells viewers of changed
    /// modes. Answers the rooms that are no longer allowed; they are open no more, and whoever is still in
    /// one has to be closed. It computes for long: not for a thread that others wait for.
    pub fn apply(&self, catalog: &Catalog) -> Vec<Arc<Room>> {
        let old = self.policies.load_full();
        let compile = |policy: &Arc<RoomPolicy>, known: Option<&(Arc<RoomPolicy>, Arc<Policy>)>| match known {
            Some((source, compiled)) if Arc::ptr_eq(source, policy) => {
                (Arc::clone(source), Arc::clone(compiled))
            }
            _ => (Arc::clone(policy), Arc::new(Policy::compile(rules(policy)))),
        };
        let listed = catalog
            .rooms
            .iter()
            .map(|(id, policy)| (id.clone(), compile(policy, old.listed.get(id))))
            .collect();
        let unlisted = catalog.unlisted.as_ref().map(|policy| compile(policy, old.unlisted.as_ref()));
        let policies = Arc::new(Policies { listed, unlisted });
        self.policies.store(Arc::clone(&policies));
        let refused: Vec<Arc<Room>> = {
            let mut open = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
            open.extract_if(|id, _| policies.of(id).is_none()).map(|(_, room)| room).collect()
        };
        let open: Vec<Arc<Room>> = self.open().values().cloned().collect();
        for room in open {
            if let Some((source, policy)) = policies.of(&room.id) {
                room.set_policy(source, policy);
            }
        }
        refused
    }

    fn open(&self) -> std::sync::RwLockReadGuard<'_, HashMap<Arc<str>, Arc<Room>>> {
        self.rooms.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// An open room.
    pub fn get(&self, id: &str) -> Option<Arc<Room>> {
        self.open().get(id).cloned()
    }

    /// Listed rooms and open ones, by id.
    pub fn list(&self) -> Vec<Summary> {
        let mut viewers: HashMap<String, u64> =
            self.policies.load().listed.keys().map(|id| (id.clone(), 0)).collect();
        for (id, room) in self.open().iter() {
            viewers.insert(id.to_string(), room.viewers());
        }
        let mut list: Vec<Summary> =
            viewers.into_iter().map(|(id, viewers)| Summary { id, viewers }).collect();
        list.sort_by(|a, b| a.id.cmp(&b.id));
        list
    }

    /// Whether viewers may come to a room of this id.
    pub fn is_allowed(&self, id: &str) -> bool {
        danmu_wire::is_room_id(id) && self.policies.load().of(id).is_some()
    }

    /// The open room, opened if the catalog allows it.
    ///
    /// # Errors
    /// The close code for a viewer who asked for it.
    pub fn open_room(&self, id: &str) -> Result<Arc<Room>, CloseCode> {
        if !danmu_wire::is_room_id(id) {
            return Err(CloseCode::BadRequest);
        }
        if let Some(room) = self.get(id) {
            return Ok(room);
        }
        let mut rooms = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: `apply` then either finds the room open or has stored the policies read here.
        let policies = self.policies.load();
        let (source, policy) = policies.of(id).ok_or(CloseCode::NoSuchRoom)?;
        let room = rooms.entry(Arc::from(id)).or_insert_with_key(|id| {
            let settings = Settings { history: source.history as usize, ..self.settings };
            self.new_room(Arc::clone(id), settings, Arc::clone(policy))
        });
        Ok(Arc::clone(room))
    }

    fn new_room(&self, id: Arc<str>, settings: Settings, policy: Arc<Policy>) -> Arc<Room> {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        Arc::new_cyclic(|me| Room {
            key,
            id,
            policy: ArcSwap::new(policy),
            gate: Gate::default(),
            state: Mutex::new(State::new(settings, ulid::Ulid::generate().to_string(), now)),
            seats: (0..self.fan_out.workers()).map(|_| Default::default()).collect(),
            sampled: AtomicU64::new(0),
            told: Mutex::new((0, Some(now))),
            fan_out: Arc::clone(&self.fan_out),
            runtime: self.runtime.clone(),
            me: me.clone(),
        })
    }

    /// Tells `stats` where they changed and forgets rooms that have been empty for long. Called every
    /// few seconds.
    pub fn tend(&self, now: Instant) {
        let rooms: Vec<Arc<Room>> = self.open().values().cloned().collect();
        let mut gone = Vec::new();
        for room in rooms {
            if room.tend(now) {
                gone.push(Arc::clone(&room.id));
            }
        }
        if gone.is_empty() {
            return;
        }
        let mut open = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
        // A viewer is seated under the read lock, so nobody can be on the way in now.
        open.retain(|id, room| !gone.contains(id) || room.viewers() > 0);
    }

    /// Brings a viewer into a room: checks, counts, and answers what it is told.
    ///
    /// # Errors
    /// The code to close with.
    pub fn enter(
        &self,
        id: &str,
        who: &Visitor<'_>,
        position: Option<&Position>,
    ) -> Result<(Arc<Room>, Entry), CloseCode> {
        self.open_room(id)?;
        let open = self.open();
        // Swept in between: the next try opens it anew.
        let room = open.get(id).ok_or(CloseCode::TooBusy)?;
        room.gate.enter(&room.policy.load(), who.user, who.address, who.now)?;
        let state = room.state();
        let entry = state.enter(position);
        if let Some(seat) = room.seat(who.worker, who.format) {
            seat.fetch_add(1, Ordering::AcqRel);
        }
        drop(state);
        Ok((Arc::clone(room), entry))
    }
}

/// A viewer who asks to come in.
#[derive(Debug)]
pub struct Visitor<'a> {
    /// The token's subject.
    pub user: Option<&'a str>,
    /// The client's address.
    pub address: IpAddr,
    /// The worker that owns its socket.
    pub worker: usize,
    /// The format it wants.
    pub format: Format,
    /// Now.
    pub now: Instant,
}

impl Deliver for Rooms {
    fn deliver(&self, room: &str, event: Event) -> Result<u64, PublishError> {
        let room = self.open_room(room).map_err(|_| PublishError::Busy)?;
        room.accept(event)
    }
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
        mode(self.policy.load().rules())
    }

    /// A viewer left its row.
    pub fn leave(&self, worker: usize, format: Format) {
        if let Some(seat) = self.seat(worker, format) {
            seat.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// A message was left out of the sample; the others learn the count in `stats`.
    pub fn left_out(&self) {
        self.sampled.fetch_add(1, Ordering::Relaxed);
    }

    fn seat(&self, worker: usize, format: Format) -> Option<&AtomicU32> {
        self.seats.get(worker)?.get(format as usize)
    }

    fn set_policy(&self, source: &RoomPolicy, policy: &Arc<Policy>) {
        if Arc::ptr_eq(&self.policy.load(), policy) {
            return;
        }
        let before = self.mode();
        self.policy.store(Arc::clone(policy));
        self.state().set_history(source.history as usize);
        let after = self.mode();
        if before != after && self.accept(Event::Mode(after)).is_err() {
            tracing::warn!(room = %self.id, "the mode change could not be told");
        }
    }

    fn accept(&self, event: Event) -> Result<u64, PublishError> {
        let (offset, next) = self.state().accept(event, Instant::now()).map_err(|_| PublishError::Busy)?;
        self.drive(next);
        Ok(offset)
    }

    /// Does what the state asks for, until a worker or the tick goes on.
    fn drive(&self, mut next: Next) {
        loop {
            match next {
                Next::Nothing => return,
                Next::TickAt(at) => return self.tick_at(at),
                Next::Flush => {
                    let batch = self.state().take(Instant::now());
                    if self.fan_out(&batch) {
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
    fn fan_out(&self, batch: &Batch) -> bool {
        let here = |format: Format| {
            self.seats.iter().any(|s| s.get(format as usize).is_some_and(|s| s.load(Ordering::Acquire) > 0))
        };
        let workers: Vec<usize> = (0..self.seats.len())
            .filter(|w| self.seats.get(*w).is_some_and(|s| s.iter().any(|s| s.load(Ordering::Acquire) > 0)))
            .collect();
        let Some(owner) = self.me.upgrade().filter(|_| !workers.is_empty()) else { return false };
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
        let viewers = self.viewers();
        let sampled = self.sampled.swap(0, Ordering::Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if viewers > 0 {
            told.1 = None;
            if told.0 == viewers && sampled == 0 {
                return false;
            }
            told.0 = viewers;
            drop(told);
            // Stats replace each other: this cannot be refused.
            let _ = self.accept(Event::Stats(Stats { viewers, sampled }));
            return false;
        }
        let empty_since = *told.1.get_or_insert(now);
        let grace = if self.state().has_log() { LOG_GRACE } else { GRACE };
        // Runtime bans and mutes live in the room: they outlast an empty room.
        now.saturating_duration_since(empty_since) > grace && self.gate.list(now).is_empty()
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

impl std::fmt::Debug for Rooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rooms").field("open", &self.open().len()).finish_non_exhaustive()
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

fn mode(rules: &Rules) -> Mode {
    Mode {
        offset: 0,
        anonymous: match rules.anonymous {
            Anonymous::Deny => "deny",
            Anonymous::Watch => "watch",
            Anonymous::Speak => "speak",
        }
        .to_owned(),
        slow_mode_seconds: rules.slow_mode_seconds,
        max_length: rules.max_length,
    }
}

/// The gate's rules from the manifest's policy.
fn rules(policy: &RoomPolicy) -> Rules {
    Rules {
        messages_per_second: policy.messages_per_second,
        per_viewer_messages: policy.per_viewer_messages,
        per_viewer_seconds: policy.per_viewer_seconds,
        max_length: policy.max_length,
        slow_mode_seconds: policy.slow_mode_seconds,
        anonymous: match policy.anonymous {
            danmu_crds::Anonymous::Deny => Anonymous::Deny,
            danmu_crds::Anonymous::Watch => Anonymous::Watch,
            danmu_crds::Anonymous::Speak => Anonymous::Speak,
        },
        banned_users: policy.banned_users.clone(),
        muted_users: policy.muted_users.clone(),
        banned_networks: policy.banned_networks.clone(),
        block: policy.block.clone(),
        mask: policy.mask.clone(),
    }
}
