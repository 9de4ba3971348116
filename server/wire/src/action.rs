//! What a moderator does, over the socket and in the log.

use serde::{Deserialize, Serialize};

/// Most messages removed at once: every viewer gets the list.
pub const MAX_IDS: usize = 100;
/// Longest id of a message; ours have 26 characters.
pub const MAX_ID: usize = 64;
/// Longest mute with an end: ten years.
pub const MAX_SECONDS: u64 = 315_360_000;
/// Longest slow mode: a message a day.
pub const MAX_SLOW: u32 = 86_400;
/// Longest user id, in characters.
const MAX_USER: usize = 128;

/// What a moderator does to a room. The tag is `do`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Action {
    /// Take messages off the screens: by id, all of a user, or both.
    Remove {
        /// Ids of messages.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ids: Vec<String>,
        /// All of this user.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
    },
    /// Take everything off the screens.
    Clear {},
    /// Let a user watch but not write.
    Mute {
        /// Whom.
        user: String,
        /// How long; none is until taken back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u64>,
    },
    /// Take a mute back.
    Unmute {
        /// Whose.
        user: String,
    },
    /// Let nobody but the user see what they write, without telling them.
    Shadow {
        /// Whom.
        user: String,
        /// How long; none is until taken back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u64>,
    },
    /// Take a shadow mute back.
    Unshadow {
        /// Whose.
        user: String,
    },
    /// Set slow mode, over what the manifest says.
    SlowMode {
        /// Seconds between two messages of one viewer; 0 is off.
        seconds: u32,
    },
    /// Slow mode is what the manifest says again.
    ResetSlowMode {},
    /// Show a held message.
    Show {
        /// Its id.
        id: String,
    },
    /// Turn a held message away.
    Reject {
        /// Its id.
        id: String,
    },
    /// Tell what is held; changes nothing.
    Held {},
}

impl Action {
    /// What is out of bounds, in words.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let is_id = |id: &String| (1..=MAX_ID).contains(&id.len());
        let is_user = |user: &str| (1..=MAX_USER).contains(&user.chars().count());
        let is_time = |seconds: &Option<u64>| seconds.is_none_or(|s| (1..=MAX_SECONDS).contains(&s));
        let fits = match self {
            Action::Remove { ids, user } => {
                (!ids.is_empty() || user.is_some())
                    && ids.len() <= MAX_IDS
                    && ids.iter().all(is_id)
                    && user.as_deref().is_none_or(is_user)
            }
            Action::Mute { user, seconds } | Action::Shadow { user, seconds } => {
                is_user(user) && is_time(seconds)
            }
            Action::Unmute { user } | Action::Unshadow { user } => is_user(user),
            Action::SlowMode { seconds } => *seconds <= MAX_SLOW,
            Action::Show { id } | Action::Reject { id } => is_id(id),
            Action::Clear {} | Action::ResetSlowMode {} | Action::Held {} => true,
        };
        if fits {
            return Ok(());
        }
        Err(match self {
            Action::Remove { .. } => "give `ids` (at most 100, of 1 to 64 bytes) or `user`",
            Action::SlowMode { .. } => "`seconds` is 0 to 86400",
            Action::Show { .. } | Action::Reject { .. } => "`id` has 1 to 64 bytes",
            _ => "`user` has 1 to 128 characters, `seconds` is 1 to 315360000 (ten years)",
        })
    }
}
