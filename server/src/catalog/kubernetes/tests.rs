use serde_json::json;

use super::*;

fn room(name: &str, spec: serde_json::Value) -> DeserializeGuard<DanmuRoom> {
    let object = json!({
        "apiVersion": "danmu.live/v1alpha1", "kind": "DanmuRoom",
        "metadata": {"name": name, "namespace": "live"}, "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

fn listed(rooms: Vec<DeserializeGuard<DanmuRoom>>) -> Watched {
    let mut watched = Watched::of(Some("danmu-default-0".to_owned()));
    watched.fleet(Event::Init);
    watched.fleet(Event::InitDone);
    watched.room(Event::Init);
    for room in rooms {
        watched.room(Event::InitApply(room));
    }
    watched.room(Event::InitDone);
    watched
}

#[test]
fn nothing_is_told_before_both_lists_are_whole() {
    let mut watched = Watched::default();
    watched.room(Event::Init);
    watched.room(Event::InitDone);
    assert!(watched.catalog(None).is_none());
    watched.fleet(Event::Init);
    watched.fleet(Event::InitDone);
    assert!(watched.catalog(None).is_some());
}

#[test]
fn a_change_of_one_room_keeps_the_others_as_they_are_and_a_status_changes_nothing() {
    let limits = |n| json!({"fleet": "default", "limits": {"messagesPerSecond": n}});
    let mut watched = listed(vec![room("a", limits(5)), room("b", limits(6))]);
    let first = watched.catalog(None).unwrap();
    watched.room(Event::Apply(room("a", limits(5))));
    assert!(watched.catalog(Some(&first)).is_none(), "the same spec: a status moved");
    watched.room(Event::Apply(room("a", limits(9))));
    let next = watched.catalog(Some(&first)).unwrap();
    assert_eq!(next.rooms["a"].messages_per_second, 9);
    assert!(Arc::ptr_eq(&next.rooms["b"], &first.rooms["b"]));
}

/// A room with pods of its own.
fn placed(pods: &[&str], routed: (&str, &str), url: Option<&str>) -> DeserializeGuard<DanmuRoom> {
    let placement: Vec<_> = pods.iter().map(|pod| json!({"pod": pod, "viewers": 10})).collect();
    let condition = json!({
        "type": "Routed", "status": routed.0, "reason": routed.1, "message": "",
        "lastTransitionTime": "2026-11-01T18:00:00Z",
    });
    let object = json!({
        "apiVersion": "danmu.live/v1alpha1", "kind": "DanmuRoom",
        "metadata": {"name": "hot", "namespace": "live"}, "spec": {},
        "status": {"placement": placement, "url": url, "conditions": [condition]},
    });
    serde_json::from_value(object).unwrap()
}

#[test]
fn a_room_is_elsewhere_only_if_its_own_accepted_route_leads_to_other_pods() {
    let url = Some("wss://a/rooms/hot/ws?room=hot");
    let accepted = ("True", "Accepted");
    for (room, elsewhere) in [
        (placed(&["danmu-default-1"], accepted, url), url),
        (placed(&["danmu-default-0", "danmu-default-1"], accepted, url), None),
        (placed(&[], accepted, url), None),
        (placed(&["danmu-default-1"], accepted, None), None),
        (placed(&["danmu-default-1"], ("True", "SharedRoute"), url), None),
        (placed(&["danmu-default-1"], ("False", "RoutePending"), url), None),
    ] {
        let catalog = listed(vec![room.clone()]).catalog(None).unwrap();
        assert_eq!(catalog.elsewhere.get("hot").map(|url| &**url), elsewhere, "{room:?}");
    }
    let mut nameless = listed(Vec::new());
    nameless.pod = None;
    nameless.room(Event::Apply(placed(&["danmu-default-1"], accepted, url)));
    assert!(nameless.catalog(None).unwrap().elsewhere.is_empty());
}

#[test]
fn a_placement_that_moves_is_another_catalog_and_a_count_that_moves_is_none() {
    let url = Some("wss://a/rooms/hot/ws?room=hot");
    let mut watched = listed(vec![placed(&["danmu-default-1"], ("True", "Accepted"), url)]);
    let first = watched.catalog(None).unwrap();
    let mut counted = placed(&["danmu-default-1"], ("True", "Accepted"), url);
    counted.0.as_mut().unwrap().status.as_mut().unwrap().placement[0].viewers = 99;
    watched.room(Event::Apply(counted));
    assert!(watched.catalog(Some(&first)).is_none());
    watched.room(Event::Apply(placed(&["danmu-default-0"], ("True", "Accepted"), url)));
    assert!(watched.catalog(Some(&first)).unwrap().elsewhere.is_empty());
}

#[test]
fn sub_rooms_are_those_placed_on_this_pod_and_a_change_of_them_is_another_catalog() {
    let on = |here: &[u32]| {
        let mut room = placed(&["danmu-default-0", "danmu-default-1"], ("True", "Accepted"), None);
        let status = room.0.as_mut().unwrap().status.as_mut().unwrap();
        status.placement[0].sub_rooms = here.to_vec();
        status.placement[1].sub_rooms = vec![7];
        room
    };
    let mut watched = listed(vec![on(&[0, 3])]);
    let first = watched.catalog(None).unwrap();
    assert_eq!(*first.sub_rooms["hot"], [0, 3]);
    watched.room(Event::Apply(on(&[0])));
    assert_eq!(*watched.catalog(Some(&first)).unwrap().sub_rooms["hot"], [0]);
    watched.room(Event::Apply(on(&[])));
    assert!(watched.catalog(Some(&first)).unwrap().sub_rooms.is_empty());
}

#[test]
fn an_unreadable_room_keeps_its_last_good_policy_and_stops_nobody() {
    let mut watched = listed(vec![room("a", json!({"limits": {"messagesPerSecond": 5}}))]);
    let first = watched.catalog(None).unwrap();
    watched.room(Event::Apply(room("a", json!({"limits": "many"}))));
    watched.room(Event::Apply(room("b", json!({}))));
    let next = watched.catalog(Some(&first)).unwrap();
    assert!(next.faults[0].contains("DanmuRoom a"), "{:?}", next.faults);
    assert!(Arc::ptr_eq(&next.rooms["a"], &first.rooms["a"]) && next.rooms.contains_key("b"));
    watched.room(Event::Delete(room("a", json!({}))));
    let last = watched.catalog(Some(&next)).unwrap();
    assert!(last.faults.is_empty() && !last.rooms.contains_key("a"));
}

fn words(name: &str, text: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"b": text, "a": "first"}})).unwrap()
}

