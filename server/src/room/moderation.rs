//! A moderator's change, from the relay's words to the gate's.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::{
    gate::Gate,
    relay::{Change, Target},
};

/// Carries a change out; whether a lift found something. An end is told on the wall clock, because it is
/// kept and shared; `now` and `wall` are the same moment.
pub(super) fn apply(gate: &Gate, change: &Change, now: Instant, wall: SystemTime) -> bool {
    let wall = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    let until = match change.until.map(|until| Duration::from_millis(until).checked_sub(wall)) {
        None => None,
        Some(Some(left)) => now.checked_add(left),
        // Over already.
        Some(None) => return false,
    };
    let set = match (&change.target, change.lifted) {
        (Target::Mute(user), true) => return gate.unmute(user),
        (Target::Ban(user), true) => return gate.unban_user(user),
        (Target::BanNetwork(network), true) => return gate.unban_network(*network),
        (Target::Disconnect(_), _) => return true,
        (Target::Mute(user), false) => gate.mute(user, until),
        (Target::Ban(user), false) => gate.ban_user(user, until),
        (Target::BanNetwork(network), false) => gate.ban_network(*network, until),
    };
    if let Err(error) = set {
        tracing::warn!(%error, "a mute or ban does not fit");
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mute_ends_when_the_wall_clock_says_so_and_one_that_is_over_does_not_begin() {
        let (gate, now, wall) = (Gate::default(), Instant::now(), SystemTime::now());
        let ms = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let mute = |until: SystemTime| Change {
            target: Target::Mute("ann".into()),
            until: Some(ms(until)),
            lifted: false,
        };
        assert!(!apply(&gate, &mute(wall - Duration::from_secs(1)), now, wall));
        assert!(gate.list(now).is_empty());
        assert!(apply(&gate, &mute(wall + Duration::from_secs(9)), now, wall));
        let left = gate.list(now).muted_users[0].remaining.unwrap();
        assert!(left <= Duration::from_secs(9) && left > Duration::from_secs(8));
        let lift = Change { lifted: true, until: None, ..mute(wall) };
        assert!(apply(&gate, &lift, now, wall) && !apply(&gate, &lift, now, wall));
    }
}
