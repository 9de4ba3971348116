use std::sync::Arc;

use danmu_crds::RoomStatus;
use jiff::SignedDuration;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::{
    observe::observe,
    report::{Edge, ViewerCounts, edges, of_the_room, room, routing},
    seen::{Seen, Told},
    trials::{room as trial_room, seen, told},
};

fn spec() -> Value {
    json!({"startedAt": "2026-11-01T18:00:00Z", "recording": {}, "shedding": {"viewersAbove": 1000}})
}

fn fleet() -> Value {
    json!({"redis": {"url": "redis://redis"}})
}

/// The stage that each pod told last; `None` of one that was not heard.
fn say(seen: &mut Seen, stages: [Option<u8>; 2]) {
    for (pod, stage) in stages.into_iter().enumerate() {
        let uid = format!("danmu-default-{pod}-uid");
        let Some(stage) = stage else {
            seen.loads.remove(&uid);
            continue;
        };
        let shedding = [("finals".to_owned(), stage)].into_iter().filter(|(_, stage)| *stage > 0).collect();
        seen.loads.insert(uid, Arc::new(Told { shedding, at: seen.now, ..(*told(&[])).clone() }));
    }
}

/// What is told of the room now, and kept as the API would; ten seconds pass.
fn tell(seen: &mut Seen) -> (RoomStatus, Vec<Edge>) {
    let observation = observe(seen);
    let plan = danmu_plan::plan(&observation);
    let shared = routing(seen, &observation.fleet.name);
    let manifest = Arc::clone(&seen.rooms[0]);
    let status = room(seen, &observation, &manifest, &plan.rooms[0], &shared, &mut ViewerCounts::default());
    let old = manifest.status.clone().unwrap_or_default().conditions;
    let edges = edges(&of_the_room(&old), &of_the_room(&status.conditions), &["Shedding"]);
    seen.rooms =
        vec![Arc::new(danmu_crds::DanmuRoom { status: Some(status.clone()), ..(*manifest).clone() })];
    seen.now += SignedDuration::from_secs(10);
    (status, edges)
}

fn condition(status: &RoomStatus, kind: &str) -> Option<(String, String)> {
    let found = status.conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((found.status.clone(), found.reason.clone()))
}

fn is(status: &str, reason: &str) -> Option<(String, String)> {
    Some((status.to_owned(), reason.to_owned()))
}

#[test]
fn the_furthest_stage_of_any_pod_is_the_rooms() {
    let mut seen = seen(fleet(), vec![trial_room("finals", spec())], 2);
    for (stages, wanted) in [
        ([Some(0), Some(0)], is("False", "Calm")),
        ([Some(1), Some(0)], is("True", "Sampling")),
        ([Some(1), Some(2)], is("True", "LongerTick")),
        ([Some(3), Some(2)], is("True", "Fetching")),
        ([Some(9), Some(0)], is("True", "Fetching")),
        ([Some(0), Some(0)], is("False", "Calm")),
    ] {
        say(&mut seen, stages);
        assert_eq!(condition(&tell(&mut seen).0, "Shedding"), wanted, "{stages:?}");
    }
}

#[test]
fn a_stage_does_not_end_because_a_pod_is_not_heard() {
    let mut seen = seen(fleet(), vec![trial_room("finals", spec())], 2);
    say(&mut seen, [Some(2), Some(2)]);
    tell(&mut seen);
    seen.now += SignedDuration::from_secs(60);
    assert_eq!(
        condition(&tell(&mut seen).0, "Shedding"),
        is("True", "LongerTick"),
        "nobody answers any more"
    );
    say(&mut seen, [Some(0), None]);
    assert_eq!(
        condition(&tell(&mut seen).0, "Shedding"),
        is("True", "LongerTick"),
        "a new operator heard one"
    );
    say(&mut seen, [Some(3), None]);
    assert_eq!(condition(&tell(&mut seen).0, "Shedding"), is("True", "Fetching"), "it may go on");
    say(&mut seen, [Some(0), Some(0)]);
    assert_eq!(condition(&tell(&mut seen).0, "Shedding"), is("False", "Calm"));
}

