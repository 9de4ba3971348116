//! What is looked up when metrics are read: rooms, and this process as the kernel sees it.

use std::sync::Arc;

use procfs::process::{LimitValue, Process};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use crate::room::Rooms;

/// Rooms with viewers, for the registry that has our prefix.
#[derive(Debug)]
pub(super) struct BusyRooms(pub(super) Arc<Rooms>);

impl Collector for BusyRooms {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let rooms = self.0.list().iter().filter(|room| room.viewers > 0).count() as u64;
        ConstGauge::new(rooms).encode(encoder.encode_descriptor(
            "rooms",
            "Rooms with viewers",
            None,
            MetricType::Gauge,
        )?)
    }
}

/// Rooms that shed load, for the registry that has our prefix.
#[derive(Debug)]
pub(super) struct SheddingRooms(pub(super) Arc<Rooms>);

impl Collector for SheddingRooms {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (name, help) = ("shedding_rooms", "Rooms that shed load, by stage: sample, tick, fetch");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        let shedding = self.0.shedding();
        for (stage, name) in (1..).zip(["sample", "tick", "fetch"]) {
            let rooms = shedding.iter().filter(|(_, other)| *other == stage).count() as u64;
            let labels = [("stage", name)];
            ConstGauge::new(rooms).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// A registry of its own: these names have no prefix, as Prometheus's client libraries agreed.
pub(super) fn process() -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(ThisProcess));
    registry
}

#[derive(Debug)]
struct ThisProcess;

impl Collector for ThisProcess {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        // What /proc does not tell is left out; the rest of the metrics still comes.
        let Ok(process) = Process::myself() else { return Ok(()) };
        let stat = process.stat().ok();
        let ticks = procfs::ticks_per_second() as f64;
        if let Some(stat) = &stat {
            let seconds = ConstCounter::new((stat.utime + stat.stime) as f64 / ticks);
            let (name, help) = ("process_cpu", "User and system CPU time");
            seconds.encode(encoder.encode_descriptor(
                name,
                help,
                Some(&Unit::Seconds),
                MetricType::Counter,
            )?)?;
        }
        let boot = procfs::boot_time_secs().ok();
        let start = stat.as_ref().zip(boot).map(|(stat, boot)| boot as f64 + stat.starttime as f64 / ticks);
        let memory = stat.map(|stat| (stat.rss * procfs::page_size()) as f64);
        let limit = process.limits().ok().and_then(|limits| match limits.max_open_files.soft_limit {
            LimitValue::Value(most) => Some(most as f64),
            LimitValue::Unlimited => None,
        });
        let open = process.fd_count().ok().map(|open| open as f64);
        for (name, help, unit, value) in [
            ("process_start_time", "Start of the process, since 1970", Some(Unit::Seconds), start),
            ("process_resident_memory", "Resident memory", Some(Unit::Bytes), memory),
            ("process_open_fds", "Open file descriptors", None, open),
            ("process_max_fds", "Most open file descriptors", None, limit),
        ] {
            if let Some(value) = value {
                let descriptor = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
                ConstGauge::new(value).encode(descriptor)?;
            }
        }
        Ok(())
    }
}
