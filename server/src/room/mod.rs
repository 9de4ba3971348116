//! What a room is and does: batch, merge, number, remember, count.
//!
//! [`Rooms`] are the rooms of this process. `edge` brings viewers in and publishes through the relay,
//! which delivers here; each room is a [`state::State`] driven by what arrives, by the workers that
//! finish a fan-out, and by its tick. Every flush is encoded once a format, here.

mod moderation;
pub mod state;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock, Weak,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use danmu_crds::RoomPolicy;
use danmu_wire::{
    Chat, CloseCode, Event, Gap, Lane, Mode, Position, Stats,
    frame::{self, Format},
};

use tokio::sync::Notify;

use crate::{
    catalog::Catalog,
    gate::{self, Anonymous, Gate, Policy, Rules},
    relay::{Change, Deliver, Here, Opening, Peers, PublishError, Relay, Target},
    rows::{FanOut, Flush, Flushed, Frames, RoomKey},
};
use state::{Batch, Entry, Next, Settings, State};

/// How long an empty room is kept: a viewer who reloads finds the history.
const GRACE: Duration = Duration::from_secs(60);
/// How long an empty room with priority events is kept, for recovery after a long cut.
const LOG_GRACE: Duration = Duration::from_secs(600);
/// Least time between two `stats`: every one is a write to every viewer.
const STATS: Duration = Duration::from_secs(5);
/// How long a viewer waits at most for a room that the relay is about to connect.
const SETTLE: Duration = Duration::from_millis(1500);

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

/// Called when somebody is banned or disconnected, to close their connections here.
pub type Expel = Box<dyn Fn(RoomKey, &Target) + Send + Sync>;

/// The rooms of this process.
pub struct Rooms {
    rooms: RwLock<HashMap<Arc<str>, Arc<Room>>>,
    policies: ArcSwap<Policies>,
    next_key: AtomicU64,
    relay: Arc<Relay>,
    fan_out: Arc<dyn FanOut>,
    expel: OnceLock<Expel>,
    settings: Settings,
    runtime: tokio::runtime::Handle,
}

/// What came of a viewer's wish to come in.
#[derive(Debug)]
pub enum Entrance {
    /// It is counted as seated and is told this.
    Seated(Arc<Room>, Entry),
    /// The relay is about to tell more of the room: try again after [`Room::settle`].
    Wait(Arc<Room>),
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
    pub fn new(
        fan_out: Arc<dyn FanOut>,
        relay: Arc<Relay>,
        settings: Settings,
        runtime: tokio::runtime::Handle,
    ) -> Arc<Self> {
        let settings = Settings { relayed: relay.has_peers(), ..settings };
        let rooms = Arc::new(Rooms {
            rooms: RwLock::new(HashMap::new()),
            policies: ArcSwap::default(),
            next_key: AtomicU64::new(1),
            relay: Arc::clone(&relay),
            fan_out,
            expel: OnceLock::new(),
            settings,
            runtime,
        });
        relay.attach(&rooms);
        rooms
    }

    /// Sets what closes the connections of somebody who is banned.
    pub fn on_expel(&self, expel: Expel) {
        let _ = self.expel.set(expel);
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
        if let Some(room) = rooms.get(id) {
            return Ok(Arc::clone(room));
        }
        let settings = Settings { history: source.history as usize, ..self.settings };
        let room = self.new_room(Arc::from(id), settings, Arc::clone(policy));
        rooms.insert(Arc::clone(&room.id), Arc::clone(&room));
        drop(rooms);
        // The relay answers through `Deliver`, which looks the room up.
        self.relay.open(&room.id);
        Ok(room)
    }

