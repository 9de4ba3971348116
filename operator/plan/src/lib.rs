//! The operator's decisions, as one pure function: [`plan`].
//!
//! What was seen goes in ([`Observation`]), what is to be done comes out ([`Plan`]); nothing else is read or kept, so
//! the same observation gives the same plan, whatever the order of its lists, and a snapshot of it replays a decision.
//! The operator calls it on each reconcile, and `danmu-operator plan --from FILE` on a snapshot.
//!
//! It goes in this order: what each pod is good for (`pods`), how many viewers each room needs room for and which rooms
//! are hot (`demand`), how many pods that takes and which drain (`scale`), which pod is replaced next (`rollout`), which
//! pods hold which hot room (`placement`) and its sub-rooms (`sub_rooms`), and which of them take new viewers now
//! (`endpoints`).

#[cfg(test)]
extern crate self as danmu_plan;

mod demand;
mod endpoints;
mod explain;
mod observation;
mod outcome;
mod placement;
mod pods;
mod rollout;
mod scale;
mod sub_rooms;
#[cfg(test)]
#[path = "../tests/world/mod.rs"]
mod world;

use std::borrow::Cow;

use demand::{Demand, Heat};
use placement::{Placement, Wish};
use pods::{Pods, Standing};
use scale::{Scale, Shared};

pub use observation::{Bounds, Endpoints, Fleet, Load, Observation, Part, Pod, Room, Share, Window};
pub use outcome::{Placed, Plan, Replicas, ReplicasReason, Rollout, RoomPlan, Source};

/// Decides what to do about a fleet.
pub fn plan(observation: &Observation) -> Plan {
    let pods = Pods::new(observation);
    let rooms = Rooms::new(observation, &pods);
    let wishes = rooms.wishes();
    let shared = rooms.shared(observation, &pods);
    let loads_unknown = pods.too_many_unknown();
    let (scale, rollout) = decide(observation, &pods, &wishes, &shared, loads_unknown);

    let mut leaving = scale.drain.clone();
    let mut drain = scale.drain.clone();
    if let Rollout::Drain(pod) | Rollout::Evict(pod) = rollout {
        leaving.push(pod);
        if pods.standing(pod) != Standing::Draining && matches!(rollout, Rollout::Drain(_)) {
            drain.push(pod);
        }
    }
    let takers: Vec<u32> = pods
        .with(|standing| matches!(standing, Standing::Serving | Standing::Frozen))
        .filter(|pod| !leaving.contains(pod))
        .collect();
    let placements = placement::settle(&wishes, &shared, &pods, &takers);
    let short = why_short(&pods, &scale, &takers);
    let over = shared.uncovered(&pods, &takers);
    let rolls = !matches!(rollout, Rollout::Done | Rollout::Held);
    let left = sub_rooms::left(&pods, &shared, &placements);
    let rooms = rooms.report(placements, (&shared, over), short, |room, placement| {
        let endpoints = endpoints::endpoints(room, placement, &pods, &takers, rolls, observation.now);
        (endpoints, sub_rooms::lay(room, placement, &left))
    });
    Plan {
        replicas: scale.replicas,
        drain,
        undrain: scale.undrain,
        rollout,
        demand: wishes.iter().map(|wish| wish.viewers).sum::<u64>() + shared.demand,
        uncovered: rooms.iter().filter(|room| room.hot).map(|room| u64::from(room.uncovered)).sum::<u64>()
            + over,
        rooms,
        unknown: pods.frozen(),
        loads_unknown,
    }
}

/// Why a room that is not covered is not.
fn why_short(pods: &Pods<'_>, scale: &Scale, takers: &[u32]) -> Placed {
    let comes = |standing| matches!(standing, Standing::Coming | Standing::Draining);
    let starting =
        scale.replicas.target > pods.replicas || pods.with(comes).any(|pod| pod < scale.replicas.target);
    if takers.is_empty() {
        Placed::NoReadyPods
    } else if !scale.enough {
        Placed::FleetFull
    } else if !starting && takers.iter().any(|&pod| pods.standing(pod) == Standing::Frozen) {
        Placed::LoadsUnknown
    } else {
        Placed::PodsStarting
    }
}

/// Replicas, drains and the rollout belong together: no pod goes while one is replaced.
fn decide(
    observation: &Observation,
    pods: &Pods<'_>,
    wishes: &[Wish<'_>],
    shared: &Shared,
    loads_unknown: bool,
) -> (Scale, Rollout) {
    let fleet = &observation.fleet;
    let held = match (fleet.paused, loads_unknown) {
        (true, _) => Some(ReplicasReason::Paused),
        (false, true) => Some(ReplicasReason::LoadsUnknown),
        (false, false) => None,
    };
    if let Some(reason) = held {
        let outdated = (0..pods.replicas).any(|pod| pods.is_outdated(pod));
        return (Scale::hold(pods, reason), if outdated { Rollout::Held } else { Rollout::Done });
    }
    let mut scale = Scale::decide(pods, fleet, wishes, shared);
    let rollout = rollout::next(pods, fleet, scale.replicas.needed, observation.now);
    match rollout {
        Rollout::Done | Rollout::Held => {}
        Rollout::Drain(pod) | Rollout::Evict(pod) => scale.keep_all(pods, false, Some(pod)),
        Rollout::Surge => scale.keep_all(pods, true, None),
        Rollout::Await(_) => scale.keep_all(pods, false, None),
    }
    (scale, rollout)
}

/// The rooms by name, with what each needs.
struct Rooms<'a> {
    rooms: Vec<&'a Room>,
    demands: Vec<Demand>,
    heat: Vec<Heat>,
}

