//! Another primary: by sentinels, behind the same address, or the old one with an old snapshot.

use crate::{
    Acknowledged,
    proxy::Proxy,
    support::{
        pod::{Pod, eventually},
        redis::{self, RedisServer},
    },
};

const FLEET: &str = "test/failover";

/// A replica that has all its primary has.
fn replica_of(primary: &RedisServer) -> RedisServer {
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    let started = std::time::Instant::now();
    while !replica.text(&["INFO", "replication"]).contains("master_link_status:up") {
        assert!(started.elapsed() < std::time::Duration::from_secs(20), "the replica does not follow");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    replica
}

async fn two_pods(url: &str) -> (Pod, Pod) {
    let pods = (Pod::on_redis(url, false, FLEET), Pod::on_redis(url, false, FLEET));
    pods.0.open("talk").await;
    pods.1.open("talk").await;
    pods
}

/// Gifts before and after what happens: all come, or it is told that an epoch has ended.
async fn gifts_around(pods: &(Pod, Pod), happens: impl AsyncFnOnce()) {
    let mut acknowledged = Acknowledged::default();
    for i in 0..5 {
        acknowledged.gift(&pods.0, "talk", format!("before{i}")).await;
    }
    let before = pods.0.seen("talk").epoch;
    happens().await;
    for i in 0..5 {
        acknowledged.gift(&pods.1, "talk", format!("after{i}")).await;
    }
    for pod in [&pods.0, &pods.1] {
        eventually("the last one came", async || pod.seen("talk").names().contains(&"after4")).await;
        let seen = pod.seen("talk");
        acknowledged.came_or_its_loss_was_told(&seen);
        assert!(seen.epoch != before && seen.openings == 2, "a new epoch, told once: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_follow_the_sentinels_to_the_new_primary() {
    let mut primary = RedisServer::start();
    let replica = replica_of(&primary);
    let (_sentinel, url) = redis::sentinel(&primary);
    let pods = two_pods(&url).await;
    gifts_around(&pods, async || primary.kill()).await;
    assert!(replica.text(&["INFO", "replication"]).contains("role:master"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_behind_the_same_address_begins_a_new_epoch() {
    let first = RedisServer::start();
    let second = replica_of(&first);
    let proxy = Proxy::start(first.port).await;
    let pods = two_pods(&format!("redis://127.0.0.1:{}", proxy.port)).await;
    gifts_around(&pods, async || {
        second.text(&["REPLICAOF", "NO", "ONE"]);
        proxy.turn_to(second.port);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_became_a_replica_is_left_once_the_address_leads_elsewhere() {
    let first = RedisServer::start();
    let second = replica_of(&first);
    let proxy = Proxy::start(first.port).await;
    let pods = two_pods(&format!("redis://127.0.0.1:{}", proxy.port)).await;
    gifts_around(&pods, async || {
        second.text(&["REPLICAOF", "NO", "ONE"]);
        first.text(&["REPLICAOF", "127.0.0.1", &second.port.to_string()]);
        // As with a DNS name: open connections stay, only new ones lead elsewhere.
        proxy.lead_to(second.port);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_snapshot_begins_a_new_epoch() {
    let mut redis = RedisServer::start();
    let pods = two_pods(&redis.url()).await;
    pods.0.gift("talk", "in the snapshot").await.unwrap();
    redis.text(&["SAVE"]);
    gifts_around(&pods, async || {
        redis.kill();
        redis.start_again();
        assert!(redis.text(&["DBSIZE"]).parse::<u32>().unwrap() > 0, "the snapshot was loaded");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_begins_a_new_epoch() {
    let redis = RedisServer::start();
    let pods = two_pods(&redis.url()).await;
    gifts_around(&pods, async || drop(redis.text(&["FLUSHALL"]))).await;
}
