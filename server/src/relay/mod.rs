//! From the pod that publishes to every pod that has viewers of the room. In memory for now: one
//! process is the whole fleet. `edge` and `admin` publish; `room` is the [`Deliver`] at the other end.

use std::sync::{Arc, Weak};

use danmu_wire::Event;

/// Why an event was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// More waits for the room than it may hold.
    #[error("the room has too much waiting: try again")]
    Busy,
}

/// Takes what the relay brings for a room.
pub trait Deliver: Send + Sync {
    /// One event; answers the offset that a priority event got.
    ///
    /// # Errors
    /// [`PublishError::Busy`] when the room's bounded queue is full.
    fn deliver(&self, room: &str, event: Event) -> Result<u64, PublishError>;
}

/// The embedded relay: every publish is delivered here, and the one copy of the room numbers it.
pub struct Memory {
    deliver: Weak<dyn Deliver>,
}

impl Memory {
    /// A relay to the rooms of this process.
    pub fn new(deliver: &Arc<impl Deliver + 'static>) -> Self {
        let deliver: Weak<dyn Deliver> = Arc::downgrade(deliver) as Weak<dyn Deliver>;
        Memory { deliver }
    }

    /// Publishes to the room's lane. The lane is the event's own.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn publish(&self, room: &str, event: Event) -> Result<u64, PublishError> {
        self.deliver.upgrade().map_or(Err(PublishError::Busy), |deliver| deliver.deliver(room, event))
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memory")
    }
}
