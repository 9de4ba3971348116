//! Things die: a server, a pod, the leading operator, the API server. Who is elsewhere sees nothing, and it heals.

use std::{collections::BTreeMap, time::Duration};

use danmu_crds::{DanmuRoom, DanmuRoomSpec};
use k8s_openapi::api::{apps::v1::StatefulSet, coordination::v1::Lease, core::v1::Pod};
use kube::{Api, ResourceExt, api::DeleteParams, runtime::watcher::Config};
use tokio::time::{Instant, sleep};

use crate::fixture::{
    Change, Crowd, History, RELEASE, SERVERS, Venue, Viewer, condition, figure, hot, ready, small_fleet,
    until,
};

const SOON: Duration = Duration::from_secs(60);
/// Its controller is started again by the kubelet, which waits longer each time.
const GATEWAY_BACK: Duration = Duration::from_secs(120);
const API_AWAY: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn what_dies_comes_back_and_only_its_own_viewers_notice() {
    Venue::with("failures", small_fleet(100, 3, 4), async |venue| {
        venue.apply("final", DanmuRoomSpec { min_pods: 3, ..hot(150) }).await;
        venue.pods_are(3, SOON).await;
        venue.room_is_on("final", 3, SOON).await;
        let crowd = venue.send("final", 90, 90).await;
        let sets = History::of(venue.sets(), SERVERS);
        let rooms = History::watch(venue.rooms(), Config::default().fields("metadata.name=final"));

        server_is_killed(venue, &crowd).await;
        pod_is_deleted(venue, &crowd).await;
        leader_dies(venue, &crowd).await;
        api_server_is_away(venue, &crowd).await;

        let replicas = sets
            .changes()
            .iter()
            .filter_map(|c: &Change<StatefulSet>| c.object.spec.as_ref()?.replicas)
            .collect::<Vec<_>>();
        assert!(replicas.iter().all(|replicas| *replicas == 3), "replicas flapped: {replicas:?}");
        let flips = flips(&rooms.changes());
        figure(
            &venue.release.given,
            &format!("7. flips of the room's conditions in four failures: {flips:?}"),
        );
        assert!(flips.values().all(|flips| *flips <= 4), "conditions flapped: {flips:?}");
        assert_eq!(venue.status("final").await.unwrap().placement.len(), 3);
        crowd.leave().await;
    })
    .await;
}

/// How often each condition changed its status.
fn flips(changes: &[Change<DanmuRoom>]) -> BTreeMap<&'static str, usize> {
    let count = |kind| {
        let of = |c: &Change<DanmuRoom>| {
            Some(condition(&c.object.status.as_ref()?.conditions, kind)?.status.clone())
        };
        let states: Vec<String> = changes.iter().filter_map(of).collect();
        states.windows(2).filter(|pair| pair[0] != pair[1]).count()
    };
    ["Placed", "Routed", "Ready"].into_iter().map(|kind| (kind, count(kind))).collect()
}

fn cuts(crowd: &Crowd) -> u64 {
    crowd.records().iter().map(|record| record.cuts.len() as u64).sum()
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|container| container.restart_count).sum()
}

async fn server_is_killed(venue: &Venue, crowd: &Crowd) {
    let there = venue.spread("final").await.unwrap()["danmu-show-1"];
    let pod = venue.pods().get("danmu-show-1").await.unwrap();
    let before = restarts(&pod);
    let killed = Instant::now();
    venue.release.kill(&venue.namespace, "danmu-show-1").await;
    venue
        .until(SOON, "the killed server's viewers noticed, and all are back", async || {
            let cuts = cuts(crowd);
            if cuts >= there { crowd.all_in() } else { Err(format!("{cuts} of {there} were cut off")) }
        })
        .await;
    let back = killed.elapsed();
    venue
        .until(SOON, "the server is started again in its pod", async || {
            let now = venue.pods().get("danmu-show-1").await.map_err(|error| error.to_string())?;
            let restarted = now.uid() == pod.uid() && restarts(&now) == before + 1 && ready(&now);
            if restarted {
                Ok(())
            } else {
                Err(format!("{} restarts, Ready: {}", restarts(&now), ready(&now)))
            }
        })
        .await;
    figure(
        &venue.release.given,
        &format!(
            "7. kill -9: its {there} viewers back after {back:.1?}, the pod Ready after {:.1?}",
            killed.elapsed()
        ),
    );
    assert_eq!(cuts(crowd), there, "nobody else was cut off: {}", crowd.tell());
    venue.room_is_on("final", 3, SOON).await;
}

