//! Server → viewer: every frame is a JSON array of these events.

use serde::{Deserialize, Serialize};

use crate::{
    RefusalCode,
    desk::{Done, Held, Settled},
    kinds::{Custom, Enter, Super},
};

/// The two lanes of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Gifts, notices, moderation, mode changes: never sampled, numbered, recovered on reconnect.
    Priority,
    /// Live talk: at most once, sampled under load, newest wins.
    Chat,
}

/// Who speaks. Comes from the token's `role` claim; without a token it is [`Role::Viewer`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Watches; speaks only where the room lets viewers speak.
    #[default]
    Viewer,
    /// Speaks, with a colour of their own.
    Speaker,
    /// Speaks in any style, without slow mode and rate limits of the room.
    Moderator,
    /// A system that publishes through the admin API; also all a moderator may.
    Publisher,
}

/// How a message moves over the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placing {
    /// From right to left.
    #[default]
    Scroll,
    /// Standing, centred at the top.
    Top,
    /// Standing, centred at the bottom.
    Bottom,
}

/// The size of the letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// Smaller than normal.
    Small,
    /// As the page likes.
    #[default]
    Normal,
    /// Larger than normal.
    Large,
}

/// How a message looks. The default style costs no bytes on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Style {
    /// Scrolling or standing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: Placing,
    /// `#rrggbb` in lower case; absent is the page's own colour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
    /// The size of the letters.
    #[serde(default, skip_serializing_if = "is_default")]
    pub size: Size,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn one() -> u32 {
    1
}

fn is_one(n: &u32) -> bool {
    *n == 1
}

/// One event of a frame. The tag is `ev`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ev", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// Somebody said something.
    Chat(Chat),
    /// Somebody gave something; priority lane.
    Gift(Gift),
    /// The stream or the platform says something; priority lane.
    Notice(Notice),
    /// Somebody paid to have something said: it is pinned for a time; priority lane.
    Super(Super),
    /// Somebody came in; not told in large rooms.
    Enter(Enter),
    /// Something of the platform's own, passed through as it is; priority lane.
    Custom(Custom),
    /// The answer to a join, always the first event.
    Joined(Box<Joined>),
    /// The viewer's own message was taken.
    Ack(Ack),
    /// The viewer's own message was not taken.
    Refused(Refused),
    /// Messages to take off the screen; priority lane.
    Removed(Removed),
    /// Viewers here and messages left out; sent when it changes, at most every few seconds.
    Stats(Stats),
    /// What the room allows now; priority lane.
    Mode(Mode),
    /// For moderators: a message waits to be shown or turned away.
    Held(Box<Held>),
    /// For moderators: a message waits no more.
    Settled(Settled),
    /// What a moderator asked for is done.
    Done(Done),
    /// Something was lost on the way to this viewer.
    Gap(Gap),
    /// Connect anew soon; this connection will be closed.
    Move(Move),
    /// The answer to `op: ping`.
    Pong,
}

/// Somebody said something.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Chat {
    /// ULID; the same message seen twice has the same id.
    pub id: String,
    /// The token's `sub`; absent for anonymous viewers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Plain text, never markup; control and bidi characters are already gone.
    pub text: String,
    /// How it looks.
    #[serde(flatten)]
    pub style: Style,
    /// Shown as a badge; absent for viewers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub role: Role,
    /// How many said the same in this moment ("× n").
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub n: u32,
}

/// Somebody gave something.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gift {
    /// ULID.
    pub id: String,
    /// Place in the priority lane; 0 before the relay has numbered it.
    #[serde(default)]
    pub offset: u64,
    /// Who gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The giver's name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What was given, a word of the platform's own (`rocket`, `rose`).
    pub gift: String,
    /// How many.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u32,
    /// Words that go with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The gifts of the lane in this event: one, or more of the same sender in a row. `count` is their sum,
    /// `id` and `offset` are the last one's.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub merged: u32,
    /// What the giver has given of this without a pause, this included; absent when that is `count`.
    // The last field: the relay's script appends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub combo: Option<u64>,
}

/// The stream or the platform says something.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// ULID.
    pub id: String,
    /// Place in the priority lane.
    #[serde(default)]
    pub offset: u64,
    /// Plain text.
    pub text: String,
}

/// The answer to a join.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Joined {
    /// The room's id; absent in the lobby.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// The priority lane's epoch; send it back as `since` with the highest offset seen.
    pub epoch: String,
    /// The lane's highest offset at this moment; recovered events follow in the same frame.
    pub offset: u64,
    /// With `since`: everything missed on the priority lane follows. False: some of it is gone.
    pub recovered: bool,
    /// Viewers of the room as known here.
    pub viewers: u64,
    /// The sub-room, where the room has several; send it back as `sub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<u32>,
    /// Viewers of the sub-room as known here, where the room has several.
    #[serde(default, rename = "subViewers", skip_serializing_if = "Option::is_none")]
    pub sub_viewers: Option<u64>,
    /// What the room allows.
    #[serde(flatten)]
    pub mode: Mode,
    /// The newest chats of this server, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Chat>,
    /// What is pinned now, oldest first, with the seconds that are left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pinned: Vec<Super>,
}

