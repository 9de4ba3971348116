//! The embedded relay: one process is the whole fleet, and its memory is the log's only home.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

use danmu_wire::{Event, Held, Settled};

use super::{
    Change, Deliver, Logged, Opening, PublishError, Receipt,
    desk::{Desk, unix_ms},
};

/// Idempotency keys kept a room, the oldest forgotten first.
const KEYS: usize = 4096;
/// Combos that go on at once in a room; gifts of further ones are told without.
const COMBOS: usize = 4096;
/// Rooms whose desk is kept, for most of them beyond their own end.
const DESKS: usize = 1024;

/// Numbers events and delivers them here.
#[derive(Default)]
pub struct Memory {
    deliver: OnceLock<Weak<dyn Deliver>>,
    rooms: Mutex<HashMap<Arc<str>, Lane>>,
    desks: Mutex<Desks>,
}

/// The desks of rooms, used last with a number that grows.
#[derive(Default)]
struct Desks {
    rooms: HashMap<String, (u64, Desk)>,
    uses: u64,
}

impl Desks {
    /// The room's desk; that of the room where nothing was done for longest makes room.
    fn of(&mut self, room: &str) -> &mut Desk {
        if self.rooms.len() >= DESKS && !self.rooms.contains_key(room) {
            let oldest = self.rooms.iter().min_by_key(|(_, (used, _))| *used).map(|(room, _)| room.clone());
            if let Some(oldest) = oldest {
                self.rooms.remove(&oldest);
            }
        }
        self.uses += 1;
        let (used, desk) = self.rooms.entry(room.to_owned()).or_default();
        *used = self.uses;
        desk
    }
}

/// One room's priority lane.
struct Lane {
    epoch: String,
    offset: u64,
    /// Publishes by their key, with what was published.
    keys: HashMap<String, (Receipt, Event)>,
    order: VecDeque<String>,
    /// What a user has given of a kind so far, and when last.
    combos: HashMap<(String, String), (u64, Instant)>,
}

impl Lane {
    fn new() -> Self {
        let epoch = ulid::Ulid::generate().to_string();
        Lane { epoch, offset: 0, keys: HashMap::new(), order: VecDeque::new(), combos: HashMap::new() }
    }

    /// What the gift's combo comes to with it.
    fn combo(&mut self, event: &Event, window: Duration, now: Instant) -> Option<((String, String), u64)> {
        let Event::Gift(gift) = event else { return None };
        let user = gift.user.clone().filter(|_| !window.is_zero())?;
        let goes_on = |last: Instant| now.saturating_duration_since(last) < window;
        if self.combos.len() >= COMBOS {
            self.combos.retain(|_, (_, last)| goes_on(*last));
        }
        let key = (user, gift.gift.clone());
        let before = self.combos.get(&key).filter(|(_, last)| goes_on(*last)).map_or(0, |(total, _)| *total);
        let fits = self.combos.len() < COMBOS || self.combos.contains_key(&key);
        fits.then_some((key, before.saturating_add(gift.count.into())))
    }

    fn remember(&mut self, key: &str, receipt: &Receipt, event: Event) {
        if self.order.len() >= KEYS
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
        self.order.push_back(key.to_owned());
        self.keys.insert(key.to_owned(), (receipt.clone(), event));
    }
}

impl Memory {
    pub(super) fn attach(&self, deliver: Weak<dyn Deliver>) {
        // Attached once, by `serve::start`; a second time would be another fleet.
        let _ = self.deliver.set(deliver);
    }

    fn deliver(&self) -> Option<Arc<dyn Deliver>> {
        self.deliver.get()?.upgrade()
    }

    fn rooms(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, Lane>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self, room: &Arc<str>) {
        let Some(deliver) = self.deliver() else { return };
        // A lane of an earlier room of this id is over with it.
        let lane = Lane::new();
        let epoch = lane.epoch.clone();
        self.rooms().insert(Arc::clone(room), lane);
        deliver.opened(room, Opening { epoch, ..Opening::default() });
    }

    pub(super) fn close(&self, room: &str) {
        self.rooms().remove(room);
    }

    pub(super) fn priority(
        &self,
        room: &str,
        mut event: Event,
        key: Option<&str>,
        combo_ms: u32,
    ) -> Result<Receipt, PublishError> {
        let deliver = self.deliver().ok_or(PublishError::Away)?;
        let mut rooms = self.rooms();
        let lane = rooms.get_mut(room).ok_or(PublishError::Away)?;
        let said = super::without_id(&event);
        if let Some((receipt, earlier)) = key.and_then(|key| lane.keys.get(key)) {
            return if *earlier == said { Ok(receipt.clone()) } else { Err(PublishError::Conflict) };
        }
        let offset = lane.offset + 1;
        event.set_offset(offset);
        let id = event.id().map(str::to_owned);
        let now = Instant::now();
        let combo = lane.combo(&event, Duration::from_millis(combo_ms.into()), now);
        if let (Event::Gift(gift), Some((_, total))) = (&mut event, &combo) {
            gift.combo = (*total != u64::from(gift.count)).then_some(*total);
        }
        // Delivered under the lock, so that the room gets the offsets in order.
        deliver.priority(room, event)?;
        lane.offset = offset;
        if let Some((key, total)) = combo {
            lane.combos.insert(key, (total, now));
        }
        let receipt = Receipt { id, epoch: lane.epoch.clone(), offset };
        if let Some(key) = key {
            lane.remember(key, &receipt, said);
        }
        Ok(receipt)
    }

    pub(super) fn moderate(&self, room: &str, change: &Change) -> Result<bool, PublishError> {
        self.deliver().ok_or(PublishError::Away)?.moderate(room, change)
    }

    fn desks(&self) -> std::sync::MutexGuard<'_, Desks> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hold(&self, room: &str, held: Held) -> Result<(), PublishError> {
        if !self.desks().of(room).hold(held.clone(), unix_ms()) {
            return Err(PublishError::queue_full());
        }
        self.deliver().ok_or(PublishError::Away)?.held(room, held);
        Ok(())
    }

    pub(super) fn held(&self, room: &str) -> Vec<Held> {
        self.desks().of(room).held(unix_ms())
    }

    pub(super) fn settle(&self, room: &str, settled: &Settled) -> Option<Held> {
        let held = self.desks().of(room).settle(&settled.id, unix_ms())?;
        if let Some(deliver) = self.deliver() {
            deliver.settled(room, settled);
        }
        Some(held)
    }

    pub(super) fn write_down(&self, room: &str, logged: Logged) {
        self.desks().of(room).write_down(logged);
    }

    pub(super) fn written(&self, room: &str) -> Vec<Logged> {
        self.desks().of(room).written()
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("rooms", &self.rooms().len()).finish_non_exhaustive()
    }
}
