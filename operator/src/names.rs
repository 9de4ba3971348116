//! Names, labels and annotations of everything the operator owns.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use sha2::{Digest, Sha256};

/// The field manager of server-side apply, the reporter of Events, and the value of `managed-by`.
pub const OPERATOR: &str = "danmu-operator";
/// Whose pods, Services and routes these are.
pub(crate) const FLEET_LABEL: &str = "danmu.live/fleet";
/// The room that a Service, slice or route is for.
pub(crate) const ROOM_LABEL: &str = "danmu.live/room";
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// A hash of what was applied last: it tells a field that we no longer ask for.
pub(crate) const APPLIED: &str = "danmu.live/applied";
/// When a StatefulSet's replicas last changed.
pub(crate) const REPLICAS_SINCE: &str = "danmu.live/replicas-since";
/// When a slice's set of pods last changed by choice.
pub(crate) const CHANGED_AT: &str = "danmu.live/changed-at";

/// The version of the Secret that a pod was made with.
pub(crate) const KEYS: &str = "danmu.live/keys";

const HEAD: usize = 40;

/// The first `HEAD` characters of `name` and a hash of all of it, so that two long names never meet.
pub(crate) fn hashed(prefix: &str, name: &str) -> String {
    let head: String = name.chars().take(HEAD).collect();
    format!("{prefix}-{}-{}", head.trim_matches('-'), hash(name.as_bytes()))
}

/// Eight hexadecimal digits.
pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// The name of a hot room's Service, slice and route.
pub(crate) fn room(room: &str) -> String {
    hashed("room", room)
}

/// The name of a fleet's StatefulSet and Service; its pods are `<name>-<ordinal>`. A long one is cut, because a
/// pod's name is a label too, and those have 63 characters.
pub(crate) fn fleet(fleet: &str) -> String {
    if fleet.chars().count() <= HEAD { format!("danmu-{fleet}") } else { hashed("danmu", fleet) }
}

/// The labels that a fleet's pods are found by.
pub(crate) fn selector(fleet: &str) -> BTreeMap<String, String> {
    [("app.kubernetes.io/name", "danmu-server"), (FLEET_LABEL, fleet)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The labels of everything owned.
pub(crate) fn labels(fleet: &str) -> BTreeMap<String, String> {
    let mut labels = selector(fleet);
    labels.insert(MANAGED_BY.to_owned(), OPERATOR.to_owned());
    labels.insert("app.kubernetes.io/component".to_owned(), "room-server".to_owned());
    labels
}

/// What owned objects know of their fleet.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    reference: Option<OwnerReference>,
}

impl Owner {
    pub(crate) fn of(fleet: &danmu_crds::DanmuFleet) -> Self {
        Self {
            name: fleet.name_any(),
            namespace: fleet.namespace().unwrap_or_default(),
            uid: fleet.uid().unwrap_or_default(),
            reference: fleet.controller_owner_ref(&()),
        }
    }

    /// Metadata of an object that goes when the fleet goes.
    pub(crate) fn meta(&self, name: String) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels(&self.name)),
            owner_references: self.reference.clone().map(|reference| vec![reference]),
            ..ObjectMeta::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owned_names_are_short_enough_and_never_meet() {
        let long = "a".repeat(39) + "-" + &"b".repeat(23);
        let other = "a".repeat(39) + "-" + &"c".repeat(23);
        assert_ne!(room(&long), room(&other));
        for name in [room(&long), room("a"), fleet(&long)] {
            assert!(name.len() <= 55, "{name}");
            assert!(!name.contains("--"), "{name}");
        }
        assert_eq!(room("worlds-final"), format!("room-worlds-final-{}", hash(b"worlds-final")));
        assert_eq!(fleet("default"), "danmu-default");
    }
}
