//! The real binary under signals and drains: who is told what, and when and how the process ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

#[allow(dead_code, unreachable_pub, reason = "shared with other test binaries, which use the rest")]
mod support;

use std::{
    io::Read,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use danmu_wire::{CloseCode, Event};
use rustix::process::Signal;
use support::{
    ADMIN_TOKEN, PATIENCE, ROOMS, Viewer, admin_of, connect_to,
    process::{Process, danmu_server},
};

/// A server with the rooms of the tests.
struct Server {
    process: Process,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start(drain_seconds: u64) -> Server {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rooms.yaml"), ROOMS).unwrap();
        let mut command = danmu_server();
        command.arg("--rooms").arg(folder.path()).args(["--workers=2", "--admin-token", ADMIN_TOKEN]);
        command.arg(format!("--drain-seconds={drain_seconds}")).stderr(Stdio::piped());
        Server { process: Process::start(&mut command), _folder: folder }
    }

    async fn join(&self) -> Viewer {
        let mut viewer = connect_to(self.process.public, "/rooms/talk/ws", &[]).await.unwrap();
        assert!(matches!(viewer.event().await, Event::Joined(_)));
        viewer
    }

    async fn admin(&self, method: &str, path: &str, body: &str) -> u16 {
        admin_of(self.process.admin, ADMIN_TOKEN, method, path, body).await.0
    }

    fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    fn is_running(&mut self) -> bool {
        self.process.child.try_wait().unwrap().is_none()
    }

    /// How the process ends within the time, and what it said on standard error.
    fn end(&mut self, within: Duration) -> (ExitStatus, String) {
        let status = self.process.end(within);
        let mut said = String::new();
        self.process.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status, said)
    }
}

fn is_move(event: &Event) -> bool {
    matches!(event, Event::Move(_))
}

#[tokio::test]
async fn sigterm_asks_viewers_to_move_and_ends_with_0_once_they_have() {
    let mut server = Server::start(8);
    let mut viewers = [server.join().await, server.join().await, server.join().await];
    let started = Instant::now();
    server.signal(Signal::TERM);
    for viewer in &mut viewers {
        let Event::Move(asked) = viewer.find(is_move).await else { unreachable!() };
        assert!(asked.within_ms <= 8_000, "{asked:?}");
    }
    assert!(server.is_running(), "it ended under viewers that had been asked to move");
    for viewer in &mut viewers {
        viewer.socket.close(None).await.unwrap();
    }
    let (status, said) = server.end(Duration::from_secs(2));
    assert!(status.success(), "{status}: {said}");
    assert!(started.elapsed() < Duration::from_secs(8), "not before its deadline: {:?}", started.elapsed());
}

#[tokio::test]
async fn who_does_not_move_is_closed_with_4001_at_the_deadline() {
    let mut server = Server::start(2);
    let mut viewer = server.join().await;
    let started = Instant::now();
    server.signal(Signal::INT);
    viewer.find(is_move).await;
    assert_eq!(viewer.close_code().await, CloseCode::Drain.code());
    assert!(started.elapsed() >= Duration::from_millis(1_900), "closed early: {:?}", started.elapsed());
    let (status, said) = server.end(Duration::from_secs(2));
    assert!(status.success(), "{status}: {said}");
}

#[tokio::test]
async fn with_nobody_there_sigterm_ends_at_once() {
    let mut server = Server::start(60);
    server.signal(Signal::TERM);
    let (status, said) = server.end(Duration::from_secs(2));
    assert!(status.success(), "{status}: {said}");
}

#[tokio::test]
async fn a_second_signal_ends_at_once_with_130_and_says_so() {
    let mut server = Server::start(60);
    let _stays = server.join().await;
    server.signal(Signal::TERM);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(server.is_running(), "it did not wait for its viewer");
    server.signal(Signal::TERM);
    let (status, said) = server.end(Duration::from_secs(2));
    assert_eq!(status.code(), Some(130));
    assert!(said.contains("second signal"), "{said}");
}

#[tokio::test]
async fn post_drain_empties_the_process_but_never_ends_it_and_delete_lets_viewers_in() {
    let mut server = Server::start(60);
    let mut viewer = server.join().await;
    assert_eq!(server.admin("POST", "/drain", r#"{"seconds":1}"#).await, 202);
    assert_eq!(viewer.close_code().await, CloseCode::Drain.code());
    // Twice the drain's length, and asked again: still there, still empty.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.admin("POST", "/drain", r#"{"seconds":1}"#).await, 202);
    assert!(server.is_running(), "a drain ended the process");
    assert_eq!(server.admin("GET", "/livez", "").await, 200);
    assert_eq!(server.admin("GET", "/readyz", "").await, 503);
    assert!(
        connect_to(server.process.public, "/rooms/talk/ws", &[]).await.is_err(),
        "drained, yet it let one in"
    );
    assert_eq!(server.admin("DELETE", "/drain", "").await, 204);
    assert_eq!(server.admin("GET", "/readyz", "").await, 200);
    let mut back = server.join().await;
    back.say("here again").await;
    back.hears("here again").await;
    back.socket.close(None).await.unwrap();
    // Drained once more, there is nothing left to wait for.
    assert_eq!(server.admin("POST", "/drain", r#"{"seconds":1}"#).await, 202);
    server.signal(Signal::TERM);
    assert!(server.end(PATIENCE).0.success());
}
