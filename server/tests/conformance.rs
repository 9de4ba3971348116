//! What every relay keeps to, whatever carries it: the embedded one, one Redis, a cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it goes wrong")]

#[allow(dead_code, unreachable_pub, reason = "shared with other test binaries, which use the rest")]
mod support;

use std::time::Duration;

use danmu_server::relay::{PublishError, Target};
use danmu_wire::Lane;
use support::{
    pod::{Pod, eventually},
    redis::{RedisCluster, RedisServer},
};

/// Two pods of one fleet; the embedded relay's fleet is one process, which then is both.
struct Fleet {
    pods: Vec<Pod>,
}

impl Fleet {
    fn a(&self) -> &Pod {
        &self.pods[0]
    }

    fn b(&self) -> &Pod {
        self.pods.last().unwrap()
    }

    async fn open(&self, room: &str) {
        for pod in &self.pods {
            pod.open(room).await;
        }
    }

    fn on(urls: &str, cluster: bool, name: &str) -> Fleet {
        let pod = || Pod::on_redis(urls, cluster, &format!("conformance/{name}"));
        Fleet { pods: vec![pod(), pod()] }
    }
}

macro_rules! every_relay {
    (shared: $($shared:ident)*; several_pods: $($several:ident)*) => {
        mod memory {
            use super::*;
            $(#[tokio::test]
            async fn $shared() {
                super::$shared(&Fleet { pods: vec![Pod::in_memory()] }).await;
            })*
        }

        mod redis {
            use super::*;
            $(#[tokio::test]
            async fn $shared() {
                let redis = RedisServer::start();
                super::$shared(&Fleet::on(&redis.url(), false, "one")).await;
            })*
            $(#[tokio::test]
            async fn $several() {
                let redis = RedisServer::start();
                super::$several(&Fleet::on(&redis.url(), false, "one")).await;
            })*
        }

        /// One cluster for all, because one takes a while to come up.
        #[tokio::test]
        async fn all_of_it_holds_on_a_cluster() {
            let cluster = RedisCluster::start(3, false);
            let urls = cluster.url();
            tokio::join!(
                $(async { $shared(&Fleet::on(&urls, true, stringify!($shared))).await },)*
                $(async { $several(&Fleet::on(&urls, true, stringify!($several))).await },)*
            );
        }
    };
}

every_relay! {
    shared:
        every_room_gets_its_events_once_in_order_and_numbered_without_holes
        publishers_at_the_same_time_get_numbers_of_their_own
        a_key_counts_once_and_is_refused_for_another_message
        the_epoch_stays_while_the_room_is_open
        a_closed_room_gets_nothing_and_its_place_is_right_when_it_opens_again
        a_room_that_opens_again_at_once_is_told_at_once
        what_was_acknowledged_reaches_a_room_that_was_full
        a_mute_holds_until_it_is_lifted
        a_disconnection_is_told_and_not_kept;
    several_pods:
        a_room_opened_later_has_the_log_and_the_moderation
        chats_reach_the_other_pods_and_not_their_own
        chats_that_never_came_are_counted
        pods_know_of_each_other_and_of_leaving
}

async fn every_room_gets_its_events_once_in_order_and_numbered_without_holes(fleet: &Fleet) {
    let rooms = ["one", "two", "three", "four"];
    for room in rooms {
        fleet.open(room).await;
    }
    for i in 0..20 {
        for room in rooms {
            let pod = if i % 2 == 0 { fleet.a() } else { fleet.b() };
            assert_eq!(pod.gift(room, &format!("{room}{i}")).await.unwrap().offset, i + 1);
        }
    }
    for pod in &fleet.pods {
        for room in rooms {
            let seen = pod.gets(room, 20).await;
            let expected: Vec<String> = (0..20).map(|i| format!("{room}{i}")).collect();
            assert_eq!(seen.names(), expected);
            assert_eq!((seen.gifts[0].1, seen.gaps.len(), seen.openings), (1, 0, 1));
            seen.is_whole();
        }
    }
}

