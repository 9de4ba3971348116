//! The store of several pods: the Redis that the relay is on, with bounds of its own.
//!
//! A segment is a hash: `n` counts its chats, a number is a chat's place, `p` and an id is a gift or a notice.
//! Beside it a room has its segments by the time of the last write, and the bytes of each and of all. All keys
//! have the room's hash tag, live as long as the retention after the last write, and count in Redis's memory:
//! `maxBytes` is what is told, and some half more is used.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use danmu_wire::Removed;
use redis::{Cmd, FromRedisValue, RedisError, Script, Value};
use tokio::sync::Mutex;

use super::{KEPT, Keep, Note, Outcome, PRIORITY_BYTES, Store, StoreError, Stored, Write, segment};
use crate::relay::redis::{Address, Connection};

/// Longest time an operation on one segment takes.
const DEADLINE: Duration = Duration::from_secs(3);
/// Between two attempts to connect.
const RETRY: Duration = Duration::from_secs(1);
/// Segments forgotten by one script.
const FORGET: usize = 100;

/// The store of several pods.
pub struct Shared {
    address: Address,
    prefix: String,
    connection: Mutex<Link>,
    append: Script,
    forget: Script,
    erase: Script,
}

#[derive(Default)]
struct Link {
    connection: Option<Connection>,
    failed: Option<Instant>,
}

impl Shared {
    /// A store for the fleet `namespace/name`; connects when it is first used.
    pub fn new(address: Address, fleet: &str) -> Shared {
        // One crypto provider for the process; a second installation would be refused, and is the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Shared {
            address,
            prefix: format!("danmu:{{{fleet}/"),
            connection: Mutex::default(),
            append: Script::new(include_str!("lua/append.lua")),
            forget: Script::new(include_str!("lua/forget.lua")),
            erase: Script::new(include_str!("lua/erase.lua")),
        }
    }

    fn key(&self, room: &str, name: impl std::fmt::Display) -> String {
        format!("{}{room}}}:{name}", self.prefix)
    }

    fn segment_key(&self, room: &str, segment: u64) -> String {
        self.key(room, format_args!("seg:{segment}"))
    }

    async fn connection(&self) -> Result<Connection, StoreError> {
        let mut link = self.connection.lock().await;
        if let Some(connection) = &link.connection {
            return Ok(connection.clone());
        }
        if link.failed.is_some_and(|at| at.elapsed() < RETRY) {
            return Err(StoreError::Away("Redis could not be reached a moment ago".to_owned()));
        }
        match Connection::open(&self.address, |_| {}).await {
            Ok(connection) => {
                link.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                link.failed = Some(Instant::now());
                Err(StoreError::Away(error.to_string()))
            }
        }
    }

    /// Waits for an answer, and lets go of a connection that gives none.
    async fn answer<T>(&self, asked: impl Future<Output = Result<T, RedisError>>) -> Result<T, StoreError> {
        let error = match tokio::time::timeout(DEADLINE, asked).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if !error.is_unrecoverable_error() && !error.is_timeout() => {
                let demoted = error.to_string().contains("READONLY");
                if demoted {
                    self.connection.lock().await.connection = None;
                }
                return Err(StoreError::Failed(error.to_string()));
            }
            Ok(Err(error)) => StoreError::Away(error.to_string()),
            Err(_) => StoreError::Away(format!("no answer within {DEADLINE:?}")),
        };
        self.connection.lock().await.connection = None;
        Err(error)
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let connection = self.connection().await?;
        let answer: Value = self.answer(connection.send(command)).await?;
        T::from_redis_value(answer).map_err(|error| StoreError::Failed(error.to_string()))
    }

    async fn append_to(&self, room: &str, number: u64, writes: &[&Write]) -> Result<(), StoreError> {
        let Some(last) = writes.last() else { return Ok(()) };
        let mut call = self.append.prepare_invoke();
        call.key(self.segment_key(room, number)).key(self.key(room, "segs")).key(self.key(room, "bytes"));
        call.arg(number).arg(last.said).arg(KEPT).arg(PRIORITY_BYTES + KEPT * 256);
        call.arg(last.keep.age.as_secs().max(1));
        for write in writes {
            // Lua's numbers are exact up to 2^53.
            let random = rand::random::<u64>() >> 12;
            call.arg(write.once().unwrap_or_default()).arg(random).arg(write.bytes());
        }
        let connection = self.connection().await?;
        self.answer(connection.invoke(&call)).await.map(drop)
    }

    /// The names of the room's segments, oldest write first.
    async fn oldest(&self, room: &str, until: &str, most: usize) -> Result<Vec<u64>, StoreError> {
        let mut range = redis::cmd("ZRANGEBYSCORE");
        range.arg(self.key(room, "segs")).arg("-inf").arg(until).arg("LIMIT").arg(0).arg(most);
        let names: Vec<String> = self.ask(&range).await?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    async fn forget(&self, room: &str, segments: &[u64]) -> Result<(), StoreError> {
        let mut call = self.forget.prepare_invoke();
        call.key(self.key(room, "segs")).key(self.key(room, "bytes"));
        for segment in segments {
            call.key(self.segment_key(room, *segment)).arg(*segment);
        }
        let connection = self.connection().await?;
        self.answer(connection.invoke(&call)).await.map(drop)
    }

    async fn erase_everywhere(&self, room: &str, removed: &Removed, now: u64) -> Result<u64, StoreError> {
        let mut range = redis::cmd("ZRANGE");
        range.arg(self.key(room, "segs")).arg(0).arg(-1);
        let names: Vec<String> = self.ask(&range).await?;
        let mut erased = 0;
        for segment in names.iter().filter_map(|name| name.parse().ok()) {
            erased += self.erase_from(room, segment, removed, now).await?;
        }
        Ok(erased)
    }

    async fn erase_from(
        &self,
        room: &str,
        segment: u64,
        removed: &Removed,
        now: u64,
    ) -> Result<u64, StoreError> {
        let mut get = redis::cmd("HGETALL");
        get.arg(self.segment_key(room, segment));
        let fields: HashMap<String, Vec<u8>> = self.ask(&get).await?;
        let meant: Vec<_> = fields
            .iter()
            .filter(|(_, value)| Note::read(value).is_some_and(|note| note.is_meant(removed, now)))
            .collect();
        if meant.is_empty() {
            return Ok(0);
        }
        let mut call = self.erase.prepare_invoke();
        call.key(self.segment_key(room, segment)).key(self.key(room, "bytes")).arg(segment);
        for (field, value) in meant {
            call.arg(field).arg(value);
        }
        let connection = self.connection().await?;
        let erased = self.answer(connection.invoke(&call)).await?;
        u64::from_redis_value(erased).map_err(|error| StoreError::Failed(error.to_string()))
    }
}

