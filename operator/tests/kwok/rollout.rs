//! A new template under load, on a full fleet.

use std::collections::BTreeSet;

use danmu_crds::DanmuFleet;
use kube::ResourceExt;
use serde_json::json;

use crate::cluster::{Cluster, endpoints, eventually, ordinal};

fn is_current(pod: &k8s_openapi::api::core::v1::Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.containers[0].image.as_deref() == Some("danmu-server:two"))
}

#[tokio::test]
async fn a_full_fleet_is_replaced_pod_by_pod_beside_a_surge_pod() {
    let mut cluster = Cluster::new("rollout").await;
    cluster
        .fleet(json!({
            "viewersPerPod": 1000, "hotRoomViewers": 500, "replicas": {"min": 1, "max": 4}, "drainSeconds": 10,
        }))
        .await;
    cluster.room("finals", json!({"expectedViewers": 3900})).await;
    cluster.loads.audience("finals", 3000);
    cluster.operate().await;
    cluster.settles(60).await;
    eventually("all have come", 30, async || (cluster.loads.seated() == 3000).then_some(())).await;
    assert_eq!(cluster.replicas().await, 4);
    let before: BTreeSet<String> = cluster.pods().await.iter().filter_map(ResourceExt::uid).collect();
    let mark = cluster.calls.mark();

    cluster.patch::<DanmuFleet>("default", json!({"spec": {"image": "danmu-server:two"}})).await;
    let mut most = 0;
    eventually("all pods are of the new revision, and the surge pod is gone", 240, async || {
        let pods = cluster.pods().await;
        most = most.max(pods.len());
        // Whoever drains is in no slice.
        let fleet: DanmuFleet = cluster.api().get("default").await.unwrap();
        let draining = fleet.status.unwrap_or_default().draining;
        if let Some(slice) = cluster.slices().await.get("finals") {
            let names = endpoints(slice);
            // The status may be a moment older than the slice.
            assert!(
                draining.len() <= 1 || !draining.iter().all(|pod| names.contains(pod)),
                "{draining:?} in {names:?}"
            );
        }
        let done = pods.len() == 4 && pods.iter().all(is_current);
        (done && cluster.fleet_condition("Progressing").await.1 == "Settled").then_some(())
    })
    .await;
    let evicted: Vec<String> = cluster
        .calls
        .writes(mark)
        .into_iter()
        .filter_map(|line| Some(line.strip_suffix("/eviction")?.rsplit('-').next()?.to_owned()))
        .collect();
    let mut order = evicted.clone();
    order.dedup();
    assert_eq!(order, ["3", "2", "1", "0"], "from the highest; {evicted:?}");
    assert_eq!(most, 5, "one pod more than its maximum");
    let drains: Vec<String> =
        cluster.loads.asked().into_iter().filter(|asked| asked.starts_with("drain")).collect();
    assert_eq!(drains, ["3", "2", "1", "0", "4"].map(|pod| format!("drain danmu-default-{pod}")));
    assert_eq!(cluster.loads.cut(), 0, "nobody was on a pod that went");
    let moved = cluster.loads.moved();
    assert!(moved <= 2 * 3000, "{moved} moves of 3,000 viewers");
    let pods = cluster.pods().await;
    assert!(pods.iter().all(|pod| !before.contains(&pod.uid().unwrap())));
    assert_eq!(pods.iter().map(ordinal).collect::<Vec<_>>(), [0, 1, 2, 3]);
    println!("rollout of 4 pods, {moved} moves of 3,000 viewers: {:?}", cluster.calls.counted(mark));
    cluster.end().await;
}