    fn new_room(&self, id: Arc<str>, settings: Settings, policy: Arc<Policy>) -> Arc<Room> {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        Arc::new_cyclic(|me| Room {
            key,
            id,
            policy: ArcSwap::new(policy),
            gate: Gate::default(),
            state: Mutex::new(State::new(settings, now)),
            seats: (0..self.fan_out.workers()).map(|_| Default::default()).collect(),
            sampled: AtomicU64::new(0),
            tended: Mutex::new(Tended { viewers: 0, mixed: false, at: None, empty_since: Some(now) }),
            phase: AtomicU8::new(OPENING),
            settled: Notify::new(),
            peers: Mutex::default(),
            announced: AtomicU32::new(0),
            relay: Arc::clone(&self.relay),
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
        gone.retain(|id| !open.contains_key(id));
        drop(open);
        for id in gone {
            self.relay.close(&id);
        }
    }

    /// Brings a viewer into a room: checks, counts, and answers what it is told. A `patient` viewer is
    /// asked to wait while the relay is about to tell more.
    ///
    /// # Errors
    /// The code to close with.
    pub fn enter(
        &self,
        id: &str,
        who: &Visitor<'_>,
        position: Option<&Position>,
        patient: bool,
    ) -> Result<Entrance, CloseCode> {
        self.open_room(id)?;
        let open = self.open();
        // Swept in between: the next try opens it anew.
        let room = open.get(id).ok_or(CloseCode::TooBusy)?;
        room.gate.enter(&room.policy.load(), who.user, who.address, who.now)?;
        let state = room.state();
        let entry = state.enter(position);
        if patient && (room.phase.load(Ordering::Acquire) == OPENING || entry.behind) {
            if entry.behind {
                self.relay.check(&room.id);
            }
            return Ok(Entrance::Wait(Arc::clone(room)));
        }
        // Whoever is let in before the relay has answered must be told when it does.
        let _ = room.phase.compare_exchange(OPENING, ALONE, Ordering::AcqRel, Ordering::Acquire);
        if let Some(seat) = room.seat(who.worker, who.format) {
            seat.fetch_add(1, Ordering::AcqRel);
        }
        drop(state);
        Ok(Entrance::Seated(Arc::clone(room), entry))
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
    fn opened(&self, room: &str, opening: Opening) {
        let Some(room) = self.get(room) else { return };
        for change in &opening.moderation {
            if let Err(error) = self.change(&room, change) {
                tracing::warn!(room = &*room.id, %error, "a kept mute or ban does not fit");
            }
        }
        room.opened(opening);
    }

    fn alone(&self, room: &str) {
        if let Some(room) = self.get(room) {
            let _ = room.phase.compare_exchange(OPENING, ALONE, Ordering::AcqRel, Ordering::Acquire);
            room.settled.notify_waiters();
        }
    }

    fn chat(&self, room: &str, chats: Vec<Chat>) {
        let Some(room) = self.get(room) else { return };
        let (policy, now) = (room.policy(), Instant::now());
        for user in chats.iter().filter_map(|chat| chat.user.as_deref()) {
            room.gate.charge(&policy, user, now);
        }
        room.take_chats(chats, false);
    }

    fn priority(&self, room: &str, event: Event) -> Result<(), PublishError> {
        let room = self.get(room).ok_or(PublishError::Away)?;
        let next = room.state().priority(event, Instant::now()).map_err(|_| PublishError::Busy)?;
        room.settled.notify_waiters();
        room.drive(next);
        Ok(())
    }

    fn gap(&self, room: &str, lane: Lane, dropped: Option<u64>) {
        if let Some(room) = self.get(room) {
            room.tell(Event::Gap(Gap { lane, dropped, epoch: None }));
        }
    }

    fn moderate(&self, room: &str, change: &Change) -> Result<bool, PublishError> {
        let Some(room) = self.get(room) else { return Ok(false) };
        self.change(&room, change).map_err(|full| PublishError::Full(full.to_string()))
    }

    fn peers(&self, room: &str, peers: Peers) {
        if let Some(room) = self.get(room) {
            *room.peers.lock().unwrap_or_else(PoisonError::into_inner) = peers;
        }
    }

    fn here(&self) -> Vec<Here> {
        let now = Instant::now();
        self.open().values().map(|room| room.here(now)).collect()
    }
}

impl Rooms {
    /// Carries a moderator's change out on this pod; whether a lift found something.
    fn change(&self, room: &Room, change: &Change) -> Result<bool, gate::Full> {
        let found = moderation::apply(&room.gate, change, Instant::now(), SystemTime::now())?;
        if !change.lifted
            && matches!(change.target, Target::Ban(_) | Target::BanNetwork(_) | Target::Disconnect(_))
            && let Some(expel) = self.expel.get()
        {
            expel(room.key, &change.target);
        }
        Ok(found)
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
        // Every pod follows the catalog itself, so the mode does not go through the relay.
        if before != after {
            self.tell(Event::Mode(after));
        }
    }

    /// Tells everybody here, with the priority lane.
    fn tell(&self, event: Event) {
        let told = self.state().tell(event, Instant::now());
        match told {
            Ok(next) => self.drive(next),
            Err(_) => tracing::warn!(room = &*self.id, "too much waits: viewers were not told"),
        }
    }

    /// Says something on this pod: to its viewers at once, to other pods with the next flush.
    pub fn say(&self, chat: Chat) {
        self.take_chats(vec![chat], true);
    }

    fn take_chats(&self, chats: Vec<Chat>, ours: bool) {
        let now = Instant::now();
        let mut state = self.state();
        let mut next = Next::Nothing;
        for chat in chats {
            let then = state.chat(chat, ours, now);
            next = if next == Next::Nothing { then } else { next };
        }
        drop(state);
        self.drive(next);
    }

    fn opened(&self, opening: Opening) {
        let now = Instant::now();
        let in_use = self.phase.load(Ordering::Acquire) != OPENING;
        let next = self.state().opened(opening, in_use, now);
        self.phase.store(OPEN, Ordering::Release);
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
        self.viewers() + self.peers().viewers
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
        let cap = policy.rules().messages_per_second;
        if self.relay.is_degraded() {
            return self.peers().share_alone(cap);
        }
        self.peers().share(cap, self.announced.load(Ordering::Relaxed))
    }

    fn here(&self, now: Instant) -> Here {
        let senders = self.gate.senders(now);
        self.announced.store(senders, Ordering::Relaxed);
        Here { room: Arc::clone(&self.id), viewers: self.viewers(), senders }
    }

    /// Does what the state asks for, until a worker or the tick goes on.
    fn drive(&self, mut next: Next) {
        loop {
            match next {
                Next::Nothing => return,
                Next::TickAt(at) => return self.tick_at(at),
                Next::Flush => {
                    let batch = self.state().take(Instant::now());
                    if !batch.ours.is_empty() {
                        self.relay.chat(&self.id, batch.published, &batch.ours);
                    }
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
            let next = self.state().stats(Stats { viewers, sampled }, now);
            self.drive(next);
            return false;
        }
        let empty_since = *tended.empty_since.get_or_insert(now);
        let grace = if self.state().has_log() { LOG_GRACE } else { GRACE };
        // Runtime bans and mutes live in the room when there is no Redis: they outlast an empty room.
        let keeps = !self.relay.has_peers() && !self.gate.list(now).is_empty();
        now.saturating_duration_since(empty_since) > grace && !keeps
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
