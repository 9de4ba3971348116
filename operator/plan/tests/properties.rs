//! What holds for any fleet, in any state.

use std::collections::BTreeMap;

use danmu_plan::{Load, Observation, Placed, Plan, Pod, Rollout, Room, Share, plan};
use jiff::SignedDuration;
use proptest::prelude::*;

mod sub_rooms;
mod world;

use world::{World, fleet, start};

fn shares(pods: u32) -> impl Strategy<Value = Vec<Share>> {
    let share = (0..pods, 0..600u32).prop_map(|(pod, viewers)| Share { pod, viewers });
    prop::collection::vec(share, 0..4).prop_map(|mut shares| {
        shares.sort();
        shares.dedup_by_key(|share| share.pod);
        shares
    })
}

fn room(name: usize, pods: u32) -> impl Strategy<Value = Room> {
    let size = prop_oneof![3 => 0..150u32, 3 => 150..3_000u32];
    let shape = (size, 0..4u32, 0..6u32);
    (shape, any::<bool>(), shares(pods), shares(pods), prop::option::of(0..30i64)).prop_map(
        move |((expected_viewers, min_pods, sub_rooms), hot, placement, viewers, changed)| {
            let mut room = Room {
                name: format!("room-{name}"),
                expected_viewers,
                min_pods,
                sub_rooms,
                hot,
                viewers,
                ..Room::default()
            };
            room.endpoints.pods = placement.iter().map(|share| share.pod).collect();
            room.endpoints.changed_at = changed.map(|ago| start() - SignedDuration::from_secs(ago));
            room.placement = placement;
            room
        },
    )
}

fn pod(ordinal: u32) -> impl Strategy<Value = Pod> {
    let ago = |most: i64| (0..most).prop_map(|ago| start() - SignedDuration::from_secs(ago));
    let flags = (
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.05),
    );
    let load = prop::option::weighted(0.9, (ago(20), 0..900u32, 800..1_200u32));
    (flags, ago(600), prop::option::weighted(0.15, ago(100)), load).prop_map(
        move |((running, ready, current, terminating), since, draining, load)| Pod {
            ordinal,
            running,
            ready: ready && running && draining.is_none(),
            since,
            current,
            terminating,
            draining,
            load: load.map(|(at, viewers, capacity)| Load { at, viewers, capacity }),
        },
    )
}

/// Any fleet in any state: the state need not make sense.
fn any_fleet() -> impl Strategy<Value = Observation> {
    (0..12u32, 0..4u32, 0..30u32).prop_flat_map(|(replicas, min, more)| {
        let pods: Vec<_> =
            (0..replicas + 1).map(|ordinal| prop::option::weighted(0.95, pod(ordinal))).collect();
        let rooms: Vec<_> =
            (0..10).map(|name| prop::option::weighted(0.7, room(name, replicas + 2))).collect();
        (pods, rooms, prop::bool::weighted(0.05)).prop_map(move |(pods, rooms, paused)| {
            let mut fleet = fleet(1_000, min, min + more);
            (fleet.hot_room_viewers, fleet.max_hot_rooms, fleet.paused) = (150, 8, paused);
            let pods = pods.into_iter().flatten().collect();
            let rooms = rooms.into_iter().flatten().collect();
            Observation { now: start(), fleet, replicas, replicas_since: start(), pods, rooms }
        })
    })
}

fn serving(seen: &Observation) -> BTreeMap<u32, &Pod> {
    let fresh = |pod: &Pod| pod.load.is_none() && seen.now.duration_since(pod.since).as_secs() <= 15;
    let pods = seen.pods.iter().filter(|pod| {
        pod.ordinal < seen.replicas && pod.ready && !pod.terminating && pod.draining.is_none() && !fresh(pod)
    });
    pods.map(|pod| (pod.ordinal, pod)).collect()
}

fn is_known(seen: &Observation, pod: &Pod) -> bool {
    pod.load.is_some_and(|load| seen.now.duration_since(load.at).as_secs() <= 15)
}

/// Serving pods that this plan does not take out.
fn takers<'a>(seen: &'a Observation, planned: &Plan) -> BTreeMap<u32, &'a Pod> {
    let mut pods = serving(seen);
    pods.retain(|ordinal, _| !planned.drain.contains(ordinal) && planned.rollout != Rollout::Evict(*ordinal));
    pods
}

