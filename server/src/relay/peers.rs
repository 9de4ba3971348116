//! The other pods of a room: who is there, how many viewers, how many speak, and what of theirs was lost.
//!
//! No I/O; time is passed in. Pods tell each other with `here` packets on the room's channel, so a room
//! that is on one pod alone costs nothing.

use std::{collections::HashMap, time::Duration, time::Instant};

/// A pod that says nothing for so long is gone. It tells its numbers every 2 s, so one packet may be lost;
/// a second in a row may drop it until the next comes. Counts are right within 10.9 s of its death at worst:
/// this and the tick of 1 s, then up to 6 s until the next `stats`, which are 5 s apart and on a tick.
pub const SILENCE: Duration = Duration::from_millis(3900);
/// Pods of one room; more are not told apart (a fleet has 50 by default).
const MAX_PODS: usize = 1024;

/// All other pods of a room together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// How many there are.
    pub pods: u32,
    /// Viewers on them.
    pub viewers: u64,
    /// Their distinct senders of the last two seconds.
    pub senders: u32,
    /// How many of them have no sender.
    pub silent: u32,
    /// Messages said on them each second, shown or not.
    pub messages: u32,
    /// How far the furthest of them sheds load.
    pub stage: u8,
}

impl Peers {
    /// What this pod may show a second of the room's `cap`, so that all pods together keep to it: parts
    /// by distinct senders, and one message a second for pods that nobody speaks on, so that a first
    /// speaker is heard before the next exchange. Every pod works this out from the same numbers.
    pub fn share(&self, cap: u32, senders: u32) -> u32 {
        let pods = self.pods + 1;
        if pods == 1 {
            return cap;
        }
        let all = u64::from(self.senders) + u64::from(senders);
        if all == 0 {
            return (cap / pods).max(1);
        }
        if senders == 0 {
            return 1;
        }
        let left = u64::from(cap.saturating_sub(self.silent));
        u32::try_from(left * u64::from(senders) / all).unwrap_or(cap).clamp(1, cap.max(1))
    }

    /// A pod's part when pods cannot hear each other.
    pub fn share_alone(&self, cap: u32) -> u32 {
        (cap / (self.pods + 1)).max(1)
    }
}

#[derive(Debug)]
struct Peer {
    viewers: u64,
    senders: u32,
    messages: u32,
    stage: u8,
    heard: Instant,
    /// How many chats it has published to this room, as far as we know.
    published: Option<u64>,
}

/// What is known of each other pod of a room.
#[derive(Debug, Default)]
pub struct Roster {
    pods: HashMap<String, Peer>,
}

/// What a chat packet's count says.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrived {
    /// It is the next one; so many were lost before it.
    Next {
        /// Chats that never came.
        lost: u64,
    },
    /// An earlier one, out of order: it must not be shown any more.
    Late,
}

impl Roster {
    /// A pod told its numbers; whether it was not known before.
    pub fn here(&mut self, pod: &str, viewers: u64, senders: u32, now: Instant) -> bool {
        if let Some(peer) = self.pods.get_mut(pod) {
            (peer.viewers, peer.senders, peer.heard) = (viewers, senders, now);
            return false;
        }
        if self.pods.len() < MAX_PODS {
            let peer = Peer { viewers, senders, messages: 0, stage: 0, heard: now, published: None };
            self.pods.insert(pod.to_owned(), peer);
        }
        true
    }

    /// How many messages are said on a known pod each second, and how far it sheds load.
    pub fn load(&mut self, pod: &str, messages: u32, stage: u8) {
        if let Some(peer) = self.pods.get_mut(pod) {
            (peer.messages, peer.stage) = (messages, stage);
        }
    }

    /// A pod has closed the room.
    pub fn gone(&mut self, pod: &str) {
        self.pods.remove(pod);
    }

    /// A packet of `count` chats came, after `before` earlier ones of the same pod.
    pub fn chat(&mut self, pod: &str, before: u64, count: u64, now: Instant) -> Arrived {
        if !self.pods.contains_key(pod) {
            self.here(pod, 0, 1, now);
        }
        let Some(peer) = self.pods.get_mut(pod) else { return Arrived::Next { lost: 0 } };
        peer.heard = now;
        let known = peer.published.unwrap_or(before);
        if before < known {
            return Arrived::Late;
        }
        peer.published = Some(before + count);
        Arrived::Next { lost: before - known }
    }

