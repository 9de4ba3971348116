//! What viewers and admins see of a room, over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it goes wrong")]

#[allow(dead_code, unreachable_pub, reason = "shared with other test binaries, which use the rest")]
mod support;

use danmu_server::edge::{
    session::unix_now,
    token::{Claims, mint},
};
use danmu_wire::{CloseCode, Event, RefusalCode, Role};
use support::{Danmu, token};

#[tokio::test]
async fn what_one_viewer_says_the_other_sees() {
    let danmu = Danmu::start(&[]).await;
    let (mut ann, mut bob) = (danmu.join("talk").await, danmu.join("talk").await);
    ann.say("hello").await;
    let seen = bob.hears("hello").await;
    let ack = ann.find(|e| matches!(e, Event::Ack(_))).await;
    let Event::Ack(ack) = ack else { unreachable!() };
    assert_eq!((ack.reference.as_deref(), ack.id, ack.shown), (Some("hello"), seen.id, true));
}

#[tokio::test]
async fn rooms_do_not_hear_each_other_and_join_changes_the_room() {
    let danmu = Danmu::start(&[]).await;
    let (mut ann, mut bob) = (danmu.join("talk").await, danmu.join("quiet").await);
    ann.say("first").await;
    bob.send(r#"{"op":"join","room":"talk"}"#).await;
    let Event::Joined(joined) = bob.find(|e| matches!(e, Event::Joined(_))).await else { unreachable!() };
    assert_eq!(joined.room.as_deref(), Some("talk"));
    ann.say("second").await;
    bob.hears("second").await;
}

#[tokio::test]
async fn whoever_comes_late_gets_the_history() {
    let danmu = Danmu::start(&[]).await;
    let mut ann = danmu.join("talk").await;
    ann.say("early").await;
    ann.hears("early").await;
    let mut bob = danmu.connect("/rooms/talk/ws", &[]).await.unwrap();
    let Event::Joined(joined) = bob.event().await else { panic!() };
    assert_eq!(joined.history.iter().map(|c| c.text.as_str()).collect::<Vec<_>>(), ["early"]);
}

#[tokio::test]
async fn words_are_blocked_and_masked() {
    let danmu = Danmu::start(&[]).await;
    let mut ann = danmu.join("talk").await;
    ann.say("that is Forbidden").await;
    assert_eq!(ann.refusal().await.code, RefusalCode::BlockedWord);
    ann.say("darn it").await;
    ann.hears("**** it").await;
}

#[tokio::test]
async fn anonymous_viewers_only_watch_where_the_room_says_so() {
    let danmu = Danmu::start(&[]).await;
    let mut ann = danmu.join("quiet").await;
    ann.say("hi").await;
    assert_eq!(ann.refusal().await.code, RefusalCode::SignIn);
    let mut bob = danmu.connect("/rooms/members/ws", &[]).await.unwrap();
    assert_eq!(bob.close_code().await, CloseCode::NotAllowed.code());
}

#[tokio::test]
async fn slow_mode_holds_over_all_connections_of_a_user() {
    let danmu = Danmu::start(&[]).await;
    let (mut one, mut two) =
        (danmu.join_as("quiet", "ann", "speaker").await, danmu.join_as("quiet", "ann", "speaker").await);
    one.say("first").await;
    two.hears("first").await;
    two.say("second").await;
    let refused = two.refusal().await;
    assert_eq!(refused.code, RefusalCode::SlowMode);
    assert!(refused.retry_ms.is_some_and(|ms| (20_000..=30_000).contains(&ms)), "{refused:?}");
}

/// The old system set a user's "last sent" when the user RECEIVED a message: in a busy room everybody
/// was "talking too fast".
#[tokio::test]
async fn receiving_is_not_talking() {
    let danmu = Danmu::start(&[]).await;
    let mut listener = danmu.join_as("quiet", "listener", "speaker").await;
    for i in 0..8 {
        let mut other = danmu.join_as("quiet", &format!("user{i}"), "speaker").await;
        other.say(&format!("message {i}")).await;
        listener.hears(&format!("message {i}")).await;
    }
    listener.say("my first").await;
    listener.hears("my first").await;
}

#[tokio::test]
async fn a_gift_is_numbered_and_recovered_after_a_cut() {
    let danmu = Danmu::start(&[]).await;
    let mut ann = danmu.join("talk").await;
    let (status, body) =
        danmu.admin("POST", "/rooms/talk/publish", r#"{"kind":"gift","gift":"rocket","count":2}"#).await;
    assert_eq!(status, 200, "{body}");
    let Event::Gift(gift) = ann.find(|e| matches!(e, Event::Gift(_))).await else { unreachable!() };
    assert_eq!((gift.offset, gift.count), (1, 2));
    let mut joined = danmu.connect("/rooms/talk/ws", &[]).await.unwrap();
    let Event::Joined(first) = joined.event().await else { panic!() };
    drop((ann, joined));
    danmu.admin("POST", "/rooms/talk/publish", r#"{"kind":"notice","text":"while you were away"}"#).await;
    let mut back = danmu.connect(&format!("/rooms/talk/ws?since={}.1", first.epoch), &[]).await.unwrap();
    let Event::Joined(again) = back.event().await else { panic!() };
    assert!(again.recovered);
    let Event::Notice(notice) = back.event().await else { panic!() };
    assert_eq!(notice.offset, 2);
}

#[tokio::test]
async fn a_mute_a_ban_and_a_disconnect_take_effect_at_once() {
    let danmu = Danmu::start(&[]).await;
    let mut ann = danmu.join_as("talk", "ann", "speaker").await;
    assert_eq!(danmu.admin("POST", "/rooms/talk/mutes", r#"{"user":"ann","seconds":60}"#).await.0, 204);
    ann.say("hm").await;
    assert_eq!(ann.refusal().await.code, RefusalCode::Muted);
    assert_eq!(danmu.admin("DELETE", "/rooms/talk/mutes", r#"{"user":"ann"}"#).await.0, 204);
    ann.say("back").await;
    ann.hears("back").await;
    assert_eq!(danmu.admin("POST", "/rooms/talk/disconnect", r#"{"user":"ann"}"#).await.0, 204);
    assert_eq!(ann.close_code().await, CloseCode::Disconnected.code());
    let mut ann = danmu.join_as("talk", "ann", "speaker").await;
    assert_eq!(danmu.admin("POST", "/rooms/talk/bans", r#"{"user":"ann"}"#).await.0, 204);
    assert_eq!(ann.close_code().await, CloseCode::Banned.code());
    let protocols = ["danmu.v1.json".to_owned(), format!("token.{}", token("ann", "speaker", 60))];
    let mut again = danmu.connect("/rooms/talk/ws", &protocols).await.unwrap();
    assert_eq!(again.close_code().await, CloseCode::Banned.code());
}

#[tokio::test]
async fn a_network_ban_closes_its_viewers_and_only_them() {
    let danmu = Danmu::start(&[]).await;
    let mut ann = danmu.join("talk").await;
    assert_eq!(danmu.admin("POST", "/rooms/talk/bans", r#"{"network":"203.0.113.0/24"}"#).await.0, 204);
    ann.say("still here").await;
    ann.hears("still here").await;
    assert_eq!(
        danmu.admin("POST", "/rooms/talk/bans", r#"{"network":"127.0.0.0/8","seconds":60}"#).await.0,
        204
    );
    assert_eq!(ann.close_code().await, CloseCode::Banned.code());
}

#[tokio::test]
async fn tokens_are_judged_after_the_upgrade_and_never_echoed() {
    let danmu = Danmu::start(&[]).await;
    let good = danmu.join_as("talk", "ann", "speaker").await;
    assert_eq!(good.protocol.as_deref(), Some("danmu.v1.json"));
    let offer = |token: String| ["danmu.v1.json".to_owned(), format!("token.{token}")];
    let mut bad = danmu.connect("/rooms/talk/ws", &offer("nonsense".into())).await.unwrap();
    assert_eq!(bad.close_code().await, CloseCode::TokenInvalid.code());
    let mut old = danmu.connect("/rooms/talk/ws", &offer(token("ann", "speaker", 0))).await.unwrap();
    assert_eq!(old.close_code().await, CloseCode::TokenExpired.code());
    assert!(danmu.connect("/rooms/talk/ws", &["token.x".to_owned()]).await.is_err());
}

#[tokio::test]
async fn a_token_ends_while_connected_unless_it_is_renewed() {
    let danmu = Danmu::start(&[]).await;
    let offer = ["danmu.v1.json".to_owned(), format!("token.{}", token("ann", "speaker", 2))];
    let mut ends = danmu.connect("/rooms/talk/ws", &offer).await.unwrap();
    let mut stays = danmu.connect("/rooms/talk/ws", &offer).await.unwrap();
    let fresh = serde_json::json!({"op": "token", "token": token("ann", "speaker", 60)});
    stays.send(fresh.to_string()).await;
    assert_eq!(ends.close_code().await, CloseCode::TokenExpired.code());
    stays.say("still here").await;
    stays.hears("still here").await;
}

#[tokio::test]
async fn a_token_of_another_room_gives_no_rights_in_this_one() {
    let danmu = Danmu::start(&[]).await;
    let mut ann = danmu.join("quiet").await;
    let claims = |room: &str| Claims {
        sub: "ann".to_owned(),
        name: None,
        role: Role::Moderator,
        rooms: Some(vec![room.to_owned()]),
        exp: unix_now() + 60,
    };
    let renew = |room: &str| {
        let token = mint(support::SECRET.as_bytes(), &claims(room)).unwrap();
        serde_json::json!({"op": "token", "token": token}).to_string()
    };
    ann.send(renew("talk")).await;
    assert_eq!(ann.refusal().await.code, RefusalCode::TokenInvalid);
    ann.say("let me").await;
    assert_eq!(ann.refusal().await.code, RefusalCode::SignIn, "the old rights stay in force");
    ann.send(renew("quiet")).await;
    ann.say("thank you").await;
    assert_eq!(ann.hears("thank you").await.role, Role::Moderator);
}

#[tokio::test]
async fn a_room_out_of_grammar_or_unknown_gets_its_code() {
    let danmu = Danmu::start(&[]).await;
    for (room, code) in [("nowhere", CloseCode::NoSuchRoom), ("UPPER", CloseCode::BadRequest)] {
        let mut viewer = danmu.connect(&format!("/rooms/{room}/ws"), &[]).await.unwrap();
        assert_eq!(viewer.close_code().await, code.code(), "{room}");
    }
}

#[tokio::test]
async fn a_drain_asks_viewers_to_move_closes_who_stays_and_can_be_taken_back() {
    let danmu = Danmu::start(&[]).await;
    let mut ann = danmu.join("talk").await;
    assert_eq!(danmu.admin("POST", "/drain", r#"{"seconds":30}"#).await.0, 202);
    assert_eq!(danmu.admin("GET", "/readyz", "").await.0, 503);
    assert_eq!(danmu.admin("DELETE", "/drain", "").await.0, 204);
    assert_eq!(danmu.admin("GET", "/readyz", "").await.0, 200);
    ann.say("not moved").await;
    ann.hears("not moved").await;
    assert_eq!(danmu.admin("POST", "/drain", r#"{"seconds":2}"#).await.0, 202);
    let Event::Move(asked) = ann.find(|e| matches!(e, Event::Move(_))).await else { unreachable!() };
    assert!(asked.within_ms <= 2000);
    assert_eq!(ann.close_code().await, CloseCode::Drain.code());
    assert!(danmu.connect("/rooms/talk/ws", &[]).await.is_err(), "a drained server takes nobody");
    assert_eq!(danmu.admin("GET", "/livez", "").await.0, 200);
}

#[tokio::test]
async fn deflate_viewers_see_the_same_room() {
    let danmu = Danmu::start(&[]).await;
    let mut ann = danmu.join("talk").await;
    let mut bob = danmu.connect("/rooms/talk/ws", &["danmu.v1.deflate".to_owned()]).await.unwrap();
    assert_eq!(bob.protocol.as_deref(), Some("danmu.v1.deflate"));
    bob.event().await;
    ann.say("short frames stay plain").await;
    bob.hears("short frames stay plain").await;
}

#[tokio::test]
async fn a_passing_number_of_viewers_told_to_a_joiner_is_corrected() {
    let danmu = Danmu::start(&[]).await;
    let (mut ann, bob) = (danmu.join("talk").await, danmu.join("talk").await);
    ann.find(|e| matches!(e, Event::Stats(stats) if stats.viewers == 2)).await;
    let mut cat = danmu.connect("/rooms/talk/ws", &[]).await.unwrap();
    let Event::Joined(joined) = cat.event().await else { panic!() };
    assert_eq!(joined.viewers, 3);
    // The others know 2 already: they need no stats, but the joiner does.
    drop(bob);
    cat.find(|e| matches!(e, Event::Stats(stats) if stats.viewers == 2)).await;
}
