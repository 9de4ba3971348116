//! Publishing and moderating against a real server, and tries against one that fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it goes wrong")]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use danmu_client::{Fault, Publish, Publisher, Trial, Update, wire::Event};
use support::{ADMIN, Danmu, find, mint, quick};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

#[tokio::test]
async fn every_kind_of_message_arrives_as_it_was_published() {
    let danmu = Danmu::start().await;
    let mut viewer = danmu.watch().await;
    let ann = || Some("Ann".to_owned());
    let kinds = [
        Publish::Chat { text: "hi".into(), user: Some("u1".into()), name: ann() },
        Publish::Gift {
            gift: "rose".into(),
            count: 3,
            user: None,
            name: ann(),
            text: Some("for you".into()),
        },
        Publish::notice("in five minutes"),
        Publish::Super {
            text: "hello".into(),
            user: None,
            name: ann(),
            price: Some("¥30".into()),
            seconds: Some(9),
        },
        Publish::Enter { user: None, name: ann() },
        Publish::Custom { custom: "poll".into(), user: None, data: serde_json::json!({"a": [1]}) },
    ];
    for message in kinds {
        let published = danmu.publisher().publish("talk", &message).await.unwrap();
        let event = find(&mut viewer, |update| match update {
            Update::Event(Event::Stats(_)) => None,
            Update::Event(event) => Some(event.clone()),
            _ => None,
        });
        let event = event.await;
        assert_eq!(event.id().unwrap_or_default(), published.id, "{event:?}");
        let whole = match (&message, &event) {
            (Publish::Chat { text, .. }, Event::Chat(chat)) => chat.text == *text && chat.user.is_some(),
            (Publish::Gift { .. }, Event::Gift(gift)) => gift.count == 3 && gift.text.is_some(),
            (Publish::Notice { text }, Event::Notice(notice)) => notice.text == *text,
            (Publish::Super { .. }, Event::Super(paid)) => paid.seconds == 9 && paid.price.is_some(),
            (Publish::Enter { .. }, Event::Enter(enter)) => enter.name == ann(),
            (Publish::Custom { data, .. }, Event::Custom(custom)) => custom.data == *data,
            _ => false,
        };
        assert!(whole, "{message:?} came as {event:?}");
    }
}

#[tokio::test]
async fn a_key_counts_once_and_conflicts_with_another_message() {
    let danmu = Danmu::start().await;
    let publisher = danmu.publisher();
    let first = publisher.publish_once("talk", &Publish::gift("rose", 1), "order-1").await.unwrap();
    let again = publisher.publish_once("talk", &Publish::gift("rose", 1), "order-1").await.unwrap();
    assert_eq!(first, again);
    let other = publisher.publish_once("talk", &Publish::gift("rocket", 1), "order-1").await;
    assert!(matches!(other, Err(Fault::Conflict(_))), "{other:?}");
}

#[tokio::test]
async fn a_refusal_says_what_was_wrong() {
    let danmu = Danmu::start().await;
    let address = format!("http://{}", danmu.server.admin);
    let publisher = danmu.publisher();
    let long = publisher.publish("talk", &Publish::notice("x".repeat(1001))).await.unwrap_err();
    assert!(long.to_string().contains("1001 characters; at most 1000"), "{long}");
    let away = publisher.publish("nowhere", &Publish::notice("x")).await;
    assert!(matches!(away, Err(Fault::NotFound(_))), "{away:?}");
    let path = publisher.publish("../load", &Publish::notice("x")).await.unwrap_err();
    assert!(path.to_string().contains("cannot be a room"), "{path}");
    let stranger = Publisher::new(&address, "wrong").unwrap().publish("talk", &Publish::notice("x")).await;
    assert!(matches!(stranger, Err(Fault::Denied(_))), "{stranger:?}");
    let viewer = Publisher::new(&address, &mint("p", "publisher", 60)).unwrap();
    viewer.publish("talk", &Publish::notice("x")).await.unwrap();
    let denied = viewer.mute("talk", "u1", None).await;
    assert!(matches!(denied, Err(Fault::Denied(_))), "{denied:?}");
}