async fn publishers_at_the_same_time_get_numbers_of_their_own(fleet: &Fleet) {
    fleet.open("talk").await;
    let publish = |i: usize| {
        let pod = if i.is_multiple_of(2) { fleet.a() } else { fleet.b() };
        async move { pod.gift("talk", &i.to_string()).await.unwrap() }
    };
    let receipts = futures_util::future::join_all((0..200).map(publish)).await;
    for pod in &fleet.pods {
        let seen = pod.gets("talk", 200).await;
        seen.is_whole();
        for (i, receipt) in receipts.iter().enumerate() {
            let delivered = &seen.gifts[receipt.offset as usize - 1];
            assert_eq!(*delivered, (receipt.epoch.clone(), receipt.offset, i.to_string()));
        }
    }
}

async fn a_key_counts_once_and_is_refused_for_another_message(fleet: &Fleet) {
    fleet.open("talk").await;
    let first = fleet.a().gift_once("talk", "rose", Some("k")).await.unwrap();
    assert_eq!(fleet.b().gift_once("talk", "rose", Some("k")).await, Ok(first.clone()));
    assert_eq!(fleet.b().gift_once("talk", "rocket", Some("k")).await, Err(PublishError::Conflict));
    let next = fleet.b().gift_once("talk", "rocket", Some("l")).await.unwrap();
    assert_eq!(next.offset, first.offset + 1);
    for pod in &fleet.pods {
        assert_eq!(pod.gets("talk", 2).await.names(), ["rose", "rocket"]);
    }
}

async fn the_epoch_stays_while_the_room_is_open(fleet: &Fleet) {
    fleet.open("talk").await;
    let epoch = fleet.a().seen("talk").epoch;
    assert_eq!(fleet.b().seen("talk").epoch, epoch);
    for _ in 0..3 {
        assert_eq!(fleet.b().gift("talk", "rose").await.unwrap().epoch, epoch);
    }
    fleet.open("other").await;
    assert_ne!(fleet.a().seen("other").epoch, epoch);
}

async fn a_closed_room_gets_nothing_and_its_place_is_right_when_it_opens_again(fleet: &Fleet) {
    fleet.open("talk").await;
    let before = fleet.a().gift("talk", "before").await.unwrap();
    fleet.a().gets("talk", 1).await;
    fleet.a().close("talk");
    let missed = fleet.b().gift("talk", "missed").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(fleet.a().seen("talk").gifts.len(), 0);
    fleet.a().open("talk").await;
    let after = fleet.a().gift("talk", "after").await.unwrap();
    // The embedded relay has no other memory: it says so by another epoch.
    let goes_on = after.epoch == before.epoch && after.offset == 3 && missed.is_ok();
    let is_anew = after.epoch != before.epoch && after.offset == 1 && missed.is_err();
    assert!(goes_on || is_anew, "{before:?} {missed:?} {after:?}");
    let seen = fleet.a().gets("talk", after.offset as usize).await;
    seen.is_whole();
    assert_eq!((&seen.epoch, seen.gifts.last().unwrap().1), (&after.epoch, after.offset));
}

/// The close and the open used to be taken in one turn, which closed the room that had just been opened.
async fn a_room_that_opens_again_at_once_is_told_at_once(fleet: &Fleet) {
    fleet.open("talk").await;
    for _ in 0..20 {
        fleet.a().close("talk");
        let opened = tokio::time::timeout(Duration::from_millis(800), fleet.a().open("talk")).await;
        assert!(opened.is_ok(), "the tick found it, a second later");
    }
    fleet.a().gift("talk", "rose").await.unwrap();
    fleet.a().gets("talk", 1).await;
}

async fn what_was_acknowledged_reaches_a_room_that_was_full(fleet: &Fleet) {
    fleet.open("talk").await;
    fleet.b().fill(true);
    let mut acknowledged = Vec::new();
    for name in ["one", "two", "three"] {
        match fleet.b().gift("talk", name).await {
            Ok(_) => acknowledged.push(name),
            Err(error) => assert_eq!(error, PublishError::Busy),
        }
    }
    fleet.b().fill(false);
    fleet.b().gift("talk", "after").await.unwrap();
    acknowledged.push("after");
    let seen = fleet.b().gets("talk", acknowledged.len()).await;
    assert_eq!(seen.names(), acknowledged);
    assert!(seen.gaps.is_empty() && seen.gifts[0].1 == 1, "{seen:?}");
    seen.is_whole();
}

