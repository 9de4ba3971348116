//! What the hooks count.

use std::time::Duration;

use danmu_crds::HookEvent;
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
struct Tried {
    event: &'static str,
    ok: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// What the hooks count.
#[derive(Debug)]
pub struct Metrics {
    tried: Family<Tried, Counter>,
    dead: Family<Reason, Counter>,
    asked: Histogram,
    failed: Family<Reason, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            tried: Family::default(),
            dead: Family::default(),
            // 1 ms to 2 s.
            asked: Histogram::new(exponential_buckets(0.001, 2.0, 12)),
            failed: Family::default(),
        }
    }
}

impl Metrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "webhook_deliveries",
            "Tries to deliver an event to a webhook, by event and whether it was taken",
            self.tried.clone(),
        );
        registry.register(
            "webhook_dead_letters",
            "Events that a webhook did not get, by reason",
            self.dead.clone(),
        );
        registry.register_with_unit(
            "publish_hook",
            "From a question to the publish hook to its answer, or to its deadline",
            Unit::Seconds,
            self.asked.clone(),
        );
        registry.register(
            "publish_hook_failures",
            "Messages for which the publish hook gave no answer, by reason",
            self.failed.clone(),
        );
    }

    pub(super) fn tried(&self, event: HookEvent, ok: bool) {
        let ok = if ok { "true" } else { "false" };
        self.tried.get_or_create(&Tried { event: super::name(event), ok }).inc();
    }

    pub(super) fn dead(&self, reason: &'static str) {
        self.dead.get_or_create(&Reason { reason }).inc();
    }

    pub(super) fn asked(&self, took: Duration) {
        self.asked.observe(took.as_secs_f64());
    }

    pub(super) fn failed(&self, reason: &'static str) {
        self.failed.get_or_create(&Reason { reason }).inc();
    }
}
