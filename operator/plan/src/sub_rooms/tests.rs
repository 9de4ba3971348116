use super::*;

fn shares(viewers: &[u32]) -> Vec<Share> {
    (0u32..).zip(viewers).map(|(pod, &viewers)| Share { pod, viewers }).collect()
}

fn room(sub_rooms: u32, before: &[&[u32]]) -> Room {
    let parts =
        (0u32..).zip(before).flat_map(|(pod, subs)| subs.iter().map(move |&sub_room| Part { pod, sub_room }));
    Room { sub_rooms, parts: parts.collect(), ..Room::default() }
}

/// The sub-rooms of each pod; `left` is free on each.
fn laid(room: &Room, viewers: &[u32], left: u64) -> Vec<Vec<u32>> {
    let parts = lay(room, &shares(viewers), &vec![left; viewers.len()]);
    let of = |pod: u32| parts.iter().filter(|part| part.pod == pod).map(|part| part.sub_room).collect();
    (0u32..).zip(viewers).map(|(pod, _)| of(pod)).collect()
}

#[test]
fn pods_hold_whole_sub_rooms_where_these_go_in_evenly() {
    assert_eq!(laid(&room(4, &[]), &[50, 50], 0), [vec![0, 1], vec![2, 3]]);
    assert_eq!(laid(&room(2, &[]), &[25, 25, 25, 25], 0), [vec![0], vec![0], vec![1], vec![1]]);
    assert_eq!(laid(&room(4, &[]), &[100], 0), [vec![0, 1, 2, 3]]);
}

#[test]
fn a_pod_holds_a_whole_sub_room_more_only_where_it_has_the_room() {
    let whole = [vec![0, 1, 2, 3], vec![4, 5, 6], vec![7, 8, 9]];
    assert_eq!(laid(&room(10, &[]), &[100; 3], 20), whole);
    let cut = [vec![0, 1, 2, 3], vec![3, 4, 5, 6], vec![6, 7, 8, 9]];
    assert_eq!(laid(&room(10, &[]), &[100; 3], 5), cut, "full pods");
    let halved = [vec![0, 1], vec![1, 2]];
    assert_eq!(laid(&room(3, &[]), &[100; 2], 1_000), halved, "one audience would be twice another");
}

#[test]
fn a_new_pod_takes_its_part_and_what_is_elsewhere_stays() {
    let before = room(4, &[&[0, 1], &[2, 3]]);
    assert_eq!(laid(&before, &[34, 33, 33], 0), [vec![0, 1], vec![2, 3], vec![1, 3]]);
    let before = room(3, &[&[0, 1], &[1, 2]]);
    assert_eq!(laid(&before, &[34, 33, 33], 0), [vec![0], vec![2], vec![1]]);
}

#[test]
fn the_sub_rooms_of_a_pod_that_went_go_to_the_others() {
    let mut before = room(4, &[&[0], &[1], &[2], &[3]]);
    assert_eq!(laid(&before, &[50, 50], 0), [vec![0, 2], vec![1, 3]]);
    before.parts.iter_mut().for_each(|part| part.pod = 3 - part.pod);
    assert_eq!(laid(&before, &[50, 50], 0), [vec![3, 0], vec![2, 1]].map(sorted));
}

fn sorted(mut subs: Vec<u32>) -> Vec<u32> {
    subs.sort_unstable();
    subs
}

#[test]
fn neither_more_viewers_nor_fuller_pods_move_a_sub_room() {
    let before = room(10, &[&[0, 1, 2, 3], &[4, 5, 6], &[7, 8, 9]]);
    let same = [vec![0, 1, 2, 3], vec![4, 5, 6], vec![7, 8, 9]];
    assert_eq!(laid(&before, &[100; 3], 20), same);
    assert_eq!(laid(&before, &[120; 3], 0), same);
}

#[test]
fn pods_without_viewers_hold_sub_rooms_too() {
    assert_eq!(laid(&room(2, &[]), &[0, 0], 0), [vec![0], vec![1]]);
    let uneven = laid(&room(5, &[]), &[900, 0, 0], 0);
    assert!(uneven.iter().all(|subs| !subs.is_empty()), "{uneven:?}");
}

#[test]
fn a_room_of_one_audience_has_none() {
    for sub_rooms in [0, 1] {
        assert!(lay(&room(sub_rooms, &[]), &shares(&[100, 100]), &[0, 0]).is_empty());
    }
    assert!(lay(&room(4, &[&[0, 1]]), &[], &[]).is_empty(), "nor one without pods");
}
