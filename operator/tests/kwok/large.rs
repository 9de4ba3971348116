//! 200 pods and 2,000 rooms: what it costs, and that it is right.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use danmu_crds::{DanmuFleet, DanmuRoom};
use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::DeleteParams};
use serde_json::json;

use crate::cluster::{Cluster, endpoints, eventually, ordinal};

const HOT: u32 = 150;
const ALL: u32 = 2000;
const VIEWERS_PER_POD: u32 = 1000;

/// 500 to 1,490 in a hot room, 25 in each other.
fn expected(room: u32) -> u32 {
    if room < HOT { 500 + room * 37 % 1000 } else { 25 }
}

fn name(room: u32) -> String {
    format!("room-{room}")
}

async fn make_rooms(cluster: &Cluster, rooms: std::ops::Range<u32>, viewers: fn(u32) -> u32) {
    let rooms = rooms.map(|room| {
        let name = name(room);
        async move { cluster.room(&name, json!({"expectedViewers": viewers(room)})).await }
    });
    stream::iter(rooms).buffer_unordered(32).collect::<()>().await;
}

/// Every hot room's pods hold its shares, and its slice has no others, at the addresses they have; `all` of them, where
/// none has more than its share.
async fn is_right(cluster: &Cluster, all: bool) {
    let pods: BTreeMap<String, Pod> =
        cluster.pods().await.into_iter().map(|pod| (pod.name_any(), pod)).collect();
    let (slices, services) = (cluster.slices().await, cluster.services().await);
    let mut planned: BTreeMap<String, u32> = BTreeMap::new();
    let rooms = cluster.rooms().await;
    let hot: Vec<&DanmuRoom> = rooms
        .iter()
        .filter(|room| room.status.as_ref().is_some_and(|status| !status.placement.is_empty()))
        .collect();
    for room in &hot {
        let placement = &room.status.as_ref().unwrap().placement;
        let shares: Vec<u32> = placement.iter().map(|share| share.viewers).collect();
        assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1, "{shares:?}");
        for share in placement {
            *planned.entry(share.pod.clone()).or_default() += share.viewers;
        }
        let slice = &slices[&room.name_any()];
        assert!(services.contains_key(&room.name_any()));
        let mut placed: Vec<String> = placement.iter().map(|share| share.pod.clone()).collect();
        placed.sort();
        let taking = endpoints(slice);
        assert!(
            !taking.is_empty() && taking.iter().all(|pod| placed.contains(pod)),
            "{taking:?} of {placed:?}"
        );
        assert!(!all || taking == placed, "{}: {taking:?} of {placed:?}", room.name_any());
        for endpoint in &slice.endpoints {
            let pod = &pods[endpoint.target_ref.as_ref().unwrap().name.as_ref().unwrap()];
            assert_eq!(endpoint.addresses, [pod.status.as_ref().unwrap().pod_ip.clone().unwrap()]);
            let conditions = endpoint.conditions.as_ref().unwrap();
            let all = (conditions.ready, conditions.serving, conditions.terminating);
            assert_eq!(all, (Some(true), Some(true), Some(false)));
        }
    }
    assert_eq!((slices.len(), services.len()), (hot.len(), hot.len()), "none of a cold room");
    for (pod, viewers) in planned {
        assert!(viewers <= VIEWERS_PER_POD, "{viewers} viewers are planned for {pod}");
    }
}

struct Meter<'a> {
    cluster: &'a Cluster,
    began: Instant,
    mark: usize,
    plans: f64,
    seconds: f64,
    plan_seconds: f64,
}

