//! From the pod that publishes to every pod that has viewers of the room.
//!
//! `room` hands over its own chats once a flush ([`Relay::chat`]); `admin` publishes to the priority lane
//! ([`Relay::priority`]) and moderates ([`Relay::moderate`]). What arrives goes to the [`Deliver`] at the
//! other end, which is `room` again. The relay numbers the priority lane: (epoch, offset) without holes,
//! or it says that there is one. The lanes' promises are those of the README's operations chapter.

pub mod desk;
mod memory;
mod metrics;
pub mod peers;
pub mod redis;
pub mod sequence;

use std::sync::Arc;

use danmu_wire::{Event, Held, Lane, Settled};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use desk::Logged;
pub use memory::Memory;
pub use metrics::Metrics;
pub use peers::Peers;

/// Events of the priority lane that are kept for recovery, a room.
pub const LOG: usize = 1024;

/// Why an event was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// More waits for the room than it may hold.
    #[error("the room has too much waiting: try again")]
    Busy,
    /// Redis does not answer. The event may have been taken if the connection broke in between: publish
    /// it again with the same `Idempotency-Key` and it counts once.
    #[error("the relay cannot be reached: try again with the same Idempotency-Key")]
    Away,
    /// The key was used before, for something else.
    #[error("this Idempotency-Key was used for another message")]
    Conflict,
    /// A list of mutes or bans, or the queue of held messages, is full.
    #[error("{0}")]
    Full(String),
}

impl PublishError {
    fn queue_full() -> PublishError {
        let (most, minutes) = (desk::HELD, desk::HELD_FOR.as_secs() / 60);
        PublishError::Full(format!(
            "{most} messages wait for a moderator already; each waits {minutes} minutes"
        ))
    }
}

/// A taken priority event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// The message's id; of the first publish under this key.
    pub id: Option<String>,
    /// The lane's epoch.
    pub epoch: String,
    /// The event's place in the lane.
    pub offset: u64,
}

/// What a moderator does to a room at run time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Change {
    /// To whom.
    pub target: Target,
    /// Milliseconds since 1970 until which it holds; none is until lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lifted: bool,
    /// Of slow mode: seconds between two messages of one viewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
}

/// Whom a [`Change`] is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// This user may watch but not write.
    Mute(String),
    /// What this user writes is seen by them alone.
    Shadow(String),
    /// Slow mode, in place of the manifest's.
    SlowMode,
    /// This user may not come in.
    Ban(String),
    /// Nobody from this network may come in.
    BanNetwork(IpNet),
    /// This user's connections are closed, once; not kept.
    Disconnect(String),
}

/// What the relay knows of a room when it is opened or made whole again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Opening {
    /// The lane's epoch.
    pub epoch: String,
    /// Its highest offset.
    pub offset: u64,
    /// The newest events up to it, numbered, oldest first.
    pub log: Vec<Event>,
}

/// A room of this pod, or one of its sub-rooms, as the other pods are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// The room.
    pub room: Arc<str>,
    /// The sub-room, where the room is divided and somebody is in it.
    pub sub: Option<u32>,
    /// Viewers on this pod.
    pub viewers: u64,
    /// Distinct senders on this pod in the last two seconds.
    pub senders: u32,
    /// Messages said each second on this pod, shown or not.
    pub messages: u32,
    /// How far this pod by itself would have the room shed load.
    pub stage: u8,
}

