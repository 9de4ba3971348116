//! Rooms: look, publish, take off the screens.

use std::{sync::Arc, time::Instant};

use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json, extract::State};
use danmu_wire::{Action, Chat, Custom, Enter, Event, Gift, Lane, MAX_ID, MAX_IDS, Notice, Removed, Super};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Admin, RoomPath,
    answer::{BadBody, Busy, Denied, NoRoom, OverQuota, Publishers, Refusal, UsedKey},
    body::{Allowed, Body, Open},
    fields::{Data, Kind, Name, Pinned, Text, User},
    moderation::{ADMIN, Moderation},
    quota::Publisher,
};
use crate::{
    relay::{Receipt, desk::unix_ms},
    room::{Room, SubViewers},
};

/// Longest idempotency key.
const MAX_KEY: usize = 128;

/// A room of the list.
#[derive(Serialize, ToSchema)]
pub(super) struct Summary {
    /// The room's id.
    id: String,
    /// Viewers here.
    viewers: u64,
}

/// Lists the rooms: those with a manifest and those that are open.
#[utoipa::path(get, path = "/rooms", tag = "rooms", security(("admin" = [])),
    responses((status = 200, description = "All rooms, by id", body = Vec<Summary>), Denied))]
pub(super) async fn rooms(State(admin): State<Arc<Admin>>) -> Json<Vec<Summary>> {
    let rooms = admin.edge.rooms.list().into_iter();
    Json(rooms.map(|room| Summary { id: room.id, viewers: room.viewers }).collect())
}

/// A room.
#[derive(Serialize, ToSchema)]
pub(super) struct Detail {
    /// The room's id.
    id: String,
    /// Viewers on all pods.
    viewers: u64,
    /// Viewers on this one.
    here: u64,
    /// Its sub-rooms that are open here; absent where the room is not divided.
    #[serde(rename = "subRooms", skip_serializing_if = "Vec::is_empty")]
    sub_rooms: Vec<SubRoom>,
    /// What moderators have set; absent while the room is not open.
    #[serde(skip_serializing_if = "Option::is_none")]
    moderation: Option<Moderation>,
}

/// A sub-room.
#[derive(Serialize, ToSchema)]
pub(super) struct SubRoom {
    /// Its number.
    sub: u32,
    /// Viewers on all pods.
    viewers: u64,
    /// Viewers on this one.
    here: u64,
}

/// Viewers and moderation of a room.
#[utoipa::path(get, path = "/rooms/{room}", tag = "rooms", params(RoomPath), security(("admin" = [])),
    responses((status = 200, description = "The room", body = Detail), Denied, NoRoom))]
pub(super) async fn room(State(admin): State<Arc<Admin>>, Allowed(id): Allowed) -> Json<Detail> {
    // Opened if need be: what other pods and earlier runs have set is known once the relay has told it.
    let Ok(open) = admin.edge.rooms.open_room(&id) else {
        return Json(Detail { id, viewers: 0, here: 0, sub_rooms: Vec::new(), moderation: None });
    };
    open.settle(None).await;
    let moderation = Some(open.gate.list(Instant::now()).into());
    let sub_rooms = open.sub_viewers().into_iter();
    let sub_rooms =
        sub_rooms.map(|SubViewers { sub, viewers, here }| SubRoom { sub, viewers, here }).collect();
    Json(Detail { id, viewers: open.audience(), here: open.viewers(), sub_rooms, moderation })
}

