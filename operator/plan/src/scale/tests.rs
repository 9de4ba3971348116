use jiff::SignedDuration;

use crate::world::{World, fleet, start};
use crate::{Placed, Plan, ReplicasReason, Room, Share, plan};

fn room(name: &str, expected_viewers: u32) -> Room {
    Room { name: name.to_owned(), expected_viewers, ..Room::default() }
}

/// Pods of 1,000 viewers, and one room.
fn world(pods: u32, expected_viewers: u32) -> World {
    World::new(fleet(1_000, 1, 20), pods, vec![room("room", expected_viewers)])
}

fn replicas(plan: &Plan) -> (u32, u32, ReplicasReason) {
    (plan.replicas.now, plan.replicas.target, plan.replicas.reason)
}

#[test]
fn there_are_as_many_pods_as_the_demand_needs() {
    assert_eq!(replicas(&plan(&world(1, 5_500).seen)), (6, 6, ReplicasReason::Demand));
}

#[test]
fn rooms_wait_for_pods_that_start_and_then_spread_to_them() {
    let mut world = world(1, 5_500);
    let first = plan(&world.seen);
    assert_eq!((first.rooms[0].placed, first.uncovered), (Placed::PodsStarting, 4_500));
    world.step(&first, 20);
    world.step(&plan(&world.seen), 20);
    let then = plan(&world.seen);
    assert_eq!((then.rooms[0].placed, then.rooms[0].placement.len()), (Placed::Fits, 6));
}

#[test]
fn the_fleet_s_bounds_hold_and_what_is_too_much_is_told() {
    let mut world = world(1, 0);
    world.seen.fleet.replicas.min = 3;
    assert_eq!(replicas(&plan(&world.seen)), (3, 3, ReplicasReason::Minimum));
    world.seen.fleet.replicas.max = 4;
    world.seen.rooms[0].expected_viewers = 5_500;
    assert_eq!(replicas(&plan(&world.seen)), (4, 4, ReplicasReason::Maximum));
    world.step(&plan(&world.seen), 60);
    let full = plan(&world.seen);
    assert_eq!(
        (full.rooms[0].placed, full.rooms[0].uncovered, full.uncovered),
        (Placed::FleetFull, 1_500, 1_500)
    );
}

#[test]
fn cold_rooms_that_do_not_fit_are_told_too() {
    let mut world = World::new(fleet(1_000, 1, 1), 1, vec![room("a", 900), room("b", 600)]);
    world.seen.fleet.replicas.max = 1;
    let full = plan(&world.seen);
    assert_eq!(full.uncovered, 500);
    let told: Vec<_> = full.rooms.iter().map(|room| (room.placed, room.uncovered)).collect();
    assert_eq!(told, [(Placed::FleetFull, 300), (Placed::FleetFull, 200)]);
}

#[test]
fn the_tail_drains_first_and_goes_when_it_is_empty() {
    let mut world = world(5, 2_500);
    world.seen.rooms[0].viewers = vec![Share { pod: 4, viewers: 10 }];
    world.seen.pods[4].load.as_mut().unwrap().viewers = 10;
    let first = plan(&world.seen);
    assert_eq!((first.drain.as_slice(), replicas(&first).0), ([3, 4].as_slice(), 5));
    assert!(first.rooms[0].placement.iter().all(|share| share.pod < 3), "rooms leave first");
    world.audience = vec![10];
    world.step(&first, 30);
    let waits = plan(&world.seen);
    assert_eq!((replicas(&waits).0, replicas(&waits).1, waits.drain.len()), (5, 3, 0));
    world.step(&waits, 40);
    assert_eq!(replicas(&plan(&world.seen)).0, 3);
}

#[test]
fn a_drained_pod_that_still_has_viewers_stays() {
    let mut world = world(4, 2_500);
    world.seen.pods[3].draining = Some(start() - SignedDuration::from_secs(600));
    world.seen.pods[3].load.as_mut().unwrap().viewers = 1;
    assert_eq!(replicas(&plan(&world.seen)).0, 4);
    world.seen.pods[3].load.as_mut().unwrap().viewers = 0;
    assert_eq!(replicas(&plan(&world.seen)).0, 3);
    world.seen.pods[3].load = None;
    assert_eq!(replicas(&plan(&world.seen)).0, 4, "nobody knows");
}

#[test]
fn an_empty_load_from_before_the_drain_does_not_count() {
    let mut world = world(4, 2_500);
    world.seen.pods[3].draining = Some(start());
    assert_eq!(replicas(&plan(&world.seen)).0, 4);
}

#[test]
fn a_spike_takes_the_drain_back() {
    let mut world = world(5, 2_500);
    world.step(&plan(&world.seen), 10);
    world.seen.rooms[0].expected_viewers = 3_900;
    let spike = plan(&world.seen);
    assert_eq!((spike.undrain.as_slice(), replicas(&spike).1), ([3].as_slice(), 4));
    assert!(spike.drain.is_empty());
}

