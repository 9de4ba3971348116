//! The embedded relay: one process is the whole fleet, and its memory is the log's only home.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

use danmu_wire::Event;

use super::{Change, Deliver, Opening, PublishError, Receipt};

/// Idempotency keys kept a room, the oldest forgotten first.
const KEYS: usize = 4096;

/// Numbers events and delivers them here.
#[derive(Default)]
pub struct Memory {
    deliver: OnceLock<Weak<dyn Deliver>>,
    rooms: Mutex<HashMap<Arc<str>, Lane>>,
}

/// One room's priority lane.
struct Lane {
    epoch: String,
    offset: u64,
    /// Publishes by their key, with what was published.
    keys: HashMap<String, (Receipt, Event)>,
    order: VecDeque<String>,
}

impl Lane {
    fn new() -> Self {
        let epoch = ulid::Ulid::generate().to_string();
        Lane { epoch, offset: 0, keys: HashMap::new(), order: VecDeque::new() }
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
        // Delivered under the lock, so that the room gets the offsets in order.
        deliver.priority(room, event)?;
        lane.offset = offset;
        let receipt = Receipt { id, epoch: lane.epoch.clone(), offset };
        if let Some(key) = key {
            lane.remember(key, &receipt, said);
        }
        Ok(receipt)
    }

    pub(super) fn moderate(&self, room: &str, change: &Change) -> Result<bool, PublishError> {
        self.deliver().ok_or(PublishError::Away)?.moderate(room, change)
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("rooms", &self.rooms().len()).finish_non_exhaustive()
    }
}
