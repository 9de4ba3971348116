//! A new image, under load, on a fleet without a free seat.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::fixture::{
    Change, Crowd, History, SERVERS, SET, Venue, figure, hot, ready, requests, small_fleet, writes,
};

const SOON: Duration = Duration::from_secs(60);
const ROLLED: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_replaced_one_by_one_with_a_surge_and_viewers_keep_their_gifts() {
    let mut fleet = small_fleet(60, 1, 2);
    fleet.headroom_percent = 0;
    Venue::with("rollout", fleet, async |venue| {
        venue.apply("final", hot(120)).await;
        venue.pods_are(2, SOON).await;
        venue.room_is_on("final", 2, SOON).await;
        let crowd = venue.send("final", 110, 100).await;
        rolls(venue, &crowd).await;
        waits_for_the_operator(venue, &crowd).await;
        crowd.leave().await;
    })
    .await;
}

async fn rolls(venue: &Venue, crowd: &Crowd) {
    let (pods, sets) = (History::of(venue.pods(), SERVERS), History::of(venue.sets(), SERVERS));
    let slices = History::of(venue.slices(), "danmu.live/room=final");
    let asked = requests(&venue.client()).await.unwrap();
    let publisher = venue.publish("final").await;
    let began = tokio::time::Instant::now();
    let next = venue.release.given.server_image_next.clone();
    venue.change_fleet(json!({"image": next})).await;
    all_have(venue, &next).await;
    let took = began.elapsed();
    let gifts = publisher.stop().await;
    venue.all_in(crowd, Duration::from_secs(10)).await;
    crowd.catch_up(&gifts, Duration::from_secs(5)).await;

    let asked = writes(&asked, &requests(&venue.client()).await.unwrap());
    let mut moves: BTreeMap<(usize, u32), usize> = BTreeMap::new();
    for record in crowd.records() {
        *moves.entry((record.moves.len(), record.hints)).or_default() += 1;
    }
    figure(
        &venue.release.given,
        &format!(
            "6. rollout of a full fleet of 2 under 110 viewers: {took:.1?}, viewers by moves, and hints among them, {moves:?}, {} gifts",
            gifts.len()
        ),
    );
    let surge = sets.changes().iter().filter_map(|change| change.object.spec.as_ref()?.replicas).max();
    assert_eq!(surge, Some(3), "one surge pod over the maximum of 2");
    let away = most_away(&pods.changes(), &["danmu-show-0", "danmu-show-1"]);
    assert_eq!(away, 1, "one pod at a time");
    let evicted = asked.get("POST pods/eviction").copied().unwrap_or(0);
    assert!(evicted >= 2, "pods go through the eviction API: {asked:?}");
    let most = moves.keys().map(|(moves, _)| *moves).max().unwrap_or(0);
    assert!(
        (1..=2).contains(&most),
        "viewers move at most twice: {}; the slice was {:?}",
        crowd.tell(),
        slices_over_time(&slices.changes())
    );
    crowd.undisturbed();
    crowd.have_each_once(&gifts);
}

/// When which pods were in the slice.
fn slices_over_time(changes: &[Change<EndpointSlice>]) -> Vec<(Duration, Vec<String>)> {
    let Some(first) = changes.first() else { return Vec::new() };
    let pods = |change: &Change<EndpointSlice>| {
        let names =
            change.object.endpoints.iter().filter_map(|endpoint| endpoint.target_ref.as_ref()?.name.clone());
        (change.at - first.at, names.collect())
    };
    changes.iter().map(pods).collect()
}

/// All pods run this image, are Ready, and as many as there were.
async fn all_have(venue: &Venue, image: &str) {
    venue
        .until(ROLLED, &format!("2 pods, all of {image}"), async || {
            let pods = venue.server_pods().await?;
            let images: Vec<_> = pods.iter().map(|pod| (image_of(pod), ready(pod))).collect();
            let done = images.len() == 2 && images.iter().all(|(is, ready)| is == image && *ready);
            if done && venue.replicas().await? == 2 { Ok(()) } else { Err(format!("{images:?}")) }
        })
        .await;
}

fn image_of(pod: &Pod) -> String {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    container.and_then(|container| container.image.clone()).unwrap_or_default()
}

/// The most of these pods that were not Ready, or not there, at one time.
fn most_away(changes: &[Change<Pod>], names: &[&str]) -> usize {
    let mut is_ready: BTreeMap<String, bool> = BTreeMap::new();
    let counts = changes.iter().map(|change| {
        is_ready.insert(change.object.name_any(), !change.deleted && ready(&change.object));
        names.iter().filter(|name| is_ready.get(**name) == Some(&false)).count()
    });
    counts.max().unwrap_or(0)
}

/// A template that changes while no operator runs changes no pod; with the operator back, pods are drained first.
async fn waits_for_the_operator(venue: &Venue, crowd: &Crowd) {
    let before: Vec<_> = venue.server_pods().await.unwrap().iter().map(ResourceExt::uid).collect();
    venue.release.operators(0).await;
    let revision = async || -> Result<Option<String>, String> {
        let set: StatefulSet = venue.sets().get(SET).await.map_err(|error| error.to_string())?;
        Ok(set.status.and_then(|status| status.update_revision))
    };
    let old = revision().await.unwrap();
    let image = venue.release.given.server_image.clone();
    let template =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "server", "image": image}]}}}});
    let patched = venue.sets().patch(SET, &PatchParams::default(), &Patch::Strategic(&template)).await;
    patched.unwrap_or_else(|error| panic!("the template: {error}"));
    venue.change_fleet(json!({"image": image})).await;
    // A StatefulSet's own rolling update deletes a pod before it tells that it has seen the template.
    venue
        .until(SOON, "the StatefulSet's controller has seen the template", async || {
            let now = revision().await?;
            if now == old { Err(format!("revision {now:?}")) } else { Ok(()) }
        })
        .await;
    let pods = venue.server_pods().await.unwrap();
    let waiting = pods.iter().all(|pod| ready(pod) && image_of(pod) != image);
    assert!(waiting, "no pod is replaced without the operator");
    assert_eq!(pods.iter().map(ResourceExt::uid).collect::<Vec<_>>(), before);

    venue.release.operators(2).await;
    all_have(venue, &image).await;
    venue.all_in(crowd, Duration::from_secs(10)).await;
    crowd.undisturbed();
}
