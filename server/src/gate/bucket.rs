//! Rate limits of 8 bytes a key: the generic cell rate algorithm (GCRA).

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// So many messages in so long a time; all of them may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Messages let through in one period; 0 lets none through.
    pub limit: u32,
    /// The period; zero sets no limit.
    pub period: Duration,
}

/// One key's state. A default bucket is full: the whole burst is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When the bucket is full again ("theoretical arrival time"), in microseconds since the process's epoch.
    full_at: u64,
}

impl Bucket {
    /// Takes one message out, or tells how long to wait for the next. A refusal costs nothing.
    pub fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.take_all(1, rate, now)
    }

    /// Takes so many messages out, or none and tells how long to wait for all of them; of more than a burst that is
    /// never over.
    pub fn take_all(&mut self, messages: u32, rate: Rate, now: Instant) -> Result<(), Duration> {
        if rate.limit == 0 {
            return Err(rate.period);
        }
        let period = microseconds(rate.period);
        let now = since_epoch(now);
        // The clamp frees those whom an older, slower rate would keep waiting.
        let full_at = self.full_at.clamp(now, now.saturating_add(period));
        // Rounded down (by less than 1 µs a message), so that the whole burst fits into one period.
        let next = full_at.saturating_add(period / u64::from(rate.limit) * u64::from(messages));
        let wait = next.saturating_sub(now.saturating_add(period));
        if wait > 0 {
            return Err(Duration::from_micros(wait));
        }
        self.full_at = next;
        Ok(())
    }

    /// How long until the whole burst is free again.
    pub fn until_full(&self, now: Instant) -> Duration {
        Duration::from_micros(self.full_at.saturating_sub(since_epoch(now)))
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds since an epoch an hour before the first call, so that earlier instants still count.
fn since_epoch(now: Instant) -> u64 {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    let epoch = EPOCH.get_or_init(|| now.checked_sub(Duration::from_secs(3600)).unwrap_or(now));
    microseconds(now.saturating_duration_since(*epoch))
}

/// Buckets by key, in two generations: a key untouched for a whole period is full again, so the older
/// generation can go without a walk. When too many keys come within a period the older generation goes
/// early: whoever commands that many keys has that many limits anyway.
#[derive(Debug)]
pub struct Buckets<K> {
    young: HashMap<K, Bucket>,
    old: HashMap<K, Bucket>,
    turned: Option<Instant>,
    generation: usize,
}

impl<K: Eq + Hash> Buckets<K> {
    /// Holds at most `capacity` keys.
    pub fn new(capacity: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), turned: None, generation: (capacity / 2).max(1) }
    }

    /// [`Bucket::take`] on this key's bucket.
    pub fn take(&mut self, key: K, rate: Rate, now: Instant) -> Result<(), Duration> {
        let aged = now.saturating_duration_since(*self.turned.get_or_insert(now)) >= rate.period;
        if aged || (self.young.len() >= self.generation && !self.young.contains_key(&key)) {
            self.old = std::mem::take(&mut self.young);
            self.turned = Some(now);
        }
        let former = self.old.remove(&key);
        self.young.entry(key).or_insert_with(|| former.unwrap_or_default()).take(rate, now)
    }

    /// Keys held now.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether no key is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { limit: 3, period: Duration::from_secs(5) };

    #[test]
    fn a_burst_passes_and_the_next_is_told_how_long_to_wait() {
        let (mut bucket, now) = (Bucket::default(), Instant::now());
        for _ in 0..3 {
            assert_eq!(bucket.take(RATE, now), Ok(()));
        }
        let wait = bucket.take(RATE, now).expect_err("the fourth is too much");
        assert!(wait > Duration::from_millis(1600) && wait < Duration::from_millis(1700), "{wait:?}");
        assert_eq!(bucket.take(RATE, now + wait), Ok(()));
        assert!(bucket.take(RATE, now + wait).is_err());
    }

    #[test]
    fn of_several_at_once_all_are_taken_or_none() {
        let (mut bucket, now) = (Bucket::default(), Instant::now());
        assert_eq!(bucket.take_all(2, RATE, now), Ok(()));
        let wait = bucket.take_all(2, RATE, now).expect_err("only one is left");
        assert_eq!(bucket.take(RATE, now), Ok(()), "a refusal costs nothing");
        assert!(bucket.take_all(2, RATE, now + wait).is_err());
        let later = wait * 2 + Duration::from_millis(1);
        assert_eq!(bucket.take_all(2, RATE, now + later), Ok(()));
    }

    #[test]
    fn a_bucket_is_eight_bytes() {
        assert_eq!(size_of::<Bucket>(), 8);
    }

    #[test]
    fn a_faster_rate_frees_whom_a_slower_one_kept_waiting() {
        let (mut bucket, now) = (Bucket::default(), Instant::now());
        let hour = Rate { limit: 1, period: Duration::from_secs(3600) };
        assert_eq!(bucket.take(hour, now), Ok(()));
        assert!(bucket.take(RATE, now).expect_err("still empty") <= Duration::from_secs(2));
    }

    #[test]
    fn no_messages_at_all_pass_a_limit_of_zero() {
        let none = Rate { limit: 0, ..RATE };
        assert!(Bucket::default().take(none, Instant::now()).is_err());
    }

    #[test]
    fn keys_do_not_share_a_bucket_and_survive_a_turn_of_generations() {
        let (mut buckets, now) = (Buckets::new(100), Instant::now());
        let one = Rate { limit: 1, period: Duration::from_secs(10) };
        assert_eq!(buckets.take(1, one, now), Ok(()));
        assert_eq!(buckets.take(2, one, now + Duration::from_secs(9)), Ok(()));
        assert_eq!(buckets.take(3, one, now + Duration::from_secs(10)), Ok(()));
        assert!(buckets.take(2, one, now + Duration::from_secs(11)).is_err(), "2 spoke 2 s ago");
    }

    #[test]
    fn any_number_of_keys_is_held_in_bounded_memory() {
        let (mut buckets, now) = (Buckets::new(100), Instant::now());
        for key in 0..10_000 {
            let _ = buckets.take(key, RATE, now);
            assert!(buckets.len() <= 100);
        }
        let _ = buckets.take(0, RATE, now + RATE.period);
        let _ = buckets.take(0, RATE, now + RATE.period * 2);
        assert_eq!(buckets.len(), 1, "keys untouched for a period are gone");
    }
}
