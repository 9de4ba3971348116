//! How many may come in, in all and per address, and how fast.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::address::Group;

/// The limits of [`Admission`].
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Most connections open at once.
    pub connections: usize,
    /// Most connections open at once per [`Group`] of addresses; 0 means no cap.
    pub per_address: usize,
    /// Most upgrades in a second, on average and at once; 0 refuses every upgrade.
    pub upgrades_per_second: u32,
}

/// A refusal for load; the client should come back later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}; come back in {} s", retry_after.as_secs())]
pub struct Refused {
    /// What is full, for people.
    pub why: &'static str,
    /// When to come back: whole seconds, 1 to 4 at random so that the refused do not return as one wave.
    /// A full pod (15,000) that was cut is a second's 3,000 at once and four such waves: in within 6 s.
    pub retry_after: Duration,
}

impl Refused {
    fn new(why: &'static str) -> Refused {
        Refused { why, retry_after: Duration::from_secs(rand::random_range(1..=4)) }
    }
}

/// Counts who is in and decides who may come in.
#[derive(Debug)]
pub struct Admission {
    connections: usize,
    per_address_cap: AtomicUsize,
    open: AtomicUsize,
    // No larger than `open`: an entry goes when its count comes to 0.
    per_address: Mutex<HashMap<Group, usize>>,
    upgrades: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    per_second: f64,
    upgrades: f64,
    // `None` until the first upgrade, so that the clock is only ever passed in.
    filled: Option<Instant>,
}

impl Admission {
    /// An admission with nobody in and a second's worth of upgrades to give.
    pub fn new(settings: Settings) -> Arc<Admission> {
        let per_second = f64::from(settings.upgrades_per_second);
        let upgrades = Bucket { per_second, upgrades: per_second, filled: None };
        Arc::new(Admission {
            connections: settings.connections,
            per_address_cap: AtomicUsize::new(settings.per_address),
            open: AtomicUsize::new(0),
            per_address: Mutex::default(),
            upgrades: Mutex::new(upgrades),
        })
    }

    /// Changes the cap per address and the rate of upgrades from now on. Whoever is in stays in.
    pub fn adjust(&self, per_address: usize, upgrades_per_second: u32) {
        self.per_address_cap.store(per_address, Ordering::Relaxed);
        lock(&self.upgrades).per_second = f64::from(upgrades_per_second);
    }

    /// Lets a connection in until its permit is dropped. `group` is `None` for a trusted proxy, whose
    /// clients are counted by [`Permit::count_for`] once their address is known.
    ///
    /// # Errors
    /// The server or the address has all its connections.
    pub fn connection(self: &Arc<Self>, group: Option<Group>) -> Result<Permit, Refused> {
        let below_cap = |open: usize| (open < self.connections).then_some(open + 1);
        if self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below_cap).is_err() {
            return Err(Refused::new("the server has all the connections it takes"));
        }
        let mut permit = Permit { admission: Arc::clone(self), group: None };
        if let Some(group) = group {
            permit.count_for(group)?;
        }
        Ok(permit)
    }

    /// Takes one upgrade out of the bucket, at `now`.
    ///
    /// # Errors
    /// More upgrades than `upgrades_per_second` are coming in.
    pub fn upgrade(&self, now: Instant) -> Result<(), Refused> {
        let mut bucket = lock(&self.upgrades);
        let full = bucket.per_second;
        let filled = bucket.filled.unwrap_or(now);
        let gained = now.saturating_duration_since(filled).as_secs_f64() * full;
        bucket.upgrades = (bucket.upgrades + gained).min(full);
        bucket.filled = Some(filled.max(now));
        if bucket.upgrades < 1.0 {
            return Err(Refused::new("more viewers are joining than the server takes in a second"));
        }
        bucket.upgrades -= 1.0;
        Ok(())
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn leave(&self, group: Group) {
        let mut counts = lock(&self.per_address);
        if let Some(count) = counts.get_mut(&group) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&group);
            }
        }
    }
}

/// Both mutexes guard plain numbers that are whole at every step, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection's place; dropping it gives the place back. Kept with every connection, so it is small.
#[derive(Debug)]
#[must_use = "dropping the permit gives the place back"]
pub struct Permit {
    admission: Arc<Admission>,
    group: Option<Group>,
}

const _: () = assert!(size_of::<Permit>() <= 32);

impl Permit {
    /// Counts this connection for `group`, and no longer for the group it counted for before: a proxy's
    /// connection may carry one client's request after another's.
    ///
    /// # Errors
    /// The address has all its connections; the permit stays as it was.
    pub fn count_for(&mut self, group: Group) -> Result<(), Refused> {
        if self.group == Some(group) {
            return Ok(());
        }
        // Counted without a cap too: one that is set later holds for those who are in already.
        let cap = self.admission.per_address_cap.load(Ordering::Relaxed);
        {
            let mut counts = lock(&self.admission.per_address);
            let count = counts.get(&group).copied().unwrap_or(0);
            if cap != 0 && count >= cap {
                return Err(Refused::new("this address has all the connections one address may have"));
            }
            counts.insert(group, count + 1);
        }
        if let Some(before) = self.group.replace(group) {
            self.admission.leave(before);
        }
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            self.admission.leave(group);
        }
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::address::group;
    use super::*;

