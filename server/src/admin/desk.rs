//! The moderators' desk: slow mode, held messages, the log, and why a text would be refused.

use std::{net::IpAddr, time::Instant};

use axum::{
    Json,
    http::header,
    response::{IntoResponse, Response},
};
use danmu_wire::{Action, MAX_ID, MAX_SLOW, Role};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    RoomPath,
    answer::{BadBody, Busy, Denied, Full, NoRoom, NoRoomOrNone, Refusal},
    body::{Body, Open},
    fields::User,
    moderation::{Done, act},
};
use crate::{
    gate::Speaker,
    relay::Logged,
    room::{Acted, Room},
};

/// Longest text looked at, in characters.
const MAX_TRIAL: usize = 4096;

/// How slow.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SlowMode {
    /// Seconds between two messages of one viewer; 0 is off.
    #[schema(maximum = 86_400)]
    seconds: u32,
}

/// Sets slow mode in place of the manifest's.
#[utoipa::path(post, path = "/rooms/{room}/slow-mode", tag = "moderation", params(RoomPath), request_body = SlowMode,
    security(("admin" = [])),
    responses((status = 204, description = "Set"), Denied, NoRoom, BadBody, Busy, Full))]
pub(super) async fn slow_mode(Open(room): Open, Body(SlowMode { seconds }): Body<SlowMode>) -> Done {
    if seconds > MAX_SLOW {
        return Err(Refusal::unfit(format!("`seconds` is 0 to {MAX_SLOW}")));
    }
    act(&room, Action::SlowMode { seconds }).await
}

/// Slow mode is the manifest's again.
#[utoipa::path(delete, path = "/rooms/{room}/slow-mode", tag = "moderation", params(RoomPath),
    security(("admin" = [])),
    responses((status = 204, description = "Taken back"), Denied, NoRoomOrNone, Busy))]
pub(super) async fn reset_slow_mode(Open(room): Open) -> Done {
    act(&room, Action::ResetSlowMode {}).await
}

/// A message that waits for a moderator.
#[derive(Serialize, ToSchema)]
pub(super) struct HeldMessage {
    /// Its id.
    id: String,
    /// When it was said, RFC 3339.
    at: String,
    /// Who said it; absent without a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// The name shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// As it would be shown.
    text: String,
    /// The sub-room it was said in; absent where the room is not divided.
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<u32>,
}

/// Messages that wait for a moderator.
#[utoipa::path(get, path = "/rooms/{room}/held", tag = "moderation", params(RoomPath), security(("admin" = [])),
    responses((status = 200, description = "Oldest first", body = Vec<HeldMessage>), Denied, NoRoom, Busy))]
pub(super) async fn held(Open(room): Open) -> Result<Json<Vec<HeldMessage>>, Refusal> {
    let Acted::Held(held) = room.act("", Action::Held {}).await? else { return Ok(Json(Vec::new())) };
    let message = |held: danmu_wire::Held| HeldMessage {
        id: held.chat.id,
        at: moment(held.at),
        user: held.chat.user,
        name: held.chat.name,
        text: held.chat.text,
        sub: held.sub,
    };
    Ok(Json(held.into_iter().map(message).collect()))
}

/// What becomes of a held message.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Decision {
    /// The message's id.
    #[schema(min_length = 1, max_length = 64)]
    id: String,
    /// Shown, or turned away.
    show: bool,
}

/// Shows a held message, or turns it away.
#[utoipa::path(post, path = "/rooms/{room}/held", tag = "moderation", params(RoomPath), request_body = Decision,
    security(("admin" = [])),
    responses((status = 204, description = "Done"), Denied, NoRoomOrNone, BadBody, Busy))]
pub(super) async fn decide(Open(room): Open, Body(Decision { id, show }): Body<Decision>) -> Done {
    if !(1..=MAX_ID).contains(&id.len()) {
        return Err(Refusal::unfit(format!("`id` has 1 to {MAX_ID} bytes")));
    }
    act(&room, if show { Action::Show { id } } else { Action::Reject { id } }).await
}

