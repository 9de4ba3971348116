//! What the operator saw: everything a plan depends on, so that a snapshot of it replays a decision.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A fleet, its pods and its rooms at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// The moment of the observation; the plan reads no clock.
    pub now: Timestamp,
    /// The fleet's settings.
    pub fleet: Fleet,
    /// The StatefulSet's `spec.replicas`; 0 if there is no StatefulSet yet.
    pub replicas: u32,
    /// When `replicas` last changed. A pod that has not been made yet has been missing since then.
    pub replicas_since: Timestamp,
    /// The StatefulSet's pods, in any order.
    #[serde(default)]
    pub pods: Vec<Pod>,
    /// The fleet's rooms, in any order.
    #[serde(default)]
    pub rooms: Vec<Room>,
}

/// Settings of a fleet, named as in the DanmuFleet's spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fleet {
    /// The StatefulSet's name: its pods are `<name>-<ordinal>`.
    pub name: String,
    /// Viewers that one pod holds; 0 is read as 1.
    pub viewers_per_pod: u32,
    /// The bounds of the replicas.
    pub replicas: Bounds,
    /// What is kept free above the observed viewers, in per cent.
    pub headroom_percent: u32,
    /// How long before a scheduled start its viewers are planned for, in seconds.
    pub warmup_seconds: u32,
    /// A room of at least so many viewers gets its own pods and route.
    pub hot_room_viewers: u32,
    /// The most rooms that get a route of their own; the largest go first.
    pub max_hot_rooms: u32,
    /// How long a pod's viewers have to move before it goes, in seconds.
    pub drain_seconds: u32,
    /// Replicas, drains and the rollout stand still; rooms are still placed, because pods may still die.
    #[serde(default)]
    pub paused: bool,
}

impl Fleet {
    /// The name of the pod with this ordinal, as in `status.placement`.
    pub fn pod_name(&self, ordinal: u32) -> String {
        format!("{}-{ordinal}", self.name)
    }

    /// The ordinal of a pod of this fleet, from its name.
    pub fn ordinal(&self, pod: &str) -> Option<u32> {
        pod.strip_prefix(self.name.as_str())?.strip_prefix('-')?.parse().ok()
    }
}

/// The bounds of the replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// The fewest.
    pub min: u32,
    /// The most; read as `min` if it is less. A rollout may go one over it for a while.
    pub max: u32,
}

/// One pod of the StatefulSet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Its number in the StatefulSet, from 0.
    pub ordinal: u32,
    /// Whether its server runs. One that does not (pending, crashed) surely has no viewers.
    pub running: bool,
    /// Whether it is Ready.
    pub ready: bool,
    /// When `ready` last changed.
    pub since: Timestamp,
    /// Whether it was made from the StatefulSet's newest revision.
    pub current: bool,
    /// Whether it is being deleted.
    #[serde(default)]
    pub terminating: bool,
    /// When it was told to drain, if it was.
    #[serde(default)]
    pub draining: Option<Timestamp>,
    /// What it last said of itself; it counts for 15 seconds.
    #[serde(default)]
    pub load: Option<Load>,
}

/// What a server said when it was last asked (`GET /load`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// When it answered.
    pub at: Timestamp,
    /// Its viewers, in all rooms.
    pub viewers: u32,
    /// The most viewers it takes. The plan uses the lesser of this and the fleet's `viewersPerPod`.
    pub capacity: u32,
}

/// One room.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    /// Its id, the name of its DanmuRoom.
    pub name: String,
    /// Viewers to be ready for at any time.
    #[serde(default)]
    pub expected_viewers: u32,
    /// Times at which others are expected.
    #[serde(default)]
    pub schedule: Vec<Window>,
    /// The fewest pods it must be on; 0 is read as 1. More than 1 makes it hot.
    #[serde(default)]
    pub min_pods: u32,
    /// Its viewers fetch what is said (`mode: OnDemand`), so that any pod serves them as cheaply: it is never hot.
    #[serde(default)]
    pub on_demand: bool,
    /// Into how many audiences its chat splits; 0 is read as 1, which is undivided.
    #[serde(default)]
    pub sub_rooms: u32,
    /// Whether it was hot before this plan.
    #[serde(default)]
    pub hot: bool,
    /// Where it was placed before this plan (`status.placement`, with ordinals for names).
    #[serde(default)]
    pub placement: Vec<Share>,
    /// Which sub-rooms were on which pods before this plan (`subRooms` of `status.placement`).
    #[serde(default)]
    pub parts: Vec<Part>,
    /// Its viewers now, by pod, from each pod's last load, also when that is older than 15 seconds.
    /// By room, not by pod: so nothing here needs to look a name up, with a million such pairs.
    #[serde(default)]
    pub viewers: Vec<Share>,
    /// Which pods took its new viewers before this plan.
    #[serde(default)]
    pub endpoints: Endpoints,
}

/// A time at which a room expects a number of viewers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// The first moment.
    pub start: Timestamp,
    /// The moment after the last.
    pub end: Timestamp,
    /// The viewers expected meanwhile.
    pub expected_viewers: u32,
}

/// A part of a room's viewers on one pod: planned in a placement, counted in [`Room::viewers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Share {
    /// The pod's ordinal.
    pub pod: u32,
    /// How many viewers.
    pub viewers: u32,
}

/// A sub-room of a room, all of it or a part, on a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// The pod's ordinal.
    pub pod: u32,
    /// The sub-room, from 0.
    pub sub_room: u32,
}

/// The pods of a room's EndpointSlice: those that take its new viewers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// Ordinals, ascending. Addresses are not the plan's matter: a pod's new address is followed at once.
    #[serde(default)]
    pub pods: Vec<u32>,
    /// When the set last changed by choice. To be kept (an annotation of the slice) and given back.
    #[serde(default)]
    pub changed_at: Option<Timestamp>,
}
