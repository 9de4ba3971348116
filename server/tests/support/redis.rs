//! Real Redis servers as child processes: one, or a cluster of several.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use redis::FromRedisValue;

/// A Redis of our own on a port that was free; killed when dropped.
pub(crate) struct RedisServer {
    child: Child,
    pub port: u16,
    arguments: Vec<String>,
    pub folder: tempfile::TempDir,
}

impl RedisServer {
    pub(crate) fn start() -> RedisServer {
        RedisServer::start_with(&[])
    }

    /// With more of `redis-server`'s options.
    pub(crate) fn start_with(extra: &[&str]) -> RedisServer {
        // Somebody else may take the port between our looking for it and Redis's taking it.
        for _ in 0..5 {
            let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
            let options = ["--bind", "127.0.0.1", "--save", "", "--repl-diskless-sync-delay", "0", "--dir"];
            let mut arguments: Vec<String> = options.map(str::to_owned).into();
            arguments.push(folder.path().to_str().unwrap().to_owned());
            arguments.extend(extra.iter().map(|&word| word.to_owned()));
            let mut redis = RedisServer { child: spawn(port, &arguments), port, arguments, folder };
            if redis.wait() {
                return redis;
            }
        }
        panic!("{} does not come up", program());
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Runs one command and answers what `redis-cli` would print, for strings and numbers.
    pub(crate) fn command(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let mut connection =
            redis::Client::open(self.url())?.get_connection_with_timeout(Duration::from_secs(2))?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut connection)
    }

