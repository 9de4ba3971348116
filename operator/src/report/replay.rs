//! What a room tells of its recording and of the load it sheds.

use danmu_crds::{DanmuRoom, RoomMode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::conditions::Now;
use crate::{observe::runs, seen::Seen};

pub(super) const SHEDDING: &str = "Shedding";
pub(super) const RECORDED: &str = "Recorded";

/// Reasons of `Shedding`, by stage. Only the first is its end.
const STAGES: [&str; 4] = ["Calm", "Sampling", "LongerTick", "Fetching"];

/// The stage that a reason stands for.
pub(super) fn stage(reason: &str) -> Option<usize> {
    STAGES.iter().position(|stage| *stage == reason)
}

/// The room's `Shedding`, if it may shed load: the furthest stage that any pod told. The servers see to it that a stage
/// does not end soon; all we add is that one does not end because a pod is not heard.
pub(super) fn shedding(seen: &Seen, room: &DanmuRoom, old: &[Condition]) -> Option<Now> {
    room.spec.shedding?;
    let name = room.name_any();
    let (mut told, mut silent) = (0, false);
    // As long as a pod's viewers count, with what it last said, so does its stage.
    for pod in seen.pods.iter().filter(|pod| runs(pod)) {
        match seen.load(pod) {
            Some(load) => told = told.max(load.shedding.get(&name).copied().unwrap_or(0)),
            None => silent = true,
        }
    }
    let before = old.iter().find(|old| old.type_ == SHEDDING).and_then(|old| stage(&old.reason));
    let told = usize::from(told).min(STAGES.len() - 1);
    let stage = if silent { told.max(before.unwrap_or(0)) } else { told };
    let does = match stage {
        0 => "the room has no more to do than it was given",
        1 => "half as many messages are shown",
        2 => "a quarter as many messages are shown, and less often",
        _ => "viewers fetch what is said instead of being sent it",
    };
    let help = if stage == 0 {
        ""
    } else {
        "; it ends by itself. If it lasts, the room needs more pods (minPods, and replicas.max of the fleet) and higher \
         bounds in spec.shedding"
    };
    Some(Now { kind: SHEDDING, holds: stage > 0, reason: STAGES[stage], message: format!("{does}{help}") })
}

/// The room's `Recorded`, if what is said in it is kept: no pod reads what another keeps, unless it is in Redis.
pub(super) fn recorded(seen: &Seen, room: &DanmuRoom) -> Option<Now> {
    if room.spec.recording.is_none() && room.spec.mode == RoomMode::Live {
        return None;
    }
    let (holds, reason, message) = if seen.fleet.spec.redis.is_some() {
        (true, "InRedis", "what is said is kept in Redis, for all pods")
    } else {
        let message = "the fleet has no Redis: each pod keeps only what its own viewers say, and loses it when it is \
                       replaced; give the fleet spec.redis";
        (false, "NoRedis", message)
    };
    Some(Now { kind: RECORDED, holds, reason, message: message.to_owned() })
}

#[cfg(test)]
mod tests;
