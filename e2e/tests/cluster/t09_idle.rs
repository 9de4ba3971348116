//! What the operator costs when nothing happens, and what it does when it is blind.

use std::time::Duration;

use danmu_crds::{Auth, SecretName};
use futures_util::{StreamExt, stream};
use kube::runtime::watcher::Config;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::fixture::{
    Crowd, FLEET, History, SET, Venue, figure, hot, requests, secret, small_fleet, usage, writes,
};

const SOON: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(60);
const LOAD: Duration = Duration::from_secs(30);
const ROOMS: usize = 2000;
/// All kinds that the operator writes, Events too. Leases are renewed by whoever leads, whatever happens.
const WRITTEN: [&str; 12] = [
    "danmurooms/status",
    "danmufleets/status",
    "statefulsets",
    "services",
    "endpointslices",
    "httproutes",
    "poddisruptionbudgets",
    "serviceaccounts",
    "rolebindings",
    "secrets",
    "events",
    "pods/eviction",
];

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_cluster_is_not_written_to_and_two_thousand_rooms_keep_their_servers_quiet() {
    Venue::with("idle", small_fleet(100, 2, 2), async |venue| {
        venue.apply("final", hot(150)).await;
        venue.apply("cold", hot(0)).await;
        venue.room_is_on("final", 2, SOON).await;
        venue.room_is_ready("cold", SOON).await;
        let (many, few) = (venue.send("final", 60, 60).await, venue.send("cold", 5, 60).await);
        nothing_is_written(venue).await;
        crowd_is_still_in(&many, &few);
        many.leave().await;
        few.leave().await;
        two_thousand_rooms(venue).await;
    })
    .await;
}

async fn written(venue: &Venue) -> Result<std::collections::BTreeMap<String, f64>, String> {
    let mut all = requests(&venue.client()).await?;
    all.retain(|name, _| WRITTEN.iter().any(|kind| name.split_once(' ').is_some_and(|(_, of)| of == *kind)));
    Ok(all)
}

async fn nothing_is_written(venue: &Venue) {
    // Counts are told at most once a minute; until they are, a write is to come.
    venue
        .until(Duration::from_secs(120), "all viewers are counted in the statuses", async || {
            let fleet = venue.fleets().get(FLEET).await.map_err(|error| error.to_string())?;
            let counts =
                (fleet.status.and_then(|status| status.viewers), venue.status("final").await?.viewers);
            if counts == (Some(65), Some(60)) { Ok(()) } else { Err(format!("fleet and room: {counts:?}")) }
        })
        .await;
    let (before, used) = (written(venue).await.unwrap(), usage(&venue.client()).await.unwrap());
    // That nothing happens can be seen only by waiting.
    sleep(IDLE).await;
    let (after, now) = (written(venue).await.unwrap(), usage(&venue.client()).await.unwrap());
    let news = writes(&before, &after);
    figure(
        &venue.release.given,
        &format!(
            "9. idle for {IDLE:?}: writes {news:?}; operators: {} MiB the larger, {:.2} % of a core together",
            now.memory >> 20,
            (now.cpu - used.cpu) / IDLE.as_secs_f64() * 100.0
        ),
    );
    assert!(news.is_empty(), "an idle cluster is written to: {news:?}");
}

fn crowd_is_still_in(many: &Crowd, few: &Crowd) {
    for crowd in [many, few] {
        crowd.undisturbed();
        assert_eq!(crowd.all_in(), Ok(()));
    }
}

