use jiff::SignedDuration;

use crate::world::{World, fleet, start};
use crate::{ReplicasReason, Rollout, Room, Share, plan};

/// Outdated pods of 1,000 viewers, and a room.
fn world(pods: u32, expected_viewers: u32) -> World {
    let room = Room { name: "room".to_owned(), expected_viewers, ..Room::default() };
    let mut world = World::new(fleet(1_000, 1, 20), pods, vec![room]);
    world.audience = vec![expected_viewers / 2];
    world.seen.pods.iter_mut().for_each(|pod| pod.current = false);
    world
}

fn next(world: &World) -> Rollout {
    plan(&world.seen).rollout
}

#[test]
fn pods_are_replaced_one_at_a_time_from_the_highest_and_a_surge_pod_goes_again() {
    let mut world = world(3, 2_800);
    let mut steps: Vec<Rollout> = Vec::new();
    let mut replicas = vec![world.seen.replicas];
    for _ in 0..100 {
        let plan = plan(&world.seen);
        if steps.last() != Some(&plan.rollout) {
            steps.push(plan.rollout.clone());
        }
        let away = (0..plan.replicas.now)
            .filter(|pod| !world.seen.pods.iter().any(|seen| seen.ordinal == *pod && seen.ready));
        assert!(away.count() <= 1, "one pod at a time");
        world.step(&plan, 10);
        replicas.push(plan.replicas.now);
        replicas.dedup();
    }
    let each = |pod| [Rollout::Drain(pod), Rollout::Evict(pod), Rollout::Await(pod)];
    let expected = [Rollout::Surge, Rollout::Await(3)].into_iter().chain([2, 1].into_iter().flat_map(each));
    let last = [Rollout::Drain(0), Rollout::Evict(0), Rollout::Done];
    assert_eq!(steps, expected.chain(last).collect::<Vec<_>>());
    assert_eq!(replicas, [3, 4, 3]);
    assert!(world.seen.pods.iter().all(|pod| pod.current && pod.ready));
}

#[test]
fn no_surge_where_the_others_hold_the_viewers() {
    let mut world = world(3, 1_500);
    world.seen.fleet.replicas.min = 3;
    assert_eq!(next(&world), Rollout::Drain(2));
}

#[test]
fn a_fleet_at_its_maximum_may_go_one_over_it() {
    let mut world = world(3, 2_900);
    world.seen.fleet.replicas.max = 3;
    let plan = plan(&world.seen);
    assert_eq!(
        (plan.rollout, plan.replicas.now, plan.replicas.reason),
        (Rollout::Surge, 4, ReplicasReason::Surge)
    );
}

#[test]
fn the_pod_to_be_replaced_is_out_of_slices_when_it_drains() {
    let mut world = world(4, 2_900);
    let room = &mut world.seen.rooms[0];
    room.hot = true;
    room.placement = [0, 1, 3].map(|pod| Share { pod, viewers: 967 }).to_vec();
    room.endpoints.pods = vec![0, 1, 3];
    let plan = plan(&world.seen);
    assert_eq!((&plan.rollout, plan.drain.as_slice()), (&Rollout::Drain(3), [3].as_slice()));
    assert_eq!(plan.rooms[0].endpoints.pods, [0, 1, 2]);
}

#[test]
fn rooms_prefer_pods_at_the_newest_revision() {
    let mut world = world(4, 2_000);
    world.seen.pods[3].current = true;
    world.seen.pods[2].current = true;
    let placed = plan(&world.seen).rooms.remove(0).placement;
    assert_eq!(placed.iter().map(|share| share.pod).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn no_pod_goes_while_a_rollout_runs() {
    let world = world(5, 1_000);
    let plan = plan(&world.seen);
    assert_eq!((plan.replicas.target, plan.replicas.reason), (5, ReplicasReason::RollingOut));
    assert_eq!(plan.drain, [4]);
}

#[test]
fn a_new_pod_must_be_ready_and_known_before_the_next_goes() {
    let mut world = world(5, 1_000);
    world.seen.pods[4].current = true;
    assert_eq!(next(&world), Rollout::Drain(3));
    world.seen.pods[4].load = None;
    assert_eq!(next(&world), Rollout::Await(4), "unknown");
    world.seen.pods[4].ready = false;
    assert_eq!(next(&world), Rollout::Await(4), "not Ready");
    world.seen.pods.remove(4);
    assert_eq!(next(&world), Rollout::Await(4), "not made yet");
}

#[test]
fn a_pod_is_deleted_once_it_is_empty_or_its_drain_is_over() {
    let mut world = world(3, 1_000);
    world.seen.pods[2].ready = false;
    world.seen.pods[2].load.as_mut().unwrap().viewers = 5;
    for (ago, step) in [(64, Rollout::Drain(2)), (65, Rollout::Evict(2))] {
        world.seen.pods[2].draining = Some(start() - SignedDuration::from_secs(ago));
        assert_eq!(next(&world), step);
    }
    world.seen.pods[2].draining = Some(start() - SignedDuration::from_secs(5));
    world.seen.pods[2].load.as_mut().unwrap().viewers = 0;
    assert_eq!(next(&world), Rollout::Evict(2));
}

#[test]
fn broken_pods_are_replaced_first_because_the_new_revision_may_mend_them() {
    let mut world = world(4, 1_000);
    world.seen.pods[1].ready = false;
    world.seen.pods[1].running = false;
    assert_eq!(next(&world), Rollout::Evict(1));
}

#[test]
fn a_paused_or_blind_fleet_does_not_roll() {
    let mut paused = world(3, 1_000);
    paused.seen.fleet.paused = true;
    assert_eq!(next(&paused), Rollout::Held);
    let mut blind = world(3, 1_000);
    blind.seen.pods.iter_mut().for_each(|pod| pod.load = None);
    assert_eq!(next(&blind), Rollout::Held);
}

#[test]
fn an_idle_fleets_only_pod_is_replaced_beside_a_surge_pod_and_not_waited_for_ever() {
    for min in [0, 1] {
        let mut world = world(1, 0);
        world.seen.fleet.replicas.min = min;
        world.seen.fleet.replicas.max = 1;
        let mut replicas = Vec::new();
        for _ in 0..100 {
            let plan = plan(&world.seen);
            world.step(&plan, 10);
            replicas.push(plan.replicas.now);
        }
        replicas.dedup();
        assert!(replicas.starts_with(&[2]) || min == 0, "{replicas:?}");
        assert!(world.seen.pods.iter().all(|pod| pod.current), "min {min}: {replicas:?}");
    }
}