async fn pod_is_deleted(venue: &Venue, crowd: &Crowd) {
    let (cut, moved) = (cuts(crowd), moves(crowd));
    let there = venue.spread("final").await.unwrap()["danmu-show-2"];
    let pod = venue.pods().get("danmu-show-2").await.unwrap();
    let deleted = Instant::now();
    venue.pods().delete("danmu-show-2", &DeleteParams::default()).await.unwrap();
    venue
        .until(SOON, "another pod of that name is Ready", async || {
            let now = venue.pods().get("danmu-show-2").await.map_err(|error| error.to_string())?;
            if now.uid() != pod.uid() && ready(&now) {
                Ok(())
            } else {
                Err(format!("Ready: {}", ready(&now)))
            }
        })
        .await;
    venue.all_in(crowd, SOON).await;
    figure(
        &venue.release.given,
        &format!("7. kubectl delete pod: {there} viewers moved, a new pod after {:.1?}", deleted.elapsed()),
    );
    assert_eq!(cuts(crowd), cut, "a pod that is deleted drains: {}", crowd.tell());
    assert_eq!(moves(crowd) - moved, there, "only its viewers move: {}", crowd.tell());
    venue.room_is_on("final", 3, SOON).await;
}

fn moves(crowd: &Crowd) -> u64 {
    crowd.records().iter().map(|record| record.moves.len() as u64).sum()
}

async fn holder(leases: &Api<Lease>) -> Result<String, String> {
    let lease = leases.get("danmu-operator").await.map_err(|error| error.to_string())?;
    lease.spec.and_then(|spec| spec.holder_identity).ok_or_else(|| "nobody leads".to_owned())
}

async fn leader_dies(venue: &Venue, crowd: &Crowd) {
    let noticed = (cuts(crowd), moves(crowd));
    let leases: Api<Lease> = Api::namespaced(venue.client(), RELEASE);
    let operators: Api<Pod> = Api::namespaced(venue.client(), RELEASE);
    let leader = holder(&leases).await.unwrap();
    let died = Instant::now();
    // Without a grace it cannot give the lease back.
    operators.delete(&leader, &DeleteParams::default().grace_period(0)).await.unwrap();
    venue
        .until(SOON, "another operator leads", async || match holder(&leases).await? {
            same if same == leader => Err(format!("{same} leads")),
            _ => Ok(()),
        })
        .await;
    let led = died.elapsed();
    venue.apply("after-the-leader", hot(0)).await;
    venue.room_is_ready("after-the-leader", SOON).await;
    figure(
        &venue.release.given,
        &format!(
            "7. the leader dies: another after {led:.1?}, and a new room is Ready after {:.1?}",
            died.elapsed()
        ),
    );
    assert_eq!((cuts(crowd), moves(crowd)), noticed, "viewers noticed: {}", crowd.tell());
    venue.release.operators(2).await;
}

async fn api_server_is_away(venue: &Venue, crowd: &Crowd) {
    let noticed = (cuts(crowd), moves(crowd));
    venue.release.api_server("stop").await;
    let stopped = Instant::now();
    assert!(venue.rooms().get("final").await.is_err(), "the API server is away");
    let mut said = 0;
    while stopped.elapsed() < API_AWAY {
        said += 1;
        let words = format!("still here {said}");
        crowd.0[0].say(&words).await;
        let heard = until(Duration::from_secs(5), "all others hear it", async || {
            let has = |record: &crate::fixture::Record| record.chats.contains(&words);
            let deaf = crowd.0.iter().filter(|viewer| !viewer.see(has)).count();
            if deaf == 0 { Ok(()) } else { Err(format!("{deaf} viewers have not heard {words:?}")) }
        });
        heard.await.unwrap_or_else(|why| panic!("{why}\n{}", crowd.tell()));
        sleep(Duration::from_secs(3)).await;
    }
    venue.release.api_server("start").await;
    let started = Instant::now();
    venue
        .until(SOON, "a room can be applied", async || {
            venue
                .rooms()
                .list(&kube::api::ListParams::default())
                .await
                .map(drop)
                .map_err(|error| error.to_string())
        })
        .await;
    venue.apply("after-the-outage", hot(0)).await;
    venue.room_is_ready("after-the-outage", SOON).await;
    let told = started.elapsed();
    // The servers follow the API again, too: they let viewers of the new room in.
    venue
        .until(Duration::from_secs(30), "a viewer gets into the new room", async || {
            let viewer = Viewer::join(&venue.door, "after-the-outage");
            let in_time =
                async || viewer.see(|record| record.joined.then_some(()).ok_or(format!("{record:?}")));
            until(Duration::from_secs(2), "joined", in_time).await
        })
        .await;
    let served = started.elapsed();
    figure(
        &venue.release.given,
        &format!(
            "7. API server away for {API_AWAY:?}: {said} danmu heard by all; after it a new room is Ready in {told:.1?}, \
             and served in {served:.1?}"
        ),
    );
    venue.release.operators(2).await;
    venue.room_is_on("final", 3, SOON).await;
    // The gateway's controller ends with its lease too. Were this namespace deleted before it is back, it would leave its
    // proxy behind for good: t09 once saw that pod's failing probe as writes, and t20 its Deployment.
    venue.apply("routed-after-the-outage", DanmuRoomSpec { min_pods: 2, ..hot(0) }).await;
    venue.room_is_ready("routed-after-the-outage", GATEWAY_BACK).await;
    assert_eq!((cuts(crowd), moves(crowd)), noticed, "viewers noticed: {}", crowd.tell());
}
