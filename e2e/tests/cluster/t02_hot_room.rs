//! Rooms are spread by the viewers they expect, and the gateway learns where to send them.

use std::{collections::BTreeMap, time::Duration};

use crate::fixture::{Venue, condition, conditions, figure, hot, small_fleet};

const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_room_of_three_pods_has_a_slice_of_just_them_and_viewers_land_nowhere_else() {
    let mut fleet = small_fleet(100, 1, 5);
    // What comes is what was expected: no reason to grow on the way.
    fleet.headroom_percent = 0;
    Venue::with("hot", fleet, async |venue| {
        assert_eq!(venue.replicas().await, Ok(1), "an idle fleet has its least pods");
        venue.apply("cold", hot(0)).await;
        venue.apply("final", hot(300)).await;
        // The fourth pod is another room's, so that landing nowhere else can be seen.
        venue.apply("opera", hot(100)).await;
        venue.pods_are(4, SOON).await;
        let placed = venue.room_is_on("final", 3, SOON).await.placement;
        venue.room_is_ready("opera", SOON).await;
        assert_eq!(
            placed.iter().map(|share| share.viewers).collect::<Vec<_>>(),
            [100, 100, 100],
            "{placed:?}"
        );

        let cold = venue.room_is_ready("cold", SOON).await;
        let routed = condition(&cold.conditions, "Routed").map(|c| (c.status.as_str(), c.reason.as_str()));
        assert_eq!(routed, Some(("True", "SharedRoute")), "{}", conditions(&cold.conditions));
        assert_eq!(venue.slice("cold").await, Ok(BTreeMap::new()), "a cold room has no slice");

        let crowd = venue.send("final", 300, 150).await;
        let spread = venue.spread("final").await.unwrap();
        figure(&venue.release.given, &format!("2. 300 viewers of a room of 3 × 100: {spread:?}"));
        assert_eq!(spread.values().sum::<u64>(), 300, "{spread:?}");
        for (pod, viewers) in &spread {
            let fits = if placed.iter().any(|share| share.pod == *pod) { 65..=135 } else { 0..=0 };
            assert!(fits.contains(viewers), "{pod} has {viewers} viewers, not {fits:?}: {spread:?}");
        }
        crowd.undisturbed();
        crowd.leave().await;
    })
    .await;
}
