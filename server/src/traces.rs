//! The way of a sampled message from the viewer who says it to the viewers who see it, as OpenTelemetry spans.
//!
//! A message's id is a ULID, which is 128 bits, and so is a trace's id: the one is the other. Whether a message is
//! traced, and what its first span is called, come of the id alone. So all pods decide alike, and nothing of a trace
//! travels with a message. What said it is never told, nor what was said.
//!
//! ```text
//! say or publish     on the pod that took it: from its receipt to the answer
//! ├ flush            there: from its acceptance until a batch took it
//! │ └ fan-out        from then until the last worker wrote it to its last viewer
//! └ relay            on each other pod: from the packet's stamp to its arrival
//!   └ flush └ fan-out
//! ```

mod export;

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroU64,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use danmu_wire::{Event, Lane};
use opentelemetry::{
    KeyValue,
    trace::{SpanId, SpanKind, TraceId},
};

use crate::{
    rows::{Flush, Flushed, RoomKey},
    splitmix::mixed,
};
use export::Queue;
pub use export::{Fault, Metrics, Origin, Settings};

/// Most messages of a pod that are traced while they wait for a flush.
const WAITING: usize = 4096;
/// What no flush has taken for so long was merged into another message, or removed before anybody saw it.
const OVER: Duration = Duration::from_secs(10);

/// What became of something said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everybody sees it.
    Shown,
    /// It was left out of the sample.
    Sampled,
    /// It waits for a moderator.
    Held,
    /// It is kept at a position of the video, for whoever fetches.
    Kept,
    /// Nobody but its sender sees it.
    Shadowed,
}

impl Outcome {
    const fn word(self) -> &'static str {
        match self {
            Outcome::Shown => "shown",
            Outcome::Sampled => "sampled",
            Outcome::Held => "held",
            Outcome::Kept => "kept",
            Outcome::Shadowed => "shadowed",
        }
    }
}

/// A span as it goes to the exporter.
#[derive(Debug)]
struct Span {
    name: &'static str,
    kind: SpanKind,
    trace: TraceId,
    id: SpanId,
    /// Invalid for a trace's first span.
    parent: SpanId,
    /// The parent is another process's.
    is_remote: bool,
    from: SystemTime,
    until: SystemTime,
    attributes: Vec<KeyValue>,
}

/// The traces of this process. There is none where nothing is traced.
#[derive(Debug)]
pub struct Traces {
    one_in: NonZeroU64,
    queue: Queue,
    waiting: Mutex<HashMap<RoomKey, Vec<Waiting>>>,
    /// How many wait, so that a flush of nothing traced takes no lock.
    count: AtomicUsize,
}

/// A traced message that waits for a flush.
#[derive(Debug)]
struct Waiting {
    message: String,
    trace: TraceId,
    parent: SpanId,
    is_remote: bool,
    since: Moment,
}

impl Traces {
    /// Begins to export. Must be called within the runtime, which the exporter then lives in.
    ///
    /// # Errors
    /// [`Fault`] when there is no way to the endpoint at all; one that does not answer is none.
    pub fn start(settings: &Settings, origin: Origin, metrics: Metrics) -> Result<Traces, Fault> {
        let queue = Queue::start(settings, origin, metrics)?;
        Ok(Traces { one_in: settings.one_in, queue, waiting: Mutex::default(), count: 0.into() })
    }

    /// Waits, for some seconds at most, until what was traced so far is exported.
    pub async fn settle(&self) {
        self.queue.settle().await;
    }

    fn trace(&self, message: &str) -> Option<u128> {
        let id = ulid::Ulid::from_string(message).ok()?.0;
        is_traced(id, self.one_in).then_some(id)
    }

    /// A viewer said something and is about to be answered.
    pub fn said(&self, room: &str, message: &str, outcome: Outcome, received: Instant) {
        self.first("say", room, message, Lane::Chat, Some(outcome), received);
    }

