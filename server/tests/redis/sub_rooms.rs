//! A divided room on two pods: one channel for each sub-room that somebody is in, one for all of them.

use std::{
    fs,
    time::{Duration, Instant},
};

use danmu_wire::{Event, Joined, Lane};

use crate::support::{Danmu, Viewer, pod::eventually, redis::RedisServer};

async fn pod(redis: &RedisServer) -> Danmu {
    Danmu::start(&["--redis", &redis.url()]).await
}

/// Puts the manifest of room `stage` in place on all pods and waits until it is in force.
async fn divide(pods: &[&Danmu], sub_rooms: u32, shown: u32) {
    let manifest = format!(
        "apiVersion: danmu.live/v1alpha1\nkind: DanmuRoom\nmetadata: {{name: stage}}\nspec:\n  subRooms: {sub_rooms}\n  \
         limits: {{messagesPerSecond: {shown}, perViewer: {{messages: 1000, seconds: 1}}}}\n  \
         moderation: {{anonymous: Speak}}\n"
    );
    for pod in pods {
        fs::write(pod.folder.path().join(".next"), &manifest).unwrap();
        fs::rename(pod.folder.path().join(".next"), pod.folder.path().join("stage.yaml")).unwrap();
    }
    let over = format!(r#"{{"kind":"enter","sub":{sub_rooms}}}"#);
    for pod in pods {
        eventually("the edit is in force", async || {
            let last = format!(r#"{{"kind":"enter","sub":{}}}"#, sub_rooms - 1);
            (publish(pod, &last).await.0, publish(pod, &over).await.0) == (200, 422)
        })
        .await;
    }
}

async fn publish(pod: &Danmu, body: &str) -> (u16, String) {
    pod.admin("POST", "/rooms/stage/publish", body).await
}

async fn gift(pod: &Danmu, name: &str) {
    let (status, body) = publish(pod, &format!(r#"{{"kind":"gift","gift":"{name}"}}"#)).await;
    assert_eq!(status, 200, "{body}");
}

async fn joined(viewer: &mut Viewer) -> Joined {
    match viewer.find(|event| matches!(event, Event::Joined(_))).await {
        Event::Joined(joined) => *joined,
        _ => unreachable!(),
    }
}

async fn join(pod: &Danmu, query: &str) -> Viewer {
    let mut viewer = pod.connect(&format!("/rooms/stage/ws?room=stage{query}"), &[]).await.unwrap();
    joined(&mut viewer).await;
    viewer
}

/// Text of chats, names of gifts, and losses, up to and with the one that is named.
async fn until(viewer: &mut Viewer, last: &str) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|seen| seen != last) {
        match viewer.event().await {
            Event::Chat(chat) => seen.push(chat.text),
            Event::Gift(gift) => seen.push(gift.gift),
            Event::Gap(gap) => seen.push(format!("lost {:?} {:?}", gap.lane, gap.dropped)),
            _ => {}
        }
    }
    seen
}

/// How many pods hear the channels of the room.
fn heard(redis: &RedisServer, channels: &[&str]) -> Vec<i64> {
    let name = |channel: &&str| format!("danmu:{{local/default/stage}}:live{channel}");
    let count = |channel: &&str| match redis.command(&["PUBSUB", "NUMSUB", &name(channel)]).unwrap() {
        redis::Value::Array(pair) => match pair[1] {
            redis::Value::Int(count) => count,
            ref other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    channels.iter().map(count).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sub_room_is_one_conversation_on_all_pods_and_only_where_somebody_is_in_it() {
    let redis = RedisServer::start();
    let (a, b) = (pod(&redis).await, pod(&redis).await);
    // The first look at whether the edit is in force opens the last sub-room on both.
    divide(&[&a, &b], 4, 1000).await;
    let (mut ann, mut bob, mut cat) =
        (join(&a, "&sub=2").await, join(&b, "&sub=2").await, join(&b, "&sub=1").await);
    eventually("the channels are open", async || heard(&redis, &["", ":0", ":1", ":2"]) == [2, 0, 1, 2])
        .await;
    ann.say("in 2").await;
    bob.hears("in 2").await;
    cat.say("in 1").await;
    cat.hears("in 1").await;
    for name in ["one", "two"] {
        gift(&b, name).await;
    }
    assert_eq!(publish(&a, r#"{"kind":"chat","text":"to all"}"#).await.0, 200);
    assert_eq!(publish(&b, r#"{"kind":"chat","text":"to 1","sub":1}"#).await.0, 200);
    cat.hears("to 1").await;
    gift(&a, "end").await;
    let sorted = |mut seen: Vec<String>| {
        seen.sort();
        seen
    };
    assert_eq!(sorted(until(&mut ann, "end").await), ["end", "in 2", "one", "to all", "two"]);
    assert_eq!(sorted(until(&mut bob, "end").await), ["end", "one", "to all", "two"]);
    let both = |event: &Event| matches!(event, Event::Stats(stats) if (stats.viewers, stats.sub_viewers) == (3, Some(2)));
    ann.find(both).await;
    // Somebody comes to a sub-room that nobody is in on this pod: it is served through the relay.
    let mut dan = join(&a, "&sub=1").await;
    eventually("the channel is open", async || heard(&redis, &[":1"]) == [2]).await;
    cat.say("hello dan").await;
    dan.hears("hello dan").await;
    dan.say("hello cat").await;
    cat.hears("hello cat").await;
    gift(&b, "last").await;
    let seen = until(&mut ann, "last").await;
    assert_eq!(seen, ["last"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_is_not_divided_has_one_channel_and_comes_back_to_it_without_false_losses() {
    let redis = RedisServer::start();
    let (a, b) = (pod(&redis).await, pod(&redis).await);
    divide(&[&a, &b], 1, 1000).await;
    let (mut ann, mut bob) = (join(&a, "").await, join(&b, "").await);
    eventually("both are there", async || heard(&redis, &["", ":0"]) == [2, 0]).await;
    let talk = async |ann: &mut Viewer, bob: &mut Viewer, from: u32| {
        for n in from..from + 6 {
            ann.say(&format!("talk {n}")).await;
        }
        until(bob, &format!("talk {}", from + 5)).await
    };
    let said = |from: u32| (from..from + 6).map(|n| format!("talk {n}")).collect::<Vec<_>>();
    assert_eq!(talk(&mut ann, &mut bob, 0).await, said(0));

    divide(&[&a, &b], 2, 1000).await;
    for viewer in [&mut ann, &mut bob] {
        viewer.send(r#"{"op":"join","room":"stage","sub":0}"#).await;
        joined(viewer).await;
    }
    eventually("sub-room 0 has a channel", async || heard(&redis, &["", ":0"]) == [2, 2]).await;
    assert_eq!(talk(&mut ann, &mut bob, 100).await, said(100));
    publish(&a, r#"{"kind":"chat","text":"to all"}"#).await;
    assert_eq!(until(&mut bob, "to all").await, ["to all"]);

    divide(&[&a, &b], 1, 1000).await;
    eventually("the channel is closed", async || heard(&redis, &["", ":0"]) == [2, 0]).await;
    assert_eq!(talk(&mut ann, &mut bob, 200).await, said(200), "and nothing is said to be lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_share_the_cap_of_each_sub_room_by_who_speaks_in_it() {
    let redis = RedisServer::start();
    let (a, b) = (pod(&redis).await, pod(&redis).await);
    divide(&[&a, &b], 2, 20).await;
    // Alone in its sub-room, each pod has the whole cap, although the other pod is in the room. One connection may say
    // 20 messages in 5 seconds.
    let mut speakers = Vec::new();
    for _ in 0..10 {
        speakers.push((0, join(&a, "&sub=0").await));
        speakers.push((1, join(&b, "&sub=1").await));
    }
    let mut shown = [0; 2];
    let started = Instant::now();
    for round in 1..=12 {
        for (_, speaker) in &mut speakers {
            speaker.say(&format!("{round}")).await;
        }
        for (at, speaker) in &mut speakers {
            let Event::Ack(ack) = speaker.find(|e| matches!(e, Event::Ack(_))).await else { unreachable!() };
            shown[*at] += u32::from(ack.shown);
        }
        tokio::time::sleep_until((started + round * Duration::from_millis(255)).into()).await;
    }
    // 20 a second each, and a second's worth at the beginning.
    assert!(shown.iter().all(|shown| (50..=85).contains(shown)), "{shown:?} of 120 each in 3 seconds");
}

/// What one viewer saw until the last gift, and how often it was told that something of the priority lane is lost.
fn watch(mut viewer: Viewer, last: u32) -> tokio::task::JoinHandle<(Viewer, Vec<u32>, usize)> {
    tokio::spawn(async move {
        let (mut gifts, mut lost) = (Vec::new(), 0);
        while gifts.last() != Some(&last) {
            match viewer.event().await {
                Event::Gift(gift) => gifts.push(gift.gift.parse().unwrap()),
                Event::Joined(joined) => lost += usize::from(!joined.recovered),
                Event::Gap(gap) if gap.lane == Lane::Priority => lost += 1,
                _ => {}
            }
        }
        (viewer, gifts, lost)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_pods_a_room_grows_and_shrinks_without_a_lost_gift() {
    let redis = RedisServer::start();
    let (a, b) = (pod(&redis).await, pod(&redis).await);
    divide(&[&a, &b], 1, 1000).await;
    let mut viewers = Vec::new();
    for pod in [&a, &b].repeat(10) {
        viewers.push(join(pod, "").await);
    }
    for (sub_rooms, from) in [(8, 1), (2, 1001)] {
        let last = from + 120;
        let watching: Vec<_> = viewers.drain(..).map(|viewer| watch(viewer, last)).collect();
        divide(&[&a, &b], sub_rooms, 1000).await;
        for n in from..=last {
            gift(if n % 2 == 0 { &a } else { &b }, &n.to_string()).await;
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        for viewer in watching {
            let (viewer, gifts, lost) = viewer.await.unwrap();
            assert_eq!((gifts, lost), ((from..=last).collect(), 0), "each once and in order");
            viewers.push(viewer);
        }
    }
    // Two conversations are left, each on both pods.
    for viewer in &mut viewers {
        viewer.say("all here").await;
        viewer.hears("all here").await;
    }
    let left = ["", ":0", ":1", ":2", ":7"];
    eventually("empty ones are closed", async || heard(&redis, &left) == [2, 2, 2, 0, 0]).await;
}
