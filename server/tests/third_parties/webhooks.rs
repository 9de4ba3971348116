//! Webhooks: what is told, once; again when it was not taken; and not for ever.

use std::{sync::Arc, time::Duration};

use danmu_crds::HookEvent;
use danmu_server::{
    edge::session::unix_now,
    hooks::{
        Answer, Hooks, Metrics, Question, Retry, Secret, Settings,
        sign::{Forged, TOLERANCE},
    },
};
use danmu_wire::Event;
use prometheus_client::registry::Registry;
use serde_json::json;

use crate::{
    edit, metric, started,
    support::{
        Danmu,
        pod::eventually,
        receiver::{HOOK_SECRET, Receiver, Reply, settings},
    },
};

fn hook(name: &str, receiver: &Receiver, events: &str) -> String {
    format!("{{name: {name}, url: '{}', events: [{events}]}}", receiver.url())
}

fn hooks(all: &[String]) -> String {
    format!("hotRoomViewers: 2, hooks: {{webhooks: [{}]}}", all.join(", "))
}

/// Has a message wait for a moderator.
async fn held(danmu: &Danmu, text: &str) -> String {
    let mut ann = danmu.join_as("talk", "ann", "speaker").await;
    ann.say(text).await;
    match ann.find(|event| matches!(event, Event::Ack(_))).await {
        Event::Ack(ack) if ack.held => ack.id,
        other => panic!("{other:?}"),
    }
}

async fn dead(danmu: &Danmu, reason: &str) -> f64 {
    metric(danmu, &format!("danmu_webhook_dead_letters_total{{reason=\"{reason}\"}}")).await
}

#[tokio::test]
async fn a_held_message_is_told_with_a_signature_that_nobody_else_can_make() {
    let receiver = Receiver::start().await;
    let danmu = started(&hooks(&[hook("a", &receiver, "MessageHeld")])).await;
    let id = held(&danmu, "perhaps").await;
    let taken = receiver.gets(1).await.remove(0);
    assert_eq!(taken.id(), id, "by which a receiver knows that it has it already");
    let data = json!({
        "fleet": "local/default", "room": "talk", "id": id, "user": "ann", "name": "ANN", "text": "perhaps",
    });
    assert_eq!((&taken.body["type"], &taken.body["data"]), (&json!("message.held"), &data));
    let told: jiff::Timestamp = taken.body["timestamp"].as_str().unwrap().parse().unwrap();
    assert!(told.as_second().abs_diff(unix_now() as i64) < 10);
    // What the receiver has to withstand.
    let secret = Secret::parse(HOOK_SECRET).unwrap();
    let (headers, body) = (taken.headers, taken.bytes);
    assert_eq!(secret.verify(&headers, &body, unix_now()), Ok(()));
    assert_eq!(secret.verify(&headers, &body, unix_now() + TOLERANCE + 30), Err(Forged::Time));
    assert_eq!(secret.verify(&headers, b"{}", unix_now()), Err(Forged::Signature));
    let other = Secret::parse("some other secret of tests").unwrap();
    assert_eq!(other.verify(&headers, &body, unix_now()), Err(Forged::Signature));
}

#[tokio::test]
async fn a_room_is_hot_once_and_ends_with_its_manifest() {
    let receiver = Receiver::start().await;
    let danmu = started(&hooks(&[hook("a", &receiver, "RoomHot, RoomEnded")])).await;
    let one = danmu.join("talk").await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(receiver.taken().len(), 0, "one viewer is no crowd");
    let two = danmu.join("talk").await;
    let told = receiver.gets(1).await.remove(0).body;
    let data = json!({"fleet": "local/default", "room": "talk", "viewers": 2});
    assert_eq!((&told["type"], &told["data"]), (&json!("room.hot"), &data));
    // It falls under 60 %, and becomes hot again.
    drop(two);
    tokio::time::sleep(Duration::from_millis(2200)).await;
    let _two = danmu.join("talk").await;
    assert_eq!(receiver.gets(2).await[1].body["type"], "room.hot");
    let rooms = danmu.folder.path().join("rooms.yaml");
    let (kept, replay) = (
        "apiVersion: danmu.live/v1alpha1\nkind: DanmuRoom\nmetadata: {name: members}\nspec: {}\n",
        "apiVersion: danmu.live/v1alpha1\nkind: DanmuRoom\nmetadata: {name: quiet}\nspec: {mode: OnDemand}\n",
    );
    std::fs::write(rooms, format!("{kept}---\n{replay}")).unwrap();
    let mut ended: Vec<_> =
        receiver.gets(4).await.drain(2..).map(|taken| taken.body["data"].clone()).collect();
    ended.sort_by_key(|data| data["room"].as_str().unwrap().to_owned());
    let data = |room, reason| json!({"fleet": "local/default", "room": room, "reason": reason});
    assert_eq!(ended, [data("quiet", "onDemand"), data("talk", "removed")]);
    drop(one);
}

