//! Counters by reason, never by object: their number must not grow with the rooms.

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::kind::Kind;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ObjectWrite {
    kind: &'static str,
    action: &'static str,
    ok: &'static str,
}

/// What the operator counts.
pub(crate) struct Metrics {
    registry: Registry,
    reconciles: Family<Reason, Counter>,
    seconds: Histogram,
    plan_seconds: Histogram,
    objects: Family<ObjectWrite, Counter>,
    polls: Family<Reason, Counter>,
    steps: Family<Reason, Counter>,
    /// 1 while this process leads.
    pub(crate) leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("danmu_operator");
        let reconciles = Family::<Reason, Counter>::default();
        let objects = Family::<ObjectWrite, Counter>::default();
        let polls = Family::<Reason, Counter>::default();
        let steps = Family::<Reason, Counter>::default();
        let buckets = [0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 1.0, 2.5, 10.0];
        let (seconds, plan_seconds) = (Histogram::new(buckets), Histogram::new(buckets));
        let leader = Gauge::default();
        registry.register("reconciles", "Reconciles of fleets, by how they ended", reconciles.clone());
        registry.register("reconcile_seconds", "How long a reconcile took", seconds.clone());
        registry.register("plan_seconds", "How long a plan took", plan_seconds.clone());
        registry.register("object_writes", "Objects applied and deleted", objects.clone());
        registry.register("load_polls", "GET /load of pods, by how they ended", polls.clone());
        registry.register("steps", "Drains, evictions and changes of replicas", steps.clone());
        registry.register("leader", "Whether this process leads", leader.clone());
        Self { registry, reconciles, seconds, plan_seconds, objects, polls, steps, leader }
    }
}

impl Metrics {
    pub(crate) fn reconciled(&self, reason: &'static str, seconds: f64) {
        self.reconciles.get_or_create(&Reason { reason }).inc();
        self.seconds.observe(seconds);
    }

    pub(crate) fn planned(&self, seconds: f64) {
        self.plan_seconds.observe(seconds);
    }

    pub(crate) fn object(&self, kind: Kind, action: &'static str, ok: bool) {
        let ok = if ok { "true" } else { "false" };
        self.objects.get_or_create(&ObjectWrite { kind: kind.name(), action, ok }).inc();
    }

    pub(crate) fn polled(&self, reason: &'static str) {
        self.polls.get_or_create(&Reason { reason }).inc();
    }

    pub(crate) fn step(&self, reason: &'static str) {
        self.steps.get_or_create(&Reason { reason }).inc();
    }

    /// In OpenMetrics' text form.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut lines = String::new();
        text::encode(&mut lines, &self.registry)?;
        Ok(lines)
    }
}
