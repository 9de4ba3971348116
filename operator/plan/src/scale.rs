//! How many pods, which of them drain, and when they may go.

use crate::placement::{Slots, Spread, Wish, place};
use crate::pods::{MAX_PODS, Pods, Standing};
use crate::{Fleet, Replicas, ReplicasReason};

/// Cold viewers are counted in steps of this part of a pod, so that pods filled to the brim need not give up a room for
/// each viewer that comes.
const STEPS: u64 = 128;

/// The viewers of cold and unlisted rooms: the fleet's Service spreads them over all pods.
pub(crate) struct Shared {
    /// Viewers planned for.
    pub(crate) demand: u64,
    /// Viewers counted, by ordinal: a gateway that hashes spreads them unevenly.
    pub(crate) counted: Vec<u64>,
}

impl Shared {
    /// Each pod's part, when so many share.
    fn part(&self, sharing: usize) -> u64 {
        self.demand.div_ceil(sharing.max(1) as u64)
    }

    /// What hot rooms may use of these pods; pods at the newest revision first, then the lowest ordinals, because a
    /// StatefulSet gives up its highest first. `sharing` pods take the shared viewers.
    pub(crate) fn slots(
        &self,
        pods: &Pods<'_>,
        ordinals: impl Iterator<Item = u32>,
        sharing: usize,
    ) -> Slots {
        let part = self.part(sharing);
        let mut free: Vec<(u32, u64)> = ordinals
            .map(|pod| {
                let capacity = pods.capacity(pod);
                let taken = self.counted.get(pod as usize).copied().unwrap_or(0).max(part);
                (pod, capacity.saturating_sub(taken.next_multiple_of((capacity / STEPS).max(1))))
            })
            .collect();
        free.sort_unstable_by_key(|&(pod, _)| (pods.is_outdated(pod), pod));
        Slots::new(&free)
    }

    /// Shared viewers that these pods cannot hold.
    pub(crate) fn uncovered(&self, pods: &Pods<'_>, ordinals: &[u32]) -> u64 {
        if ordinals.is_empty() {
            return self.demand;
        }
        let part = self.part(ordinals.len());
        let over = ordinals.iter().map(|&pod| part.saturating_sub(pods.capacity(pod))).sum::<u64>();
        over.min(self.demand)
    }
}

/// The decision on replicas.
pub(crate) struct Scale {
    /// Whether the demand fits once all pods are Ready.
    pub(crate) enough: bool,
    pub(crate) replicas: Replicas,
    pub(crate) drain: Vec<u32>,
    pub(crate) undrain: Vec<u32>,
}

impl Scale {
    /// Everything stays as it is.
    pub(crate) fn hold(pods: &Pods<'_>, reason: ReplicasReason) -> Self {
        let stay = pods.replicas;
        let replicas = Replicas { now: stay, target: stay, needed: stay, reason };
        let enough = pods.with(|standing| standing == Standing::Coming).next().is_some();
        Self { enough, replicas, drain: Vec::new(), undrain: Vec::new() }
    }

    /// Replicas for the demand.
    pub(crate) fn decide(pods: &Pods<'_>, fleet: &Fleet, wishes: &[Wish<'_>], shared: &Shared) -> Self {
        let search = Search { pods, wishes, shared };
        let min = fleet.replicas.min.min(MAX_PODS);
        let max = fleet.replicas.max.min(MAX_PODS).max(min);
        let (needed, enough) = search.needed(max);
        let wanted = search.settled_at(needed, max);
        let (mut target, mut reason) = (wanted, ReplicasReason::Demand);
        if target < min {
            (target, reason) = (min, ReplicasReason::Minimum);
        } else if !enough {
            reason = ReplicasReason::Maximum;
        }
        // A pod that drains and does not answer needs no saving: it is not removed before it says that it is empty.
        let unknown = (0..pods.replicas)
            .rev()
            .find(|&pod| pods.is_unknown(pod) && pods.standing(pod) != Standing::Draining);
        if let Some(unknown) = unknown.filter(|&unknown| unknown >= target) {
            (target, reason) = (unknown + 1, ReplicasReason::TailUnknown);
        }
        let now = removable_down_to(pods, target);
        let drain = (target..pods.replicas).filter(|&pod| may_drain(pods, pod)).collect();
        let mut scale =
            Self { enough, replicas: Replicas { now, target, needed, reason }, drain, undrain: Vec::new() };
        scale.call_back(pods, None);
        scale
    }

    /// No pod goes while a rollout runs; one more may be made.
    pub(crate) fn keep_all(&mut self, pods: &Pods<'_>, surge: bool, rolling: Option<u32>) {
        let replicas = &mut self.replicas;
        if replicas.target < pods.replicas {
            (replicas.target, replicas.reason) = (pods.replicas, ReplicasReason::RollingOut);
        }
        if surge {
            (replicas.target, replicas.reason) =
                (replicas.target.max(replicas.needed.max(1) + 1), ReplicasReason::Surge);
        }
        replicas.now = replicas.target;
        self.drain.clear();
        self.call_back(pods, rolling);
    }

    fn call_back(&mut self, pods: &Pods<'_>, apart_from: Option<u32>) {
        let target = self.replicas.target;
        self.undrain = pods
            .with(|standing| standing == Standing::Draining)
            .filter(|&pod| pod < target && Some(pod) != apart_from)
            .collect();
    }
}

