//! A cluster of several processes.

use std::time::{Duration, Instant};

use danmu_server::relay::desk::unix_ms;
use danmu_wire::{Chat, Held, Settled};

use crate::{
    Acknowledged,
    proxy::Proxy,
    support::{
        pod::{Pod, eventually},
        redis::{RedisCluster, RedisServer, free_port},
    },
};

const FLEET: &str = "test/cluster";

fn slot(cluster: &RedisCluster, room: &str) -> u16 {
    cluster.slot(&format!("danmu:{{{FLEET}/{room}}}:live"))
}

/// Rooms on every primary; the first one is at home on the first primary.
fn rooms(cluster: &RedisCluster) -> Vec<String> {
    let mut rooms: Vec<String> = (0..12).map(|i| format!("room{i}")).collect();
    rooms.sort_by_key(|room| cluster.home(slot(cluster, room)));
    let homes: std::collections::HashSet<_> =
        rooms.iter().map(|room| cluster.home(slot(cluster, room))).collect();
    assert_eq!((homes.len(), cluster.home(slot(cluster, &rooms[0]))), (3, 0));
    rooms
}

/// Says something in every room until the other pod hears it; answers how long that took.
async fn hear_each_other(a: &Pod, b: &Pod, rooms: &[String], before: &mut u64) -> Duration {
    let started = Instant::now();
    eventually("chats arrive in every room", async || {
        for room in rooms {
            a.chat(room, *before, &[&format!("after {started:?}")]);
        }
        *before += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
        rooms.iter().all(|room| b.seen(room).chats.contains(&format!("after {started:?}")))
    })
    .await;
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_takes_its_rooms_along() {
    let cluster = RedisCluster::start(3, false);
    let (a, b) = (Pod::on_redis(&cluster.url(), true, FLEET), Pod::on_redis(&cluster.url(), true, FLEET));
    let rooms = rooms(&cluster);
    for room in &rooms {
        a.open(room).await;
        b.open(room).await;
    }
    let (room, mut acknowledged, mut before) = (&rooms[0], Acknowledged::default(), 0);
    for i in 0..5 {
        acknowledged.gift(&a, room, format!("before{i}")).await;
    }
    hear_each_other(&a, &b, &rooms, &mut before).await;
    std::thread::scope(|scope| scope.spawn(|| cluster.move_slot(slot(&cluster, room), 0, 1)).join().unwrap());
    let moved = hear_each_other(&a, &b, &rooms, &mut before).await;
    for i in 0..5 {
        acknowledged.gift(&b, room, format!("after{i}")).await;
    }
    for pod in [&a, &b] {
        eventually("the last one came", async || pod.seen(room).names().contains(&"after4")).await;
        acknowledged.came_or_its_loss_was_told(&pod.seen(room));
    }
    assert!(moved < Duration::from_secs(5), "{moved:?}");
    assert_eq!(b.seen(rooms.last().unwrap()).openings, 1, "rooms of other slots notice nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_dies_and_its_replica_takes_over() {
    a_replica_takes_over(|primary| primary.kill()).await;
}

/// Its sockets stay open and say nothing, as those of a host that lost its power.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_falls_silent_and_its_replica_takes_over() {
    a_replica_takes_over(|primary| primary.freeze(true)).await;
}

async fn a_replica_takes_over(fails: impl FnOnce(&mut RedisServer)) {
    let mut cluster = RedisCluster::start(3, true);
    let (a, b) = (Pod::on_redis(&cluster.url(), true, FLEET), Pod::on_redis(&cluster.url(), true, FLEET));
    let rooms = rooms(&cluster);
    for room in &rooms {
        a.open(room).await;
        b.open(room).await;
    }
    let (mut acknowledged, mut before) = (Acknowledged::default(), 0);
    for i in 0..5 {
        acknowledged.gift(&a, &rooms[0], format!("before{i}")).await;
    }
    fails(&mut cluster.nodes[0]);
    let started = Instant::now();
    for i in 0..5 {
        acknowledged.gift(&b, &rooms[0], format!("after{i}")).await;
    }
    println!("gifts are taken again after {:?}", started.elapsed());
    hear_each_other(&a, &b, &rooms, &mut before).await;
    println!("all rooms hear each other after {:?}", started.elapsed());
    for pod in [&a, &b] {
        eventually("the last one came", async || pod.seen(&rooms[0]).names().contains(&"after4")).await;
        let seen = pod.seen(&rooms[0]);
        acknowledged.came_or_its_loss_was_told(&seen);
        assert!(seen.openings > 1, "a failover begins a new epoch: {seen:?}");
        let other = pod.seen(rooms.last().unwrap());
        println!("the other shard: {} openings, {} alone", other.openings, other.alone);
    }
}

/// A cluster of one node behind a proxy, and the proxy's address.
async fn behind_a_proxy() -> (Proxy, RedisServer, String) {
    let (proxy, bus) = (Proxy::start(0).await, free_port().to_string());
    let port = proxy.port.to_string();
    let options = ["--cluster-enabled", "yes", "--cluster-port", &bus];
    let announced = ["--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", &port];
    let node = RedisServer::start_with(&[options, announced].concat());
    proxy.lead_to(node.port);
    node.text(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    eventually("the cluster is whole", async || node.text(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
        .await;
    (proxy, node, format!("redis://127.0.0.1:{port}"))
}

/// The client library repeats a command whose answer got lost with its connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_makes_no_gift_come_twice() {
    let (proxy, _node, url) = behind_a_proxy().await;
    let (a, b) = (Pod::on_redis(&url, true, FLEET), Pod::on_redis(&url, true, FLEET));
    a.open("talk").await;
    b.open("talk").await;
    a.gift("talk", "first").await.unwrap();
    proxy.swallow_an_answer();
    let _ = a.gift("talk", "second").await;
    assert!(proxy.has_swallowed());
    a.gift_at_last("talk", "third").await;
    for pod in [&a, &b] {
        eventually("the third came", async || pod.seen("talk").names().contains(&"third")).await;
        assert_eq!(pod.seen("talk").names(), ["first", "second", "third"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_loses_no_held_message() {
    let (proxy, _node, url) = behind_a_proxy().await;
    let pod = Pod::on_redis(&url, true, FLEET);
    pod.open("talk").await;
    let held = Held { chat: Chat { id: "1".into(), ..Chat::default() }, at: unix_ms(), sub: None };
    pod.relay.hold("talk", held.clone()).await.unwrap();
    proxy.swallow_an_answer();
    let settled = Settled { id: "1".into(), shown: true, by: "mod".into() };
    // The client repeats the call, and gets what the first one took out.
    let answer = pod.relay.settle("talk", &settled).await;
    assert!(proxy.has_swallowed());
    assert_eq!(answer, Ok(Some(held)));
}
