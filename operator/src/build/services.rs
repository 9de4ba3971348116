//! The fleet's Services: for viewers, for the pods' own names, for the admin API.

use serde_json::{Value, json};

use super::{ADMIN_PORT, Input, Object, PUBLIC, PUBLIC_PORT, WEBSOCKET};
use crate::{kind::Kind, names};

pub(super) fn services(input: &Input<'_>) -> [Object; 3] {
    let name = input.name;
    let selector = names::selector(&input.owner.name);
    let admin = json!([{
        "name": "admin", "port": ADMIN_PORT, "targetPort": "admin", "protocol": "TCP", "appProtocol": "http",
    }]);
    [
        input.object(
            Kind::Service,
            name.to_owned(),
            json!({"spec": {"type": "ClusterIP", "selector": selector, "ports": [public_port()]}}),
        ),
        // Gives each pod a name, also while it is not Ready.
        input.object(
            Kind::Service,
            headless(name),
            json!({"spec": {
                "type": "ClusterIP", "clusterIP": "None", "publishNotReadyAddresses": true,
                "selector": selector, "ports": [public_port()],
            }}),
        ),
        input.object(
            Kind::Service,
            format!("{name}-admin"),
            json!({"spec": {"type": "ClusterIP", "selector": selector, "ports": admin}}),
        ),
    ]
}

/// The Service that a StatefulSet needs.
pub(super) fn headless(name: &str) -> String {
    format!("{name}-pods")
}

pub(super) fn public_port() -> Value {
    json!({
        "name": PUBLIC, "port": PUBLIC_PORT, "targetPort": PUBLIC_PORT, "protocol": "TCP", "appProtocol": WEBSOCKET,
    })
}
