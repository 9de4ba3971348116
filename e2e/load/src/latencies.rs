//! Times as an HDR histogram.

use std::fmt::{self, Display, Formatter};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest time told apart from longer ones: 10 minutes.
const MAX_US: u64 = 600_000_000;

/// Times in microseconds, 3 significant digits. Empty until the first is noted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies(Option<Histogram<u64>>);

impl Latencies {
    /// Notes one time, given in nanoseconds.
    pub(crate) fn record_ns(&mut self, nanoseconds: u64) {
        self.record(nanoseconds / 1000, 1);
    }

    fn record(&mut self, microseconds: u64, times: u64) {
        if self.0.is_none() {
            // Cannot fail: the bounds are constants that the library takes.
            self.0 = Histogram::new_with_max(MAX_US, 3).ok();
        }
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record_n(microseconds, times);
        }
    }

    /// How many were noted.
    pub(crate) fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// The time in milliseconds under which `percent` of all lie; 0 when there is none.
    pub(crate) fn milliseconds_at(&self, percent: f64) -> f64 {
        self.0.as_ref().map_or(0.0, |histogram| histogram.value_at_percentile(percent) as f64 / 1000.0)
    }

    /// Adds all of another's.
    pub(crate) fn merge(&mut self, other: &Latencies) {
        for (microseconds, times) in other.buckets() {
            self.record(microseconds, times);
        }
    }

    fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let recorded = self.0.iter().flat_map(Histogram::iter_recorded);
        recorded.map(|bucket| (bucket.value_iterated_to(), bucket.count_since_last_iteration()))
    }
}

/// How a histogram is reported, in milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Percentiles {
    count: u64,
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl From<&Latencies> for Percentiles {
    fn from(latencies: &Latencies) -> Percentiles {
        let at = |percent| latencies.milliseconds_at(percent);
        Percentiles {
            count: latencies.count(),
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            max: at(100.0),
        }
    }
}

impl Display for Percentiles {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Percentiles { p50, p99, max, .. } = self;
        write!(f, "{p50:.1} / {p99:.1} / {max:.1} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_changes_no_percentile() {
        let mut latencies = Latencies::default();
        for milliseconds in 1..=1000_u64 {
            latencies.record_ns(milliseconds * 1_000_000);
        }
        let mut merged = latencies.clone();
        merged.merge(&latencies);
        assert_eq!(merged.count(), 2000);
        for (percent, expected) in [(50.0, 500.0), (99.0, 990.0), (100.0, 1000.0)] {
            assert_eq!(merged.milliseconds_at(percent), latencies.milliseconds_at(percent));
            assert!((merged.milliseconds_at(percent) - expected).abs() < 1.0, "{percent}");
        }
    }

    #[test]
    fn a_time_over_ten_minutes_counts_as_ten_minutes() {
        let mut latencies = Latencies::default();
        latencies.record_ns(u64::MAX);
        assert_eq!(latencies.count(), 1);
        assert!(latencies.milliseconds_at(100.0) >= 600_000.0);
    }
}
