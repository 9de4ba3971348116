//! After an edit that makes sub-rooms more or fewer, or places them elsewhere: viewers who are not where they belong any
//! more are given another place, a few at a time, on the connection they have.

use std::{
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};

use super::{Room, Rooms};
use crate::rows::RoomKey;

/// An edit of the manifest and the placement that follows from it come one after the other: nobody shall move twice.
const GATHER: Duration = Duration::from_secs(1);
/// Between two turns, and the viewers of one: 2,000 a second on a pod, each of whom is told the history of the new place.
const TURN: Duration = Duration::from_millis(100);
const VIEWERS: u64 = 200;
/// The fewest turns: what a few viewers do in the same moment looks like a fault.
const FEWEST: u64 = 10;
/// Turns for those who could not be moved: they are owed something, or the new place is behind.
const LATER: u64 = 30;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    until: u64,
    of: u64,
}

impl Turn {
    /// Whether it is the turn of the viewer of this number, or has been.
    pub fn is_of(self, number: u64) -> bool {
        number % self.of < self.until
    }
}

/// Has the viewers of a sub-room looked at in their turn.
pub type Reseat = Box<dyn Fn(RoomKey, Turn) + Send + Sync>;

#[derive(Default)]
pub(super) struct Reseating {
    visit: OnceLock<Reseat>,
    /// One room after the other.
    one: Arc<tokio::sync::Mutex<()>>,
}

impl Rooms {
    /// Sets what visits the viewers of a sub-room.
    pub fn on_reseat(&self, visit: Reseat) {
        let _ = self.reseating.visit.set(visit);
    }

    /// Looks at all viewers of a room in turns, after what is under way for others.
    pub(super) fn reseat(self: &Arc<Self>, room: &Arc<Room>) {
        if room.reseating.swap(true, Ordering::AcqRel) {
            return;
        }
        let (rooms, room) = (Arc::clone(self), Arc::clone(room));
        self.runtime.spawn(async move {
            let one = Arc::clone(&rooms.reseating.one);
            tokio::time::sleep(GATHER).await;
            let _one = one.lock().await;
            // An edit from here on needs all turns again.
            room.reseating.store(false, Ordering::Release);
            let Some(visit) = rooms.reseating.visit.get() else { return };
            let of = (room.viewers() / VIEWERS).max(FEWEST);
            for turn in 1..=of + LATER {
                let turn = Turn { until: turn.min(of), of };
                room.keys().into_iter().for_each(|key| visit(key, turn));
                tokio::time::sleep(TURN).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn_and_few_have_the_same() {
        for until in 0..=40 {
            let turn = Turn { until, of: 40 };
            assert_eq!((0..8000).filter(|number| turn.is_of(*number)).count() as u64, until * VIEWERS);
        }
    }
}
