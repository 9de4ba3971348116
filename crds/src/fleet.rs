//! `DanmuFleet`: a set of room servers and what its rooms inherit.

#![expect(unreachable_pub, reason = "KubeSchema copies each struct, with its pub, into a function")]

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, transform::RecursiveTransform};
use serde::{Deserialize, Serialize};

use crate::schema::plain_numbers;
use crate::{
    Auth, FleetStatus, Hooks, Kinds, Limits, Moderation, PodSettings, Publishers, Redis, Replicas, Route,
};

/// A set of room servers that share their settings.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "danmu.live",
    version = "v1alpha1",
    kind = "DanmuFleet",
    namespaced,
    shortname = "df",
    category = "danmu",
    doc = "A set of room servers, and the defaults of the rooms they serve.",
    derive = "PartialEq",
    status = "FleetStatus",
    // `kubectl scale` moves the floor: the operator alone knows how many pods the rooms need above it.
    scale(
        spec_replicas_path = ".spec.replicas.min",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Ready pods", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Viewers", type_ = "integer", json_path = ".status.viewers"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.conditions[?(@.type==\"Progressing\")].reason"),
    printcolumn(name = "Degraded", type_ = "string", json_path = ".status.conditions[?(@.type==\"Degraded\")].reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')")
        .message("metadata.name is 1 to 63 of a-z, 0-9 and -, with no - at either end"),
    // The operator gives the fleet `a` the Services `danmu-a`, `danmu-a-pods` and `danmu-a-admin`.
    validation = Rule::new("!self.metadata.name.matches('-(pods|admin)$')")
        .message("metadata.name must not end in -pods or -admin: its Service would be taken for another fleet's")
)]
#[schemars(transform = RecursiveTransform(plain_numbers))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DanmuFleetSpec {
    /// Settings of each room server.
    #[serde(default)]
    pub server: ServerSettings,
    /// What every room inherits, and the whole policy of a room without a manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Defaults>,
    /// How long a server that is told to stop goes on serving while its viewers move, in seconds.
    #[serde(default = "default_drain_seconds")]
    #[schemars(range(min = 1, max = 3600))]
    pub drain_seconds: u32,
    /// The image of the room servers; the operator's own version of it if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// CPU and memory of each room server, as in a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::pods::foreign")]
    pub resources: Option<ResourceRequirements>,
    /// Where the pods run, and what else they need.
    #[serde(default, skip_serializing_if = "PodSettings::is_default")]
    pub pod: PodSettings,
    /// Redis or Valkey, which carries danmu between the pods; none: each pod is alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<Redis>,
    /// Viewers that one pod holds.
    #[serde(default = "default_viewers_per_pod")]
    #[schemars(range(min = 1, max = 1000000))]
    pub viewers_per_pod: u32,
    /// The bounds of the number of pods.
    #[serde(default)]
    pub replicas: Replicas,
    /// What is kept free above the counted viewers, in per cent.
    #[serde(default = "default_headroom_percent")]
    #[schemars(range(min = 0, max = 1000))]
    pub headroom_percent: u32,
    /// How long before a scheduled start pods are made for its viewers, in seconds.
    #[serde(default = "default_warmup_seconds")]
    #[schemars(range(min = 0, max = 86400))]
    pub warmup_seconds: u32,
    /// A room of at least so many viewers gets pods and a route of its own; `RoomHot` is told of it.
    #[serde(default = "default_hot_room_viewers")]
    #[schemars(range(min = 1, max = 1000000))]
    pub hot_room_viewers: u32,
    /// The most rooms with a route of their own; the largest go first.
    #[serde(default = "default_max_hot_rooms")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_hot_rooms: u32,
    /// How viewers come in; `{}` is by your own means, through the fleet's Service.
    #[serde(default)]
    pub route: Route,
    /// Tokens and keys of the room servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// What third parties are told of the rooms, and asked before a message is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Pods are neither made nor replaced nor taken away; rooms are still placed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

impl Default for DanmuFleetSpec {
    fn default() -> Self {
        Self {
            server: ServerSettings::default(),
            defaults: None,
            drain_seconds: default_drain_seconds(),
            image: None,
            resources: None,
            pod: PodSettings::default(),
            redis: None,
            viewers_per_pod: default_viewers_per_pod(),
            replicas: Replicas::default(),
            headroom_percent: default_headroom_percent(),
            warmup_seconds: default_warmup_seconds(),
            hot_room_viewers: default_hot_room_viewers(),
            max_hot_rooms: default_max_hot_rooms(),
            route: Route::default(),
            auth: None,
            hooks: None,
            paused: false,
        }
    }
}

fn default_drain_seconds() -> u32 {
    60
}

fn default_viewers_per_pod() -> u32 {
    15_000
}

fn default_headroom_percent() -> u32 {
    20
}

fn default_warmup_seconds() -> u32 {
    300
}

fn default_hot_room_viewers() -> u32 {
    2000
}

fn default_max_hot_rooms() -> u32 {
    200
}

/// Settings of each room server of a fleet.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerSettings {
    /// Networks of proxies whose `X-Forwarded-For` is believed; their clients are counted one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 43)))]
    #[x_kube(validation = Rule::new("self.all(network, isCIDR(network))")
        .message("each is a network such as 10.0.0.0/8; for one address write /32, or /128 in IPv6"))]
    pub trusted_proxies: Vec<String>,
    /// Origins whose pages may connect, such as `https://example.com` or `*.example.com` (every host under
    /// it); `*` is any. None means only pages of the same host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 262)))]
    #[x_kube(validation = Rule::new(format!("self.all(origin, origin.matches('{}'))", crate::manifest::ORIGIN_PATTERN))
        .message("each is an origin such as https://example.com, https://*.example.com, null or *, in lower case and without a path"))]
    pub allowed_origins: Vec<String>,
    /// The most connections from one address (IPv6: one /64) to one server; no cap if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000000))]
    pub per_address_cap: Option<u32>,
    /// New connections accepted each second by one server.
    #[serde(default = "default_upgrades_per_second")]
    #[schemars(range(min = 1, max = 100000))]
    pub upgrades_per_second: u32,
    /// What happens to a viewer of a room that has no DanmuRoom.
    #[serde(default)]
    pub unlisted_rooms: UnlistedRooms,
    /// How much each publisher may publish on one server; no quota if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publishers: Option<Publishers>,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            allowed_origins: Vec::new(),
            per_address_cap: None,
            upgrades_per_second: default_upgrades_per_second(),
            unlisted_rooms: UnlistedRooms::default(),
            publishers: None,
        }
    }
}

fn default_upgrades_per_second() -> u32 {
    3000
}

/// What happens to a viewer of a room that has no DanmuRoom.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnlistedRooms {
    /// The room opens with the fleet's defaults.
    Allow,
    /// The viewer is turned away.
    #[default]
    Refuse,
}

/// What every room of a fleet inherits.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Defaults {
    /// Limits of a room that does not set its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Moderation of a room that does not set its own; its lists are added to the room's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moderation: Option<Moderation>,
    /// Kinds of messages in a room that does not set its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Kinds>,
}