    /// Forgets pods that have been silent for long.
    pub fn sweep(&mut self, now: Instant) {
        self.pods.retain(|_, peer| now.saturating_duration_since(peer.heard) < SILENCE);
    }

    /// After a cut nobody could be heard: silence counts from now.
    pub fn heard_again(&mut self, now: Instant) {
        for peer in self.pods.values_mut() {
            peer.heard = now;
        }
    }

    /// Whether there is any other pod.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// All of them together.
    pub fn sum(&self) -> Peers {
        self.pods.values().fold(Peers::default(), |sum, peer| Peers {
            pods: sum.pods + 1,
            viewers: sum.viewers.saturating_add(peer.viewers),
            senders: sum.senders.saturating_add(peer.senders),
            silent: sum.silent + u32::from(peer.senders == 0),
            messages: sum.messages.saturating_add(peer.messages),
            stage: sum.stage.max(peer.stage),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_count_tells_what_was_lost_and_what_is_late() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        assert_eq!(roster.chat("a", 10, 2, now), Arrived::Next { lost: 0 });
        assert_eq!(roster.chat("a", 15, 1, now), Arrived::Next { lost: 3 });
        assert_eq!(roster.chat("a", 12, 3, now), Arrived::Late);
        assert_eq!(roster.chat("a", 16, 1, now), Arrived::Next { lost: 0 });
    }

    #[test]
    fn what_is_said_on_known_pods_is_summed_and_goes_with_them() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        roster.here("a", 1, 1, now);
        roster.here("b", 1, 1, now);
        for (pod, messages, stage) in [("a", 30, 3), ("b", 12, 1), ("stranger", 99, 3)] {
            roster.load(pod, messages, stage);
        }
        assert_eq!((roster.sum().messages, roster.sum().stage), (42, 3));
        roster.here("a", 2, 1, now);
        assert_eq!((roster.sum().messages, roster.sum().stage), (42, 3));
        roster.gone("a");
        assert_eq!((roster.sum().messages, roster.sum().stage), (12, 1));
    }

    #[test]
    fn a_silent_pod_is_gone_and_its_viewers_with_it() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        roster.here("a", 10, 0, now);
        roster.here("b", 5, 0, now + Duration::from_secs(3));
        roster.sweep(now + Duration::from_secs(4));
        assert_eq!((roster.sum().pods, roster.sum().viewers), (1, 5));
    }

    #[test]
    fn a_room_on_one_pod_has_its_whole_cap_and_a_speaker_elsewhere_takes_a_part() {
        assert_eq!(Peers::default().share(20, 0), 20);
        let silent = Peers { pods: 6, silent: 6, ..Peers::default() };
        assert_eq!((silent.share(20, 0), silent.share(20, 5)), (2, 14));
        let same = Peers { pods: 1, senders: 5, ..Peers::default() };
        assert_eq!(same.share(20, 5), 10);
    }

    proptest! {
        /// All pods, each with its own view of the same numbers, keep to the cap together; only the one
        /// message a second that a pod always has may be on top.
        #[test]
        fn the_shares_of_all_pods_keep_to_the_cap(cap in 1u32..500, senders in proptest::collection::vec(0u32..300, 1..20)) {
            let all: u32 = senders.iter().sum();
            let silent = senders.iter().filter(|s| **s == 0).count() as u32;
            let shares: u32 = senders.iter().map(|own| {
                let peers = Peers {
                    pods: senders.len() as u32 - 1,
                    viewers: 0,
                    senders: all - own,
                    silent: silent - u32::from(*own == 0),
                    messages: 0,
                    stage: 0,
                };
                peers.share(cap, *own)
            }).sum();
            prop_assert!(shares <= cap + senders.len() as u32, "{shares}");
            if cap >= 20 * senders.len() as u32 && senders.iter().all(|s| *s > 0) {
                prop_assert!(f64::from(shares) <= 1.1 * f64::from(cap), "{shares}");
            }
        }
    }
}
