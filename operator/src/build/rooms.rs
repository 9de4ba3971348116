//! A hot room's own slice, Service and route: its viewers go to its pods and to no others.

use danmu_plan::RoomPlan;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{Input, Object, PUBLIC, PUBLIC_PORT, WEBSOCKET, routes, services};
use crate::{kind::Kind, names};

/// Nothing, if no pod takes viewers: a route to an empty slice turns them away (Envoy: 403), without it they come in
/// by the fleet's.
pub(super) fn objects(input: &Input<'_>, room: &RoomPlan) -> Vec<Object> {
    let Some(slice) = slice(input, room) else { return Vec::new() };
    let service = input.labelled(
        Kind::Service,
        names::room(&room.name),
        json!({"spec": {"type": "ClusterIP", "ports": [services::public_port()]}}),
        &[(names::ROOM_LABEL, &room.name)],
        &[],
    );
    let mut objects = vec![slice, service];
    if input.routed() {
        objects.push(routes::room(input, room));
    }
    objects
}

fn slice(input: &Input<'_>, room: &RoomPlan) -> Option<Object> {
    let name = |ordinal: &u32| input.observation.fleet.pod_name(*ordinal);
    let pods = room.endpoints.pods.iter().map(name);
    let pods: Vec<(&Pod, &str)> = pods
        .filter_map(|name| {
            let pod = input.seen.pods.iter().find(|pod| pod.metadata.name.as_deref() == Some(&name))?;
            Some((&**pod, pod.status.as_ref()?.pod_ip.as_deref()?))
        })
        .collect();
    // A slice has one family of addresses; a cluster gives all its pods the same one first.
    let v6 = pods.first()?.1.contains(':');
    let endpoints: Vec<Value> =
        pods.iter().filter(|(_, ip)| ip.contains(':') == v6).map(|(pod, ip)| endpoint(pod, ip)).collect();
    let changed = room.endpoints.changed_at.map(|at| (names::CHANGED_AT, at.to_string()));
    let name = names::room(&room.name);
    Some(input.labelled(
        Kind::EndpointSlice,
        name.clone(),
        json!({
            "addressType": if v6 { "IPv6" } else { "IPv4" },
            "ports": [{"name": PUBLIC, "port": PUBLIC_PORT, "protocol": "TCP", "appProtocol": WEBSOCKET}],
            "endpoints": endpoints,
        }),
        &[
            (names::ROOM_LABEL, &room.name),
            ("kubernetes.io/service-name", &name),
            ("endpointslice.kubernetes.io/managed-by", names::OPERATOR),
        ],
        changed.as_slice(),
    ))
}

/// All three conditions are written: gateways differ in what they make of one that is missing.
fn endpoint(pod: &Pod, ip: &str) -> Value {
    let leaving = pod.metadata.deletion_timestamp.is_some();
    let mut endpoint = json!({
        "addresses": [ip],
        "conditions": {"ready": !leaving, "serving": true, "terminating": leaving},
        "targetRef": {
            "kind": "Pod", "name": pod.name_any(), "namespace": pod.namespace(), "uid": pod.uid(),
        },
    });
    if let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) {
        endpoint["nodeName"] = json!(node);
    }
    endpoint
}
