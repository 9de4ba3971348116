//! A room in `mode: OnDemand`, and rooms that are switched to it and back.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use danmu_wire::{Event, OnDemand, RefusalCode};

use crate::{
    SPEAK, get, is_kept, put,
    support::{Danmu, Viewer, pod::eventually, redis::RedisServer},
};

/// The position of what is said to the room that is switched, by its number.
fn at(number: u64) -> u64 {
    number * 10
}

#[tokio::test]
async fn a_viewer_of_a_replay_is_told_to_fetch_and_is_not_sent_what_others_say() {
    let danmu = Danmu::start(&[]).await;
    put(&danmu, "film", &format!("mode: OnDemand, {SPEAK}"));
    is_kept(&danmu, "film").await;
    let mut ann = danmu.connect("/rooms/film/ws", &[]).await.unwrap();
    let Event::Joined(joined) = ann.event().await else { panic!() };
    assert_eq!(joined.mode.on_demand, Some(OnDemand { segment_ms: 10_000, at_ms: None }));
    let mut bob = danmu.join("film").await;
    bob.send(r#"{"op":"say","text":"kept","at":100,"ref":"1"}"#).await;
    bob.find(|event| matches!(event, Event::Ack(ack) if ack.shown)).await;
    // The priority lane goes on; what bob said would have come before it.
    danmu.admin("POST", "/rooms/film/publish", r#"{"kind":"notice","text":"hello"}"#).await;
    let next = ann.find(|event| !matches!(event, Event::Stats(_))).await;
    assert!(matches!(&next, Event::Notice(notice) if notice.text == "hello"), "{next:?}");
    assert_eq!(get(&danmu, "/rooms/film/danmu?from=0&to=10000").await.texts(), ["kept"]);
}

#[tokio::test]
async fn a_replay_is_written_to_at_a_position_of_the_video() {
    let danmu = Danmu::start(&[]).await;
    put(&danmu, "film", &format!("mode: OnDemand, {SPEAK}"));
    is_kept(&danmu, "film").await;
    let mut ann = danmu.join("film").await;
    for bad in [r#""ref":"a""#, r#""at":31622400000,"ref":"a""#, r#""at":18446744073709551615,"ref":"a""#] {
        ann.send(format!(r#"{{"op":"say","text":"x",{bad}}}"#)).await;
        let refused = ann.refusal().await;
        assert_eq!((refused.code, refused.reference.as_deref()), (RefusalCode::Position, Some("a")), "{bad}");
    }
    for bad in ["-1", "1.5", "null7", "\"5\"", "1e999"] {
        ann.send(format!(r#"{{"op":"say","text":"x","at":{bad}}}"#)).await;
        assert_eq!(ann.refusal().await.code, RefusalCode::BadRequest, "{bad}");
    }
    ann.send(r#"{"op":"say","text":"the last","at":31622399999}"#).await;
    ann.find(|event| matches!(event, Event::Ack(_))).await;
    let last = get(&danmu, "/rooms/film/danmu?from=31622390000&to=31622400000").await;
    assert_eq!(last.texts(), ["the last"]);
    // The gate stands before a replay as before a live room.
    put(&danmu, "film", "mode: OnDemand, moderation: {anonymous: Speak, words: {block: [spoiler]}}");
    ann.find(|event| matches!(event, Event::Mode(_)) || matches!(event, Event::Stats(_))).await;
    eventually("the word is blocked", async || {
        ann.send(r#"{"op":"say","text":"a spoiler","at":5}"#).await;
        let answer = ann.find(|event| matches!(event, Event::Ack(_) | Event::Refused(_))).await;
        matches!(answer, Event::Refused(refused) if refused.code == RefusalCode::BlockedWord)
    })
    .await;
}

/// What one talker was told.
#[derive(Default)]
struct Told {
    acknowledged: HashMap<String, String>,
    /// Acknowledged, but left out of the room's sample: neither shown nor kept.
    sampled: usize,
    modes: usize,
    heard: HashSet<String>,
}

/// Talks until it is told to stop, and notes what is acknowledged and heard.
async fn talk(mut viewer: Viewer, name: usize, stop: Arc<AtomicBool>) -> (Viewer, Told) {
    let mut told = Told::default();
    let mut number = 0u64;
    let note = |event: Event, told: &mut Told| match event {
        // A sampled message is heard by its sender alone, after its `ack`.
        Event::Chat(chat) => drop(told.heard.insert(chat.id)),
        Event::Ack(ack) => {
            if ack.shown {
                told.acknowledged.insert(ack.id, ack.reference.unwrap());
            } else {
                told.sampled += 1;
            }
        }
        Event::Mode(_) => told.modes += 1,
        Event::Gap(gap) => panic!("{gap:?}"),
        Event::Refused(refused) => assert_eq!(refused.code, RefusalCode::ConnectionRate, "{refused:?}"),
        _ => {}
    };
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let text = format!("{name}-{number}");
        let at = at(number);
        viewer.send(serde_json::json!({"op": "say", "text": text, "at": at, "ref": text}).to_string()).await;
        let pause = tokio::time::sleep(Duration::from_millis(260));
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                event = viewer.event() => note(event, &mut told),
            }
        }
    }
    // What is still on its way.
    while let Ok(event) = tokio::time::timeout(Duration::from_secs(1), viewer.event()).await {
        note(event, &mut told);
    }
    (viewer, told)
}

const TALKERS: usize = 12;
const SWITCHES: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switching_to_and_fro_under_talk_loses_no_viewer_and_no_message() {
    switch_to_and_fro(&[Danmu::start(&[]).await]).await;
}

/// Two pods never switch in the same moment: what one still says live the other may be past already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switching_two_pods_to_and_fro_loses_no_viewer_and_no_message() {
    let redis = RedisServer::start();
    let pod = async || Danmu::start(&["--redis", &redis.url()]).await;
    switch_to_and_fro(&[pod().await, pod().await]).await;
}

async fn put_mode(pods: &[Danmu], mode: &str) {
    for pod in pods {
        put(pod, "both", &format!("mode: {mode}, {SPEAK}"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn switch_to_and_fro(pods: &[Danmu]) {
    put_mode(pods, "Live").await;
    for pod in pods {
        eventually("the room is there", async || get(pod, "/rooms/both").await.status == 200).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut still_there = Vec::new();
    for number in 0..60 {
        still_there.push(pods[number % pods.len()].join("both").await);
    }
    let mut talkers = Vec::new();
    for name in 0..TALKERS {
        let viewer = pods[name % pods.len()].join("both").await;
        talkers.push(tokio::spawn(talk(viewer, name, Arc::clone(&stop))));
    }
    for switch in 0..SWITCHES {
        tokio::time::sleep(Duration::from_millis(700)).await;
        put_mode(pods, if switch % 2 == 0 { "OnDemand" } else { "Live" }).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.store(true, Ordering::Relaxed);
    let (mut acknowledged, mut heard, mut sampled) = (HashMap::new(), HashSet::new(), 0);
    for talker in talkers {
        let (viewer, told) = talker.await.unwrap();
        // Two edits within a look at the folder are one.
        assert!(told.modes >= SWITCHES - 2, "{} switches were told", told.modes);
        acknowledged.extend(told.acknowledged);
        heard.extend(told.heard);
        sampled += told.sampled;
        still_there.push(viewer);
    }
    // It ends Live: what was kept is read as a replay again.
    put_mode(pods, "OnDemand").await;
    is_kept(&pods[0], "both").await;
    let placed = get(&pods[0], "/rooms/both/danmu?from=0&to=60000").await.placed();
    let kept: HashSet<String> = placed.iter().map(|placed| placed.event.id().unwrap().to_owned()).collect();
    let lost: Vec<_> =
        acknowledged.iter().filter(|(id, _)| !heard.contains(*id) && !kept.contains(*id)).collect();
    assert_eq!(lost, [], "of {} acknowledged", acknowledged.len());
    let all = acknowledged.len();
    println!("{all} acknowledged: {} heard live, {} kept; {sampled} sampled", heard.len(), kept.len());
    // Until two pods have told each other who speaks, one of them may show one message a second.
    assert!(
        if pods.len() == 1 { sampled == 0 } else { sampled < all / 4 },
        "{sampled} of {all} were left out"
    );
    assert!(heard.len() > 30 && kept.len() > 30, "both ways were used: {} and {}", heard.len(), kept.len());
    assert_eq!(heard.intersection(&kept).count(), 0, "one message goes one way");
    assert_eq!(still_there.len(), 60 + TALKERS);
    for viewer in &mut still_there {
        viewer.send(r#"{"op":"ping"}"#).await;
        viewer.find(|event| matches!(event, Event::Pong)).await;
    }
}