    /// Runs a command that must succeed and answers its text.
    pub(crate) fn text(&self, words: &[&str]) -> String {
        let answer = self.command(words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        String::from_redis_value(answer).unwrap_or_default()
    }

    /// The port that nodes of a cluster talk to each other on.
    fn bus(&self) -> &str {
        let option = self.arguments.iter().position(|word| word == "--cluster-port").unwrap();
        &self.arguments[option + 1]
    }

    /// Whether it came up; not when the port was taken, also by another Redis, which would answer too.
    fn wait(&mut self) -> bool {
        let started = Instant::now();
        let own = format!("process_id:{}", self.child.id());
        let answers = |server: &RedisServer| {
            let info =
                server.command(&["INFO", "server"]).and_then(|info| Ok(String::from_redis_value(info)?));
            info.is_ok_and(|info| info.lines().any(|line| line == own))
        };
        while !answers(self) {
            if started.elapsed() > Duration::from_secs(10) || self.child.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// Ends it at once, as a crash does: nothing is saved.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn start_again(&mut self) {
        self.child = spawn(self.port, &self.arguments);
        assert!(self.wait(), "{} does not come up again", program());
    }

    /// Stops it in its tracks (its sockets stay open and silent), or lets it go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Redis, or what `DANMU_REDIS_SERVER` names: the tests run on Valkey and other versions as well.
fn program() -> String {
    std::env::var("DANMU_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn spawn(port: u16, arguments: &[String]) -> Child {
    let mut command = Command::new(program());
    command.args(["--port", &port.to_string()]).args(arguments).stdout(Stdio::null());
    command.spawn().unwrap_or_else(|error| {
        panic!(
            "{} does not start ({error}): install Debian's redis-server, or set DANMU_REDIS_SERVER",
            program()
        )
    })
}

/// A sentinel that watches one primary; its quorum is itself.
pub(crate) fn sentinel(primary: &RedisServer) -> (Sentinel, String) {
    let folder = tempfile::tempdir().unwrap();
    let (port, file) = (free_port(), folder.path().join("sentinel.conf"));
    let lines = [
        format!("sentinel monitor mymaster 127.0.0.1 {} 1", primary.port),
        "sentinel down-after-milliseconds mymaster 500".to_owned(),
        "sentinel failover-timeout mymaster 2000".to_owned(),
        format!("dir {}", folder.path().display()),
        "bind 127.0.0.1".to_owned(),
    ];
    std::fs::write(&file, lines.join("\n")).unwrap();
    let arguments = [file.to_str().unwrap(), "--sentinel", "--port", &port.to_string()].map(str::to_owned);
    let mut command = Command::new(program());
    let child = command.args(arguments).stdout(Stdio::null()).spawn().unwrap();
    (Sentinel { child, _folder: folder }, format!("redis+sentinel://127.0.0.1:{port}/mymaster"))
}

pub(crate) struct Sentinel {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Slots of a cluster.
const SLOTS: u16 = 16384;

/// A cluster of our own: primaries with equal parts of the slots, and a replica each if wanted.
pub(crate) struct RedisCluster {
    pub nodes: Vec<RedisServer>,
    primaries: usize,
}

impl RedisCluster {
    pub(crate) fn start(primaries: usize, with_replicas: bool) -> RedisCluster {
        let count = if with_replicas { 2 * primaries } else { primaries };
        let nodes: Vec<_> = (0..count)
            .map(|_| {
                let bus = free_port().to_string();
                let options =
                    ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port"];
                // Replicas stand for election however long ago they heard their primary.
                let more = [&bus, "--cluster-replica-validity-factor", "0"];
                RedisServer::start_with(&[&options[..], &more[..]].concat())
            })
            .collect();
        let cluster = RedisCluster { nodes, primaries };
        for (i, node) in cluster.nodes.iter().enumerate() {
            node.text(&["CLUSTER", "SET-CONFIG-EPOCH", &(i + 1).to_string()]);
            if i < primaries {
                let bounds = |i: usize| i * usize::from(SLOTS) / primaries;
                let (from, to) = (bounds(i).to_string(), (bounds(i + 1) - 1).to_string());
                node.text(&["CLUSTER", "ADDSLOTSRANGE", &from, &to]);
            }
            // Each is told of all before it: gossip alone takes seconds.
            for other in &cluster.nodes[..i] {
                node.text(&["CLUSTER", "MEET", "127.0.0.1", &other.port.to_string(), other.bus()]);
            }
        }
        cluster.wait("all know each other", |node| node.text(&["CLUSTER", "NODES"]).lines().count() == count);
        for i in primaries..count {
            let primary = cluster.id(i - primaries);
            cluster.nodes[i].text(&["CLUSTER", "REPLICATE", &primary]);
        }
        cluster.wait("the cluster is whole", |node| {
            let is_ok = node.text(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
            let replication = node.text(&["INFO", "replication"]);
            is_ok && (replication.contains("role:master") || replication.contains("master_link_status:up"))
        });
        cluster
    }

    fn wait(&self, what: &str, holds: impl Fn(&RedisServer) -> bool) {
        let started = Instant::now();
        while !self.nodes.iter().all(&holds) {
            assert!(started.elapsed() < Duration::from_secs(20), "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn url(&self) -> String {
        self.nodes.iter().map(RedisServer::url).collect::<Vec<_>>().join(",")
    }

    fn id(&self, node: usize) -> String {
        self.nodes[node].text(&["CLUSTER", "MYID"])
    }

    pub(crate) fn slot(&self, key: &str) -> u16 {
        u16::from_redis_value(self.nodes[0].command(&["CLUSTER", "KEYSLOT", key]).unwrap()).unwrap()
    }

    /// Which node began with the slot.
    pub(crate) fn home(&self, slot: u16) -> usize {
        (0..self.primaries).rfind(|i| i * usize::from(SLOTS) / self.primaries <= usize::from(slot)).unwrap()
    }

    /// Moves a slot with its keys while it is in use.
    pub(crate) fn move_slot(&self, slot: u16, from: usize, to: usize) {
        let (from_id, to_id, slot) = (self.id(from), self.id(to), slot.to_string());
        self.nodes[to].text(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
        self.nodes[from].text(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
        let port = self.nodes[to].port.to_string();
        loop {
            let keys = self.nodes[from].command(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]).unwrap();
            let keys = Vec::<String>::from_redis_value(keys).unwrap();
            if keys.is_empty() {
                break;
            }
            let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "2000", "KEYS"];
            words.extend(keys.iter().map(String::as_str));
            self.nodes[from].text(&words);
        }
        for node in [to, from].into_iter().chain((0..self.primaries).filter(|i| ![from, to].contains(i))) {
            self.nodes[node].text(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
        }
    }
}
