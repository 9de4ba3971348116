//! What others did to our objects is put right, and what cannot be is told.

use std::time::Duration;

use danmu_crds::{DanmuFleet, DanmuRoom};
use k8s_openapi::api::{
    apps::v1::StatefulSet, core::v1::Service, discovery::v1::EndpointSlice, policy::v1::PodDisruptionBudget,
};
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use crate::cluster::{Cluster, endpoints, eventually};

fn small() -> serde_json::Value {
    json!({"viewersPerPod": 1000, "hotRoomViewers": 500, "replicas": {"min": 1, "max": 4}, "drainSeconds": 10})
}

#[tokio::test]
async fn a_foreign_edit_is_put_back_and_a_deleted_child_made_anew() {
    let mut cluster = Cluster::new("heals").await;
    cluster.fleet(small()).await;
    cluster.room("finals", json!({"expectedViewers": 1800})).await;
    cluster.operate().await;
    cluster.settles(60).await;
    let slice = cluster.slices().await["finals"].clone();
    assert_eq!(endpoints(&slice), ["danmu-default-0", "danmu-default-1"]);
    let mark = cluster.calls.mark();

    cluster.patch::<PodDisruptionBudget>("danmu-default", json!({"spec": {"maxUnavailable": 3}})).await;
    cluster.patch::<EndpointSlice>(&slice.name_any(), json!({"endpoints": []})).await;
    cluster.patch::<StatefulSet>("danmu-default", json!({"spec": {"replicas": 4}})).await;
    let unlabelled = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}});
    cluster.patch::<Service>("danmu-default", unlabelled).await;
    eventually("the edits are put back", 30, async || {
        let budget = cluster.api::<PodDisruptionBudget>().get("danmu-default").await.unwrap();
        let service = cluster.api::<Service>().get("danmu-default").await.unwrap();
        let back = budget.spec?.max_unavailable?
            == k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(1)
            && endpoints(&cluster.slices().await["finals"]).len() == 2
            && service.labels().contains_key("app.kubernetes.io/managed-by")
            && cluster.replicas().await == 2;
        back.then_some(())
    })
    .await;

    let params = DeleteParams::default();
    cluster.api::<Service>().delete("danmu-default", &params).await.unwrap();
    cluster.api::<Service>().delete(&slice.name_any(), &params).await.unwrap();
    cluster.api::<EndpointSlice>().delete(&slice.name_any(), &params).await.unwrap();
    cluster.api::<StatefulSet>().delete("danmu-default", &DeleteParams::foreground()).await.unwrap();
    eventually("what was deleted is made anew", 60, async || {
        let service = cluster.api::<Service>().get_opt("danmu-default").await.unwrap()?;
        let ready = service.metadata.deletion_timestamp.is_none()
            && cluster.services().await.contains_key("finals")
            && cluster.slices().await.contains_key("finals")
            && cluster.replicas().await == 2;
        ready.then_some(())
    })
    .await;
    cluster.settles(60).await;
    println!("put right with {:?}", cluster.calls.counted(mark));

    // No finalizer, and everything is the fleet's.
    cluster.api::<DanmuFleet>().delete("default", &params).await.unwrap();
    eventually("all goes with the fleet", 60, async || {
        let gone = cluster.slices().await.is_empty() && cluster.services().await.is_empty();
        (gone && cluster.set().await.is_none()).then_some(())
    })
    .await;
    eventually("the room says that its fleet is gone", 20, async || {
        (cluster.room_condition("finals", "Ready").await.1 == "NoSuchFleet").then_some(())
    })
    .await;
    cluster.end().await;
}

