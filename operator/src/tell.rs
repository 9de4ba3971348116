//! Writes statuses that changed, and Events.

use danmu_crds::{DanmuRoom, RoomStatus};
use danmu_plan::{Observation, Placed, Plan, RoomPlan};
use futures_util::{StreamExt, stream};
use k8s_openapi::{
    NamespaceResourceScope, api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::{ApiResource, DynamicObject},
    runtime::events::{Event, EventType},
};
use serde::Serialize;
use serde_json::json;
use tracing::debug;

use crate::{
    controller::{Context, Memory},
    names,
    report::{self, Edge, Problem},
    seen::Seen,
};

const AT_ONCE: usize = 16;
/// Rooms' statuses that one reconcile writes; the rest is for the next one. 10,000 of them take minutes, and drains and
/// slices must not wait for them.
const AT_MOST: usize = 500;
/// Conditions of a fleet that are no good news.
const BAD: [&str; 2] = ["Degraded", "Paused"];
/// Conditions of a room that are no good news.
const BAD_OF_ROOMS: [&str; 1] = ["Shedding"];
/// Neither good nor bad: its edges are told by drains and replicas.
const SILENT: &str = "Progressing";

/// Writes the statuses that differ from what is there, hot rooms first. Answers whether some are left for the next time.
pub(crate) async fn statuses<L>(
    context: &Context<L>,
    seen: &Seen,
    observation: &Observation,
    plan: &Plan,
    problem: Option<&Problem>,
    memory: &mut Memory,
) -> Result<bool, kube::Error> {
    let shared = report::routing(seen, &observation.fleet.name);
    let fleet = report::fleet(seen, observation, plan, &shared, problem, &mut memory.told);
    memory.degraded = report::degraded_for(&fleet.conditions);
    let old = seen.fleet.status.clone().unwrap_or_default();
    if old != fleet {
        write(context, &*seen.fleet, &fleet).await?;
        let loud = |conditions: &[_]| {
            let loud = conditions.iter().filter(|c: &&Condition| c.type_ != SILENT);
            loud.cloned().collect::<Vec<_>>()
        };
        let edges = report::edges(&loud(&old.conditions), &loud(&fleet.conditions), &BAD);
        tell(context, &seen.fleet.object_ref(&()), edges).await;
    }
    report::forget(&mut memory.told, &plan.rooms);
    let by_name: std::collections::HashMap<String, &DanmuRoom> =
        seen.rooms.iter().map(|room| (room.name_any(), &**room)).collect();
    let mut writes = Vec::new();
    let mut left = false;
    let (hot, cold): (Vec<&RoomPlan>, Vec<&RoomPlan>) = plan.rooms.iter().partition(|room| room.hot);
    for room_plan in hot.into_iter().chain(cold) {
        if writes.len() == AT_MOST {
            left = true;
            break;
        }
        let Some(&room) = by_name.get(&room_plan.name) else { continue };
        let status = report::room(seen, observation, room, room_plan, &shared, &mut memory.told);
        if room.status.as_ref() != Some(&status) {
            // A cold room is as well as its fleet, and that tells it: one Event, and not one for each room.
            let loud = room_plan.hot || room_plan.placed == Placed::TooManyHotRooms;
            writes.push(tell_room(context, room, status, loud));
        }
    }
    all(writes).await.map(|()| left)
}

/// One that is refused stops no other; the first refusal is returned.
async fn all(writes: Vec<impl Future<Output = Result<(), kube::Error>>>) -> Result<(), kube::Error> {
    let refused = stream::iter(writes).buffer_unordered(AT_ONCE);
    let refused = refused.filter_map(|done| std::future::ready(done.err()));
    let refused: Vec<kube::Error> = refused.collect().await;
    refused.into_iter().next().map_or(Ok(()), Err)
}

/// Says to rooms that the fleet they name is not there; they would wait in silence.
pub(crate) async fn no_fleet<L>(context: &Context<L>, namespace: Option<&str>, name: &str) {
    let rooms = context.stores.rooms_of(namespace, name);
    let mut writes = Vec::new();
    for room in rooms.iter().filter(|room| room.metadata.deletion_timestamp.is_none()) {
        let status = report::without_fleet(room, jiff::Timestamp::now());
        if room.status.as_ref() != Some(&status) {
            writes.push(tell_room(context, room, status, true));
        }
    }
    if let Err(error) = all(writes).await {
        debug!(%error, fleet = name, "a room was not told that it has no fleet");
    }
}

async fn tell_room<L>(
    context: &Context<L>,
    room: &DanmuRoom,
    status: RoomStatus,
    loud: bool,
) -> Result<(), kube::Error> {
    match write(context, room, &status).await {
        // Deleted meanwhile, or made anew.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => return Ok(()),
        done => done?,
    }
    let old = room.status.as_ref().map(|status| &status.conditions[..]).unwrap_or_default();
    let new = &status.conditions;
    let edges = if loud {
        report::edges(old, new, &BAD_OF_ROOMS)
    } else {
        report::edges(&report::of_the_room(old), &report::of_the_room(new), &BAD_OF_ROOMS)
    };
    tell(context, &room.object_ref(&()), edges).await;
    Ok(())
}

async fn write<K, S, L>(context: &Context<L>, object: &K, status: &S) -> Result<(), kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    S: Serialize,
{
    let resource = ApiResource::erase::<K>(&());
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &namespace, &resource);
    let body = json!({
        "apiVersion": resource.api_version, "kind": resource.kind,
        // With the uid, an object made anew meanwhile is not told what its namesake was.
        "metadata": {"name": object.name_any(), "uid": object.uid()},
        "status": status,
    });
    let params = PatchParams::apply(names::OPERATOR).force();
    let done = api.patch_status(&object.name_any(), &params, &Patch::Apply(&body)).await;
    context.metrics.status(done.is_ok());
    done.map(drop)
}

async fn tell<L>(context: &Context<L>, about: &ObjectReference, edges: Vec<Edge>) {
    for edge in edges {
        event(context, about, edge.warning, &edge.reason, &edge.note).await;
    }
}

/// An Event; it is news and no more, so that it fails is only logged.
pub(crate) async fn event<L>(
    context: &Context<L>,
    about: &ObjectReference,
    warning: bool,
    reason: &str,
    note: &str,
) {
    let event = Event {
        type_: if warning { EventType::Warning } else { EventType::Normal },
        reason: reason.to_owned(),
        note: Some(note.chars().take(1000).collect()),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    if let Err(error) = context.recorder.publish(&event, about).await {
        debug!(%error, reason, "an Event was not taken");
    }
}
