//! What is read for one fleet before anything is decided: copies out of the stores, no I/O.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use danmu_crds::{DanmuFleet, DanmuRoom};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::core::DynamicObject;

use crate::kind::Kind;

/// An object of ours as it is in the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) kind: Kind,
    pub(crate) object: Arc<DynamicObject>,
}

/// What a server last said of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// When.
    pub at: Timestamp,
    /// Its viewers, in all rooms.
    pub viewers: u32,
    /// The most viewers it takes.
    pub capacity: u32,
    /// Its viewers by room.
    pub rooms: BTreeMap<String, u32>,
    /// Its rooms that shed load, with how far (1 to 3).
    pub shedding: BTreeMap<String, u8>,
    /// When it began to drain, if it drains.
    pub draining: Option<Timestamp>,
}

/// Which keys the fleet's Secret has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) secret: String,
    /// The Secret's version: pods read it at their start, so that another one is another revision.
    pub(crate) version: String,
    pub(crate) hs256: bool,
    pub(crate) eddsa: bool,
    pub(crate) rs256: bool,
    /// A JSON Web Key Set; read again by the servers themselves.
    pub(crate) jwks: bool,
    /// What requests of hooks are signed with.
    pub(crate) hooks: bool,
}

/// Everything seen of one fleet.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) now: Timestamp,
    pub(crate) fleet: Arc<DanmuFleet>,
    pub(crate) rooms: Vec<Arc<DanmuRoom>>,
    pub(crate) pods: Vec<Arc<Pod>>,
    pub(crate) live: Vec<Live>,
    /// By the pod's uid: a new pod of the same name has said nothing yet.
    pub(crate) loads: HashMap<String, Arc<Told>>,
    pub(crate) keys: Keys,
    /// Whether the cluster has HTTPRoutes at all.
    pub(crate) gateway_api: bool,
    /// A host of this fleet that an older fleet has.
    pub(crate) host_taken: Option<String>,
}

impl Seen {
    pub(crate) fn live(&self, kind: Kind, name: &str) -> Option<&DynamicObject> {
        let found = self
            .live
            .iter()
            .find(|live| live.kind == kind && live.object.metadata.name.as_deref() == Some(name));
        found.map(|live| &*live.object)
    }

    pub(crate) fn load(&self, pod: &Pod) -> Option<&Arc<Told>> {
        self.loads.get(pod.metadata.uid.as_deref()?)
    }
}