    /// A third party published something and is about to be answered.
    pub fn published(&self, room: &str, message: &str, lane: Lane, received: Instant) {
        self.first("publish", room, message, lane, None, received);
    }

    fn first(
        &self,
        name: &'static str,
        room: &str,
        message: &str,
        lane: Lane,
        outcome: Option<Outcome>,
        received: Instant,
    ) {
        let Some(id) = self.trace(message) else { return };
        let now = Moment::now();
        let mut attributes = about(room, lane);
        attributes.push(KeyValue::new("danmu.message", message.to_owned()));
        attributes.extend(outcome.map(|outcome| KeyValue::new("danmu.outcome", outcome.word())));
        self.queue.tell(Span {
            name,
            kind: SpanKind::Server,
            trace: id.into(),
            id: first_span(id),
            parent: SpanId::INVALID,
            is_remote: false,
            from: now.clock(received),
            until: now.wall,
            attributes,
        });
    }

    /// A message waits for a flush from now on. Its first span is of whichever pod took it.
    pub fn arrived(&self, room: RoomKey, event: &Event) {
        let Some((message, id)) = event.id().and_then(|id| Some((id, self.trace(id)?))) else { return };
        self.wait(room, message, id, first_span(id), true, Moment::now());
    }

    /// Chats of another pod, stamped by it in microseconds since 1970, have come and wait for a flush from now on.
    pub fn relayed(&self, room: &str, key: RoomKey, stamp: u64, events: &[Event]) {
        for event in events {
            let Some((message, id)) = event.id().and_then(|id| Some((id, self.trace(id)?))) else { continue };
            let now = Moment::now();
            let span = new_span();
            self.queue.tell(Span {
                name: "relay",
                kind: SpanKind::Consumer,
                trace: id.into(),
                id: span,
                parent: first_span(id),
                is_remote: true,
                // Two nodes' clocks differ: nothing arrives before it is sent.
                from: (UNIX_EPOCH + Duration::from_micros(stamp)).min(now.wall),
                until: now.wall,
                attributes: about(room, Lane::Chat),
            });
            self.wait(key, message, id, span, false, now);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<RoomKey, Vec<Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, room: RoomKey, message: &str, id: u128, parent: SpanId, is_remote: bool, since: Moment) {
        let mut waiting = self.waiting();
        if self.count.load(Ordering::Relaxed) >= WAITING {
            let is_over = |one: &Waiting| since.at.saturating_duration_since(one.since.at) >= OVER;
            waiting.values_mut().for_each(|all| all.retain(|one| !is_over(one)));
            waiting.retain(|_, all| !all.is_empty());
            let left = waiting.values().map(Vec::len).sum();
            self.count.store(left, Ordering::Release);
            if left >= WAITING {
                return self.queue.drop_one();
            }
        }
        let message = message.to_owned();
        waiting.entry(room).or_default().push(Waiting {
            message,
            trace: id.into(),
            parent,
            is_remote,
            since,
        });
        self.count.fetch_add(1, Ordering::Release);
    }

    /// A flush of the room took these events at this moment; what of it is traced, if anything is.
    pub fn taken<'a>(
        self: &Arc<Self>,
        room: &Arc<str>,
        key: RoomKey,
        events: impl Iterator<Item = &'a Event>,
        at: Instant,
    ) -> Option<Taken> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut waiting = self.waiting();
        let of_room = waiting.get_mut(&key)?;
        let before = of_room.len();
        let flushed: HashSet<&str> = events.filter_map(Event::id).collect();
        let taken: Vec<Waiting> =
            of_room.extract_if(.., |one| flushed.contains(one.message.as_str())).collect();
        // Not all of the others: one may be about to be put into the next batch at this very moment.
        of_room.retain(|one| at.saturating_duration_since(one.since.at) < OVER);
        let left = of_room.len();
        if left == 0 {
            waiting.remove(&key);
        }
        self.count.fetch_sub(before - left, Ordering::Release);
        drop(waiting);
        let flushes: Vec<_> = taken.iter().map(|one| self.flush(room, one, at)).collect();
        (!flushes.is_empty()).then(|| Taken { traces: Arc::clone(self), room: Arc::clone(room), at, flushes })
    }

    fn flush(&self, room: &str, one: &Waiting, at: Instant) -> (TraceId, SpanId, Moment) {
        let id = new_span();
        self.queue.tell(Span {
            name: "flush",
            kind: SpanKind::Internal,
            trace: one.trace,
            id,
            parent: one.parent,
            is_remote: one.is_remote,
            from: one.since.wall,
            until: one.since.clock(at),
            attributes: vec![KeyValue::new("danmu.room", room.to_owned())],
        });
        (one.trace, id, one.since)
    }
}

