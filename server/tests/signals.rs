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
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use danmu_wire::{CloseCode, Event};
use rustix::process::{Pid, Signal, kill_process};
use support::{ADMIN_TOKEN, PATIENCE, ROOMS, Viewer, admin_of, connect_to};

/// A server process; killed when dropped.
struct Process {
    child: Child,
    public: SocketAddr,
    admin: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Process {
    fn start(drain_seconds: u64) -> Process {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rooms.yaml"), ROOMS).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_danmu-server"))
            .arg("--rooms")
            .arg(folder.path())
            .args([
                "--public=127.0.0.1:0",
                "--admin=127.0.0.1:0",
                "--workers=2",
                "--admin-token",
                ADMIN_TOKEN,
            ])
            .arg(format!("--drain-seconds={drain_seconds}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut addresses = line
            .split_whitespace()
            .filter_map(|word| word.trim_end_matches(',').strip_prefix("http://"))
            .map(|address| address.parse().unwrap());
        let (public, admin) = (addresses.next().unwrap(), addresses.next().unwrap());
        Process { child, public, admin, _folder: folder }
    }

    async fn join(&self) -> Viewer {
        let mut viewer = connect_to(self.public, "/rooms/talk/ws", &[]).await.unwrap();
        assert!(matches!(viewer.event().await, Event::Joined(_)));
        viewer
    }

    async fn admin(&self, method: &str, path: &str, body: &str) -> u16 {
        admin_of(self.admin, ADMIN_TOKEN, method, path, body).await.0
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// How the process ends within the time, and what it said on standard error.
    async fn end(&mut self, within: Duration) -> (ExitStatus, String) {
        let until = Instant::now() + within;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "still running after {within:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status, said)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_move(event: &Event) -> bool {
    matches!(event, Event::Move(_))
}

#[tokio::test]
async fn sigterm_asks_viewers_to_move_and_ends_with_0_once_they_have() {
    let mut process = Process::start(8);
    let mut viewers = [process.join().await, process.join().await, process.join().await];
    let started = Instant::now();
    process.signal(Signal::TERM);
    for viewer in &mut viewers {
        let Event::Move(asked) = viewer.find(is_move).await else { unreachable!() };
        assert!(asked.within_ms <= 8_000, "{asked:?}");
    }
    assert!(process.is_running(), "it ended under viewers that had been asked to move");
    for viewer in &mut viewers {
        viewer.socket.close(None).await.unwrap();
    }
    let (status, said) = process.end(Duration::from_secs(2)).await;
    assert!(status.success(), "{status}: {said}");
    assert!(started.elapsed() < Duration::from_secs(8), "not before its deadline: {:?}", started.elapsed());
}

#[tokio::test]
async fn who_does_not_move_is_closed_with_4001_at_the_deadline() {
    let mut process = Process::start(2);
    let mut viewer = process.join().await;
    let started = Instant::now();
    process.signal(Signal::INT);
    viewer.find(is_move).await;
    assert_eq!(viewer.close_code().await, CloseCode::Drain.code());
    assert!(started.elapsed() >= Duration::from_millis(1_900), "closed early: {:?}", started.elapsed());
    let (status, said) = process.end(Duration::from_secs(2)).await;
    assert!(status.success(), "{status}: {said}");
}

#[tokio::test]
async fn with_nobody_there_sigterm_ends_at_once() {
    let mut process = Process::start(60);
    process.signal(Signal::TERM);
    let (status, said) = process.end(Duration::from_secs(2)).await;
    assert!(status.success(), "{status}: {said}");
}

#[tokio::test]
async fn a_second_signal_ends_at_once_with_130_and_says_so() {
    let mut process = Process::start(60);
    let _stays = process.join().await;
    process.signal(Signal::TERM);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(process.is_running(), "it did not wait for its viewer");
    process.signal(Signal::TERM);
    let (status, said) = process.end(Duration::from_secs(2)).await;
    assert_eq!(status.code(), Some(130));
    assert!(said.contains("second signal"), "{said}");
}

#[tokio::test]
async fn post_drain_empties_the_process_but_never_ends_it_and_delete_lets_viewers_in() {
    let mut process = Process::start(60);
    let mut viewer = process.join().await;
    assert_eq!(process.admin("POST", "/drain", r#"{"seconds":1}"#).await, 202);
    assert_eq!(viewer.close_code().await, CloseCode::Drain.code());
    // Twice the drain's length, and asked again: still there, still empty.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(process.admin("POST", "/drain", r#"{"seconds":1}"#).await, 202);
    assert!(process.is_running(), "a drain ended the process");
    assert_eq!(process.admin("GET", "/livez", "").await, 200);
    assert_eq!(process.admin("GET", "/readyz", "").await, 503);
    assert!(connect_to(process.public, "/rooms/talk/ws", &[]).await.is_err(), "drained, yet it let one in");
    assert_eq!(process.admin("DELETE", "/drain", "").await, 204);
    assert_eq!(process.admin("GET", "/readyz", "").await, 200);
    let mut back = process.join().await;
    back.say("here again").await;
    back.hears("here again").await;
    back.socket.close(None).await.unwrap();
    // Drained once more, there is nothing left to wait for.
    assert_eq!(process.admin("POST", "/drain", r#"{"seconds":1}"#).await, 202);
    process.signal(Signal::TERM);
    assert!(process.end(PATIENCE).await.0.success());
}
