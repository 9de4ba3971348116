//! The publish hook: its word counts, in order, and without it the fleet's.

use std::time::{Duration, Instant};

use danmu_wire::{Event, RefusalCode};
use serde_json::json;

use crate::{
    edit, metric, started,
    support::{
        Danmu, Viewer,
        pod::eventually,
        receiver::{Receiver, Reply, Taken},
    },
};

fn hook(receiver: &Receiver, more: &str) -> String {
    format!("hooks: {{publish: {{url: '{}', {more}}}}}", receiver.url())
}

fn text(taken: &Taken) -> &str {
    taken.body["text"].as_str().unwrap()
}

/// Decides by the text's first word.
fn judge(receiver: &Receiver) {
    receiver.then(|taken| {
        Reply::Json(match text(taken).split(' ').next().unwrap() {
            "swap" => json!({"verdict": "allow", "text": " swapped\u{202e} "}).to_string(),
            "long" => json!({"verdict": "allow", "text": "x".repeat(101)}).to_string(),
            "rude" => json!({"verdict": "refuse", "reason": "be kind"}).to_string(),
            "no" => json!({"verdict": "refuse"}).to_string(),
            "wait" => json!({"verdict": "hold"}).to_string(),
            "odd" => "{\"verdict\":\"perhaps\"}".to_owned(),
            "huge" => format!("{{\"verdict\":\"allow\",\"reason\":\"{}\"}}", "x".repeat(9000)),
            _ => json!({"verdict": "allow"}).to_string(),
        })
    });
}

/// Says it, and waits for the answer.
async fn said(viewer: &mut Viewer, text: &str) -> Event {
    viewer.say(text).await;
    viewer.find(|event| matches!(event, Event::Ack(_) | Event::Refused(_))).await
}

async fn is_shown(viewer: &mut Viewer, text: &str) {
    let answer = said(viewer, text).await;
    assert!(
        matches!(&answer, Event::Ack(ack) if ack.shown && ack.reference.as_deref() == Some(text)),
        "{answer:?}"
    );
}

async fn is_refused(viewer: &mut Viewer, text: &str, code: RefusalCode) -> String {
    match said(viewer, text).await {
        Event::Refused(refused) if refused.code == code => refused.text,
        other => panic!("{other:?}"),
    }
}

/// A viewer who has said nothing yet: one connection or address may not say as much as some tests try.
async fn somebody(danmu: &Danmu) -> Viewer {
    danmu.join_as("talk", &ulid::Ulid::generate().to_string(), "speaker").await
}

async fn failures(danmu: &Danmu, reason: &str) -> f64 {
    metric(danmu, &format!("danmu_publish_hook_failures_total{{reason=\"{reason}\"}}")).await
}

#[tokio::test]
async fn the_hook_lets_through_replaces_refuses_and_holds() {
    let receiver = Receiver::start().await;
    judge(&receiver);
    let danmu = started(&hook(&receiver, "deadlineMs: 2000, onFailure: Refuse")).await;
    let mut moderator = danmu.join_as("talk", "mod", "moderator").await;
    let mut ann = danmu.join_as("talk", "ann", "speaker").await;
    is_shown(&mut ann, "hello").await;
    let asked = receiver.gets(1).await.remove(0);
    let wanted = json!({"room": "talk", "id": asked.id(), "user": "ann", "name": "ANN", "text": "hello"});
    assert_eq!(asked.body, wanted);
    assert_eq!(moderator.hears("hello").await.id, asked.id());
    is_shown(&mut ann, "swap this").await;
    moderator.hears("swapped").await;
    assert_eq!(is_refused(&mut ann, "rude", RefusalCode::Rejected).await, "be kind");
    assert_eq!(is_refused(&mut ann, "no", RefusalCode::Rejected).await, RefusalCode::Rejected.text());
    let waits = said(&mut ann, "wait").await;
    assert!(matches!(&waits, Event::Ack(ack) if ack.held && !ack.shown), "{waits:?}");
    let held = moderator.find(|event| matches!(event, Event::Held(_))).await;
    assert!(matches!(&held, Event::Held(held) if held.chat.text == "wait"), "{held:?}");
    // No answers: what cannot be shown, what is none, what does not end.
    for bad in ["long", "odd", "huge"] {
        is_refused(&mut ann, bad, RefusalCode::Busy).await;
        is_shown(&mut ann, "well again").await;
    }
    assert_eq!(failures(&danmu, "bad_answer").await, 3.0);
    assert!(metric(&danmu, "danmu_publish_hook_seconds_count").await >= 11.0);
}

