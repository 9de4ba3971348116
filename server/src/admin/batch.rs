//! Several messages with one request.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Extension, Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Admin, RoomPath,
    answer::{BadBody, NoRoom, OverQuota, Publishers, Refusal},
    body::{Body, Open},
    quota::Publisher,
    rooms::{Publish, Published, idempotency_key},
};
use crate::room::Room;

/// Most messages of a batch.
const MAX_MESSAGES: usize = 100;
/// How long a batch may take; what is not published by then is not tried.
const DEADLINE: Duration = Duration::from_secs(10);

/// Several messages, in order.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    /// Each is read by itself: one that is none does not stop the others.
    #[schema(value_type = Vec<Message>, min_items = 1, max_items = 100)]
    messages: Vec<serde_json::Value>,
}

/// A message of a batch.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Message {
    /// As the header `Idempotency-Key` of a single one.
    #[schema(min_length = 1, max_length = 128)]
    idempotency_key: Option<String>,
    message: Publish,
}

/// What became of a batch.
#[derive(Serialize, ToSchema)]
pub(super) struct Batched {
    /// One for each message, in the same order.
    results: Vec<Outcome>,
}

/// What became of one message.
#[derive(Serialize, ToSchema)]
pub(super) struct Outcome {
    /// The status that the message would have had by itself.
    #[schema(example = 200)]
    status: u16,
    #[serde(flatten)]
    #[schema(inline)]
    published: Option<Published>,
    /// Why it was not published, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Publishes several messages to a room, in their order. Each is answered by itself; after the first 503 the rest is
/// not tried, so that what is sent again stays in order. The quota counts every message, and takes all or none.
#[utoipa::path(post, path = "/rooms/{room}/publish/batch", tag = "rooms", params(RoomPath), request_body = Batch,
    security(("admin" = []), ("publisher" = [])),
    responses((status = 200, description = "What became of each message", body = Batched),
        Publishers, NoRoom, BadBody, OverQuota))]
pub(super) async fn publish_batch(
    State(admin): State<Arc<Admin>>,
    Open(room): Open,
    Extension(publisher): Extension<Publisher>,
    Body(Batch { messages }): Body<Batch>,
) -> Result<Json<Batched>, Refusal> {
    if !(1..=MAX_MESSAGES).contains(&messages.len()) {
        return Err(Refusal::unfit(format!(
            "a batch has 1 to {MAX_MESSAGES} messages; this has {}",
            messages.len()
        )));
    }
    admin.quotas.take(&publisher, messages.len() as u32)?;
    let began = Instant::now();
    let mut results = Vec::with_capacity(messages.len());
    let mut stopped = false;
    for message in messages {
        stopped |= began.elapsed() > DEADLINE;
        let published = if stopped {
            let words = "not tried, because an earlier message of the batch was held up: send it again";
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, words))
        } else {
            one(&admin, &room, message).await
        };
        stopped |= matches!(&published, Err(refusal) if refusal.status == StatusCode::SERVICE_UNAVAILABLE);
        results.push(match published {
            Ok(published) => Outcome { status: 200, published: Some(published), error: None },
            Err(Refusal { status, words, .. }) => {
                Outcome { status: status.as_u16(), published: None, error: Some(words) }
            }
        });
    }
    Ok(Json(Batched { results }))
}

async fn one(admin: &Admin, room: &Room, message: serde_json::Value) -> Result<Published, Refusal> {
    let message: Message = serde_json::from_value(message)
        .map_err(|error| Refusal::unfit(format!("the message does not fit: {error}")))?;
    let key = message.idempotency_key.as_deref();
    let key = key.map(|key| idempotency_key("idempotencyKey", key)).transpose()?;
    message.message.to(admin, room, key).await
}
