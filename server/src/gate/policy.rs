//! A room's rules, as its manifest gives them and made ready for use.

use std::{collections::HashSet, sync::Arc, time::Duration};

use ipnet::IpNet;

use super::{Rate, Words, canonical};

/// Viewers that may write from one address at full rate: an office or a school behind one router.
const VIEWERS_PER_ADDRESS: u32 = 20;

/// What viewers without a token may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anonymous {
    /// Not come in.
    Deny,
    /// Watch.
    #[default]
    Watch,
    /// Watch and write.
    Speak,
}

/// A room's rules as its manifest gives them.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Messages shown in the room per second; the rest is left out fairly.
    pub messages_per_second: u32,
    /// Messages of one viewer per [`Rules::per_viewer_seconds`]; 0 lets no viewer write.
    pub per_viewer_messages: u32,
    /// The period of [`Rules::per_viewer_messages`], in seconds; 0 sets no limit.
    pub per_viewer_seconds: u32,
    /// Longest text, in characters.
    pub max_length: u32,
    /// Seconds between two messages of one viewer; 0 is off.
    pub slow_mode_seconds: u32,
    /// What viewers without a token may do.
    pub anonymous: Anonymous,
    /// Users who may not come in.
    pub banned_users: Vec<String>,
    /// Users who may not write.
    pub muted_users: Vec<String>,
    /// Networks from which nobody may come in.
    pub banned_networks: Vec<IpNet>,
    /// Words with which a text is refused.
    pub block: Vec<String>,
    /// Words shown as stars.
    pub mask: Vec<String>,
    /// Words with which a text waits for a moderator.
    pub hold: Vec<String>,
    /// The longest pause in a combo of gifts, in milliseconds; 0 is off.
    pub combo_ms: u32,
    /// Under so many viewers it is told who comes in.
    pub enter_below: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            messages_per_second: 20,
            per_viewer_messages: 3,
            per_viewer_seconds: 5,
            max_length: 100,
            slow_mode_seconds: 0,
            anonymous: Anonymous::Watch,
            banned_users: Vec::new(),
            muted_users: Vec::new(),
            banned_networks: Vec::new(),
            block: Vec::new(),
            mask: Vec::new(),
            hold: Vec::new(),
            combo_ms: 3000,
            enter_below: 0,
        }
    }
}

/// Longer lists of words, compiled elsewhere because rooms share them.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// Words with which a text is refused.
    pub block: Option<Arc<Words>>,
    /// Words shown as stars.
    pub mask: Option<Arc<Words>>,
    /// Words with which a text waits for a moderator.
    pub hold: Option<Arc<Words>>,
}

/// Rules made ready for use; shared by all threads.
#[derive(Debug)]
pub struct Policy {
    pub(super) rules: Rules,
    pub(super) banned_users: HashSet<String>,
    pub(super) muted_users: HashSet<String>,
    pub(super) banned_networks: HashSet<IpNet>,
    pub(super) block: [Arc<Words>; 2],
    pub(super) mask: [Arc<Words>; 2],
    pub(super) hold: [Arc<Words>; 2],
}

impl Policy {
    /// Compiles the lists; the first time takes tens of milliseconds, so do it off the rooms' threads, once for each manifest.
    pub fn compile(rules: Rules) -> Policy {
        Policy::compile_with(rules, Shared::default())
    }

    /// The same, with longer lists besides the rules' own.
    pub fn compile_with(rules: Rules, shared: Shared) -> Policy {
        let both = |own: &[String], shared: Option<Arc<Words>>| {
            [Arc::new(Words::compile(own)), shared.unwrap_or_default()]
        };
        Self {
            banned_users: rules.banned_users.iter().cloned().collect(),
            muted_users: rules.muted_users.iter().cloned().collect(),
            banned_networks: rules.banned_networks.iter().copied().map(canonical).collect(),
            block: both(&rules.block, shared.block),
            mask: both(&rules.mask, shared.mask),
            hold: both(&rules.hold, shared.hold),
            rules,
        }
    }

    /// The rules this was compiled from.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(super) fn viewer_rate(&self) -> Rate {
        Rate {
            limit: self.rules.per_viewer_messages,
            period: Duration::from_secs(u64::from(self.rules.per_viewer_seconds)),
        }
    }

    pub(super) fn address_rate(&self) -> Rate {
        let viewer = self.viewer_rate();
        Rate { limit: viewer.limit.saturating_mul(VIEWERS_PER_ADDRESS), ..viewer }
    }

    pub(super) fn has_words(&self) -> bool {
        self.block.iter().chain(&self.mask).chain(&self.hold).any(|words| !words.is_empty())
    }
}