#[tokio::test]
async fn only_what_viewers_say_and_others_would_see_is_asked_about() {
    let receiver = Receiver::start().await;
    judge(&receiver);
    let danmu = started(&hook(&receiver, "deadlineMs: 2000")).await;
    let mut moderator = danmu.join_as("talk", "mod", "moderator").await;
    is_shown(&mut moderator, "rude words of a moderator").await;
    let mut ann = danmu.join("talk").await;
    is_refused(&mut ann, "forbidden", RefusalCode::BlockedWord).await;
    let held = said(&mut ann, "perhaps").await;
    assert!(matches!(&held, Event::Ack(ack) if ack.held), "{held:?}");
    danmu.admin("POST", "/rooms/talk/shadows", r#"{"user":"eve"}"#).await;
    let mut eve = danmu.join_as("talk", "eve", "speaker").await;
    is_shown(&mut eve, "rude words of eve").await;
    assert_eq!(receiver.taken().len(), 0);
    is_shown(&mut ann, "darn it").await;
    let asked = receiver.gets(1).await.remove(0).body;
    assert_eq!((&asked["text"], &asked["user"]), (&json!("**** it"), &json!(null)), "as it would be shown");
}

#[tokio::test]
async fn one_viewers_messages_keep_their_order_however_long_the_hook_takes() {
    let receiver = Receiver::start().await;
    let danmu = started(&hook(&receiver, "deadlineMs: 100, onFailure: Allow")).await;
    let mut bob = danmu.join("talk").await;
    let mut ann = danmu.join("talk").await;
    // The second waits for the deadline; the third is answered at once, after it.
    receiver.first([Reply::Json(r#"{"verdict":"allow"}"#.into()), Reply::Hang]);
    receiver.then(|_| Reply::Json(r#"{"verdict":"allow"}"#.into()));
    for text in ["1", "2", "3", "4"] {
        ann.say(text).await;
    }
    let mut heard = Vec::new();
    while heard.len() < 4 {
        if let Event::Chat(chat) = bob.find(|event| matches!(event, Event::Chat(_))).await {
            heard.push(chat.text);
        }
    }
    assert_eq!(heard, ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn who_says_more_than_may_wait_is_told_and_what_was_said_comes_though_the_speaker_left() {
    let receiver = Receiver::start().await;
    receiver.then(|_| Reply::Hang);
    let danmu = started(&hook(&receiver, "deadlineMs: 300, onFailure: Allow")).await;
    let mut bob = danmu.join("talk").await;
    let mut ann = danmu.join("talk").await;
    for number in 0..12 {
        ann.say(&number.to_string()).await;
    }
    assert_eq!(ann.refusal().await.code, RefusalCode::Busy);
    drop(ann);
    bob.hears("8").await;
}

#[tokio::test]
async fn a_hook_that_hangs_costs_the_deadline_and_then_nothing_until_it_is_tried_again() {
    for (policy, shown) in [("Allow", true), ("Refuse", false)] {
        let receiver = Receiver::start().await;
        receiver.then(|_| Reply::Hang);
        let danmu = started(&hook(&receiver, &format!("deadlineMs: 150, onFailure: {policy}"))).await;
        let mut ann = danmu.join("talk").await;
        let mut says = async |text: &str| {
            let began = Instant::now();
            match said(&mut ann, text).await {
                Event::Ack(ack) => assert!(shown && ack.shown, "{policy}"),
                Event::Refused(refused) => assert!(!shown && refused.code == RefusalCode::Busy, "{policy}"),
                _ => unreachable!(),
            }
            began.elapsed()
        };
        for text in ["1", "2", "3"] {
            let took = says(text).await;
            assert!(took >= Duration::from_millis(140) && took < Duration::from_secs(2), "{took:?}");
        }
        // Left alone now; on a busy machine the pause may be over before it is asked.
        let took = says("4").await;
        assert!(took < Duration::from_millis(140), "{took:?}");
        assert_eq!(receiver.taken().len(), 3);
        assert_eq!((failures(&danmu, "deadline").await, failures(&danmu, "circuit_open").await), (3.0, 1.0));
        judge(&receiver);
        tokio::time::sleep(Duration::from_millis(450)).await;
        let mut eve = danmu.join("talk").await;
        is_shown(&mut eve, "it is well again").await;
        is_refused(&mut eve, "rude", RefusalCode::Rejected).await;
    }
}

#[tokio::test]
async fn a_hook_that_is_away_or_answers_no_200_is_as_the_fleet_has_it_and_an_edit_counts_at_once() {
    let receiver = Receiver::start().await;
    receiver.then(|_| Reply::Status(500));
    let danmu = started(&hook(&receiver, "deadlineMs: 2000, onFailure: Refuse")).await;
    is_refused(&mut somebody(&danmu).await, "a", RefusalCode::Busy).await;
    assert_eq!(failures(&danmu, "status").await, 1.0);
    let asked = async || failures(&danmu, "unreachable").await + failures(&danmu, "circuit_open").await;
    edit(&danmu, "hooks: {publish: {url: 'http://127.0.0.1:9/', deadlineMs: 2000, onFailure: Allow}}");
    eventually("the edit is in force", async || {
        said(&mut somebody(&danmu).await, "b").await;
        failures(&danmu, "unreachable").await > 0.0
    })
    .await;
    is_shown(&mut somebody(&danmu).await, "b").await;
    edit(&danmu, "hooks: {}");
    eventually("nobody is asked", async || {
        let before = asked().await;
        is_shown(&mut somebody(&danmu).await, "c").await;
        before == asked().await
    })
    .await;
}

#[tokio::test]
async fn what_is_said_to_a_replay_is_asked_about_too() {
    let receiver = Receiver::start().await;
    judge(&receiver);
    let danmu = started(&hook(&receiver, "deadlineMs: 2000")).await;
    let film = "apiVersion: danmu.live/v1alpha1\nkind: DanmuRoom\nmetadata: {name: film}\n\
                spec: {mode: OnDemand, recording: {}, moderation: {anonymous: Speak}}\n";
    std::fs::write(danmu.folder.path().join("film.yaml"), film).unwrap();
    eventually("the room is listed", async || danmu.admin("GET", "/rooms/film", "").await.0 == 200).await;
    let mut ann = danmu.join("film").await;
    for (text, kept) in [("swap it", true), ("rude", false), ("wait", false)] {
        ann.send(json!({"op": "say", "text": text, "at": 5000}).to_string()).await;
        let answer = ann.find(|event| matches!(event, Event::Ack(_) | Event::Refused(_))).await;
        assert_eq!(matches!(&answer, Event::Ack(ack) if ack.shown), kept, "{text}: {answer:?}");
    }
    let request = "GET /rooms/film/danmu?from=0&to=10000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let (_, kept) = crate::support::http(danmu.public(), request).await;
    assert!(kept.contains("swapped") && !kept.contains("rude") && !kept.contains("wait"), "{kept}");
}
