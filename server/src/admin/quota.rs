//! How much each publisher may publish on this pod.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use axum::http::StatusCode;
use danmu_crds::Publishers;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::answer::Refusal;
use crate::gate::{Bucket, Rate};

/// Publishers that are counted at once.
const PUBLISHERS: usize = 10_000;

/// Who publishes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Publisher {
    /// Whoever has the admin token.
    Admin,
    /// The `sub` of a token of role `publisher`.
    Sub(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// The quotas of this pod.
#[derive(Debug, Default)]
pub struct Quotas {
    settings: ArcSwapOption<Publishers>,
    buckets: Mutex<HashMap<Publisher, Bucket>>,
    refused: Family<Reason, Counter>,
}

fn rate(settings: &Publishers, publisher: &Publisher) -> Rate {
    let own = match publisher {
        Publisher::Admin => None,
        Publisher::Sub(sub) => settings.named.iter().find(|named| named.sub == *sub),
    };
    let (per_second, burst) = own
        .map_or((settings.messages_per_second, settings.burst), |own| (own.messages_per_second, own.burst));
    let limit = burst.unwrap_or(per_second);
    Rate { limit, period: Duration::from_secs_f64(f64::from(limit) / f64::from(per_second.max(1))) }
}

impl Quotas {
    /// Registers what is counted.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "quota_refused_messages",
            "Messages of publishers that their quota refused, by reason",
            self.refused.clone(),
        );
    }

    /// Puts these quotas in force; none sets no quota.
    pub fn set(&self, settings: Option<Publishers>) {
        self.settings.store(settings.map(Into::into));
    }

    /// Counts messages against the publisher's quota: all of them, or none when that is too much.
    pub(super) fn take(&self, publisher: &Publisher, messages: u32) -> Result<(), Refusal> {
        self.take_at(publisher, messages, Instant::now())
    }

    fn take_at(&self, publisher: &Publisher, messages: u32, now: Instant) -> Result<(), Refusal> {
        let Some(settings) = self.settings.load_full() else { return Ok(()) };
        let rate = rate(&settings, publisher);
        let refused = |reason| self.refused.get_or_create(&Reason { reason }).inc_by(messages.into());
        if messages > rate.limit {
            refused("burst");
            return Err(Refusal::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!(
                    "{messages} messages are more than your quota takes at once: send at most {}",
                    rate.limit
                ),
            ));
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if !buckets.contains_key(publisher) {
            make_room(&mut buckets, now);
        }
        let taken = buckets.entry(publisher.clone()).or_default().take_all(messages, rate, now);
        taken.map_err(|wait| {
            refused("rate");
            Refusal::too_many("your quota is used up on this server: try again later", wait)
        })
    }
}

/// Who has published nothing for so long that all is free again needs no bucket. Should that be too few, whoever
/// would be free first is forgotten.
fn make_room(buckets: &mut HashMap<Publisher, Bucket>, now: Instant) {
    if buckets.len() < PUBLISHERS {
        return;
    }
    buckets.retain(|_, bucket| !bucket.until_full(now).is_zero());
    if buckets.len() >= PUBLISHERS {
        let first = buckets.iter().min_by_key(|(_, bucket)| bucket.until_full(now));
        if let Some(first) = first.map(|(publisher, _)| publisher.clone()) {
            buckets.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use danmu_crds::NamedPublisher;

    use super::*;

    fn sub(sub: impl Into<String>) -> Publisher {
        Publisher::Sub(sub.into())
    }

    fn quotas() -> Quotas {
        let named = NamedPublisher { sub: "gifts".to_owned(), messages_per_second: 100, burst: Some(500) };
        let settings = Publishers { messages_per_second: 10, burst: None, named: vec![named] };
        let quotas = Quotas::default();
        quotas.set(Some(settings));
        quotas
    }

    #[test]
    fn a_batch_is_taken_whole_or_not_and_the_next_is_told_when() {
        let (quotas, now) = (quotas(), Instant::now());
        assert!(quotas.take_at(&sub("a"), 8, now).is_ok());
        assert_eq!(quotas.take_at(&sub("a"), 3, now).unwrap_err().status, StatusCode::TOO_MANY_REQUESTS);
        assert!(quotas.take_at(&sub("a"), 2, now).is_ok(), "a refusal costs nothing");
        assert!(quotas.take_at(&sub("a"), 1, now + Duration::from_millis(90)).is_err());
        assert!(quotas.take_at(&sub("a"), 1, now + Duration::from_millis(101)).is_ok());
    }

    #[test]
    fn what_never_fits_is_told_so() {
        let fault = quotas().take_at(&sub("a"), 11, Instant::now()).unwrap_err();
        assert_eq!(fault.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(fault.words.contains("at most 10"), "{}", fault.words);
    }

    #[test]
    fn each_publisher_has_a_quota_and_the_named_ones_their_own() {
        let (quotas, now) = (quotas(), Instant::now());
        assert!(quotas.take_at(&sub("gifts"), 500, now).is_ok());
        for publisher in [sub("a"), sub("admin"), Publisher::Admin] {
            assert!(quotas.take_at(&publisher, 10, now).is_ok(), "{publisher:?}");
            assert!(quotas.take_at(&publisher, 1, now).is_err(), "{publisher:?}");
        }
        quotas.set(None);
        assert!(quotas.take_at(&sub("a"), 100_000, now).is_ok());
    }

    #[test]
    fn any_number_of_publishers_is_held_in_bounded_memory() {
        let (quotas, now) = (quotas(), Instant::now());
        assert!(quotas.take_at(&sub("busy"), 10, now).is_ok());
        for number in 0..PUBLISHERS + 100 {
            assert!(quotas.take_at(&sub(number.to_string()), 1, now).is_ok());
        }
        assert_eq!(quotas.buckets.lock().unwrap().len(), PUBLISHERS);
        assert!(quotas.take_at(&sub("busy"), 1, now).is_err(), "the busiest is remembered");
        let later = now + Duration::from_secs(1);
        assert!(quotas.take_at(&sub("late"), 1, later).is_ok());
        assert_eq!(quotas.buckets.lock().unwrap().len(), 1);
    }
}
