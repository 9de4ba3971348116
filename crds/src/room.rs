//! `DanmuRoom`: one room, its limits and its moderation.

#![expect(unreachable_pub, reason = "KubeSchema copies each struct, with its pub, into a function")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One room. Its name is the room id that viewers connect to.
// The grammar is narrower than Kubernetes' own (which allows dots and 253 characters), because the id is
// a path segment of the viewer's URL and a label value.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "danmu.live",
    version = "v1alpha1",
    kind = "DanmuRoom",
    namespaced,
    shortname = "dr",
    category = "danmu",
    doc = "A room: viewers connect to it by its name.",
    derive = "PartialEq",
    selectable = ".spec.fleet",
    printcolumn(name = "Fleet", type_ = "string", json_path = ".spec.fleet"),
    printcolumn(name = "Messages/s", type_ = "integer", json_path = ".spec.limits.messagesPerSecond"),
    printcolumn(name = "Anonymous", type_ = "string", json_path = ".spec.moderation.anonymous"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')")
        .message("metadata.name is the room id: 1 to 63 of a-z, 0-9 and -, with no - at either end")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DanmuRoomSpec {
    /// The DanmuFleet, in the same namespace, that serves this room. Cannot be changed.
    #[serde(default = "default_fleet")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("a room cannot move to another fleet; delete it and make it anew"))]
    pub fleet: String,
    /// Overrides the fleet's `defaults.limits`, field by field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Overrides the fleet's `defaults.moderation`, field by field; lists are joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moderation: Option<Moderation>,
}

fn default_fleet() -> String {
    "default".to_owned()
}

/// How much may be said in a room.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Danmu shown each second to everyone in the room; 20 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub messages_per_second: Option<u32>,
    /// How often one viewer may speak; 3 messages in 5 seconds if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_viewer: Option<PerViewer>,
    /// The longest danmu, in characters; 100 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 500))]
    pub max_length: Option<u32>,
    /// How many of the latest danmu a viewer sees on joining; 50 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub history: Option<u32>,
}

/// One viewer's allowance: `messages` in any `seconds`. The two are given together.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PerViewer {
    /// Messages allowed.
    #[schemars(range(min = 1, max = 1000))]
    pub messages: u32,
    /// The time they are counted over, in seconds.
    #[schemars(range(min = 1, max = 3600))]
    pub seconds: u32,
}

/// Who may speak in a room, and what.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Moderation {
    /// What a viewer without a token may do; Watch if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<Anonymous>,
    /// The least time between two danmu of one viewer, in seconds; 0 switches slow mode off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub slow_mode_seconds: Option<u32>,
    /// Users (the token's `sub`) who may not enter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 128)))]
    pub banned_users: Vec<String>,
    /// Users (the token's `sub`) who may watch but not speak.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 128)))]
    pub muted_users: Vec<String>,
    /// Networks whose viewers may not enter, such as 203.0.113.0/24.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 43)))]
    #[x_kube(validation = Rule::new("self.all(network, isCIDR(network))")
        .message("each is a network such as 203.0.113.0/24; for one address write /32, or /128 in IPv6"))]
    pub banned_networks: Vec<String>,
    /// Words that stop or mask a danmu.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<Words>,
}

/// What a viewer without a token may do.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Anonymous {
    /// Turned away.
    Deny,
    /// Sees the danmu, cannot speak.
    #[default]
    Watch,
    /// Speaks as anyone else.
    Speak,
}

/// Words that moderation looks for.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Words {
    /// A danmu with one of these is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 100)))]
    pub block: Vec<String>,
    /// Each of these is shown as asterisks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 100)))]
    pub mask: Vec<String>,
}