#[test]
fn going_up_is_a_warning_that_says_what_to_do_and_going_back_is_not() {
    let mut seen = seen(fleet(), vec![trial_room("finals", spec())], 2);
    say(&mut seen, [Some(0), Some(0)]);
    assert_eq!(tell(&mut seen).1, [], "that all is well is no news");
    let mut last = None;
    for (stage, warning, reason) in [
        (1, true, "Sampling"),
        (3, true, "Fetching"),
        (2, false, "LongerTick"),
        (1, false, "Sampling"),
        (0, false, "Calm"),
        (2, true, "LongerTick"),
    ] {
        say(&mut seen, [Some(stage), Some(0)]);
        let (status, edges) = tell(&mut seen);
        let [edge] = &edges[..] else { panic!("{stage}: {edges:?}") };
        assert_eq!((edge.warning, edge.reason.as_str()), (warning, reason));
        assert!(!warning || edge.note.contains("spec.shedding"), "{}", edge.note);
        let since = status.conditions.iter().find(|it| it.type_ == "Shedding").unwrap();
        let since = (since.status.clone(), since.last_transition_time.clone());
        let flipped = last.as_ref().is_none_or(|(status, _)| *status != since.0);
        assert!(
            last.is_none_or(|(_, time)| (time != since.1) == flipped),
            "{stage}: its time moves on a flip"
        );
        last = Some(since);
        let (again, edges) = tell(&mut seen);
        assert_eq!((again, edges), (status, Vec::new()), "told once");
    }
}

#[test]
fn rooms_that_never_shed_and_keep_nothing_tell_nothing_of_it() {
    let mut seen = seen(fleet(), vec![trial_room("finals", json!({}))], 2);
    say(&mut seen, [Some(2), Some(2)]);
    let (status, edges) = tell(&mut seen);
    assert_eq!((condition(&status, "Shedding"), condition(&status, "Recorded")), (None, None));
    assert_eq!((status.conditions.len(), edges), (3, Vec::new()));
}

#[test]
fn a_recording_that_each_pod_keeps_for_itself_is_told_with_what_to_do() {
    for of_room in [spec(), json!({"mode": "OnDemand"})] {
        let mut without = seen(json!({}), vec![trial_room("finals", of_room.clone())], 2);
        let (status, edges) = tell(&mut without);
        assert_eq!(condition(&status, "Recorded"), is("False", "NoRedis"));
        assert!(edges.len() == 1 && edges[0].warning && edges[0].note.contains("spec.redis"), "{edges:?}");
        assert_eq!(tell(&mut without).1, [], "once");
        let mut with = seen(fleet(), vec![trial_room("finals", of_room)], 2);
        let (status, edges) = tell(&mut with);
        assert_eq!((condition(&status, "Recorded"), edges), (is("True", "InRedis"), Vec::new()));
    }
}

#[test]
fn sub_rooms_stand_beside_the_pods_that_hold_them_and_are_read_again() {
    let of_room = json!({"minPods": 2, "subRooms": 3, "expectedViewers": 9000});
    let mut seen = seen(fleet(), vec![trial_room("finals", of_room.clone())], 2);
    let (status, _) = tell(&mut seen);
    let placed: Vec<(&str, &[u32])> =
        status.placement.iter().map(|share| (share.pod.as_str(), &share.sub_rooms[..])).collect();
    assert_eq!(placed, [("danmu-default-0", &[0, 1][..]), ("danmu-default-1", &[1, 2][..])]);
    let text = serde_json::to_value(&status).unwrap();
    assert_eq!(text["placement"][1]["subRooms"], json!([1, 2]));
    let observed = observe(&seen).rooms.remove(0);
    assert_eq!(observed.sub_rooms, 3);
    assert_eq!(observed.parts, danmu_plan::plan(&observe(&seen)).rooms[0].parts);
    assert_eq!(tell(&mut seen).0, status, "told word for word");
    seen.rooms = vec![trial_room("finals", json!({"subRooms": 3}))];
    assert!(tell(&mut seen).0.placement.is_empty(), "a cold room's are everywhere");
    assert_eq!(seen.rooms[0].name_any(), "finals");
}
