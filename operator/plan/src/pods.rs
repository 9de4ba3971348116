//! What each pod is good for at this moment, by ordinal.

use jiff::{SignedDuration, Timestamp};

use crate::{Observation, Pod};

/// A load older than this says nothing: the poller asks every 5 s, so three answers are missing.
const LOAD_LASTS: SignedDuration = SignedDuration::from_secs(15);
/// A pod that is not Ready after so long will not help: others are made instead.
const COMING_LASTS: SignedDuration = SignedDuration::from_secs(300);
/// More pods than any fleet has; a higher ordinal in a snapshot is a mistake, and must not cost memory.
pub(crate) const MAX_PODS: u32 = 10_000;

/// What a pod is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Ready, and its load is known: rooms may be placed on it.
    Serving,
    /// Ready, but its load is unknown: it keeps its rooms, gets none, and is not taken for full.
    Frozen,
    /// Told to drain; can be called back.
    Draining,
    /// Not Ready for at most 5 minutes, or Ready just now and not heard yet: counts when replicas are decided, not when
    /// rooms are placed.
    Coming,
    /// Not Ready for longer: counts for nothing.
    Lost,
}

/// The pods of a fleet.
pub(crate) struct Pods<'a> {
    entries: Vec<Entry<'a>>,
    now: Timestamp,
    viewers_per_pod: u32,
    /// The StatefulSet's replicas.
    pub(crate) replicas: u32,
}

#[derive(Clone)]
struct Entry<'a> {
    pod: Option<&'a Pod>,
    standing: Standing,
}

impl<'a> Pods<'a> {
    pub(crate) fn new(observation: &'a Observation) -> Self {
        let replicas = observation.replicas.min(MAX_PODS);
        let now = observation.now;
        let missing = waiting(now, observation.replicas_since);
        let mut entries = vec![Entry { pod: None, standing: missing }; replicas as usize];
        for pod in &observation.pods {
            // Beyond the replicas it is on its way out, and would be made anew if it were needed again.
            let Some(entry) = entries.get_mut(pod.ordinal as usize) else { continue };
            if entry.pod.is_none() {
                *entry = Entry { pod: Some(pod), standing: standing(pod, now) };
            }
        }
        Self { entries, now, viewers_per_pod: observation.fleet.viewers_per_pod.max(1), replicas }
    }

    /// The pod of this ordinal, if it exists and is one of the replicas.
    pub(crate) fn get(&self, ordinal: u32) -> Option<&'a Pod> {
        self.entries.get(ordinal as usize)?.pod
    }

    /// What the pod is good for; one that is yet to be made is coming.
    pub(crate) fn standing(&self, ordinal: u32) -> Standing {
        self.entries.get(ordinal as usize).map_or(Standing::Coming, |entry| entry.standing)
    }

    /// The viewers that the pod holds at most.
    pub(crate) fn capacity(&self, ordinal: u32) -> u64 {
        let told = self.get(ordinal).and_then(|pod| pod.load).map_or(u32::MAX, |load| load.capacity);
        u64::from(told.min(self.viewers_per_pod))
    }

    /// The capacity of a pod that is yet to be made.
    pub(crate) fn usual_capacity(&self) -> u64 {
        u64::from(self.viewers_per_pod)
    }

    /// The pod's viewers, if its load is known.
    pub(crate) fn viewers(&self, ordinal: u32) -> Option<u32> {
        self.get(ordinal)?.load.filter(|load| known(load.at, self.now)).map(|load| load.viewers)
    }

    /// Whether the pod may have viewers that nobody counts: it runs, and its load is unknown.
    pub(crate) fn is_unknown(&self, ordinal: u32) -> bool {
        self.get(ordinal).is_some_and(|pod| pod.running) && self.viewers(ordinal).is_none()
    }

    /// Whether the pod surely has no viewers: it does not run, or it said so after it began to drain.
    pub(crate) fn is_empty(&self, ordinal: u32) -> bool {
        let Some(pod) = self.get(ordinal) else { return true };
        if !pod.running {
            return true;
        }
        let told_since = pod.draining.zip(pod.load).is_some_and(|(began, load)| load.at > began);
        told_since && self.viewers(ordinal) == Some(0)
    }

    /// Ready pods (draining ones are not Ready) whose load is unknown.
    pub(crate) fn frozen(&self) -> Vec<u32> {
        self.with(|standing| standing == Standing::Frozen).collect()
    }

    /// Whether more than a third of the Ready pods' loads are unknown.
    pub(crate) fn too_many_unknown(&self) -> bool {
        let ready = self.with(|standing| matches!(standing, Standing::Serving | Standing::Frozen)).count();
        self.frozen().len() * 3 > ready
    }

    /// Ordinals of the replicas with such a standing, ascending.
    pub(crate) fn with(&self, wanted: impl Fn(Standing) -> bool) -> impl Iterator<Item = u32> {
        (0u32..)
            .zip(&self.entries)
            .filter(move |(_, entry)| wanted(entry.standing))
            .map(|(ordinal, _)| ordinal)
    }

    /// Whether the pod is of an older revision; a missing pod will be made from the newest.
    pub(crate) fn is_outdated(&self, ordinal: u32) -> bool {
        self.get(ordinal).is_some_and(|pod| !pod.current)
    }
}

fn standing(pod: &Pod, now: Timestamp) -> Standing {
    if pod.terminating {
        return waiting(now, pod.since);
    }
    if pod.draining.is_some() {
        return Standing::Draining;
    }
    if !pod.ready {
        return waiting(now, pod.since);
    }
    match pod.load {
        Some(load) if known(load.at, now) => Standing::Serving,
        // Ready just now and not asked yet: nothing is wrong with it.
        None if known(pod.since, now) => Standing::Coming,
        _ => Standing::Frozen,
    }
}

fn known(at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(at) <= LOAD_LASTS
}

fn waiting(now: Timestamp, since: Timestamp) -> Standing {
    if now.duration_since(since) <= COMING_LASTS { Standing::Coming } else { Standing::Lost }
}