#[tokio::test]
async fn what_is_not_taken_is_sent_again_with_the_same_id() {
    let receiver = Receiver::start().await;
    receiver.first([Reply::Status(500), Reply::Status(429), Reply::Hang]);
    let danmu = started(&hooks(&[hook("a", &receiver, "MessageHeld")])).await;
    let id = held(&danmu, "perhaps").await;
    let taken = receiver.gets(4).await;
    let first = &taken[0];
    assert!(taken.iter().all(|taken| taken.id() == id && taken.bytes == first.bytes), "{taken:?}");
    let pauses: Vec<Duration> = taken.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!(pauses[0] >= Duration::from_millis(20) && pauses[1] >= Duration::from_millis(50), "{pauses:?}");
    let tried = "danmu_webhook_deliveries_total{event=\"message.held\",ok=";
    eventually("it counts as delivered", async || metric(&danmu, &format!("{tried}\"true\"}}")).await == 1.0)
        .await;
    assert_eq!(metric(&danmu, &format!("{tried}\"false\"}}")).await, 3.0);
}

#[tokio::test]
async fn a_receiver_that_is_gone_or_never_well_gets_a_dead_letter() {
    let receiver = Receiver::start().await;
    let danmu = started(&hooks(&[hook("a", &receiver, "MessageHeld")])).await;
    for (nth, refusal) in [410, 404, 301, 307].into_iter().enumerate() {
        receiver.first([Reply::Status(refusal)]);
        held(&danmu, "perhaps").await;
        receiver.gets(nth + 1).await;
        let wanted = nth as f64 + 1.0;
        eventually("it is dead", async || dead(&danmu, "refused").await == wanted).await;
    }
    receiver.then(|_| Reply::Status(503));
    held(&danmu, "perhaps").await;
    eventually("it is given up", async || dead(&danmu, "exhausted").await == 1.0).await;
    assert_eq!(receiver.taken().len(), 4 + 4, "four tries");
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_no_other_and_one_bad_event_no_later_one() {
    let (slow, quick) = (Receiver::start().await, Receiver::start().await);
    slow.then(|_| Reply::Hang);
    let danmu =
        started(&hooks(&[hook("slow", &slow, "MessageHeld"), hook("quick", &quick, "MessageHeld")])).await;
    let first = held(&danmu, "perhaps 1").await;
    assert_eq!(quick.gets(1).await[0].id(), first);
    let bad = first.clone();
    quick.then(move |taken| Reply::Status(if taken.id() == bad { 500 } else { 200 }));
    let second = held(&danmu, "perhaps 2").await;
    assert_eq!(quick.gets(2).await[1].id(), second);
    let poison = Arc::new(second);
    let refused = Arc::clone(&poison);
    slow.then(move |taken| Reply::Status(if taken.id() == *refused { 500 } else { 200 }));
    let third = held(&danmu, "perhaps 3").await;
    eventually("the third comes though the second is never taken", async || {
        slow.taken().iter().any(|taken| taken.id() == third)
    })
    .await;
}

#[tokio::test]
async fn a_webhook_that_is_removed_gets_nothing_more_and_one_that_stays_keeps_its_queue() {
    let (stays, goes) = (Receiver::start().await, Receiver::start().await);
    for receiver in [&stays, &goes] {
        receiver.first([Reply::Status(500), Reply::Status(500)]);
    }
    let stay = hook("stays", &stays, "MessageHeld");
    let danmu = started(&hooks(&[stay.clone(), hook("goes", &goes, "MessageHeld")])).await;
    held(&danmu, "perhaps").await;
    edit(&danmu, &hooks(&[stay]));
    stays.gets(3).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    held(&danmu, "perhaps").await;
    stays.gets(4).await;
    assert!(goes.taken().len() <= 3, "{:?}", goes.taken());
}

#[tokio::test]
async fn what_waits_is_tried_once_more_before_the_process_ends() {
    let receiver = Receiver::start().await;
    receiver.first([Reply::Status(500), Reply::Status(500)]);
    let change = |config| {
        let mut hooks = crate::settings();
        (hooks.retry.first, hooks.retry.oldest) = (Duration::from_secs(600), Duration::from_secs(3600));
        danmu_server::config::Config { hooks, ..config }
    };
    let spec = hooks(&[hook("a", &receiver, "MessageHeld")]);
    let danmu = Danmu::start_changed(&[], &crate::fleet(&spec), change).await;
    let ids = [held(&danmu, "perhaps 1").await, held(&danmu, "perhaps 2").await];
    receiver.gets(2).await;
    danmu.server.finish(std::future::pending()).await;
    let last: Vec<String> =
        receiver.gets(4).await[2..].iter().map(crate::support::receiver::Taken::id).collect();
    assert_eq!(last.iter().filter(|id| ids.contains(id)).count(), 2, "{last:?} {ids:?}");
}

#[tokio::test]
async fn without_a_secret_nothing_is_sent_and_it_counts_as_dead() {
    let receiver = Receiver::start().await;
    let spec = hooks(&[hook("a", &receiver, "MessageHeld")]);
    let danmu = Danmu::start_changed(&[], &crate::fleet(&spec), |config| config).await;
    held(&danmu, "perhaps").await;
    eventually("it is dead", async || dead(&danmu, "unready").await == 1.0).await;
    assert_eq!(receiver.taken().len(), 0);
}

/// Hooks without a server, and what they count.
fn alone(spec: &str, settings: Settings) -> (Hooks, impl Fn(&str) -> f64) {
    let (metrics, mut registry) = (Arc::new(Metrics::default()), Registry::default());
    metrics.register(&mut registry);
    let hooks = Hooks::new(settings, "local/default", metrics, tokio::runtime::Handle::current());
    let [danmu_crds::Manifest::Fleet(fleet)] =
        &danmu_crds::parse_manifests("a.yaml", &crate::fleet(spec)).unwrap()[..]
    else {
        panic!("no fleet")
    };
    hooks.apply(&fleet.spec);
    let value = move |name: &str| {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    };
    (hooks, value)
}

#[tokio::test]
async fn what_does_not_fit_into_a_receivers_queue_is_a_dead_letter_and_not_a_heap() {
    let receiver = Receiver::start().await;
    receiver.then(|_| Reply::Hang);
    let spec = hooks(&[hook("a", &receiver, "RoomHot")]);
    let (hooks, value) = alone(&spec, Settings { retry: Retry::default(), ..settings() });
    for number in 0..600 {
        hooks.tell(HookEvent::RoomHot, &number.to_string(), json!({"room": "talk"}));
    }
    let dead = value("webhook_dead_letters_total{reason=\"queue_full\"}");
    assert!((99.0..=100.0).contains(&dead), "{dead}");
}

#[tokio::test]
async fn a_slow_publish_hook_gathers_no_more_than_its_share_of_messages() {
    let receiver = Receiver::start().await;
    receiver.then(|_| Reply::Hang);
    let spec = format!("hooks: {{publish: {{url: '{}', deadlineMs: 1000}}}}", receiver.url());
    let (hooks, value) = alone(&spec, settings());
    let question = Question { room: "talk", id: "1", user: None, name: None, text: "hello" };
    let asked = (0..300).map(|_| hooks.ask(&question, |text| Some(text.to_owned())));
    let answers = futures_util::future::join_all(asked).await;
    assert!(answers.iter().all(|answer| *answer == Answer::Show(None)));
    assert_eq!(value("publish_hook_failures_total{reason=\"busy\"}"), 44.0);
    assert_eq!(value("publish_hook_failures_total{reason=\"deadline\"}"), 256.0);
}
