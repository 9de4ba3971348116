//! Delivers events to one receiver: a bounded queue, one request at a time, tries again later, and gives up.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use danmu_crds::{HookEvent, Webhook};
use hyper::StatusCode;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{Metrics, Post};

/// Events that wait for their first try.
const QUEUE: usize = 500;
/// Events that wait for another one.
const WAITING: usize = 500;

/// How events are delivered.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// How long an answer may take.
    pub deadline: Duration,
    /// The first pause; each later one is 2.5 times as long, and a random part of itself longer.
    pub first: Duration,
    /// Tries of one event.
    pub tries: usize,
    /// An event as old as this is not tried again.
    pub oldest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        // 1 s, 2.5 s … 4 min: some ten minutes together.
        Retry {
            deadline: Duration::from_secs(5),
            first: Duration::from_secs(1),
            tries: 8,
            oldest: Duration::from_secs(1200),
        }
    }
}

/// An event to deliver.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) id: String,
    pub(super) event: HookEvent,
    pub(super) body: Bytes,
    pub(super) written: Instant,
}

/// Until when a mailbox is emptied, and what is said of the rest.
type End = Option<(Instant, &'static str)>;

/// What waits for a receiver.
#[derive(Debug)]
pub(super) struct Mailbox {
    hook: Webhook,
    letters: mpsc::Sender<Arc<Letter>>,
    end: watch::Sender<End>,
    task: JoinHandle<()>,
    metrics: Arc<Metrics>,
}

impl Mailbox {
    pub(super) fn open(
        hook: Webhook,
        post: Option<Post>,
        retry: Retry,
        metrics: Arc<Metrics>,
        runtime: &tokio::runtime::Handle,
    ) -> Mailbox {
        let (letters, taken) = mpsc::channel(QUEUE);
        let end = watch::Sender::new(None);
        let postman = Postman { name: hook.name.clone(), post, retry, metrics: Arc::clone(&metrics) };
        let task = runtime.spawn(postman.run(taken, end.subscribe()));
        Mailbox { hook, letters, end, task, metrics }
    }

    pub(super) fn hook(&self) -> &Webhook {
        &self.hook
    }

    pub(super) fn wants(&self, event: HookEvent) -> bool {
        self.hook.events.contains(&event)
    }

    pub(super) fn put(&self, letter: &Arc<Letter>) {
        if self.letters.try_send(Arc::clone(letter)).is_err() {
            dead(&self.metrics, &self.hook.name, letter, "queue_full", "too many events wait for it");
        }
    }

    /// Nothing is tried after `at`.
    pub(super) fn end(&self, at: Instant, reason: &'static str) {
        self.end.send_replace(Some((at, reason)));
    }

    /// Once it is empty.
    pub(super) async fn closed(self) {
        let _ = self.task.await;
    }
}

fn dead(metrics: &Metrics, hook: &str, letter: &Letter, reason: &'static str, fault: &str) {
    metrics.dead(reason);
    let (event, id) = (super::name(letter.event), &*letter.id);
    tracing::warn!(hook, event, id, reason, fault, "a webhook does not get an event");
}

/// A letter, and when it may be tried again.
struct Tried {
    letter: Arc<Letter>,
    pauses: ExponentialBackoff,
}

/// What came of a try.
enum Outcome {
    Taken,
    /// It will not be taken.
    Refused(String),
    /// It may be taken later.
    Failed(String),
}

struct Postman {
    name: String,
    post: Option<Post>,
    retry: Retry,
    metrics: Arc<Metrics>,
}

impl Postman {
    async fn run(self, mut letters: mpsc::Receiver<Arc<Letter>>, mut end: watch::Receiver<End>) {
        // What is due first comes first; the number keeps two apart that are due at once.
        let mut waiting: BTreeMap<(Instant, u64), Tried> = BTreeMap::new();
        let mut number = 0;
        let end = loop {
            let due = waiting.first_key_value().map(|((due, _), _)| *due);
            let tried = tokio::select! {
                ended = end.wait_for(Option::is_some) => break ended.map_or(None, |end| *end),
                () = sleep_until(due) => match waiting.pop_first() {
                    Some((_, tried)) => tried,
                    None => continue,
                },
                letter = letters.recv(), if waiting.len() < WAITING => match letter {
                    Some(letter) => Tried { letter, pauses: self.pauses() },
                    None => break None,
                },
            };
            if let Some((due, tried)) = self.deliver(tried).await {
                number += 1;
                waiting.insert((due, number), tried);
            }
        };
        let (end, reason) = end.unwrap_or((Instant::now(), "removed"));
        let left = waiting.into_values().map(|tried| tried.letter);
        for letter in left.chain(std::iter::from_fn(|| letters.try_recv().ok())) {
            let taken = Instant::now() < end
                && matches!(
                    tokio::time::timeout_at(end.into(), self.once(&letter)).await,
                    Ok(Outcome::Taken)
                );
            if !taken {
                dead(&self.metrics, &self.name, &letter, reason, "there was no time for another try");
            }
        }
    }

    fn pauses(&self) -> ExponentialBackoff {
        let tries = self.retry.tries.saturating_sub(1);
        let pauses = ExponentialBuilder::new().with_min_delay(self.retry.first).with_factor(2.5);
        pauses.with_max_delay(self.retry.oldest).with_max_times(tries).with_jitter().build()
    }

    /// Tries once; answers when to try again.
    async fn deliver(&self, mut tried: Tried) -> Option<(Instant, Tried)> {
        let letter = Arc::clone(&tried.letter);
        let (reason, fault) = match self.once(&letter).await {
            Outcome::Taken => return None,
            Outcome::Refused(fault) => ("refused", fault),
            Outcome::Failed(fault) => {
                let due = tried.pauses.next().map(|pause| Instant::now() + pause);
                if let Some(due) = due.filter(|due| *due < letter.written + self.retry.oldest) {
                    return Some((due, tried));
                }
                ("exhausted", fault)
            }
        };
        let reason = if self.post.is_some() { reason } else { "unready" };
        dead(&self.metrics, &self.name, &letter, reason, &fault);
        None
    }

    async fn once(&self, letter: &Letter) -> Outcome {
        let Some(post) = &self.post else {
            return Outcome::Refused("there is no way to send it, as the log has said".to_owned());
        };
        let sent = post.send(&letter.id, letter.body.clone(), 0);
        let outcome = match tokio::time::timeout(self.retry.deadline, sent).await {
            Ok(Ok((status, _))) if status.is_success() => Outcome::Taken,
            Ok(Ok((status, _))) => {
                let later = status.is_server_error()
                    || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
                let fault = format!("it answers {status}");
                if later { Outcome::Failed(fault) } else { Outcome::Refused(fault) }
            }
            Ok(Err(fault)) => Outcome::Failed(fault.to_string()),
            Err(_) => Outcome::Failed("no answer in time".to_owned()),
        };
        self.metrics.tried(letter.event, matches!(outcome, Outcome::Taken));
        outcome
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
