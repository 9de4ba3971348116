//! The moderators' desk of a room: what waits for their word, and who did what. In memory, for one process;
//! with Redis the same is kept there.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use danmu_wire::Held;
use serde::{Deserialize, Serialize};

/// Messages that wait, a room: more than anybody reads.
pub const HELD: usize = 100;
/// How long a message waits: after that nobody remembers what it answered.
pub const HELD_FOR: Duration = Duration::from_secs(600);
/// Entries of a room's log.
pub const LOG: usize = 1000;

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Logged {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Who: a moderator's user id, or `admin`.
    pub by: String,
    /// What, with `do` as its first word.
    #[serde(flatten)]
    pub what: serde_json::Map<String, serde_json::Value>,
}

impl Logged {
    /// Something done now; `what` is a JSON object.
    pub fn now(by: &str, what: impl Serialize) -> Logged {
        let what = match serde_json::to_value(what) {
            Ok(serde_json::Value::Object(what)) => what,
            _ => serde_json::Map::new(),
        };
        Logged { at: unix_ms(), by: by.to_owned(), what }
    }
}

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Whether a message that waits since `at` waits no more.
pub(super) fn is_over(at: u64, now: u64) -> bool {
    now.saturating_sub(at) >= HELD_FOR.as_millis() as u64
}

/// One room's desk.
#[derive(Debug, Default)]
pub(super) struct Desk {
    held: VecDeque<Held>,
    log: VecDeque<Logged>,
}

impl Desk {
    /// Keeps a message, if there is room.
    pub(super) fn hold(&mut self, held: Held, now: u64) -> bool {
        self.sweep(now);
        let fits = self.held.len() < HELD;
        if fits {
            self.held.push_back(held);
        }
        fits
    }

    pub(super) fn held(&mut self, now: u64) -> Vec<Held> {
        self.sweep(now);
        self.held.iter().cloned().collect()
    }

    pub(super) fn settle(&mut self, id: &str, now: u64) -> Option<Held> {
        self.sweep(now);
        let at = self.held.iter().position(|held| held.chat.id == id)?;
        self.held.remove(at)
    }

    pub(super) fn write_down(&mut self, logged: Logged) {
        if self.log.len() >= LOG {
            self.log.pop_front();
        }
        self.log.push_back(logged);
    }

    pub(super) fn written(&self) -> Vec<Logged> {
        self.log.iter().cloned().collect()
    }

    fn sweep(&mut self, now: u64) {
        self.held.retain(|held| !is_over(held.at, now));
    }
}

#[cfg(test)]
mod tests {
    use danmu_wire::Chat;

    use super::*;

    fn held(id: usize, at: u64) -> Held {
        Held { chat: Chat { id: id.to_string(), ..Chat::default() }, at, sub: None }
    }

    #[test]
    fn the_queue_is_bounded_and_what_nobody_looks_at_makes_room() {
        let mut desk = Desk::default();
        assert!((0..HELD).all(|id| desk.hold(held(id, 1000), 1000)));
        assert!(!desk.hold(held(HELD, 1000), 1000));
        let later = 1000 + HELD_FOR.as_millis() as u64;
        assert!(desk.hold(held(HELD, later), later));
        assert_eq!(desk.held(later).len(), 1);
        assert_eq!(desk.settle("0", later), None, "it waits no more");
    }

    #[test]
    fn of_two_moderators_one_settles_a_message() {
        let mut desk = Desk::default();
        desk.hold(held(1, 0), 0);
        assert!(desk.settle("1", 0).is_some());
        assert_eq!(desk.settle("1", 0), None);
    }

    #[test]
    fn the_log_forgets_its_oldest_and_is_flat_json() {
        let mut desk = Desk::default();
        for user in 0..=LOG {
            let action = danmu_wire::Action::Mute { user: user.to_string(), seconds: Some(60) };
            desk.write_down(Logged { at: 7, ..Logged::now("mod", action) });
        }
        let log = desk.written();
        assert_eq!((log.len(), log[0].what["user"].as_str()), (LOG, Some("1")));
        let line = serde_json::to_string(&log[0]).unwrap();
        assert_eq!(line, r#"{"at":7,"by":"mod","do":"mute","seconds":60,"user":"1"}"#);
    }
}
