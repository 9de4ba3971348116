//! The admin operations.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use danmu_wire::{Chat, CloseCode, Event, Gift, Notice, Removed};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::json;

use super::{Admin, seconds_left};
use crate::{edge::session::Order, relay::PublishError, room::Room};

type Shared = State<Arc<Admin>>;

/// A refusal in words.
fn refuse(status: StatusCode, words: impl Into<String>) -> Response {
    (status, Json(json!({"error": words.into()}))).into_response()
}

fn open(admin: &Admin, room: &str) -> Result<Arc<Room>, Response> {
    admin
        .edge
        .rooms
        .open_room(room)
        .map_err(|code| refuse(StatusCode::NOT_FOUND, format!("room `{room}`: {}", code.reason())))
}

/// Publishes to the room; answers the message's id and offset.
fn deliver(admin: &Admin, room: &str, event: Event) -> Response {
    let id = event.id().map(str::to_owned);
    match admin.relay.publish(room, event) {
        Ok(offset) => Json(json!({"id": id, "offset": offset})).into_response(),
        Err(PublishError::Busy) => {
            let mut answer = refuse(StatusCode::SERVICE_UNAVAILABLE, PublishError::Busy.to_string());
            answer.headers_mut().insert("retry-after", axum::http::HeaderValue::from_static("1"));
            answer
        }
    }
}

pub(super) async fn rooms(State(admin): Shared) -> Response {
    Json(admin.edge.rooms.list()).into_response()
}

pub(super) async fn room(State(admin): Shared, Path(room): Path<String>) -> Response {
    if !admin.edge.rooms.is_allowed(&room) {
        return refuse(StatusCode::NOT_FOUND, format!("no room `{room}`"));
    }
    let open = admin.edge.rooms.get(&room);
    let viewers = open.as_ref().map_or(0, |room| room.viewers());
    let moderation = open.map(|room| room.gate.list(Instant::now()));
    Json(json!({"id": room, "viewers": viewers, "moderation": moderation})).into_response()
}

/// What a third party publishes.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Publish {
    Chat {
        text: String,
        user: Option<String>,
        name: Option<String>,
    },
    Gift {
        gift: String,
        count: Option<u32>,
        user: Option<String>,
        name: Option<String>,
        text: Option<String>,
    },
    Notice {
        text: String,
    },
}

/// Longest text of a third party, in characters.
const PUBLISH_LENGTH: usize = 1000;

pub(super) async fn publish(
    State(admin): Shared,
    Path(room): Path<String>,
    Json(publish): Json<Publish>,
) -> Response {
    if let Err(refusal) = open(&admin, &room) {
        return refusal;
    }
    let id = ulid::Ulid::generate().to_string();
    // Third parties pass on what people typed: the same cleaning as for viewers.
    let clean = |text: String| crate::gate::clean(&text);
    let event = match publish {
        Publish::Chat { text, user, name } => {
            Event::Chat(Chat { id, user, name: name.map(clean), text: clean(text), n: 1, ..Chat::default() })
        }
        Publish::Gift { gift, count, user, name, text } => Event::Gift(Gift {
            id,
            offset: 0,
            user,
            name: name.map(clean),
            gift: clean(gift),
            count: count.unwrap_or(1),
            text: text.map(clean),
        }),
        Publish::Notice { text } => Event::Notice(Notice { id, offset: 0, text: clean(text) }),
    };
    let texts = match &event {
        Event::Chat(chat) => [Some(&chat.text), chat.user.as_ref(), chat.name.as_ref(), None],
        Event::Gift(gift) => [Some(&gift.gift), gift.user.as_ref(), gift.name.as_ref(), gift.text.as_ref()],
        Event::Notice(notice) => [Some(&notice.text), None, None, None],
        _ => [None; 4],
    };
    if texts.into_iter().flatten().any(|text| text.chars().count() > PUBLISH_LENGTH) {
        return refuse(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("a field is longer than {PUBLISH_LENGTH} characters"),
        );
    }
    deliver(&admin, &room, event)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mute {
    user: String,
    /// Absent: until taken back.
    seconds: Option<u64>,
}

/// When something that lasts so many seconds ends; a year at most.
fn until(seconds: Option<u64>) -> Option<Instant> {
    seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds.min(31_536_000)))
}

fn done(result: Result<(), impl std::fmt::Display>) -> Response {
    match result {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => refuse(StatusCode::INSUFFICIENT_STORAGE, error.to_string()),
    }
}

fn undone(was: bool) -> Response {
    if was { StatusCode::NO_CONTENT.into_response() } else { refuse(StatusCode::NOT_FOUND, "there was none") }
}

