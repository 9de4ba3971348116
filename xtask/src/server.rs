//! A `danmu-server` as a child process.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::commands::root;

/// From SIGTERM to the end, with the drain of 1 s that we ask for; more is a fault.
const CLEAN_END: Duration = Duration::from_secs(20);

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    binary: PathBuf,
    /// `http://…` of the public port.
    pub(crate) public: String,
    /// `http://…` of the admin port.
    pub(crate) admin: String,
}

impl Server {
    /// Starts the server built with the profile on the manifests in a folder and waits for its
    /// first line. Addresses default to loopback ports the system chooses.
    pub(crate) fn start(profile: &str, rooms: &Path, arguments: &[&str]) -> Result<Server, String> {
        let binary = binary(profile, "danmu-server");
        let mut command = Command::new(&binary);
        command.arg("--rooms").arg(rooms).args(["--drain-seconds", "1"]);
        for (flag, address) in [("--public", "127.0.0.1:0"), ("--admin", "127.0.0.1:0")] {
            if !arguments.contains(&flag) {
                command.args([flag, address]);
            }
        }
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child =
            command.spawn().map_err(|error| format!("{} cannot be started: {error}", binary.display()))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            // The server prints one line once both ports answer, or ends with its faults on stderr.
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        let addresses: Vec<String> = line
            .split_whitespace()
            .filter(|word| word.starts_with("http://"))
            .map(|word| word.trim_end_matches(',').to_owned())
            .collect();
        match <[String; 2]>::try_from(addresses) {
            Ok([public, admin]) => Ok(Server { child, binary, public, admin }),
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                Err("danmu-server did not start; its faults are above".into())
            }
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A token of a speaker.
    pub(crate) fn token(&self, secret: &str, user: &str, role: &str) -> Result<String, String> {
        let output = Command::new(&self.binary)
            .args(["token", "--secret", secret, "--user", user, "--role", role])
            .output()
            .map_err(|error| format!("danmu-server token: {error}"))?;
        if !output.status.success() {
            return Err(format!("danmu-server token: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Sends SIGTERM and waits for the clean end.
    pub(crate) fn stop(mut self) -> Result<(), String> {
        let id = Pid::from_child(&self.child);
        kill_process(id, Signal::TERM).map_err(|error| format!("danmu-server: SIGTERM: {error}"))?;
        let end = Instant::now() + CLEAN_END;
        loop {
            match self.child.try_wait().map_err(|error| format!("danmu-server: {error}"))? {
                Some(_) => return self.wait(),
                None if Instant::now() > end => {
                    return Err(format!("danmu-server did not end within {CLEAN_END:?} of SIGTERM"));
                }
                None => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> Result<(), String> {
        let status = self.child.wait().map_err(|error| format!("danmu-server: {error}"))?;
        if status.success() { Ok(()) } else { Err(format!("danmu-server ended with {status}")) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The manifests that show what a room can be.
pub(crate) fn examples() -> PathBuf {
    root().join("examples")
}

/// A program that cargo has built with the profile.
pub(crate) fn binary(profile: &str, name: &str) -> PathBuf {
    target().join(profile).join(name)
}

/// The folder of what cargo builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into)
}
