//! A Redis of the benchmark's own, which can be cut off and killed.

use std::{
    io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::machine;

/// How long it may take to start or to answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// Channels in one SUBSCRIBE.
const CHANNELS: usize = 1000;

/// A `redis-server` that keeps nothing on a disk; killed when dropped.
pub(super) struct Redis {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

/// What it has done so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls {
    /// Commands, calls of them and microseconds they took; what a script calls is among them.
    commands: Vec<(String, f64, f64)>,
}

impl Redis {
    /// Starts one on a free port of loopback.
    pub(super) fn start() -> Result<Redis, String> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .map_err(|error| format!("no port for Redis: {error}"))?
            .port();
        let folder = tempfile::tempdir().map_err(|error| format!("no folder for Redis: {error}"))?;
        let child = spawn(port, &folder)?;
        let redis = Redis { child, port, folder };
        redis.wait_until_it_answers()?;
        Ok(redis)
    }

    /// Where the servers find it.
    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// CPU seconds it has used.
    pub(super) fn cpu_seconds(&self) -> Result<f64, String> {
        machine::cpu_seconds(self.child.id())
    }

    /// A connection for commands.
    pub(super) fn connect(&self) -> Result<redis::Connection, String> {
        let open = || {
            let connection = redis::Client::open(self.url())?.get_connection_with_timeout(DEADLINE)?;
            connection.set_read_timeout(Some(DEADLINE))?;
            Ok(connection)
        };
        open().map_err(|error: redis::RedisError| format!("Redis: {error}"))
    }

    /// What it has done so far, our own looking left out.
    pub(super) fn calls(&self) -> Result<Calls, String> {
        let mut connection = self.connect()?;
        let text: String = redis::cmd("INFO")
            .arg("commandstats")
            .query(&mut connection)
            .map_err(|error| format!("Redis: INFO: {error}"))?;
        Ok(Calls::parse(&text))
    }

    /// Holds subscriptions to channels on one connection until what is answered is dropped.
    pub(super) fn hold(&self, channels: &[String]) -> Result<TcpStream, String> {
        let fault = |error: io::Error| format!("Redis: SUBSCRIBE: {error}");
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).map_err(fault)?;
        let mut reading = stream.try_clone().map_err(fault)?;
        // Ends with the connection.
        thread::spawn(move || io::copy(&mut reading, &mut io::sink()));
        for some in channels.chunks(CHANNELS) {
            let command = redis::cmd("SUBSCRIBE").arg(some).get_packed_command();
            io::Write::write_all(&mut stream, &command).map_err(fault)?;
        }
        Ok(stream)
    }

    /// Stops it as a whole: connections stay open and nothing answers.
    pub(super) fn freeze(&self) -> Result<(), String> {
        self.signal("-STOP")
    }

    /// It goes on.
    pub(super) fn thaw(&self) -> Result<(), String> {
        self.signal("-CONT")
    }

    /// Kills it, and all that it knew.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same port, after [`Redis::kill`].
    pub(super) fn start_again(&mut self) -> Result<(), String> {
        self.child = spawn(self.port, &self.folder)?;
        self.wait_until_it_answers()
    }

    fn signal(&self, signal: &str) -> Result<(), String> {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("kill {signal} of Redis: {other:?}")),
        }
    }

    fn wait_until_it_answers(&self) -> Result<(), String> {
        let start = Instant::now();
        loop {
            match self.connect() {
                Ok(_) => return Ok(()),
                Err(fault) if start.elapsed() > DEADLINE => return Err(fault),
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16, folder: &tempfile::TempDir) -> Result<Child, String> {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("redis-server cannot be started: {error}"))
}

impl Calls {
    fn parse(text: &str) -> Calls {
        let field = |rest: &str, name: &str| {
            rest.trim().split(',').find_map(|field| field.strip_prefix(name)?.parse::<f64>().ok())
        };
        let commands = text.lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(':')?;
            let ours = ["info", "client|setinfo"].contains(&name);
            (!ours).then_some((name.to_owned(), field(rest, "calls=")?, field(rest, "usec=")?))
        });
        Calls { commands: commands.collect() }
    }

    /// What was done since.
    pub(super) fn since(&self, before: &Calls) -> Calls {
        let commands = self.commands.iter().filter_map(|(name, calls, micros)| {
            let (calls_before, micros_before) = before.of(name);
            let calls = calls - calls_before;
            (calls > 0.0).then(|| (name.clone(), calls, micros - micros_before))
        });
        Calls { commands: commands.collect() }
    }

    /// Calls of one command, and the microseconds they took.
    pub(super) fn of(&self, command: &str) -> (f64, f64) {
        let found = self.commands.iter().find(|(name, ..)| name == command);
        found.map_or((0.0, 0.0), |(_, calls, micros)| (*calls, *micros))
    }

    /// Calls of all commands.
    pub(super) fn total(&self) -> f64 {
        self.commands.iter().map(|(_, calls, _)| calls).sum()
    }

    /// The commands, most called first.
    pub(super) fn list(&self) -> String {
        let mut commands = self.commands.clone();
        commands.sort_by(|(_, one, _), (_, other, _)| other.total_cmp(one));
        let each = commands.iter().map(|(name, calls, _)| format!("{name} {calls}"));
        each.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_counted_between_two_readings_and_our_own_looking_is_not() {
        let text = |publish: u32| {
            format!(
                "# Commandstats\r\ncmdstat_info:calls=9,usec=90,usec_per_call=10.00\r\n\
                 cmdstat_publish:calls={publish},usec={},usec_per_call=2.00,rejected_calls=0\r\n\
                 cmdstat_ping:calls=3,usec=3,usec_per_call=1.00\r\n",
                publish * 2
            )
        };
        let between = Calls::parse(&text(30)).since(&Calls::parse(&text(10)));
        assert_eq!((between.total(), between.of("publish")), (20.0, (20.0, 40.0)));
        assert_eq!(between.list(), "publish 20");
    }
}
