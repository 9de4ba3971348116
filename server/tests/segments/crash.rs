//! A process that is killed: what it acknowledged is there when it is back.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use danmu_wire::Event;

use crate::support::{connect_to, http};

const ROOM: &str = "
apiVersion: danmu.live/v1alpha1
kind: DanmuRoom
metadata: {name: film}
spec: {mode: OnDemand, moderation: {anonymous: Speak}}
";

struct Process {
    child: Child,
    public: SocketAddr,
}

impl Process {
    fn start(folder: &Path) -> Process {
        let segments = format!("--segments={}", folder.join("segments.redb").display());
        let mut child = Command::new(env!("CARGO_BIN_EXE_danmu-server"))
            .args(["--rooms", folder.to_str().unwrap(), &segments])
            .args(["--public=127.0.0.1:0", "--admin=127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (_, rest) = line.split_once("http://").expect("an address");
        let public = rest.split(',').next().unwrap().parse().unwrap();
        Process { child, public }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn what_was_acknowledged_outlives_kill_minus_nine() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rooms.yaml"), ROOM).unwrap();
    let server = Process::start(folder.path());
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
    let server = Process::start(folder.path());
    let request =
        "GET /rooms/film/danmu?from=0&to=10000 HTTP/1.1\r\nHost: danmu\r\nConnection: close\r\n\r\n";
    let (status, body) = http(server.public, request).await;
    let placed: Vec<danmu_wire::Placed> = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    assert!(placed.len() >= kept, "{kept} were acknowledged, {} are there", placed.len());
}
