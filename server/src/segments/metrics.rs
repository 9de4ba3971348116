//! What segments count.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lost {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Fetched {
    result: &'static str,
}

/// What segments count.
#[derive(Debug)]
pub struct Metrics {
    /// Messages handed to the store.
    pub kept: Counter,
    /// Messages removed from it by moderators.
    pub erased: Counter,
    /// Segments forgotten by age or size.
    pub forgotten: Counter,
    /// One write of the store.
    pub write: Histogram,
    /// Jumps of this machine's clock.
    pub jumps: Counter,
    lost: Family<Lost, Counter>,
    fetched: Family<Fetched, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            kept: Counter::default(),
            erased: Counter::default(),
            forgotten: Counter::default(),
            // 0.25 ms to 8 s.
            write: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
            jumps: Counter::default(),
            lost: Family::default(),
            fetched: Family::default(),
        }
    }
}

impl Metrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("segment_kept_messages", "Messages recorded", self.kept.clone());
        registry.register("segment_lost_messages", "Messages not recorded, by reason", self.lost.clone());
        registry.register(
            "segment_erased_messages",
            "Recorded messages that moderators removed",
            self.erased.clone(),
        );
        registry.register("segment_forgotten", "Segments forgotten by age or size", self.forgotten.clone());
        registry.register_with_unit(
            "segment_write",
            "One write to the store of segments",
            Unit::Seconds,
            self.write.clone(),
        );
        registry.register("segment_fetches", "Answers to GET danmu, by result", self.fetched.clone());
        registry.register(
            "segment_clock_jumps",
            "Jumps of this machine's clock, which positions do not follow at once",
            self.jumps.clone(),
        );
    }

    /// So many messages are not recorded.
    pub fn lost(&self, reason: &'static str, messages: u64) {
        self.lost.get_or_create(&Lost { reason }).inc_by(messages);
    }

    /// A fetch was answered.
    pub fn fetched(&self, result: &'static str) {
        self.fetched.get_or_create(&Fetched { result }).inc();
    }
}