/// What a server's watch of its rooms sees while viewers come, go and talk in many of them.
async fn two_thousand_rooms(venue: &Venue) {
    let names: Vec<String> = (0..ROOMS).map(|number| format!("room-{number}")).collect();
    let applying = Instant::now();
    stream::iter(&names).for_each_concurrent(50, async |name| venue.apply(name, hot(0)).await).await;
    venue.room_is_ready(&names[ROOMS - 1], SOON).await;
    let selector = format!("spec.fleet={FLEET}");
    venue
        .until(Duration::from_secs(90), "all 2,000 rooms have a status", async || {
            let rooms = venue
                .rooms()
                .list(&kube::api::ListParams::default())
                .await
                .map_err(|error| error.to_string())?;
            let told =
                rooms.iter().filter(|room| room.status.as_ref().is_some_and(|s| s.url.is_some())).count();
            if told >= ROOMS { Ok(()) } else { Err(format!("{told} have one")) }
        })
        .await;
    let told = applying.elapsed();

    let seen = History::watch(venue.rooms(), Config::default().fields(&selector));
    venue
        .until(SOON, "the watch has listed the rooms", async || {
            if seen.len() >= ROOMS { Ok(()) } else { Err(format!("{} rooms", seen.len())) }
        })
        .await;
    let (listed, used, began) = (seen.len(), usage(&venue.client()).await.unwrap(), Instant::now());
    let mut round = 0;
    while began.elapsed() < LOAD {
        let rooms: Vec<&String> = names.iter().skip(round * 30 % ROOMS).take(30).collect();
        round += 1;
        let mut crowd = Crowd::default();
        for room in rooms {
            crowd.add(Crowd::send(&venue.door, room, 3, 1000).await);
        }
        venue.all_in(&crowd, SOON).await;
        for viewer in &crowd.0 {
            viewer.say("hello").await;
        }
        crowd.leave().await;
    }
    let (took, events) = (began.elapsed().as_secs_f64(), seen.len() - listed);
    let now = usage(&venue.client()).await.unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let rate = events as f64 / took;
    figure(
        &venue.release.given,
        &format!(
            "9. {ROOMS} rooms, told of after {told:.1?}; {} visits in {took:.0} s: {events} watch events at a server, {rate:.2} a second; \
             operators: {} MiB the larger, {:.1} % of a core together",
            round * 90,
            now.memory >> 20,
            (now.cpu - used.cpu) / took * 100.0
        ),
    );
    assert!(rate <= 1.0, "small rooms' viewers wake every server: {events} events in {took:.0} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_wrong_admin_token_the_replicas_are_frozen_until_it_is_right_again() {
    let mut fleet = small_fleet(100, 2, 4);
    fleet.auth = Some(Auth { secret_ref: Some(SecretName { name: "tokens".to_owned() }), jwks: None });
    Venue::with("blind", fleet, async |venue| {
        venue.apply("final", hot(150)).await;
        venue.room_is_on("final", 2, SOON).await;
        let crowd = venue.send("final", 40, 60).await;
        // A fleet that is not paused would take a new token by a rollout. The operator keeps the last two.
        venue.change_fleet(json!({"paused": true})).await;
        for name in ["wrong", "wrong-too"] {
            let entries = json!({"admin-token": format!("a-{name}-token")});
            secret(&venue.client(), &venue.namespace, name, entries).await;
            venue.change_fleet(json!({"auth": {"secretRef": {"name": name}}})).await;
            venue
                .until(SOON, "the operator has read the Secret", async || {
                    let volume = secret_of_pods(venue).await?;
                    if volume == name { Ok(()) } else { Err(format!("new pods would have {volume}")) }
                })
                .await;
        }
        let told = venue
            .until(SOON, "Degraded, LoadsUnknown", async || {
                let told = venue.fleet_condition("Degraded").await?;
                if told.0 == "True" && told.1 == "LoadsUnknown" {
                    Ok(told.2)
                } else {
                    Err(format!("{told:?}"))
                }
            })
            .await;
        assert!(told.contains("GET /load from danmu-show-0, danmu-show-1"), "{told}");

        // More than the maximum holds is asked for: blind, nothing may come of it, in three polls' time and more.
        venue.change_fleet(json!({"paused": false})).await;
        venue.expect("final", 5000).await;
        let observed = Instant::now();
        while observed.elapsed() < Duration::from_secs(20) {
            assert_eq!(venue.replicas().await, Ok(2), "replicas are frozen");
            assert_eq!(venue.server_pods().await.map(|pods| pods.len()), Ok(2));
            sleep(Duration::from_millis(500)).await;
        }
        let degraded = venue.fleet_condition("Degraded").await.unwrap();
        assert_eq!(degraded.1, "LoadsUnknown");
        crowd.undisturbed();

        venue.change_fleet(json!({"auth": {"secretRef": {"name": "tokens"}}})).await;
        let mended = Instant::now();
        venue.pods_are(4, Duration::from_secs(120)).await;
        figure(
            &venue.release.given,
            &format!("9. the right token again: the fleet grows after {:.1?}", mended.elapsed()),
        );
        venue.all_in(&crowd, SOON).await;
        crowd.leave().await;
    })
    .await;
}

/// The Secret that new pods would be made with.
async fn secret_of_pods(venue: &Venue) -> Result<String, String> {
    let set = venue.sets().get(SET).await.map_err(|error| error.to_string())?;
    let pod = set.spec.and_then(|spec| spec.template.spec).unwrap_or_default();
    let secrets =
        pod.volumes.iter().flatten().filter_map(|volume| volume.secret.as_ref()?.secret_name.clone());
    Ok(secrets.collect())
}