    fn admission(connections: usize, per_address: usize, upgrades_per_second: u32) -> Arc<Admission> {
        Admission::new(Settings { connections, per_address, upgrades_per_second })
    }

    fn home(last: u8) -> Group {
        group([192, 0, 2, last].into())
    }

    #[test]
    fn a_dropped_permit_gives_its_place_back() {
        let admission = admission(2, 0, 1);
        let first = admission.connection(None).unwrap();
        let _second = admission.connection(Some(home(1))).unwrap();
        assert!(admission.connection(None).is_err());
        drop(first);
        assert!(admission.connection(None).is_ok());
        assert_eq!(admission.open(), 1);
    }

    #[test]
    fn an_address_has_its_own_cap_and_a_refusal_costs_no_place() {
        let admission = admission(10, 1, 1);
        let first = admission.connection(Some(home(1))).unwrap();
        assert!(admission.connection(Some(home(1))).is_err());
        assert_eq!(admission.open(), 1);
        let _other = admission.connection(Some(home(2))).unwrap();
        drop(first);
        assert!(admission.connection(Some(home(1))).is_ok());
    }

    #[test]
    fn addresses_are_forgotten_with_their_last_connection() {
        let admission = admission(10, 2, 1);
        let permits: Vec<_> = (0..5).map(|n| admission.connection(Some(home(n))).unwrap()).collect();
        assert_eq!(lock(&admission.per_address).len(), 5);
        drop(permits);
        assert!(lock(&admission.per_address).is_empty());
    }

    #[test]
    fn clients_behind_a_proxy_are_counted_by_their_own_address() {
        let admission = admission(10, 1, 1);
        let mut first = admission.connection(None).unwrap();
        let mut second = admission.connection(None).unwrap();
        first.count_for(home(1)).unwrap();
        first.count_for(home(1)).unwrap();
        assert!(second.count_for(home(1)).is_err());
        first.count_for(home(2)).unwrap();
        second.count_for(home(1)).unwrap();
        drop((first, second));
        assert!(lock(&admission.per_address).is_empty());
        assert_eq!(admission.open(), 0);
    }

    #[test]
    fn upgrades_come_in_bursts_of_a_second_and_refill_with_time() {
        let admission = admission(1, 0, 4);
        let start = Instant::now();
        let taken = |at: Duration| (0..100).filter(|_| admission.upgrade(start + at).is_ok()).count();
        assert_eq!(taken(Duration::ZERO), 4);
        assert_eq!(taken(Duration::from_millis(500)), 2);
        assert_eq!(taken(Duration::from_millis(250)), 0, "an older clock reading gives nothing");
        assert_eq!(taken(Duration::from_secs(3600)), 4);
    }

    #[test]
    fn a_cap_set_later_counts_those_who_are_in_and_throws_nobody_out() {
        let admission = admission(10, 0, 1);
        let mut permits: Vec<_> = (0..3).map(|_| admission.connection(Some(home(1))).unwrap()).collect();
        admission.adjust(2, 1);
        assert!(admission.connection(Some(home(1))).is_err());
        assert_eq!(admission.open(), 3);
        permits.truncate(1);
        permits.push(admission.connection(Some(home(1))).unwrap());
        admission.adjust(0, 1);
        assert!(admission.connection(Some(home(1))).is_ok());
    }

    #[test]
    fn a_new_rate_holds_from_the_next_upgrade_on() {
        let admission = admission(1, 0, 100);
        let start = Instant::now();
        let taken = |at: u64| {
            let at = start + Duration::from_secs(at);
            (0..1000).filter(|_| admission.upgrade(at).is_ok()).count()
        };
        assert!(admission.upgrade(start).is_ok());
        admission.adjust(0, 4);
        assert_eq!(taken(0), 4, "what the old rate had saved up is cut to the new one's second");
        admission.adjust(0, 50);
        assert_eq!((taken(0), taken(1), taken(3)), (0, 50, 50));
    }

    #[test]
    fn a_refusal_asks_to_come_back_in_one_to_four_seconds() {
        let admission = admission(0, 0, 0);
        for _ in 0..100 {
            let refused = admission.connection(None).unwrap_err();
            assert!((1..=4).contains(&refused.retry_after.as_secs()), "{refused}");
        }
        assert!(admission.upgrade(Instant::now()).is_err());
    }

    #[test]
    fn threads_together_never_pass_the_cap() {
        let admission = admission(50, 20, 1);
        let permits: Vec<Permit> = std::thread::scope(|scope| {
            let join = || (0..40).filter_map(|n| admission.connection(Some(home(n % 2))).ok()).collect();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(join)).collect();
            threads.into_iter().flat_map(|thread| -> Vec<Permit> { thread.join().unwrap() }).collect()
        });
        assert_eq!(permits.len(), 40);
        assert_eq!(admission.open(), 40);
    }
}