/// What a third party publishes.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Publish {
    /// Somebody said something elsewhere.
    Chat {
        text: Text,
        user: Option<User>,
        name: Option<Name>,
        /// The sub-room that sees it; absent is all of them.
        sub: Option<u32>,
    },
    /// Somebody gave something (priority).
    Gift {
        /// What, a word of the platform's own.
        gift: Name,
        /// How many; absent is one.
        #[schema(value_type = Option<u32>, minimum = 1)]
        count: Option<std::num::NonZeroU32>,
        user: Option<User>,
        name: Option<Name>,
        text: Option<Text>,
    },
    /// The stream or the platform says something (priority).
    Notice { text: Text },
    /// Somebody paid to have it said: it is pinned (priority).
    Super {
        text: Text,
        user: Option<User>,
        name: Option<Name>,
        /// What was paid, as it is to be shown.
        #[schema(value_type = Option<String>, example = "¥30")]
        price: Option<Name>,
        /// How long it is pinned; absent is 60.
        seconds: Option<Pinned>,
    },
    /// Somebody came in, elsewhere or in your own way.
    Enter {
        user: Option<User>,
        name: Option<Name>,
        /// The sub-room that is told; absent is all of them.
        sub: Option<u32>,
    },
    /// Anything of your platform's own (priority).
    Custom {
        /// Your word for it.
        custom: Kind,
        user: Option<User>,
        /// Any JSON, passed through as it is; at most 2,048 bytes.
        data: Data,
    },
}

impl Publish {
    /// The sub-room it is for.
    fn sub(&self) -> Option<u32> {
        match self {
            Publish::Chat { sub, .. } | Publish::Enter { sub, .. } => *sub,
            _ => None,
        }
    }

    fn event(self, id: String) -> Event {
        match self {
            Publish::Chat { text, user, name, sub: _ } => Event::Chat(Chat {
                id,
                user: user.map(|user| user.0),
                name: name.map(|name| name.0),
                text: text.0,
                n: 1,
                ..Chat::default()
            }),
            Publish::Gift { gift, count, user, name, text } => Event::Gift(Gift {
                id,
                offset: 0,
                user: user.map(|user| user.0),
                name: name.map(|name| name.0),
                gift: gift.0,
                count: count.map_or(1, std::num::NonZeroU32::get),
                text: text.map(|text| text.0),
                merged: 1,
                combo: None,
            }),
            Publish::Notice { text } => Event::Notice(Notice { id, offset: 0, text: text.0 }),
            Publish::Super { text, user, name, price, seconds } => Event::Super(Super {
                id,
                offset: 0,
                user: user.map(|user| user.0),
                name: name.map(|name| name.0),
                text: text.0,
                price: price.map(|price| price.0),
                seconds: seconds.map_or(60, |seconds| seconds.0),
                at: unix_ms(),
            }),
            Publish::Enter { user, name, sub: _ } => {
                Event::Enter(Enter { user: user.map(|user| user.0), name: name.map(|name| name.0) })
            }
            Publish::Custom { custom, user, data } => Event::Custom(Custom {
                id,
                offset: 0,
                kind: custom.0,
                user: user.map(|user| user.0),
                data: data.0,
            }),
        }
    }
}

/// What was published.
#[derive(Serialize, ToSchema)]
pub(super) struct Published {
    /// The message's id; empty for `enter`, which has none.
    id: String,
    /// The priority lane's epoch; absent for chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    /// Its place in the priority lane; 0 for chat.
    offset: u64,
}

/// Publishes to a room. A token of role `publisher` that is good for the room will do. Success on the
/// priority lane means: numbered and kept in memory, of this process or of Redis's primary.
#[utoipa::path(post, path = "/rooms/{room}/publish", tag = "rooms",
    params(RoomPath, ("Idempotency-Key" = Option<String>, Header,
        description = "Makes a second publish of the same message count once, for an hour")), request_body = Publish,
    security(("admin" = []), ("publisher" = [])),
    responses((status = 200, description = "Published", body = Published), Publishers, NoRoom, UsedKey, BadBody, OverQuota, Busy))]
pub(super) async fn publish(
    State(admin): State<Arc<Admin>>,
    Open(room): Open,
    Extension(publisher): Extension<Publisher>,
    headers: HeaderMap,
    Body(publish): Body<Publish>,
) -> Result<Json<Published>, Refusal> {
    let key = match headers.get("idempotency-key") {
        Some(key) => Some(idempotency_key("Idempotency-Key", key.to_str().unwrap_or_default())?),
        None => None,
    };
    admin.quotas.take(&publisher, 1)?;
    publish.to(&admin, &room, key).await.map(Json)
}