async fn a_mute_holds_until_it_is_lifted(fleet: &Fleet) {
    fleet.open("talk").await;
    let targets = [
        Target::Mute("ann".into()),
        Target::Ban("bob".into()),
        Target::BanNetwork("203.0.113.0/24".parse().unwrap()),
    ];
    for target in &targets {
        fleet.a().moderate("talk", target.clone(), false).await.unwrap();
    }
    for pod in &fleet.pods {
        eventually("all three hold", async || pod.seen("talk").moderated.len() == 3).await;
    }
    for target in targets {
        assert_eq!(fleet.b().moderate("talk", target.clone(), true).await, Ok(true), "{target:?}");
        assert_eq!(fleet.a().moderate("talk", target.clone(), true).await, Ok(false), "{target:?}");
    }
    for pod in &fleet.pods {
        eventually("none holds", async || pod.seen("talk").moderated.is_empty()).await;
    }
}

async fn a_disconnection_is_told_and_not_kept(fleet: &Fleet) {
    fleet.open("talk").await;
    fleet.a().moderate("talk", Target::Disconnect("ann".into()), false).await.unwrap();
    for pod in &fleet.pods {
        eventually("it is told", async || pod.seen("talk").disconnected == ["ann"]).await;
    }
    fleet.b().close("talk");
    fleet.b().open("talk").await;
    let seen = fleet.b().seen("talk");
    assert!(seen.disconnected.is_empty() && seen.moderated.is_empty(), "{seen:?}");
}

async fn a_room_opened_later_has_the_log_and_the_moderation(fleet: &Fleet) {
    fleet.a().open("talk").await;
    fleet.a().gift("talk", "rose").await.unwrap();
    fleet.a().moderate("talk", Target::Mute("ann".into()), false).await.unwrap();
    fleet.b().open("talk").await;
    let seen = fleet.b().seen("talk");
    assert_eq!((seen.names(), seen.moderated.len()), (vec!["rose"], 1));
    fleet.a().gift("talk", "rocket").await.unwrap();
    fleet.b().gets("talk", 2).await.is_whole();
}

async fn chats_reach_the_other_pods_and_not_their_own(fleet: &Fleet) {
    fleet.open("talk").await;
    for i in 0..50u64 {
        fleet.a().chat("talk", 2 * i, &[&format!("{i}"), &format!("{i}b")]);
    }
    eventually("all are there", async || fleet.b().seen("talk").chats.len() == 100).await;
    let expected: Vec<String> = (0..50).flat_map(|i| [format!("{i}"), format!("{i}b")]).collect();
    let (here, there) = (fleet.a().seen("talk"), fleet.b().seen("talk"));
    assert_eq!((there.chats, there.gaps.len(), here.chats.len()), (expected, 0, 0));
}

async fn chats_that_never_came_are_counted(fleet: &Fleet) {
    fleet.open("talk").await;
    fleet.a().chat("talk", 0, &["one"]);
    fleet.a().chat("talk", 4, &["five"]);
    eventually("both are there", async || fleet.b().seen("talk").chats.len() == 2).await;
    assert_eq!(fleet.b().seen("talk").gaps, [(Lane::Chat, Some(3))]);
}

async fn pods_know_of_each_other_and_of_leaving(fleet: &Fleet) {
    fleet.open("talk").await;
    fleet.a().set_viewers("talk", 7, 2);
    eventually("the numbers are known", async || {
        let peers = fleet.b().seen("talk").peers;
        (peers.pods, peers.viewers, peers.senders) == (1, 7, 2)
    })
    .await;
    fleet.a().close("talk");
    eventually("it has left", async || fleet.b().seen("talk").peers.pods == 0).await;
}
