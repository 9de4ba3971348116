//! A real Redis as a child process.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A Redis of our own on a port that was free; killed when dropped.
pub(crate) struct RedisServer {
    child: Child,
    pub port: u16,
    folder: tempfile::TempDir,
}

impl RedisServer {
    pub(crate) fn start() -> RedisServer {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let child = spawn(port, &folder);
        let redis = RedisServer { child, port, folder };
        redis.wait();
        redis
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Runs one command and answers what `redis-cli` would print, for strings and numbers.
    pub(crate) fn command(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let mut connection =
            redis::Client::open(self.url())?.get_connection_with_timeout(Duration::from_secs(2))?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut connection)
    }

    fn wait(&self) {
        let started = Instant::now();
        while self.command(&["PING"]).is_err() {
            assert!(started.elapsed() < Duration::from_secs(10), "Redis does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it at once, as a crash does: nothing is saved.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn start_again(&mut self) {
        self.child = spawn(self.port, &self.folder);
        self.wait();
    }

    /// Stops it in its tracks (its sockets stay open and silent), or lets it go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

fn spawn(port: u16, folder: &tempfile::TempDir) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
        .arg(folder.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is missing: install Debian's redis-server")
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
