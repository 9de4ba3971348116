//! What comes in: the room of the path and the JSON of the body, or a refusal in words.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, OptionalFromRequest, Path, Request},
    http::{StatusCode, header, request::Parts},
};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::{Admin, answer::Refusal};
use crate::room::Room;

/// A body must be whole within this time.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longest body, in bytes.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// The room of the path, opened if the catalog allows it.
pub(super) struct Open(pub(super) Arc<Room>);

impl FromRequestParts<Arc<Admin>> for Open {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin>) -> Result<Self, Refusal> {
        let id = room_id(parts, admin).await?;
        let room = admin.edge.rooms.open_room(&id).map_err(|_| no_room(&id))?;
        room.settle(None).await;
        Ok(Open(room))
    }
}

/// The id of a room that the catalog allows.
pub(super) struct Allowed(pub(super) String);

impl FromRequestParts<Arc<Admin>> for Allowed {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin>) -> Result<Self, Refusal> {
        let id = room_id(parts, admin).await?;
        if admin.edge.rooms.is_allowed(&id) { Ok(Allowed(id)) } else { Err(no_room(&id)) }
    }
}

async fn room_id(parts: &mut Parts, admin: &Arc<Admin>) -> Result<String, Refusal> {
    let Path(id) = Path::<String>::from_request_parts(parts, admin)
        .await
        .map_err(|_| Refusal::new(StatusCode::NOT_FOUND, "the path has no room's id"))?;
    Ok(id)
}

fn no_room(id: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("no room `{}`", id.escape_debug()))
}

/// JSON of the body. As `Option`, an empty body and `null` are `None`.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Admin>> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, admin: &Arc<Admin>) -> Result<Self, Refusal> {
        read(request, admin)
            .await?
            .map(Body)
            .ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, "the body is empty: send a JSON object"))
    }
}

impl<T: DeserializeOwned> OptionalFromRequest<Arc<Admin>> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, admin: &Arc<Admin>) -> Result<Option<Self>, Refusal> {
        Ok(read::<Option<T>>(request, admin).await?.flatten().map(Body))
    }
}

async fn read<T: DeserializeOwned>(request: Request, admin: &Arc<Admin>) -> Result<Option<T>, Refusal> {
    let is_json = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    let bytes = tokio::time::timeout(DEADLINE, Bytes::from_request(request, admin))
        .await
        .map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"))?
        .map_err(|error| match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is over {MAX_BODY} bytes"))
            }
            _ => Refusal::new(StatusCode::BAD_REQUEST, "the body could not be read"),
        })?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if !is_json {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send JSON, with `Content-Type: application/json`",
        ));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        let (words, place) =
            (error.to_string(), format!(" at line {} column {}", error.line(), error.column()));
        let words = words.strip_suffix(&place).unwrap_or(&words);
        match error.classify() {
            Category::Data => Refusal::unfit(format!("the body does not fit{place}: {words}")),
            _ => Refusal::new(StatusCode::BAD_REQUEST, format!("the body is not JSON{place}: {words}")),
        }
    })
}
