//! Emptying this process: not ready, viewers asked to move, leftovers closed with 4001.
//!
//! A drain never ends the process and can be taken back; SIGTERM drains and then ends it (`main`).

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::edge::{listener::Edge, session::Order};

/// Load balancers need a moment to see that we are not ready; until then new viewers are let in.
const ENDPOINTS: Duration = Duration::from_secs(2);

/// The drain of this process.
#[derive(Debug)]
pub struct Drain {
    edge: Arc<Edge>,
    runtime: tokio::runtime::Handle,
    until: Mutex<Option<Instant>>,
    seconds: AtomicU64,
}

impl Drain {
    /// Not draining. `seconds` is the length of a drain that is given none.
    pub fn new(edge: Arc<Edge>, runtime: tokio::runtime::Handle, seconds: u64) -> Arc<Self> {
        Arc::new(Drain { edge, runtime, until: Mutex::new(None), seconds: seconds.into() })
    }

    /// The length of a drain that is given none, in seconds.
    pub fn seconds(&self) -> u64 {
        self.seconds.load(Ordering::Relaxed)
    }

    /// Changes that length; a drain that is on keeps its deadline.
    pub fn set_seconds(&self, seconds: u64) {
        self.seconds.store(seconds, Ordering::Relaxed);
    }

    fn until(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a drain is on, and until when.
    pub fn deadline(&self) -> Option<Instant> {
        *self.until()
    }

    /// Starts a drain of so long, unless one is on; answers its deadline. Half of the time is for
    /// asking viewers to move, in even batches; the rest is for them to do it.
    pub fn start(self: &Arc<Self>, length: Duration, now: Instant) -> Instant {
        let mut until = self.until();
        if let Some(deadline) = *until {
            return deadline;
        }
        let deadline = now + length;
        *until = Some(deadline);
        drop(until);
        tracing::info!(seconds = length.as_secs(), "drain started");
        let wait = ENDPOINTS.min(length / 4);
        let drain = Arc::clone(self);
        self.runtime.spawn(async move {
            tokio::time::sleep(wait).await;
            // Held to the end, or the drain could be taken back in between and would close all the same.
            let until = drain.until();
            if *until != Some(deadline) {
                return;
            }
            drain.edge.closed.store(true, Ordering::Release);
            drain.edge.inboxes.drain(Order::Move(deadline), now + wait + (length - wait) / 2, deadline);
        });
        deadline
    }

    /// Takes the drain back; whether there was one. Viewers who have moved stay away.
    pub fn stop(&self) -> bool {
        let mut until = self.until();
        if until.take().is_none() {
            return false;
        }
        self.edge.closed.store(false, Ordering::Release);
        self.edge.inboxes.undrain();
        tracing::info!("drain taken back");
        true
    }
}
