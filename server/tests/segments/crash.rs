//! A process that is killed: what it acknowledged is there when it is back.

use std::{net::SocketAddr, path::Path, process::Stdio};

use danmu_wire::{Event, Placed};
use rustix::process::Signal;

use crate::{
    ago,
    support::{
        PATIENCE, admin_of, connect_to, http,
        process::{Process, danmu_server},
    },
};

const ROOM: &str = "
apiVersion: danmu.live/v1alpha1
kind: DanmuRoom
metadata: {name: match}
spec:
  startedAt: STARTED
  recording: {}
  limits: {messagesPerSecond: 1000, perViewer: {messages: 100, seconds: 1}}
  moderation: {anonymous: Speak}
---
apiVersion: danmu.live/v1alpha1
kind: DanmuRoom
metadata: {name: film}
spec: {mode: OnDemand, moderation: {anonymous: Speak}}
";

fn start(folder: &Path) -> Process {
    let segments = format!("--segments={}", folder.join("segments.redb").display());
    let mut command = danmu_server();
    command.args(["--rooms", folder.to_str().unwrap(), &segments, "--drain-seconds=1"]).stderr(Stdio::null());
    Process::start(&mut command)
}

/// Ends it as a rollout does.
fn terminate(mut server: Process) {
    server.signal(Signal::TERM);
    assert!(server.end(PATIENCE).success());
}

#[tokio::test]
async fn what_was_acknowledged_outlives_kill_minus_nine() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rooms.yaml"), ROOM.replace("STARTED", &ago(1))).unwrap();
    let server = start(folder.path());
    let mut viewer = connect_to(server.public, "/rooms/film/ws", &[]).await.unwrap();
    let mut kept = 0;
    for number in 0..10 {
        viewer.send(format!(r#"{{"op":"say","text":"{number}","at":{number}}}"#)).await;
        // The last ones are cut off by the kill: only what was acknowledged counts.
        if number < 8 {
            let ack = viewer.find(|event| matches!(event, Event::Ack(_) | Event::Refused(_))).await;
            kept += usize::from(matches!(ack, Event::Ack(_)));
        }
    }
    assert!(kept >= 2, "the viewer's own limit is 3 in 5 seconds: {kept}");
    drop(server);
    let server = start(folder.path());
    let placed = fetched(server.public, "film").await;
    assert!(placed.len() >= kept, "{kept} were acknowledged, {} are there", placed.len());
}

#[tokio::test]
async fn what_was_shown_last_before_a_rollout_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rooms.yaml"), ROOM.replace("STARTED", &ago(1))).unwrap();
    let server = start(folder.path());
    let mut viewer = connect_to(server.public, "/rooms/match/ws", &[]).await.unwrap();
    for number in 0..20 {
        viewer.send(format!(r#"{{"op":"say","text":"{number}"}}"#)).await;
    }
    for _ in 0..20 {
        viewer.find(|event| matches!(event, Event::Ack(ack) if ack.shown)).await;
    }
    drop(viewer);
    terminate(server);
    let server = start(folder.path());
    assert_eq!(fetched(server.public, "match").await.len(), 20);
}

#[tokio::test]
async fn what_was_removed_last_before_a_rollout_is_out_of_the_recording() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rooms.yaml"), ROOM.replace("STARTED", &ago(1))).unwrap();
    let server = start(folder.path());
    let mut viewer = connect_to(server.public, "/rooms/match/ws", &[]).await.unwrap();
    for text in ["stays", "goes"] {
        viewer.send(format!(r#"{{"op":"say","text":"{text}","ref":"{text}"}}"#)).await;
    }
    let Event::Ack(ack) = viewer
        .find(|event| matches!(event, Event::Ack(ack) if ack.reference.as_deref() == Some("goes")))
        .await
    else {
        unreachable!()
    };
    let body = format!(r#"{{"ids":["{}"]}}"#, ack.id);
    let (status, answer) = admin_of(server.admin, "", "POST", "/rooms/match/remove", &body).await;
    assert!((200..300).contains(&status), "{status} {answer}");
    drop(viewer);
    terminate(server);
    let server = start(folder.path());
    let texts: Vec<String> = fetched(server.public, "match")
        .await
        .into_iter()
        .filter_map(|placed| match placed.event {
            Event::Chat(chat) => Some(chat.text),
            _ => None,
        })
        .collect();
    assert_eq!(texts, ["stays"]);
}

/// The first minute of a room.
async fn fetched(public: SocketAddr, room: &str) -> Vec<Placed> {
    let request = format!(
        "GET /rooms/{room}/danmu?from=0&to=60000 HTTP/1.1\r\nHost: danmu\r\nConnection: close\r\n\r\n"
    );
    let (status, body) = http(public, &request).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}
