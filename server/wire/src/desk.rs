//! What moderators are told.

use serde::{Deserialize, Serialize};

use crate::event::Chat;

/// A message that waits for a moderator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// As it would be shown.
    pub chat: Chat,
    /// When it was said, in milliseconds since 1970 by the server's clock.
    pub at: u64,
    /// The sub-room it was said in, where the room has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<u32>,
}

/// A message waits no more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Its id.
    pub id: String,
    /// Whether it was shown; false: it was turned away.
    pub shown: bool,
    /// Who decided.
    pub by: String,
}

/// What a moderator asked for is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// What the moderator sent as `ref`.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}
