//! The scripts, and what they answer. Each is one step in Redis, on one primary.

use danmu_wire::{Event, Held, Settled};
use redis::{FromRedisValue, RedisError, Script};

use super::{connection::Connection, keys::Keys, packet};
use crate::relay::{
    Change, LOG, Logged, PublishError, Receipt, Target,
    desk::{self, HELD, HELD_FOR, unix_ms},
};

/// How long the log of a silent room is kept.
const LOG_SECONDS: u32 = 3600;
/// How long the epoch of a room is kept that nobody opens: longer than its log, or an offset could come
/// twice under one epoch.
const META_SECONDS: u32 = 7 * 24 * 3600;
/// How long mutes and bans of a room are kept that nobody opens.
const MODERATION_SECONDS: u32 = 90 * 24 * 3600;
/// How long a publish counts once.
const ONCE_SECONDS: u32 = 3600;
/// The same without a key, on a cluster: its connection repeats a command whose answer got lost.
const REPEAT_SECONDS: u32 = 10;
/// Mutes and bans of one room.
const MAX_CHANGES: usize = 30_000;

/// The scripts, hashed once.
pub(super) struct Scripts {
    publish: Script,
    load: Script,
    moderate: Script,
    hold: Script,
    settle: Script,
    claim: Script,
}

/// What is known of a room already.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) epoch: String,
    pub(super) offset: u64,
    pub(super) version: String,
}

/// What a load answers.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) epoch: String,
    pub(super) top: u64,
    pub(super) events: Vec<(u64, Event)>,
    pub(super) version: String,
    /// All mutes and bans, if they changed.
    pub(super) moderation: Option<Vec<Change>>,
}

fn fresh_epoch() -> String {
    ulid::Ulid::generate().to_string()
}

impl Scripts {
    pub(super) fn new() -> Scripts {
        Scripts {
            publish: Script::new(include_str!("lua/publish.lua")),
            load: Script::new(include_str!("lua/load.lua")),
            moderate: Script::new(include_str!("lua/moderate.lua")),
            hold: Script::new(include_str!("lua/hold.lua")),
            settle: Script::new(include_str!("lua/settle.lua")),
            claim: Script::new(include_str!("lua/claim.lua")),
        }
    }

    pub(super) async fn publish(
        &self,
        connection: &Connection,
        keys: &Keys,
        room: &str,
        event: &Event,
        key: Option<&str>,
        combo_ms: u32,
    ) -> Result<Result<Receipt, PublishError>, RedisError> {
        let json = |event: &Event| serde_json::to_string(event).unwrap_or_default();
        let (key, seconds) = match (key, event.id()) {
            (Some(key), _) => (key, ONCE_SECONDS),
            (None, Some(id)) if connection.is_cluster() => (id, REPEAT_SECONDS),
            _ => ("", 0),
        };
        let combo = match event {
            Event::Gift(gift) => gift.user.as_ref().map(|user| (user, &gift.gift, gift.count)),
            _ => None,
        };
        let (user, gift, count) = combo.map_or(("", "", 0), |(user, gift, count)| (user, gift, count));
        let pause = if count > 0 { combo_ms } else { 0 };
        let mut call = self.publish.prepare_invoke();
        call.key(keys.meta(room)).key(keys.log(room)).key(keys.once(room, key));
        call.key(keys.combo(room, user, gift));
        call.arg(json(event)).arg(fresh_epoch()).arg(LOG).arg(LOG_SECONDS).arg(META_SECONDS);
        call.arg(keys.channel(room)).arg(connection.publish());
        call.arg(seconds).arg(json(&crate::relay::without_id(event))).arg(event.id().unwrap_or_default());
        call.arg(pause).arg(count);
        let answer: Vec<String> = Vec::from_redis_value(connection.invoke(&call).await?)?;
        Ok(match answer.as_slice() {
            [_, epoch, offset, id] => Ok(Receipt {
                id: (!id.is_empty()).then(|| id.clone()),
                epoch: epoch.clone(),
                offset: offset.parse().unwrap_or_default(),
            }),
            _ => Err(PublishError::Conflict),
        })
    }