#[tokio::test]
async fn moderation_does_what_it_says() {
    let danmu = Danmu::start().await;
    let publisher = danmu.publisher();
    let mut viewer = danmu.watch().await;
    publisher.mute("talk", "u1", Some(60)).await.unwrap();
    let trial = Trial { text: "hello".into(), user: Some("u1".into()), ..Trial::default() };
    assert_eq!(publisher.dry_run("talk", &trial).await.unwrap().refused.as_deref(), Some("muted"));
    publisher.unmute("talk", "u1").await.unwrap();
    assert!(matches!(publisher.unmute("talk", "u1").await, Err(Fault::NotFound(_))));
    publisher.ban("talk", "u2", None).await.unwrap();
    publisher.unban("talk", "u2").await.unwrap();
    publisher.ban_network("talk", "203.0.113.0/24", Some(5)).await.unwrap();
    viewer.say("perhaps").unwrap();
    find(&mut viewer, |update| matches!(update, Update::Event(Event::Ack(ack)) if ack.held).then_some(()))
        .await;
    let held = publisher.held("talk").await.unwrap();
    assert_eq!(held[0].text, "perhaps");
    publisher.decide("talk", &held[0].id, true).await.unwrap();
    assert_eq!(support::chat(&mut viewer).await, "perhaps");
    publisher.remove("talk", &[held[0].id.clone()]).await.unwrap();
    publisher.remove_user("talk", "u1").await.unwrap();
    let log = publisher.log("talk").await.unwrap();
    assert!(log.len() >= 7 && log.iter().all(|line| line["by"] == "admin"), "{log:?}");
    let load = publisher.load().await.unwrap();
    assert_eq!((load.viewers, load.rooms.get("talk"), load.draining), (1, Some(&1), false));
    assert!(publisher.metrics().await.unwrap().contains("danmu_viewers 1"));
}

/// Answers each request with the next of these, and keeps what came.
async fn answers(
    answers: Vec<&'static str>,
) -> (Publisher, Arc<AtomicUsize>, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let served = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            requests.push(String::from_utf8_lossy(&request[..length]).into_owned());
            counted.fetch_add(1, Ordering::Relaxed);
            // Nothing: the connection ends without an answer.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        requests
    });
    (Publisher::new(&address, ADMIN).unwrap().retries(quick()), count, served)
}

const BUSY: &str = "HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
const SLOW_DOWN: &str = "HTTP/1.1 429 Slow Down\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
const TAKEN: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 33\r\n\r\n{\"id\":\"A\",\"epoch\":\"E\",\"offset\":1}";
const HALF: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n{\"id\":";

fn key(request: &str) -> &str {
    request.lines().find(|line| line.starts_with("idempotency-key")).unwrap()
}

#[tokio::test]
async fn busy_servers_and_lost_answers_are_tried_again_under_the_same_key() {
    let (publisher, _, served) = answers(vec![BUSY, HALF, SLOW_DOWN, TAKEN]).await;
    let published = publisher.publish("talk", &Publish::gift("rose", 1)).await.unwrap();
    assert_eq!(published.offset, 1);
    let requests = served.await.unwrap();
    assert!(requests.iter().all(|request| key(request) == key(&requests[0])), "{requests:?}");
}

#[tokio::test]
async fn tries_are_bounded_and_the_last_is_told() {
    let (publisher, count, _served) = answers(vec![BUSY; 9]).await;
    let fault = publisher.publish("talk", &Publish::gift("rose", 1)).await.unwrap_err();
    assert!(matches!(&fault, Fault::Away { tries: 4, unknown: false, .. }), "{fault:?}");
    assert_eq!(count.load(Ordering::Relaxed), 4);
    let nobody = Publisher::new("http://127.0.0.1:1", ADMIN).unwrap().retries(quick());
    let fault = nobody.publish("talk", &Publish::chat("hi")).await.unwrap_err();
    assert!(matches!(&fault, Fault::Away { tries: 4, unknown: false, .. }), "{fault:?}");
}

#[tokio::test]
async fn a_chat_whose_answer_was_lost_is_not_said_twice() {
    let (publisher, count, _served) = answers(vec![BUSY, HALF, TAKEN]).await;
    let fault = publisher.publish("talk", &Publish::chat("hi")).await.unwrap_err();
    assert!(matches!(&fault, Fault::Away { tries: 2, unknown: true, .. }), "{fault:?}");
    assert_eq!(count.load(Ordering::Relaxed), 2);
}
