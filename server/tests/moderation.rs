//! Kinds of messages and moderation over real sockets: what is published reaches viewers and whoever joins
//! later; moderators hold, show, shadow and slow down; and it is written down who did what.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it goes wrong")]

#[allow(dead_code, unreachable_pub, reason = "shared with other test binaries, which use the rest")]
mod support;

use std::time::Duration;

use danmu_wire::{Event, Gift, RefusalCode};
use serde_json::{Value, json};
use support::{Danmu, Viewer};

const DESK: &str = "
apiVersion: danmu.live/v1alpha1
kind: DanmuRoom
metadata: {name: desk}
spec:
  limits: {messagesPerSecond: 1000, perViewer: {messages: 1000, seconds: 1}}
  moderation: {anonymous: Speak, words: {hold: [maybe], block: [never]}}
  kinds: {comboMilliseconds: 60000, enterBelow: 3}
";

async fn started() -> Danmu {
    let danmu = Danmu::start(&[]).await;
    std::fs::write(danmu.folder.path().join("desk.yaml"), DESK).unwrap();
    support::pod::eventually("the room is listed", async || {
        danmu.admin("GET", "/rooms/desk", "").await.0 == 200
    })
    .await;
    danmu
}

async fn publish(danmu: &Danmu, message: &Value) -> Value {
    let (status, answer) = danmu.admin("POST", "/rooms/desk/publish", &message.to_string()).await;
    assert_eq!(status, 200, "{message} {answer}");
    serde_json::from_str(&answer).unwrap()
}

async fn refuses(danmu: &Danmu, message: &Value, words: &str) {
    let (status, answer) = danmu.admin("POST", "/rooms/desk/publish", &message.to_string()).await;
    assert!(status == 422 && answer.contains(words), "{message}: {status} {answer}");
}

/// Has a moderator do it, and waits for the answer.
async fn act(moderator: &mut Viewer, mut action: Value) -> Event {
    action["op"] = "moderate".into();
    action["ref"] = "r".into();
    moderator.send(action.to_string()).await;
    moderator.find(|e| matches!(e, Event::Done(_) | Event::Refused(_))).await
}

async fn does(moderator: &mut Viewer, action: Value) {
    let answer = act(moderator, action).await;
    assert!(matches!(&answer, Event::Done(done) if done.reference.as_deref() == Some("r")), "{answer:?}");
}

async fn log(danmu: &Danmu) -> Vec<Value> {
    let (status, lines) = danmu.admin("GET", "/rooms/desk/log", "").await;
    assert_eq!(status, 200);
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn gifts_of_one_giver_count_up_and_each_is_acknowledged_and_recovered() {
    let danmu = started().await;
    let mut ann = danmu.join("desk").await;
    let rose = json!({"kind": "gift", "gift": "rose", "count": 2, "user": "u1"});
    let first = publish(&danmu, &rose).await;
    publish(&danmu, &rose).await;
    publish(&danmu, &json!({"kind": "gift", "gift": "rocket", "user": "u1"})).await;
    publish(&danmu, &rose).await;
    let (mut given, mut covered, mut combo) = (0, 0, None);
    while covered < 4 {
        let Event::Gift(Gift { gift, count, merged, combo: total, .. }) = ann.event().await else { continue };
        covered += merged;
        if gift == "rose" {
            (given, combo) = (given + count, total.or(combo));
        }
    }
    assert_eq!((given, combo), (6, Some(6)));
    let epoch = first["epoch"].as_str().unwrap();
    let mut back = danmu.connect(&format!("/rooms/desk/ws?since={epoch}.1"), &[]).await.unwrap();
    let Event::Joined(joined) = back.event().await else { panic!() };
    assert!(joined.recovered);
    for offset in 2..=4 {
        let Event::Gift(gift) = back.event().await else { panic!() };
        assert_eq!((gift.offset, gift.merged), (offset, 1));
    }
}

#[tokio::test]
async fn a_repeated_publish_counts_once_in_the_combo() {
    let danmu = started().await;
    let mut ann = danmu.join("desk").await;
    let body = json!({"kind": "gift", "gift": "rose", "user": "u1"}).to_string();
    let once = |key: &'static str| {
        let request = format!(
            "POST /rooms/desk/publish HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nIdempotency-Key: {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            support::ADMIN_TOKEN,
            body.len()
        );
        let admin = danmu.server.admin;
        async move { support::http(admin, &request).await.0 }
    };
    for key in ["a", "a", "b"] {
        assert_eq!(once(key).await, 200);
    }
    let last = ann.find(|e| matches!(e, Event::Gift(gift) if gift.offset == 2)).await;
    assert!(matches!(last, Event::Gift(gift) if gift.combo == Some(2)));
}

