//! A room's status.

use std::collections::HashMap;

use danmu_crds::{DanmuRoom, PlacedShare, RoomStatus};
use danmu_plan::{Observation, Placed, RoomPlan};
use jiff::{SignedDuration, Timestamp};
use kube::core::DynamicObject;
use serde_json::Value;

use super::{conditions, conditions::Now, two_digits};
use crate::{kind::Kind, names, seen::Seen};

/// A room's viewers are told at most so often.
const REST: SignedDuration = SignedDuration::from_secs(60);

/// Whether a route works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Routing {
    pub(crate) holds: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Routing {
    fn new(holds: bool, reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds, reason, message: message.into() }
    }
}

/// Whether the route of this name works; of the fleet's own, or a room's.
pub(crate) fn routing(seen: &Seen, name: &str) -> Routing {
    let route = &seen.fleet.spec.route;
    if let Some(host) = &seen.host_taken {
        let message = format!("an older fleet has the host {host}; give this one another");
        return Routing::new(false, "HostnameTaken", message);
    }
    if route.ingress.is_some() {
        return match seen.live(Kind::Ingress, name) {
            Some(_) => Routing::new(true, "IngressMade", "the Ingress is there; Ingresses tell no more"),
            None => Routing::new(false, "RouteMissing", "the Ingress is being made"),
        };
    }
    let Some(gateway) = &route.gateway else {
        return Routing::new(true, "NoRoute", "spec.route of the fleet asks for none");
    };
    if !seen.gateway_api {
        let message = "the cluster has no HTTPRoute; install the Gateway API, or use spec.route.ingress";
        return Routing::new(false, "NoGatewayApi", message);
    }
    let Some(object) = seen.live(Kind::HttpRoute, name) else {
        return Routing::new(false, "RouteMissing", "the HTTPRoute is being made");
    };
    accepted(object, &gateway.name)
}

/// What the Gateway's controller says of the route, in its present form.
fn accepted(route: &DynamicObject, gateway: &str) -> Routing {
    let parents = route.data.pointer("/status/parents").and_then(Value::as_array);
    let ours = parents.into_iter().flatten().find(|parent| parent["parentRef"]["name"] == gateway);
    let Some(parent) = ours else {
        let message =
            format!("no controller has taken the HTTPRoute for the Gateway {gateway}; is there one?");
        return Routing::new(false, "RoutePending", message);
    };
    for wanted in ["Accepted", "ResolvedRefs"] {
        let conditions = parent["conditions"].as_array();
        let condition = conditions.into_iter().flatten().find(|condition| condition["type"] == wanted);
        let fresh = condition.is_some_and(|condition| {
            condition["observedGeneration"].as_i64().unwrap_or(0) >= route.metadata.generation.unwrap_or(0)
        });
        match condition {
            Some(condition) if fresh && condition["status"] == "True" => {}
            Some(condition) if fresh => {
                let told = |field: &str| condition[field].as_str().unwrap_or("nothing").to_owned();
                let message = format!("the Gateway {gateway} says {}: {}", told("reason"), told("message"));
                return Routing::new(false, "RouteRefused", message);
            }
            _ => {
                return Routing::new(
                    false,
                    "RoutePending",
                    format!("the Gateway {gateway} has not said {wanted}"),
                );
            }
        }
    }
    Routing::new(true, "Accepted", format!("the Gateway {gateway} takes the route"))
}

/// When each room's viewers were told last; kept by the controller, lost with it.
pub(crate) type ViewerCounts = HashMap<String, Timestamp>;

/// A room's status now.
pub(crate) fn room(
    seen: &Seen,
    observation: &Observation,
    room: &DanmuRoom,
    plan: &RoomPlan,
    shared: &Routing,
    told: &mut ViewerCounts,
) -> RoomStatus {
    let old = room.status.clone().unwrap_or_default();
    let routing = routed(seen, plan, shared);
    let ready = observation.pods.iter().any(|pod| {
        pod.ready
            && (plan.placement.is_empty() || plan.placement.iter().any(|share| share.pod == pod.ordinal))
    });
    let url = if routing.holds { url(seen, &plan.name) } else { None };
    let placement = plan.placement.iter().map(|share| PlacedShare {
        pod: observation.fleet.pod_name(share.pod),
        viewers: share.viewers,
        sub_rooms: Vec::new(),
    });
    let now = vec![placed(plan), routed_condition(&routing), is_ready(plan, &routing, ready)];
    RoomStatus {
        observed_generation: room.metadata.generation,
        url,
        viewers: plan.hot.then(|| viewers(old.viewers, plan.observed, &plan.name, seen.now, told)),
        placement: placement.collect(),
        conditions: conditions::merged(now, &old.conditions, room.metadata.generation, seen.now),
    }
}

