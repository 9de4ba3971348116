//! What third parties are told of rooms ([`Hooks::tell`]) and asked before a message is shown ([`Hooks::ask`]).
//! Every request is signed. Nothing here blocks: events wait in a bounded queue for each receiver, and questions
//! have a deadline.

mod deliver;
mod metrics;
mod publish;
pub mod sign;

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use danmu_crds::{DanmuFleetSpec, HookEvent};
use hyper::{Method, StatusCode, Uri};
use serde_json::{Value, json};

use crate::https::{self, Https};
pub use deliver::Retry;
use deliver::{Letter, Mailbox};
pub use metrics::Metrics;
use publish::Asker;
pub use publish::{Answer, Question};
pub use sign::Secret;

/// How long the end of the process waits for what was not delivered yet.
const FLUSH: Duration = Duration::from_secs(5);
/// Connections kept to one receiver: a busy pod asks the publish hook all the time.
const KEPT: usize = 32;

/// What flags say of hooks; tests shorten the rest.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What requests are signed with; without it none is sent.
    pub secret: Option<Secret>,
    /// How events are delivered.
    pub retry: Retry,
    /// When a publish hook that fails is left alone.
    pub breaker: Breaker,
}

/// When a publish hook that fails is left alone: no message then waits for its deadline.
#[derive(Clone, Copy, Debug)]
pub struct Breaker {
    /// After so many failures in a row.
    pub failures: u32,
    /// For so long; then one message tries it again.
    pub pause: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker { failures: 5, pause: Duration::from_secs(5) }
    }
}

/// The hooks of this process.
#[derive(Debug)]
pub struct Hooks {
    settings: Settings,
    fleet: String,
    /// Made for the first hook.
    https: OnceLock<Option<Https>>,
    mailboxes: Mutex<Vec<Mailbox>>,
    asker: ArcSwapOption<Asker>,
    metrics: Arc<Metrics>,
    runtime: tokio::runtime::Handle,
}

/// Where requests go, and what signs them.
#[derive(Clone, Debug)]
struct Post {
    https: Https,
    secret: Secret,
    uri: Uri,
}

impl Post {
    /// Sends a signed body; of the answer no more than `longest` bytes are read.
    async fn send(&self, id: &str, body: Bytes, longest: usize) -> Result<(StatusCode, Bytes), https::Fault> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let headers = self.secret.headers(id, now, &body);
        self.https.request(Method::POST, &self.uri, headers, body, longest).await
    }
}

/// An event's name in what is sent, and in metrics.
fn name(event: HookEvent) -> &'static str {
    match event {
        HookEvent::RoomHot => "room.hot",
        HookEvent::RoomEnded => "room.ended",
        HookEvent::MessageHeld => "message.held",
    }
}

impl Hooks {
    /// No hooks yet. `fleet` is told with every event.
    pub fn new(
        settings: Settings,
        fleet: &str,
        metrics: Arc<Metrics>,
        runtime: tokio::runtime::Handle,
    ) -> Hooks {
        Hooks {
            settings,
            fleet: fleet.to_owned(),
            https: OnceLock::new(),
            mailboxes: Mutex::default(),
            asker: ArcSwapOption::empty(),
            metrics,
            runtime,
        }
    }

    /// Puts the fleet's hooks in force. One that did not change keeps what waits for it.
    pub fn apply(&self, fleet: &DanmuFleetSpec) {
        let hooks = fleet.hooks.clone().unwrap_or_default();
        let mut mailboxes = self.mailboxes();
        let (kept, gone): (Vec<_>, Vec<_>) =
            mailboxes.drain(..).partition(|mailbox| hooks.webhooks.contains(mailbox.hook()));
        gone.iter().for_each(|mailbox| mailbox.end(Instant::now(), "removed"));
        *mailboxes = kept;
        for hook in hooks.webhooks {
            if !mailboxes.iter().any(|mailbox| *mailbox.hook() == hook) {
                let post = self.post(&hook.url);
                let metrics = Arc::clone(&self.metrics);
                mailboxes.push(Mailbox::open(hook, post, self.settings.retry, metrics, &self.runtime));
            }
        }
        drop(mailboxes);
        let asked = self.asker.load_full();
        if asked.as_ref().map(|asker| asker.hook()) != hooks.publish.as_ref() {
            let asker = hooks.publish.map(|hook| {
                let post = self.post(&hook.url);
                Arc::new(Asker::new(hook, post, self.settings.breaker, Arc::clone(&self.metrics)))
            });
            self.asker.store(asker);
        }
    }

    /// What sends to `url`; none, and the log says why, when nothing can be sent.
    fn post(&self, url: &str) -> Option<Post> {
        let Some(secret) = self.settings.secret.clone() else {
            tracing::error!(
                url,
                "spec.hooks: requests are signed, and there is no --hook-secret; nothing is sent"
            );
            return None;
        };
        let https = self.https.get_or_init(|| {
            Https::new(KEPT)
                .map_err(|error| {
                    tracing::error!(%error, "spec.hooks: the certificate authorities of this machine cannot be read; nothing is sent");
                })
                .ok()
        });
        let uri = url.parse().map_err(|error| tracing::error!(url, %error, "spec.hooks: it is no address"));
        Some(Post { https: https.clone()?, secret, uri: uri.ok()? })
    }

    fn mailboxes(&self) -> MutexGuard<'_, Vec<Mailbox>> {
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anybody wants to be told of it.
    pub fn wants(&self, event: HookEvent) -> bool {
        self.mailboxes().iter().any(|mailbox| mailbox.wants(event))
    }

    /// Tells an event to all who want it, once they take it. `id` tells it from all other events; `data` is a JSON
    /// object.
    pub fn tell(&self, event: HookEvent, id: &str, mut data: Value) {
        data["fleet"] = self.fleet.as_str().into();
        let timestamp = jiff::Timestamp::now().to_string();
        let body = json!({"type": name(event), "timestamp": timestamp, "data": data}).to_string();
        let letter =
            Arc::new(Letter { id: id.to_owned(), event, body: body.into(), written: Instant::now() });
        for mailbox in self.mailboxes().iter().filter(|mailbox| mailbox.wants(event)) {
            mailbox.put(&letter);
        }
    }

    /// Whether a hook is to be asked before a message is shown.
    pub fn asks(&self) -> bool {
        self.asker.load().is_some()
    }

    /// What becomes of a message, by the hook's word or without one by the fleet's. Takes no longer than the hook's
    /// deadline. `clean` makes a text in place of the message's fit to be shown, or finds it unfit.
    pub async fn ask(&self, question: &Question<'_>, clean: impl Fn(&str) -> Option<String>) -> Answer {
        match self.asker.load_full() {
            Some(asker) => asker.ask(question, clean).await,
            None => Answer::Show(None),
        }
    }

    /// Delivers what waits while there is a little time, and counts the rest as dead.
    pub async fn finish(&self) {
        let mailboxes = std::mem::take(&mut *self.mailboxes());
        let end = Instant::now() + FLUSH;
        mailboxes.iter().for_each(|mailbox| mailbox.end(end, "shutdown"));
        for mailbox in mailboxes {
            mailbox.closed().await;
        }
    }
}
