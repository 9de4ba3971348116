//! HTTPRoutes or Ingresses: the fleet's own, and one for each hot room.

use danmu_plan::RoomPlan;
use serde_json::{Value, json};

use super::{Input, Object, PUBLIC_PORT};
use crate::{kind::Kind, names};

/// Everything that no hot room's route takes: the page, the list of rooms, and cold rooms.
pub(super) fn fleet(input: &Input<'_>) -> Object {
    route(input, input.name.to_owned(), &[], ("PathPrefix", "Prefix"), "/", input.name)
}

/// One room's WebSocket, exactly: it beats the fleet's prefix without an edit of that.
pub(super) fn room(input: &Input<'_>, room: &RoomPlan) -> Object {
    let name = names::room(&room.name);
    let path = format!("/rooms/{}/ws", room.name);
    let labels = [(names::ROOM_LABEL, room.name.as_str())];
    route(input, name.clone(), &labels, ("Exact", "Exact"), &path, &name)
}

fn route(
    input: &Input<'_>,
    name: String,
    labels: &[(&str, &str)],
    (gateway_match, ingress_match): (&str, &str),
    path: &str,
    service: &str,
) -> Object {
    let route = &input.seen.fleet.spec.route;
    let Some(ingress) = &route.ingress else {
        return input.labelled(
            Kind::HttpRoute,
            name,
            http_route(input, gateway_match, path, service),
            labels,
            &[],
        );
    };
    let backend = json!({"service": {"name": service, "port": {"number": PUBLIC_PORT}}});
    let mut spec = json!({"rules": [{
        "host": ingress.host,
        "http": {"paths": [{"path": path, "pathType": ingress_match, "backend": backend}]},
    }]});
    if let Some(class) = &ingress.class_name {
        spec["ingressClassName"] = json!(class);
    }
    // Traefik sorts by the length of a rule's text, and a prefix can be longer than an exact path.
    let priority = ("traefik.ingress.kubernetes.io/router.priority", "1000".to_owned());
    let annotations = if labels.is_empty() { &[][..] } else { std::slice::from_ref(&priority) };
    input.labelled(Kind::Ingress, name, json!({"spec": spec}), labels, annotations)
}

fn http_route(input: &Input<'_>, kind: &str, path: &str, service: &str) -> Value {
    let gateway = input.seen.fleet.spec.route.gateway.as_ref();
    let name = gateway.map(|gateway| gateway.name.as_str()).unwrap_or_default();
    let namespace = gateway.and_then(|gateway| gateway.namespace.as_deref());
    let mut spec = json!({
        "parentRefs": [{
            "group": "gateway.networking.k8s.io", "kind": "Gateway",
            "name": name, "namespace": namespace.unwrap_or(&input.owner.namespace),
        }],
        "rules": [{
            "matches": [{"path": {"type": kind, "value": path}}],
            "backendRefs": [{"group": "", "kind": "Service", "name": service, "port": PUBLIC_PORT, "weight": 1}],
        }],
    });
    if let Some(hosts) = gateway.map(|gateway| &gateway.hostnames).filter(|hosts| !hosts.is_empty()) {
        spec["hostnames"] = json!(hosts);
    }
    json!({"spec": spec})
}