/// Takes what the relay brings. None of it may block.
pub trait Deliver: Send + Sync {
    /// The room is connected: viewers may be told its epoch. Also after a cut, with the whole log again,
    /// when the epoch is another one; everybody is then told a gap.
    fn opened(&self, room: &str, opening: Opening);
    /// The relay cannot be reached: the room goes on by itself.
    fn alone(&self, room: &str);
    /// What another pod has for the chat lane, in its order: of a sub-room, or for the whole room.
    fn chat(&self, room: &str, sub: Option<u32>, events: Vec<Event>);
    /// Such chats, which follow, are here; they were sent at `stamp`, in microseconds since 1970. For traces.
    fn relayed(&self, _room: &str, _sub: Option<u32>, _stamp: u64, _events: &[Event]) {}
    /// The next priority event, numbered.
    ///
    /// # Errors
    /// [`PublishError::Busy`] when the room's bounded queue is full; the relay brings it again.
    fn priority(&self, room: &str, event: Event) -> Result<(), PublishError>;
    /// So many messages are lost on the lane; unknown how many without a number.
    fn gap(&self, room: &str, sub: Option<u32>, lane: Lane, dropped: Option<u64>);
    /// A moderator's change; whether a lift found something here.
    ///
    /// # Errors
    /// [`PublishError::Full`] when the room's lists hold no more.
    fn moderate(&self, room: &str, change: &Change) -> Result<bool, PublishError>;
    /// All mutes and bans that are kept, in place of what was known: a lift may have been missed.
    fn moderation(&self, room: &str, all: &[Change]);
    /// A message waits for a moderator.
    fn held(&self, room: &str, held: Held);
    /// A message waits no more.
    fn settled(&self, room: &str, settled: &Settled);
    /// The other pods of the room, or of a sub-room of it.
    fn peers(&self, room: &str, sub: Option<u32>, peers: Peers);
    /// The open rooms of this pod, each followed by those of its sub-rooms that have a channel of their own.
    fn here(&self) -> Vec<Here>;
}

/// The relay of this process.
#[derive(Debug)]
pub enum Relay {
    /// One process is the whole fleet.
    Memory(Memory),
    /// Pods that share a Redis.
    Redis(Box<redis::Redis>),
}

impl Relay {
    /// Begins to deliver to `deliver`, which the relay does not keep alive.
    pub fn attach(&self, deliver: &Arc<impl Deliver + 'static>) {
        let weak = Arc::downgrade(deliver) as std::sync::Weak<dyn Deliver>;
        match self {
            Relay::Memory(memory) => memory.attach(weak),
            Relay::Redis(redis) => redis.attach(weak),
        }
    }

    /// Connects a room that was just opened here; [`Deliver::opened`] or [`Deliver::alone`] follows.
    pub fn open(&self, room: &Arc<str>) {
        match self {
            Relay::Memory(memory) => memory.open(room),
            Relay::Redis(redis) => redis.open(room),
        }
    }

    /// The room has no viewers left and is forgotten here.
    pub fn close(&self, room: &Arc<str>) {
        match self {
            Relay::Memory(memory) => memory.close(room),
            Relay::Redis(redis) => redis.close(room),
        }
    }

    /// Opens the channel of a sub-room of an open room.
    pub fn open_sub(&self, room: &Arc<str>, sub: u32) {
        if let Relay::Redis(redis) = self {
            redis.open_sub(room, sub);
        }
    }

    /// Nobody has been in the sub-room for long, or the room is not divided any more.
    pub fn close_sub(&self, room: &Arc<str>, sub: u32) {
        if let Relay::Redis(redis) = self {
            redis.close_sub(room, sub);
        }
    }

    /// Whether other pods may need this pod's chats, so that a room makes them ready.
    pub fn has_peers(&self) -> bool {
        matches!(self, Relay::Redis(_))
    }

    /// Tells other pods the chats of one flush, on the channel of a sub-room or on the room's own. `before` counts
    /// what this pod published there earlier, so that the others know what they lost. Never blocks; what cannot
    /// be sent is lost.
    pub fn chat(&self, room: &str, sub: Option<u32>, before: u64, chats: &[Event]) {
        match self {
            Relay::Memory(_) => {}
            Relay::Redis(redis) => redis.chat(room, sub, before, chats),
        }
    }

