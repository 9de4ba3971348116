//! The objects a plan asks for. Pure: no clock, no client. Written as manifests, because that is what they are; a test
//! holds every one of them against the typed form.

mod pods;
mod rooms;
mod routes;
mod services;

use danmu_plan::{Observation, Plan};
use serde_json::{Value, json};
use thiserror::Error;

use crate::{kind::Kind, names::Owner, seen::Seen};

/// The port of viewers and the page.
const PUBLIC_PORT: u16 = 8080;
/// The port of `/load`, `/drain`, health and metrics.
pub(crate) const ADMIN_PORT: u16 = 9090;
/// The name of the public port on pods, Services and slices: a slice's must be its Service's.
const PUBLIC: &str = "ws";
/// Says to gateways that they must let WebSockets through.
const WEBSOCKET: &str = "kubernetes.io/ws";

/// What the operator itself was told at start.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The image of fleets that name none.
    pub server_image: Option<String>,
    /// A ClusterRole that lets servers read rooms; bound in each fleet's namespace.
    pub server_role: Option<String>,
}

/// An object as it is to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Object {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) body: Value,
}

/// Why a fleet's objects cannot be made.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum BuildError {
    /// Nobody named an image.
    #[error("the fleet has no image; set spec.image, or start the operator with --server-image")]
    NoImage,
}

/// What builders read.
pub(crate) struct Input<'a> {
    pub(crate) seen: &'a Seen,
    pub(crate) observation: &'a Observation,
    pub(crate) plan: &'a Plan,
    pub(crate) settings: &'a Settings,
    pub(crate) owner: &'a Owner,
    /// The name of the StatefulSet, the fleet's Service and the ServiceAccount.
    pub(crate) name: &'a str,
}

impl Input<'_> {
    /// An object of the fleet's own.
    fn object(&self, kind: Kind, name: String, rest: Value) -> Object {
        self.labelled(kind, name, rest, &[], &[])
    }

    fn labelled(
        &self,
        kind: Kind,
        name: String,
        rest: Value,
        labels: &[(&str, &str)],
        annotations: &[(&str, String)],
    ) -> Object {
        let mut meta = self.owner.meta(name.clone());
        let more = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        meta.labels.get_or_insert_default().extend(more);
        if !annotations.is_empty() {
            let all = annotations.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
            meta.annotations = Some(all.collect());
        }
        let resource = kind.resource();
        let mut body = json!({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta});
        if let (Value::Object(body), Value::Object(rest)) = (&mut body, rest) {
            body.extend(rest);
        }
        Object { kind, name, body }
    }

    /// Whether routes may be made: nobody else has the host, and the cluster knows the kind.
    fn routed(&self) -> bool {
        let route = &self.seen.fleet.spec.route;
        self.seen.host_taken.is_none()
            && (route.ingress.is_some() || (route.gateway.is_some() && self.seen.gateway_api))
    }
}

/// Everything the fleet should have, in the order to make it. What is not in it is to go.
pub(crate) fn build(
    seen: &Seen,
    observation: &Observation,
    plan: &Plan,
    settings: &Settings,
) -> Result<Vec<Object>, BuildError> {
    let owner = Owner::of(&seen.fleet);
    let input = Input { seen, observation, plan, settings, owner: &owner, name: &observation.fleet.name };
    let mut objects = vec![pods::service_account(&input), pods::disruption_budget(&input)];
    objects.extend(pods::role_binding(&input));
    objects.extend(services::services(&input));
    for room in plan.rooms.iter().filter(|room| room.hot) {
        objects.extend(rooms::objects(&input, room));
    }
    if input.routed() {
        objects.push(routes::fleet(&input));
    }
    objects.push(pods::stateful_set(&input)?);
    objects.sort_by_key(|object| object.kind);
    Ok(objects)
}

#[cfg(test)]
pub(crate) mod tests;
