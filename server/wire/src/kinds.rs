//! Kinds of messages beside talk, gifts and notices.

use serde::{Deserialize, Serialize};

/// Somebody paid to have something said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Super {
    /// ULID.
    pub id: String,
    /// Place in the priority lane.
    #[serde(default)]
    pub offset: u64,
    /// Who says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Plain text.
    pub text: String,
    /// What was paid, as it is to be shown (`¥30`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<String>,
    /// How long it stays pinned, in seconds; what is left of it for whoever joins later, 0 when it is over.
    pub seconds: u32,
    /// When it was said, in milliseconds since 1970 by the server's clock.
    #[serde(default)]
    pub at: u64,
}

impl Super {
    /// As whoever joins at `now` is told: with the seconds that are left.
    #[must_use]
    pub fn left_at(&self, now: u64) -> Super {
        let gone = now.saturating_sub(self.at) / 1000;
        let seconds = u64::from(self.seconds).saturating_sub(gone);
        Super { seconds: u32::try_from(seconds).unwrap_or(u32::MAX), ..self.clone() }
    }
}

/// Somebody came in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Enter {
    /// The token's `sub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Something of the platform's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Custom {
    /// ULID.
    pub id: String,
    /// Place in the priority lane.
    #[serde(default)]
    pub offset: u64,
    /// The platform's word for it.
    pub kind: String,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whatever JSON was published; not checked, not cleaned.
    pub data: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_pinned_message_falls_to_nothing() {
        let said = Super { seconds: 30, at: 5_000, ..Super::default() };
        let left = |now| said.left_at(now).seconds;
        assert_eq!([left(0), left(5_999), left(15_000), left(35_000), left(u64::MAX)], [30, 30, 20, 0, 0]);
    }
}
