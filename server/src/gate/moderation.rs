//! Who is muted or banned at run time, by a moderator rather than by the room's manifest.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use serde::{Serialize, Serializer};

/// Entries one list holds at most.
pub const MAX_ENTRIES: usize = 10_000;

/// A list holds [`MAX_ENTRIES`] entries that are still in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the list is full ({MAX_ENTRIES} entries): lift some first, or put lasting ones into the room's manifest"
)]
pub struct Full;

/// An entry of a list and how long it stays; no time is until lifted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed<T> {
    /// The user or the network.
    pub entry: T,
    /// Time left, in seconds when serialised; `None` until lifted.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub remaining: Option<Duration>,
}

/// What moderators have set in a room, each list in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moderation {
    /// Users who may watch but not write.
    pub muted_users: Vec<Listed<String>>,
    /// Users whose words are seen by them alone.
    pub shadowed_users: Vec<Listed<String>>,
    /// Slow mode in place of the manifest's.
    pub slow_mode_seconds: Option<u32>,
    /// Users who may not come in.
    pub banned_users: Vec<Listed<String>>,
    /// Networks from which nobody may come in.
    pub banned_networks: Vec<Listed<IpNet>>,
}

impl Moderation {
    /// Whether nobody is muted or banned at run time.
    pub fn is_empty(&self) -> bool {
        self.muted_users.is_empty()
            && self.shadowed_users.is_empty()
            && self.slow_mode_seconds.is_none()
            && self.banned_users.is_empty()
            && self.banned_networks.is_empty()
    }
}

fn seconds<S: Serializer>(left: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    left.map(|left| left.as_secs()).serialize(serializer)
}

/// Entries with an end, at most [`MAX_ENTRIES`].
#[derive(Debug)]
pub(super) struct Entries<K>(HashMap<K, Option<Instant>>);

impl<K> Default for Entries<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

fn in_force(until: Option<Instant>, now: Option<Instant>) -> bool {
    until.is_none_or(|until| now.is_none_or(|now| until > now))
}

impl<K: Eq + Hash + Ord + Clone> Entries<K> {
    /// Adds or replaces; what ended before `latest` makes room when the list is full.
    pub(super) fn set(
        &mut self,
        key: K,
        until: Option<Instant>,
        latest: Option<Instant>,
    ) -> Result<(), Full> {
        if self.0.len() >= MAX_ENTRIES && !self.0.contains_key(&key) {
            self.0.retain(|_, until| in_force(*until, latest));
            if self.0.len() >= MAX_ENTRIES {
                return Err(Full);
            }
        }
        self.0.insert(key, until);
        Ok(())
    }

    pub(super) fn lift<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> bool
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.remove(key).is_some()
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.0.retain(|key, _| keep(key));
    }

    pub(super) fn holds<Q: Eq + Hash + ?Sized>(&self, key: &Q, now: Instant) -> bool
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.get(key).is_some_and(|until| in_force(*until, Some(now)))
    }

    pub(super) fn list(&mut self, now: Instant) -> Vec<Listed<K>> {
        self.0.retain(|_, until| in_force(*until, Some(now)));
        let listed = self.0.iter().map(|(key, until)| Listed {
            entry: key.clone(),
            remaining: until.map(|until| until.saturating_duration_since(now)),
        });
        let mut listed: Vec<_> = listed.collect();
        listed.sort_unstable_by(|a, b| a.entry.cmp(&b.entry));
        listed
    }
}

impl Entries<IpNet> {
    /// Whether the address is in one of the networks: one look-up for each prefix length, because a walk over
    /// 10,000 networks at every message would be the dearest thing a room does.
    pub(super) fn contains(&self, address: IpAddr, now: Instant) -> bool {
        !self.0.is_empty() && is_in_any(address, |network| self.holds(network, now))
    }
}

/// Whether the address is in one of the networks that `holds` knows.
pub(super) fn is_in_any(address: IpAddr, holds: impl Fn(&IpNet) -> bool) -> bool {
    let address = address.to_canonical();
    let longest = if address.is_ipv4() { 32 } else { 128 };
    (0..=longest).filter_map(|length| IpNet::new(address, length).ok()).any(|network| holds(&network.trunc()))
}

/// The network without host bits, and as IPv4 if it is IPv4 mapped into IPv6.
pub fn canonical(network: IpNet) -> IpNet {
    let network = network.trunc();
    if let (IpNet::V6(mapped), IpAddr::V4(address)) = (network, network.addr().to_canonical())
        && let Some(length) = mapped.prefix_len().checked_sub(96)
        && let Ok(network) = Ipv4Net::new(address, length)
    {
        return IpNet::V4(network);
    }
    network
}
