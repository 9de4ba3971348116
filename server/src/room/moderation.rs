//! A moderator's change, from the relay's words to the gate's.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::{
    gate::{Full, Gate},
    relay::{Change, Target},
};

/// Carries a change out; whether a lift found something. An end is told on the wall clock, because it is
/// kept and shared; `now` and `wall` are the same moment.
pub(super) fn apply(gate: &Gate, change: &Change, now: Instant, wall: SystemTime) -> Result<bool, Full> {
    let wall = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    let until = match change.until.map(|until| Duration::from_millis(until).checked_sub(wall)) {
        None => None,
        Some(Some(left)) => now.checked_add(left),
        // Over already.
        Some(None) => return Ok(false),
    };
    match (&change.target, change.lifted) {
        (Target::Mute(user), true) => return Ok(gate.unmute(user)),
        (Target::Ban(user), true) => return Ok(gate.unban_user(user)),
        (Target::BanNetwork(network), true) => return Ok(gate.unban_network(*network)),
        (Target::Disconnect(_), _) => {}
        (Target::Mute(user), false) => gate.mute(user, until)?,
        (Target::Ban(user), false) => gate.ban_user(user, until)?,
        (Target::BanNetwork(network), false) => gate.ban_network(*network, until)?,
    }
    Ok(true)
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
        assert_eq!(apply(&gate, &mute(wall - Duration::from_secs(1)), now, wall), Ok(false));
        assert!(gate.list(now).is_empty());
        assert_eq!(apply(&gate, &mute(wall + Duration::from_secs(9)), now, wall), Ok(true));
        let left = gate.list(now).muted_users[0].remaining.unwrap();
        assert!(left <= Duration::from_secs(9) && left > Duration::from_secs(8));
        let lift = Change { lifted: true, until: None, ..mute(wall) };
        assert_eq!(apply(&gate, &lift, now, wall), Ok(true));
        assert_eq!(apply(&gate, &lift, now, wall), Ok(false));
    }
}