impl<'a> Rooms<'a> {
    fn new(observation: &'a Observation, pods: &Pods<'_>) -> Self {
        let fleet = &observation.fleet;
        let mut rooms: Vec<&Room> = observation.rooms.iter().collect();
        rooms.sort_by(|a, b| a.name.cmp(&b.name));
        rooms.dedup_by(|a, b| a.name == b.name);
        let demands: Vec<Demand> =
            rooms.iter().map(|room| demand::demand(room, fleet, pods, observation.now)).collect();
        let heat = demand::heat(&rooms, &demands, fleet);
        Self { rooms, demands, heat }
    }

    fn wishes(&self) -> Vec<Wish<'a>> {
        let hot = (0..self.rooms.len()).filter(|&index| self.heat[index] == Heat::Hot);
        hot.map(|index| {
            let room = self.rooms[index];
            let (viewers, min_pods) = (self.demands[index].viewers, room.min_pods as usize);
            Wish { room: index, viewers, min_pods, previous: placement(room) }
        })
        .collect()
    }

    /// The viewers of all rooms that are not hot, and of those without a manifest.
    fn shared(&self, observation: &Observation, pods: &Pods<'_>) -> Shared {
        let mut counted: Vec<u64> = (0..pods.replicas)
            .map(|pod| pods.get(pod).and_then(|pod| pod.load).map_or(0, |load| u64::from(load.viewers)))
            .collect();
        let mut unlisted: u64 = counted.iter().sum();
        let mut demand = 0;
        for (index, room) in self.rooms.iter().enumerate() {
            let hot = self.heat[index] == Heat::Hot;
            demand += if hot { 0 } else { self.demands[index].viewers };
            unlisted = unlisted.saturating_sub(self.demands[index].observed);
            for share in room.viewers.iter().filter(|_| hot) {
                if let Some(counted) = counted.get_mut(share.pod as usize) {
                    *counted = counted.saturating_sub(u64::from(share.viewers));
                }
            }
        }
        demand += demand::with_headroom(unlisted, &observation.fleet);
        Shared { demand, counted }
    }

    /// What becomes of each room. `over` shared viewers are not covered; `short` says why a room might not be; `own`
    /// gives a hot room its endpoints and sub-rooms.
    fn report(
        &self,
        placements: Vec<Placement>,
        (shared, over): (&Shared, u64),
        short: Placed,
        own: impl Fn(&Room, &[Share]) -> (Endpoints, Vec<Part>),
    ) -> Vec<RoomPlan> {
        let mut placements = placements.into_iter().peekable();
        let rooms = self.rooms.iter().zip(&self.demands).zip(&self.heat).enumerate();
        rooms
            .map(|(index, ((room, demand), heat))| {
                let placement = placements.next_if(|placement| placement.room == index);
                let (placement, uncovered) = placement.map_or_else(
                    || (Vec::new(), part(demand.viewers, over, shared.demand)),
                    |placement| (placement.shares, placement.uncovered),
                );
                let hot = *heat == Heat::Hot;
                let spread = !hot || placement.len() >= room.min_pods as usize;
                let short = (short == Placed::NoReadyPods || uncovered > 0 || !spread).then_some(short);
                let (endpoints, parts) = if hot { own(room, &placement) } else { Default::default() };
                RoomPlan {
                    name: room.name.clone(),
                    hot,
                    observed: saturated(demand.observed),
                    demand: saturated(demand.viewers),
                    source: demand.source,
                    endpoints,
                    placement,
                    parts,
                    uncovered: saturated(uncovered),
                    placed: short.unwrap_or(match heat {
                        Heat::Hot => Placed::Fits,
                        Heat::Cold => Placed::Shared,
                        Heat::Crowded => Placed::TooManyHotRooms,
                    }),
                }
            })
            .collect()
    }
}

/// A room's placement before this plan, in order: a snapshot may have been edited by hand.
fn placement(room: &Room) -> Cow<'_, [Share]> {
    if room.placement.is_sorted_by(|a, b| a.pod < b.pod) {
        return Cow::Borrowed(&room.placement);
    }
    let mut shares = room.placement.clone();
    shares.sort_unstable();
    shares.dedup_by_key(|share| share.pod);
    Cow::Owned(shares)
}

/// `viewers` × `over` ÷ `all`, rounded up.
fn part(viewers: u64, over: u64, all: u64) -> u64 {
    let part = (u128::from(viewers) * u128::from(over)).div_ceil(u128::from(all.max(1)));
    u64::try_from(part).unwrap_or(u64::MAX)
}

fn saturated(viewers: u64) -> u32 {
    u32::try_from(viewers).unwrap_or(u32::MAX)
}