    pub(super) async fn load(
        &self,
        connection: &Connection,
        keys: &Keys,
        room: &str,
        known: &Known,
    ) -> Result<Answer, RedisError> {
        let mut call = self.load.prepare_invoke();
        call.key(keys.meta(room)).key(keys.log(room)).key(keys.moderation(room));
        call.arg(fresh_epoch()).arg(&known.epoch).arg(known.offset).arg(&known.version);
        call.arg(META_SECONDS).arg(MODERATION_SECONDS).arg(keys.channel(room)).arg(connection.publish());
        type Entries = Vec<(String, Vec<(String, String)>)>;
        let (epoch, top, entries, version, moderation): (String, String, Entries, String, Vec<String>) =
            FromRedisValue::from_redis_value(connection.invoke(&call).await?)?;
        let event = |(id, fields): (String, Vec<(String, String)>)| {
            let offset: u64 = id.split('-').next()?.parse().ok()?;
            Some((offset, packet::priority(&fields.first()?.1, offset)?))
        };
        let moderation = (version != known.version).then(|| changes(&moderation));
        Ok(Answer {
            epoch,
            top: top.parse().unwrap_or_default(),
            events: entries.into_iter().filter_map(event).collect(),
            version,
            moderation,
        })
    }

    pub(super) async fn moderate(
        &self,
        connection: &Connection,
        keys: &Keys,
        room: &str,
        change: &Change,
        now_ms: u64,
    ) -> Result<Result<bool, PublishError>, RedisError> {
        let packet = format!("M{}", serde_json::to_string(change).unwrap_or_default());
        if matches!(change.target, Target::Disconnect(_)) {
            let mut publish = redis::cmd(connection.publish());
            publish.arg(keys.channel(room)).arg(packet);
            return connection.send(&publish).await.map(|_| Ok(true));
        }
        let value = match (change.lifted, change.until) {
            (true, _) => String::new(),
            (false, until) => match change.seconds {
                Some(seconds) => format!("{} {seconds}", until.unwrap_or(0)),
                None => until.unwrap_or(0).to_string(),
            },
        };
        let mut call = self.moderate.prepare_invoke();
        call.key(keys.moderation(room)).arg(serde_json::to_string(&change.target).unwrap_or_default());
        call.arg(value).arg(now_ms).arg(MAX_CHANGES).arg(MODERATION_SECONDS);
        call.arg(keys.channel(room)).arg(connection.publish()).arg(packet);
        let answer = String::from_redis_value(connection.invoke(&call).await?)?;
        Ok(match answer.as_str() {
            "full" => Err(PublishError::Full(format!(
                "the room has {MAX_CHANGES} mutes and bans: lift some first, or put lasting ones into its manifest"
            ))),
            found => Ok(found == "1"),
        })
    }

    pub(super) async fn hold(
        &self,
        connection: &Connection,
        keys: &Keys,
        room: &str,
        held: &Held,
    ) -> Result<Result<(), PublishError>, RedisError> {
        let json = serde_json::to_string(held).unwrap_or_default();
        let mut call = self.hold.prepare_invoke();
        call.key(keys.held(room)).arg(&held.chat.id).arg(format!("{} {json}", held.at)).arg(oldest_held());
        call.arg(HELD).arg(HELD_FOR.as_secs()).arg(keys.channel(room)).arg(connection.publish());
        call.arg(format!("Q{json}"));
        let answer = String::from_redis_value(connection.invoke(&call).await?)?;
        Ok(if answer == "full" { Err(PublishError::queue_full()) } else { Ok(()) })
    }

    pub(super) async fn settle(
        &self,
        connection: &Connection,
        keys: &Keys,
        room: &str,
        settled: &Settled,
    ) -> Result<Result<Option<Held>, PublishError>, RedisError> {
        let json = serde_json::to_string(settled).unwrap_or_default();
        let mut call = self.settle.prepare_invoke();
        call.key(keys.held(room)).key(keys.once(room, &format!("settle:{}", settled.id)));
        call.arg(&settled.id).arg(oldest_held());
        call.arg(keys.channel(room)).arg(connection.publish()).arg(format!("S{json}"));
        call.arg(fresh_epoch()).arg(REPEAT_SECONDS);
        let answer: Vec<String> = Vec::from_redis_value(connection.invoke(&call).await?)?;
        Ok(Ok(answer.first().and_then(|held| read_held(held))))
    }

