//! What the rows count. Registered and served by `admin`.

use std::sync::atomic::AtomicI64;

use danmu_wire::CloseCode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use super::Recorder;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ClosedLabels {
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DroppedLabels {
    reason: &'static str,
}

/// What the rows count.
#[derive(Debug)]
pub struct Metrics {
    /// Connections on workers, the lobby included.
    pub viewers: Gauge<i64, AtomicI64>,
    /// Rows over all rooms and workers.
    pub rows: Gauge<i64, AtomicI64>,
    /// Viewers with bytes they have not taken.
    pub stalled: Gauge<i64, AtomicI64>,
    /// Writes of flushes to sockets (one send(2) each).
    pub writes: Counter,
    /// Bytes of flushes handed to sockets.
    pub bytes: Counter,
    /// Flushes written by a worker.
    pub flushes: Counter,
    /// From a message's acceptance to its last write on a worker.
    pub latency: Histogram,
    /// Frames from viewers.
    pub received: Counter,
    /// Writes down every flush, for the benchmark.
    pub recorder: Option<Recorder>,
    pub(super) dropped: Family<DroppedLabels, Counter>,
    pub(super) closed: Family<ClosedLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            viewers: Gauge::default(),
            rows: Gauge::default(),
            stalled: Gauge::default(),
            writes: Counter::default(),
            bytes: Counter::default(),
            flushes: Counter::default(),
            // 1 ms to 8 s.
            latency: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            received: Counter::default(),
            recorder: None,
            dropped: Family::default(),
            closed: Family::default(),
        }
    }
}

impl Metrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("viewers", "Open viewer connections", self.viewers.clone());
        registry.register("rows", "Rows over all rooms and workers", self.rows.clone());
        registry.register("stalled_viewers", "Viewers with bytes they have not taken", self.stalled.clone());
        registry.register("writes", "Writes of flushes to viewers' sockets", self.writes.clone());
        registry.register_with_unit("sent", "Bytes of flushes sent", Unit::Bytes, self.bytes.clone());
        registry.register("flushes", "Flushes written, counted on each worker", self.flushes.clone());
        registry.register_with_unit(
            "fan_out_latency",
            "From a message's acceptance to its last write on a worker",
            Unit::Seconds,
            self.latency.clone(),
        );
        registry.register("received_frames", "Frames from viewers", self.received.clone());
        registry.register(
            "dropped_messages",
            "Messages a viewer did not get, by reason",
            self.dropped.clone(),
        );
        registry.register("closes", "Connections closed by us, by close code", self.closed.clone());
    }

    pub(super) fn dropped_slow(&self, messages: u64) {
        self.dropped.get_or_create(&DroppedLabels { reason: "slow_viewer" }).inc_by(messages);
    }

    pub(super) fn closed_with(&self, code: CloseCode) {
        self.closed.get_or_create(&ClosedLabels { code: code.code() }).inc();
    }
}
