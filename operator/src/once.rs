//! One look at a fleet from outside, for people: the same observation that a reconcile makes, without stores.

use std::{collections::HashMap, sync::Arc};

use danmu_crds::{DanmuFleet, DanmuRoom};
use danmu_plan::Observation;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client, ResourceExt, api::ListParams};

use crate::{
    keys,
    kind::Kind,
    names,
    observe::{observe, readiness, runs},
    seen::{Keys, Live, Seen, Told},
};

/// A fleet with what belongs to it.
#[derive(Clone, Debug)]
pub struct Found {
    /// The fleet.
    pub fleet: DanmuFleet,
    /// Its rooms.
    pub rooms: Vec<DanmuRoom>,
    /// Its pods.
    pub pods: Vec<Pod>,
    live: Vec<Live>,
}

impl Found {
    /// Reads a fleet and everything that an observation of it needs, but for the pods' loads.
    ///
    /// # Errors
    /// What the API says.
    pub async fn read(client: &Client, namespace: &str, fleet: &str) -> Result<Self, kube::Error> {
        let fleets: Api<DanmuFleet> = Api::namespaced(client.clone(), namespace);
        let fleet = fleets.get(fleet).await?;
        let ours = ListParams::default().labels(&format!("{}={}", names::FLEET_LABEL, fleet.name_any()));
        let rooms: Api<DanmuRoom> = Api::namespaced(client.clone(), namespace);
        let mut rooms = rooms.list(&ListParams::default()).await?.items;
        rooms
            .retain(|room| room.spec.fleet == fleet.name_any() && room.metadata.deletion_timestamp.is_none());
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let pods = pods.list(&ours).await?.items;
        let mut live = Vec::new();
        for kind in [Kind::StatefulSet, Kind::EndpointSlice] {
            let api = Api::namespaced_with(client.clone(), namespace, &kind.resource());
            let objects = api.list(&ours).await?.items.into_iter();
            live.extend(objects.map(|object| Live { kind, object: Arc::new(object) }));
        }
        Ok(Self { fleet, rooms, pods, live })
    }

    /// What the operator would see; `loads` by the pods' uids.
    pub fn observation(&self, loads: HashMap<String, Arc<Told>>) -> Observation {
        observe(&Seen {
            now: Timestamp::now(),
            fleet: Arc::new(self.fleet.clone()),
            rooms: self.rooms.iter().cloned().map(Arc::new).collect(),
            pods: self.pods.iter().cloned().map(Arc::new).collect(),
            live: self.live.clone(),
            loads,
            keys: Keys::default(),
            gateway_api: false,
            host_taken: None,
        })
    }

    /// The admin token of the fleet's servers. Makes nothing.
    ///
    /// # Errors
    /// Why it is not known, in words.
    pub async fn admin_token(&self, client: &Client) -> Result<String, String> {
        let namespace = self.fleet.namespace().unwrap_or_default();
        let named =
            self.fleet.spec.auth.as_ref().and_then(|auth| Some(auth.secret_ref.as_ref()?.name.clone()));
        let name = named.unwrap_or_else(|| format!("{}-admin", names::fleet(&self.fleet.name_any())));
        let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
        let secret = api.get(&name).await.map_err(|error| {
            // The whole error would show all of the API's answer.
            let words = match error {
                kube::Error::Api(status) => status.message,
                other => other.to_string(),
            };
            format!("the Secret {name} with the admin token cannot be read: {words}")
        })?;
        keys::read(&name, &secret).map(|(_, token)| token).map_err(|error| error.to_string())
    }
}

/// Whether a pod's server runs, and whether it is Ready.
pub fn state(pod: &Pod) -> (bool, bool) {
    (runs(pod), readiness(pod).0)
}

#[cfg(test)]
mod tests {
    use danmu_crds::{DanmuFleetSpec, DanmuRoomSpec};

    use super::*;

    #[test]
    fn a_look_from_outside_is_planned_like_a_reconcile() {
        let mut spec: DanmuRoomSpec = serde_json::from_str(r#"{"fleet": "default"}"#).unwrap();
        spec.expected_viewers = 40_000;
        let found = Found {
            fleet: DanmuFleet::new("default", DanmuFleetSpec::default()),
            rooms: vec![DanmuRoom::new("finals", spec)],
            pods: Vec::new(),
            live: Vec::new(),
        };
        let observation = found.observation(HashMap::new());
        let plan = danmu_plan::plan(&observation);
        let line = plan.reason_of(&observation.fleet, "finals").unwrap();
        assert!(line.starts_with("finals: 40000 viewers (expected)"), "{line}");
        assert_eq!(plan.reason_of(&observation.fleet, "nowhere"), None);
    }
}
