//! A moderator's change, from the relay's words to the gate's.

use std::{
    collections::HashSet,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

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
        (Target::Shadow(user), true) => return Ok(gate.unshadow(user)),
        (Target::SlowMode, true) => return Ok(gate.set_slow_mode(None).is_some()),
        (Target::SlowMode, false) => drop(gate.set_slow_mode(change.seconds)),
        (Target::Shadow(user), false) => gate.shadow(user, until)?,
        (Target::Disconnect(_), _) => {}
        (Target::Mute(user), false) => gate.mute(user, until)?,
        (Target::Ban(user), false) => gate.ban_user(user, until)?,
        (Target::BanNetwork(network), false) => gate.ban_network(*network, until)?,
    }
    Ok(true)
}

/// Puts all that is kept in place of what was known. A list that does not fit is told once.
pub(super) fn replace(gate: &Gate, all: &[Change], now: Instant, wall: SystemTime) {
    let mut left_out = 0;
    for change in all {
        left_out += usize::from(apply(gate, change, now, wall).is_err());
    }
    if left_out > 0 {
        tracing::warn!(left_out, "kept mutes and bans do not fit");
    }
    let kept: HashSet<&Target> = all.iter().map(|change| &change.target).collect();
    let is_kept = |target: &Target| kept.contains(target);
    if !is_kept(&Target::SlowMode) {
        gate.set_slow_mode(None);
    }
    gate.retain(
        |user| is_kept(&Target::Mute(user.to_owned())),
        |user| is_kept(&Target::Shadow(user.to_owned())),
        |user| is_kept(&Target::Ban(user.to_owned())),
        |network| is_kept(&Target::BanNetwork(*network)),
    );
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
            seconds: None,
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

    #[test]
    fn a_lift_that_was_missed_is_made_up_for_by_the_whole_list() {
        let (gate, now, wall) = (Gate::default(), Instant::now(), SystemTime::now());
        let set = |target| Change { target, until: None, lifted: false, seconds: Some(9) };
        let all = [Target::Mute("ann".into()), Target::Ban("bob".into())].map(set);
        let more = [Target::SlowMode, Target::Shadow("eve".into())].map(set);
        replace(&gate, &more, now, wall);
        assert!(gate.is_shadowed("eve", now) && gate.list(now).slow_mode_seconds == Some(9));
        replace(&gate, &all, now, wall);
        assert_eq!((gate.list(now).muted_users.len(), gate.list(now).banned_users.len()), (1, 1));
        assert!(!gate.is_shadowed("eve", now) && gate.list(now).slow_mode_seconds.is_none());
        replace(&gate, &all[1..], now, wall);
        assert_eq!((gate.list(now).muted_users.len(), gate.list(now).banned_users.len()), (0, 1));
    }
}
