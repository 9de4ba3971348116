//! What the relay counts.

use std::sync::atomic::AtomicI64;

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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lost {
    reason: &'static str,
}

/// What the relay counts.
#[derive(Debug)]
pub struct Metrics {
    /// 1 while pods cannot hear each other.
    pub degraded: Gauge<i64, AtomicI64>,
    /// Rooms subscribed to.
    pub subscriptions: Gauge<i64, AtomicI64>,
    /// Packets sent.
    pub published: Counter,
    /// Packets of other pods, and priority events.
    pub received: Counter,
    /// From a packet's stamp to its arrival; clocks of two nodes differ.
    pub lag: Histogram,
    /// Loads of a room's log: opened, made whole, or compared.
    pub loads: Counter,
    /// Connections made to Redis.
    pub connects: Counter,
    lost: Family<Lost, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            degraded: Gauge::default(),
            subscriptions: Gauge::default(),
            published: Counter::default(),
            received: Counter::default(),
            // 0.25 ms to 8 s.
            lag: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
            loads: Counter::default(),
            connects: Counter::default(),
            lost: Family::default(),
        }
    }
}

impl Metrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("relay_degraded", "1 while pods cannot hear each other", self.degraded.clone());
        registry.register("relay_subscriptions", "Rooms subscribed to", self.subscriptions.clone());
        registry.register("relay_published_packets", "Packets sent to other pods", self.published.clone());
        registry.register("relay_received_packets", "Packets from the relay", self.received.clone());
        registry.register_with_unit(
            "relay_lag",
            "From a packet's stamp on the sending pod to its arrival here",
            Unit::Seconds,
            self.lag.clone(),
        );
        registry.register("relay_log_loads", "Loads of a room's priority log", self.loads.clone());
        registry.register("relay_connects", "Connections made to Redis", self.connects.clone());
        registry.register("relay_lost_packets", "Packets lost, by reason", self.lost.clone());
    }

    /// Counts a packet that was lost.
    pub fn lost(&self, reason: &'static str) {
        self.lost.get_or_create(&Lost { reason }).inc();
    }
}