/// The highest pods that are surely empty go, as far as the target.
fn removable_down_to(pods: &Pods<'_>, target: u32) -> u32 {
    let mut replicas = pods.replicas.max(target);
    while replicas > target && pods.is_empty(replicas - 1) {
        replicas -= 1;
    }
    replicas
}

fn may_drain(pods: &Pods<'_>, ordinal: u32) -> bool {
    pods.get(ordinal).is_some_and(|pod| pod.running && pod.draining.is_none() && !pod.terminating)
}

/// Looks for the fewest pods.
struct Search<'a> {
    pods: &'a Pods<'a>,
    wishes: &'a [Wish<'a>],
    shared: &'a Shared,
}

impl Search<'_> {
    /// The fewest pods that hold everything, with those that are starting or yet to be made; and whether `max` are enough.
    fn needed(&self, max: u32) -> (u32, bool) {
        let usable = |standing| standing != Standing::Lost;
        let mut replicas = self.at_least(0, max, usable);
        while replicas < max && !self.fits(replicas, usable) {
            // Each try costs a placement; half a per cent too many costs less.
            replicas = (replicas + 1 + replicas / 400).min(max);
        }
        (replicas, replicas < max || self.fits(max, usable))
    }

    /// Pods are given up only for pods that serve, and only if a little more (0.5 % and a tenth of a pod) still fits:
    /// else the tail would drain and come back with each viewer. Once the tail drains, the margin is no longer asked for.
    fn settled_at(&self, needed: u32, max: u32) -> u32 {
        let draining = |pod: &u32| self.pods.standing(*pod) == Standing::Draining;
        let tail = (0..self.pods.replicas).rev().take_while(draining).count();
        let settled = (self.pods.replicas - u32::try_from(tail).unwrap_or(0)).min(max);
        if needed >= settled {
            return needed;
        }
        let margin = self.total() / 200 + self.pods.usual_capacity() / 10;
        let serves = |standing| matches!(standing, Standing::Serving | Standing::Frozen | Standing::Draining);
        let mut replicas = self.at_least(margin, settled, serves).max(needed);
        while replicas < settled && !self.fits(replicas, serves) {
            replicas += 1 + replicas / 200;
        }
        replicas.min(settled)
    }

    fn total(&self) -> u64 {
        self.wishes.iter().map(|wish| wish.viewers).sum::<u64>() + self.shared.demand
    }

    /// The most pods that one room asks for, whatever its size.
    fn fewest(&self) -> usize {
        self.wishes.iter().map(|wish| wish.min_pods).max().unwrap_or(0)
    }

    /// The fewest replicas whose capacity is that of the demand and `margin`, no matter how rooms are cut.
    fn at_least(&self, margin: u64, max: u32, usable: impl Fn(Standing) -> bool) -> u32 {
        let total = self.total();
        let wanted = if total == 0 { 0 } else { total + margin };
        let fewest = self.fewest();
        let (mut capacity, mut count) = (0, 0);
        for replicas in 0..max {
            if capacity >= wanted && count >= fewest {
                return replicas;
            }
            if usable(self.pods.standing(replicas)) {
                capacity += self.pods.capacity(replicas);
                count += 1;
            }
        }
        max
    }

    fn fits(&self, replicas: u32, usable: impl Fn(Standing) -> bool) -> bool {
        let ordinals: Vec<u32> = (0..replicas).filter(|&pod| usable(self.pods.standing(pod))).collect();
        if ordinals.len() < self.fewest() || self.shared.uncovered(self.pods, &ordinals) > 0 {
            return false;
        }
        let sharing = ordinals.len();
        let mut slots = self.shared.slots(self.pods, ordinals.into_iter(), sharing);
        place(self.wishes, &mut slots, Spread::Tidy).is_some()
    }
}

#[cfg(test)]
mod tests;
