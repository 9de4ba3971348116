//! Who may: the admin token for everything, a publisher's token for publishing, the metrics token.

use std::sync::Arc;

use axum::{
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use danmu_wire::Role;

use super::{Admin, answer::Refusal, quota::Publisher};
use crate::edge::{session::unix_now, token::TokenError};

/// Needs the admin token, if there is one.
pub(super) async fn admin(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    if by_a_page(&admin, request.headers()) {
        return forbidden(NO_PAGES);
    }
    if is(admin.token.as_deref(), request.headers()) {
        return next.run(request).await;
    }
    denied("the admin token is missing or wrong")
}

/// Needs the admin token, or a viewer's token of role `publisher` that is good for the room.
pub(super) async fn publisher(
    State(admin): State<Arc<Admin>>,
    Path(room): Path<String>,
    mut request: Request,
    next: Next,
) -> Response {
    if by_a_page(&admin, request.headers()) {
        return forbidden(NO_PAGES);
    }
    if is(admin.token.as_deref(), request.headers()) {
        request.extensions_mut().insert(Publisher::Admin);
        return next.run(request).await;
    }
    let verified = match bearer(request.headers()) {
        Some(token) => Some(admin.edge.keys.look_up(token, unix_now()).await),
        None => None,
    };
    match verified {
        Some(Ok(claims)) if claims.role != Role::Publisher => {
            forbidden("publishing needs the role `publisher`")
        }
        Some(Ok(claims)) if !claims.admits(&room) => forbidden("the token is for other rooms"),
        Some(Ok(claims)) => {
            request.extensions_mut().insert(Publisher::Sub(claims.sub));
            next.run(request).await
        }
        Some(Err(error @ (TokenError::Expired | TokenError::UnknownKey))) => denied(&error.to_string()),
        Some(Err(TokenError::Invalid)) | None => {
            denied("neither the admin token nor a valid one of role `publisher`")
        }
    }
}

/// Needs the metrics token, if there is one.
pub(super) async fn metrics(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    if is(admin.metrics_token.as_deref(), request.headers()) {
        return next.run(request).await;
    }
    denied("the metrics token is missing or wrong")
}

const NO_PAGES: &str = "no web page may ask this while no admin token is set";

/// Without a token, whoever reaches the port may ask, and so could every page in a browser on this machine:
/// a POST without a body needs nobody's consent. Browsers name the page in `Origin`.
fn by_a_page(admin: &Admin, headers: &HeaderMap) -> bool {
    admin.token.is_none() && headers.contains_key(header::ORIGIN)
}

fn forbidden(words: &str) -> Response {
    Refusal::new(StatusCode::FORBIDDEN, words).into_response()
}

fn denied(words: &str) -> Response {
    Refusal::new(StatusCode::UNAUTHORIZED, words).into_response()
}

/// Whether the token is offered; where none is set, nothing needs to be.
fn is(token: Option<&str>, headers: &HeaderMap) -> bool {
    token
        .is_none_or(|token| bearer(headers).is_some_and(|offered| same(offered.as_bytes(), token.as_bytes())))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// Compares in a time that does not tell how much was right.
fn same(offered: &[u8], token: &[u8]) -> bool {
    offered.len() == token.len() && offered.iter().zip(token).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}