    /// Publishes to the priority lane. Answers once the event is numbered and kept: in this process, or
    /// in the memory of Redis's primary. `key` makes a second publish of the same event count once. A gift
    /// of the same user and kind within `combo_ms` of the last one counts up; 0 is off.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn priority(
        &self,
        room: &str,
        event: Event,
        key: Option<&str>,
        combo_ms: u32,
    ) -> Result<Receipt, PublishError> {
        match self {
            Relay::Memory(memory) => memory.priority(room, event, key, combo_ms),
            Relay::Redis(redis) => redis.priority(room, event, key, combo_ms).await,
        }
    }

    /// Mutes, bans, or lifts, on every pod. Answers whether a lift found something.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn moderate(&self, room: &str, change: Change) -> Result<bool, PublishError> {
        match self {
            Relay::Memory(memory) => memory.moderate(room, &change),
            Relay::Redis(redis) => redis.moderate(room, &change).await,
        }
    }

    /// Keeps a message for the moderators of all pods, for [`desk::HELD_FOR`] at most.
    ///
    /// # Errors
    /// [`PublishError::Full`] when as much waits as may, [`PublishError::Away`].
    pub async fn hold(&self, room: &str, held: Held) -> Result<(), PublishError> {
        match self {
            Relay::Memory(memory) => memory.hold(room, held),
            Relay::Redis(redis) => redis.hold(room, &held).await,
        }
    }

    /// What waits for a moderator, oldest first.
    ///
    /// # Errors
    /// [`PublishError::Away`].
    pub async fn held(&self, room: &str) -> Result<Vec<Held>, PublishError> {
        match self {
            Relay::Memory(memory) => Ok(memory.held(room)),
            Relay::Redis(redis) => redis.held(room).await,
        }
    }

    /// Takes a message out of the queue, once: of two moderators one gets it.
    ///
    /// # Errors
    /// [`PublishError::Away`].
    pub async fn settle(&self, room: &str, settled: &Settled) -> Result<Option<Held>, PublishError> {
        match self {
            Relay::Memory(memory) => Ok(memory.settle(room, settled)),
            Relay::Redis(redis) => redis.settle(room, settled).await,
        }
    }

    /// Writes down what a moderator did; the oldest of [`desk::LOG`] makes room.
    ///
    /// # Errors
    /// [`PublishError::Away`].
    pub async fn write_down(&self, room: &str, logged: Logged) -> Result<(), PublishError> {
        match self {
            Relay::Memory(memory) => {
                memory.write_down(room, logged);
                Ok(())
            }
            Relay::Redis(redis) => redis.write_down(room, &logged).await,
        }
    }

    /// What moderators did, oldest first.
    ///
    /// # Errors
    /// [`PublishError::Away`].
    pub async fn written(&self, room: &str) -> Result<Vec<Logged>, PublishError> {
        match self {
            Relay::Memory(memory) => Ok(memory.written(room)),
            Relay::Redis(redis) => redis.written(room).await,
        }
    }

    /// Whether this pod is the one to do `what` for the room: of all pods that ask within `lasts` of each other, and
    /// go on asking, one gets it.
    ///
    /// # Errors
    /// [`PublishError::Away`].
    pub async fn claim(
        &self,
        room: &str,
        what: &str,
        lasts: std::time::Duration,
    ) -> Result<bool, PublishError> {
        match self {
            Relay::Memory(_) => Ok(true),
            Relay::Redis(redis) => redis.claim(room, what, lasts).await,
        }
    }

    /// Looks whether the room's lane is further than we know: a viewer came who has seen more.
    pub fn check(&self, room: &Arc<str>) {
        if let Relay::Redis(redis) = self {
            redis.check(room);
        }
    }

    /// Whether pods are cut off from each other.
    pub fn is_degraded(&self) -> bool {
        match self {
            Relay::Memory(_) => false,
            Relay::Redis(redis) => redis.is_degraded(),
        }
    }
}

/// The event as its publisher gave it: two publishes under one key are the same when this is the same.
fn without_id(event: &Event) -> Event {
    let mut event = event.clone();
    event.set_offset(0);
    event.set_id(String::new());
    if let Event::Super(said) = &mut event {
        said.at = 0;
    }
    event
}
