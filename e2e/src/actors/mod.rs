//! Who works in a run: publishers, viewers, and the nemesis. All write down what they see.

mod nemesis;
mod publisher;
mod viewer;

pub use nemesis::nemesis;
pub use publisher::{burst, publish_until_taken, publisher};
pub use viewer::viewer;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    history::{History, Ms},
    world::Pods,
};

/// Where the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everybody works, viewers come and go.
    Work,
    /// Nothing is broken any more: viewers go to their places and stay.
    Settle,
    /// The last messages: nobody publishes or says anything of their own accord.
    Last,
    /// Over.
    Over,
}

/// What all actors share.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The servers.
    pub pods: Arc<Pods>,
    /// Where the run is.
    pub phase: watch::Receiver<Phase>,
    /// Drawn for each actor from the run's own.
    pub seed: u64,
    /// What each viewer has to say of its own accord.
    pub last_words: watch::Receiver<Vec<Option<String>>>,
    history: Arc<Mutex<History>>,
    started: Instant,
}

impl Stage {
    /// An empty history that begins now.
    pub fn new(
        pods: Arc<Pods>,
        phase: watch::Receiver<Phase>,
        last_words: watch::Receiver<Vec<Option<String>>>,
        seed: u64,
    ) -> Stage {
        Stage { pods, phase, seed, last_words, history: Arc::default(), started: Instant::now() }
    }

    /// Now, as histories count.
    pub fn now(&self) -> Ms {
        self.started.elapsed().as_millis() as Ms
    }

    /// The history, to write into.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the run is now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Waits for a time of the run.
    pub async fn wait_until(&self, at: Ms) {
        tokio::time::sleep_until((self.started + Duration::from_millis(at)).into()).await;
    }
}