#[test]
fn a_pod_that_never_started_goes_at_once() {
    let mut world = world(4, 2_500);
    (world.seen.pods[3].running, world.seen.pods[3].ready, world.seen.pods[3].load) = (false, false, None);
    let plan = plan(&world.seen);
    assert_eq!((replicas(&plan).0, plan.drain.len()), (3, 0));
}

#[test]
fn the_last_few_viewers_of_a_pod_do_not_make_the_tail_come_and_go() {
    assert_eq!(replicas(&plan(&world(3, 1_950).seen)).1, 3, "2 pods would do, with nothing to spare");
    assert_eq!(replicas(&plan(&world(3, 1_850).seen)).1, 2);
}

#[test]
fn a_tail_of_unknown_load_stays() {
    let mut world = world(8, 2_500);
    world.seen.pods[6].load = None;
    let plan = plan(&world.seen);
    assert_eq!(
        (replicas(&plan), plan.drain.as_slice()),
        ((8, 7, ReplicasReason::TailUnknown), [7].as_slice())
    );
}

#[test]
fn over_a_third_unknown_freezes_the_replicas_both_ways() {
    for expected in [0, 9_000] {
        let mut world = world(4, expected);
        world.seen.pods[0].load.as_mut().unwrap().at = start() - SignedDuration::from_secs(16);
        assert!(!plan(&world.seen).loads_unknown);
        world.seen.pods[1].load = None;
        let plan = plan(&world.seen);
        assert_eq!((replicas(&plan), plan.loads_unknown), ((4, 4, ReplicasReason::LoadsUnknown), true));
        assert!(plan.drain.is_empty() && plan.undrain.is_empty());
    }
}

#[test]
fn pods_that_became_ready_just_now_are_coming_and_not_unknown() {
    let mut world = world(4, 3_500);
    for pod in &mut world.seen.pods[1..] {
        (pod.load, pod.since) = (None, start() - SignedDuration::from_secs(15));
    }
    let plan = plan(&world.seen);
    assert_eq!((replicas(&plan).1, plan.loads_unknown, plan.unknown), (4, false, Vec::new()));
    assert_eq!(plan.rooms[0].placed, crate::Placed::PodsStarting);
}

#[test]
fn an_unknown_pod_is_not_taken_for_full() {
    let mut world = world(4, 3_500);
    world.seen.pods[0].load = None;
    assert_eq!(replicas(&plan(&world.seen)).1, 4);
}

#[test]
fn a_pod_that_starts_counts_for_five_minutes() {
    for (seconds, target) in [(300, 4), (301, 5)] {
        let mut world = world(4, 3_500);
        world.seen.pods[1].ready = false;
        world.seen.pods[1].since = start() - SignedDuration::from_secs(seconds);
        assert_eq!(replicas(&plan(&world.seen)).1, target, "not Ready for {seconds} s");
        world.seen.pods.remove(1);
        world.seen.replicas_since = start() - SignedDuration::from_secs(seconds);
        assert_eq!(replicas(&plan(&world.seen)).1, target, "missing for {seconds} s");
    }
}

#[test]
fn pods_are_not_given_up_for_ones_that_only_start() {
    let mut world = world(4, 2_500);
    world.seen.pods[1].ready = false;
    assert_eq!(replicas(&plan(&world.seen)).1, 4);
}

#[test]
fn a_paused_fleet_keeps_its_pods_and_still_places_its_rooms() {
    let mut world = world(6, 2_500);
    world.seen.fleet.paused = true;
    let plan = plan(&world.seen);
    assert_eq!((replicas(&plan), plan.drain.len()), ((6, 6, ReplicasReason::Paused), 0));
    assert_eq!(plan.rooms[0].placement.len(), 3);
}

#[test]
fn a_pod_that_takes_fewer_viewers_than_usual_counts_for_so_many() {
    let mut world = world(3, 2_500);
    world.seen.pods[0].load.as_mut().unwrap().capacity = 100;
    assert_eq!(replicas(&plan(&world.seen)).1, 4);
}

#[test]
fn a_room_on_fewer_pods_than_it_asks_for_is_told() {
    let mut world = world(2, 100);
    world.seen.rooms[0].min_pods = 4;
    let starting = plan(&world.seen);
    assert_eq!((starting.rooms[0].placed, starting.rooms[0].placement.len()), (Placed::PodsStarting, 2));
    assert_eq!(starting.replicas.target, 4);
    world.seen.fleet.replicas.max = 3;
    assert_eq!(plan(&world.seen).rooms[0].placed, Placed::FleetFull);
}
