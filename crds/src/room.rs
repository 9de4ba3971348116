//! `DanmuRoom`: one room, its limits and its moderation.

#![expect(unreachable_pub, reason = "KubeSchema copies each struct, with its pub, into a function")]

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, transform::RecursiveTransform};
use serde::{Deserialize, Serialize};

use crate::{Kinds, Recording, RoomMode, RoomStatus, Shedding, Words, schema::plain_numbers};

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
    status = "RoomStatus",
    selectable = ".spec.fleet",
    printcolumn(name = "Fleet", type_ = "string", json_path = ".spec.fleet"),
    printcolumn(name = "Expected", type_ = "integer", json_path = ".spec.expectedViewers"),
    printcolumn(name = "Viewers", type_ = "integer", json_path = ".status.viewers"),
    printcolumn(name = "Placed", type_ = "string", json_path = ".status.conditions[?(@.type==\"Placed\")].reason"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')")
        .message("metadata.name is the room id: 1 to 63 of a-z, 0-9 and -, with no - at either end"),
    validation = Rule::new("!has(self.spec.recording) || has(self.spec.startedAt) || (has(self.spec.mode) && self.spec.mode == 'OnDemand')")
        .message("a Live room is recorded from startedAt on: give it, the moment of the video's beginning"),
    validation = Rule::new("!has(self.spec.shedding) || (has(self.spec.recording) && has(self.spec.startedAt))")
        .message("shedding ends with viewers who fetch what is recorded: give recording and startedAt")
)]
#[schemars(transform = RecursiveTransform(plain_numbers))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DanmuRoomSpec {
    /// The DanmuFleet, in the same namespace, that serves this room. Cannot be changed.
    #[serde(default = "default_fleet")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("a room cannot move to another fleet; delete it and make it anew"))]
    pub fleet: String,
    /// Viewers to be ready for at any time.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0, max = 100000000))]
    pub expected_viewers: u32,
    /// Times at which others are expected. One that runs takes the place of `expectedViewers`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub schedule: Vec<Window>,
    /// The fewest pods the room is on, for safety; more than 1 gives it pods and a route of its own.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_pods: u32,
    /// Into how many audiences chat splits; gifts, notices and moderation reach all of them. 1 is undivided.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schemars(range(min = 1, max = 64))]
    pub sub_rooms: u32,
    /// How viewers get what is said: Live, or OnDemand for a replay. May be switched at any time.
    #[serde(default, skip_serializing_if = "is_live")]
    pub mode: RoomMode,
    /// The moment of the video's beginning, such as 2026-11-01T18:00:00Z: position 0 of what is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "moment")]
    pub started_at: Option<Timestamp>,
    /// Keeps what is said by its position in the video; an OnDemand room has it in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recording: Option<Recording>,
    /// Sheds load when there is too much of it; never if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shedding: Option<Shedding>,
    /// Overrides the fleet's `defaults.limits`, field by field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Overrides the fleet's `defaults.moderation`, field by field; lists are joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moderation: Option<Moderation>,
    /// Overrides the fleet's `defaults.kinds`, field by field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Kinds>,
}

fn default_fleet() -> String {
    "default".to_owned()
}

impl Default for DanmuRoomSpec {
    fn default() -> Self {
        Self {
            fleet: default_fleet(),
            expected_viewers: 0,
            schedule: Vec::new(),
            min_pods: one(),
            sub_rooms: one(),
            mode: RoomMode::Live,
            started_at: None,
            recording: None,
            shedding: None,
            limits: None,
            moderation: None,
            kinds: None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_live(mode: &RoomMode) -> bool {
    *mode == RoomMode::Live
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one(number: &u32) -> bool {
    *number == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A time at which a number of viewers is expected.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.start < self.end").message("end must be after start"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Window {
    /// The first moment, such as 2026-11-01T18:00:00Z.
    #[schemars(schema_with = "moment")]
    pub start: Timestamp,
    /// The moment after the last.
    #[schemars(schema_with = "moment")]
    pub end: Timestamp,
    /// The viewers expected meanwhile.
    #[schemars(range(min = 0, max = 100000000))]
    pub expected_viewers: u32,
}

fn moment(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "maxLength": 40})
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
    /// Words that stop, mask or hold a danmu.
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
