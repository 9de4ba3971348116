use std::sync::Arc;

use danmu_plan::Rollout;
use jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::trials::{pod, room as trial_room, seen, told};

#[test]
fn the_spec_and_the_status_of_a_room_come_in_the_plans_words() {
    let mut finals = (*trial_room(
        "finals",
        json!({
            "expectedViewers": 5, "minPods": 2,
            "schedule": [{"start": "2026-11-01T18:00:00Z", "end": "2026-11-01T22:00:00Z", "expectedViewers": 9}],
        }),
    ))
    .clone();
    let status = json!({
        "placement": [
            {"pod": "danmu-default-1", "viewers": 8}, {"pod": "danmu-default-0", "viewers": 7},
            {"pod": "danmu-other-2", "viewers": 6},
        ],
        "conditions": [],
    });
    finals.status = Some(serde_json::from_value(status).unwrap());
    let mut seen = seen(json!({}), vec![Arc::new(finals)], 2);
    seen.loads.insert("danmu-default-1-uid".to_owned(), told(&[("finals", 4), ("quiet", 1)]));
    let observation = observe(&seen);
    let room = &observation.rooms[0];
    assert_eq!((room.expected_viewers, room.min_pods, room.schedule[0].expected_viewers), (5, 2, 9));
    assert_eq!(room.placement, [Share { pod: 0, viewers: 7 }, Share { pod: 1, viewers: 8 }]);
    assert!(room.hot);
    assert_eq!(room.viewers, [Share { pod: 1, viewers: 4 }]);
    assert_eq!(observation.pods[1].load.unwrap().viewers, 5);
}

#[test]
fn a_fleet_without_a_statefulset_has_no_replicas_yet() {
    let mut seen = seen(json!({}), Vec::new(), 0);
    seen.live.clear();
    let observation = observe(&seen);
    assert_eq!((observation.replicas, observation.replicas_since), (0, seen.now));
}

#[test]
fn pods_that_a_deleted_set_left_behind_are_kept() {
    let mut seen = seen(json!({}), Vec::new(), 3);
    seen.live.clear();
    let observation = observe(&seen);
    assert_eq!(observation.replicas, 3);
    assert_eq!(danmu_plan::plan(&observation).replicas.now, 3, "whoever is on them is moved first");
}

#[test]
fn a_pod_of_an_older_revision_is_outdated_and_one_that_crashed_does_not_run() {
    let mut seen = seen(json!({"replicas": {"min": 2}}), Vec::new(), 2);
    let mut old = pod(1);
    old.metadata.labels.as_mut().unwrap().insert("controller-revision-hash".to_owned(), "old".to_owned());
    let mut crashed = pod(0);
    let status = crashed.status.as_mut().unwrap();
    status.container_statuses.as_mut().unwrap()[0].state.as_mut().unwrap().running = None;
    status.conditions.as_mut().unwrap()[0].status = "False".to_owned();
    seen.pods = vec![Arc::new(crashed), Arc::new(old)];
    let observation = observe(&seen);
    let [crashed, old] = &observation.pods[..] else { panic!("two pods") };
    assert_eq!((crashed.running, crashed.ready, crashed.current), (false, false, true));
    assert_eq!((old.running, old.ready, old.current), (true, true, false));
    assert!(!matches!(danmu_plan::plan(&observation).rollout, Rollout::Done));
}

#[test]
fn what_a_former_pod_of_the_name_said_is_not_the_new_ones() {
    let mut seen = seen(json!({}), Vec::new(), 1);
    let mut new = pod(0);
    new.metadata.uid = Some("another".to_owned());
    seen.pods = vec![Arc::new(new)];
    assert_eq!(observe(&seen).pods[0].load, None);
}

/// What `danmu-operator plan` reads is what a reconcile had.
#[test]
fn an_observation_is_saved_and_read_again() {
    let rooms = vec![trial_room("finals", json!({"expectedViewers": 9000}))];
    let mut seen = seen(json!({}), rooms, 2);
    seen.now += SignedDuration::from_millis(5);
    let observation = observe(&seen);
    let saved = serde_json::to_string(&observation).unwrap();
    let read: Observation = serde_json::from_str(&saved).unwrap();
    assert_eq!(danmu_plan::plan(&read), danmu_plan::plan(&observation));
}
