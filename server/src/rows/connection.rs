//! One viewer's connection on its worker: everything but the socket and the slot.

use danmu_wire::{CloseCode, frame::Inbound};

use super::{RoomKey, audience::Place, backlog::Backlog, wheel::Tick};

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Our close frame is out; the peer has until the tick to answer.
    Closing(CloseCode, Tick),
}

pub(super) struct Connection<V> {
    pub(super) viewer: V,
    pub(super) phase: Phase,
    /// The room and the place in its rows; `None` in the lobby and while closing.
    pub(super) seat: Option<(RoomKey, Place)>,
    pub(super) inbound: Inbound,
    pub(super) backlog: Option<Box<Backlog>>,
    /// When the wheel last was set for this connection; other entries in it are stale.
    pub(super) wheel: Tick,
    /// When anything was last heard.
    pub(super) heard: Tick,
    /// When we last pinged.
    pub(super) pinged: Tick,
    /// Since when a frame or message is incomplete; 0 when none is.
    pub(super) incomplete: Tick,
    /// The handler's deadline; 0 without one.
    pub(super) deadline: Tick,
    /// The second in which frames were last counted, and how many came in it.
    pub(super) counted: (Tick, u32),
}

impl<V> Connection<V> {
    pub(super) fn new(viewer: V, now: Tick) -> Self {
        Connection {
            viewer,
            phase: Phase::Open,
            seat: None,
            inbound: Inbound::default(),
            backlog: None,
            wheel: 0,
            heard: now,
            pinged: now,
            incomplete: 0,
            deadline: 0,
            counted: (0, 0),
        }
    }

    /// Counts one frame; whether the viewer stays within its limit.
    pub(super) fn count_frame(&mut self, now: Tick, limit: u32) -> bool {
        if self.counted.0 != now {
            self.counted = (now, 0);
        }
        self.counted.1 += 1;
        self.counted.1 <= limit
    }
}