#[tokio::test]
async fn a_pinned_message_is_told_to_whoever_joins_while_it_holds() {
    let danmu = started().await;
    let mut ann = danmu.join("desk").await;
    publish(&danmu, &json!({"kind": "super", "text": "short", "seconds": 1})).await;
    publish(&danmu, &json!({"kind": "super", "text": "long", "price": "¥30", "user": "u1", "seconds": 600}))
        .await;
    ann.find(|e| matches!(e, Event::Super(said) if said.text == "long" && said.seconds == 600)).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let mut bob = danmu.connect("/rooms/desk/ws", &[]).await.unwrap();
    let Event::Joined(joined) = bob.event().await else { panic!() };
    let pinned: Vec<&str> = joined.pinned.iter().map(|said| said.text.as_str()).collect();
    assert_eq!(pinned, ["long"]);
    assert!((590..600).contains(&joined.pinned[0].seconds), "{:?}", joined.pinned);
    danmu.admin("POST", "/rooms/desk/remove", r#"{"user":"u1"}"#).await;
    ann.find(|e| matches!(e, Event::Removed(_))).await;
    let mut eve = danmu.connect("/rooms/desk/ws", &[]).await.unwrap();
    let Event::Joined(joined) = eve.event().await else { panic!() };
    assert!(joined.pinned.is_empty());
}

#[tokio::test]
async fn kinds_of_the_platforms_own_pass_within_their_bounds() {
    let danmu = started().await;
    let mut ann = danmu.join("desk").await;
    let data = json!({"question": "who wins?", "options": [1, 2, null], "<script>": "\u{202e}"});
    publish(&danmu, &json!({"kind": "custom", "custom": "poll", "user": "u1", "data": data})).await;
    let Event::Custom(custom) = ann.find(|e| matches!(e, Event::Custom(_))).await else { panic!() };
    assert_eq!((custom.kind.as_str(), custom.data, custom.offset), ("poll", data, 1));
    let long = "x".repeat(2048);
    refuses(&danmu, &json!({"kind": "custom", "custom": "poll", "data": long}), "at most 2048").await;
    refuses(&danmu, &json!({"kind": "custom", "custom": "Poll!", "data": 1}), "a-z").await;
    refuses(&danmu, &json!({"kind": "custom", "custom": "poll"}), "data").await;
    refuses(&danmu, &json!({"kind": "super", "text": "a", "seconds": 86_401}), "86400").await;
    let deep =
        format!(r#"{{"kind":"custom","custom":"poll","data":{}1{}}}"#, "[".repeat(900), "]".repeat(900));
    let (status, _) = danmu.admin("POST", "/rooms/desk/publish", &deep).await;
    assert!(status == 400 || status == 422, "{status}");
}

#[tokio::test]
async fn it_is_told_who_comes_in_while_the_room_is_small() {
    let danmu = started().await;
    let mut ann = danmu.join_as("desk", "ann", "speaker").await;
    let is_enter =
        |user: &'static str| move |e: &Event| matches!(e, Event::Enter(x) if x.user.as_deref() == Some(user));
    let _bob = danmu.join_as("desk", "bob", "speaker").await;
    ann.find(is_enter("bob")).await;
    let _guest = danmu.join("desk").await;
    let _eve = danmu.join_as("desk", "eve", "speaker").await;
    publish(&danmu, &json!({"kind": "enter", "user": "vip", "name": "Very Important"})).await;
    let told = ann.find(|e| matches!(e, Event::Enter(_))).await;
    assert!(is_enter("vip")(&told), "four are too many to be told of eve: {told:?}");
}

#[tokio::test]
async fn a_held_message_goes_out_by_a_moderators_word_and_once() {
    let danmu = started().await;
    let mut ann = danmu.join_as("desk", "ann", "speaker").await;
    let mut one = danmu.join_as("desk", "mod1", "moderator").await;
    let mut two = danmu.join_as("desk", "mod2", "moderator").await;
    ann.say("well, maybe").await;
    let Event::Ack(ack) = ann.find(|e| matches!(e, Event::Ack(_))).await else { panic!() };
    assert!(ack.held && !ack.shown && ack.reference.as_deref() == Some("well, maybe"));
    for moderator in [&mut one, &mut two] {
        let Event::Held(held) = moderator.find(|e| matches!(e, Event::Held(_))).await else { panic!() };
        assert_eq!((held.chat.id.as_str(), held.chat.user.as_deref()), (ack.id.as_str(), Some("ann")));
    }
    does(&mut one, json!({"do": "show", "id": ack.id})).await;
    assert_eq!(ann.hears("well, maybe").await.id, ack.id);
    let settled = two.find(|e| matches!(e, Event::Settled(_))).await;
    assert!(matches!(settled, Event::Settled(s) if s.shown && s.by == "mod1" && s.id == ack.id));
    let late = act(&mut two, json!({"do": "reject", "id": ack.id})).await;
    assert!(matches!(late, Event::Refused(refused) if refused.code == RefusalCode::NotFound));
    let log = log(&danmu).await;
    assert_eq!(log.len(), 1, "{log:?}");
    let words = [&log[0]["by"], &log[0]["do"], &log[0]["user"], &log[0]["text"]].map(|v| v.as_str().unwrap());
    assert_eq!(words, ["mod1", "show", "ann", "well, maybe"]);
}

#[tokio::test]
async fn a_held_message_that_is_turned_away_is_refused_and_seen_by_nobody() {
    let danmu = started().await;
    let mut ann = danmu.join("desk").await;
    let mut bob = danmu.join("desk").await;
    ann.say("maybe not").await;
    ann.find(|e| matches!(e, Event::Ack(ack) if ack.held)).await;
    // A moderator who comes later finds it, and so does the admin API.
    let mut late = danmu.join_as("desk", "mod1", "moderator").await;
    let Event::Held(held) = late.find(|e| matches!(e, Event::Held(_))).await else { panic!() };
    let (_, listed) = danmu.admin("GET", "/rooms/desk/held", "").await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((listed[0]["id"].as_str().unwrap(), listed.as_array().unwrap().len()), (&*held.chat.id, 1));
    let decision = json!({"id": held.chat.id, "show": false}).to_string();
    assert_eq!(danmu.admin("POST", "/rooms/desk/held", &decision).await.0, 204);
    assert_eq!(danmu.admin("POST", "/rooms/desk/held", &decision).await.0, 404);
    let refused = ann.refusal().await;
    assert_eq!((refused.code, refused.reference.as_deref()), (RefusalCode::Rejected, Some("maybe not")));
    late.find(|e| matches!(e, Event::Settled(s) if !s.shown && s.by == "admin")).await;
    ann.say("over").await;
    let next = bob.find(|e| matches!(e, Event::Chat(_))).await;
    assert!(matches!(next, Event::Chat(chat) if chat.text == "over"));
}

#[tokio::test]
async fn a_full_queue_refuses_and_takes_again_when_a_moderator_has_decided() {
    let danmu = started().await;
    // One connection may not write so much.
    for turn in 0..10 {
        let mut viewer = danmu.join("desk").await;
        for i in 0..10 {
            viewer.say(&format!("maybe {turn}{i}")).await;
            viewer.find(|e| matches!(e, Event::Ack(ack) if ack.held)).await;
        }
    }
    let mut ann = danmu.join("desk").await;
    ann.say("maybe one more").await;
    assert_eq!(ann.refusal().await.code, RefusalCode::Busy);
    let (_, listed) = danmu.admin("GET", "/rooms/desk/held", "").await;
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    let decision = json!({"id": listed[0]["id"], "show": true}).to_string();
    assert_eq!(danmu.admin("POST", "/rooms/desk/held", &decision).await.0, 204);
    ann.hears("maybe 00").await;
    ann.say("maybe one more").await;
    ann.find(|e| matches!(e, Event::Ack(ack) if ack.held)).await;
}

#[tokio::test]
async fn a_shadowed_user_sees_what_they_write_and_nobody_else_does() {
    let danmu = started().await;
    let mut moderator = danmu.join_as("desk", "mod1", "moderator").await;
    let mut eve = danmu.join_as("desk", "eve", "speaker").await;
    let mut bob = danmu.join("desk").await;
    does(&mut moderator, json!({"do": "shadow", "user": "eve", "seconds": 600})).await;
    eve.say("psst").await;
    let Event::Ack(ack) = eve.find(|e| matches!(e, Event::Ack(_))).await else { panic!() };
    assert!(ack.shown && !ack.held, "nothing tells her");
    assert_eq!(eve.hears("psst").await.id, ack.id);
    does(&mut moderator, json!({"do": "unshadow", "user": "eve"})).await;
    eve.say("again").await;
    let next = bob.find(|e| matches!(e, Event::Chat(_))).await;
    assert!(matches!(next, Event::Chat(chat) if chat.text == "again"));
    let (_, detail) = danmu.admin("GET", "/rooms/desk", "").await;
    assert!(detail.contains(r#""shadowedUsers":[]"#), "{detail}");
}

#[tokio::test]
async fn a_moderator_deletes_mutes_slows_down_and_clears_from_the_page() {
    let danmu = started().await;
    let mut moderator = danmu.join_as("desk", "mod1", "moderator").await;
    let mut ann = danmu.join_as("desk", "ann", "speaker").await;
    ann.say("one").await;
    let id = moderator.hears("one").await.id;
    does(&mut moderator, json!({"do": "remove", "ids": [id]})).await;
    ann.find(|e| matches!(e, Event::Removed(r) if r.ids == [id.clone()])).await;
    does(&mut moderator, json!({"do": "slow_mode", "seconds": 300})).await;
    ann.find(|e| matches!(e, Event::Mode(mode) if mode.slow_mode_seconds == 300)).await;
    ann.say("two").await;
    ann.hears("two").await;
    ann.say("three").await;
    assert_eq!(ann.refusal().await.code, RefusalCode::SlowMode);
    let mut guest = danmu.connect("/rooms/desk/ws", &[]).await.unwrap();
    assert!(matches!(guest.event().await, Event::Joined(joined) if joined.mode.slow_mode_seconds == 300));
    does(&mut moderator, json!({"do": "reset_slow_mode"})).await;
    ann.find(|e| matches!(e, Event::Mode(mode) if mode.slow_mode_seconds == 0)).await;
    does(&mut moderator, json!({"do": "mute", "user": "ann", "seconds": 600})).await;
    ann.say("four").await;
    assert_eq!(ann.refusal().await.code, RefusalCode::Muted);
    does(&mut moderator, json!({"do": "clear"})).await;
    ann.find(|e| matches!(e, Event::Removed(r) if r.all)).await;
    danmu.admin("POST", "/rooms/desk/bans", r#"{"network":"198.51.100.0/24","seconds":60}"#).await;
    let log = log(&danmu).await;
    let did: Vec<&str> = log.iter().map(|line| line["do"].as_str().unwrap()).collect();
    assert_eq!(did, ["remove", "slow_mode", "reset_slow_mode", "mute", "clear", "ban"]);
    assert!(log.iter().all(|line| line["at"].as_str().unwrap().starts_with("20")), "{log:?}");
    assert_eq!(
        (&log[3]["user"], &log[3]["seconds"], &log[5]["by"]),
        (&json!("ann"), &json!(600), &json!("admin"))
    );
}

#[tokio::test]
async fn only_moderators_keep_order() {
    let danmu = started().await;
    for (user, role) in [("ann", "viewer"), ("bob", "speaker")] {
        let mut viewer = danmu.join_as("desk", user, role).await;
        let answer = act(&mut viewer, json!({"do": "clear"})).await;
        assert!(matches!(&answer, Event::Refused(r) if r.code == RefusalCode::NotModerator), "{answer:?}");
    }
    let mut guest = danmu.join("desk").await;
    let answer = act(&mut guest, json!({"do": "mute", "user": "ann"})).await;
    assert!(matches!(&answer, Event::Refused(r) if r.code == RefusalCode::NotModerator), "{answer:?}");
    let mut moderator = danmu.join_as("desk", "mod1", "moderator").await;
    for bad in [json!({"do": "mute", "user": ""}), json!({"do": "fly"}), json!({"do": "remove"})] {
        let answer = act(&mut moderator, bad).await;
        assert!(matches!(&answer, Event::Refused(r) if r.code == RefusalCode::BadRequest), "{answer:?}");
    }
    let none = act(&mut moderator, json!({"do": "unmute", "user": "nobody"})).await;
    assert!(matches!(&none, Event::Refused(r) if r.code == RefusalCode::NotFound), "{none:?}");
    assert!(log(&danmu).await.is_empty(), "what was not done is not written down");
}

#[tokio::test]
async fn a_trial_says_why_a_text_would_be_refused() {
    let danmu = started().await;
    let trial = async |body: Value| {
        let (status, answer) = danmu.admin("POST", "/rooms/desk/dry-run", &body.to_string()).await;
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str::<Value>(&answer).unwrap()
    };
    let blocked = trial(json!({"text": "ＮＥＶＥＲ maybe"})).await;
    assert_eq!(blocked["refused"], "blocked_word");
    assert_eq!(
        blocked["words"],
        json!([{"list": "block", "word": "never"}, {"list": "hold", "word": "maybe"}])
    );
    assert_eq!(trial(json!({"text": "maybe"})).await["held"], true);
    assert_eq!(trial(json!({"text": "fine"})).await["refused"], Value::Null);
    danmu.admin("POST", "/rooms/desk/mutes", r#"{"user":"ann"}"#).await;
    assert_eq!(trial(json!({"text": "fine", "user": "ann"})).await["refused"], "muted");
    danmu.admin("POST", "/rooms/desk/bans", r#"{"network":"203.0.113.0/24"}"#).await;
    assert_eq!(trial(json!({"text": "fine", "address": "203.0.113.9"})).await["refused"], "banned");
    let long = json!({"text": "x".repeat(5000)}).to_string();
    assert_eq!(danmu.admin("POST", "/rooms/desk/dry-run", &long).await.0, 422);
}
