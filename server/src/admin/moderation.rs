//! Mutes, bans and disconnects.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use danmu_wire::CloseCode;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Admin, RoomPath,
    answer::{BadBody, Denied, Full, NoRoom, NoRoomOrNone, Refusal},
    body::{Body, Open},
    fields::{Network, Seconds, User},
};
use crate::{edge::session::Order, gate};

type Done = Result<StatusCode, Refusal>;

fn done(result: Result<(), gate::Full>) -> Done {
    match result {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(full) => Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, full.to_string())),
    }
}

pub(super) fn undone(was: bool) -> Done {
    if was { Ok(StatusCode::NO_CONTENT) } else { Err(Refusal::new(StatusCode::NOT_FOUND, "there was none")) }
}

/// What moderators have set in a room, beside what its manifest says.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Moderation {
    /// Users who may watch but not write.
    muted_users: Vec<ListedUser>,
    /// Users who may not come in.
    banned_users: Vec<ListedUser>,
    /// Networks from which nobody may come in.
    banned_networks: Vec<ListedNetwork>,
}

/// A muted or banned user.
#[derive(Serialize, ToSchema)]
pub(super) struct ListedUser {
    /// The user's id.
    entry: String,
    /// Seconds left; null is until taken back.
    seconds: Option<u64>,
}

/// A banned network.
#[derive(Serialize, ToSchema)]
pub(super) struct ListedNetwork {
    /// As CIDR.
    #[schema(value_type = String)]
    entry: IpNet,
    /// Seconds left; null is until taken back.
    seconds: Option<u64>,
}

impl From<gate::Moderation> for Moderation {
    fn from(list: gate::Moderation) -> Self {
        let user = |listed: gate::Listed<String>| ListedUser {
            entry: listed.entry,
            seconds: listed.remaining.map(|left| left.as_secs()),
        };
        let network = |listed: gate::Listed<IpNet>| ListedNetwork {
            entry: listed.entry,
            seconds: listed.remaining.map(|left| left.as_secs()),
        };
        Moderation {
            muted_users: list.muted_users.into_iter().map(user).collect(),
            banned_users: list.banned_users.into_iter().map(user).collect(),
            banned_networks: list.banned_networks.into_iter().map(network).collect(),
        }
    }
}

/// Whom to mute.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Mute {
    user: User,
    seconds: Option<Seconds>,
}

/// A user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Whom {
    user: User,
}

/// Lets a user watch but not write.
#[utoipa::path(post, path = "/rooms/{room}/mutes", tag = "moderation", params(RoomPath), request_body = Mute,
    security(("admin" = [])),
    responses((status = 204, description = "Muted"), Denied, NoRoom, BadBody, Full))]
pub(super) async fn mute(Open(room): Open, Body(Mute { user, seconds }): Body<Mute>) -> Done {
    done(room.gate.mute(&user.0, seconds.map(Seconds::until)))
}

/// Takes a mute back. One of the manifest stays.
#[utoipa::path(delete, path = "/rooms/{room}/mutes", tag = "moderation", params(RoomPath), request_body = Whom,
    security(("admin" = [])),
    responses((status = 204, description = "Taken back"), Denied, NoRoomOrNone, BadBody))]
pub(super) async fn unmute(Open(room): Open, Body(Whom { user }): Body<Whom>) -> Done {
    undone(room.gate.unmute(&user.0))
}

/// Whom to ban: a user or a network, one of both.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Ban {
    user: Option<User>,
    network: Option<Network>,
    seconds: Option<Seconds>,
}

/// Whose ban to take back: a user's or a network's, one of both.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Unban {
    user: Option<User>,
    network: Option<Network>,
}

fn one_of_both() -> Refusal {
    Refusal::unfit("give `user` or `network`, one of both")
}

/// Keeps a user or a network out, and closes their connections to the room.
#[utoipa::path(post, path = "/rooms/{room}/bans", tag = "moderation", params(RoomPath), request_body = Ban,
    security(("admin" = [])),
    responses((status = 204, description = "Banned"), Denied, NoRoom, BadBody, Full))]
pub(super) async fn ban(
    State(admin): State<Arc<Admin>>,
    Open(room): Open,
    Body(Ban { user, network, seconds }): Body<Ban>,
) -> Done {
    let until = seconds.map(Seconds::until);
    let (result, order) = match (user, network) {
        (Some(User(user)), None) => {
            (room.gate.ban_user(&user, until), Order::CloseUser(user, CloseCode::Banned))
        }
        (None, Some(Network(network))) => {
            (room.gate.ban_network(network, until), Order::CloseNetwork(network, CloseCode::Banned))
        }
        _ => return Err(one_of_both()),
    };
    if result.is_ok() {
        admin.edge.inboxes.visit(Some(room.key), order);
    }
    done(result)
}

/// Takes a ban back. One of the manifest stays.
#[utoipa::path(delete, path = "/rooms/{room}/bans", tag = "moderation", params(RoomPath), request_body = Unban,
    security(("admin" = [])),
    responses((status = 204, description = "Taken back"), Denied, NoRoomOrNone, BadBody))]
pub(super) async fn unban(Open(room): Open, Body(Unban { user, network }): Body<Unban>) -> Done {
    match (user, network) {
        (Some(User(user)), None) => undone(room.gate.unban_user(&user)),
        (None, Some(Network(network))) => undone(room.gate.unban_network(network)),
        _ => Err(one_of_both()),
    }
}

/// Closes a user's connections to the room; the user may come back.
#[utoipa::path(post, path = "/rooms/{room}/disconnect", tag = "moderation", params(RoomPath), request_body = Whom,
    security(("admin" = [])),
    responses((status = 204, description = "Asked to close"), Denied, NoRoom, BadBody))]
pub(super) async fn disconnect(
    State(admin): State<Arc<Admin>>,
    Open(room): Open,
    Body(Whom { user }): Body<Whom>,
) -> StatusCode {
    admin.edge.inboxes.visit(Some(room.key), Order::CloseUser(user.0, CloseCode::Disconnected));
    StatusCode::NO_CONTENT
}
