//! Third parties: what the fleet's servers tell them, what they ask them, and how much they may publish.

#![expect(unreachable_pub, reason = "KubeSchema copies each struct, with its pub, into a function")]

use std::sync::LazyLock;

use kube::KubeSchema;
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a receiver's address looks like, for CEL (RE2) and for [`is_hook_url`] alike: no user, no fragment, and nothing
/// that the server's own reader of addresses would not take.
const URL_PATTERN: &str = r"^https?://([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\\[[0-9a-f:.]{2,45}\\])(:([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?(/[A-Za-z0-9._~!$&()*+,;=:@%/-]*([?][A-Za-z0-9._~!$&()*+,;=:@%/?-]*)?)?$";

/// In a CEL text a backslash is written twice.
static URL_REGEX: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(&URL_PATTERN.replace(r"\\", r"\")).ok());

/// Whether `text` may be the address of a receiver.
pub(crate) fn is_hook_url(text: &str) -> bool {
    URL_REGEX.as_ref().is_some_and(|pattern| pattern.is_match(text))
}

/// What third parties are told and asked. Every request is signed, as Standard Webhooks has it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hooks {
    /// Who is told what happens in rooms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[x_kube(validation = Rule::new("self.all(one, self.exists_one(other, other.name == one.name))")
        .message("each webhook has a name of its own"))]
    pub webhooks: Vec<Webhook>,
    /// Who is asked before a viewer's message is shown; nobody if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<PublishHook>,
}

/// A receiver of events.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Webhook {
    /// Its name, in logs.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Where each event is posted.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new(format!("self.matches('{URL_PATTERN}')"))
        .message("is an address such as https://example.com/danmu, without a user or a fragment"))]
    pub url: String,
    /// What it is told.
    #[schemars(length(min = 1, max = 3))]
    pub events: Vec<HookEvent>,
}

/// What a receiver may be told.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HookEvent {
    /// A room has as many viewers as `hotRoomViewers`; again once it had under 60 % of them.
    RoomHot,
    /// A room's manifest is gone, or it is `OnDemand` now.
    RoomEnded,
    /// A message waits for a moderator.
    MessageHeld,
}

/// Who is asked before a viewer's message is shown.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PublishHook {
    /// Where each message is posted.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new(format!("self.matches('{URL_PATTERN}')"))
        .message("is an address such as https://example.com/danmu, without a user or a fragment"))]
    pub url: String,
    /// How long the answer may take, in milliseconds: no message waits longer.
    #[serde(default = "default_deadline_ms")]
    #[schemars(range(min = 10, max = 2000))]
    pub deadline_ms: u32,
    /// What happens to a message without an answer.
    #[serde(default)]
    pub on_failure: OnFailure,
}

fn default_deadline_ms() -> u32 {
    200
}

/// What happens to a message when the hook gives no answer in time.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFailure {
    /// It is shown.
    #[default]
    Allow,
    /// It is refused; the viewer may try again.
    Refuse,
}

/// How much publishers may publish, on each server.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Publishers {
    /// Messages each second of each publisher.
    #[schemars(range(min = 1, max = 100000))]
    pub messages_per_second: u32,
    /// Messages at once; `messagesPerSecond` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000000))]
    pub burst: Option<u32>,
    /// Publishers with a quota of their own; of two with the same `sub` the first counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub named: Vec<NamedPublisher>,
}

/// A publisher with a quota of its own.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamedPublisher {
    /// The `sub` of its token.
    #[schemars(length(min = 1, max = 128))]
    pub sub: String,
    /// Messages each second.
    #[schemars(range(min = 1, max = 100000))]
    pub messages_per_second: u32,
    /// Messages at once; `messagesPerSecond` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000000))]
    pub burst: Option<u32>,
}
