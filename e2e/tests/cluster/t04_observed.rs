//! More viewers come than were expected.

use std::time::Duration;

use crate::fixture::{Venue, figure, hot, small_fleet};

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_grows_with_the_viewers_it_sees_and_new_ones_go_to_the_new_pods() {
    Venue::with("observed", small_fleet(100, 1, 4), async |venue| {
        venue.apply("final", hot(50)).await;
        venue.room_is_ready("final", Duration::from_secs(30)).await;
        assert_eq!(venue.replicas().await, Ok(1));

        let began = tokio::time::Instant::now();
        let mut crowd = venue.send("final", 180, 90).await;
        // 180 and a fifth kept free.
        venue.pods_are(3, Duration::from_secs(60)).await;
        figure(&venue.release.given, &format!("4. from the first viewer to 3 pods: {:.1?}", began.elapsed()));
        let slice = venue
            .until(
                Duration::from_secs(30),
                "the full pod leaves the slice and the new ones are in it",
                async || {
                    let pods: Vec<String> = venue.slice("final").await?.into_keys().collect();
                    if pods == ["danmu-show-1", "danmu-show-2"] { Ok(pods) } else { Err(format!("{pods:?}")) }
                },
            )
            .await;
        let before = venue.spread("final").await.unwrap();
        crowd.add(venue.send("final", 60, 60).await);
        let after = venue.spread("final").await.unwrap();
        figure(&venue.release.given, &format!("4. 60 more viewers: from {before:?} to {after:?}"));
        assert_eq!(after.values().sum::<u64>(), 240);
        assert!(
            after["danmu-show-0"] <= before["danmu-show-0"],
            "new viewers on the full pod: {before:?}, {after:?}"
        );
        for pod in &slice {
            assert!(after[pod] > before[pod], "no new viewer on {pod}: {before:?}, {after:?}");
        }
        crowd.undisturbed();
        crowd.leave().await;
    })
    .await;
}
