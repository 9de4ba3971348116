//! The one task that writes, and the bounded queue that leads to it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use danmu_wire::{Placed, Removed};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
};

use super::{Answer, BadRange, Clock, Fetch, Keep, Metrics, Range, Store, Write, answer::Answers};

/// Messages that wait to be written. At 1,000 a second these are 8 s of a store that does not answer.
const WAITING: usize = 8192;
/// Messages in one write.
const AT_ONCE: usize = 1024;
/// For one write. A store has shorter ones of its own.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often a room that is written to is trimmed.
const TRIM: Duration = Duration::from_secs(30);
/// How long a removal waits for what other pods have in their queues.
const BEFORE_ERASE: Duration = Duration::from_secs(1);

/// Attempts at a removal.
const ATTEMPTS: u32 = 5;
/// Removals that wait; each walks through a whole recording, one at a time. Nobody can pile up more.
const REMOVALS: usize = 256;

/// Told whether the message was kept, on the task that writes; it must not block.
pub type Told = Box<dyn FnOnce(bool) + Send>;

enum Job {
    Keep(Write, Option<Told>),
    Erase {
        room: Arc<str>,
        removed: Removed,
        now: u64,
    },
    Trim {
        room: Arc<str>,
        keep: Keep,
    },
    /// Told when all before it is done.
    Settle(oneshot::Sender<()>),
}

/// Segments of all rooms of this process: the way in and out.
pub struct Segments {
    jobs: mpsc::Sender<Job>,
    answers: Answers,
    metrics: Arc<Metrics>,
    clock: Mutex<Clock>,
}

impl Segments {
    /// Segments kept in `store`; `runtime` runs the task that writes.
    pub fn new(
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        runtime: &tokio::runtime::Handle,
    ) -> Arc<Segments> {
        let (jobs, queue) = mpsc::channel(WAITING);
        let segments = Arc::new(Segments {
            jobs,
            answers: Answers::new(Arc::clone(&store), Arc::clone(&metrics)),
            metrics: Arc::clone(&metrics),
            clock: Mutex::new(Clock::new(Instant::now(), SystemTime::now())),
        });
        let writer = Writer {
            store,
            metrics,
            answers: segments.answers.clone(),
            trimmed: HashMap::new(),
            removals: JoinSet::new(),
            walks: Arc::new(Semaphore::new(1)),
        };
        runtime.spawn(writer.run(queue));
        segments
    }

    /// The time, in milliseconds since 1970, without the jumps of this machine's clock.
    pub fn now(&self) -> u64 {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let before = clock.jumps();
        let now = clock.millis(Instant::now(), SystemTime::now());
        if clock.jumps() > before {
            self.metrics.jumps.inc();
            tracing::warn!(
                "the clock of this machine jumped; positions of recordings follow in 30 s if it stays"
            );
        }
        now
    }

    /// Keeps a message; what does not fit the queue is lost and counted. Never blocks.
    pub fn keep(&self, room: &Arc<str>, keep: Keep, placed: Placed) {
        let write = Write { room: Arc::clone(room), keep, said: self.now(), placed };
        if self.jobs.try_send(Job::Keep(write, None)).is_err() {
            self.metrics.lost("queue_full", 1);
        }
    }

    /// Keeps a message and tells whether it was; `false` when not even the queue took it, and then `told` is
    /// not called. Never blocks.
    pub fn keep_told(&self, room: &Arc<str>, keep: Keep, placed: Placed, told: Told) -> bool {
        let write = Write { room: Arc::clone(room), keep, said: self.now(), placed };
        let taken = self.jobs.try_send(Job::Keep(write, Some(told))).is_ok();
        if !taken {
            self.metrics.lost("queue_full", 1);
        }
        taken
    }

    /// Takes away what a moderator removed, after what waits to be written.
    pub fn erase(&self, room: &Arc<str>, removed: &Removed) {
        let job = Job::Erase { room: Arc::clone(room), removed: removed.clone(), now: self.now() };
        if self.jobs.try_send(job).is_err() {
            self.metrics.lost("removal", 1);
            tracing::error!(room = &**room, "a removal did not reach the recording: remove it again");
        }
    }

    /// Forgets what is too old or too much.
    pub fn trim(&self, room: &Arc<str>, keep: Keep) {
        // The next turn finds the same.
        let _ = self.jobs.try_send(Job::Trim { room: Arc::clone(room), keep });
    }

    /// Waits until all that waits is written, or for as long as one write may take: the process is about to end.
    pub async fn settle(&self) {
        let (tell, told) = oneshot::channel();
        let settled = async {
            if self.jobs.send(Job::Settle(tell)).await.is_ok() {
                let _ = told.await;
            }
        };
        if tokio::time::timeout(DEADLINE, settled).await.is_err() {
            tracing::warn!("the last messages could not be recorded in time");
        }
    }

