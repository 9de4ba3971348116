//! What a room tells of its audiences and of the load it sheds.

use std::collections::{BTreeMap, BTreeSet};

use danmu_crds::PlacedShare;
use serde_json::json;

use crate::cluster::{Cluster, eventually};

/// The sub-rooms of each pod, once the room is on so many pods.
async fn laid_over(cluster: &Cluster, pods: usize) -> BTreeMap<String, BTreeSet<u32>> {
    eventually("the room is placed", 60, async || {
        let status = cluster.rooms().await.remove(0).status?;
        let of = |share: PlacedShare| (share.pod, share.sub_rooms.into_iter().collect::<BTreeSet<u32>>());
        (status.placement.len() == pods).then(|| status.placement.into_iter().map(of).collect())
    })
    .await
}

#[tokio::test]
async fn sub_rooms_are_told_in_the_placement_and_stay_when_a_pod_comes() {
    let mut cluster = Cluster::new("sub-rooms").await;
    cluster
        .fleet(json!({"viewersPerPod": 1000, "hotRoomViewers": 500, "replicas": {"min": 1, "max": 5}}))
        .await;
    cluster.room("finals", json!({"expectedViewers": 1900, "subRooms": 4})).await;
    cluster.operate().await;
    cluster.settles(60).await;
    let before = laid_over(&cluster, 2).await;
    assert!(before.values().all(|subs| subs.len() == 2), "whole ones: {before:?}");
    let mark = cluster.calls.mark();
    tokio::time::sleep(std::time::Duration::from_secs(12)).await;
    assert_eq!(laid_over(&cluster, 2).await, before);
    let told = cluster.calls.writes(mark).into_iter().filter(|line| line.contains("danmurooms"));
    assert_eq!(told.collect::<Vec<_>>(), Vec::<String>::new(), "nothing moved, nothing is told");

    cluster.patch::<danmu_crds::DanmuRoom>("finals", json!({"spec": {"expectedViewers": 2900}})).await;
    let after = laid_over(&cluster, 3).await;
    for (pod, subs) in &before {
        assert_eq!(&after[pod], subs, "{pod} keeps what it has: {after:?}");
    }
    let all: BTreeSet<u32> = after.values().flatten().copied().collect();
    assert_eq!(all, (0..4).collect());
    cluster.end().await;
}

#[tokio::test]
async fn a_room_that_sheds_load_says_so_with_an_event_on_each_edge() {
    let mut cluster = Cluster::new("shedding").await;
    cluster.fleet(json!({"redis": {"url": "redis://redis"}})).await;
    let spec =
        json!({"startedAt": "2026-11-01T18:00:00Z", "recording": {}, "shedding": {"viewersAbove": 1000}});
    cluster.room("finals", spec).await;
    cluster.operate().await;
    cluster.settles(60).await;
    for (stage, status, reason) in
        [(0, "False", "Calm"), (1, "True", "Sampling"), (3, "True", "Fetching"), (0, "False", "Calm")]
    {
        cluster.loads.shed("finals", stage);
        eventually(reason, 30, async || {
            let is = cluster.room_condition("finals", "Shedding").await;
            (is == (status.to_owned(), reason.to_owned())).then_some(())
        })
        .await;
    }
    assert_eq!(cluster.room_condition("finals", "Recorded").await.1, "InRedis");
    eventually("all edges are Events", 10, async || {
        let told = cluster.events("finals").await;
        ["Sampling", "Fetching", "Calm"].iter().all(|reason| told.iter().any(|it| it == reason)).then_some(())
    })
    .await;
    cluster.end().await;
}
