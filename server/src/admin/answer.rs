//! What the admin API answers when it does not do what was asked: always `{"error": "…"}`.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::{
    IntoResponses, ToSchema,
    openapi::{ContentBuilder, HeaderBuilder, Ref, RefOr, ResponseBuilder, response::Response as Described},
};

use crate::{relay::PublishError, room::ActError};

/// Why a request was not done.
#[derive(Serialize, ToSchema)]
pub(super) struct Fault {
    /// In words.
    error: String,
}

/// A request that is not done.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) words: String,
    /// Seconds after which it may be done.
    retry: Option<u64>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, words: impl Into<String>) -> Self {
        Refusal {
            status,
            words: words.into(),
            retry: (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1),
        }
    }

    /// Too much for now.
    pub(super) fn too_many(words: impl Into<String>, wait: Duration) -> Self {
        let retry = Some(wait.as_secs_f64().ceil().max(1.0) as u64);
        Refusal { status: StatusCode::TOO_MANY_REQUESTS, words: words.into(), retry }
    }

    pub(super) fn unfit(words: impl Into<String>) -> Self {
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, words)
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        let status = match error {
            PublishError::Busy | PublishError::Away => StatusCode::SERVICE_UNAVAILABLE,
            PublishError::Conflict => StatusCode::CONFLICT,
            PublishError::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
        };
        Refusal::new(status, error.to_string())
    }
}

impl From<ActError> for Refusal {
    fn from(error: ActError) -> Self {
        match error {
            ActError::None => Refusal::new(StatusCode::NOT_FOUND, error.to_string()),
            ActError::Publish(error) => error.into(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Refusal { status, words, retry } = self;
        let mut answer = (status, Json(Fault { error: words })).into_response();
        if status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = retry {
            answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        answer
    }
}

/// The same for the document: one type for each reason there is.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident: $(($status:literal, $words:literal)),+;)+) => {$(
        $(#[$doc])*
        pub(super) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Described>> {
                BTreeMap::from([$(($status.to_owned(), described($status, $words))),+])
            }
        }
    )+};
}

refusals! {
    /// The token.
    Denied: ("401", "The token is missing or wrong"), ("403", "No token is set, and a web page asks");
    /// The token of metrics.
    DeniedMetrics: ("401", "The token is missing or wrong");
    /// The token of a publisher.
    Publishers: ("401", "The token is missing, wrong or expired"),
        ("403", "The token may not publish here, or no token is set and a web page asks");
    /// The room.
    NoRoom: ("404", "No such room");
    /// The body.
    BadBody: ("400", "The body is not JSON"), ("408", "The body did not come in time"),
        ("413", "The body is longer than 64 KiB"), ("415", "Content-Type is not application/json"),
        ("422", "A field is missing, unknown or out of bounds");
    /// What was to be taken back.
    NoRoomOrNone: ("404", "No such room, or there was none");
    /// The room's queue, or the relay.
    Busy: ("503", "The room has too much waiting, or Redis cannot be reached: try again");
    /// The publisher's quota.
    OverQuota: ("429", "The publisher's quota is used up");
    /// The idempotency key.
    UsedKey: ("409", "The Idempotency-Key was used for another message");
    /// A list of the room.
    Full: ("507", "The list is full");
}

fn described(status: &str, words: &str) -> RefOr<Described> {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Fault"))).build();
    let answer = ResponseBuilder::new().description(words).content("application/json", content);
    let seconds = |words: &str| HeaderBuilder::new().description(Some(words)).build();
    RefOr::T(match status {
        "429" | "503" => answer.header("Retry-After", seconds("Seconds to wait")).build(),
        _ => answer.build(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_room_says_when_to_come_back_and_a_denied_request_which_token() {
        let answer = |status| Refusal::new(status, "no").into_response();
        let busy = answer(StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(busy.headers()[header::RETRY_AFTER], "1");
        let over = Refusal::too_many("no", Duration::from_millis(2100)).into_response();
        assert_eq!(over.headers()[header::RETRY_AFTER], "3");
        let denied = answer(StatusCode::UNAUTHORIZED);
        assert_eq!(denied.headers()[header::WWW_AUTHENTICATE], "Bearer");
        assert!(!denied.headers().contains_key(header::RETRY_AFTER));
    }
}
