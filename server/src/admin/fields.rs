//! Fields of the bodies, checked as they are read.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use danmu_wire::MAX_SECONDS;
use ipnet::IpNet;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    edge::token::{self, MAX_NAME, MAX_SUB},
    gate,
};

/// Longest text of a third party, in characters.
const MAX_TEXT: usize = 1000;
/// Longest JSON of a custom message, in bytes: every viewer gets it.
const MAX_DATA: usize = 2048;
/// Deepest JSON of a custom message: readers have limits of their own, and a frame goes around it.
const MAX_DEPTH: usize = 32;
/// Longest time a message is pinned, in seconds.
const MAX_PINNED: u32 = 86_400;

/// A user's id: the `sub` of their token.
#[derive(Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, min_length = 1, max_length = 128, example = "u1")]
pub(super) struct User(pub(super) String);

impl TryFrom<String> for User {
    type Error = String;

    fn try_from(id: String) -> Result<Self, String> {
        if !token::is_user_id(&id) {
            return Err(format!("a user has 1 to {MAX_SUB} characters, none of control or direction"));
        }
        Ok(User(id))
    }
}

/// Text to show. Third parties pass on what people typed: the same cleaning as for viewers.
#[derive(Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, min_length = 1, max_length = 1000, example = "Kick-off in five minutes")]
pub(super) struct Text(pub(super) String);

impl TryFrom<String> for Text {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        clean(&text, MAX_TEXT).map(Text)
    }
}

/// A name to show, of a user or a gift.
#[derive(Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, min_length = 1, max_length = 64, example = "Ann")]
pub(super) struct Name(pub(super) String);

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        clean(&text, MAX_NAME).map(Name)
    }
}

fn clean(text: &str, longest: usize) -> Result<String, String> {
    let text = gate::clean(text);
    match text.chars().count() {
        0 => Err("there is nothing to show without invisible characters".to_owned()),
        count if count > longest => Err(format!("{count} characters; at most {longest}")),
        _ => Ok(text),
    }
}

/// A word of the platform's own.
#[derive(Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, min_length = 1, max_length = 32, pattern = "^[a-z0-9._-]{1,32}$", example = "poll")]
pub(super) struct Kind(pub(super) String);

impl TryFrom<String> for Kind {
    type Error = String;

    fn try_from(kind: String) -> Result<Self, String> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        if (1..=32).contains(&kind.len()) && kind.bytes().all(fits) {
            return Ok(Kind(kind));
        }
        Err("`custom` is 1 to 32 of a-z, 0-9, `.`, `_` and `-`".to_owned())
    }
}

/// Any JSON that is not too long.
#[derive(Deserialize, ToSchema)]
#[serde(try_from = "serde_json::Value")]
#[schema(value_type = serde_json::Value)]
pub(super) struct Data(pub(super) serde_json::Value);

impl TryFrom<serde_json::Value> for Data {
    type Error = String;

    fn try_from(data: serde_json::Value) -> Result<Self, String> {
        let length = data.to_string().len();
        if length > MAX_DATA {
            return Err(format!("`data` has {length} bytes; at most {MAX_DATA}"));
        }
        if depth(&data) > MAX_DEPTH {
            return Err(format!("`data` is nested more than {MAX_DEPTH} levels deep"));
        }
        Ok(Data(data))
    }
}

fn depth(value: &serde_json::Value) -> usize {
    let inner = match value {
        serde_json::Value::Array(values) => values.iter().map(depth).max(),
        serde_json::Value::Object(fields) => fields.values().map(depth).max(),
        _ => return 0,
    };
    1 + inner.unwrap_or(0)
}

/// How long a message is pinned, in seconds.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(try_from = "u32")]
#[schema(value_type = u32, minimum = 1, maximum = 86_400, example = 60)]
pub(super) struct Pinned(pub(super) u32);

impl TryFrom<u32> for Pinned {
    type Error = String;

    fn try_from(seconds: u32) -> Result<Self, String> {
        if !(1..=MAX_PINNED).contains(&seconds) {
            return Err(format!("`seconds` is 1 to {MAX_PINNED} (a day)"));
        }
        Ok(Pinned(seconds))
    }
}

/// How long, in seconds; absent is until taken back.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(try_from = "u64")]
#[schema(value_type = u64, minimum = 1, maximum = 315_360_000, example = 600)]
pub(super) struct Seconds(pub(super) u64);

impl TryFrom<u64> for Seconds {
    type Error = String;

    fn try_from(seconds: u64) -> Result<Self, String> {
        if !(1..=MAX_SECONDS).contains(&seconds) {
            return Err(format!("`seconds` is 1 to {MAX_SECONDS} (ten years); without it there is no end"));
        }
        Ok(Seconds(seconds))
    }
}

impl Seconds {
    /// When they are over, in milliseconds since 1970.
    pub(super) fn until(self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (now + Duration::from_secs(self.0)).as_millis() as u64
    }
}

/// A network as CIDR, or one address. Host bits do not count, and IPv4 mapped into IPv6 is IPv4.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, example = "203.0.113.0/24")]
pub(super) struct Network(pub(super) IpNet);

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let alone = || text.parse::<IpAddr>().map(IpNet::from);
        let network = text.parse::<IpNet>().or_else(|_| alone());
        network
            .map(|network| Network(gate::canonical(network)))
            .map_err(|_| format!("`{}` is no network; write for example 203.0.113.0/24", text.escape_debug()))
    }
}
