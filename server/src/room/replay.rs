//! Recording, replays and load shedding of a room: where something said goes, and what is kept of it.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Instant,
};

use danmu_crds::{Replay, RoomMode};
use danmu_wire::{Chat, Event, OnDemand, Placed};

use super::{
    Room,
    shedding::{FETCH, Load},
};
use crate::segments::{Answer, Fetch, Keep, LAST_POSITION, Range, SEGMENT, Told};

/// A room that sheds load writes less often: its tick is so many times as long.
const LONGER_TICK: u32 = 5;

/// Where in a recording something goes. It has the recording's bounds with it: the room may go Live, and have none,
/// before it is there; some of what was said in that moment was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    at: u64,
    keep: Keep,
}

/// Where something said goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To everybody here, at once.
    Everybody,
    /// Into the recording, at this place; everybody fetches it.
    Position(Place),
    /// Nowhere: a replay is written to at a position, and there is none.
    Nowhere,
}

impl Room {
    fn replay(&self) -> Replay {
        self.policy.load().rules().replay
    }

    /// Where something goes that is said now by somebody who watches the position `at`. Of a live video the
    /// server knows the position better.
    pub fn destination(&self, at: Option<u64>) -> Destination {
        let replay = self.replay();
        let place = |at| Some(Place { at, keep: replay.recording?.into() });
        match replay.mode {
            RoomMode::OnDemand => at
                .filter(|at| *at < LAST_POSITION)
                .and_then(place)
                .map_or(Destination::Nowhere, Destination::Position),
            RoomMode::Live => self
                .live_at()
                .filter(|_| self.fetches())
                .and_then(place)
                .map_or(Destination::Everybody, Destination::Position),
        }
    }

    /// Whether the room's cap is for what is said now: in a replay everybody has a second of their own.
    pub fn is_capped(&self) -> bool {
        self.replay().mode == RoomMode::Live
    }

    /// Whether viewers of a Live room fetch. Not before the video begins, however many wait for it: there is no
    /// position to keep anything at.
    pub(super) fn fetches(&self) -> bool {
        self.stage() == FETCH && self.live_at().is_some()
    }

    /// How far the room sheds load, from 0 to 3.
    pub fn stage(&self) -> u8 {
        self.stage.load(Ordering::Acquire)
    }

    /// Where the live video is; none before its beginning, and without one.
    fn live_at(&self) -> Option<u64> {
        self.place(self.segments.now())
    }

    /// The position of a moment, in milliseconds since 1970.
    pub(super) fn place(&self, moment: u64) -> Option<u64> {
        let at = i64::try_from(moment).ok()?.checked_sub(self.replay().started_ms?)?;
        u64::try_from(at).ok().filter(|at| *at < LAST_POSITION)
    }

    /// How viewers fetch what is said, where they have to.
    pub(super) fn on_demand(&self) -> Option<OnDemand> {
        match self.replay().mode {
            RoomMode::OnDemand => Some(OnDemand { segment_ms: SEGMENT, at_ms: None }),
            RoomMode::Live if self.fetches() => Some(OnDemand { segment_ms: SEGMENT, at_ms: self.live_at() }),
            RoomMode::Live => None,
        }
    }

    /// Keeps what was said at a position; `told` learns whether it was kept. False when too much waits.
    pub fn keep(&self, place: Place, chat: Chat, told: Told) -> bool {
        self.offered.fetch_add(1, Ordering::Relaxed);
        let placed = Placed { at: place.at, event: Event::Chat(chat) };
        self.segments.keep_told(&self.id, place.keep, placed, told)
    }

    /// Records what everybody is shown, and takes out of the recording what everybody has to remove.
    pub(super) fn record(&self, event: &Event) {
        let replay = self.replay();
        let Some(recording) = replay.recording else { return };
        let at = match event {
            Event::Removed(removed) => return self.segments.erase(&self.id, removed),
            _ if replay.mode == RoomMode::OnDemand => return,
            Event::Chat(_) => self.live_at(),
            // All pods record it, at the very same position: it is told by the id.
            Event::Gift(_) | Event::Notice(_) | Event::Super(_) => {
                let id = event.id().and_then(|id| ulid::Ulid::from_string(id).ok());
                id.and_then(|id| self.place(id.timestamp_ms()))
            }
            _ => None,
        };
        if let Some(at) = at {
            self.segments.keep(&self.id, recording.into(), Placed { at, event: event.clone() });
        }
    }

    /// What was said in a part of the video.
    ///
    /// # Errors
    /// See [`Fetch`].
    pub async fn danmu(&self, range: Range) -> Result<Arc<Answer>, Fetch> {
        let replay = self.replay();
        let live = match (replay.mode, replay.started_ms) {
            (RoomMode::Live, Some(_)) => Some(self.live_at().unwrap_or(0)),
            _ => None,
        };
        self.segments.fetch(&self.id, range, live).await
    }

    /// Once a second: whether to shed load, from what all pods of the room have told.
    pub(super) fn look_at_load(&self, now: Instant) {
        let said = self.offered.swap(0, Ordering::Relaxed);
        let peers = self.peers();
        let mut shedder = self.shedder.lock().unwrap_or_else(PoisonError::into_inner);
        let here = shedder.count(said);
        let load = Load { viewers: self.audience(), messages: here + u64::from(peers.messages) };
        let replay = self.replay();
        // A replay's viewers fetch already.
        let limits = replay.shedding.filter(|_| replay.mode == RoomMode::Live);
        let own = shedder.look(limits, load, now);
        // The furthest pod leads: what is said where viewers fetch is seen by nobody who does not.
        let stage = if limits.is_some() { own.max(peers.stage.min(FETCH)) } else { 0 };
        drop(shedder);
        let before = self.stage.swap(stage, Ordering::AcqRel);
        if before == stage {
            // The video may have begun meanwhile.
            return self.tell_mode();
        }
        tracing::info!(
            room = &*self.id,
            before,
            stage,
            viewers = load.viewers,
            messages = load.messages,
            "the room sheds load"
        );
        self.each(|sub| {
            sub.state().set_tick((stage >= 2).then_some(LONGER_TICK));
            sub.mix();
        });
        self.tell_mode();
    }

    /// What is left of the room's cap while it sheds load. Fetched, it costs little again.
    pub(super) fn shed(&self, cap: u32) -> u32 {
        match self.stage() {
            1 => (cap / 2).max(1),
            FETCH if self.fetches() => cap,
            2 | FETCH => (cap / 4).max(1),
            _ => cap,
        }
    }

    /// Messages a second said on this pod, and how far it sheds load of itself: not what it took over from another,
    /// or none would ever come back.
    pub(super) fn load(&self) -> (u32, u8) {
        let shedder = self.shedder.lock().unwrap_or_else(PoisonError::into_inner);
        (u32::try_from(shedder.rate()).unwrap_or(u32::MAX), shedder.stage())
    }
}
