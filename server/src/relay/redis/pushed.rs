//! What Redis pushes, from the connection's own task to the link: bounded, and what does not fit is told.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use redis::{PushInfo, PushKind, Value};
use tokio::sync::{Notify, mpsc};

use super::{BYTES, Shared, script};

/// Pushed messages that wait; at 20,000 a second these are 400 ms.
const PUSHED: usize = 8192;

/// What Redis pushes, on its way to the link.
pub(super) struct Pushed {
    messages: mpsc::Sender<(String, Vec<u8>)>,
    bytes: AtomicUsize,
    /// Something was lost on the way: a full queue, or a cluster node that went away.
    lost: AtomicBool,
    /// Channels that a cluster's node does not have any more, because their slot moved.
    moved: Mutex<Vec<String>>,
    /// Rung when a channel moved.
    pub(super) rung: Notify,
    /// Rung when the session turned out to be dead.
    pub(super) broken: Arc<Notify>,
    is_cluster: bool,
}

impl Pushed {
    /// An empty queue, and its other end.
    pub(super) fn new(is_cluster: bool) -> (Arc<Pushed>, mpsc::Receiver<(String, Vec<u8>)>) {
        let (messages, pushed) = mpsc::channel(PUSHED);
        let queue = Pushed {
            messages,
            bytes: AtomicUsize::new(0),
            lost: AtomicBool::new(false),
            moved: Mutex::default(),
            rung: Notify::new(),
            broken: Arc::default(),
            is_cluster,
        };
        (Arc::new(queue), pushed)
    }

    /// A message of so many bytes was taken out.
    pub(super) fn taken(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether something was lost since this was last asked.
    pub(super) fn lost(&self) -> bool {
        self.lost.swap(false, Ordering::Relaxed)
    }

    /// The channels that moved since this was last asked.
    pub(super) fn moved(&self) -> Vec<String> {
        std::mem::take(&mut self.moved.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// On the connection's own task: never waits.
    pub(super) fn take(&self, info: PushInfo, shared: &Shared) {
        match info.kind {
            PushKind::Message | PushKind::SMessage => {
                let Some(message) = script::message(info.data) else { return };
                let length = message.1.len();
                if self.bytes.fetch_add(length, Ordering::Relaxed) + length > BYTES
                    || self.messages.try_send(message).is_err()
                {
                    self.bytes.fetch_sub(length, Ordering::Relaxed);
                    self.lost.store(true, Ordering::Relaxed);
                    shared.metrics.lost("inbox_full");
                }
            }
            // Also the answer when we left a channel; the link knows.
            PushKind::SUnsubscribe => {
                let Some(Value::BulkString(channel)) = info.data.into_iter().next() else { return };
                let Ok(channel) = String::from_utf8(channel) else { return };
                let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
                if moved.len() < PUSHED {
                    moved.push(channel);
                    self.rung.notify_one();
                } else {
                    self.broken.notify_one();
                }
            }
            // One server: the session is over. A cluster: one of its nodes, which comes back by itself.
            PushKind::Disconnection => {
                self.lost.store(true, Ordering::Relaxed);
                if !self.is_cluster {
                    self.broken.notify_one();
                }
            }
            _ => {}
        }
    }
}
