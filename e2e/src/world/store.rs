//! The Redis of a run: one primary with a replica, or a cluster of three.

use std::{path::Path, time::Duration};

use redis::Value;
use tokio::sync::watch;

use super::{RedisServer, WorldError};

/// Slots of a cluster.
const SLOTS: u16 = 16384;

/// What servers keep their lanes in.
#[derive(Debug)]
pub struct Store {
    servers: Vec<RedisServer>,
    /// Which one is the primary, or has the room's slot.
    primary: usize,
    /// The port that proxies lead to.
    service: watch::Sender<u16>,
    is_cluster: bool,
}

impl Store {
    /// A primary and its replica.
    ///
    /// # Errors
    /// When they do not come up.
    pub async fn pair(folder: &Path) -> Result<Store, WorldError> {
        let first = RedisServer::start(folder.join("redis-0"), &[]).await?;
        let second = RedisServer::start(folder.join("redis-1"), &[]).await?;
        let service = watch::Sender::new(first.port);
        let store = Store { servers: vec![first, second], primary: 0, service, is_cluster: false };
        store.follow(1, 0).await?;
        Ok(store)
    }

    /// Three primaries of a cluster.
    ///
    /// # Errors
    /// When they do not come up or do not find each other.
    pub async fn cluster(folder: &Path) -> Result<Store, WorldError> {
        let mut servers = Vec::new();
        for node in 0..3 {
            let folder = folder.join(format!("redis-{node}"));
            servers.push(RedisServer::start(folder, &["--cluster-enabled", "yes"]).await?);
        }
        let third = SLOTS / 3;
        let bounds = [0, third, 2 * third, SLOTS];
        for (node, server) in servers.iter().enumerate() {
            let (first, last) = (bounds[node].to_string(), (bounds[node + 1] - 1).to_string());
            server.command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await?;
            let port = servers[0].port.to_string();
            server.command(&["CLUSTER", "MEET", "127.0.0.1", &port]).await?;
        }
        let service = watch::Sender::new(servers[0].port);
        let mut store = Store { servers, primary: 0, service, is_cluster: true };
        store.agrees().await?;
        let slot = store.slot().await?;
        store.primary = bounds.iter().skip(1).filter(|bound| slot >= **bound).count();
        Ok(store)
    }

    async fn agrees(&self) -> Result<(), WorldError> {
        for _ in 0..200 {
            let mut agreed = true;
            for server in &self.servers {
                let info = server.command(&["CLUSTER", "INFO"]).await?;
                agreed &= text(&info).contains("cluster_state:ok") && text(&info).contains("known_nodes:3");
            }
            if agreed {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(WorldError::Late("the cluster"))
    }

    /// The port that is the primary's now, and later.
    pub fn service(&self) -> watch::Receiver<u16> {
        self.service.subscribe()
    }

    /// What a server is told as its Redis, without a proxy.
    pub fn url(&self) -> String {
        let urls: Vec<String> =
            self.servers.iter().map(|server| format!("redis://127.0.0.1:{}", server.port)).collect();
        urls.join(",")
    }

    /// The primary.
    pub fn primary(&mut self) -> &mut RedisServer {
        &mut self.servers[self.primary]
    }

    /// Runs a command on every server.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn everywhere(&self, words: &[&str]) -> Result<(), WorldError> {
        let primaries = if self.is_cluster { 0..self.servers.len() } else { self.primary..self.primary + 1 };
        for server in &self.servers[primaries] {
            server.command(words).await?;
        }
        Ok(())
    }

    async fn follow(&self, replica: usize, primary: usize) -> Result<(), WorldError> {
        let port = self.servers[primary].port.to_string();
        self.servers[replica].command(&["REPLICAOF", "127.0.0.1", &port]).await?;
        for _ in 0..200 {
            let info = self.servers[replica].command(&["INFO", "replication"]).await?;
            if text(&info).contains("master_link_status:up") {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(WorldError::Late("the replica"))
    }

    /// The replica becomes the primary, and the address leads to it. `dies`: the old primary crashes first
    /// and is found dead after `after`; otherwise both are primaries for that long.
    ///
    /// # Errors
    /// When a server does not do as told.
    pub async fn fail_over(&mut self, dies: bool, after: Duration) -> Result<(), WorldError> {
        let (old, new) = (self.primary, 1 - self.primary);
        if dies {
            self.servers[old].kill().await?;
            tokio::time::sleep(after).await;
        }
        self.servers[new].command(&["REPLICAOF", "NO", "ONE"]).await?;
        self.primary = new;
        self.service.send_replace(self.servers[new].port);
        if dies {
            self.servers[old].start_again().await?;
        } else {
            tokio::time::sleep(after).await;
        }
        self.follow(old, new).await
    }

    async fn slot(&self) -> Result<u16, WorldError> {
        let slot = self.servers[0].command(&["CLUSTER", "KEYSLOT", "{local/default/soak}"]).await?;
        Ok(match slot {
            Value::Int(slot) => slot as u16,
            _ => 0,
        })
    }

    /// Moves the room's slot with its keys to the next node, as `redis-cli --cluster reshard` does.
    ///
    /// # Errors
    /// When a node does not do as told.
    pub async fn move_slot(&mut self) -> Result<(), WorldError> {
        let slot = self.slot().await?.to_string();
        let (from, to) = (self.primary, (self.primary + 1) % self.servers.len());
        let mut names = Vec::new();
        for server in &self.servers {
            names.push(text(&server.command(&["CLUSTER", "MYID"]).await?));
        }
        let (source, target) = (&self.servers[from], &self.servers[to]);
        target.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &names[from]]).await?;
        source.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &names[to]]).await?;
        let port = target.port.to_string();
        loop {
            let keys = match source.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await? {
                Value::Array(keys) if !keys.is_empty() => keys,
                _ => break,
            };
            let keys: Vec<String> = keys.iter().map(text).collect();
            let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "2000", "KEYS"];
            words.extend(keys.iter().map(String::as_str));
            source.command(&words).await?;
        }
        for server in [target, source] {
            server.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &names[to]]).await?;
        }
        let third = (0..self.servers.len()).find(|node| *node != from && *node != to).unwrap_or(to);
        self.servers[third].command(&["CLUSTER", "SETSLOT", &slot, "NODE", &names[to]]).await?;
        self.primary = to;
        Ok(())
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => text.clone(),
        _ => String::new(),
    }
}
