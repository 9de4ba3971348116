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

/// A condition's reason: one of a few of ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Degraded {
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    ok: &'static str,
}

/// What the operator counts.
pub(crate) struct Metrics {
    reconciles: Family<Reason, Counter>,
    reconcile_seconds: Histogram,
    plan_seconds: Histogram,
    object_writes: Family<ObjectWrite, Counter>,
    status_writes: Family<Outcome, Counter>,
    load_polls: Family<Reason, Counter>,
    steps: Family<Reason, Counter>,
    degraded_fleets: Family<Degraded, Gauge>,
    /// 1 while this process leads.
    pub(crate) leader: Gauge,
}

/// Of seconds.
const BUCKETS: [f64; 9] = [0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 1.0, 2.5, 10.0];

impl Default for Metrics {
    fn default() -> Self {
        Self {
            reconciles: Family::default(),
            reconcile_seconds: Histogram::new(BUCKETS),
            plan_seconds: Histogram::new(BUCKETS),
            object_writes: Family::default(),
            status_writes: Family::default(),
            load_polls: Family::default(),
            steps: Family::default(),
            degraded_fleets: Family::default(),
            leader: Gauge::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn reconciled(&self, reason: &'static str, seconds: f64) {
        self.reconciles.get_or_create(&Reason { reason }).inc();
        self.reconcile_seconds.observe(seconds);
    }

    pub(crate) fn planned(&self, seconds: f64) {
        self.plan_seconds.observe(seconds);
    }

    pub(crate) fn object(&self, kind: Kind, action: &'static str, ok: bool) {
        self.object_writes.get_or_create(&ObjectWrite { kind: kind.name(), action, ok: word(ok) }).inc();
    }

    pub(crate) fn status(&self, ok: bool) {
        self.status_writes.get_or_create(&Outcome { ok: word(ok) }).inc();
    }

    /// The reasons of all fleets that are `Degraded`.
    pub(crate) fn degraded(&self, reasons: impl Iterator<Item = String>) {
        self.degraded_fleets.clear();
        for reason in reasons {
            self.degraded_fleets.get_or_create(&Degraded { reason }).inc();
        }
    }

    pub(crate) fn polled(&self, reason: &'static str) {
        self.load_polls.get_or_create(&Reason { reason }).inc();
    }

    pub(crate) fn step(&self, reason: &'static str) {
        self.steps.get_or_create(&Reason { reason }).inc();
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("reconciles", "Reconciles of fleets, by how they ended", self.reconciles.clone());
        registry.register("reconcile_seconds", "How long a reconcile took", self.reconcile_seconds.clone());
        registry.register("plan_seconds", "How long a plan took", self.plan_seconds.clone());
        registry.register("object_writes", "Objects applied and deleted", self.object_writes.clone());
        registry.register(
            "status_writes",
            "Statuses of fleets and rooms written",
            self.status_writes.clone(),
        );
        registry.register("load_polls", "GET /load of pods, by how they ended", self.load_polls.clone());
        registry.register("steps", "Drains, evictions and changes of replicas", self.steps.clone());
        registry.register(
            "degraded_fleets",
            "Fleets that are Degraded, by reason",
            self.degraded_fleets.clone(),
        );
        registry.register("leader", "Whether this process leads", self.leader.clone());
    }

    /// In OpenMetrics' text form.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix("danmu_operator");
        self.register(&mut registry);
        let mut lines = String::new();
        text::encode(&mut lines, &registry)?;
        Ok(lines)
    }
}

fn word(ok: bool) -> &'static str {
    if ok { "true" } else { "false" }
}
