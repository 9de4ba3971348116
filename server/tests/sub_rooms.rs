//! A room whose chat is split: what stays in a sub-room, what reaches all, and what an edit of their number does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it goes wrong")]

#[allow(dead_code, unreachable_pub, reason = "shared with other test binaries, which use the rest")]
mod support;

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use danmu_wire::{Event, Joined};
use support::{Danmu, Viewer, http, token};
use tokio_tungstenite::tungstenite::Error;

/// Puts the manifest of room `stage` in place and waits until it is in force.
async fn divide(danmu: &Danmu, sub_rooms: u32) {
    limited(danmu, sub_rooms, 1000).await;
}

async fn limited(danmu: &Danmu, sub_rooms: u32, shown: u32) {
    let manifest = format!(
        "apiVersion: danmu.live/v1alpha1\nkind: DanmuRoom\nmetadata: {{name: stage}}\nspec:\n  subRooms: {sub_rooms}\n  \
         limits: {{messagesPerSecond: {shown}, perViewer: {{messages: 1000, seconds: 1}}}}\n  \
         moderation: {{anonymous: Speak, words: {{hold: [perhaps]}}}}\n"
    );
    fs::write(danmu.folder.path().join(".next"), manifest).unwrap();
    fs::rename(danmu.folder.path().join(".next"), danmu.folder.path().join("stage.yaml")).unwrap();
    let last = format!(r#"{{"kind":"enter","sub":{}}}"#, sub_rooms - 1);
    let over = format!(r#"{{"kind":"enter","sub":{sub_rooms}}}"#);
    let started = Instant::now();
    while (publish(danmu, &last).await.0, publish(danmu, &over).await.0) != (200, 422) {
        assert!(started.elapsed() < Duration::from_secs(10), "the edit is not in force");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn publish(danmu: &Danmu, body: &str) -> (u16, String) {
    danmu.admin("POST", "/rooms/stage/publish", body).await
}

async fn joined(viewer: &mut Viewer) -> Joined {
    match viewer.find(|event| matches!(event, Event::Joined(_))).await {
        Event::Joined(joined) => *joined,
        _ => unreachable!(),
    }
}

async fn join(danmu: &Danmu, query: &str) -> (Viewer, Joined) {
    let mut viewer = danmu.connect(&format!("/rooms/stage/ws?room=stage{query}"), &[]).await.unwrap();
    let joined = joined(&mut viewer).await;
    (viewer, joined)
}

async fn join_as(danmu: &Danmu, user: &str) -> (Viewer, Joined) {
    let protocols = ["danmu.v1.json".to_owned(), format!("token.{}", token(user, "moderator", 600))];
    let mut viewer = danmu.connect("/rooms/stage/ws", &protocols).await.unwrap();
    let joined = joined(&mut viewer).await;
    (viewer, joined)
}

/// Text of chats and names of gifts, up to and with the one that is named.
async fn until(viewer: &mut Viewer, last: &str) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|seen| seen != last) {
        match viewer.event().await {
            Event::Chat(chat) => seen.push(chat.text),
            Event::Gift(gift) => seen.push(gift.gift),
            _ => {}
        }
    }
    seen
}

#[tokio::test]
async fn chat_stays_in_its_sub_room_and_gifts_reach_all_once_and_in_order() {
    let danmu = Danmu::start(&[]).await;
    divide(&danmu, 3).await;
    let (mut ann, told) = join(&danmu, "&sub=0").await;
    assert_eq!(told.sub, Some(0));
    let (mut bob, _) = join(&danmu, "&sub=0").await;
    let (mut cat, told) = join(&danmu, "&sub=2").await;
    assert_eq!((told.sub, told.sub_viewers, told.viewers), (Some(2), Some(1), 3));
    ann.say("in 0").await;
    bob.hears("in 0").await;
    cat.say("in 2").await;
    cat.hears("in 2").await;
    for gift in ["a", "b", "c"] {
        publish(&danmu, &format!(r#"{{"kind":"gift","gift":"{gift}"}}"#)).await;
    }
    assert_eq!(until(&mut bob, "c").await, ["a", "b", "c"]);
    assert_eq!(until(&mut cat, "c").await, ["a", "b", "c"]);
    assert_eq!(until(&mut ann, "c").await, ["in 0", "a", "b", "c"]);
    // A sub-room that opens late stands where the others do, and what was missed is recovered in any of them.
    let (mut dan, told) = join(&danmu, &format!("&sub=1&since={}.1", told.epoch)).await;
    assert_eq!((told.offset, told.recovered), (3, true));
    publish(&danmu, r#"{"kind":"gift","gift":"d"}"#).await;
    assert_eq!(until(&mut dan, "d").await, ["b", "c", "d"]);
    assert_eq!(until(&mut ann, "d").await, ["d"]);
}

#[tokio::test]
async fn a_room_that_is_not_divided_tells_nothing_of_sub_rooms() {
    let danmu = Danmu::start(&[]).await;
    let mut viewer = danmu.connect("/rooms/talk/ws?sub=3", &[]).await.unwrap();
    let told = joined(&mut viewer).await;
    assert_eq!((told.sub, told.sub_viewers), (None, None));
    let (_, detail) =
        http(danmu.public(), "GET /rooms/talk HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(!detail.contains("subRooms"), "{detail}");
    assert!(!danmu.admin("GET", "/rooms/talk", "").await.1.contains("subRooms"));
}

#[tokio::test]
async fn a_number_that_the_room_does_not_have_is_no_wish_and_what_is_no_number_is_refused() {
    let danmu = Danmu::start(&[]).await;
    divide(&danmu, 2).await;
    for high in ["2", "64", "4294967295"] {
        let (_, told) = join(&danmu, &format!("&sub={high}")).await;
        assert!(told.sub.is_some_and(|sub| sub < 2), "{high}: {told:?}");
    }
    for bad in ["-1", "1.5", "x", "", "+1", "4294967296", "%31"] {
        let refused = danmu.connect(&format!("/rooms/stage/ws?sub={bad}"), &[]).await;
        let Err(Error::Http(answer)) = refused else { panic!("{bad} was taken") };
        assert_eq!(answer.status().as_u16(), 400, "{bad}");
    }
    let (mut viewer, _) = join(&danmu, "").await;
    viewer.send(r#"{"op":"join","room":"stage","sub":-1}"#).await;
    assert_eq!(viewer.refusal().await.code, danmu_wire::RefusalCode::BadRequest);
    for sub in [1, 0] {
        viewer.send(format!(r#"{{"op":"join","room":"stage","sub":{sub}}}"#)).await;
        assert_eq!(joined(&mut viewer).await.sub, Some(sub));
    }
}

#[tokio::test]
async fn a_user_comes_to_the_same_sub_room_each_time_and_many_viewers_to_all_of_them() {
    let danmu = Danmu::start(&[]).await;
    divide(&danmu, 8).await;
    let (first, again) = (join_as(&danmu, "ann").await.1, join_as(&danmu, "ann").await.1);
    assert_eq!(first.sub, again.sub);
    let mut viewers = Vec::new();
    for _ in 0..60 {
        viewers.push(join(&danmu, "").await);
    }
    let subs: BTreeSet<u32> = viewers.iter().map(|(_, told)| told.sub.unwrap()).collect();
    assert_eq!(subs.len(), 8, "{subs:?}");
}

#[tokio::test]
async fn both_numbers_of_viewers_are_told() {
    let danmu = Danmu::start(&[]).await;
    divide(&danmu, 2).await;
    let (mut ann, _) = join(&danmu, "&sub=0").await;
    let (_bob, _) = join(&danmu, "&sub=1").await;
    let (_cat, _) = join(&danmu, "&sub=1").await;
    ann.find(|e| matches!(e, Event::Stats(stats) if (stats.viewers, stats.sub_viewers) == (3, Some(1))))
        .await;
    let (_, detail) =
        http(danmu.public(), "GET /rooms/stage HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let detail: serde_json::Value = serde_json::from_str(&detail).unwrap();
    assert_eq!(detail["viewers"], 3);
    assert_eq!(detail["subRooms"], serde_json::json!([{"sub": 0, "viewers": 1}, {"sub": 1, "viewers": 2}]));
    let (_, detail) = danmu.admin("GET", "/rooms/stage", "").await;
    let detail: serde_json::Value = serde_json::from_str(&detail).unwrap();
    assert_eq!((&detail["viewers"], &detail["subRooms"][1]["viewers"]), (&3.into(), &2.into()));
}

#[tokio::test]
async fn history_is_the_sub_rooms_own_and_a_removal_reaches_every_one() {
    let danmu = Danmu::start(&[]).await;
    divide(&danmu, 2).await;
    let (mut ann, _) = join(&danmu, "&sub=0").await;
    let (mut bob, _) = join(&danmu, "&sub=1").await;
    ann.say("kept").await;
    ann.hears("kept").await;
    bob.say("bad").await;
    let id = bob.hears("bad").await.id;
    let history = |told: &Joined| told.history.iter().map(|chat| chat.text.clone()).collect::<Vec<_>>();
    assert_eq!(history(&join(&danmu, "&sub=0").await.1), ["kept"]);
    assert_eq!(history(&join(&danmu, "&sub=1").await.1), ["bad"]);
    danmu.admin("POST", "/rooms/stage/remove", &format!(r#"{{"ids":["{id}"]}}"#)).await;
    ann.find(|e| matches!(e, Event::Removed(removed) if removed.ids == [id.clone()])).await;
    bob.find(|e| matches!(e, Event::Removed(_))).await;
    assert_eq!(history(&join(&danmu, "&sub=0").await.1), ["kept"]);
    assert_eq!(history(&join(&danmu, "&sub=1").await.1), [""; 0]);
}

#[tokio::test]
async fn the_platform_speaks_to_one_sub_room_or_to_all() {
    let danmu = Danmu::start(&[]).await;
    divide(&danmu, 2).await;
    let (mut ann, _) = join(&danmu, "&sub=0").await;
    let (mut bob, _) = join(&danmu, "&sub=1").await;
    assert_eq!(publish(&danmu, r#"{"kind":"chat","text":"to 1","sub":1}"#).await.0, 200);
    assert_eq!(publish(&danmu, r#"{"kind":"chat","text":"to all"}"#).await.0, 200);
    assert_eq!(until(&mut ann, "to all").await, ["to all"]);
    assert_eq!(until(&mut bob, "to all").await, ["to 1", "to all"]);
    let (status, body) = publish(&danmu, r#"{"kind":"chat","text":"x","sub":2}"#).await;
    assert!(status == 422 && body.contains("from 0 to 1"), "{status} {body}");
}

#[tokio::test]
async fn what_a_moderator_lets_pass_is_shown_where_it_was_said() {
    let danmu = Danmu::start(&[]).await;
    divide(&danmu, 2).await;
    let (mut ann, _) = join(&danmu, "&sub=0").await;
    let (mut bob, _) = join(&danmu, "&sub=1").await;
    bob.say("perhaps").await;
    let (_, held) = danmu.admin("GET", "/rooms/stage/held", "").await;
    let mut held: serde_json::Value = serde_json::from_str(&held).unwrap();
    while held.as_array().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        held = serde_json::from_str(&danmu.admin("GET", "/rooms/stage/held", "").await.1).unwrap();
    }
    assert_eq!(held[0]["sub"], 1);
    let id = held[0]["id"].as_str().unwrap();
    let decision = format!(r#"{{"id":"{id}","show":true}}"#);
    let (status, body) = danmu.admin("POST", "/rooms/stage/held", &decision).await;
    assert!((200..300).contains(&status), "{status} {body}");
    bob.hears("perhaps").await;
    publish(&danmu, r#"{"kind":"gift","gift":"end"}"#).await;
    assert_eq!(until(&mut ann, "end").await, ["end"]);
}

#[tokio::test]
async fn the_cap_is_what_one_viewer_sees_so_each_sub_room_has_its_own() {
    let danmu = Danmu::start(&[]).await;
    limited(&danmu, 2, 10).await;
    let mut shown = Vec::new();
    for sub in 0..2 {
        let (mut viewer, _) = join(&danmu, &format!("&sub={sub}")).await;
        // All in one second.
        for n in 0..18 {
            viewer.say(&n.to_string()).await;
        }
        let mut count = 0;
        for _ in 0..18 {
            let Event::Ack(ack) = viewer.find(|e| matches!(e, Event::Ack(_))).await else { unreachable!() };
            count += u32::from(ack.shown);
        }
        shown.push(count);
    }
    // A second may begin in between.
    assert!(shown.iter().all(|shown| (10..=14).contains(shown)), "{shown:?}");
}

/// What one viewer saw until the last gift.
#[derive(Debug, Default)]
struct Saw {
    gifts: Vec<u32>,
    subs: Vec<Option<u32>>,
    /// Joins after the first that did not recover the lane.
    lost: usize,
}

fn watch(mut viewer: Viewer, last: u32) -> tokio::task::JoinHandle<(Viewer, Saw)> {
    tokio::spawn(async move {
        let mut saw = Saw::default();
        while saw.gifts.last() != Some(&last) {
            match viewer.event().await {
                Event::Gift(gift) => saw.gifts.push(gift.gift.parse().unwrap()),
                Event::Joined(joined) => {
                    saw.lost += usize::from(!joined.recovered);
                    saw.subs.push(joined.sub);
                }
                _ => {}
            }
        }
        (viewer, saw)
    })
}

/// Gives and talks until the last gift's number.
async fn busy(danmu: &Danmu, talker: &mut Viewer, gifts: std::ops::RangeInclusive<u32>) {
    for gift in gifts {
        assert_eq!(publish(danmu, &format!(r#"{{"kind":"gift","gift":"{gift}"}}"#)).await.0, 200);
        talker.say(&format!("talk {gift}")).await;
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

#[tokio::test]
async fn a_room_grows_and_shrinks_under_talk_and_nobody_is_cut_off_or_loses_a_gift() {
    let danmu = Danmu::start(&[]).await;
    divide(&danmu, 1).await;
    let mut viewers = Vec::new();
    for _ in 0..24 {
        viewers.push(join(&danmu, "").await.0);
    }
    let (mut talker, _) = join(&danmu, "").await;
    let (mut friend, _) = (join(&danmu, "").await.0, ());
    for (sub_rooms, from) in [(8, 1), (2, 1001)] {
        let last = from + 150;
        let watching: Vec<_> = viewers.drain(..).map(|viewer| watch(viewer, last)).collect();
        divide(&danmu, sub_rooms).await;
        busy(&danmu, &mut talker, from..=last).await;
        let mut now = BTreeSet::new();
        for viewer in watching {
            let (viewer, saw) = viewer.await.unwrap();
            assert_eq!(saw.gifts, (from..=last).collect::<Vec<_>>(), "each once and in order");
            assert_eq!(saw.lost, 0, "{saw:?}");
            assert!(saw.subs.len() <= 1, "moved once at most: {saw:?}");
            now.extend(saw.subs.last().copied().flatten());
            viewers.push(viewer);
        }
        assert!(now.iter().all(|sub| *sub < sub_rooms), "{now:?}");
        if sub_rooms == 8 {
            assert!(now.len() >= 5, "24 viewers are spread: {now:?}");
            friend.send(r#"{"op":"join","room":"stage","sub":1}"#).await;
            friend.find(|e| matches!(e, Event::Joined(joined) if joined.sub == Some(1))).await;
        }
    }
    // All are in one of two now, and the friend where it wanted to be.
    let (_, detail) = danmu.admin("GET", "/rooms/stage", "").await;
    let detail: serde_json::Value = serde_json::from_str(&detail).unwrap();
    let here: Vec<u64> =
        detail["subRooms"].as_array().unwrap().iter().map(|sub| sub["here"].as_u64().unwrap()).collect();
    assert_eq!((here.len(), here.iter().sum::<u64>()), (2, 26), "{detail}");
    friend.send(r#"{"op":"say","text":"still in 1"}"#).await;
    let (mut other, _) = join(&danmu, "&sub=1").await;
    other.say("hello 1").await;
    friend.hears("hello 1").await;
}
