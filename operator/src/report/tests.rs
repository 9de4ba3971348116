use std::sync::Arc;

use danmu_crds::{FleetStatus, RoomStatus};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde_json::json;

use super::*;
use crate::{
    kind::Kind,
    names,
    observe::observe,
    seen::Seen,
    trials::{decided, gateway, given_back, room as trial_room, seen, told},
};

fn statuses(seen: &Seen, told: &mut ViewerCounts) -> (FleetStatus, Vec<RoomStatus>) {
    let observation = observe(seen);
    let plan = danmu_plan::plan(&observation);
    let shared = routing(seen, &observation.fleet.name);
    let fleet = fleet(seen, &observation, &plan, &shared, None, told);
    let of_room = |room_plan: &danmu_plan::RoomPlan| {
        let manifest = seen.rooms.iter().find(|room| room.name_any() == room_plan.name).unwrap();
        room(seen, &observation, manifest, room_plan, &shared, told)
    };
    let rooms = plan.rooms.iter().map(of_room).collect();
    (fleet, rooms)
}

fn condition<'a>(conditions: &'a [Condition], kind: &str) -> (&'a str, &'a str) {
    let found = conditions.iter().find(|condition| condition.type_ == kind).unwrap();
    (found.status.as_str(), found.reason.as_str())
}

/// Keeps the statuses, as the API would.
fn kept(seen: &mut Seen, fleet: FleetStatus, rooms: Vec<RoomStatus>) {
    seen.fleet = Arc::new(danmu_crds::DanmuFleet { status: Some(fleet), ..(*seen.fleet).clone() });
    for (room, status) in seen.rooms.iter_mut().zip(rooms) {
        *room = Arc::new(danmu_crds::DanmuRoom { status: Some(status), ..(**room).clone() });
    }
}

/// What the gateway's controller says of each route.
fn accept(seen: &mut Seen, status: &str) {
    for live in seen.live.iter_mut().filter(|live| live.kind == Kind::HttpRoute) {
        let mut body = serde_json::to_value(&*live.object).unwrap();
        body["metadata"]["generation"] = json!(1);
        let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "NotAllowedByListeners", "message": "no", "observedGeneration": 1});
        body["status"] = json!({"parents": [{
            "parentRef": {"name": "public"},
            "conditions": [condition("Accepted", status), condition("ResolvedRefs", "True")],
        }]});
        live.object = Arc::new(serde_json::from_value(body).unwrap());
    }
}

fn hot() -> Seen {
    seen(gateway(), vec![trial_room("finals", json!({"expectedViewers": 9000}))], 1)
}

#[test]
fn a_room_tells_its_url_once_its_own_route_is_accepted() {
    let mut seen = hot();
    let (_, rooms) = statuses(&seen, &mut ViewerCounts::default());
    assert_eq!(
        (rooms[0].url.as_deref(), condition(&rooms[0].conditions, "Routed")),
        (None, ("False", "RouteMissing"))
    );
    let (.., objects) = decided(&seen);
    given_back(&mut seen, &objects);
    let (_, rooms) = statuses(&seen, &mut ViewerCounts::default());
    assert_eq!(
        (rooms[0].url.as_deref(), condition(&rooms[0].conditions, "Routed")),
        (None, ("False", "RoutePending"))
    );
    accept(&mut seen, "False");
    let (_, rooms) = statuses(&seen, &mut ViewerCounts::default());
    assert_eq!(
        (rooms[0].url.as_deref(), condition(&rooms[0].conditions, "Routed")),
        (None, ("False", "RouteRefused"))
    );
    accept(&mut seen, "True");
    let (fleet, rooms) = statuses(&seen, &mut ViewerCounts::default());
    assert_eq!(rooms[0].url.as_deref(), Some("wss://live.example.com/rooms/finals/ws?room=finals"));
    for (kind, wanted) in
        [("Placed", ("True", "Fits")), ("Routed", ("True", "Accepted")), ("Ready", ("True", "Serving"))]
    {
        assert_eq!(condition(&rooms[0].conditions, kind), wanted);
    }
    assert_eq!(rooms[0].placement[0].pod, "danmu-default-0");
    assert_eq!(condition(&fleet.conditions, "Ready"), ("True", "Serving"));
    assert_eq!((fleet.replicas, fleet.ready_replicas), (1, 1));
    assert_eq!(fleet.selector, "app.kubernetes.io/name=danmu-server,danmu.live/fleet=default");
}

