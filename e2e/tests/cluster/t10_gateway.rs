//! What the gateway must and must not do to viewers, with the chart's policies.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::json;
use tokio::time::Instant;

use crate::fixture::{
    Door, History, SERVERS, Venue, Viewer, address, figure, hot, ready, small_fleet, until,
};

const SOON: Duration = Duration::from_secs(60);
const VIEWERS: usize = 3000;

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_route_takes_thousands_and_a_cold_room_meets_on_one_pod() {
    let mut fleet = small_fleet(2000, 2, 2);
    fleet.hot_room_viewers = 1000;
    fleet.headroom_percent = 0;
    Venue::with("gateway", fleet, async |venue| {
        venue.apply("final", hot(3000)).await;
        venue.apply("cold-1", hot(0)).await;
        venue.apply("cold-2", hot(0)).await;
        venue.room_is_on("final", 2, SOON).await;
        venue.room_is_ready("cold-1", SOON).await;
        venue.room_is_ready("cold-2", SOON).await;
        thousands_on_one_route(venue).await;
        cold_rooms_meet(venue).await;
        client_address_reaches_the_gate(venue).await;
        new_address_is_followed(venue).await;
    })
    .await;
}

async fn thousands_on_one_route(venue: &Venue) {
    let began = Instant::now();
    let crowd = venue.send("final", VIEWERS, 300).await;
    let spread = venue.spread("final").await.unwrap();
    figure(
        &venue.release.given,
        &format!("10. {VIEWERS} viewers on one hot route after {:.1?}: {spread:?}", began.elapsed()),
    );
    assert_eq!(spread.values().sum::<u64>(), VIEWERS as u64);
    crowd.undisturbed();
    crowd.leave().await;
}

async fn cold_rooms_meet(venue: &Venue) {
    for room in ["cold-1", "cold-2"] {
        let crowd = venue.send(room, 30, 60).await;
        let spread = venue.spread(room).await.unwrap();
        figure(&venue.release.given, &format!("10. 30 viewers of {room}: {spread:?}"));
        assert_eq!(spread.values().filter(|viewers| **viewers > 0).count(), 1, "{spread:?}");
        assert_eq!(spread.values().sum::<u64>(), 30);
        crowd.leave().await;
    }
}

/// A ban of the viewer's own network holds behind the gateway; one that the viewer only claims to come from does not.
async fn client_address_reaches_the_gate(venue: &Venue) {
    let proxies: Api<Pod> = Api::all(venue.client());
    let selector = format!("gateway.envoyproxy.io/owning-gateway-namespace={}", venue.namespace);
    let proxies = proxies.list(&ListParams::default().labels(&selector)).await.unwrap();
    let addresses = proxies.iter().filter_map(|pod| pod.status.as_ref()?.pod_ip.clone());
    let networks: Vec<String> = addresses.map(|ip| format!("{ip}/32")).collect();
    assert!(!networks.is_empty(), "the Gateway has a proxy");
    venue.change_fleet(json!({"server": {"trustedProxies": networks}})).await;

    let claims = Door { header: Some(("x-forwarded-for", "203.0.113.7".to_owned())), ..venue.door.clone() };
    let first = Viewer::join(&claims, "cold-1");
    comes_in(venue, &first).await;
    let own = first.see(|record| record.local).expect("a viewer has an address");
    ban(venue, &format!("{own}/32")).await;
    venue
        .until(SOON, "viewers of the banned network are turned away", async || {
            let viewer = Viewer::join(&claims, "cold-1");
            let turned_away = until(Duration::from_secs(2), "a close with 4503", async || {
                let seen = viewer.record();
                let ends: Vec<&String> = seen.cuts.iter().chain(&seen.failures).collect();
                if ends.iter().any(|end| end.starts_with("4503")) {
                    Ok(())
                } else {
                    Err(format!("{ends:?}, from {own}"))
                }
            });
            turned_away.await
        })
        .await;
    // Now the gate is known to see addresses, the one that is only claimed makes no difference.
    ban(venue, "203.0.113.0/24").await;
    venue
        .until(SOON, "a viewer that claims a banned address is let in", async || {
            let viewer = Viewer::join(&claims, "cold-1");
            let joined =
                async || viewer.see(|seen| if seen.joined { Ok(()) } else { Err(format!("{seen:?}")) });
            until(Duration::from_secs(2), "joined", joined).await
        })
        .await;
}

