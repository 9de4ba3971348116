//! What a room writes to its viewers at one time.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use danmu_wire::frame::Format;

use super::RoomKey;

/// A flush in one format: at most two frames, contiguous, written by one send(2).
#[derive(Clone, Debug)]
pub struct Frames {
    /// The priority frame, if any, then the chat frame, if any.
    pub bytes: Bytes,
    /// Length of the priority frame; 0 without one.
    pub priority: usize,
}

impl Frames {
    /// The priority frame.
    pub fn priority(&self) -> Option<Bytes> {
        (self.priority > 0).then(|| self.bytes.slice(..self.priority))
    }

    /// The chat frame.
    pub fn chat(&self) -> Option<Bytes> {
        (self.priority < self.bytes.len()).then(|| self.bytes.slice(self.priority..))
    }
}

/// Told when the last worker has written a flush.
pub trait Flushed: Send + Sync {
    /// Called once a flush, on the thread of the worker that finished last.
    fn flushed(self: Arc<Self>, flush: &Flush);
}

/// What a room writes to its viewers at one time; shared by all workers.
pub struct Flush {
    /// Whose.
    pub room: RoomKey,
    /// Counts the room's flushes; compared with [`super::Seat::from`].
    pub sequence: u64,
    /// By [`Format`]; `None` where the room has no viewer of the format.
    pub frames: [Option<Frames>; Format::ALL.len()],
    /// Chat messages in it: what a slow viewer misses when it skips the flush.
    pub chats: u32,
    /// When the oldest message in it was accepted, for the fan-out latency.
    pub accepted: Instant,
    writers: AtomicUsize,
    owner: Arc<dyn Flushed>,
}

impl Flush {
    /// A flush that `writers` workers (at least one) will write.
    pub fn new(
        room: RoomKey,
        sequence: u64,
        frames: [Option<Frames>; Format::ALL.len()],
        chats: u32,
        accepted: Instant,
        writers: usize,
        owner: Arc<dyn Flushed>,
    ) -> Flush {
        Flush { room, sequence, frames, chats, accepted, writers: AtomicUsize::new(writers), owner }
    }

    /// One worker has written it to all its rows.
    pub(super) fn written(&self) {
        if self.writers.fetch_sub(1, Ordering::AcqRel) == 1 {
            Arc::clone(&self.owner).flushed(self);
        }
    }
}

impl fmt::Debug for Flush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flush")
            .field("room", &self.room)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}
