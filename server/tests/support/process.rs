//! The real binary, as a process of its own.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// `danmu-server`, without what the environment of whoever runs the tests says to it.
pub(crate) fn danmu_server() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_danmu-server"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DANMU_") {
            command.env_remove(name);
        }
    }
    command
}

/// A server that is up; killed when dropped.
pub(crate) struct Process {
    pub child: Child,
    pub public: SocketAddr,
    pub admin: SocketAddr,
}

impl Process {
    /// Starts it on free ports of loopback, and waits until it tells them.
    pub(crate) fn start(command: &mut Command) -> Process {
        let mut child = command
            .args(["--public=127.0.0.1:0", "--admin=127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut up = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut up).unwrap();
        let mut addresses = up
            .split_whitespace()
            .filter_map(|word| word.trim_end_matches(',').strip_prefix("http://"))
            .map(|address| address.parse().unwrap());
        let mut next = || addresses.next().unwrap_or_else(|| panic!("no address: {up:?}"));
        let (public, admin) = (next(), next());
        Process { child, public, admin }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ends within the time. It blocks: what is awaited meanwhile does not go on.
    pub(crate) fn end(&mut self, within: Duration) -> ExitStatus {
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "still running after {within:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