async fn comes_in(venue: &Venue, viewer: &Viewer) {
    venue
        .until(SOON, "the viewer is in", async || {
            viewer.see(|record| if record.joined { Ok(()) } else { Err(format!("{record:?}")) })
        })
        .await;
}

async fn ban(venue: &Venue, network: &str) {
    let patch = json!({"spec": {"moderation": {"bannedNetworks": [network]}}});
    let patch = kube::api::Patch::Merge(&patch);
    venue.rooms().patch("cold-1", &kube::api::PatchParams::default(), &patch).await.unwrap();
}

/// From a pod's being Ready at its new address to the slice's having it, and a viewer landing there.
async fn new_address_is_followed(venue: &Venue) {
    let (pods, slices) =
        (History::of(venue.pods(), SERVERS), History::of(venue.slices(), "danmu.live/room=final"));
    let old = venue.pods().get("danmu-show-1").await.unwrap();
    venue.pods().delete("danmu-show-1", &DeleteParams::default().grace_period(0)).await.unwrap();
    let deleted = Instant::now();
    let new = venue
        .until(SOON, "another pod of that name is Ready", async || {
            let now = venue.pods().get("danmu-show-1").await.map_err(|error| error.to_string())?;
            if now.uid() != old.uid() && ready(&now) { Ok(now) } else { Err(format!("{:?}", now.status)) }
        })
        .await;
    venue
        .until(SOON, "the slice has the new address and not the old", async || {
            let slice = venue.slice("final").await?;
            let follows = slice.get("danmu-show-1") == Some(&address(&new));
            if follows { Ok(()) } else { Err(format!("{slice:?}, not {}", address(&new))) }
        })
        .await;
    let was_ready =
        pods.changes().iter().find(|c| c.object.uid() == new.uid() && ready(&c.object)).map(|c| c.at);
    let has = |address: &str| {
        let changes = slices.changes();
        changes.into_iter().filter(|change| change.at > deleted).find_map(|change| {
            let mut addresses = change.object.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
            addresses.any(|is| is == address).then_some(change.at)
        })
    };
    let was_ready = was_ready.expect("the watch saw the pod become Ready");
    let followed = has(&address(&new)).expect("the watch saw the slice change");
    let gone = slices.changes().iter().find_map(|change| {
        let there =
            change.object.endpoints.iter().any(|endpoint| endpoint.addresses.contains(&address(&old)));
        (change.at > deleted && !there).then_some(change.at)
    });
    let lag = followed.saturating_duration_since(was_ready);
    figure(
        &venue.release.given,
        &format!(
            "10. a pod that is gone leaves the slice after {:.2?}; its new address is in it {lag:.2?} after it is Ready",
            gone.map_or(Duration::MAX, |at| at - deleted)
        ),
    );
    assert!(
        gone.is_some_and(|at| at - deleted < Duration::from_secs(2)),
        "a dead address stays in the slice"
    );
    assert!(lag < Duration::from_secs(1), "the new address is followed after {lag:?}");
    // Viewers land on it by the gateway, and none is lost at the old address.
    let crowd = venue.send("final", 40, 200).await;
    let landed = until(Duration::from_secs(10), "viewers land on the new address", async || {
        let spread = venue.spread("final").await?;
        if spread["danmu-show-1"] > 0 { Ok(()) } else { Err(format!("{spread:?}")) }
    });
    landed.await.unwrap_or_else(|why| panic!("{why}"));
    let failures: Vec<String> = crowd.records().into_iter().flat_map(|record| record.failures).collect();
    assert_eq!(failures, Vec::<String>::new(), "nobody is sent to a dead address");
    crowd.leave().await;
}