/// The status of a room whose fleet is not there.
pub(crate) fn without_fleet(room: &DanmuRoom, now: Timestamp) -> RoomStatus {
    let old = room.status.clone().unwrap_or_default();
    let message =
        format!("there is no DanmuFleet {} in this namespace; make it, or name another", room.spec.fleet);
    let conditions = ["Placed", "Routed", "Ready"].map(|kind| Now {
        kind,
        holds: false,
        reason: "NoSuchFleet",
        message: message.clone(),
    });
    let generation = room.metadata.generation;
    RoomStatus {
        observed_generation: generation,
        conditions: conditions::merged(conditions.into(), &old.conditions, generation, now),
        ..RoomStatus::default()
    }
}

/// A hot room has a route of its own as soon as a pod takes its viewers; until then, and a cold one always, comes in
/// by the fleet's.
fn routed(seen: &Seen, plan: &RoomPlan, shared: &Routing) -> Routing {
    if plan.hot && !plan.endpoints.pods.is_empty() {
        return routing(seen, &names::room(&plan.name));
    }
    if shared.holds && shared.reason != "NoRoute" {
        return Routing::new(true, "SharedRoute", "viewers come in by the fleet's route");
    }
    shared.clone()
}

/// The number told before, until the real one is a tenth away from it and a minute has passed; that somebody came is told
/// at once. `of` is a room, or nothing for all of them.
pub(super) fn viewers(
    before: Option<u32>,
    number: u32,
    of: &str,
    now: Timestamp,
    told: &mut ViewerCounts,
) -> u32 {
    let rests = told.get(of).is_some_and(|at| now.duration_since(*at) < REST);
    match before {
        Some(before) if (rests && before > 0) || before.abs_diff(number) < (before / 10).max(1) => before,
        _ => {
            told.insert(of.to_owned(), now);
            two_digits(number)
        }
    }
}

fn url(seen: &Seen, room: &str) -> Option<String> {
    let route = &seen.fleet.spec.route;
    let host = route.hosts().into_iter().find(|host| !host.starts_with('*'))?;
    let scheme = if route.tls { "wss" } else { "ws" };
    // The room is named twice: gateways route by the path, and hash by the query.
    Some(format!("{scheme}://{host}/rooms/{room}/ws?room={room}"))
}

fn placed(plan: &RoomPlan) -> Now {
    let (demand, pods) = (two_digits(plan.demand), plan.placement.len());
    let uncovered = two_digits(plan.uncovered);
    let message = match plan.placed {
        Placed::Fits => format!("{pods} pods hold its {demand} viewers"),
        Placed::Shared => "it is small: all pods share it".to_owned(),
        Placed::TooManyHotRooms => {
            "it is large, but maxHotRooms others are larger: all pods share it".to_owned()
        }
        Placed::PodsStarting => format!("{uncovered} of {demand} viewers wait for pods that start"),
        Placed::LoadsUnknown => "the pods it would fit on do not answer".to_owned(),
        Placed::FleetFull => {
            format!("{uncovered} of {demand} viewers have no room; raise the fleet's replicas.max")
        }
        Placed::NoReadyPods => "no pod is Ready".to_owned(),
    };
    Now { kind: "Placed", holds: plan.placed.holds(), reason: plan.placed.reason(), message }
}

fn routed_condition(routing: &Routing) -> Now {
    let Routing { holds, reason, message } = routing.clone();
    Now { kind: "Routed", holds, reason, message }
}

fn is_ready(plan: &RoomPlan, routing: &Routing, ready: bool) -> Now {
    let (holds, reason, message) = if !plan.placed.holds() {
        (false, plan.placed.reason(), "see Placed")
    } else if !routing.holds {
        (false, routing.reason, "see Routed")
    } else if !ready {
        (false, "NoReadyPods", "none of its pods is Ready")
    } else {
        (true, "Serving", "viewers can come")
    };
    Now { kind: "Ready", holds, reason, message: message.to_owned() }
}

/// Forgets rooms that are gone.
pub(crate) fn forget(told: &mut ViewerCounts, rooms: &[RoomPlan]) {
    if told.len() > rooms.len() + 1 {
        let names: std::collections::HashSet<&str> = rooms.iter().map(|room| room.name.as_str()).collect();
        told.retain(|room, _| room.is_empty() || names.contains(room.as_str()));
    }
}
