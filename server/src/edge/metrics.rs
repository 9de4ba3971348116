//! What the edge counts.

use std::sync::Arc;

use danmu_wire::RefusalCode;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
    },
    registry::Registry,
};

use super::token::Keys;

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
    /// Messages that wait, or waited, for a moderator.
    pub held: Counter,
    refused: Family<RefusedLabels, Counter>,
    turned_away: Family<TurnedAwayLabels, Counter>,
}

impl Metrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("accepted_messages", "Messages published to their room", self.accepted.clone());
        registry.register("sampled_messages", "Messages left out by the rooms' caps", self.sampled.clone());
        registry.register("move_hints", "Viewers asked to move to their room's pods", self.hints.clone());
        registry.register("held_messages", "Messages held for a moderator", self.held.clone());
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

/// The key set of tokens; tells nothing where there is none.
#[derive(Debug)]
pub struct KeySetLooks(pub Arc<Keys>);

impl Collector for KeySetLooks {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(keys) = self.0.in_set() else { return Ok(()) };
        let (looks, failed) = self.0.looks();
        let (name, help) = ("token_keys", "Keys of the token key set in force");
        ConstGauge::new(keys as u64).encode(encoder.encode_descriptor(
            name,
            help,
            None,
            MetricType::Gauge,
        )?)?;
        for (name, help, count) in [
            ("token_key_reads", "Readings of the token key set", looks),
            ("token_key_read_failures", "Readings of the token key set that brought no keys", failed),
        ] {
            ConstCounter::new(count).encode(encoder.encode_descriptor(
                name,
                help,
                None,
                MetricType::Counter,
            )?)?;
        }
        Ok(())
    }
}