    /// Each call is named, so that one which a cluster's connection repeats gets the same answer.
    pub(super) async fn claim(
        &self,
        connection: &Connection,
        keys: &Keys,
        room: &str,
        what: &str,
        lasts: std::time::Duration,
    ) -> Result<Result<bool, PublishError>, RedisError> {
        let mut call = self.claim.prepare_invoke();
        call.key(keys.claim(room, what)).arg(fresh_epoch()).arg(lasts.as_millis() as u64);
        Ok(Ok(bool::from_redis_value(connection.invoke(&call).await?)?))
    }

    pub(super) async fn held(
        &self,
        connection: &Connection,
        keys: &Keys,
        room: &str,
    ) -> Result<Result<Vec<Held>, PublishError>, RedisError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(keys.held(room));
        let all: std::collections::HashMap<String, String> =
            FromRedisValue::from_redis_value(connection.send(&command).await?)?;
        let now = unix_ms();
        let waits = |held: &Held| !desk::is_over(held.at, now);
        let mut held: Vec<Held> = all.values().filter_map(|value| read_held(value)).filter(waits).collect();
        held.sort_by(|a, b| (a.at, &a.chat.id).cmp(&(b.at, &b.chat.id)));
        Ok(Ok(held))
    }

    pub(super) async fn write_down(
        &self,
        connection: &Connection,
        keys: &Keys,
        room: &str,
        logged: &Logged,
    ) -> Result<Result<(), PublishError>, RedisError> {
        let json = serde_json::to_string(logged).unwrap_or_default();
        let mut add = redis::cmd("XADD");
        add.arg(keys.audit(room)).arg("MAXLEN").arg(desk::LOG).arg("*").arg("v").arg(json);
        connection.send(&add).await?;
        let mut keep = redis::cmd("EXPIRE");
        keep.arg(keys.audit(room)).arg(MODERATION_SECONDS);
        connection.send(&keep).await?;
        Ok(Ok(()))
    }

    pub(super) async fn written(
        &self,
        connection: &Connection,
        keys: &Keys,
        room: &str,
    ) -> Result<Result<Vec<Logged>, PublishError>, RedisError> {
        let mut range = redis::cmd("XRANGE");
        range.arg(keys.audit(room)).arg("-").arg("+");
        type Entries = Vec<(String, Vec<(String, String)>)>;
        let entries: Entries = FromRedisValue::from_redis_value(connection.send(&range).await?)?;
        let read =
            |(_, fields): (String, Vec<(String, String)>)| serde_json::from_str(&fields.first()?.1).ok();
        Ok(Ok(entries.into_iter().filter_map(read).collect()))
    }
}

/// What was held then, or before, waits no more.
fn oldest_held() -> u64 {
    unix_ms().saturating_sub(HELD_FOR.as_millis() as u64)
}

/// A held message of the hash: the time, a space, JSON.
fn read_held(value: &str) -> Option<Held> {
    serde_json::from_str(value.split_once(' ')?.1).ok()
}

/// Mutes and bans of the hash's fields and values; what is none is skipped.
fn changes(fields: &[String]) -> Vec<Change> {
    fields
        .chunks_exact(2)
        .filter_map(|pair| {
            let target = serde_json::from_str(pair.first()?).ok()?;
            let (until, seconds) = match pair.get(1)?.split_once(' ') {
                Some((until, seconds)) => (until, Some(seconds.parse().ok()?)),
                None => (pair.get(1)?.as_str(), None),
            };
            let until: u64 = until.parse().ok()?;
            Some(Change { target, until: (until > 0).then_some(until), lifted: false, seconds })
        })
        .collect()
}

impl std::fmt::Debug for Scripts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripts")
    }
}
