//! What was said, by its position in the video: for replays, and for rooms that shed load.
//!
//! A position is milliseconds from the video's beginning; ten seconds of them are a segment, the unit that is
//! stored, cut to size and fetched. `room` hands over what it shows ([`Segments::keep`]) and what a viewer of a
//! replay says ([`Segments::keep_told`]); `edge` answers `GET /rooms/{id}/danmu` with [`Segments::fetch`].
//! Nothing here runs on the rows' threads: a bounded queue leads to one task that writes, and what does not
//! fit is counted. Where it is kept is behind [`Store`]: [`Embedded`] in this process, [`Shared`] on the Redis
//! that several pods share.

mod answer;
mod clock;
mod embedded;
mod metrics;
mod recorder;
mod shared;

use std::{sync::Arc, time::Duration};

use danmu_crds::Recording;
use danmu_wire::{Event, Placed, Removed};
use futures_util::future::BoxFuture;

pub use answer::{Answer, BadRange, Fetch, Range};
pub use clock::Clock;
pub use embedded::Embedded;
pub use metrics::Metrics;
pub use recorder::{Segments, Told};
pub use shared::Shared;

/// Milliseconds of a segment. Long enough that a viewer asks every ten seconds and a cache holds few pieces;
/// short enough that a room which sheds load, whose viewers read the newest segment again and again, sends
/// half of five seconds twice and not half of a minute: some 50 kB of JSON (15 kB compressed) at 40 a second.
pub const SEGMENT: u64 = 10_000;
/// The last position: a video of a year.
pub const LAST_POSITION: u64 = 366 * 24 * 3600 * 1000;
/// Chats kept of a segment. Of more, so many are kept that every one has the same chance.
pub const KEPT: u64 = 4096;
/// Most bytes of one segment's gifts and notices, over which they are left out.
const PRIORITY_BYTES: u64 = 1 << 20;

/// The segment of a position.
pub const fn segment(at: u64) -> u64 {
    at / SEGMENT
}

/// How long and how much of a room is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// A segment that was not written to for so long is forgotten.
    pub age: Duration,
    /// Most bytes of the room; over it the segments that were not written to for longest are forgotten.
    pub bytes: u64,
}

impl From<Recording> for Keep {
    fn from(recording: Recording) -> Keep {
        Keep {
            age: Duration::from_secs(u64::from(recording.retention_days) * 24 * 3600),
            bytes: recording.max_bytes,
        }
    }
}

/// Something to keep.
#[derive(Clone, Debug)]
pub struct Write {
    /// Whose.
    pub room: Arc<str>,
    /// How long the room's are kept.
    pub keep: Keep,
    /// When it was said, in milliseconds since 1970.
    pub said: u64,
    /// What, and where.
    pub placed: Placed,
}

impl Write {
    /// The id of a gift or a notice. Every pod hands these over, and they are kept once; chats are handed over
    /// by the pod they were said on alone, and have none.
    fn once(&self) -> Option<&str> {
        (!matches!(self.placed.event, Event::Chat(_))).then(|| self.placed.event.id()).flatten()
    }

    /// As it is stored: when it was said, a space, and the event's JSON.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} ", self.said).into_bytes();
        // Serialising our own plain structs cannot fail.
        if serde_json::to_writer(&mut bytes, &self.placed).is_err() {
            bytes.clear();
        }
        bytes
    }
}

/// Something that was kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// When it was said, in milliseconds since 1970.
    pub said: u64,
    /// What, and where.
    pub placed: Placed,
}

impl Note {
    /// Reads what [`Write::bytes`] wrote; `None` for anything else, for whoever may write to the store.
    fn read(bytes: &[u8]) -> Option<Note> {
        let (said, json) = std::str::from_utf8(bytes).ok()?.split_once(' ')?;
        Some(Note { said: said.parse().ok()?, placed: serde_json::from_str(json).ok()? })
    }

    /// Whether a removal at the time `now` (milliseconds since 1970) is about it. What a user says later is not
    /// meant (with a second for clocks that differ). "All" is what may be on a screen: a slip must not take a
    /// whole recording away.
    fn is_meant(&self, removed: &Removed, now: u64) -> bool {
        let event = &self.placed.event;
        let user = match event {
            Event::Chat(chat) => chat.user.as_deref(),
            Event::Gift(gift) => gift.user.as_deref(),
            Event::Super(said) => said.user.as_deref(),
            _ => None,
        };
        event.id().is_some_and(|id| removed.ids.iter().any(|other| other == id))
            || (removed.user.is_some() && removed.user.as_deref() == user && self.said <= now + 1000)
            || (removed.all && self.said.saturating_add(ON_SCREEN.as_millis() as u64) >= now)
    }
}

/// What "all" removes of a recording: what was said this recently.
pub const ON_SCREEN: Duration = Duration::from_secs(600);

/// One segment as it is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// Chats that were said in it, kept or not.
    pub chats: u64,
    /// What is kept of them and every gift and notice, in no order.
    pub notes: Vec<Note>,
}

/// The store did not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or not in time.
    #[error("the store of segments cannot be reached: {0}")]
    Away(String),
    /// It answered with an error.
    #[error("the store of segments failed: {0}")]
    Failed(String),
}

/// What an operation of a store comes to.
pub type Outcome<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Where segments are kept. Every operation ends within seconds, one way or the other.
pub trait Store: std::fmt::Debug + Send + Sync + 'static {
    /// Keeps all of them. Of a segment's chats at most [`KEPT`] are kept, chosen evenly from all that were said
    /// in it; a gift or a notice of one id is kept once.
    fn append<'a>(&'a self, writes: &'a [Write]) -> Outcome<'a, ()>;

    /// What is kept of a segment; empty where nothing was said.
    fn read<'a>(&'a self, room: &'a str, segment: u64) -> Outcome<'a, Stored>;

    /// Takes away what a moderator removed; answers how much there was.
    fn erase<'a>(&'a self, room: &'a str, removed: &'a Removed, now: u64) -> Outcome<'a, u64>;

    /// Forgets the segments that are too old or too many; answers how many. `now` is in milliseconds since 1970.
    fn trim<'a>(&'a self, room: &'a str, keep: Keep, now: u64) -> Outcome<'a, u64>;
}
