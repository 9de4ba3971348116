//! Kinds of messages beside plain talk.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How kinds of messages beside plain talk behave in a room.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kinds {
    /// Gifts of one viewer with no longer pause than this count up as one combo, in milliseconds; 0 is off.
    /// 3000 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 60000))]
    pub combo_milliseconds: Option<u32>,
    /// The room is told who comes in while it has fewer viewers than this; 0, as if not given, never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100000))]
    pub enter_below: Option<u32>,
}
