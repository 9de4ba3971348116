//! A fleet shrinks under its viewers.

use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::{Api, ResourceExt, api::ListParams};
use tokio::time::Instant;

use crate::fixture::{Change, Crowd, FLEET, History, SERVERS, Venue, figure, hot, small_fleet};
use k8s_openapi::api::apps::v1::StatefulSet;

const SOON: Duration = Duration::from_secs(60);
const DRAIN: Duration = Duration::from_secs(20);
const TAIL: &str = "danmu-show-2";

#[tokio::test(flavor = "multi_thread")]
async fn the_tails_viewers_move_in_time_without_losing_a_gift_and_a_spike_takes_the_drain_back() {
    let mut fleet = small_fleet(100, 1, 4);
    fleet.headroom_percent = 0;
    fleet.drain_seconds = u32::try_from(DRAIN.as_secs()).unwrap();
    Venue::with("shrink", fleet, async |venue| {
        let sets = History::of(venue.sets(), SERVERS);
        venue.apply("final", hot(250)).await;
        venue.pods_are(3, SOON).await;
        venue.room_is_on("final", 3, SOON).await;
        let crowd = venue.send("final", 150, 100).await;
        shrinks(venue, &crowd, &sets).await;
        takes_back(venue, crowd, &sets).await;
    })
    .await;
}

async fn shrinks(venue: &Venue, crowd: &Crowd, sets: &History<StatefulSet>) {
    let spread = venue.spread("final").await.unwrap();
    let publisher = venue.publish("final").await;
    let told = Instant::now();
    venue.expect("final", 60).await;
    venue.pods_are(2, SOON + DRAIN).await;
    let fell = sets.changes().iter().rev().find(|change| replicas(change) == Some(2)).map(|change| change.at);
    let fell = fell.expect("the watch saw the replicas fall");
    venue.all_in(crowd, Duration::from_secs(10)).await;
    let gifts = publisher.stop().await;
    crowd.catch_up(&gifts, Duration::from_secs(5)).await;

    let records = crowd.records();
    let moves: Vec<(Instant, Instant)> = records.iter().flat_map(|record| record.moves.clone()).collect();
    let slowest = moves.iter().map(|(asked, back)| *back - *asked).max().unwrap_or_default();
    figure(
        &venue.release.given,
        &format!(
            "5. scale-down under 150 viewers: {} moved, the slowest in {slowest:.2?}; replicas fell after {:.1?}; {} gifts",
            moves.len(),
            fell - told,
            gifts.len()
        ),
    );
    assert_eq!(
        moves.len() as u64,
        spread[TAIL],
        "each viewer of the tail moves once, and nobody else: {}",
        crowd.tell()
    );
    crowd.undisturbed();
    assert!(slowest < DRAIN, "the slowest was back after {slowest:?}");
    assert!(moves.iter().all(|(_, back)| *back < fell), "replicas fell while viewers were on the tail");
    assert!(gifts.len() > 20, "gifts were sent all the time: {}", gifts.len());
    crowd.have_each_once(&gifts);
    let after = venue.spread("final").await.unwrap();
    assert!(after.len() == 2 && after.values().sum::<u64>() == 150, "{after:?}");
}

async fn takes_back(venue: &Venue, mut crowd: Crowd, sets: &History<StatefulSet>) {
    venue.expect("final", 250).await;
    let pods = venue.pods_are(3, SOON).await;
    venue.room_is_on("final", 3, SOON).await;
    crowd.add(venue.send("final", 30, 60).await);
    assert!(venue.spread("final").await.unwrap()[TAIL] > 0, "somebody is on the tail");
    let from = sets.len();
    venue.expect("final", 60).await;
    venue
        .until(SOON, "the tail drains", async || {
            let draining = draining(venue).await?;
            if draining == [TAIL] { Ok(()) } else { Err(format!("{draining:?}")) }
        })
        .await;
    venue.expect("final", 280).await;
    venue
        .until(SOON, "the drain is taken back, and told", async || {
            let draining = draining(venue).await?;
            let events: Api<Event> = Api::namespaced(venue.client(), &venue.namespace);
            let events = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let told = events.iter().any(|event| event.reason.as_deref() == Some("DrainTakenBack"));
            if draining.is_empty() && told {
                Ok(())
            } else {
                Err(format!("draining {draining:?}, told: {told}"))
            }
        })
        .await;
    let after = venue.pods_are(3, SOON).await;
    assert_eq!(after[2].uid(), pods[2].uid(), "the tail is the pod it was");
    let least = sets.changes()[from..].iter().filter_map(replicas).min();
    assert!(
        least.is_none_or(|least| least == 3),
        "replicas fell to {least:?} in a drain that was taken back"
    );
    venue.all_in(&crowd, Duration::from_secs(10)).await;
    crowd.undisturbed();
    crowd.leave().await;
}

/// The pods that the fleet says are draining.
async fn draining(venue: &Venue) -> Result<Vec<String>, String> {
    let fleet = venue.fleets().get(FLEET).await.map_err(|error| error.to_string())?;
    Ok(fleet.status.unwrap_or_default().draining)
}

fn replicas(change: &Change<StatefulSet>) -> Option<i32> {
    change.object.spec.as_ref()?.replicas
}