proptest! {
    #[test]
    fn the_order_of_the_lists_does_not_matter(seen in any_fleet(), by in 0..10usize) {
        let mut turned = seen.clone();
        turned.pods.reverse();
        turned.rooms.rotate_left(by % seen.rooms.len().max(1));
        for room in &mut turned.rooms {
            room.viewers.reverse();
            room.placement.reverse();
        }
        prop_assert_eq!(plan(&seen), plan(&turned));
    }

    #[test]
    fn a_snapshot_gives_the_same_plan(seen in any_fleet()) {
        let text = serde_json::to_string(&seen).expect("an observation is plain data");
        let read: Observation = serde_json::from_str(&text).expect("it reads what it wrote");
        prop_assert_eq!(plan(&read), plan(&seen));
    }

    #[test]
    fn no_pod_goes_with_viewers_or_unknown(seen in any_fleet()) {
        let planned = plan(&seen);
        for pod in seen.pods.iter().filter(|pod| (planned.replicas.now..seen.replicas).contains(&pod.ordinal)) {
            let empty = is_known(&seen, pod) && pod.load.is_some_and(|load| load.viewers == 0);
            prop_assert!(!pod.running || (empty && pod.draining.is_some()), "{:?} goes", pod);
        }
    }

    #[test]
    fn no_pod_is_over_its_capacity_unless_that_is_told(seen in any_fleet()) {
        let planned = plan(&seen);
        let pods = takers(&seen, &planned);
        let mut planned_on: BTreeMap<u32, u32> = BTreeMap::new();
        for share in planned.rooms.iter().flat_map(|room| &room.placement) {
            *planned_on.entry(share.pod).or_default() += share.viewers;
        }
        let over = planned_on.iter().filter(|(ordinal, viewers)| {
            pods.get(ordinal).is_some_and(|pod| {
                is_known(&seen, pod) && **viewers > pod.load.map_or(1_000, |load| load.capacity.min(1_000))
            })
        });
        if over.count() > 0 {
            prop_assert!(planned.uncovered > 0);
            prop_assert!(planned.rooms.iter().any(|room| room.uncovered > 0 && !room.placed.holds()));
        }
    }

    #[test]
    fn a_hot_room_is_on_ready_pods_and_on_as_many_as_it_asks_for(seen in any_fleet()) {
        let planned = plan(&seen);
        let pods = takers(&seen, &planned);
        for room in planned.rooms.iter().filter(|room| room.hot && !pods.is_empty()) {
            let asked = seen.rooms.iter().find(|asked| asked.name == room.name).expect("a room of the fleet");
            prop_assert!(room.placement.iter().all(|share| pods.contains_key(&share.pod)));
            let may = pods.iter().filter(|(ordinal, pod)| {
                is_known(&seen, pod) || room.placement.iter().any(|share| share.pod == **ordinal)
            });
            prop_assert!(room.placement.len() >= may.count().min(asked.min_pods.max(1) as usize));
            prop_assert!(room.endpoints.pods.iter().all(|pod| pods.contains_key(pod)));
        }
    }

    #[test]
    fn shares_are_equal_and_make_up_the_demand(seen in any_fleet()) {
        let planned = plan(&seen);
        let pods = takers(&seen, &planned);
        for room in planned.rooms.iter().filter(|room| room.hot && !pods.is_empty()) {
            prop_assert!(room.placement.is_sorted_by(|a, b| a.pod < b.pod));
            let known: Vec<u32> = room.placement.iter().filter(|share| is_known(&seen, pods[&share.pod])).map(|share| share.viewers).collect();
            if let (Some(most), Some(least)) = (known.iter().max(), known.iter().min()) {
                prop_assert!(most - least <= 1);
                prop_assert_eq!(world::total(&room.placement), room.demand);
            }
        }
    }

    #[test]
    fn a_pod_of_unknown_load_gets_nothing_new(seen in any_fleet()) {
        let planned = plan(&seen);
        let pods = takers(&seen, &planned);
        for room in planned.rooms.iter().filter(|_| !pods.is_empty()) {
            let before = seen.rooms.iter().find(|before| before.name == room.name).expect("a room of the fleet");
            for share in room.placement.iter().filter(|share| !is_known(&seen, pods[&share.pod])) {
                let had = before.placement.iter().find(|had| had.pod == share.pod);
                prop_assert!(had.is_some_and(|had| share.viewers <= had.viewers));
            }
        }
    }

    #[test]
    fn one_pod_at_a_time_is_replaced(seen in any_fleet()) {
        if let Rollout::Drain(_) | Rollout::Evict(_) = plan(&seen).rollout {
            let newest = seen.pods.iter().filter(|pod| pod.ordinal < seen.replicas && pod.current && pod.draining.is_none());
            prop_assert!(newest.into_iter().all(|pod| pod.ready && !pod.terminating && is_known(&seen, pod)));
        }
    }
}

