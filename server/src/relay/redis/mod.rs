//! The relay on Redis: pub/sub is the bell, a stream a room is the log.
//!
//! Three parts: [`Redis`] is what the pod calls; the `sender` task publishes chats and numbers in order;
//! the `link` task holds the subscriptions, takes what arrives, and makes rooms whole again after a cut.
//! Both connections live and die together as a session.

mod address;
mod connection;
mod keys;
mod link;
pub mod packet;
mod pushed;
mod script;
mod sender;
mod subscription;

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwapOption;
use danmu_wire::{Event, Held, Settled};
use redis::{ErrorKind, RedisError, ServerErrorKind};
use tokio::sync::{Notify, mpsc};

pub use address::{Address, AddressError};

use super::{Change, Deliver, Logged, Metrics, PublishError, Receipt};
pub(crate) use connection::Connection;
use keys::Keys;
use script::Scripts;

/// Packets that wait to be sent. At 1,000 rooms with 20 flushes a second these are 400 ms.
const OUTGOING: usize = 8192;
/// Bytes that wait to be sent, or to be taken.
const BYTES: usize = 64 << 20;
/// Rooms to open or close that wait for the link; what does not fit is found by its next tick.
const COMMANDS: usize = 8192;

/// The relay on Redis.
#[derive(Debug)]
pub struct Redis {
    shared: Arc<Shared>,
    /// Until the relay is attached.
    parts: std::sync::Mutex<Option<Parts>>,
}

/// What the tasks take with them when they start.
#[derive(Debug)]
struct Parts {
    address: Address,
    runtime: tokio::runtime::Handle,
    commands: mpsc::Receiver<Command>,
    outgoing: mpsc::Receiver<Outgoing>,
}

/// What all three parts share.
#[derive(Debug)]
struct Shared {
    keys: Keys,
    /// This process, anew at each start.
    pod: String,
    deliver: OnceLock<Weak<dyn Deliver>>,
    metrics: Arc<Metrics>,
    commands: mpsc::Sender<Command>,
    outgoing: mpsc::Sender<Outgoing>,
    outgoing_bytes: AtomicUsize,
    /// There while Redis is.
    session: ArcSwapOption<Session>,
    scripts: Scripts,
    /// False only for the checker: what the log brings after a cut is thrown away, and nobody is told.
    recovers: bool,
}

/// Both connections, from one connect to the next.
#[derive(Debug)]
struct Session {
    commanding: Connection,
    /// Rung when one of the two turned out to be dead.
    broken: Arc<Notify>,
}

impl Session {
    /// Waits for a script, at most as long as a publisher is made to wait.
    async fn answered<T>(
        &self,
        script: impl Future<Output = Result<Result<T, PublishError>, RedisError>>,
    ) -> Result<T, PublishError> {
        match tokio::time::timeout(Duration::from_secs(3), script).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::warn!(%error, "Redis refused or did not answer");
                self.failed(&error);
                Err(PublishError::Away)
            }
            Err(_) => {
                self.broken.notify_one();
                Err(PublishError::Away)
            }
        }
    }

    /// Ends the session when the error says that it is dead, or that this server is no primary any more.
    fn failed(&self, error: &RedisError) {
        // Redis 6.2 wraps what a script ran into in an error of its own.
        let demoted = matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        ) || error.detail().is_some_and(|detail| detail.contains("READONLY"));
        if demoted || error.is_io_error() || error.is_timeout() || error.is_connection_dropped() {
            self.broken.notify_one();
        }
    }
}

/// What the link is told.
#[derive(Debug)]
enum Command {
    Open(Channel),
    Close(Channel),
    Check(Arc<str>),
}

/// The channel of a room, or of one of its sub-rooms. Only a room's own has a priority lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Channel {
    room: Arc<str>,
    sub: Option<u32>,
}

impl Channel {
    fn new(room: &Arc<str>, sub: Option<u32>) -> Channel {
        Channel { room: Arc::clone(room), sub }
    }
}

/// A packet to send.
#[derive(Debug)]
struct Outgoing {
    channel: String,
    bytes: Vec<u8>,
}

impl Redis {
    /// A relay for the fleet `namespace/name`; connects once it is attached. One that does not recover
    /// (`recovers`) breaks its promises on purpose, so that the checker can show that it finds it.
    pub fn new(
        address: Address,
        fleet: &str,
        metrics: Arc<Metrics>,
        runtime: tokio::runtime::Handle,
        recovers: bool,
    ) -> Redis {
        // TLS needs one crypto provider for the process; a second installation would be refused, and is the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (commands, told) = mpsc::channel(COMMANDS);
        let (outgoing, sent) = mpsc::channel(OUTGOING);
        let shared = Arc::new(Shared {
            keys: Keys::new(fleet),
            pod: ulid::Ulid::generate().to_string(),
            deliver: OnceLock::new(),
            metrics,
            commands,
            outgoing,
            outgoing_bytes: AtomicUsize::new(0),
            session: ArcSwapOption::empty(),
            scripts: Scripts::new(),
            recovers,
        });
        let parts = Parts { address, runtime, commands: told, outgoing: sent };
        Redis { shared, parts: std::sync::Mutex::new(Some(parts)) }
    }

