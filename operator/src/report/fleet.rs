//! A fleet's status.

use danmu_crds::FleetStatus;
use danmu_plan::{Observation, Plan, ReplicasReason, Rollout};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::{
    conditions,
    conditions::Now,
    room::{self, Routing, ViewerCounts},
    two_digits,
};
use crate::{names, observe::readiness, seen::Seen};

/// What stopped a reconcile half way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The condition's reason.
    pub(crate) reason: &'static str,
    /// What is wrong, and what to do.
    pub(crate) message: String,
}

/// The fleet's status now.
pub(crate) fn fleet(
    seen: &Seen,
    observation: &Observation,
    plan: &Plan,
    routing: &Routing,
    problem: Option<&Problem>,
    told: &mut ViewerCounts,
) -> FleetStatus {
    let old = seen.fleet.status.clone().unwrap_or_default();
    let ready = seen.pods.iter().filter(|pod| readiness(pod).0 && pod.metadata.deletion_timestamp.is_none());
    let ready = u32::try_from(ready.count()).unwrap_or(u32::MAX);
    let draining = observation.pods.iter().filter(|pod| pod.draining.is_some());
    let mut draining: Vec<u32> = draining.map(|pod| pod.ordinal).chain(plan.drain.iter().copied()).collect();
    draining.sort_unstable();
    draining.dedup();
    let viewers = observation.pods.iter().filter_map(|pod| pod.load);
    let viewers = viewers.fold(0u32, |all, load| all.saturating_add(load.viewers));
    let selector: Vec<String> =
        names::selector(&seen.fleet.name_any()).iter().map(|(key, value)| format!("{key}={value}")).collect();
    let now = vec![
        is_ready(ready, routing),
        progressing(observation, plan),
        degraded(seen, observation, plan, problem),
        paused(seen.fleet.spec.paused),
    ];
    FleetStatus {
        observed_generation: seen.fleet.metadata.generation,
        replicas: u32::try_from(seen.pods.len()).unwrap_or(u32::MAX),
        ready_replicas: ready,
        selector: selector.join(","),
        draining: draining.into_iter().map(|pod| observation.fleet.pod_name(pod)).collect(),
        viewers: Some(room::viewers(old.viewers, viewers, "", seen.now, told)),
        conditions: conditions::merged(now, &old.conditions, seen.fleet.metadata.generation, seen.now),
    }
}

fn rounded(number: u64) -> u32 {
    two_digits(u32::try_from(number).unwrap_or(u32::MAX))
}

fn is_ready(ready: u32, routing: &Routing) -> Now {
    let (holds, reason, message) = if ready == 0 {
        (false, "NoReadyPods", "no pod is Ready; see the fleet's pods".to_owned())
    } else if !routing.holds {
        (false, routing.reason, routing.message.clone())
    } else {
        (true, "Serving", format!("{ready} pods are Ready"))
    };
    Now { kind: "Ready", holds, reason, message }
}

fn progressing(observation: &Observation, plan: &Plan) -> Now {
    let moving = plan.replicas.now != plan.replicas.target || observation.replicas != plan.replicas.now;
    let drains = !plan.drain.is_empty() || observation.pods.iter().any(|pod| pod.draining.is_some());
    let rolls = !matches!(plan.rollout, Rollout::Done | Rollout::Held);
    let starting = observation.pods.iter().filter(|pod| !pod.ready && pod.draining.is_none()).count();
    let reason = match (rolls, moving || drains, starting > 0) {
        (true, ..) => "RollingOut",
        (_, true, _) => "Scaling",
        (_, _, true) => "PodsStarting",
        _ => "Settled",
    };
    let message = match reason {
        // The plan's own sentence on it; it has no numbers that move.
        "RollingOut" => plan
            .reasons(&observation.fleet)
            .into_iter()
            .find(|line| line.starts_with("rollout"))
            .unwrap_or_else(|| "pods are replaced one by one".to_owned()),
        "Scaling" => format!("from {} pods to {}", observation.replicas, plan.replicas.target),
        "PodsStarting" => format!("{starting} pods are not Ready yet"),
        _ => format!("{} pods, as planned", plan.replicas.target),
    };
    Now { kind: "Progressing", holds: reason != "Settled", reason, message }
}

/// Why the fleet is `Degraded`, if it is.
pub(crate) fn degraded_for(conditions: &[Condition]) -> Option<String> {
    let degraded =
        conditions.iter().find(|condition| condition.type_ == "Degraded" && condition.status == "True");
    degraded.map(|condition| condition.reason.clone())
}

fn degraded(seen: &Seen, observation: &Observation, plan: &Plan, problem: Option<&Problem>) -> Now {
    let (holds, reason, message) = if let Some(problem) = problem {
        (true, problem.reason, problem.message.clone())
    } else if plan.loads_unknown {
        let unknown: Vec<String> = plan.unknown.iter().map(|&pod| observation.fleet.pod_name(pod)).collect();
        let message = format!(
            "no answer to GET /load from {}; no pod is added or removed until there is one. May the operator \
             reach port 9090 of the pods?",
            unknown.join(", ")
        );
        (true, "LoadsUnknown", message)
    } else if plan.replicas.reason == ReplicasReason::Maximum {
        let message = format!(
            "more viewers than replicas.max pods hold: no room for {}; raise it",
            rounded(plan.uncovered)
        );
        (true, "FleetFull", message)
    } else if let Some(message) = two_key_sets(seen) {
        (true, "TwoKeySets", message)
    } else {
        (false, "AsPlanned", "nothing is amiss".to_owned())
    };
    Now { kind: "Degraded", holds, reason, message }
}

fn two_key_sets(seen: &Seen) -> Option<String> {
    let by_url = seen.fleet.spec.auth.as_ref().is_some_and(|auth| auth.jwks.is_some());
    (by_url && seen.keys.jwks).then(|| {
        format!(
            "spec.auth.jwks is used and the jwks.json of the Secret {} is not; take one of the two away",
            seen.keys.secret
        )
    })
}

fn paused(paused: bool) -> Now {
    let (reason, message) = if paused {
        ("Paused", "spec.paused is true: pods are neither made nor replaced nor taken away")
    } else {
        ("Active", "spec.paused is false")
    };
    Now { kind: "Paused", holds: paused, reason, message: message.to_owned() }
}
