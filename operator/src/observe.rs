//! What was seen, in the plan's words. Reads nothing but [`Seen`].

use std::collections::HashMap;
use std::str::FromStr;

use danmu_crds::{DanmuRoom, RoomMode};
use danmu_plan::{Bounds, Endpoints, Fleet, Load, Observation, Part, Pod, Room, Share, Window};
use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1, discovery::v1::EndpointSlice};
use kube::ResourceExt;
use kube::core::DynamicObject;

use crate::{
    kind::Kind,
    names,
    seen::{Live, Seen},
};

/// What the plan is made from.
pub(crate) fn observe(seen: &Seen) -> Observation {
    let fleet = fleet(seen);
    let set: Option<StatefulSet> =
        seen.live(Kind::StatefulSet, &fleet.name).and_then(|object| object.clone().try_parse().ok());
    let since = set.as_ref().and_then(|set| moment(set.annotations().get(names::REPLICAS_SINCE)));
    let made = set.as_ref().and_then(|set| set.metadata.creation_timestamp.as_ref().map(|time| time.0));
    let revision = set.as_ref().and_then(|set| set.status.as_ref()?.update_revision.clone());
    let pods: Vec<Pod> =
        seen.pods.iter().filter_map(|pod| pod_of(pod, &fleet, revision.as_deref(), seen)).collect();
    // A set that is gone may have left its pods behind: a new one must not begin by taking them away.
    let left = pods.iter().filter(|pod| !pod.terminating).map(|pod| pod.ordinal.saturating_add(1)).max();
    let replicas = match set.as_ref().and_then(|set| set.spec.as_ref()?.replicas) {
        Some(replicas) => u32::try_from(replicas).unwrap_or(0),
        None => left.unwrap_or(0).min(fleet.replicas.max.saturating_add(1)),
    };
    Observation {
        now: seen.now,
        replicas,
        replicas_since: since.or(made).unwrap_or(seen.now),
        pods,
        rooms: rooms(seen, &fleet),
        fleet,
    }
}

fn fleet(seen: &Seen) -> Fleet {
    let spec = &seen.fleet.spec;
    Fleet {
        name: names::fleet(&seen.fleet.name_any()),
        viewers_per_pod: spec.viewers_per_pod,
        replicas: Bounds { min: spec.replicas.min, max: spec.replicas.max },
        headroom_percent: spec.headroom_percent,
        warmup_seconds: spec.warmup_seconds,
        hot_room_viewers: spec.hot_room_viewers,
        max_hot_rooms: spec.max_hot_rooms,
        drain_seconds: spec.drain_seconds,
        paused: spec.paused,
    }
}

/// The status of a pod's condition `Ready`, and when it last changed.
pub(crate) fn readiness(pod: &v1::Pod) -> (bool, Option<Timestamp>) {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    ready.map_or((false, None), |ready| {
        (ready.status == "True", ready.last_transition_time.as_ref().map(|time| time.0))
    })
}

/// Whether the server's process runs, Ready or not.
pub(crate) fn runs(pod: &v1::Pod) -> bool {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.into_iter().any(|container| {
        container.name == "server" && container.state.as_ref().is_some_and(|state| state.running.is_some())
    })
}

fn pod_of(pod: &v1::Pod, fleet: &Fleet, revision: Option<&str>, seen: &Seen) -> Option<Pod> {
    let ordinal = fleet.ordinal(&pod.name_any())?;
    let told = seen.load(pod);
    let (ready, since) = readiness(pod);
    let made = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let is = pod.labels().get("controller-revision-hash").map(String::as_str);
    Some(Pod {
        ordinal,
        running: runs(pod),
        ready,
        since: since.or(made).unwrap_or(seen.now),
        // Without a revision to compare with, nothing is known to be old.
        current: revision.is_none() || is == revision,
        terminating: pod.metadata.deletion_timestamp.is_some(),
        draining: told.and_then(|told| told.draining),
        load: told.map(|told| Load { at: told.at, viewers: told.viewers, capacity: told.capacity }),
    })
}

fn rooms(seen: &Seen, fleet: &Fleet) -> Vec<Room> {
    let mut viewers: HashMap<&str, Vec<Share>> = HashMap::new();
    for pod in &seen.pods {
        let (Some(ordinal), Some(told)) = (fleet.ordinal(&pod.name_any()), seen.load(pod)) else { continue };
        for (room, &count) in told.rooms.iter().filter(|_| runs(pod)) {
            viewers.entry(room).or_default().push(Share { pod: ordinal, viewers: count });
        }
    }
    let slices: HashMap<&str, &Live> = seen
        .live
        .iter()
        .filter(|live| live.kind == Kind::EndpointSlice)
        .filter_map(|live| Some((live.object.labels().get(names::ROOM_LABEL)?.as_str(), live)))
        .collect();
    let rooms = seen.rooms.iter().map(|room| {
        let name = room.name_any();
        let slice = slices.get(name.as_str()).map(|live| &*live.object);
        let viewers = viewers.remove(name.as_str()).unwrap_or_default();
        room_of(room, slice, viewers, fleet)
    });
    rooms.collect()
}

fn room_of(room: &DanmuRoom, slice: Option<&DynamicObject>, viewers: Vec<Share>, fleet: &Fleet) -> Room {
    let spec = &room.spec;
    let placed = || room.status.iter().flat_map(|status| &status.placement);
    let mut placement: Vec<Share> = placed()
        .filter_map(|share| Some(Share { pod: fleet.ordinal(&share.pod)?, viewers: share.viewers }))
        .collect();
    placement.sort_unstable();
    let parts = placed().filter_map(|share| Some((fleet.ordinal(&share.pod)?, &share.sub_rooms)));
    let parts =
        parts.flat_map(|(pod, subs)| subs.iter().map(move |&sub_room| Part { pod, sub_room })).collect();
    let windows = spec.schedule.iter().map(|window| Window {
        start: window.start,
        end: window.end,
        expected_viewers: window.expected_viewers,
    });
    Room {
        name: room.name_any(),
        expected_viewers: spec.expected_viewers,
        schedule: windows.collect(),
        min_pods: spec.min_pods,
        on_demand: spec.mode == RoomMode::OnDemand,
        sub_rooms: spec.sub_rooms,
        hot: !placement.is_empty() || slice.is_some(),
        placement,
        parts,
        viewers,
        endpoints: slice.map(|slice| endpoints(slice, fleet)).unwrap_or_default(),
    }
}

fn endpoints(slice: &DynamicObject, fleet: &Fleet) -> Endpoints {
    let changed_at = moment(slice.annotations().get(names::CHANGED_AT));
    let parsed: Option<EndpointSlice> = slice.clone().try_parse().ok();
    let names = parsed.iter().flat_map(|slice| slice.endpoints.iter()).filter_map(|endpoint| {
        let target = endpoint.target_ref.as_ref()?;
        fleet.ordinal(target.name.as_deref()?)
    });
    let mut pods: Vec<u32> = names.collect();
    pods.sort_unstable();
    pods.dedup();
    Endpoints { pods, changed_at }
}

fn moment(text: Option<&String>) -> Option<Timestamp> {
    text.and_then(|text| Timestamp::from_str(text).ok())
}

#[cfg(test)]
mod tests;
