use jiff::SignedDuration;

use crate::world::{World, fleet, start};
use crate::{Endpoints, Room, Share, plan};

/// A room of 3,000 viewers on pods 0, 1 and 2, a thousand each, all of them in its slice for long.
fn world() -> World {
    let shares = |viewers| (0..3).map(|pod| Share { pod, viewers }).collect();
    let room = Room {
        name: "room".to_owned(),
        expected_viewers: 3_000,
        min_pods: 3,
        hot: true,
        placement: shares(1_000),
        viewers: shares(500),
        endpoints: Endpoints {
            pods: vec![0, 1, 2],
            changed_at: Some(start() - SignedDuration::from_secs(60)),
        },
        ..Room::default()
    };
    World::new(fleet(15_000, 4, 4), 4, vec![room])
}

fn endpoints(world: &World) -> Endpoints {
    plan(&world.seen).rooms.remove(0).endpoints
}

#[test]
fn a_pod_leaves_at_110_per_cent_of_its_share_and_comes_back_under_100() {
    let mut world = world();
    world.seen.rooms[0].viewers[1].viewers = 1_099;
    assert_eq!(endpoints(&world), world.seen.rooms[0].endpoints, "nothing changes");
    world.seen.rooms[0].viewers[1].viewers = 1_100;
    assert_eq!(endpoints(&world), Endpoints { pods: vec![0, 2], changed_at: Some(start()) });

    world.seen.rooms[0].endpoints.pods = vec![0, 2];
    world.seen.rooms[0].viewers[1].viewers = 1_000;
    assert_eq!(endpoints(&world).pods, [0, 2]);
    world.seen.rooms[0].viewers[1].viewers = 999;
    assert_eq!(endpoints(&world).pods, [0, 1, 2]);
}

#[test]
fn a_full_pod_leaves_whatever_its_share() {
    let mut world = world();
    world.seen.pods.pop();
    (world.seen.replicas, world.seen.fleet.replicas.max) = (3, 3);
    world.seen.pods[2].load.as_mut().unwrap().viewers = 14_999;
    assert_eq!(endpoints(&world).pods, [0, 1, 2]);
    world.seen.pods[2].load.as_mut().unwrap().viewers = 15_000;
    assert_eq!(endpoints(&world).pods, [0, 1]);
}

#[test]
fn all_stay_if_all_are_over() {
    let mut world = world();
    for share in &mut world.seen.rooms[0].viewers {
        share.viewers = 1_150;
    }
    // 3,450 viewers need 4,140 places: the shares are 1,380 now.
    assert_eq!(endpoints(&world).pods, [0, 1, 2]);
    world.seen.pods.iter_mut().for_each(|pod| pod.load.as_mut().unwrap().viewers = 15_000);
    assert_eq!(endpoints(&world).pods.len(), plan(&world.seen).rooms[0].placement.len());
}

#[test]
fn a_slice_changes_at_most_once_in_ten_seconds() {
    let mut world = world();
    world.seen.rooms[0].viewers[1].viewers = 1_100;
    for (ago, changed) in [(9, false), (10, true)] {
        let before = start() - SignedDuration::from_secs(ago);
        world.seen.rooms[0].endpoints.changed_at = Some(before);
        let now = endpoints(&world);
        assert_eq!(
            (now.pods.len(), now.changed_at),
            if changed { (2, Some(start())) } else { (3, Some(before)) }
        );
    }
}

#[test]
fn a_pod_that_dies_or_drains_leaves_at_once() {
    for drains in [true, false] {
        let mut world = world();
        world.seen.rooms[0].endpoints.changed_at = Some(start());
        world.seen.pods[1].ready = false;
        world.seen.pods[1].draining = drains.then_some(start());
        assert!(!endpoints(&world).pods.contains(&1));
    }
}

#[test]
fn the_last_pod_is_followed_at_once() {
    let mut world = world();
    world.seen.rooms[0].endpoints = Endpoints { pods: vec![1], changed_at: Some(start()) };
    world.seen.pods[1].terminating = true;
    assert!(!endpoints(&world).pods.is_empty(), "a route on an empty slice refuses everybody");
}

#[test]
fn a_pod_of_unknown_load_stays_as_it_was() {
    let mut world = world();
    world.seen.pods[1].load.as_mut().unwrap().at = start() - SignedDuration::from_secs(16);
    world.seen.rooms[0].viewers[1].viewers = 1_200;
    assert_eq!(endpoints(&world).pods, [0, 1, 2], "in");
    world.seen.rooms[0].endpoints.pods = vec![0, 2];
    assert_eq!(endpoints(&world).pods, [0, 2], "out");
}

#[test]
fn a_few_viewers_are_no_imbalance() {
    let mut world = world();
    let room = &mut world.seen.rooms[0];
    (room.expected_viewers, room.viewers) = (0, vec![Share { pod: 0, viewers: 20 }]);
    assert_eq!(endpoints(&world).pods, [0, 1, 2]);
}

#[test]
fn a_full_pod_leaves_at_once() {
    let mut world = world();
    let rests = Some(start() - SignedDuration::from_secs(1));
    world.seen.rooms[0].endpoints.changed_at = rests;
    world.seen.rooms[0].viewers[2].viewers = 1_100;
    assert_eq!(endpoints(&world).changed_at, rests, "over its share: that can wait");
    world.seen.pods.pop();
    (world.seen.replicas, world.seen.fleet.replicas.max) = (3, 3);
    world.seen.pods[2].load.as_mut().unwrap().viewers = 15_000;
    assert_eq!(endpoints(&world).pods, [0, 1]);
}

#[test]
fn viewers_come_to_the_newest_revision_while_a_rollout_runs_and_while_it_has_room() {
    let mut world = world();
    for pod in &mut world.seen.pods[..2] {
        pod.current = false;
    }
    assert_eq!(endpoints(&world).pods, [2, 3], "pod 1 drains, and pod 0 would send them away again");
    world.seen.rooms[0].viewers = [2, 3].map(|pod| Share { pod, viewers: 1_200 }).to_vec();
    assert_eq!(endpoints(&world).pods, [0], "they are over their share");
    world.seen.rooms[0].viewers.clear();
    world.seen.fleet.paused = true;
    assert_eq!(endpoints(&world).pods, [0, 1, 2], "nobody knows for how long");
}

#[test]
fn a_new_placement_is_followed_at_once() {
    let just_now = Some(start() - SignedDuration::from_secs(1));
    let mut grown = world();
    let room = &mut grown.seen.rooms[0];
    room.placement = vec![Share { pod: 0, viewers: 3_000 }];
    room.endpoints = Endpoints { pods: vec![0], changed_at: just_now };
    assert_eq!(endpoints(&grown), Endpoints { pods: vec![0, 1, 2], changed_at: Some(start()) });
    // The slice names a pod that is another room's.
    let mut moved = world();
    moved.seen.rooms[0].endpoints = Endpoints { pods: vec![0, 1, 3], changed_at: just_now };
    assert_eq!(endpoints(&moved).pods, [0, 1, 2]);
}
