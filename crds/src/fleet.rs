//! `DanmuFleet`: a set of room servers and what its rooms inherit.

#![expect(unreachable_pub, reason = "KubeSchema copies each struct, with its pub, into a function")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Limits, Moderation};

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
    printcolumn(name = "Unlisted", type_ = "string", json_path = ".spec.server.unlistedRooms"),
    printcolumn(name = "Drain", type_ = "integer", json_path = ".spec.drainSeconds"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')")
        .message("metadata.name is 1 to 63 of a-z, 0-9 and -, with no - at either end")
)]
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
}

impl Default for DanmuFleetSpec {
    fn default() -> Self {
        Self { server: ServerSettings::default(), defaults: None, drain_seconds: default_drain_seconds() }
    }
}

fn default_drain_seconds() -> u32 {
    60
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
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            allowed_origins: Vec::new(),
            per_address_cap: None,
            upgrades_per_second: default_upgrades_per_second(),
            unlisted_rooms: UnlistedRooms::default(),
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
}
