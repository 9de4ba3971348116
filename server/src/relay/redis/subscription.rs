//! One room's end of the relay: its place in the lane, its other pods, and what it last told them.

use std::time::{Duration, Instant};

use super::script::Known;
use crate::relay::{Here, Peers, peers::Roster, sequence::Sequence};

/// A room with other pods tells its numbers at least this often, or it would count as gone.
const SHARED: Duration = Duration::from_millis(1900);
/// A room that is on this pod alone asks around this often, should the first word have been lost.
const ALONE: Duration = Duration::from_secs(30);
/// How long a packet of ours takes at most until it comes back to us; a pod whose cores are all busy may
/// need seconds to get to it, and must not take that for a cut.
const ECHO: Duration = Duration::from_secs(5);
/// A room whose lane was used this recently is compared with the log from time to time.
const RECENT: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) sequence: Sequence,
    pub(super) roster: Roster,
    /// The version of the moderation that was delivered.
    pub(super) version: String,
    /// Whether the log has to be loaded at the next tick.
    pub(super) reload: bool,
    /// Whether the channel has to be subscribed to anew at the next tick.
    pub(super) is_cut: bool,
    /// When the lane was last used.
    pub(super) used: Option<Instant>,
    told: Option<(Instant, u64, u32, u8)>,
    /// Since when a number of ours that we told has not come back to us.
    unheard: Option<Instant>,
    /// Another pod does not know us yet.
    pub(super) asked: bool,
    delivered: Peers,
}

impl Subscription {
    pub(super) fn new() -> Self {
        Subscription {
            sequence: Sequence::default(),
            roster: Roster::default(),
            version: String::new(),
            reload: false,
            is_cut: false,
            used: None,
            told: None,
            unheard: None,
            asked: false,
            delivered: Peers::default(),
        }
    }

    pub(super) fn known(&self) -> Known {
        Known {
            epoch: self.sequence.epoch().to_owned(),
            offset: self.sequence.offset(),
            version: self.version.clone(),
        }
    }

    /// The room is opened anew: nothing that was delivered before counts.
    pub(super) fn forget_told(&mut self) {
        self.sequence = Sequence::default();
        self.version.clear();
        self.delivered = Peers::default();
        self.asked = true;
    }

    /// Whether other pods have to be told this pod's numbers now. Changes are told once a second at most,
    /// because this is asked once a second.
    pub(super) fn has_to_tell(&mut self, here: &Here, now: Instant) -> bool {
        let due = match self.told {
            None => true,
            Some((at, viewers, senders, stage)) => {
                let since = now.saturating_duration_since(at);
                let changed = (viewers, senders, stage) != (here.viewers, here.senders, here.stage);
                let shared = !self.roster.is_empty();
                self.asked || (shared && (changed || since >= SHARED)) || since >= ALONE
            }
        };
        if due {
            self.told = Some((now, here.viewers, here.senders, here.stage));
            self.asked = false;
        }
        due
    }

    /// A packet of ours is on its way, and has to come back.
    pub(super) fn was_told(&mut self, now: Instant) {
        self.unheard.get_or_insert(now);
    }

    /// A packet of ours came back: the subscription works.
    pub(super) fn echoed(&mut self) {
        self.unheard = None;
    }

    /// Whether our own packets do not come back, so that those of others do not come either. Told once for
    /// each [`ECHO`].
    pub(super) fn is_deaf(&mut self, now: Instant) -> bool {
        let deaf = self.unheard.is_some_and(|since| now.saturating_duration_since(since) >= ECHO);
        if deaf {
            self.unheard = None;
            self.asked = true;
        }
        deaf
    }

    /// The other pods, if they are not what was delivered last.
    pub(super) fn new_peers(&mut self) -> Option<Peers> {
        let sum = self.roster.sum();
        (sum != self.delivered).then(|| {
            self.delivered = sum;
            sum
        })
    }

    /// Whether the lane is worth comparing with the log.
    pub(super) fn is_in_use(&self, now: Instant) -> bool {
        self.used.is_some_and(|used| now.saturating_duration_since(used) < RECENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_on_one_pod_is_silent_and_a_shared_one_tells_changes_and_that_it_lives() {
        let mut room = Subscription::new();
        let start = Instant::now();
        let here = |viewers| Here { room: "r".into(), sub: None, viewers, senders: 0, messages: 0, stage: 0 };
        let told = |room: &mut Subscription, second: u64, viewers| {
            room.has_to_tell(&here(viewers), start + Duration::from_secs(second))
        };
        assert!(told(&mut room, 0, 1), "the first word");
        assert!(!told(&mut room, 1, 2) && !told(&mut room, 20, 3), "nobody to tell");
        room.roster.here("other", 1, 0, start);
        assert!(told(&mut room, 21, 4), "a change");
        assert!(!told(&mut room, 22, 4) && told(&mut room, 23, 4), "a sign of life");
        room.roster.gone("other");
        assert!(!told(&mut room, 30, 9) && told(&mut room, 60, 9), "asking around");
    }

    #[test]
    fn a_room_that_does_not_hear_itself_is_deaf_and_tells_its_numbers_again() {
        let mut room = Subscription::new();
        let start = Instant::now();
        let here = Here { room: "r".into(), sub: None, viewers: 1, senders: 0, messages: 0, stage: 0 };
        assert!(!room.is_deaf(start), "nothing was told");
        assert!(room.has_to_tell(&here, start));
        assert!(!room.is_deaf(start + 2 * ECHO), "it waits to be sent");
        room.was_told(start);
        room.echoed();
        assert!(!room.is_deaf(start + 2 * ECHO), "it was heard");
        let later = start + ALONE;
        assert!(room.has_to_tell(&here, later));
        room.was_told(later);
        assert!(!room.is_deaf(later + ECHO / 2), "it may still come");
        assert!(room.is_deaf(later + ECHO) && !room.is_deaf(later + ECHO), "once");
        assert!(room.has_to_tell(&here, later + ECHO), "the next try is checked as well");
        room.was_told(later + ECHO);
        assert!(room.is_deaf(later + 2 * ECHO));
    }
}
