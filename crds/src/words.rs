//! Words that moderation looks for, in the manifest and out of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// A danmu with one of these waits until a moderator shows it or turns it away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 100)))]
    pub hold: Vec<String>,
    /// Longer lists, each of a ConfigMap; all count, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub from: Vec<WordSource>,
}

/// A list of words out of the manifest.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WordSource {
    /// A ConfigMap of the same namespace with the label `danmu.live/words`; each entry has a word a line.
    /// For a server with a folder of manifests: a folder of this name in it, with text files.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub config_map: String,
    /// What its words do.
    #[serde(default)]
    pub list: WordList,
}

/// What the words of a list do.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WordList {
    /// A danmu with one of them is refused.
    #[default]
    Block,
    /// Each is shown as asterisks.
    Mask,
    /// A danmu with one of them waits for a moderator.
    Hold,
}
