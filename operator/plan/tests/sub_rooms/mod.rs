//! What holds for the sub-rooms of any room.

use std::collections::BTreeSet;

use danmu_plan::{Observation, Part, Room, RoomPlan, plan};
use proptest::prelude::*;

use crate::{any_fleet, world};

fn pods_of(parts: &[Part], sub_room: u32) -> BTreeSet<u32> {
    parts.iter().filter(|part| part.sub_room == sub_room).map(|part| part.pod).collect()
}

fn on(parts: &[Part], pod: u32) -> BTreeSet<u32> {
    parts.iter().filter(|part| part.pod == pod).map(|part| part.sub_room).collect()
}

fn pods(room: &RoomPlan) -> BTreeSet<u32> {
    room.placement.iter().map(|share| share.pod).collect()
}

/// A fleet with one room that is on `pods` pods at least.
fn one_room(sub_rooms: u32, viewers: u32, min_pods: u32) -> Observation {
    let room =
        Room { name: "finals".to_owned(), expected_viewers: viewers, min_pods, sub_rooms, ..Room::default() };
    let mut seen = world::World::new(world::fleet(1_000, 40, 40), 40, vec![room]).seen;
    seen.fleet.hot_room_viewers = 1;
    seen
}

fn keep(seen: &mut Observation, planned: &RoomPlan) {
    let room = &mut seen.rooms[0];
    room.hot = planned.hot;
    room.placement.clone_from(&planned.placement);
    room.parts.clone_from(&planned.parts);
    room.endpoints = planned.endpoints.clone();
}

proptest! {
    #[test]
    fn every_sub_room_has_a_pod_and_every_pod_a_sub_room(
        seen in any_fleet(),
        numbers in prop::collection::vec(0..80u32, 10),
        before in prop::collection::vec((0..14u32, 0..70u32), 0..30),
    ) {
        let mut seen = seen;
        for (room, number) in seen.rooms.iter_mut().zip(numbers) {
            room.sub_rooms = number;
            room.parts = before.iter().map(|&(pod, sub_room)| Part { pod, sub_room }).collect();
        }
        for room in plan(&seen).rooms {
            let asked = seen.rooms.iter().find(|asked| asked.name == room.name).expect("a room of the fleet");
            let number = asked.sub_rooms.min(64);
            if !room.hot || number < 2 || room.placement.is_empty() {
                prop_assert!(room.parts.is_empty());
                continue;
            }
            prop_assert!(room.parts.is_sorted_by(|a, b| a < b), "{:?}", room.parts);
            let held: BTreeSet<u32> = room.parts.iter().map(|part| part.pod).collect();
            prop_assert_eq!(held, pods(&room));
            let there: BTreeSet<u32> = room.parts.iter().map(|part| part.sub_room).collect();
            prop_assert_eq!(there, (0..number).collect::<BTreeSet<u32>>());
            prop_assert!(room.parts.len() < number as usize + room.placement.len(), "{:?}", room.parts);
        }
    }

    #[test]
    fn a_sub_room_is_on_as_few_pods_as_its_share_asks_for(number in 2..65u32, viewers in 100..20_000u32, min_pods in 1..20u32) {
        let room = &plan(&one_room(number, viewers, min_pods)).rooms[0];
        let count = u32::try_from(room.placement.len()).expect("few pods");
        for sub_room in 0..number {
            let on = u32::try_from(pods_of(&room.parts, sub_room).len()).expect("few pods");
            prop_assert!(on <= count.div_ceil(number) + 1, "{sub_room} on {on} of {count} pods");
            if number % count == 0 || count % number == 0 {
                prop_assert_eq!(on, (count / number).max(1), "whole pods or whole sub-rooms");
            }
        }
    }

    #[test]
    fn as_long_as_its_pods_stay_no_sub_room_moves(
        number in 2..65u32,
        viewers in (100..20_000u32, 100..20_000u32),
        min_pods in 1..20u32,
        others in 0..900u32,
    ) {
        let mut seen = one_room(number, viewers.0, min_pods);
        let before = plan(&seen).rooms.remove(0);
        keep(&mut seen, &before);
        seen.rooms[0].expected_viewers = viewers.1;
        for pod in &mut seen.pods {
            pod.load = pod.load.map(|load| danmu_plan::Load { viewers: others, ..load });
        }
        let after = plan(&seen).rooms.remove(0);
        prop_assert!(pods(&before) != pods(&after) || before.parts == after.parts);
    }

    /// A pod that takes a sub-room has none of its own that had to go, unless to a pod where that already was.
    #[test]
    fn when_pods_come_or_go_sub_rooms_stay_where_they_can(
        numbers in (2..65u32, 2..65u32),
        viewers in (100..20_000u32, 100..20_000u32),
        min_pods in (1..20u32, 1..20u32),
        gone in any::<prop::sample::Index>(),
    ) {
        let mut seen = one_room(numbers.0, viewers.0, min_pods.0);
        let before = plan(&seen).rooms.remove(0);
        keep(&mut seen, &before);
        let room = &mut seen.rooms[0];
        (room.sub_rooms, room.expected_viewers, room.min_pods) = (numbers.1, viewers.1, min_pods.1);
        let gone = before.placement[gone.index(before.placement.len())].pod;
        seen.pods.retain(|pod| pod.ordinal != gone);
        let after = plan(&seen).rooms.remove(0);
        for &part in after.parts.iter().filter(|part| !before.parts.contains(part)) {
            let away = on(&before.parts, part.pod).into_iter().filter(|&sub| sub < numbers.1);
            for sub in away.filter(|&sub| !on(&after.parts, part.pod).contains(&sub)) {
                let (was, is) = (pods_of(&before.parts, sub), pods_of(&after.parts, sub));
                prop_assert!(is.is_subset(&was), "{} took {} and gave {sub} to {is:?}, was {was:?}", part.pod, part.sub_room);
            }
        }
    }
}
