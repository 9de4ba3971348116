//! A viewer and a real server, and what a server may do to it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it goes wrong")]

mod support;

use std::{sync::Arc, time::Duration};

use danmu_client::{
    Options, Publish, Token, Trouble, Update, Viewer,
    wire::{CloseCode, Event, RefusalCode, Say},
};
use futures_util::{SinkExt, StreamExt};
use support::{Danmu, Forged, JOINED, chat, close, close_code, find, gift, joins, mint, next, tell};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

fn ended(update: &Update) -> Option<u16> {
    match update {
        Update::Ended(end) => Some(end.code),
        _ => None,
    }
}

fn waits(update: &Update) -> Option<Trouble> {
    match update {
        Update::Waiting { trouble, retry } => {
            assert!(*retry <= Duration::from_secs(30));
            Some(trouble.clone())
        }
        _ => None,
    }
}

#[tokio::test]
async fn what_one_says_the_other_hears_and_a_refusal_has_its_code() {
    let danmu = Danmu::start().await;
    let (mut ann, mut bob) = (danmu.watch().await, danmu.watch().await);
    ann.say("good luck").unwrap();
    assert_eq!(chat(&mut bob).await, "good luck");
    ann.say_as(Say { text: "forbidden".into(), reference: Some("7".into()), ..Say::default() }).unwrap();
    let refused = find(&mut ann, |update| match update {
        Update::Event(Event::Refused(refused)) => Some(refused.clone()),
        _ => None,
    });
    let refused = refused.await;
    assert_eq!((refused.code, refused.reference.as_deref()), (RefusalCode::BlockedWord, Some("7")));
}

#[tokio::test]
async fn after_a_drain_a_viewer_comes_back_with_its_position_and_misses_no_gift() {
    let (first, publisher) = {
        let danmu = Danmu::start().await;
        let publisher = danmu.publisher();
        (danmu, publisher)
    };
    let mut viewer = first.watch().await;
    publisher.publish("talk", &Publish::gift("rose", 1)).await.unwrap();
    assert_eq!(gift(&mut viewer).await, "rose");
    // `move` comes first; this server refuses new viewers, so the old connection is closed in the end.
    publisher.drain(Some(1)).await.unwrap();
    let told = find(&mut viewer, waits).await;
    assert!(matches!(told, Trouble::Closed { code: 4001, .. }), "{told:?}");
    publisher.publish("talk", &Publish::gift("rocket", 1)).await.unwrap();
    publisher.undrain().await.unwrap();
    assert!(!joins(&mut viewer).await, "the lane is whole");
    assert_eq!(gift(&mut viewer).await, "rocket");
    let position = viewer.position().unwrap();
    assert_eq!(position.offset, 2);
    // And a later viewer goes on from there.
    drop(viewer);
    publisher.publish("talk", &Publish::gift("castle", 1)).await.unwrap();
    let mut later = Viewer::connect(first.options().since(Some(position)));
    assert!(!joins(&mut later).await);
    assert_eq!(gift(&mut later).await, "castle");
}

#[tokio::test]
async fn what_cannot_be_helped_ends_it() {
    let danmu = Danmu::start().await;
    let unknown = Options::new(&format!("http://{}", danmu.server.public), "nowhere").unwrap();
    let forged = danmu.options().token(Token::Fixed("not.a.token".into()));
    let codes = [(unknown, CloseCode::NoSuchRoom), (forged, CloseCode::TokenInvalid)];
    for (options, code) in codes {
        let mut viewer = Viewer::connect(options);
        assert_eq!(find(&mut viewer, ended).await, code.code());
        assert!(viewer.next().await.is_none());
    }
}

#[tokio::test]
async fn a_ban_ends_it_and_a_disconnect_does_not() {
    let danmu = Danmu::start().await;
    let token = mint("u1", "speaker", 600);
    let mut viewer = Viewer::connect(danmu.options().token(Token::Fixed(token)));
    joins(&mut viewer).await;
    danmu.publisher().ban("talk", "u1", None).await.unwrap();
    assert_eq!(find(&mut viewer, ended).await, 4503);
}

