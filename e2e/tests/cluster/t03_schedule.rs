//! Pods are there before a scheduled start, and gone after its end.

use std::time::Duration;

use danmu_crds::{DanmuRoomSpec, Window};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::fixture::{History, SERVERS, Venue, figure, hot, small_fleet};

const WARMUP: Duration = Duration::from_secs(15);
const BEFORE: Duration = Duration::from_secs(25);
const SHOW: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_ready_before_the_start_and_drained_after_the_end() {
    let mut fleet = small_fleet(100, 1, 4);
    fleet.warmup_seconds = 15;
    Venue::with("schedule", fleet, async |venue| {
        let sets = History::of(venue.sets(), SERVERS);
        let (now, instant) = (Timestamp::now(), Instant::now());
        let (start, end) = (instant + BEFORE, instant + BEFORE + SHOW);
        let at = |moment: Instant| now + SignedDuration::try_from(moment - instant).unwrap();
        let window = Window { start: at(start), end: at(end), expected_viewers: 250 };
        venue.apply("final", DanmuRoomSpec { schedule: vec![window], ..hot(0) }).await;
        venue.room_is_ready("final", Duration::from_secs(5)).await;
        assert_eq!(
            venue.replicas().await,
            Ok(1),
            "nothing is made {:?} before the start",
            start - Instant::now()
        );

        venue.pods_are(3, BEFORE).await;
        let status = venue.room_is_ready("final", Duration::from_secs(10)).await;
        let early = start.checked_duration_since(Instant::now());
        let early = early.unwrap_or_else(|| panic!("the room was Ready {:?} late", start.elapsed()));
        figure(
            &venue.release.given,
            &format!("3. a scheduled room of 3 pods is Ready {early:.1?} before its start"),
        );
        assert!(early < WARMUP, "pods came {early:?} before the start, more than the warm-up of {WARMUP:?}");
        assert_eq!(status.placement.len(), 3, "{:?}", status.placement);

        venue.room_is_on("final", 3, Duration::from_secs(15)).await;
        let crowd = venue.send("final", 60, 60).await;
        let before = venue.spread("final").await.unwrap();
        venue.pods_are(1, BEFORE + SHOW + Duration::from_secs(60)).await;
        figure(&venue.release.given, &format!("3. its pods are gone {:.1?} after its end", end.elapsed()));
        let fell = sets.changes().windows(2).find_map(|pair| {
            let replicas = |n: usize| pair[n].object.spec.as_ref().and_then(|spec| spec.replicas);
            (replicas(1) < replicas(0)).then_some(pair[1].at)
        });
        assert!(fell.is_some_and(|at| at > end), "replicas fell before the end");

        venue.all_in(&crowd, Duration::from_secs(10)).await;
        crowd.undisturbed();
        let tail: u64 =
            before.iter().filter(|(pod, _)| !pod.ends_with("-0")).map(|(_, viewers)| viewers).sum();
        let moved = crowd.records().iter().filter(|record| !record.moves.is_empty()).count();
        assert!(
            moved as u64 >= tail && tail > 0,
            "{tail} viewers were on the tail ({before:?}): {}",
            crowd.tell()
        );
        crowd.leave().await;
    })
    .await;
}
