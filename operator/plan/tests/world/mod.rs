//! A fleet that does what the plan says: pods start, drain and go, viewers come, spread and leave.

use danmu_plan::{Bounds, Fleet, Load, Observation, Plan, Pod, Rollout, Room, Share};
use jiff::{SignedDuration, Timestamp};

/// An observation that lives on, and the audience that each room has.
pub(crate) struct World {
    pub(crate) seen: Observation,
    /// Viewers of each room, in the order of `seen.rooms`.
    pub(crate) audience: Vec<u32>,
    /// How long a new pod takes to be Ready, in seconds.
    pub(crate) start_seconds: i64,
}

pub(crate) fn start() -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_793_484_000)
}

pub(crate) fn fleet(viewers_per_pod: u32, min: u32, max: u32) -> Fleet {
    Fleet {
        name: "danmu-default".to_owned(),
        viewers_per_pod,
        replicas: Bounds { min, max },
        headroom_percent: 20,
        warmup_seconds: 300,
        hot_room_viewers: 2000,
        max_hot_rooms: 200,
        drain_seconds: 60,
        paused: false,
    }
}

/// A Ready pod at the newest revision, with no viewers.
pub(crate) fn pod(ordinal: u32, now: Timestamp) -> Pod {
    let load = Some(Load { at: now, viewers: 0, capacity: u32::MAX });
    Pod {
        ordinal,
        running: true,
        ready: true,
        since: now,
        current: true,
        terminating: false,
        draining: None,
        load,
    }
}

impl World {
    pub(crate) fn new(fleet: Fleet, pods: u32, rooms: Vec<Room>) -> Self {
        let now = start();
        let audience = vec![0; rooms.len()];
        let since = now - SignedDuration::from_secs(3600);
        let pods_now = (0..pods).map(|ordinal| Pod { since, ..pod(ordinal, now) }).collect();
        let seen = Observation { now, fleet, replicas: pods, replicas_since: now, pods: pods_now, rooms };
        Self { seen, audience, start_seconds: 30 }
    }

    /// Does what the plan says, and lets time pass.
    pub(crate) fn step(&mut self, plan: &Plan, seconds: i64) {
        self.apply(plan);
        self.seen.now += SignedDuration::from_secs(seconds);
        self.pass();
        self.spread();
    }

    fn apply(&mut self, plan: &Plan) {
        let seen = &mut self.seen;
        let now = seen.now;
        if seen.replicas != plan.replicas.now {
            (seen.replicas, seen.replicas_since) = (plan.replicas.now, now);
        }
        seen.pods.retain(|pod| pod.ordinal < plan.replicas.now && !pod.terminating);
        for pod in &mut seen.pods {
            if plan.drain.contains(&pod.ordinal) {
                (pod.draining, pod.ready, pod.since) = (Some(now), false, now);
            }
            if plan.undrain.contains(&pod.ordinal) {
                (pod.draining, pod.ready, pod.since) = (None, pod.running, now);
            }
        }
        if let Rollout::Evict(gone) = plan.rollout {
            seen.pods.retain(|pod| pod.ordinal != gone);
        }
        for ordinal in 0..seen.replicas {
            if !seen.pods.iter().any(|pod| pod.ordinal == ordinal) {
                seen.pods.push(Pod { running: false, ready: false, load: None, ..pod(ordinal, now) });
            }
        }
        seen.rooms.sort_by(|a, b| a.name.cmp(&b.name));
        for (room, plan) in seen.rooms.iter_mut().zip(&plan.rooms) {
            assert_eq!(room.name, plan.name);
            room.hot = plan.hot;
            room.placement.clone_from(&plan.placement);
            room.parts.clone_from(&plan.parts);
            room.endpoints = plan.endpoints.clone();
        }
    }

    fn pass(&mut self) {
        let now = self.seen.now;
        for pod in &mut self.seen.pods {
            let waits = now.duration_since(pod.since).as_secs();
            if !pod.ready && pod.draining.is_none() && waits >= self.start_seconds {
                (pod.running, pod.ready, pod.since) = (true, true, now);
            }
        }
    }

    /// Viewers leave pods that are gone or drained, then come and go until each room has its audience.
    fn spread(&mut self) {
        let seen = &mut self.seen;
        let now = seen.now;
        let mut stays = vec![false; seen.replicas as usize];
        let mut takes = Vec::new();
        for pod in &seen.pods {
            let drained = pod.draining.is_some_and(|began| {
                now.duration_since(began).as_secs() >= i64::from(seen.fleet.drain_seconds)
            });
            stays[pod.ordinal as usize] = pod.running && !drained;
            if pod.ready && pod.draining.is_none() {
                takes.push(pod.ordinal);
            }
        }
        let mut loads = vec![0u32; seen.replicas as usize];
        for (nth, (room, &audience)) in seen.rooms.iter_mut().zip(&self.audience).enumerate() {
            room.viewers.retain(|share| stays.get(share.pod as usize) == Some(&true));
            shrink(&mut room.viewers, audience);
            let come = audience - total(&room.viewers);
            let cold: Vec<u32>;
            let to = if room.endpoints.pods.is_empty() {
                cold = takes
                    .iter()
                    .cycle()
                    .skip(nth * 7_919 % takes.len().max(1))
                    .take(takes.len().min(8))
                    .copied()
                    .collect();
                &cold
            } else {
                &room.endpoints.pods
            };
            grow(&mut room.viewers, come, to);
            for share in &room.viewers {
                loads[share.pod as usize] += share.viewers;
            }
        }
        for pod in seen.pods.iter_mut().filter(|pod| pod.running) {
            pod.load = Some(Load { at: now, viewers: loads[pod.ordinal as usize], capacity: u32::MAX });
        }
    }
}

pub(crate) fn total(shares: &[Share]) -> u32 {
    shares.iter().map(|share| share.viewers).sum()
}

fn shrink(shares: &mut Vec<Share>, audience: u32) {
    let before = total(shares);
    if before > audience {
        for share in shares.iter_mut() {
            let part = u64::from(share.viewers) * u64::from(audience) / u64::from(before);
            share.viewers = u32::try_from(part).unwrap_or(share.viewers);
        }
    }
    shares.retain(|share| share.viewers > 0);
}

fn grow(shares: &mut Vec<Share>, viewers: u32, to: &[u32]) {
    let Ok(pods) = u32::try_from(to.len()) else { return };
    for (nth, &pod) in (0u32..).zip(to) {
        let come = viewers / pods + u32::from(nth < viewers % pods);
        match shares.iter_mut().find(|share| share.pod == pod) {
            Some(share) => share.viewers += come,
            None if come > 0 => shares.push(Share { pod, viewers: come }),
            None => {}
        }
    }
}