/// What is traced of one flush.
#[derive(Debug)]
pub struct Taken {
    traces: Arc<Traces>,
    room: Arc<str>,
    at: Instant,
    /// With the span of its wait, and when that began.
    flushes: Vec<(TraceId, SpanId, Moment)>,
}

impl Taken {
    /// Puts itself in the way of the word that the last worker has written the flush.
    pub fn follow(self, owner: Arc<dyn Flushed>, viewers: u64, workers: usize) -> Arc<dyn Flushed> {
        Arc::new(Followed { taken: self, owner, viewers, workers })
    }
}

struct Followed {
    taken: Taken,
    owner: Arc<dyn Flushed>,
    viewers: u64,
    workers: usize,
}

impl Flushed for Followed {
    fn flushed(self: Arc<Self>, flush: &Flush) {
        let now = Instant::now();
        // The room goes on first.
        Arc::clone(&self.owner).flushed(flush);
        let Taken { traces, room, at, flushes } = &self.taken;
        for (trace, parent, since) in flushes {
            traces.queue.tell(Span {
                name: "fan-out",
                kind: SpanKind::Producer,
                trace: *trace,
                id: new_span(),
                parent: *parent,
                is_remote: false,
                from: since.clock(*at),
                until: since.clock(now),
                attributes: vec![
                    KeyValue::new("danmu.room", room.to_string()),
                    KeyValue::new("danmu.viewers", i64::try_from(self.viewers).unwrap_or(i64::MAX)),
                    KeyValue::new("danmu.workers", i64::try_from(self.workers).unwrap_or(i64::MAX)),
                ],
            });
        }
    }
}

/// A moment by both clocks: spans have the wall's, and the other one measures between them.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at: Instant,
    wall: SystemTime,
}

impl Moment {
    fn now() -> Moment {
        Moment { at: Instant::now(), wall: SystemTime::now() }
    }

    /// The wall clock at another moment.
    fn clock(&self, other: Instant) -> SystemTime {
        match other.checked_duration_since(self.at) {
            Some(later) => self.wall + later,
            None => self.wall - self.at.saturating_duration_since(other),
        }
    }
}

fn about(room: &str, lane: Lane) -> Vec<KeyValue> {
    let lane = match lane {
        Lane::Chat => "chat",
        Lane::Priority => "priority",
    };
    vec![KeyValue::new("danmu.room", room.to_owned()), KeyValue::new("danmu.lane", lane)]
}

/// Whether the message of this id is traced. Ids are hashed: of their bits 40 are a process's own and 40 count, so
/// that none of them is random from one message to the next.
fn is_traced(id: u128, one_in: NonZeroU64) -> bool {
    hash(id, 0).is_multiple_of(one_in.get())
}

/// The trace's first span, which other pods hang theirs under without having been told of it.
fn first_span(id: u128) -> SpanId {
    hash(id, 1).max(1).into()
}

fn new_span() -> SpanId {
    rand::random::<u64>().max(1).into()
}

/// Over both halves. It is part of what pods agree on: another one parts the traces of a rollout in two.
fn hash(id: u128, salt: u64) -> u64 {
    mixed(mixed(mixed((id >> 64) as u64) ^ id as u64) ^ salt)
}

#[cfg(test)]
mod tests;
