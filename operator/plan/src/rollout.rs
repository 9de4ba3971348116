//! Brings pods of an old revision to the newest, one at a time, highest ordinal first.
//!
//! The StatefulSet has `updateStrategy: OnDelete`: its own rolling update knows neither our drain nor whether the other
//! pods can hold the viewers.

use jiff::{SignedDuration, Timestamp};

use crate::pods::{Pods, Standing};
use crate::{Fleet, Rollout};

/// A server closes what is left at the end of its drain; this long after it, the pod is replaced even if its load is unknown.
const AFTER_DRAIN: SignedDuration = SignedDuration::from_secs(5);

/// The next step; `needed` pods hold the demand.
pub(crate) fn next(pods: &Pods<'_>, fleet: &Fleet, needed: u32, now: Timestamp) -> Rollout {
    let Some(pod) = candidate(pods) else { return Rollout::Done };
    if let Some(other) = (0..pods.replicas).rev().find(|&other| other != pod && unfinished(pods, other)) {
        return Rollout::Await(other);
    }
    if pods.get(pod).is_some_and(|pod| pod.terminating) {
        return Rollout::Await(pod);
    }
    if is_broken(pods, pod) {
        return Rollout::Evict(pod);
    }
    if let Some(began) = pods.get(pod).and_then(|pod| pod.draining) {
        let late = now.duration_since(began)
            >= SignedDuration::from_secs(i64::from(fleet.drain_seconds)) + AFTER_DRAIN;
        return if pods.is_empty(pod) || late { Rollout::Evict(pod) } else { Rollout::Drain(pod) };
    }
    let rest = pods
        .with(|standing| matches!(standing, Standing::Serving | Standing::Frozen | Standing::Draining))
        .filter(|&other| other != pod)
        .count();
    // An idle fleet's only pod is needed too: viewers may come while it is replaced.
    if rest < needed.max(1) as usize && pods.replicas <= needed.max(1) {
        return Rollout::Surge;
    }
    Rollout::Drain(pod)
}

/// The pod to replace: one that drains already, else one that serves nobody anyway, else the highest.
fn candidate(pods: &Pods<'_>) -> Option<u32> {
    let outdated = || (0..pods.replicas).rev().filter(|&pod| pods.is_outdated(pod));
    outdated()
        .find(|&pod| {
            pods.standing(pod) == Standing::Draining || pods.get(pod).is_some_and(|pod| pod.terminating)
        })
        .or_else(|| outdated().find(|&pod| is_broken(pods, pod)))
        .or_else(|| outdated().next())
}

/// Not running, or not Ready for minutes: a new revision may be what mends it, so it is not waited for.
fn is_broken(pods: &Pods<'_>, ordinal: u32) -> bool {
    pods.get(ordinal).is_some_and(|pod| !pod.running || pods.standing(ordinal) == Standing::Lost)
}

/// A pod at the newest revision that does not serve yet, or one on its way there.
fn unfinished(pods: &Pods<'_>, ordinal: u32) -> bool {
    match pods.get(ordinal) {
        None => true,
        Some(pod) if pod.current => pods.standing(ordinal) != Standing::Serving,
        Some(pod) => pod.terminating,
    }
}

#[cfg(test)]
mod tests;