impl Publish {
    /// Publishes it to the room.
    pub(super) async fn to(
        self,
        admin: &Admin,
        room: &Room,
        key: Option<&str>,
    ) -> Result<Published, Refusal> {
        let sub = self.sub();
        if sub.is_some_and(|sub| sub >= room.sub_rooms()) {
            let most = room.sub_rooms() - 1;
            return Err(Refusal::unfit(format!("`sub` is a sub-room of this room, from 0 to {most}")));
        }
        let (received, new) = (Instant::now(), crate::room::id::next());
        let published = match self.event(new.clone()) {
            Event::Chat(chat) => {
                let id = chat.id.clone();
                room.say_in(sub, chat);
                Published { id, epoch: None, offset: 0 }
            }
            Event::Enter(enter) => {
                room.enter_in(sub, enter);
                Published { id: String::new(), epoch: None, offset: 0 }
            }
            event => {
                let combo_ms = room.policy().rules().combo_milliseconds;
                let Receipt { id, epoch, offset } =
                    admin.relay.priority(&room.id, event, key, combo_ms).await?;
                Published { id: id.unwrap_or_default(), epoch: Some(epoch), offset }
            }
        };
        // Not what was published before, under the same key.
        if published.id == new {
            let lane = if published.epoch.is_some() { Lane::Priority } else { Lane::Chat };
            room.published(&new, lane, received);
        }
        // What the relay refused was not published.
        admin.edge.metrics.accepted.inc();
        Ok(published)
    }
}

/// What makes a second publish of the same message count once.
pub(super) fn idempotency_key<'a>(field: &str, key: &'a str) -> Result<&'a str, Refusal> {
    if (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(key);
    }
    let words = format!("{field} is 1 to {MAX_KEY} visible ASCII characters");
    Err(Refusal::new(StatusCode::BAD_REQUEST, words))
}

async fn take_off(admin: &Admin, room: &Room, removed: Removed) -> Result<Json<RemovedAt>, Refusal> {
    let action = match removed.all {
        true => Action::Clear {},
        false => Action::Remove { ids: removed.ids.clone(), user: removed.user.clone() },
    };
    let Receipt { offset, .. } = admin.relay.priority(&room.id, Event::Removed(removed), None, 0).await?;
    room.note(ADMIN, action).await;
    Ok(Json(RemovedAt { offset }))
}

/// What was taken off the screens.
#[derive(Serialize, ToSchema)]
pub(super) struct RemovedAt {
    /// The removal's place in the priority lane.
    offset: u64,
}

/// Messages by id, all of a user, or both.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Remove {
    /// Ids of messages.
    #[serde(default)]
    #[schema(max_items = 100)]
    ids: Vec<String>,
    user: Option<User>,
}

/// Takes messages off the screens and out of the history.
#[utoipa::path(post, path = "/rooms/{room}/remove", tag = "moderation", params(RoomPath), request_body = Remove,
    security(("admin" = [])),
    responses((status = 200, description = "Told to all viewers", body = RemovedAt), Denied, NoRoom, BadBody, Busy))]
pub(super) async fn remove(
    State(admin): State<Arc<Admin>>,
    Open(room): Open,
    Body(Remove { ids, user }): Body<Remove>,
) -> Result<Json<RemovedAt>, Refusal> {
    if ids.is_empty() && user.is_none() {
        return Err(Refusal::unfit("give `ids` or `user`"));
    }
    if ids.len() > MAX_IDS || ids.iter().any(|id| id.is_empty() || id.len() > MAX_ID) {
        return Err(Refusal::unfit(format!("`ids` has at most {MAX_IDS} ids of 1 to {MAX_ID} bytes")));
    }
    let removed = Removed { offset: 0, ids, user: user.map(|user| user.0), all: false };
    take_off(&admin, &room, removed).await
}

/// Takes everything off the screens and out of the history.
#[utoipa::path(post, path = "/rooms/{room}/clear", tag = "moderation", params(RoomPath), security(("admin" = [])),
    responses((status = 200, description = "Told to all viewers", body = RemovedAt), Denied, NoRoom, Busy))]
pub(super) async fn clear(
    State(admin): State<Arc<Admin>>,
    Open(room): Open,
) -> Result<Json<RemovedAt>, Refusal> {
    let all = Removed { all: true, ..Removed::default() };
    take_off(&admin, &room, all).await
}