#[tokio::test]
async fn an_expired_token_is_replaced_where_there_is_a_fresh_one() {
    let danmu = Danmu::start().await;
    let fresh = Token::Fresh(Arc::new(|| mint("u1", "speaker", 2)));
    let mut viewer = Viewer::connect(danmu.options().token(fresh));
    joins(&mut viewer).await;
    let told = find(&mut viewer, waits).await;
    assert!(matches!(told, Trouble::Closed { code: 4005, .. }), "{told:?}");
    joins(&mut viewer).await;
}

#[tokio::test]
async fn a_move_is_made_before_the_old_connection_is_left_and_nothing_comes_twice() {
    let (old, new) = (Forged::start().await, Forged::start().await);
    let mut viewer = Viewer::connect(old.options());
    let (mut first, uri) = old.seat().await;
    assert_eq!(uri, "/rooms/talk/ws?room=talk");
    joins(&mut viewer).await;
    tell(&mut first, r#"[{"ev":"gift","id":"g1","offset":1,"gift":"rose"}]"#).await;
    assert_eq!(gift(&mut viewer).await, "rose");
    let to = format!("ws://{}/rooms/talk/ws?moved=1", new.address());
    tell(&mut first, &format!(r#"[{{"ev":"move","url":"{to}","withinMs":5000}}]"#)).await;
    let (mut second, uri, _) = new.accept().await;
    assert_eq!(uri, "/rooms/talk/ws?moved=1&room=talk&since=E.1");
    // The old one still counts.
    tell(&mut first, r#"[{"ev":"gift","id":"g2","offset":2,"gift":"rocket"}]"#).await;
    assert_eq!(gift(&mut viewer).await, "rocket");
    tell(
        &mut second,
        r#"[{"ev":"joined","epoch":"E","offset":3,"recovered":true,"viewers":1,"sub":4},
            {"ev":"gift","id":"g2","offset":2,"gift":"rocket"},{"ev":"gift","id":"g3","offset":3,"gift":"castle"}]"#,
    )
    .await;
    assert!(!joins(&mut viewer).await);
    assert_eq!(gift(&mut viewer).await, "castle");
    assert_eq!(close_code(&mut first).await, 1000);
    assert_eq!(viewer.sub(), Some(4));
    // The part goes along when it comes back.
    close(&mut second, 4008, "reading too slowly").await;
    find(&mut viewer, waits).await;
    let (_, uri, _) = old.accept().await;
    assert_eq!(uri, "/rooms/talk/ws?room=talk&since=E.3&sub=4");
}

#[tokio::test]
async fn a_move_that_fails_leaves_the_viewer_where_it_is() {
    let forged = Forged::start().await;
    let mut viewer = Viewer::connect(forged.options());
    let (mut first, _) = forged.seat().await;
    joins(&mut viewer).await;
    // Nobody listens on port 1.
    tell(&mut first, r#"[{"ev":"move","url":"ws://127.0.0.1:1/rooms/talk/ws","withinMs":5000}]"#).await;
    tell(&mut first, r#"[{"ev":"chat","id":"c1","text":"still here"}]"#).await;
    assert_eq!(chat(&mut viewer).await, "still here");
    // It tries the usual address, and says that it was asked to move already.
    let (mut second, uri) = forged.seat().await;
    assert_eq!(uri, "/rooms/talk/ws?moved=1&room=talk&since=E.0");
    joins(&mut viewer).await;
    assert_eq!(close_code(&mut first).await, 1000);
    tell(&mut second, r#"[{"ev":"chat","id":"c2","text":"moved"}]"#).await;
    assert_eq!(chat(&mut viewer).await, "moved");
}

#[tokio::test]
async fn a_failed_handshake_and_a_cut_are_tried_again() {
    let forged = Forged::start().await;
    let mut viewer = Viewer::connect(forged.options().token(Token::Fixed("a.b.c".into())));
    let mut tcp = forged.tcp().await;
    let busy = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
    tcp.write_all(busy).await.unwrap();
    assert_eq!(find(&mut viewer, waits).await, Trouble::TurnedAway(503));
    let (mut socket, _, offer) = forged.accept().await;
    assert_eq!(offer, "danmu.v1.json, token.a.b.c");
    tell(&mut socket, &format!("[{JOINED}]")).await;
    joins(&mut viewer).await;
    drop(socket);
    assert!(matches!(find(&mut viewer, waits).await, Trouble::Lost(_)));
    forged.seat().await;
}

/// Everything that is wrong with a frame is either left out or costs the connection; never the process.
#[tokio::test]
async fn garbage_of_a_server_never_panics_and_costs_at_most_the_connection() {
    let forged = Forged::start().await;
    let mut viewer = Viewer::connect(forged.options());
    let (mut socket, _) = forged.seat().await;
    joins(&mut viewer).await;
    let skipped = [
        r#"[{"ev":"hologram"},{"ev":7},{},null,[],"x",{"ev":"chat","id":1}]"#,
        r#"[{"ev":"gift","id":"g","offset":-1,"gift":"x"},{"ev":"move","withinMs":"soon"}]"#,
        r#"[{"ev":"joined","epoch":7,"offset":0,"recovered":true,"viewers":1}]"#,
        "[]",
    ];
    for frame in skipped {
        tell(&mut socket, frame).await;
    }
    socket.send(Message::binary(vec![0; 1000])).await.unwrap();
    tell(&mut socket, r#"[{"ev":"chat","id":"c","text":"whole"}]"#).await;
    assert_eq!(chat(&mut viewer).await, "whole");
    for frame in ["{", "{}"] {
        tell(&mut socket, frame).await;
        assert!(matches!(find(&mut viewer, waits).await, Trouble::Lost(_)), "{frame}");
        socket = forged.seat().await.0;
        joins(&mut viewer).await;
    }
    // Longer than any flush: the announcement alone ends it, before its bytes are kept.
    let mut raw = socket.into_inner();
    raw.write_all(&[0x81, 127, 0, 0, 0, 1, 0, 0, 0, 0]).await.unwrap();
    assert!(matches!(find(&mut viewer, waits).await, Trouble::Lost(_)));
}

#[tokio::test]
async fn a_viewer_that_is_not_read_stops_reading_and_keeps_no_more_than_its_bound() {
    let forged = Forged::start().await;
    let mut viewer = Viewer::connect(forged.options());
    let (mut socket, _) = forged.seat().await;
    joins(&mut viewer).await;
    let text = "x".repeat(100_000);
    let mut sent = 0;
    // Far more than its queues hold; with what the kernel takes it stands still at some point.
    let full = async {
        while sent < 2_000 {
            tell(&mut socket, &format!(r#"[{{"ev":"chat","id":"c{sent}","text":"{text}"}}]"#)).await;
            sent += 1;
        }
    };
    let stuck = tokio::time::timeout(Duration::from_secs(2), full).await;
    assert!(stuck.is_err(), "2,000 frames of 100 kB were taken though nobody reads");
    assert_eq!(chat(&mut viewer).await.len(), text.len());
}

#[tokio::test]
async fn dropping_a_viewer_leaves_the_room() {
    let forged = Forged::start().await;
    let mut viewer = Viewer::connect(forged.options());
    let (mut socket, _) = forged.seat().await;
    joins(&mut viewer).await;
    drop(viewer);
    assert_eq!(close_code(&mut socket).await, 1000);
}

#[tokio::test]
async fn a_viewer_is_a_stream() {
    let danmu = Danmu::start().await;
    let viewer = Viewer::connect(danmu.options());
    danmu.publisher().publish("talk", &Publish::notice("hello")).await.unwrap();
    let mut joined = viewer.map(|update| matches!(update, Update::Joined { .. }));
    assert_eq!(tokio::time::timeout(support::PATIENCE, joined.next()).await.unwrap(), Some(true));
}

/// Bytes of no WebSocket at all.
#[tokio::test]
async fn a_server_that_is_none_is_told_and_tried_again() {
    let forged = Forged::start().await;
    let mut viewer = Viewer::connect(forged.options());
    let mut tcp = forged.tcp().await;
    let mut asked = [0; 16];
    tcp.read_exact(&mut asked).await.unwrap();
    tcp.write_all(&[0xff; 4096]).await.unwrap();
    drop(tcp);
    let update = next(&mut viewer).await;
    assert!(matches!(waits(&update), Some(Trouble::Unreachable(_))), "{update:?}");
    forged.seat().await;
}
