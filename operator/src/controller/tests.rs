use futures_util::{StreamExt, stream};
use kube::runtime::{events::Reporter, reflector::ObjectRef, watcher};
use serde_json::{Value, json};

use super::*;
use crate::{
    loads::fake::FakeLoads,
    operator,
    seen::{Live, Told},
    stores::{Stores, Streams},
    trials::{self, Asked, api, decided, given_back, pod, seen, told},
    unreadable,
};

/// A reconcile's surroundings, and what was asked of the API.
fn surroundings(stores: Stores, refuse: fn(&str) -> Option<u16>) -> (Arc<Context<FakeLoads>>, Asked) {
    let (client, asked) = api(refuse);
    let reporter = Reporter { controller: "danmu-operator".to_owned(), instance: None };
    let keys = Keys { secret: "danmu-default-admin".to_owned(), ..Keys::default() };
    let memory = Memory { keys: Some((Instant::now(), keys)), ..Memory::default() };
    let context = Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        stores,
        loads: Arc::default(),
        settings: trials::settings(),
        metrics: Arc::default(),
        memory: std::sync::Mutex::new([("fleet-uid".to_owned(), memory)].into()),
    };
    (Arc::new(context), asked)
}

fn fleet(spec: Value) -> Value {
    serde_json::to_value(trials::fleet(spec)).unwrap()
}

/// Everything a fleet of this spec and so many pods has when it is settled.
fn settled(spec: Value, pods: u32) -> Vec<Live> {
    let mut seen = seen(spec, Vec::new(), pods);
    let (.., objects) = decided(&seen);
    given_back(&mut seen, &objects);
    for live in seen.live.iter_mut().filter(|live| live.kind == crate::kind::Kind::StatefulSet) {
        let mut object = (*live.object).clone();
        object.data["spec"]["replicas"] = json!(pods);
        live.object = Arc::new(object);
    }
    seen.live
}

fn say(context: &Context<FakeLoads>, pod: u32, told: Told) {
    let told = Arc::new(Told { at: jiff::Timestamp::now(), ..told });
    context.loads.told.lock().unwrap().insert(format!("danmu-default-{pod}-uid"), told);
}

async fn once(context: &Arc<Context<FakeLoads>>) -> Result<Action, ReconcileError> {
    let key = ObjectRef::new("default").within("live");
    let fleet = context.stores.fleets.get(&key).unwrap();
    reconcile(fleet, Arc::clone(context)).await
}

#[tokio::test]
async fn a_new_fleet_gets_its_objects_and_a_status() {
    let stores = Stores::of(vec![fleet(json!({}))], Vec::new(), Vec::new(), Vec::new());
    let (context, asked) = surroundings(stores, |_| None);
    once(&context).await.unwrap();
    let all = asked.all();
    assert_eq!(all.iter().filter(|line| line.contains("/statefulsets/")).count(), 1, "{all:?}");
    assert_eq!(asked.with("/danmufleets/default/status").len(), 1);
    assert!(context.metrics.text().unwrap().contains("reconciles_total{reason=\"ok\"} 1"));
}

#[tokio::test]
async fn the_tail_is_told_to_drain_before_it_goes_and_a_spike_takes_that_back() {
    let spec = json!({"replicas": {"min": 1}});
    let stores =
        Stores::of(vec![fleet(spec.clone())], Vec::new(), vec![pod(0), pod(1)], settled(spec.clone(), 2));
    let (context, asked) = surroundings(stores, |_| None);
    let quiet = Told { viewers: 3, ..(*told(&[])).clone() };
    say(&context, 0, quiet.clone());
    say(&context, 1, quiet.clone());
    assert_eq!(once(&context).await.unwrap(), Action::requeue(AGAIN_MOVING));
    assert_eq!(*context.loads.asked.lock().unwrap(), ["drain danmu-default-1 60"]);
    assert_eq!(asked.with("/events").len(), 1, "the drain is told");
    // Many come while it drains, and the API refuses something else.
    say(&context, 0, Told { viewers: 14_000, ..quiet.clone() });
    say(&context, 1, Told { viewers: 3, draining: Some(jiff::Timestamp::now()), ..quiet });
    once(&context).await.unwrap();
    assert_eq!(context.loads.asked.lock().unwrap().last().unwrap(), "undrain danmu-default-1");
}

