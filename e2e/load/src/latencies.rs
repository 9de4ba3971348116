//! Times as an HDR histogram that can travel between processes.

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.buckets())
    }
}

impl<'de> Deserialize<'de> for Latencies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut latencies = Latencies::default();
        for (microseconds, times) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            latencies.record(microseconds, times);
        }
        Ok(latencies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trip_to_another_process_and_merging_change_no_percentile() {
        let mut latencies = Latencies::default();
        for milliseconds in 1..=1000_u64 {
            latencies.record_ns(milliseconds * 1_000_000);
        }
        let text = serde_json::to_string(&latencies).unwrap();
        let mut read: Latencies = serde_json::from_str(&text).unwrap();
        read.merge(&latencies);
        assert_eq!(read.count(), 2000);
        for (percent, expected) in [(50.0, 500.0), (99.0, 990.0), (100.0, 1000.0)] {
            assert_eq!(read.milliseconds_at(percent), latencies.milliseconds_at(percent));
            assert!((read.milliseconds_at(percent) - expected).abs() < 1.0, "{percent}");
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
