//! Several pods, one fleet: what third parties are told, they are told once.

use std::time::Duration;

use danmu_server::config::Config;
use serde_json::json;

use crate::support::{
    Danmu,
    pod::{Pod, eventually},
    receiver::{Receiver, settings},
    redis::RedisServer,
};

async fn started(redis: &RedisServer, receiver: &Receiver) -> Danmu {
    let spec = format!(
        "{{hotRoomViewers: 2, hooks: {{webhooks: [{{name: a, url: '{}', events: [RoomHot, RoomEnded]}}]}}}}",
        receiver.url()
    );
    let fleet = format!(
        "apiVersion: danmu.live/v1alpha1\nkind: DanmuFleet\nmetadata: {{name: default}}\nspec: {spec}\n"
    );
    Danmu::start_changed(&["--redis", &redis.url()], &fleet, |config| Config { hooks: settings(), ..config })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_pods_one_tells_that_a_room_is_hot_and_that_it_ended() {
    let (redis, receiver) = (RedisServer::start(), Receiver::start().await);
    let (a, b) = (started(&redis, &receiver).await, started(&redis, &receiver).await);
    let (_ann, _bob) = (a.join("talk").await, b.join("talk").await);
    let hot = receiver.gets(1).await.remove(0).body;
    assert_eq!((&hot["type"], &hot["data"]["viewers"]), (&json!("room.hot"), &json!(2)), "of both pods");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(receiver.taken().len(), 1, "the other pod has seen it too");
    for pod in [&a, &b] {
        let left = "apiVersion: danmu.live/v1alpha1\nkind: DanmuRoom\nmetadata: {name: quiet}\nspec: {}\n";
        std::fs::write(pod.folder.path().join("rooms.yaml"), left).unwrap();
    }
    eventually("both rooms are told", async || receiver.taken().len() >= 3).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut ended: Vec<_> = receiver.taken()[1..].iter().map(|taken| taken.body["data"].clone()).collect();
    ended.sort_by_key(|data| data["room"].as_str().unwrap().to_owned());
    let data = |room| json!({"fleet": "local/default", "room": room, "reason": "removed"});
    assert_eq!(ended, [data("members"), data("talk")]);
}

#[tokio::test]
async fn a_claim_is_one_pods_until_nobody_asks_for_it_any_more() {
    let redis = RedisServer::start();
    let (a, b) = (
        Pod::on_redis(&redis.url(), false, "test/claims"),
        Pod::on_redis(&redis.url(), false, "test/claims"),
    );
    for pod in [&a, &b] {
        pod.open("talk").await;
    }
    let lasts = Duration::from_millis(400);
    assert!(a.relay.claim("talk", "hot", lasts).await.unwrap());
    assert!(b.relay.claim("talk", "cold", lasts).await.unwrap(), "something else");
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert!(!b.relay.claim("talk", "hot", lasts).await.unwrap());
        assert!(!a.relay.claim("talk", "hot", lasts).await.unwrap(), "each call is another");
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(b.relay.claim("talk", "hot", lasts).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_keeps_its_order_and_its_keys_on_every_pod() {
    let (redis, receiver) = (RedisServer::start(), Receiver::start().await);
    let (a, b) = (started(&redis, &receiver).await, started(&redis, &receiver).await);
    let mut bob = b.join("talk").await;
    let gift = |number: usize| json!({"message": {"kind": "gift", "gift": format!("g{number}")}, "idempotencyKey": format!("k{number}")});
    let batch = json!({"messages": (0..100).map(gift).collect::<Vec<_>>()}).to_string();
    let path = "/rooms/talk/publish/batch";
    let began = std::time::Instant::now();
    let (status, first) = a.admin("POST", path, &batch).await;
    println!("100 gifts in one batch: {:?}", began.elapsed());
    assert_eq!(status, 200, "{first}");
    assert_eq!(
        b.admin("POST", path, &batch).await,
        (200, first),
        "the same again, by another pod, counts once"
    );
    for number in 0..100 {
        let event = bob.find(|event| matches!(event, danmu_wire::Event::Gift(_))).await;
        assert!(
            matches!(&event, danmu_wire::Event::Gift(gift) if gift.gift == format!("g{number}")),
            "{event:?}"
        );
    }
    let other = json!({"messages": [{"message": {"kind": "gift", "gift": "other"}, "idempotencyKey": "k7"}]});
    let (_, answer) = b.admin("POST", path, &other.to_string()).await;
    assert!(answer.contains("409"), "{answer}");
}