#[tokio::test]
async fn a_missing_secret_stops_everything_but_what_is_told() {
    let spec = json!({"auth": {"secretRef": {"name": "tokens"}}});
    let stores = Stores::of(vec![fleet(spec)], Vec::new(), Vec::new(), Vec::new());
    let (context, asked) = surroundings(stores, |line| line.contains("/secrets/").then_some(404));
    let error = once(&context).await.unwrap_err();
    assert_eq!(error.reason(), "SecretMissing");
    assert!(error.to_string().contains("tokens is not there"), "{error}");
    assert_eq!(asked.with("/statefulsets/"), Vec::<String>::new());
    assert_eq!(asked.with("/danmufleets/default/status").len(), 1, "the fleet says what is wrong");
    assert_eq!(asked.with("/events").len(), 1, "Degraded; that no pod is Ready yet is no news");
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_for_once_holds_up_nothing() {
    let stores = Stores::of(vec![fleet(json!({}))], Vec::new(), Vec::new(), Vec::new());
    let (context, asked) = surroundings(stores, |line| line.contains("/secrets/").then_some(500));
    for memory in context.memory.lock().unwrap().values_mut() {
        memory.keys.as_mut().unwrap().0 = Instant::now().checked_sub(KEYS_LAST).unwrap();
    }
    once(&context).await.unwrap();
    assert_eq!(asked.with("/secrets/").len(), 1, "it was asked again");
    assert_eq!(asked.with("/statefulsets/").len(), 1, "{:?}", asked.all());
}

#[tokio::test]
async fn a_fleet_that_has_no_secret_gets_one() {
    let stores = Stores::of(vec![fleet(json!({}))], Vec::new(), Vec::new(), Vec::new());
    let (context, asked) = surroundings(stores, |line| line.starts_with("GET ").then_some(404));
    context.memory.lock().unwrap().clear();
    once(&context).await.unwrap();
    assert_eq!(asked.with("POST /api/v1/namespaces/live/secrets").len(), 1, "{:?}", asked.all());
}

#[tokio::test]
async fn a_room_that_cannot_be_read_does_not_stop_the_others() {
    let bad = json!({
        "apiVersion": "danmu.live/v1alpha1", "kind": "DanmuRoom", "spec": {"minPods": "many"},
        "metadata": {"name": "bad", "namespace": "live", "uid": "bad"},
    });
    let good = serde_json::to_value(&*trials::room("good", json!({}))).unwrap();
    let stores = Stores::of(vec![fleet(json!({}))], vec![bad, good], Vec::new(), Vec::new());
    let (context, asked) = surroundings(stores, |_| None);
    once(&context).await.unwrap();
    assert_eq!(asked.with("/danmurooms/good/status").len(), 1);
    assert_eq!(asked.with("/danmurooms/bad"), Vec::<String>::new());
}

#[tokio::test]
async fn an_outdated_empty_pod_is_evicted_and_not_deleted() {
    let spec = json!({"replicas": {"min": 2}});
    let mut old = pod(1);
    old.metadata.labels.as_mut().unwrap().insert("controller-revision-hash".to_owned(), "old".to_owned());
    let stores = Stores::of(vec![fleet(spec.clone())], Vec::new(), vec![pod(0), old], settled(spec, 2));
    let (context, asked) = surroundings(stores, |_| None);
    let quiet = (*told(&[])).clone();
    say(&context, 0, quiet.clone());
    let began = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(2);
    say(&context, 1, Told { draining: Some(began), ..quiet });
    once(&context).await.unwrap();
    assert_eq!(asked.with("/eviction"), ["POST /api/v1/namespaces/live/pods/danmu-default-1/eviction"]);
    assert_eq!(asked.with("DELETE "), Vec::<String>::new());
}

#[tokio::test]
async fn the_older_of_two_fleets_has_the_host() {
    let spec = json!({"route": {"gateway": {"name": "public", "hostnames": ["a.example.com"]}}});
    let mut older = fleet(spec.clone());
    older["metadata"]["name"] = json!("older");
    older["metadata"]["uid"] = json!("older");
    older["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut newer = fleet(spec);
    newer["metadata"]["creationTimestamp"] = json!("2026-02-01T00:00:00Z");
    let stores = Stores::of(vec![older.clone(), newer.clone()], Vec::new(), Vec::new(), Vec::new());
    let taken = |fleet: &Value| {
        let fleet: DanmuFleet = serde_json::from_value(fleet.clone()).unwrap();
        stores.see(Arc::new(fleet), Keys::default(), &FakeLoads::default()).host_taken
    };
    assert_eq!(taken(&newer), Some("a.example.com".to_owned()));
    assert_eq!(taken(&older), None);
}

/// Streams that give these objects, and then wait.
fn streams(fleet: &Value, rooms: &[Value]) -> Streams {
    let read = |room: &Value| serde_json::from_value(room.clone()).unwrap();
    let rooms: Vec<Result<_, watcher::Error>> = rooms.iter().map(|room| Ok(read(room))).collect();
    let fleet = serde_json::from_value(fleet.clone()).unwrap();
    Streams {
        fleets: stream::once(async { Ok(fleet) }).chain(stream::pending()).boxed(),
        rooms: stream::iter(rooms).chain(stream::pending()).boxed(),
        pods: stream::pending().boxed(),
        owned: Vec::new(),
    }
}

#[tokio::test]
async fn five_hundred_rooms_at_once_are_one_plan_or_two() {
    let room = |n: u32| serde_json::to_value(&*trials::room(&format!("room-{n}"), json!({}))).unwrap();
    let rooms: Vec<Value> = (0..500).map(room).collect();
    let fleet = fleet(json!({}));
    let stores = Stores::of(vec![fleet.clone()], rooms.clone(), Vec::new(), Vec::new());
    let (context, asked) = surroundings(stores, |_| None);
    let (faults, _kept) = tokio::sync::mpsc::channel(1);
    let running = operator::control(Arc::clone(&context), streams(&fleet, &rooms), faults);
    tokio::time::timeout(Duration::from_secs(3), running).await.unwrap_err();
    let text = context.metrics.text().unwrap();
    // A second one for what came while the first one was made.
    let plans = ["1", "2"].iter().any(|n| text.contains(&format!("danmu_operator_plan_seconds_count {n}\n")));
    assert!(plans, "{text}");
    assert_eq!(asked.with("/danmurooms/").len(), 500, "each is told its status once");
}

#[tokio::test]
async fn an_unreadable_room_is_handed_to_who_tells_it_and_wakes_nobody() {
    let bad = json!({
        "apiVersion": "danmu.live/v1alpha1", "kind": "DanmuRoom", "spec": 7,
        "metadata": {"name": "bad", "namespace": "live", "uid": "bad"},
    });
    let fleet = fleet(json!({}));
    let stores = Stores::of(vec![fleet.clone()], vec![bad.clone()], Vec::new(), Vec::new());
    let (context, asked) = surroundings(stores, |_| None);
    let (faults, told) = tokio::sync::mpsc::channel(1);
    let all = async {
        let running = operator::control(Arc::clone(&context), streams(&fleet, &[bad.clone(), bad]), faults);
        tokio::join!(running, unreadable::tell_all(Arc::clone(&context), told));
    };
    tokio::time::timeout(Duration::from_secs(1), all).await.unwrap_err();
    assert_eq!(asked.with("/danmurooms/bad/status").len(), 1, "once, though it came twice");
}

#[tokio::test]
async fn a_room_that_names_no_fleet_there_is_says_so() {
    let room = serde_json::to_value(&*trials::room("lost", json!({"fleet": "nowhere"}))).unwrap();
    let fleet = fleet(json!({}));
    let stores = Stores::of(vec![fleet.clone()], vec![room.clone()], Vec::new(), Vec::new());
    let (context, asked) = surroundings(stores, |_| None);
    let (faults, _kept) = tokio::sync::mpsc::channel(1);
    let running = operator::control(Arc::clone(&context), streams(&fleet, &[room]), faults);
    tokio::time::timeout(Duration::from_secs(1), running).await.unwrap_err();
    assert_eq!(asked.with("/danmurooms/lost/status").len(), 1);
    assert_eq!(
        asked.with("/events").len(),
        2,
        "one of the room, and that the fleet scales: {:?}",
        asked.all()
    );
}

/// A fleet with `rooms` rooms that hears a refusal of everything that names one of them.
async fn with_a_refused_room(refuse: fn(&str) -> Option<u16>) -> (Arc<Context<FakeLoads>>, Asked) {
    let room =
        |name: &str| serde_json::to_value(&*trials::room(name, json!({"expectedViewers": 9000}))).unwrap();
    let spec = json!({"replicas": {"min": 1}, "hotRoomViewers": 5000});
    let rooms = vec![room("bad"), room("good")];
    let pods = vec![pod(0), pod(1), pod(2)];
    let stores = Stores::of(vec![fleet(spec.clone())], rooms, pods, settled(spec, 3));
    let (context, asked) = surroundings(stores, refuse);
    for ordinal in 0..3 {
        say(&context, ordinal, (*told(&[])).clone());
    }
    once(&context).await.unwrap_err();
    (context, asked)
}

#[tokio::test]
async fn one_rooms_refused_service_or_status_stops_neither_the_others_nor_a_drain() {
    for refused in [
        (|line: &str| line.contains("/services/room-bad").then_some(403)) as fn(&str) -> Option<u16>,
        |line: &str| line.contains("/danmurooms/bad/").then_some(403),
    ] {
        let (context, asked) = with_a_refused_room(refused).await;
        assert_eq!(asked.with("/services/room-good").len(), 1);
        assert_eq!(asked.with("/danmurooms/good/status").len(), 1);
        assert_eq!(*context.loads.asked.lock().unwrap(), ["drain danmu-default-2 60"]);
    }
}

#[tokio::test]
async fn no_pod_drains_while_a_slice_may_still_name_it() {
    let refused = |line: &str| line.contains("/endpointslices/room-bad").then_some(403);
    let (context, _) = with_a_refused_room(refused).await;
    assert_eq!(*context.loads.asked.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn the_statuses_of_very_many_rooms_hold_up_no_reconcile_and_hot_rooms_come_first() {
    let cold = |n: u32| serde_json::to_value(&*trials::room(&format!("cold-{n}"), json!({}))).unwrap();
    let hot = trials::room("zz-hot", json!({"expectedViewers": 9000}));
    let mut rooms: Vec<Value> = (0..700).map(cold).collect();
    rooms.push(serde_json::to_value(&*hot).unwrap());
    let stores = Stores::of(vec![fleet(json!({}))], rooms, vec![pod(0)], settled(json!({}), 1));
    let (context, asked) = surroundings(stores, |_| None);
    say(&context, 0, (*told(&[])).clone());
    assert_eq!(once(&context).await.unwrap(), Action::requeue(AGAIN_MOVING), "200 are left");
    assert_eq!(asked.with("/danmurooms/").len(), 500);
    assert_eq!(asked.with("/danmurooms/zz-hot/status").len(), 1);
}