impl Store for Shared {
    fn append<'a>(&'a self, writes: &'a [Write]) -> Outcome<'a, ()> {
        Box::pin(async move {
            let mut groups: HashMap<(&str, u64), Vec<&Write>> = HashMap::new();
            for write in writes {
                groups.entry((&write.room, segment(write.placed.at))).or_default().push(write);
            }
            // At once: the connection pipelines them, and a shard that is away takes only its own along.
            let each = groups.iter().map(|((room, segment), writes)| self.append_to(room, *segment, writes));
            futures_util::future::join_all(each).await.into_iter().collect()
        })
    }

    fn read<'a>(&'a self, room: &'a str, segment: u64) -> Outcome<'a, Stored> {
        Box::pin(async move {
            let mut get = redis::cmd("HGETALL");
            get.arg(self.segment_key(room, segment));
            let mut fields: HashMap<String, Vec<u8>> = self.ask(&get).await?;
            let count = fields.remove("n").unwrap_or_default();
            let chats = String::from_utf8_lossy(&count).parse().unwrap_or(0);
            Ok(Stored { chats, notes: fields.values().filter_map(|value| Note::read(value)).collect() })
        })
    }

    fn erase<'a>(&'a self, room: &'a str, removed: &'a Removed, now: u64) -> Outcome<'a, u64> {
        Box::pin(async move {
            // Every pod that hears of a removal carries it out, after its own writes: another may still have some waiting.
            self.erase_everywhere(room, removed, now).await
        })
    }

    fn trim<'a>(&'a self, room: &'a str, keep: Keep, now: u64) -> Outcome<'a, u64> {
        Box::pin(async move {
            let mut forgotten = 0;
            let oldest = format!("({}", now.saturating_sub(keep.age.as_millis() as u64));
            loop {
                let old = self.oldest(room, &oldest, FORGET).await?;
                if old.is_empty() {
                    break;
                }
                self.forget(room, &old).await?;
                forgotten += old.len() as u64;
            }
            loop {
                let mut get = redis::cmd("HGET");
                get.arg(self.key(room, "bytes")).arg("all");
                let all: Option<i64> = self.ask(&get).await?;
                if all.is_none_or(|all| all <= keep.bytes as i64) {
                    return Ok(forgotten);
                }
                // A few at a time: what is asked for is not to be under by more than it must.
                let old = self.oldest(room, "+inf", FORGET / 10).await?;
                if old.is_empty() {
                    return Ok(forgotten);
                }
                self.forget(room, &old).await?;
                forgotten += old.len() as u64;
            }
        })
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
