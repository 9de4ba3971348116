//! Mutes, bans and disconnects.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use danmu_wire::Action;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{
    Admin, RoomPath,
    answer::{BadBody, Busy, Denied, Full, NoRoom, NoRoomOrNone, Refusal},
    body::{Body, Open},
    fields::{Network, Seconds, User},
};
use crate::{
    gate,
    relay::{Change, Target},
    room::Room,
};

pub(super) type Done = Result<StatusCode, Refusal>;

/// Who does it, in the log: the admin token has no name.
pub(super) const ADMIN: &str = "admin";

/// Does it on every pod; a lift that finds nothing is told.
async fn change(admin: &Admin, room: &Room, target: Target, lasts: Option<Seconds>, lifted: bool) -> Done {
    let (does, whom) = match &target {
        Target::Ban(user) => (["ban", "unban"], json!({"user": user})),
        Target::BanNetwork(network) => (["ban", "unban"], json!({"network": network})),
        Target::Disconnect(user) => (["disconnect"; 2], json!({"user": user})),
        Target::Mute(_) | Target::Shadow(_) | Target::SlowMode => {
            (["change", "lift"], json!({"target": target}))
        }
    };
    let change = Change { target, until: lasts.map(Seconds::until), lifted, seconds: None };
    let found = admin.relay.moderate(&room.id, change).await?;
    if lifted && !found {
        return undone(false);
    }
    let mut what = whom;
    what["do"] = does[usize::from(lifted)].into();
    if let Some(Seconds(seconds)) = lasts {
        what["seconds"] = seconds.into();
    }
    room.note(ADMIN, what).await;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn act(room: &Room, action: Action) -> Done {
    room.act(ADMIN, action).await?;
    Ok(StatusCode::NO_CONTENT)
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
    /// Users whose words are seen by them alone.
    shadowed_users: Vec<ListedUser>,
    /// Slow mode in place of the manifest's; null is the manifest's.
    slow_mode_seconds: Option<u32>,
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
            shadowed_users: list.shadowed_users.into_iter().map(user).collect(),
            slow_mode_seconds: list.slow_mode_seconds,
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
    responses((status = 204, description = "Muted"), Denied, NoRoom, BadBody, Busy, Full))]
pub(super) async fn mute(Open(room): Open, Body(Mute { user, seconds }): Body<Mute>) -> Done {
    act(&room, Action::Mute { user: user.0, seconds: seconds.map(|seconds| seconds.0) }).await
}

/// Takes a mute back. One of the manifest stays.
#[utoipa::path(delete, path = "/rooms/{room}/mutes", tag = "moderation", params(RoomPath), request_body = Whom,
    security(("admin" = [])),
    responses((status = 204, description = "Taken back"), Denied, NoRoomOrNone, BadBody, Busy))]
pub(super) async fn unmute(Open(room): Open, Body(Whom { user }): Body<Whom>) -> Done {
    act(&room, Action::Unmute { user: user.0 }).await
}

/// Lets nobody but the user see what they write, without telling them.
#[utoipa::path(post, path = "/rooms/{room}/shadows", tag = "moderation", params(RoomPath), request_body = Mute,
    security(("admin" = [])),
    responses((status = 204, description = "Shadow muted"), Denied, NoRoom, BadBody, Busy, Full))]
pub(super) async fn shadow(Open(room): Open, Body(Mute { user, seconds }): Body<Mute>) -> Done {
    act(&room, Action::Shadow { user: user.0, seconds: seconds.map(|seconds| seconds.0) }).await
}

/// Takes a shadow mute back.
#[utoipa::path(delete, path = "/rooms/{room}/shadows", tag = "moderation", params(RoomPath), request_body = Whom,
    security(("admin" = [])),
    responses((status = 204, description = "Taken back"), Denied, NoRoomOrNone, BadBody, Busy))]
pub(super) async fn unshadow(Open(room): Open, Body(Whom { user }): Body<Whom>) -> Done {
    act(&room, Action::Unshadow { user: user.0 }).await
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

/// A user or a network, one of both.
fn whom_to_ban(user: Option<User>, network: Option<Network>) -> Result<Target, Refusal> {
    match (user, network) {
        (Some(user), None) => Ok(Target::Ban(user.0)),
        (None, Some(network)) => Ok(Target::BanNetwork(network.0)),
        _ => Err(Refusal::unfit("give `user` or `network`, one of both")),
    }
}

/// Keeps a user or a network out, and closes their connections to the room.
#[utoipa::path(post, path = "/rooms/{room}/bans", tag = "moderation", params(RoomPath), request_body = Ban,
    security(("admin" = [])),
    responses((status = 204, description = "Banned"), Denied, NoRoom, BadBody, Busy, Full))]
pub(super) async fn ban(
    State(admin): State<Arc<Admin>>,
    Open(room): Open,
    Body(Ban { user, network, seconds }): Body<Ban>,
) -> Done {
    change(&admin, &room, whom_to_ban(user, network)?, seconds, false).await
}

/// Takes a ban back. One of the manifest stays.
#[utoipa::path(delete, path = "/rooms/{room}/bans", tag = "moderation", params(RoomPath), request_body = Unban,
    security(("admin" = [])),
    responses((status = 204, description = "Taken back"), Denied, NoRoomOrNone, BadBody, Busy))]
pub(super) async fn unban(
    State(admin): State<Arc<Admin>>,
    Open(room): Open,
    Body(Unban { user, network }): Body<Unban>,
) -> Done {
    change(&admin, &room, whom_to_ban(user, network)?, None, true).await
}

/// Closes a user's connections to the room; the user may come back.
#[utoipa::path(post, path = "/rooms/{room}/disconnect", tag = "moderation", params(RoomPath), request_body = Whom,
    security(("admin" = [])),
    responses((status = 204, description = "Asked to close"), Denied, NoRoom, BadBody, Busy))]
pub(super) async fn disconnect(
    State(admin): State<Arc<Admin>>,
    Open(room): Open,
    Body(Whom { user }): Body<Whom>,
) -> Done {
    change(&admin, &room, Target::Disconnect(user.0), None, false).await
}