/// What the room allows now. In `joined` it is part of the answer; alone it tells a change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mode {
    /// Place in the priority lane; 0 inside `joined`, which has the lane's own `offset`.
    #[serde(default, rename = "modeOffset", skip_serializing_if = "is_default")]
    pub offset: u64,
    /// Whether this viewer's kind may write: `deny`, `watch` or `speak` for anonymous viewers.
    #[serde(default)]
    pub anonymous: String,
    /// Seconds between two messages of one user; 0 is off.
    #[serde(default, rename = "slowModeSeconds", skip_serializing_if = "is_default")]
    pub slow_mode_seconds: u32,
    /// Longest message in characters.
    #[serde(default, rename = "maxLength")]
    pub max_length: u32,
    /// Chat is not sent but fetched: `GET /rooms/{id}/danmu?from=&to=`.
    #[serde(default, rename = "onDemand", skip_serializing_if = "Option::is_none")]
    pub on_demand: Option<OnDemand>,
}

/// How to fetch what is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnDemand {
    /// Milliseconds of a segment; ranges from one multiple of it to the next are answered from caches.
    #[serde(rename = "segmentMs")]
    pub segment_ms: u64,
    /// Where the live video is at this moment, in milliseconds, when the room only sheds load; absent in a
    /// replay, where every viewer has a position of their own.
    #[serde(default, rename = "atMs", skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
}

/// An event at its position in the video; `GET /rooms/{id}/danmu` answers an array of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placed {
    /// Milliseconds from the video's beginning.
    pub at: u64,
    /// What was said.
    #[serde(flatten)]
    pub event: Event,
}

/// The viewer's own message was taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ack {
    /// What the viewer sent as `ref`.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The id it got.
    pub id: String,
    /// False: left out of the room's sample; only its sender sees it (as the next event of this frame).
    pub shown: bool,
    /// A moderator looks at it first: it is shown later, or `refused` follows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub held: bool,
}

/// The viewer's own message was not taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// What the viewer sent as `ref`.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// From the table in [`crate::codes`].
    pub code: RefusalCode,
    /// The same in words.
    pub text: String,
    /// When it is worth trying again, in milliseconds.
    #[serde(default, rename = "retryMs", skip_serializing_if = "Option::is_none")]
    pub retry_ms: Option<u64>,
}

/// Messages to take off the screen: by id, all of a user, or all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Removed {
    /// Place in the priority lane.
    #[serde(default)]
    pub offset: u64,
    /// These messages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// Everything this user said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Everything.
    #[serde(default, skip_serializing_if = "is_default")]
    pub all: bool,
}

/// Viewers here and messages left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Viewers of the room over all servers.
    pub viewers: u64,
    /// Those of the viewer's own sub-room, where the room has several.
    #[serde(default, rename = "subViewers", skip_serializing_if = "Option::is_none")]
    pub sub_viewers: Option<u64>,
    /// Messages that the room's cap left out since the last stats.
    pub sampled: u64,
    /// How far the room sheds load: 1 shows less, 2 writes less often too, 3 lets viewers fetch.
    #[serde(default, skip_serializing_if = "is_default")]
    pub shedding: u8,
}

/// Something was lost on the way to this viewer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// On which lane.
    pub lane: Lane,
    /// How many messages, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
    /// The priority lane begins anew under this epoch; offsets count from 1 again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
}

/// Connect anew within the time, wait for `joined` there, then close here with 1000.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Where; absent is the same address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Milliseconds until this connection is closed.
    #[serde(rename = "withinMs")]
    pub within_ms: u64,
}

impl Event {
    /// The lane an event travels on; `None` for personal ones.
    pub const fn lane(&self) -> Option<Lane> {
        match self {
            Event::Chat(_) | Event::Enter(_) | Event::Stats(_) => Some(Lane::Chat),
            Event::Gift(_)
            | Event::Notice(_)
            | Event::Super(_)
            | Event::Custom(_)
            | Event::Removed(_)
            | Event::Mode(_) => Some(Lane::Priority),
            Event::Joined(_)
            | Event::Ack(_)
            | Event::Refused(_)
            | Event::Held(_)
            | Event::Settled(_)
            | Event::Done(_)
            | Event::Gap(_)
            | Event::Move(_)
            | Event::Pong => None,
        }
    }

    /// The id of a message.
    pub fn id(&self) -> Option<&str> {
        match self {
            Event::Chat(e) => Some(&e.id),
            Event::Gift(e) => Some(&e.id),
            Event::Notice(e) => Some(&e.id),
            Event::Super(e) => Some(&e.id),
            Event::Custom(e) => Some(&e.id),
            _ => None,
        }
    }

    /// The offset in the priority lane.
    pub const fn offset(&self) -> Option<u64> {
        match self {
            Event::Gift(e) => Some(e.offset),
            Event::Notice(e) => Some(e.offset),
            Event::Super(e) => Some(e.offset),
            Event::Custom(e) => Some(e.offset),
            Event::Removed(e) => Some(e.offset),
            Event::Mode(e) => Some(e.offset),
            _ => None,
        }
    }

    /// Gives a message another id; no effect on events without one.
    pub fn set_id(&mut self, id: String) {
        match self {
            Event::Chat(e) => e.id = id,
            Event::Gift(e) => e.id = id,
            Event::Notice(e) => e.id = id,
            Event::Super(e) => e.id = id,
            Event::Custom(e) => e.id = id,
            _ => {}
        }
    }

    /// Numbers a priority event; no effect on the others.
    pub const fn set_offset(&mut self, offset: u64) {
        match self {
            Event::Gift(e) => e.offset = offset,
            Event::Notice(e) => e.offset = offset,
            Event::Super(e) => e.offset = offset,
            Event::Custom(e) => e.offset = offset,
            Event::Removed(e) => e.offset = offset,
            Event::Mode(e) => e.offset = offset,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