impl<'a> Meter<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let metric = |name| cluster.metric(name);
        Self {
            cluster,
            began: Instant::now(),
            mark: cluster.calls.mark(),
            plans: metric("danmu_operator_plan_seconds_count"),
            seconds: metric("danmu_operator_reconcile_seconds_sum"),
            plan_seconds: metric("danmu_operator_plan_seconds_sum"),
        }
    }

    /// Prints what it took, and answers the number of plans and of writes.
    fn read(&self, what: &str) -> (f64, usize) {
        let metric = |name| self.cluster.metric(name);
        let plans = metric("danmu_operator_plan_seconds_count") - self.plans;
        let each = |seconds: f64| seconds * 1000.0 / plans.max(1.0);
        println!(
            "{what}: {:.1} s, {plans} plans of {:.1} ms in reconciles of {:.0} ms, writes {:?}",
            self.began.elapsed().as_secs_f64(),
            each(metric("danmu_operator_plan_seconds_sum") - self.plan_seconds),
            each(metric("danmu_operator_reconcile_seconds_sum") - self.seconds),
            self.cluster.calls.counted(self.mark),
        );
        (plans, self.cluster.calls.writes(self.mark).len())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_rooms_on_two_hundred_pods() {
    let mut cluster = Cluster::new("large").await;
    cluster
        .fleet(json!({
            "viewersPerPod": VIEWERS_PER_POD, "hotRoomViewers": 500, "replicas": {"min": 1, "max": 260},
            "drainSeconds": 20, "route": {"ingress": {"host": "large.example.com"}},
            // In another form than the API server's.
            "resources": {"requests": {"cpu": "1m", "memory": "1024Ki"}, "limits": {"memory": "0.5Gi"}},
            "pod": {"tolerations": [{"operator": "Exists"}]},
        }))
        .await;
    make_rooms(&cluster, 0..ALL, expected).await;
    cluster.operate().await;
    let meter = Meter::new(&cluster);
    cluster.settles(240).await;
    let (_, writes) = meter.read("2,000 rooms, none placed before");
    let pods = cluster.pods().await.len();
    let least = (0..ALL).map(expected).sum::<u32>().div_ceil(VIEWERS_PER_POD) as usize;
    println!("{pods} pods; no fewer than {least} can hold all");
    assert!(pods <= least + least / 20 && pods >= 190, "{pods}");
    // A hot room is made of three objects, tells its status some three times and has as many Events; a cold one tells
    // its status twice.
    assert!(writes < 150 * 12 + 1850 * 2 + 200, "{writes} writes");
    is_right(&cluster, true).await;

    // Four fifths of the viewers come, which is under what was expected, headroom included.
    for room in 0..ALL {
        cluster.loads.audience(&name(room), expected(room) * 4 / 5);
    }
    eventually("all have come", 60, async || {
        let fleet: DanmuFleet = cluster.api().get("default").await.unwrap();
        (fleet.status?.viewers? >= 140_000).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(75)).await;
    let mark = cluster.calls.mark();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(cluster.calls.writes(mark), Vec::<String>::new(), "nothing moves, so nothing is written");
    is_right(&cluster, true).await;

    let meter = Meter::new(&cluster);
    make_rooms(&cluster, ALL..ALL + 500, |_| 0).await;
    cluster.settles(60).await;
    let (plans, writes) = meter.read("500 rooms at once");
    assert!(plans <= meter.began.elapsed().as_secs_f64() + 2.0, "{plans} plans");
    assert!((500..=1050).contains(&writes), "{writes} writes for 500 statuses");

    grows_and_shrinks(&cluster).await;
    cluster.end().await;
}

async fn grows_and_shrinks(cluster: &Cluster) {
    let before = cluster.pods().await.len();
    let meter = Meter::new(cluster);
    for room in 0..20 {
        cluster.loads.audience(&name(room), expected(room) * 2);
    }
    let more = eventually("pods are made for the viewers that came", 60, async || {
        let pods = cluster.pods().await.len();
        (pods > before).then_some(pods)
    })
    .await;
    cluster.settles(90).await;
    meter.read("20 rooms of twice the viewers");
    println!("from {before} pods to {more}");

    let meter = Meter::new(cluster);
    let rooms = (0..60).map(|room| async move {
        cluster.loads.audience(&name(room), 0);
        let params = DeleteParams::default();
        cluster.api::<DanmuRoom>().delete(&name(room), &params).await.unwrap();
    });
    stream::iter(rooms).buffer_unordered(16).collect::<()>().await;
    eventually("what the rooms had is gone", 60, async || {
        let slices = cluster.slices().await;
        (0..60).all(|room| !slices.contains_key(&name(room))).then_some(())
    })
    .await;
    let fewer = eventually("the tail has drained and is gone", 120, async || {
        let pods = cluster.pods().await.len();
        let settled = cluster.fleet_condition("Progressing").await.1 == "Settled";
        (settled && pods + 30 < more).then_some(pods)
    })
    .await;
    cluster.settles(60).await;
    meter.read("60 hot rooms deleted");
    println!("from {more} pods to {fewer}; {} viewers were cut off", cluster.loads.cut());
    let drained = cluster.loads.asked();
    for gone in fewer..more {
        assert!(drained.contains(&format!("drain danmu-default-{gone}")), "{gone} went undrained");
    }
    assert_eq!(cluster.loads.cut(), 0, "a pod goes when it is empty");
    let ordinals: Vec<u32> = cluster.pods().await.iter().map(ordinal).collect();
    assert_eq!(ordinals, (0..u32::try_from(fewer).unwrap()).collect::<Vec<_>>());
    is_right(cluster, false).await;
}
