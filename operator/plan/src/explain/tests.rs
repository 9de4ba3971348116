use crate::world::{World, fleet};
use crate::{Room, plan};

#[test]
fn the_reasons_read_as_sentences() {
    let room =
        |name: &str, expected_viewers| Room { name: name.to_owned(), expected_viewers, ..Room::default() };
    let mut world = World::new(fleet(15_000, 1, 8), 6, vec![room("worlds-final", 80_000), room("quiet", 10)]);
    world.seen.pods[2].load = None;
    let plan = plan(&world.seen);
    assert_eq!(
        plan.reasons(&world.seen.fleet),
        [
            "replicas 6: 80010 viewers need 6",
            "the load of danmu-default-2 is unknown: it keeps its rooms and gets no more",
            "no pod has room for 5585 of 80010 viewers",
            "worlds-final: 80000 viewers (expected) on danmu-default-0..1, 3..5, 16000 each; 5585 fit only on pods of unknown load",
        ]
    );
}

#[test]
fn drains_and_their_end_are_told() {
    let room = Room { name: "room".to_owned(), expected_viewers: 10, ..Room::default() };
    let mut world = World::new(fleet(1_000, 1, 8), 5, vec![room]);
    world.seen.pods[1].draining = Some(world.seen.now);
    world.seen.fleet.replicas.min = 3;
    let lines = plan(&world.seen).reasons(&world.seen.fleet);
    assert!(lines.contains(&"danmu-default-3..4 drains".to_owned()), "{lines:#?}");
    assert!(lines.contains(&"danmu-default-1 is needed again and stops draining".to_owned()), "{lines:#?}");
    assert!(
        lines[0].starts_with("replicas 3 (now 5, until the rest is empty): the fleet's minimum"),
        "{lines:#?}"
    );
}
