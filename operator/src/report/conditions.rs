//! Conditions whose time moves only on a flip, and the Events of their edges.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::replay;

/// A condition as it should be now.
pub(super) struct Now {
    pub(super) kind: &'static str,
    pub(super) holds: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// The longest message that is told; the API takes 32 KiB.
const MESSAGE: usize = 1024;

/// `now` with the times of `old`.
pub(super) fn merged(
    now: Vec<Now>,
    old: &[Condition],
    generation: Option<i64>,
    at: Timestamp,
) -> Vec<Condition> {
    let conditions = now.into_iter().map(|now| {
        let status = if now.holds { "True" } else { "False" };
        let before = old.iter().find(|old| old.type_ == now.kind && old.status == status);
        Condition {
            type_: now.kind.to_owned(),
            status: status.to_owned(),
            reason: now.reason.to_owned(),
            message: now.message.chars().take(MESSAGE).collect(),
            // Statuses carry whole seconds; a finer time would differ from what comes back.
            last_transition_time: before
                .map_or_else(|| Time(whole_seconds(at)), |before| before.last_transition_time.clone()),
            observed_generation: generation,
        }
    });
    conditions.collect()
}

fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// Something that changed and is worth an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) warning: bool,
    pub(crate) reason: String,
    pub(crate) note: String,
}

/// Reasons that something new has for a moment; news only where things were well before.
const TRANSIENT: [&str; 4] = ["NoReadyPods", "PodsStarting", "RouteMissing", "RoutePending"];

/// Conditions that came, flipped, or hold no longer for the same reason. `bad` are those that are bad news when True.
pub(crate) fn edges(old: &[Condition], new: &[Condition], bad: &[&str]) -> Vec<Edge> {
    let changed = new.iter().filter(|new| {
        let before = old.iter().find(|old| old.type_ == new.type_);
        let flipped = before.is_some_and(|old| old.status != new.status);
        let other = before.is_none_or(|old| old.reason != new.reason);
        // A first "all is well" is no news.
        flipped || (other && is_bad(new, bad) && !TRANSIENT.contains(&new.reason.as_str()))
    });
    let mut edges: Vec<Edge> = Vec::new();
    for new in changed {
        // `Ready` gives the reason of what it waits for, which is told already.
        if edges.iter().all(|edge| edge.reason != new.reason) {
            let note = format!("{} is {}: {}", new.type_, new.status, new.message);
            let before = old.iter().find(|old| old.type_ == new.type_);
            let warning = is_bad(new, bad) && !before.is_some_and(|old| eases(&old.reason, &new.reason));
            edges.push(Edge { warning, reason: new.reason.clone(), note });
        }
    }
    edges
}

/// Whether a room sheds load still, but less than before.
fn eases(old: &str, new: &str) -> bool {
    replay::stage(new).zip(replay::stage(old)).is_some_and(|(new, old)| new < old)
}

/// Conditions that a room has of its own, also where all else is as its fleet has it.
pub(crate) fn of_the_room(conditions: &[Condition]) -> Vec<Condition> {
    let own = conditions.iter().filter(|it| it.type_ == replay::SHEDDING || it.type_ == replay::RECORDED);
    own.cloned().collect()
}

fn is_bad(condition: &Condition, bad: &[&str]) -> bool {
    (condition.status == "True") == bad.contains(&condition.type_.as_str())
}
