//! A real Redis as a child process.

use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use redis::{AsyncConnectionConfig, Value};
use rustix::process::Signal;
use tokio::process::{Child, Command};

use super::{WorldError, free_port, signal};

/// A Redis of our own; killed when dropped.
#[derive(Debug)]
pub struct RedisServer {
    child: Child,
    /// Its port on loopback.
    pub port: u16,
    folder: PathBuf,
    arguments: Vec<String>,
}

impl RedisServer {
    /// Starts one on a free port, with its files in `folder`, and waits until it answers.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(folder: PathBuf, arguments: &[&str]) -> Result<RedisServer, WorldError> {
        std::fs::create_dir_all(&folder)?;
        let port = free_port()?;
        let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        let child = spawn(port, &folder, &arguments)?;
        let redis = RedisServer { child, port, folder, arguments };
        redis.answers().await?;
        Ok(redis)
    }

    /// Runs one command.
    ///
    /// # Errors
    /// When Redis refuses it or does not answer within 3 s.
    pub async fn command(&self, words: &[&str]) -> Result<Value, WorldError> {
        let port = self.port;
        let asked = async {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(Duration::from_secs(3)))
                .set_response_timeout(Some(Duration::from_secs(3)));
            let client = redis::Client::open(format!("redis://127.0.0.1:{port}"))?;
            let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
            let mut command = redis::cmd(words.first().copied().unwrap_or("PING"));
            command.arg(words.get(1..).unwrap_or_default());
            command.query_async(&mut connection).await
        };
        asked.await.map_err(|error| WorldError::Redis { port, error })
    }

    async fn answers(&self) -> Result<(), WorldError> {
        let started = Instant::now();
        loop {
            match self.command(&["PING"]).await {
                Ok(_) => return Ok(()),
                Err(error) if started.elapsed() > Duration::from_secs(10) => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Ends it at once, as a crash does: nothing is saved.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn kill(&mut self) -> Result<(), WorldError> {
        Ok(self.child.kill().await?)
    }

    /// Starts it again on its port, empty.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_again(&mut self) -> Result<(), WorldError> {
        self.child = spawn(self.port, &self.folder, &self.arguments)?;
        self.answers().await
    }

    /// Stops it in its tracks (its sockets stay open and silent), or lets it go on.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn freeze(&self, frozen: bool) -> Result<(), WorldError> {
        signal(&self.child, if frozen { Signal::STOP } else { Signal::CONT })
    }
}

fn spawn(port: u16, folder: &PathBuf, arguments: &[String]) -> Result<Child, WorldError> {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--repl-diskless-sync-delay", "0", "--dir"])
        .arg(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| WorldError::Start {
            program: "redis-server (Debian: redis-server)".to_owned(),
            error,
        })
}