    pub(super) fn attach(&self, deliver: Weak<dyn Deliver>) {
        let _ = self.shared.deliver.set(deliver);
        let parts = self.parts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(Parts { address, runtime, commands, outgoing }) = parts {
            runtime.spawn(sender::run(Arc::clone(&self.shared), outgoing));
            runtime.spawn(link::run(Arc::clone(&self.shared), address, commands));
        }
    }

    pub(super) fn open(&self, room: &Arc<str>) {
        // Not sent: the link's next tick finds the room.
        let _ = self.shared.commands.try_send(Command::Open(Channel::new(room, None)));
    }

    pub(super) fn close(&self, room: &Arc<str>) {
        let _ = self.shared.commands.try_send(Command::Close(Channel::new(room, None)));
    }

    pub(super) fn open_sub(&self, room: &Arc<str>, sub: u32) {
        let _ = self.shared.commands.try_send(Command::Open(Channel::new(room, Some(sub))));
    }

    pub(super) fn close_sub(&self, room: &Arc<str>, sub: u32) {
        let _ = self.shared.commands.try_send(Command::Close(Channel::new(room, Some(sub))));
    }

    pub(super) fn check(&self, room: &Arc<str>) {
        let _ = self.shared.commands.try_send(Command::Check(Arc::clone(room)));
    }

    pub(super) fn chat(&self, room: &str, sub: Option<u32>, before: u64, chats: &[Event]) {
        match packet::chat(&self.shared.pod, before, unix_micros(), chats) {
            Some(bytes) if bytes.len() <= packet::MAX_PACKET => {
                self.shared.send(room, sub, bytes);
            }
            _ => self.shared.metrics.lost("too_large"),
        }
    }

    pub(super) async fn priority(
        &self,
        room: &str,
        event: Event,
        key: Option<&str>,
        combo_ms: u32,
    ) -> Result<Receipt, PublishError> {
        let shared = &self.shared;
        let session = shared.session.load_full().ok_or(PublishError::Away)?;
        let published =
            shared.scripts.publish(&session.commanding, &shared.keys, room, &event, key, combo_ms);
        session.answered(published).await
    }

    pub(super) async fn moderate(&self, room: &str, change: &Change) -> Result<bool, PublishError> {
        let shared = &self.shared;
        let session = shared.session.load_full().ok_or(PublishError::Away)?;
        let now = unix_micros() / 1000;
        session.answered(shared.scripts.moderate(&session.commanding, &shared.keys, room, change, now)).await
    }

    pub(super) async fn hold(&self, room: &str, held: &Held) -> Result<(), PublishError> {
        let shared = &self.shared;
        let session = shared.session.load_full().ok_or(PublishError::Away)?;
        session.answered(shared.scripts.hold(&session.commanding, &shared.keys, room, held)).await
    }

    pub(super) async fn held(&self, room: &str) -> Result<Vec<Held>, PublishError> {
        let shared = &self.shared;
        let session = shared.session.load_full().ok_or(PublishError::Away)?;
        session.answered(shared.scripts.held(&session.commanding, &shared.keys, room)).await
    }

    pub(super) async fn settle(&self, room: &str, settled: &Settled) -> Result<Option<Held>, PublishError> {
        let shared = &self.shared;
        let session = shared.session.load_full().ok_or(PublishError::Away)?;
        session.answered(shared.scripts.settle(&session.commanding, &shared.keys, room, settled)).await
    }

    pub(super) async fn write_down(&self, room: &str, logged: &Logged) -> Result<(), PublishError> {
        let shared = &self.shared;
        let session = shared.session.load_full().ok_or(PublishError::Away)?;
        session.answered(shared.scripts.write_down(&session.commanding, &shared.keys, room, logged)).await
    }

    pub(super) async fn written(&self, room: &str) -> Result<Vec<Logged>, PublishError> {
        let shared = &self.shared;
        let session = shared.session.load_full().ok_or(PublishError::Away)?;
        session.answered(shared.scripts.written(&session.commanding, &shared.keys, room)).await
    }

    pub(super) async fn claim(&self, room: &str, what: &str, lasts: Duration) -> Result<bool, PublishError> {
        let shared = &self.shared;
        let session = shared.session.load_full().ok_or(PublishError::Away)?;
        session.answered(shared.scripts.claim(&session.commanding, &shared.keys, room, what, lasts)).await
    }

    pub(super) fn is_degraded(&self) -> bool {
        self.shared.session.load().is_none()
    }
}

impl Shared {
    fn deliver(&self) -> Option<Arc<dyn Deliver>> {
        self.deliver.get()?.upgrade()
    }

    /// Gives a packet to the sender; whether it took it. What does not fit is lost, and the receivers' counts
    /// tell it.
    fn send(&self, room: &str, sub: Option<u32>, bytes: Vec<u8>) -> bool {
        let length = bytes.len();
        let fits = self.outgoing_bytes.fetch_add(length, Ordering::Relaxed) + length <= BYTES
            && self.outgoing.try_send(Outgoing { channel: self.keys.channel_of(room, sub), bytes }).is_ok();
        if !fits {
            self.outgoing_bytes.fetch_sub(length, Ordering::Relaxed);
            self.metrics.lost("queue_full");
        }
        fits
    }
}

fn unix_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
