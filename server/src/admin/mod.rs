//! The admin port: publish, moderate, look, drain. Bearer token on everything but health and metrics.

mod api;

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use prometheus_client::registry::Registry;

use crate::{drain::Drain, edge::listener::Edge, relay::Memory, rows};

/// What the admin port needs.
#[derive(Debug)]
pub struct Admin {
    /// The public side.
    pub edge: Arc<Edge>,
    /// Where messages are published.
    pub relay: Memory,
    /// The drain of this process.
    pub drain: Arc<Drain>,
    /// All metrics.
    pub registry: Registry,
    /// The rows' counters, for `/load`.
    pub rows: Arc<rows::Metrics>,
    /// The bearer token; without one only loopback reaches this port.
    pub token: Option<String>,
    /// Most viewers this process takes.
    pub capacity: usize,
}

/// All routes.
pub fn router(admin: Arc<Admin>) -> Router {
    let guarded = Router::new()
        .route("/rooms", get(api::rooms))
        .route("/rooms/{room}", get(api::room))
        .route("/rooms/{room}/publish", post(api::publish))
        .route("/rooms/{room}/mutes", post(api::mute).delete(api::unmute))
        .route("/rooms/{room}/bans", post(api::ban).delete(api::unban))
        .route("/rooms/{room}/remove", post(api::remove))
        .route("/rooms/{room}/disconnect", post(api::disconnect))
        .route("/load", get(api::load))
        .route("/drain", post(api::start_drain).delete(api::stop_drain))
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), authorize));
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .merge(guarded)
        .layer(DefaultBodyLimit::max(64 * 1024))
        .with_state(admin)
}

async fn authorize(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let Some(token) = &admin.token else { return next.run(request).await };
    let offered = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    if offered.is_some_and(|offered| same(offered.as_bytes(), token.as_bytes())) {
        return next.run(request).await;
    }
    (
        StatusCode::UNAUTHORIZED,
        [(header::WWW_AUTHENTICATE, "Bearer")],
        "the admin token is missing or wrong\n",
    )
        .into_response()
}

/// Compares in a time that does not tell how much was right.
fn same(offered: &[u8], token: &[u8]) -> bool {
    offered.len() == token.len() && offered.iter().zip(token).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

async fn ready(State(admin): State<Arc<Admin>>) -> (StatusCode, &'static str) {
    if admin.drain.deadline().is_some() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n");
    }
    (StatusCode::OK, "ok\n")
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &admin.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Seconds from `now` until `until`.
fn seconds_left(until: Instant, now: Instant) -> u64 {
    until.saturating_duration_since(now).as_secs()
}
