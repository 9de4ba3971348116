//! What the edge counts.

use danmu_wire::RefusalCode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TurnedAwayLabels {
    reason: &'static str,
}

/// What the edge counts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Messages published to their room.
    pub accepted: Counter,
    /// Messages the rooms' caps left out.
    pub sampled: Counter,
    /// Viewers who were asked to move to their room's own pods.
    pub hints: Counter,
    refused: Family<RefusedLabels, Counter>,
    turned_away: Family<TurnedAwayLabels, Counter>,
}

impl Metrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("accepted_messages", "Messages published to their room", self.accepted.clone());
        registry.register("sampled_messages", "Messages left out by the rooms' caps", self.sampled.clone());
        registry.register("move_hints", "Viewers asked to move to their room's pods", self.hints.clone());
        registry.register("refused_messages", "Messages refused, by code", self.refused.clone());
        registry.register("turned_away", "Requests turned away before the upgrade", self.turned_away.clone());
    }

    /// A message was refused.
    pub fn refused(&self, code: RefusalCode) {
        self.refused.get_or_create(&RefusedLabels { code: code.code() }).inc();
    }

    /// A connection or request was turned away before the upgrade.
    pub fn turned_away(&self, reason: &'static str) {
        self.turned_away.get_or_create(&TurnedAwayLabels { reason }).inc();
    }
}