pub(super) async fn mute(State(admin): Shared, Path(room): Path<String>, Json(mute): Json<Mute>) -> Response {
    match open(&admin, &room) {
        Ok(room) => done(room.gate.mute(&mute.user, until(mute.seconds))),
        Err(refusal) => refusal,
    }
}

pub(super) async fn unmute(
    State(admin): Shared,
    Path(room): Path<String>,
    Json(mute): Json<Mute>,
) -> Response {
    match open(&admin, &room) {
        Ok(room) => undone(room.gate.unmute(&mute.user)),
        Err(refusal) => refusal,
    }
}

/// A user or a network, one of both.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ban {
    user: Option<String>,
    network: Option<IpNet>,
    seconds: Option<u64>,
}

const ONE_OF_BOTH: &str = "give `user` or `network`, one of both";

pub(super) async fn ban(State(admin): Shared, Path(room): Path<String>, Json(ban): Json<Ban>) -> Response {
    let room = match open(&admin, &room) {
        Ok(room) => room,
        Err(refusal) => return refusal,
    };
    let until = until(ban.seconds);
    let (result, order) = match (ban.user, ban.network) {
        (Some(user), None) => (room.gate.ban_user(&user, until), Order::CloseUser(user, CloseCode::Banned)),
        (None, Some(net)) => (room.gate.ban_network(net, until), Order::CloseNetwork(net, CloseCode::Banned)),
        _ => return refuse(StatusCode::UNPROCESSABLE_ENTITY, ONE_OF_BOTH),
    };
    if result.is_ok() {
        admin.edge.inboxes.visit(Some(room.key), order);
    }
    done(result)
}

pub(super) async fn unban(State(admin): Shared, Path(room): Path<String>, Json(ban): Json<Ban>) -> Response {
    let room = match open(&admin, &room) {
        Ok(room) => room,
        Err(refusal) => return refusal,
    };
    match (ban.user, ban.network) {
        (Some(user), None) => undone(room.gate.unban_user(&user)),
        (None, Some(network)) => undone(room.gate.unban_network(network)),
        _ => refuse(StatusCode::UNPROCESSABLE_ENTITY, ONE_OF_BOTH),
    }
}

/// Takes messages off the screens: by id, all of a user, or (`all`) everything.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Remove {
    #[serde(default)]
    ids: Vec<String>,
    user: Option<String>,
    #[serde(default)]
    all: bool,
}

pub(super) async fn remove(
    State(admin): Shared,
    Path(room): Path<String>,
    Json(remove): Json<Remove>,
) -> Response {
    if let Err(refusal) = open(&admin, &room) {
        return refusal;
    }
    let Remove { ids, user, all } = remove;
    if ids.is_empty() && user.is_none() && !all {
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, "give `ids`, `user` or `all`");
    }
    deliver(&admin, &room, Event::Removed(Removed { offset: 0, ids, user, all }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Disconnect {
    user: String,
}

pub(super) async fn disconnect(
    State(admin): Shared,
    Path(room): Path<String>,
    Json(disconnect): Json<Disconnect>,
) -> Response {
    match open(&admin, &room) {
        Ok(room) => {
            admin
                .edge
                .inboxes
                .visit(Some(room.key), Order::CloseUser(disconnect.user, CloseCode::Disconnected));
            StatusCode::NO_CONTENT.into_response()
        }
        Err(refusal) => refusal,
    }
}

pub(super) async fn load(State(admin): Shared) -> Response {
    let rooms: serde_json::Map<String, serde_json::Value> = admin
        .edge
        .rooms
        .list()
        .into_iter()
        .filter(|room| room.viewers > 0)
        .map(|room| (room.id, room.viewers.into()))
        .collect();
    let drain = admin.drain.deadline().map(|deadline| seconds_left(deadline, Instant::now()));
    Json(json!({
        "viewers": admin.rows.viewers.get(),
        "capacity": admin.capacity,
        "rooms": rooms,
        "draining": drain.is_some(),
        "secondsLeft": drain,
    }))
    .into_response()
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainFor {
    seconds: Option<u64>,
}

pub(super) async fn start_drain(State(admin): Shared, body: Option<Json<DrainFor>>) -> Response {
    let seconds = body.and_then(|Json(body)| body.seconds).unwrap_or(admin.drain.seconds()).clamp(1, 3600);
    let now = Instant::now();
    let deadline = admin.drain.start(Duration::from_secs(seconds), now);
    (StatusCode::ACCEPTED, Json(json!({"secondsLeft": seconds_left(deadline, now)}))).into_response()
}

pub(super) async fn stop_drain(State(admin): Shared) -> Response {
    undone(admin.drain.stop())
}
