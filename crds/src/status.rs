//! What the operator tells about fleets and rooms.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, transform::RecursiveTransform};
use serde::{Deserialize, Serialize};

use crate::schema::plain_numbers;

/// What the operator made of a fleet.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[schemars(transform = RecursiveTransform(plain_numbers))]
#[serde(rename_all = "camelCase", default)]
pub struct FleetStatus {
    /// The generation of the spec that this tells about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The number of pods.
    pub replicas: u32,
    /// The number of pods that are Ready.
    pub ready_replicas: u32,
    /// The pods' labels, as a selector.
    pub selector: String,
    /// Pods whose viewers are moving to others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub draining: Vec<String>,
    /// Viewers of all rooms, to two digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub viewers: Option<u32>,
    /// `Ready`, `Progressing`, `Degraded` and `Paused`.
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// What the operator made of a room.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[schemars(transform = RecursiveTransform(plain_numbers))]
#[serde(rename_all = "camelCase", default)]
pub struct RoomStatus {
    /// The generation of the spec that this tells about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where viewers connect, once the route there is known to work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The viewers of a room with pods of its own, to two digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub viewers: Option<u32>,
    /// The room's own pods and the viewers planned for each; empty: it is on all pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub placement: Vec<PlacedShare>,
    /// `Placed`, `Routed` and `Ready`.
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// A pod of a room, and how many of its viewers are planned for it.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlacedShare {
    /// The pod's name.
    pub pod: String,
    /// Viewers planned for it, never a live count.
    pub viewers: u32,
    /// The sub-rooms whose viewers come to it; empty: all of them, or the room has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub sub_rooms: Vec<u32>,
}

fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {"type": "string"},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                "reason": {"type": "string"},
                "message": {"type": "string"},
                "lastTransitionTime": {"type": "string", "format": "date-time"},
                "observedGeneration": {"type": "integer", "format": "int64"},
            },
        },
    })
}