#[test]
fn a_route_of_an_older_form_is_not_taken_for_accepted() {
    let mut seen = hot();
    let (.., objects) = decided(&seen);
    given_back(&mut seen, &objects);
    accept(&mut seen, "True");
    for live in seen.live.iter_mut().filter(|live| live.kind == Kind::HttpRoute) {
        let mut newer = (*live.object).clone();
        newer.metadata.generation = Some(2);
        live.object = Arc::new(newer);
    }
    assert_eq!(routing(&seen, &names::room("finals")).reason, "RoutePending");
}

#[test]
fn cold_rooms_share_the_fleets_route_and_those_of_a_fleet_without_routes_have_none() {
    let rooms = vec![trial_room("quiet", json!({}))];
    let mut shared = seen(gateway(), rooms.clone(), 1);
    let (.., objects) = decided(&shared);
    given_back(&mut shared, &objects);
    accept(&mut shared, "True");
    let cases: [(Seen, Option<&str>, (&str, &str)); 3] = [
        (shared, Some("wss://live.example.com/rooms/quiet/ws?room=quiet"), ("True", "SharedRoute")),
        (seen(json!({}), rooms.clone(), 1), None, ("True", "NoRoute")),
        (
            Seen { host_taken: Some("a".to_owned()), ..seen(gateway(), rooms, 1) },
            None,
            ("False", "HostnameTaken"),
        ),
    ];
    for (seen, url, routed) in cases {
        let (_, rooms) = statuses(&seen, &mut ViewerCounts::default());
        assert_eq!((rooms[0].url.as_deref(), condition(&rooms[0].conditions, "Routed")), (url, routed));
        assert!(rooms[0].placement.is_empty() && rooms[0].viewers.is_none());
    }
}

#[test]
fn a_status_that_was_told_is_told_again_word_for_word_while_viewers_come_and_go() {
    let mut seen = hot();
    let (.., objects) = decided(&seen);
    given_back(&mut seen, &objects);
    accept(&mut seen, "True");
    let mut counts = ViewerCounts::default();
    for viewers in [4000, 4040, 3950] {
        let load = Arc::new(crate::seen::Told { at: seen.now, ..(*told(&[("finals", viewers)])).clone() });
        seen.loads.insert("danmu-default-0-uid".to_owned(), load);
        let (fleet, rooms) = statuses(&seen, &mut counts);
        if seen.fleet.status.is_some() {
            assert_eq!(
                (seen.fleet.status.as_ref(), seen.rooms[0].status.as_ref()),
                (Some(&fleet), Some(&rooms[0]))
            );
        }
        assert_eq!(rooms[0].viewers, Some(4000));
        kept(&mut seen, fleet, rooms);
        seen.now += SignedDuration::from_secs(120);
    }
}

#[test]
fn viewers_are_told_again_after_a_minute_and_a_tenth() {
    let mut seen = hot();
    let mut counts = ViewerCounts::default();
    let mut tell = |seen: &mut Seen, seconds: i64, viewers: u32| {
        seen.now += SignedDuration::from_secs(seconds);
        seen.loads.insert("danmu-default-0-uid".to_owned(), told(&[("finals", viewers)]));
        let (fleet, rooms) = statuses(seen, &mut counts);
        let told = rooms[0].viewers;
        kept(seen, fleet, rooms);
        told
    };
    assert_eq!(tell(&mut seen, 0, 0), Some(0));
    assert_eq!(tell(&mut seen, 1, 5678), Some(5600), "the first who come");
    assert_eq!(tell(&mut seen, 30, 9999), Some(5600), "too soon");
    assert_eq!(tell(&mut seen, 31, 5900), Some(5600), "too little");
    assert_eq!(tell(&mut seen, 1, 9999), Some(9900));
}

#[test]
fn a_conditions_time_moves_only_when_it_flips() {
    let mut seen = hot();
    let (fleet, rooms) = statuses(&seen, &mut ViewerCounts::default());
    let first = rooms[0].conditions.clone();
    kept(&mut seen, fleet, rooms);
    seen.now += SignedDuration::from_secs(10);
    let (.., objects) = decided(&seen);
    given_back(&mut seen, &objects);
    let load = Arc::new(crate::seen::Told { at: seen.now, ..(*told(&[])).clone() });
    seen.loads.insert("danmu-default-0-uid".to_owned(), load);
    accept(&mut seen, "True");
    let (_, rooms) = statuses(&seen, &mut ViewerCounts::default());
    let time = |conditions: &[Condition], kind: &str| {
        conditions.iter().find(|condition| condition.type_ == kind).unwrap().last_transition_time.clone()
    };
    assert_eq!(time(&first, "Placed"), time(&rooms[0].conditions, "Placed"));
    assert_ne!(time(&first, "Routed"), time(&rooms[0].conditions, "Routed"));
    let edges = edges(&first, &rooms[0].conditions, &[]);
    let told: Vec<(&str, bool)> = edges.iter().map(|edge| (edge.reason.as_str(), edge.warning)).collect();
    assert_eq!(told, [("Accepted", false), ("Serving", false)]);
}

