use jiff::SignedDuration;

use crate::world::{World, fleet, start};
use crate::{Placed, Room, RoomPlan, Share, Source, Window, plan};

/// A fleet of three pods of 15,000 viewers with this one room.
fn planned(room: Room, change: impl FnOnce(&mut World)) -> RoomPlan {
    let mut world = World::new(fleet(15_000, 3, 50), 3, vec![room]);
    change(&mut world);
    plan(&world.seen).rooms.remove(0)
}

fn room() -> Room {
    Room { name: "room".to_owned(), ..Room::default() }
}

fn window(from_minutes: i64, expected_viewers: u32) -> Window {
    let at = |minutes| start() + SignedDuration::from_mins(minutes);
    Window { start: at(from_minutes), end: at(from_minutes + 60), expected_viewers }
}

fn counted(viewers: u32) -> Vec<Share> {
    vec![Share { pod: 0, viewers }]
}

#[test]
fn a_room_needs_what_is_expected() {
    let planned = planned(Room { expected_viewers: 800, ..room() }, |_| {});
    assert_eq!((planned.demand, planned.source, planned.hot), (800, Source::Expected, false));
}

#[test]
fn a_window_that_runs_says_what_to_expect_even_if_less() {
    for viewers in [100, 9_000] {
        let room = Room { expected_viewers: 800, schedule: vec![window(-10, viewers)], ..room() };
        let planned = planned(room, |_| {});
        assert_eq!((planned.demand, planned.source), (viewers, Source::Scheduled));
    }
}

#[test]
fn a_window_counts_from_the_warm_up_on_and_not_after_its_end() {
    for (from, demand) in [(6, 800), (5, 9_000), (-59, 9_000), (-60, 800)] {
        let room = Room { expected_viewers: 800, schedule: vec![window(from, 9_000)], ..room() };
        assert_eq!(planned(room, |_| {}).demand, demand, "{from} minutes from now");
    }
    let low = Room { expected_viewers: 800, schedule: vec![window(5, 10)], ..room() };
    assert_eq!(planned(low, |_| {}).demand, 800, "nobody is sent away before a quiet hour");
}

#[test]
fn counted_viewers_need_headroom_and_win_if_more() {
    let planned = planned(Room { expected_viewers: 800, viewers: counted(1_000), ..room() }, |_| {});
    assert_eq!((planned.demand, planned.observed, planned.source), (1_200, 1_000, Source::Observed));
}

#[test]
fn a_planned_number_stands_until_the_counted_one_is_five_per_cent_off() {
    let before = vec![Share { pod: 0, viewers: 6_000 }];
    for (now, demand) in [(5_000, 6_000), (5_200, 6_000), (4_800, 6_000), (5_300, 6_360), (4_700, 5_640)] {
        let room = Room { hot: true, placement: before.clone(), viewers: counted(now), ..room() };
        assert_eq!(planned(room, |_| {}).demand, demand, "{now} viewers");
    }
}

#[test]
fn a_room_is_hot_from_its_size_on_and_cold_under_sixty_per_cent_of_it() {
    for (before, viewers, hot) in
        [(false, 1_999, false), (false, 2_000, true), (true, 1_200, true), (true, 1_199, false)]
    {
        let planned = planned(Room { hot: before, expected_viewers: viewers, ..room() }, |_| {});
        assert_eq!(planned.hot, hot, "{viewers} viewers, hot before: {before}");
    }
    assert!(planned(Room { min_pods: 2, ..room() }, |_| {}).hot, "spread for safety before any load");
}

#[test]
fn a_room_whose_viewers_fetch_is_never_hot_and_cold_at_once() {
    for hot in [false, true] {
        let replay = Room { on_demand: true, hot, expected_viewers: 90_000, min_pods: 2, ..room() };
        let planned = planned(replay, |_| {});
        assert!(!planned.hot && planned.placement.is_empty(), "{planned:?}");
    }
}

#[test]
fn the_largest_rooms_are_hot_when_there_are_too_many() {
    let rooms = [("a", 3_000), ("b", 5_000), ("c", 4_000)].map(|(name, expected_viewers)| Room {
        name: name.to_owned(),
        expected_viewers,
        ..Room::default()
    });
    let mut world = World::new(fleet(15_000, 3, 50), 3, rooms.to_vec());
    world.seen.fleet.max_hot_rooms = 2;
    let hot = |world: &World| plan(&world.seen).rooms.into_iter().map(|room| room.hot).collect::<Vec<_>>();
    assert_eq!(hot(&world), [false, true, true]);
    assert_eq!(plan(&world.seen).rooms[0].placed, Placed::TooManyHotRooms);
    // Hot ones do not give way to one that is little larger.
    world.step(&plan(&world.seen), 5);
    world.seen.rooms[0].expected_viewers = 4_500;
    assert_eq!(hot(&world), [false, true, true]);
    world.seen.rooms[0].expected_viewers = 5_500;
    assert_eq!(hot(&world), [true, true, false]);
}

#[test]
fn a_room_stays_hot_where_no_pod_has_told_its_load_yet() {
    let before = vec![Share { pod: 0, viewers: 4_000 }, Share { pod: 1, viewers: 4_000 }];
    let planned = planned(Room { hot: true, placement: before.clone(), ..room() }, |world| {
        world.seen.pods.iter_mut().for_each(|pod| pod.load = None);
    });
    assert_eq!((planned.hot, planned.demand, planned.placement), (true, 8_000, before));
}

#[test]
fn viewers_of_unlisted_rooms_need_room_too() {
    let mut world = World::new(fleet(1_000, 1, 50), 1, Vec::new());
    world.seen.pods[0].load.as_mut().unwrap().viewers = 2_000;
    let plan = plan(&world.seen);
    assert_eq!((plan.demand, plan.replicas.target), (2_400, 3));
}
