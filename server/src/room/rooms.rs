//! The rooms of this process: opened when somebody comes, forgotten when nobody has been there for long.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use arc_swap::ArcSwap;
use danmu_wire::{CloseCode, Event, Gap, Held, Lane, Mode, Position, Settled, frame::Format};
use tokio::sync::Notify;

use super::{
    ALONE, OPENING, Room, SubRoom, Tell, Whom,
    division::Lane as RoomLane,
    moderation,
    policies::{Compiled, Policies},
    reseating::Reseating,
    state::{Entry, Settings, State},
    sub_room::Ways,
};
use crate::{
    catalog::Catalog,
    gate::{Gate, Policy},
    relay::{Change, Deliver, Here, Opening, Peers, PublishError, Relay, Target, desk::unix_ms},
    rows::{FanOut, RoomKey},
    segments::{Keep, Segments},
    traces::Traces,
};

/// Whose connections to a room have to be closed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expelled<'a> {
    /// This user's.
    User(&'a str),
    /// Those of whoever may not come in any more.
    Banned,
}

/// Closes connections to a room.
pub type Expel = Box<dyn Fn(RoomKey, Expelled<'_>) + Send + Sync>;

/// The rooms of this process.
pub struct Rooms {
    rooms: RwLock<HashMap<Arc<str>, Arc<Room>>>,
    policies: ArcSwap<Policies>,
    next_key: Arc<AtomicU64>,
    relay: Arc<Relay>,
    segments: Arc<Segments>,
    fan_out: Arc<dyn FanOut>,
    expel: OnceLock<Expel>,
    pub(super) reseating: Reseating,
    tell: Arc<OnceLock<Tell>>,
    pub(super) traces: Arc<OnceLock<Arc<Traces>>>,
    settings: Settings,
    pub(super) runtime: tokio::runtime::Handle,
}

/// What came of a viewer's wish to come in.
#[derive(Debug)]
pub enum Entrance {
    /// It is counted as seated and is told this.
    Seated(Arc<Room>, Arc<SubRoom>, Entry),
    /// The relay is about to tell more of the room: try again after [`Room::settle`].
    Wait(Arc<Room>, Arc<SubRoom>),
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
        segments: Arc<Segments>,
        settings: Settings,
        runtime: tokio::runtime::Handle,
    ) -> Arc<Self> {
        let settings = Settings { relayed: relay.has_peers(), ..settings };
        let rooms = Arc::new(Rooms {
            rooms: RwLock::new(HashMap::new()),
            policies: ArcSwap::default(),
            next_key: Arc::new(AtomicU64::new(1)),
            relay: Arc::clone(&relay),
            segments,
            fan_out,
            expel: OnceLock::new(),
            reseating: Reseating::default(),
            tell: Arc::default(),
            traces: Arc::default(),
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

    /// Sets what sends a frame to one viewer.
    pub fn on_tell(&self, tell: Tell) {
        let _ = self.tell.set(tell);
    }

    /// Takes a new catalog: compiles what changed, swaps it into open rooms, tells viewers of changed
    /// modes. Answers the rooms that are no longer allowed; they are open no more, and whoever is still in
    /// one has to be closed. It computes for long: not for a thread that others wait for.
    pub fn apply(self: &Arc<Self>, catalog: &Catalog) -> Vec<Arc<Room>> {
        let policies = Arc::new(Policies::compile(catalog, &self.policies.load_full()));
        self.policies.store(Arc::clone(&policies));
        let refused: Vec<Arc<Room>> = {
            let mut open = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
            open.extract_if(|id, _| policies.of(id).is_none()).map(|(_, room)| room).collect()
        };
        let open: Vec<Arc<Room>> = self.open().values().cloned().collect();
        for room in open {
            if let Some(Compiled { policy, .. }) = policies.of(&room.id) {
                let count = room.sub_rooms();
                let moved = room.set_placed(policies.placed(&room.id));
                let changed = room.set_policy(policy);
                if changed {
                    self.expel(&room, Expelled::Banned);
                }
                if moved || room.sub_rooms() != count {
                    self.reseat(&room);
                }
            }
        }
        for room in &refused {
            self.close(&room.id);
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
            self.policies.load().listed().map(|id| (id.to_owned(), 0)).collect();
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

    /// Where viewers of the room are served better than here, if anywhere.
    pub fn elsewhere(&self, id: &str) -> Option<Arc<str>> {
        self.policies.load().elsewhere.get(id).cloned()
    }

    /// What is kept of all rooms.
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Whether what is said in the room is kept, so that it can be fetched.
    pub fn is_recorded(&self, id: &str) -> bool {
        self.policies.load().of(id).is_some_and(|compiled| compiled.policy.rules().replay.recording.is_some())
    }

    /// The listed rooms whose recordings are to be trimmed, and to what.
    pub fn recorded(&self) -> Vec<(Arc<str>, Keep)> {
        let policies = self.policies.load();
        let recordings = policies.sources().filter_map(|(id, source)| {
            source.replay.recording.map(|recording| (Arc::from(id), recording.into()))
        });
        recordings.collect()
    }

    /// The open rooms, with their viewers on all pods.
    pub fn audiences(&self) -> Vec<(Arc<str>, u64)> {
        self.open().values().map(|room| (Arc::clone(&room.id), room.audience())).collect()
    }

    /// The open rooms that shed load, with how far, from 1 to 3.
    pub fn shedding(&self) -> Vec<(String, u8)> {
        let open = self.open();
        let stages = open.values().map(|room| (room.id.to_string(), room.stage()));
        stages.filter(|(_, stage)| *stage > 0).collect()
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
        let Compiled { policy, .. } = policies.of(id).ok_or(CloseCode::NoSuchRoom)?;
        if let Some(room) = rooms.get(id) {
            return Ok(Arc::clone(room));
        }
        let settings = Settings { history: policy.rules().history as usize, ..self.settings };
        let room = self.new_room(Arc::from(id), settings, Arc::clone(policy), policies.placed(id));
        rooms.insert(Arc::clone(&room.id), Arc::clone(&room));
        drop(rooms);
        // The relay answers through `Deliver`, which looks the room up.
        self.relay.open(&room.id);
        Ok(room)
    }

    fn new_room(
        &self,
        id: Arc<str>,
        settings: Settings,
        policy: Arc<Policy>,
        placed: Arc<[u32]>,
    ) -> Arc<Room> {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let ways = Arc::new(Ways {
            traces: Arc::clone(&self.traces),
            id: Arc::clone(&id),
            relay: Arc::clone(&self.relay),
            fan_out: Arc::clone(&self.fan_out),
            runtime: self.runtime.clone(),
            settled: Notify::new(),
        });
        let room = Arc::new(Room {
            id,
            policy: ArcSwap::new(policy),
            gate: Gate::default(),
            first: SubRoom::new(0, key, State::new(settings, now), &ways, now),
            others: ArcSwap::default(),
            placed: ArcSwap::from_pointee(placed),
            lane: Mutex::new(RoomLane::new(now)),
            phase: AtomicU8::new(OPENING),
            peers: Mutex::default(),
            told_mode: Mutex::new(Mode::default()),
            arrivals: Mutex::default(),
            desk: super::desk::Desk::default(),
            tell: Arc::clone(&self.tell),
            offered: AtomicU64::new(0),
            shedder: Mutex::default(),
            stage: AtomicU8::new(0),
            reseating: AtomicBool::new(false),
            segments: Arc::clone(&self.segments),
            ways,
            next_key: Arc::clone(&self.next_key),
        });
        room.divide();
        *room.told_mode.lock().unwrap_or_else(PoisonError::into_inner) = room.mode();
        room
    }

    /// Tells `stats` where they changed and forgets rooms that have been empty for long. Called every
    /// few seconds.
    pub fn tend(self: &Arc<Self>, now: Instant) {
        let rooms: Vec<Arc<Room>> = self.open().values().cloned().collect();
        let mut gone = Vec::new();
        for room in rooms {
            if room.tend(now) {
                gone.push(Arc::clone(&room.id));
            } else if room.has_misplaced() {
                self.reseat(&room);
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
            self.close(&id);
        }
    }

    /// The relay forgets a room. Should it have been opened again meanwhile, its open was overtaken.
    fn close(&self, id: &Arc<str>) {
        self.relay.close(id);
        if let Some(room) = self.get(id) {
            self.relay.open(&room.id);
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
        let lane = room.lane();
        let sub = room.open_sub(&lane, room.pick(who.sub, who.whom()));
        let entry = sub.state().enter(position, unix_ms());
        if patient && (room.phase.load(Ordering::Acquire) == OPENING || entry.behind) {
            if entry.behind {
                self.relay.check(&room.id);
            }
            drop(lane);
            return Ok(Entrance::Wait(Arc::clone(room), sub));
        }
        // Whoever is let in before the relay has answered must be told when it does.
        let _ = room.phase.compare_exchange(OPENING, ALONE, Ordering::AcqRel, Ordering::Acquire);
        sub.seat(who.worker, who.format);
        drop(lane);
        Ok(Entrance::Seated(Arc::clone(room), sub, entry))
    }
}

/// A viewer who asks to come in.
#[derive(Debug)]
pub struct Visitor<'a> {
    /// The token's subject.
    pub user: Option<&'a str>,
    /// The viewer's number on this pod.
    pub number: u64,
    /// The sub-room it asks for.
    pub sub: Option<u32>,
    /// The client's address.
    pub address: IpAddr,
    /// The worker that owns its socket.
    pub worker: usize,
    /// The format it wants.
    pub format: Format,
    /// Now.
    pub now: Instant,
}

impl Visitor<'_> {
    /// By what it is told apart.
    pub fn whom(&self) -> Whom<'_> {
        Whom { user: self.user, number: self.number }
    }
}

impl Deliver for Rooms {
    fn opened(&self, room: &str, opening: Opening) {
        if let Some(room) = self.get(room) {
            room.opened(opening);
        }
    }

    fn alone(&self, room: &str) {
        if let Some(room) = self.get(room) {
            let _ = room.phase.compare_exchange(OPENING, ALONE, Ordering::AcqRel, Ordering::Acquire);
            room.ways.settled.notify_waiters();
        }
    }

    fn chat(&self, room: &str, sub: Option<u32>, events: Vec<Event>) {
        let Some(room) = self.get(room) else { return };
        let (policy, now) = (room.policy(), Instant::now());
        for event in &events {
            if let Event::Chat(chat) = event
                && let Some(user) = &chat.user
            {
                room.gate.charge(&policy, user, now);
            }
        }
        room.take_from_others(sub, events);
    }

    fn relayed(&self, room: &str, sub: Option<u32>, stamp: u64, events: &[Event]) {
        if let Some(room) = self.get(room) {
            room.comes(sub, stamp, events);
        }
    }

    fn priority(&self, room: &str, event: Event) -> Result<(), PublishError> {
        let room = self.get(room).ok_or(PublishError::Away)?;
        // Recorded even if it is brought again: it is kept once, by its id.
        room.record(&event);
        room.take_priority(&event).map_err(|_| PublishError::Busy)
    }

    fn gap(&self, room: &str, sub: Option<u32>, lane: Lane, dropped: Option<u64>) {
        let Some(room) = self.get(room) else { return };
        let gap = Event::Gap(Gap { lane, dropped, epoch: None });
        match sub {
            Some(number) => drop(room.sub(number).map(|sub| sub.tell(gap))),
            None => drop(room.tell(gap)),
        }
    }

    fn moderate(&self, room: &str, change: &Change) -> Result<bool, PublishError> {
        let Some(room) = self.get(room) else { return Ok(false) };
        let found = moderation::apply(&room.gate, change, Instant::now(), SystemTime::now())
            .map_err(|full| PublishError::Full(full.to_string()))?;
        match &change.target {
            Target::Disconnect(user) => self.expel(&room, Expelled::User(user)),
            Target::Ban(_) | Target::BanNetwork(_) if !change.lifted => {
                self.expel(&room, Expelled::Banned);
            }
            Target::SlowMode => room.tell_mode(),
            _ => {}
        }
        Ok(found)
    }

    fn held(&self, room: &str, held: Held) {
        if let Some(room) = self.get(room) {
            room.tell_moderators(Event::Held(Box::new(held)));
        }
    }

    fn settled(&self, room: &str, settled: &Settled) {
        if let Some(room) = self.get(room) {
            room.settled(settled);
        }
    }

    fn moderation(&self, room: &str, all: &[Change]) {
        if let Some(room) = self.get(room) {
            moderation::replace(&room.gate, all, Instant::now(), SystemTime::now());
            self.expel(&room, Expelled::Banned);
            room.tell_mode();
        }
    }

    fn peers(&self, room: &str, sub: Option<u32>, peers: Peers) {
        let Some(room) = self.get(room) else { return };
        match sub {
            Some(number) => drop(room.sub(number).map(|sub| sub.set_peers(peers))),
            None => *room.peers.lock().unwrap_or_else(PoisonError::into_inner) = peers,
        }
    }

    fn here(&self) -> Vec<Here> {
        let now = Instant::now();
        let open = self.open();
        let mut all = Vec::with_capacity(open.len());
        open.values().for_each(|room| room.here(now, &mut all));
        all
    }
}

impl Rooms {
    fn expel(&self, room: &Room, who: Expelled<'_>) {
        if let Some(expel) = self.expel.get() {
            room.keys().into_iter().for_each(|key| expel(key, who));
        }
    }
}

impl std::fmt::Debug for Rooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rooms").field("open", &self.open().len()).finish_non_exhaustive()
    }
}