fn with_words() -> Watched {
    let from = json!({"words": {"from": [{"configMap": "bad-words"}]}});
    listed(vec![room("a", json!({"moderation": from}))])
}

#[test]
fn a_room_waits_for_its_word_lists_and_opens_without_when_they_do_not_come() {
    let mut watched = with_words();
    assert!(watched.wants_words() && watched.catalog(None).is_none());
    watched.gave_up = true;
    let without = watched.catalog(None).unwrap();
    assert!(without.words.is_empty() && without.faults[0].contains("no ConfigMap bad-words"));
    watched.words(Event::Init);
    watched.words(Event::InitApply(words("bad-words", "second")));
    watched.words(Event::InitDone);
    let next = watched.catalog(Some(&without)).unwrap();
    assert_eq!(*next.words["bad-words"], [Box::from("first"), "second".into()], "in the order of the keys");
    assert!(next.faults.is_empty());
}

/// A watch that tells what it is given and then nothing more.
fn watching<K: Send + 'static>(events: Vec<Event<K>>) -> impl Stream<Item = watcher::Result<Event<K>>> {
    futures_util::stream::iter(events.into_iter().map(Ok)).chain(futures_util::stream::pending())
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_may_not_read_config_maps_opens_its_rooms_all_the_same() {
    let named = room("a", json!({"moderation": {"words": {"from": [{"configMap": "bad-words"}]}}}));
    let rooms = watching(vec![Event::Init, Event::InitApply(named), Event::InitDone]);
    let fleets = watching(vec![Event::Init, Event::InitDone]);
    let denied = futures_util::stream::iter([Err(watcher::Error::NoResourceVersion)])
        .chain(futures_util::stream::pending());
    let (sender, mut catalogs) = watch::channel(Arc::new(Catalog::default()));
    let begin = tokio::time::Instant::now();
    tokio::spawn(async move { run(Watched::of(None), rooms, fleets, denied, &sender).await });
    catalogs.changed().await.unwrap();
    assert!((WORDS..WORDS * 2).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert!(catalogs.borrow().rooms.contains_key("a"));
}

#[test]
fn an_edit_of_a_word_list_is_a_change_and_a_bad_one_keeps_the_last_good() {
    let mut watched = with_words();
    watched.words(Event::Init);
    watched.words(Event::InitApply(words("bad-words", "second")));
    watched.words(Event::InitDone);
    let first = watched.catalog(None).unwrap();
    watched.words(Event::Apply(words("bad-words", "second")));
    assert!(watched.catalog(Some(&first)).is_none(), "the same words");
    watched.words(Event::Apply(words("bad-words", &"x\n".repeat(1_000_000))));
    let bad = watched.catalog(Some(&first)).unwrap();
    assert!(Arc::ptr_eq(&bad.words["bad-words"], &first.words["bad-words"]));
    assert!(bad.faults[0].contains("more than 200000 words"), "{:?}", bad.faults);
    watched.words(Event::Apply(words("bad-words", "third")));
    let next = watched.catalog(Some(&bad)).unwrap();
    assert!(next.faults.is_empty() && next.words["bad-words"].contains(&Box::from("third")));
    watched.words(Event::Delete(words("bad-words", "third")));
    assert!(watched.catalog(Some(&next)).unwrap().words.is_empty());
}

#[test]
fn without_a_named_list_no_config_map_is_asked_for() {
    assert!(!listed(vec![room("a", json!({}))]).wants_words());
}

#[test]
fn a_list_told_anew_drops_what_was_deleted_meanwhile() {
    let mut watched = listed(vec![room("a", json!({})), room("b", json!({}))]);
    watched.room(Event::Init);
    watched.room(Event::InitApply(room("b", json!({}))));
    assert_eq!(watched.catalog(None).unwrap().rooms.len(), 2, "not before the list is whole");
    watched.room(Event::InitDone);
    assert_eq!(watched.catalog(None).unwrap().rooms.len(), 1);
}
