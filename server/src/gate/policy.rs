//! A room's policy, made ready for use.

use std::{collections::HashSet, sync::Arc, time::Duration};

use danmu_crds::RoomPolicy;
use ipnet::IpNet;

use super::{Rate, Words, canonical};

/// Viewers that may write from one address at full rate: an office or a school behind one router.
const VIEWERS_PER_ADDRESS: u32 = 20;

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

/// A room's policy made ready for use; shared by all threads.
#[derive(Debug)]
pub struct Policy {
    pub(super) rules: Arc<RoomPolicy>,
    pub(super) banned_users: HashSet<String>,
    pub(super) muted_users: HashSet<String>,
    pub(super) banned_networks: HashSet<IpNet>,
    pub(super) block: [Arc<Words>; 2],
    pub(super) mask: [Arc<Words>; 2],
    pub(super) hold: [Arc<Words>; 2],
}

impl Policy {
    /// Compiles the lists; the first time takes tens of milliseconds, so do it off the rooms' threads, once for each manifest.
    pub fn compile(rules: impl Into<Arc<RoomPolicy>>) -> Policy {
        Policy::compile_with(rules, Shared::default())
    }

    /// The same, with longer lists besides the rules' own.
    pub fn compile_with(rules: impl Into<Arc<RoomPolicy>>, shared: Shared) -> Policy {
        let rules = rules.into();
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

    /// What this was compiled from.
    pub fn rules(&self) -> &Arc<RoomPolicy> {
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