    /// What was said in the range; `live` is where the live video is, if there is one.
    ///
    /// # Errors
    /// See [`Fetch`].
    pub async fn fetch(
        &self,
        room: &Arc<str>,
        range: Range,
        live: Option<u64>,
    ) -> Result<Arc<Answer>, Fetch> {
        self.answers.fetch(room, range, live).await
    }

    /// Counts a request that asked for no range.
    pub fn refused(&self, _: BadRange) {
        self.metrics.fetched("refused");
    }
}

impl std::fmt::Debug for Segments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segments").finish_non_exhaustive()
    }
}

struct Writer {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    answers: Answers,
    trimmed: HashMap<Arc<str>, Instant>,
    removals: JoinSet<()>,
    /// Held by the removal that walks.
    walks: Arc<Semaphore>,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(AT_ONCE);
        while queue.recv_many(&mut jobs, AT_ONCE).await > 0 {
            let (mut writes, mut told) = (Vec::new(), Vec::new());
            let mut settled = Vec::new();
            for job in jobs.drain(..) {
                match job {
                    Job::Keep(write, tell) => {
                        writes.push(write);
                        told.extend(tell);
                    }
                    Job::Erase { room, removed, now } => {
                        // What was said before goes in before, so that it is found.
                        self.write(std::mem::take(&mut writes), std::mem::take(&mut told)).await;
                        self.erase(room, removed, now);
                    }
                    Job::Trim { room, keep } => self.trim(&room, keep).await,
                    Job::Settle(tell) => settled.push(tell),
                }
            }
            self.write(writes, told).await;
            if !settled.is_empty() {
                // Whoever waits has a deadline of its own.
                while self.removals.join_next().await.is_some() {}
            }
            for tell in settled {
                let _ = tell.send(());
            }
        }
    }

    async fn write(&mut self, writes: Vec<Write>, told: Vec<Told>) {
        if writes.is_empty() {
            return;
        }
        let started = Instant::now();
        let written = tokio::time::timeout(DEADLINE, self.store.append(&writes)).await;
        self.metrics.write.observe(started.elapsed().as_secs_f64());
        let error = match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no end within {DEADLINE:?}")),
        };
        let kept = error.is_none();
        match error {
            None => drop(self.metrics.kept.inc_by(writes.len() as u64)),
            Some(error) => {
                tracing::warn!(%error, messages = writes.len(), "messages are not recorded");
                self.metrics.lost("store", writes.len() as u64);
            }
        }
        for write in &writes {
            self.answers.outdated(&write.room, write.placed.at).await;
        }
        told.into_iter().for_each(|tell| tell(kept));
        for write in &writes {
            let due = self.trimmed.get(&write.room).is_none_or(|at| at.elapsed() >= TRIM);
            if due {
                self.trim(&write.room, write.keep).await;
            }
        }
    }

    async fn trim(&mut self, room: &Arc<str>, keep: Keep) {
        // Rooms that are trimmed no more are forgotten here as well.
        self.trimmed.retain(|_, at| at.elapsed() < TRIM);
        self.trimmed.insert(Arc::clone(room), Instant::now());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        match tokio::time::timeout(DEADLINE, self.store.trim(room, keep, now.as_millis() as u64)).await {
            Ok(Ok(forgotten)) => drop(self.metrics.forgotten.inc_by(forgotten)),
            Ok(Err(error)) => tracing::warn!(%error, room = &**room, "old segments are not forgotten"),
            Err(_) => tracing::warn!(room = &**room, "old segments are not forgotten: it takes too long"),
        }
    }

    /// A walk through a whole recording, on a task of its own: what is said meanwhile is written meanwhile.
    fn erase(&mut self, room: Arc<str>, removed: Removed, now: u64) {
        while self.removals.try_join_next().is_some() {}
        if self.removals.len() >= REMOVALS {
            self.metrics.lost("removal", 1);
            return tracing::error!(
                room = &*room,
                "too many removals wait for the recording: remove it again"
            );
        }
        let (store, metrics, answers) =
            (Arc::clone(&self.store), Arc::clone(&self.metrics), self.answers.clone());
        let walks = Arc::clone(&self.walks);
        self.removals.spawn(async move {
            for attempt in 1..=ATTEMPTS {
                tokio::time::sleep(BEFORE_ERASE * attempt).await;
                // Never closed.
                let Ok(_walk) = walks.acquire().await else { return };
                match store.erase(&room, &removed, now).await {
                    Ok(erased) => {
                        metrics.erased.inc_by(erased);
                        return answers.forget(&room);
                    }
                    Err(error) => {
                        tracing::warn!(%error, attempt, room = &*room, "a removal failed in the recording");
                    }
                }
            }
            metrics.lost("removal", 1);
            tracing::error!(room = &*room, "a removal did not reach the recording: remove it again");
        });
    }
}
