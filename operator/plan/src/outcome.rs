//! What the operator is to do.

use serde::{Deserialize, Serialize};

use crate::{Endpoints, Part, Share};

/// What to do now. It is complete: what is not in it is as it should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// How many pods.
    pub replicas: Replicas,
    /// Pods to tell to drain, ascending. Rooms have left them in this plan: apply slices first, then `POST /drain`.
    pub drain: Vec<u32>,
    /// Draining pods that are needed again (`DELETE /drain`), ascending.
    pub undrain: Vec<u32>,
    /// How to go on with pods of an old revision.
    pub rollout: Rollout,
    /// Each room, by name.
    pub rooms: Vec<RoomPlan>,
    /// Viewers of all rooms that no pod has room for.
    pub uncovered: u64,
    /// Viewers planned for, in all rooms, those without a manifest too.
    pub demand: u64,
    /// Ready pods whose load is unknown, ascending.
    pub unknown: Vec<u32>,
    /// Whether the fleet's condition is `Degraded`, reason `LoadsUnknown`.
    pub loads_unknown: bool,
}

/// How many pods, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replicas {
    /// What to write to the StatefulSet now. Less than it was only when the pods that go are known to be empty.
    pub now: u32,
    /// Where it goes once the tail is drained.
    pub target: u32,
    /// The fewest pods that hold the demand, whatever the fleet's `min`.
    pub needed: u32,
    /// Why.
    pub reason: ReplicasReason,
}

/// Why the replicas are as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplicasReason {
    /// The demand asks for them.
    Demand,
    /// The fleet's `min`.
    Minimum,
    /// The fleet's `max`; the demand asks for more.
    Maximum,
    /// The highest pod's load is unknown, so it must stay.
    TailUnknown,
    /// More than a third of the Ready pods' loads are unknown: nothing changes.
    LoadsUnknown,
    /// The fleet is paused: nothing changes.
    Paused,
    /// A rollout runs: no pod goes meanwhile.
    RollingOut,
    /// The rollout needs one pod more to hold the viewers of the pod it replaces.
    Surge,
}

/// The next step towards one revision. One pod at a time, highest ordinal first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rollout {
    /// All pods are at the newest revision.
    Done,
    /// Outdated pods wait, because the fleet is paused or too many loads are unknown.
    Held,
    /// One more pod is made first: the rest cannot hold the viewers.
    Surge,
    /// This pod must be Ready, at the newest revision, with a known load, before the next one goes.
    Await(u32),
    /// This pod drains.
    Drain(u32),
    /// This pod is to be deleted, through the eviction API.
    Evict(u32),
}

/// What to do for a room.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomPlan {
    /// The room's id.
    pub name: String,
    /// Whether it gets pods and a route of its own.
    pub hot: bool,
    /// Its viewers now, on all pods.
    pub observed: u32,
    /// Viewers planned for.
    pub demand: u32,
    /// Where that number comes from.
    pub source: Source,
    /// Equal shares of the demand, ascending by pod (`status.placement`); empty for a cold room, which is on all pods.
    pub placement: Vec<Share>,
    /// Which sub-rooms are on which of these pods, ascending; empty if the room has none.
    pub parts: Vec<Part>,
    /// The pods that take its new viewers; none for a cold room. An empty set of a hot room: take its route away.
    pub endpoints: Endpoints,
    /// Viewers of its demand that no pod has room for.
    pub uncovered: u32,
    /// The reason of its `Placed` condition.
    pub placed: Placed,
}

/// Where a room's demand comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// `expectedViewers`.
    Expected,
    /// A window of `schedule` that runs or starts within the warm-up.
    Scheduled,
    /// The viewers counted, with headroom.
    Observed,
}

/// The reason of a room's `Placed` condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placed {
    /// True: its pods hold its demand.
    Fits,
    /// True: a cold room, spread over all pods by the fleet's Service.
    Shared,
    /// True: large enough for its own pods, but `maxHotRooms` others are larger. Spread over all pods.
    TooManyHotRooms,
    /// False: pods that will hold it are starting.
    PodsStarting,
    /// False: it would fit, but only on pods whose load is unknown.
    LoadsUnknown,
    /// False: the fleet is at its maximum, or paused.
    FleetFull,
    /// False: no pod is Ready. The placement is what it was.
    NoReadyPods,
}

impl Placed {
    /// The condition's status.
    pub fn holds(self) -> bool {
        matches!(self, Self::Fits | Self::Shared | Self::TooManyHotRooms)
    }

    /// The condition's `reason`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Fits => "Fits",
            Self::Shared => "Shared",
            Self::TooManyHotRooms => "TooManyHotRooms",
            Self::PodsStarting => "PodsStarting",
            Self::LoadsUnknown => "LoadsUnknown",
            Self::FleetFull => "FleetFull",
            Self::NoReadyPods => "NoReadyPods",
        }
    }
}