#[tokio::test]
async fn what_cannot_be_met_is_told_and_a_paused_fleet_stands_still() {
    let mut cluster = Cluster::new("tells").await;
    cluster.fleet(small()).await;
    cluster.room("huge", json!({"expectedViewers": 9000})).await;
    cluster.room("quiet", json!({})).await;
    cluster.operate().await;
    eventually("the room tells that it does not fit", 60, async || {
        let placed = cluster.room_condition("huge", "Placed").await;
        (placed == ("False".to_owned(), "FleetFull".to_owned()) && cluster.replicas().await == 4)
            .then_some(())
    })
    .await;
    let room: DanmuRoom = cluster.api().get("huge").await.unwrap();
    let status = room.status.unwrap();
    let placed = status.conditions.iter().find(|condition| condition.type_ == "Placed").unwrap();
    assert!(placed.message.contains("raise the fleet's replicas.max"), "{}", placed.message);
    eventually("it is placed as well as can be", 30, async || {
        (cluster.slices().await.get("huge").map(endpoints)?.len() == 4).then_some(())
    })
    .await;
    assert!(cluster.events("huge").await.contains(&"FleetFull".to_owned()));
    assert_eq!(cluster.fleet_condition("Degraded").await.1, "FleetFull");

    cluster.patch::<DanmuFleet>("default", json!({"spec": {"paused": true}})).await;
    eventually("it says that it is paused", 20, async || {
        (cluster.fleet_condition("Paused").await == ("True".to_owned(), "Paused".to_owned())).then_some(())
    })
    .await;
    cluster.patch::<DanmuRoom>("huge", json!({"spec": {"expectedViewers": 0}})).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!((cluster.replicas().await, cluster.loads.asked()), (4, Vec::new()), "nothing goes meanwhile");
    cluster.patch::<DanmuFleet>("default", json!({"spec": {"paused": false}})).await;
    eventually("the rest goes", 60, async || (cluster.replicas().await == 1).then_some(())).await;

    let fleets = cluster.api::<DanmuFleet>();
    let scale = Patch::Merge(json!({"spec": {"replicas": 3}}));
    fleets.patch_scale("default", &PatchParams::default(), &scale).await.unwrap();
    eventually("kubectl scale moves the floor", 30, async || (cluster.replicas().await == 3).then_some(()))
        .await;
    cluster.settles(30).await;
    let scale = fleets.get_scale("default").await.unwrap();
    let status = scale.status.unwrap();
    assert_eq!((status.replicas, status.selector.is_some()), (3, true));
    cluster.end().await;
}

#[tokio::test]
async fn servers_that_do_not_answer_freeze_the_fleet_both_ways() {
    let mut cluster = Cluster::new("silent").await;
    cluster.fleet(small()).await;
    cluster.room("finals", json!({"expectedViewers": 1800})).await;
    cluster.operate().await;
    cluster.settles(60).await;
    assert_eq!(cluster.fleet_condition("Degraded").await.0, "False");
    assert!(!cluster.events("default").await.contains(&"LoadsUnknown".to_owned()), "a start is no trouble");
    cluster.loads.silent(true);
    eventually("it says that loads are unknown", 40, async || {
        let degraded = cluster.fleet_condition("Degraded").await;
        (degraded == ("True".to_owned(), "LoadsUnknown".to_owned())).then_some(())
    })
    .await;
    cluster.patch::<DanmuRoom>("finals", json!({"spec": {"expectedViewers": 3900}})).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(cluster.replicas().await, 2, "no pod is made without knowing");
    cluster.patch::<DanmuRoom>("finals", json!({"spec": {"expectedViewers": 0}})).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(cluster.replicas().await, 2, "and none goes");
    cluster.loads.silent(false);
    eventually("it goes on", 60, async || (cluster.replicas().await == 1).then_some(())).await;
    cluster.end().await;
}

#[tokio::test]
async fn pods_are_there_before_a_scheduled_start_and_drained_after_the_end() {
    let mut cluster = Cluster::new("schedule").await;
    let mut spec = small();
    spec["warmupSeconds"] = json!(25);
    cluster.fleet(spec).await;
    cluster.operate().await;
    let now = jiff::Timestamp::now();
    let at = |seconds| (now + jiff::SignedDuration::from_secs(seconds)).to_string();
    let window = json!({"start": at(40), "end": at(60), "expectedViewers": 2900});
    cluster.room("finals", json!({"schedule": [window]})).await;
    let since = || jiff::Timestamp::now().duration_since(now).as_secs();
    eventually("the first pod is there", 14, async || (cluster.replicas().await == 1).then_some(())).await;
    eventually("its pods are there", 40, async || {
        (cluster.slices().await.get("finals").map(endpoints)?.len() == 3).then_some(())
    })
    .await;
    assert!((15..40).contains(&since()), "within the warm-up, but {} s after it was made", since());
    eventually("the rest has gone", 60, async || (cluster.replicas().await == 1).then_some(())).await;
    assert!(since() >= 60, "not before the end");
    assert_eq!(cluster.loads.asked(), ["drain danmu-default-1", "drain danmu-default-2"]);
    assert!(cluster.slices().await.is_empty(), "it is cold again");
    cluster.end().await;
}