/// An entry of the log.
#[derive(Serialize, ToSchema)]
pub(super) struct LogLine {
    /// When, RFC 3339.
    at: String,
    /// A moderator's user id, or `admin`.
    by: String,
    /// `do` says what; the other fields are the action's.
    #[serde(flatten)]
    #[schema(value_type = serde_json::Value)]
    what: serde_json::Map<String, serde_json::Value>,
}

/// Who did what: the last 1,000 actions of moderators and of this API, oldest first, a JSON object a line.
#[utoipa::path(get, path = "/rooms/{room}/log", tag = "moderation", params(RoomPath), security(("admin" = [])),
    responses((status = 200, description = "JSON lines", body = LogLine, content_type = "application/x-ndjson"),
        Denied, NoRoom, Busy))]
pub(super) async fn log(Open(room): Open) -> Result<Response, Refusal> {
    let mut lines = String::new();
    for Logged { at, by, what } in room.written().await? {
        let line = LogLine { at: moment(at), by, what };
        lines.push_str(&serde_json::to_string(&line).unwrap_or_default());
        lines.push('\n');
    }
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response())
}

/// A text on trial.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Trial {
    /// As a viewer would send it.
    #[schema(max_length = 4096)]
    text: String,
    /// Whose mutes and bans count; absent: nobody's.
    user: Option<User>,
    /// As what; absent is `speaker`.
    #[schema(value_type = Option<String>, example = "speaker")]
    role: Option<Role>,
    /// From where; absent: from nowhere that is banned.
    #[schema(value_type = Option<String>, example = "203.0.113.7")]
    address: Option<IpAddr>,
}

/// What would become of the text.
#[derive(Serialize, ToSchema)]
pub(super) struct Outcome {
    /// The code it would be refused with; null: it would be taken.
    refused: Option<&'static str>,
    /// The same in words.
    why: Option<&'static str>,
    /// What would be shown.
    text: String,
    /// A moderator would have to look at it first.
    held: bool,
    /// Only its sender would see it.
    shadowed: bool,
    /// The words it has of the room's lists, as they were given there.
    words: Vec<FoundWord>,
}

/// A word that was found.
#[derive(Serialize, ToSchema)]
pub(super) struct FoundWord {
    /// `block`, `mask` or `hold`.
    list: &'static str,
    /// As it is in the list.
    word: String,
}

/// Says what would become of a text, and why. Nothing is published, and no limit used up: rate limits and
/// slow mode are left out.
#[utoipa::path(post, path = "/rooms/{room}/dry-run", tag = "moderation", params(RoomPath), request_body = Trial,
    security(("admin" = [])),
    responses((status = 200, description = "The outcome", body = Outcome), Denied, NoRoom, BadBody))]
pub(super) async fn dry_run(
    Open(room): Open,
    Body(Trial { text, user, role, address }): Body<Trial>,
) -> Result<Json<Outcome>, Refusal> {
    if text.chars().count() > MAX_TRIAL {
        return Err(Refusal::unfit(format!("`text` has at most {MAX_TRIAL} characters")));
    }
    let verdict = on_trial(&room, &text, user.as_ref(), role, address);
    let word = |(list, word)| FoundWord { list, word };
    Ok(Json(Outcome {
        refused: verdict.refused.map(|code| code.code()),
        why: verdict.refused.map(|code| code.text()),
        text: verdict.text,
        held: verdict.held,
        shadowed: verdict.shadowed,
        words: verdict.words.into_iter().map(word).collect(),
    }))
}

fn on_trial(
    room: &Room,
    text: &str,
    user: Option<&User>,
    role: Option<Role>,
    address: Option<IpAddr>,
) -> crate::gate::Verdict {
    let speaker = Speaker {
        user: user.map(|user| &*user.0),
        // Of no network: it is in no manifest that means something.
        address: address.unwrap_or(IpAddr::from([0, 0, 0, 0])),
        role: role.unwrap_or(Role::Speaker),
    };
    room.gate.explain(&room.policy(), &speaker, text, Instant::now())
}

fn moment(unix_ms: u64) -> String {
    let moment = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    moment.unwrap_or_default().to_string()
}
