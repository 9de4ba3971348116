//! What happened in a run, as its actors saw it. Times are milliseconds since the run began.

use danmu_wire::{Lane, Position};

/// Milliseconds since the run began.
pub type Ms = u64;

/// One start of one server process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodRun {
    /// Which pod.
    pub pod: usize,
    /// Which start of it, from 0.
    pub run: u32,
}

impl std::fmt::Display for PodRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pod {} run {}", self.pod, self.run)
    }
}

/// All that happened.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Every attempt to publish to the priority lane, in order of the answers.
    pub publishes: Vec<Publish>,
    /// Everything said, in order.
    pub said: Vec<Said>,
    /// Every connection of every viewer, in the order in which they were opened.
    pub connections: Vec<Connection>,
    /// What the nemesis did.
    pub faults: Vec<Fault>,
    /// What was found at the end, when nothing was broken any more.
    pub ending: Option<Ending>,
}

/// One attempt to publish a gift.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The publisher, who makes no attempt before the last one is answered or given up.
    pub publisher: usize,
    /// The gift's name, unique in the run.
    pub gift: String,
    /// The idempotency key.
    pub key: Option<String>,
    /// When it was asked.
    pub asked: Ms,
    /// When the answer came, or waiting ended.
    pub answered: Ms,
    /// What came of it.
    pub answer: Answer,
}

/// What came of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// HTTP 200: promised.
    Taken(Receipt),
    /// Another status: it may have been taken all the same.
    Refused(u16),
    /// No answer: it may have been taken.
    Nothing,
}

/// What a server promises.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The message's id.
    pub id: String,
    /// The lane's epoch.
    pub epoch: String,
    /// The place in it.
    pub offset: u64,
}

/// One chat message.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// The connection it was said on.
    pub connection: usize,
    /// What was said, unique in the run.
    pub text: String,
    /// When.
    pub at: Ms,
    /// When it was acknowledged as shown to all.
    pub shown: Option<Ms>,
}

/// One connection of a viewer.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// Whose.
    pub viewer: usize,
    /// To which process.
    pub pod: PodRun,
    /// The position the viewer came with.
    pub since: Option<Position>,
    /// When it was asked for.
    pub opened: Ms,
    /// All that came.
    pub seen: Vec<Seen>,
    /// When it ended, and how.
    pub closed: Option<(Ms, String)>,
}

/// One event at a viewer.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When it came.
    pub at: Ms,
    /// What came.
    pub what: What,
}

/// What a viewer got.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The answer to the join.
    Joined {
        /// The lane's epoch, empty when the server does not know it.
        epoch: String,
        /// Its offset.
        offset: u64,
        /// Whether nothing is missing since the position.
        recovered: bool,
        /// Viewers told.
        viewers: u64,
        /// Ids and texts of the history.
        history: Vec<(String, String)>,
    },
    /// A gift.
    Gift {
        /// Its id.
        id: String,
        /// Its place.
        offset: u64,
        /// Its name.
        gift: String,
    },
    /// A chat.
    Chat {
        /// Its id.
        id: String,
        /// What was said.
        text: String,
    },
    /// Something was lost.
    Gap {
        /// On which lane.
        lane: Lane,
        /// How many.
        dropped: Option<u64>,
        /// The new epoch.
        epoch: Option<String>,
    },
    /// Viewers told.
    Viewers(u64),
    /// The viewer is asked to move.
    Move,
}

/// Something the nemesis broke, until it mended it.
#[derive(Clone, Debug, Default)]
pub struct Fault {
    /// In words.
    pub what: String,
    /// When it began.
    pub from: Ms,
    /// When it was mended.
    pub until: Ms,
    /// How many epochs it may end.
    pub epochs: usize,
}

/// What has to hold once nothing is broken.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// When the nemesis stopped.
    pub mended: Ms,
    /// The viewers that are to stay connected.
    pub viewers: Vec<usize>,
    /// The last gift.
    pub gift: String,
    /// The last chats, one a pod.
    pub chats: Vec<String>,
    /// When all of these were asked for.
    pub asked: Ms,
    /// What the pods told of the number of viewers.
    pub counts: Vec<Count>,
}

/// How many viewers a pod says the room has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// Which pod.
    pub pod: usize,
    /// When it was asked.
    pub at: Ms,
    /// What it said.
    pub viewers: Option<u64>,
}

impl History {
    /// Viewers' last connections, by viewer.
    pub fn last_connection(&self, viewer: usize) -> Option<&Connection> {
        self.connections
            .iter()
            .rev()
            .find(|connection| connection.viewer == viewer && connection.joined().is_some())
    }
}

impl Connection {
    /// When it was told to have joined.
    pub fn joined(&self) -> Option<Ms> {
        self.seen.iter().find(|seen| matches!(seen.what, What::Joined { .. })).map(|seen| seen.at)
    }

    /// When it ended, or the end of time.
    pub fn end(&self) -> Ms {
        self.closed.as_ref().map_or(Ms::MAX, |(at, _)| *at)
    }
}