/// Small, and as large as they come.
fn any_number() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(1), 2..100u32, Just(1_000_000), Just(u32::MAX - 1), Just(u32::MAX)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn numbers_that_make_no_sense_do_no_harm(seen in any_fleet(), numbers in prop::collection::vec(any_number(), 16)) {
        let mut seen = seen;
        let mut numbers = numbers.into_iter().cycle();
        let mut next = || numbers.next().unwrap_or(0);
        let fleet = &mut seen.fleet;
        (fleet.viewers_per_pod, fleet.headroom_percent, fleet.hot_room_viewers) = (next(), next(), next());
        (fleet.replicas.min, fleet.replicas.max, fleet.max_hot_rooms) = (next(), next(), next());
        (fleet.warmup_seconds, fleet.drain_seconds, seen.replicas) = (next(), next(), next());
        for room in &mut seen.rooms {
            (room.expected_viewers, room.min_pods) = (next(), next());
            room.placement.push(Share { pod: next(), viewers: next() });
            room.viewers.push(Share { pod: next(), viewers: next() });
            room.endpoints.pods.push(next());
        }
        for pod in &mut seen.pods {
            pod.ordinal = next();
            if let Some(load) = &mut pod.load {
                (load.viewers, load.capacity) = (next(), next());
            }
        }
        let planned = plan(&seen);
        prop_assert!(!planned.reasons(&seen.fleet).is_empty());
        prop_assert!(planned.replicas.target <= 10_001, "{:?}", planned.replicas);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn any_state_comes_to_rest_with_every_room_placed(seen in any_fleet(), audience in prop::collection::vec(0..1_500u32, 10)) {
        let mut world = World::new(fleet(1_000, 0, 0), 0, Vec::new());
        world.seen = seen;
        world.seen.fleet.replicas.max = 60;
        world.seen.fleet.paused = false;
        world.seen.rooms.sort_by(|a, b| a.name.cmp(&b.name));
        world.audience = audience;
        world.audience.truncate(world.seen.rooms.len());
        for _ in 0..120 {
            world.step(&plan(&world.seen), 20);
        }
        let rests = plan(&world.seen);
        prop_assert_eq!((rests.replicas.now, &rests.rollout), (rests.replicas.target, &Rollout::Done));
        prop_assert!(rests.drain.is_empty() && rests.undrain.is_empty() && rests.unknown.is_empty());
        prop_assert_eq!(rests.uncovered, 0, "{:?}", rests.reasons(&world.seen.fleet));
        prop_assert!(rests.rooms.iter().all(|room| room.placed.holds() || world.seen.replicas == 0));
        world.step(&rests, 20);
        prop_assert_eq!(plan(&world.seen), rests);
    }

    #[test]
    fn a_change_of_one_room_moves_no_other(
        sizes in prop::collection::vec(200..2_000u32, 2..40),
        changed in any::<prop::sample::Index>(),
        percent in 75..300u32,
    ) {
        let rooms = sizes.iter().enumerate().map(|(nth, &expected_viewers)| Room { name: format!("room-{nth:02}"), expected_viewers, ..Room::default() });
        let mut world = World::new(fleet(1_000, 100, 100), 100, rooms.collect());
        world.seen.fleet.hot_room_viewers = 150;
        let before = plan(&world.seen);
        world.step(&before, 5);
        let changed = changed.index(sizes.len());
        world.seen.rooms[changed].expected_viewers = sizes[changed] * percent / 100;
        let after = plan(&world.seen);
        for (nth, (before, after)) in before.rooms.iter().zip(&after.rooms).enumerate() {
            prop_assert!(nth == changed || before.placement == after.placement, "{} moved", after.name);
        }
    }

    #[test]
    fn the_pods_are_within_two_per_cent_of_the_fewest(sizes in prop::collection::vec(2_000..60_000u32, 100..300)) {
        let rooms = sizes.iter().enumerate().map(|(nth, &expected_viewers)| Room { name: format!("room-{nth:03}"), expected_viewers, ..Room::default() });
        let mut world = World::new(fleet(15_000, 1, 1_000), 1, rooms.collect());
        world.seen.fleet.max_hot_rooms = 1_000;
        let planned = plan(&world.seen);
        let fewest = planned.demand.div_ceil(15_000);
        prop_assert!(u64::from(planned.replicas.target) * 100 <= fewest * 102 + 100, "{} pods, {fewest} would do", planned.replicas.target);
        prop_assert!(planned.rooms.iter().all(|room| matches!(room.placed, Placed::PodsStarting | Placed::Fits)));
    }
}
