//! What Redis pushes, on its way from the connection to the link.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use redis::{PushInfo, PushKind, Value};
use tokio::sync::{Notify, mpsc};

use super::{BYTES, Shared};

/// Pushed messages that wait; at 20,000 a second these are 400 ms.
pub(super) const QUEUE: usize = 8192;

/// The way from the connection to the link.
pub(super) struct Pushed {
    queue: mpsc::Sender<Push>,
    pub(super) bytes: AtomicUsize,
    /// Something was lost on the way: the queue was full.
    pub(super) lost: AtomicBool,
    /// A node of the cluster went away, and subscriptions with it.
    pub(super) cut: AtomicBool,
    /// Rung when the session turned out to be dead.
    pub(super) broken: Arc<Notify>,
    is_cluster: bool,
}

/// What Redis pushes.
pub(super) enum Push {
    /// On a channel.
    Message(String, Vec<u8>),
    /// The channel's subscription has ended: by our own wish, or because its slot is on another node now.
    Ended(String),
}

impl Pushed {
    pub(super) fn new(queue: mpsc::Sender<Push>, is_cluster: bool) -> Pushed {
        Pushed {
            queue,
            bytes: AtomicUsize::new(0),
            lost: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            broken: Arc::default(),
            is_cluster,
        }
    }

    /// On the connection's own task: never waits.
    pub(super) fn take(&self, info: PushInfo, shared: &Shared) {
        match info.kind {
            PushKind::Message | PushKind::SMessage => {
                let Some((channel, bytes)) = message(info.data) else { return };
                let length = bytes.len();
                if self.bytes.fetch_add(length, Ordering::Relaxed) + length > BYTES
                    || self.queue.try_send(Push::Message(channel, bytes)).is_err()
                {
                    self.bytes.fetch_sub(length, Ordering::Relaxed);
                    self.lost.store(true, Ordering::Relaxed);
                    shared.metrics.lost("inbox_full");
                }
            }
            PushKind::SUnsubscribe => {
                let Some(Value::BulkString(channel)) = info.data.into_iter().next() else { return };
                let Ok(channel) = String::from_utf8(channel) else { return };
                if self.queue.try_send(Push::Ended(channel)).is_err() {
                    self.cut.store(true, Ordering::Relaxed);
                }
            }
            // A cluster: one of its nodes, which comes back by itself. One server: the session is over.
            PushKind::Disconnection if self.is_cluster => self.cut.store(true, Ordering::Relaxed),
            PushKind::Disconnection => self.broken.notify_one(),
            _ => {}
        }
    }
}

/// What a pushed message holds: the channel and the bytes.
fn message(data: Vec<Value>) -> Option<(String, Vec<u8>)> {
    let mut data = data.into_iter();
    match (data.next()?, data.next()?) {
        (Value::BulkString(channel), Value::BulkString(bytes)) => {
            Some((String::from_utf8(channel).ok()?, bytes))
        }
        _ => None,
    }
}