#[test]
fn trouble_of_a_fleet_says_what_to_do() {
    let degraded = |seen: &Seen| {
        let (fleet, _) = statuses(seen, &mut ViewerCounts::default());
        let found = fleet.conditions.iter().find(|condition| condition.type_ == "Degraded").unwrap().clone();
        (found.status, found.reason, found.message)
    };
    let mut silent = seen(json!({}), Vec::new(), 2);
    silent.loads.clear();
    let (status, reason, message) = degraded(&silent);
    assert_eq!((status.as_str(), reason.as_str()), ("True", "LoadsUnknown"));
    assert!(message.contains("danmu-default-0, danmu-default-1"), "{message}");
    let jwks = json!({"auth": {"secretRef": {"name": "tokens"}, "jwks": {"url": "https://id.example.com/"}}});
    let mut twice = seen(jwks, Vec::new(), 1);
    assert_eq!(degraded(&twice).1, "AsPlanned");
    twice.keys.jwks = true;
    let (status, reason, message) = degraded(&twice);
    assert_eq!((status.as_str(), reason.as_str()), ("True", "TwoKeySets"));
    assert!(message.contains("take one of the two away"), "{message}");
    let small = json!({"replicas": {"min": 1, "max": 1}});
    let full = seen(small, vec![trial_room("finals", json!({"expectedViewers": 99_000}))], 1);
    let (status, reason, message) = degraded(&full);
    assert_eq!((status.as_str(), reason.as_str()), ("True", "FleetFull"));
    assert!(message.contains("raise it"), "{message}");
    let (fleet, rooms) = statuses(&full, &mut ViewerCounts::default());
    assert_eq!(condition(&rooms[0].conditions, "Ready"), ("False", "FleetFull"));
    assert_eq!(condition(&fleet.conditions, "Paused"), ("False", "Active"));
    let paused = seen(json!({"paused": true}), Vec::new(), 1);
    let (fleet, _) = statuses(&paused, &mut ViewerCounts::default());
    assert_eq!(condition(&fleet.conditions, "Paused"), ("True", "Paused"));
}

#[test]
fn first_news_are_told_only_if_they_are_bad() {
    let (fleet, rooms) = statuses(&hot(), &mut ViewerCounts::default());
    assert_eq!(edges(&[], &rooms[0].conditions, &[]), [], "a route that is being made is no news");
    let full = seen(
        json!({"replicas": {"max": 1}}),
        vec![trial_room("huge", json!({"expectedViewers": 99_000}))],
        1,
    );
    let (_, rooms) = statuses(&full, &mut ViewerCounts::default());
    let told = edges(&[], &rooms[0].conditions, &[]);
    assert_eq!(
        told.iter().map(|edge| (edge.reason.as_str(), edge.warning)).collect::<Vec<_>>(),
        [("FleetFull", true)]
    );
    assert!(
        edges(&[], &fleet.conditions, &["Degraded", "Paused", "Progressing"]).iter().all(|edge| edge.warning)
    );
    assert_eq!(edges(&fleet.conditions, &fleet.conditions, &["Degraded"]), []);
}

#[test]
fn two_digits_are_kept() {
    let told: Vec<u32> = [0, 7, 99, 100, 12_345, u32::MAX].map(two_digits).to_vec();
    assert_eq!(told, [0, 7, 99, 100, 12_000, 4_200_000_000]);
}

#[test]
fn a_rollout_is_told_with_the_pod_it_is_at() {
    let mut seen = seen(json!({"replicas": {"min": 2}}), Vec::new(), 2);
    let mut old = crate::trials::pod(1);
    old.metadata.labels.as_mut().unwrap().insert("controller-revision-hash".to_owned(), "old".to_owned());
    seen.pods[1] = Arc::new(old);
    let (fleet, _) = statuses(&seen, &mut ViewerCounts::default());
    let progressing = fleet.conditions.iter().find(|condition| condition.type_ == "Progressing").unwrap();
    assert_eq!((progressing.status.as_str(), progressing.reason.as_str()), ("True", "RollingOut"));
    assert!(progressing.message.contains("danmu-default-1"), "{}", progressing.message);
}
