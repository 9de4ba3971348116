//! This process: health, metrics, load, drain, and the document of the API.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, atomic::Ordering},
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{encoding::text, registry::Registry};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Admin,
    answer::{BadBody, Denied, DeniedMetrics, Fault, Refusal},
    body::Body,
    collector, document,
    moderation::undone,
};

/// What this process carries.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Load {
    /// Open viewer connections.
    viewers: i64,
    /// Viewers this process is to hold: the fleet's viewersPerPod, or fewer if it has fewer descriptors.
    capacity: usize,
    /// Viewers by room, rooms without viewers left out.
    rooms: BTreeMap<String, u64>,
    /// Rooms that shed load, with how far: 1 shows less, 2 writes less often too, 3 lets viewers fetch.
    shedding: BTreeMap<String, u8>,
    /// Whether a drain is on.
    draining: bool,
    /// Seconds until its deadline; null without a drain.
    seconds_left: Option<u64>,
}

/// What this process carries.
#[utoipa::path(get, path = "/load", tag = "process", security(("admin" = [])),
    responses((status = 200, description = "The load", body = Load), Denied))]
pub(super) async fn load(State(admin): State<Arc<Admin>>) -> Json<Load> {
    let rooms = admin.edge.rooms.list().into_iter().filter(|room| room.viewers > 0);
    let seconds_left = admin.drain.deadline().map(|deadline| seconds_left(deadline, Instant::now()));
    Json(Load {
        viewers: admin.rows.viewers.get(),
        capacity: admin.capacity.load(Ordering::Relaxed),
        rooms: rooms.map(|room| (room.id, room.viewers)).collect(),
        shedding: admin.edge.rooms.shedding().into_iter().collect(),
        draining: seconds_left.is_some(),
        seconds_left,
    })
}

/// How long to drain.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainFor {
    /// Absent is what --drain-seconds says.
    #[schema(minimum = 1, maximum = 3600, example = 60)]
    seconds: Option<u64>,
}

/// A drain that is on.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Draining {
    /// Seconds until its deadline.
    seconds_left: u64,
}

/// Starts a drain; changes nothing while one is on.
#[utoipa::path(post, path = "/drain", tag = "process", request_body = Option<DrainFor>, security(("admin" = [])),
    responses((status = 202, description = "A drain is on", body = Draining), Denied, BadBody))]
pub(super) async fn start_drain(
    State(admin): State<Arc<Admin>>,
    body: Option<Body<DrainFor>>,
) -> Result<(StatusCode, Json<Draining>), Refusal> {
    let seconds = body.and_then(|Body(body)| body.seconds).unwrap_or(admin.drain.seconds());
    if !(1..=3600).contains(&seconds) {
        return Err(Refusal::unfit("`seconds` is 1 to 3600"));
    }
    let now = Instant::now();
    let deadline = admin.drain.start(Duration::from_secs(seconds), now);
    Ok((StatusCode::ACCEPTED, Json(Draining { seconds_left: seconds_left(deadline, now) })))
}

/// Takes a drain back. Viewers who have moved stay away.
#[utoipa::path(delete, path = "/drain", tag = "process", security(("admin" = [])),
    responses((status = 204, description = "Taken back"), Denied,
        (status = 404, description = "There was none", body = Fault)))]
pub(super) async fn stop_drain(State(admin): State<Arc<Admin>>) -> Result<StatusCode, Refusal> {
    undone(admin.drain.stop())
}

/// Whether the process runs.
#[utoipa::path(get, path = "/livez", tag = "process",
    responses((status = 200, description = "It runs", body = String)))]
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// Whether new viewers should come here.
#[utoipa::path(get, path = "/readyz", tag = "process",
    responses((status = 200, description = "They should", body = String),
        (status = 503, description = "Draining, or the rooms are not known yet", body = String, content_type = "text/plain")))]
pub(super) async fn ready(State(admin): State<Arc<Admin>>) -> (StatusCode, &'static str) {
    if admin.drain.deadline().is_some() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n");
    }
    if !admin.edge.listed.load(Ordering::Acquire) {
        return (StatusCode::SERVICE_UNAVAILABLE, "the rooms are not known yet\n");
    }
    (StatusCode::OK, "ok\n")
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Metrics. The token is needed only where --metrics-token is set.
#[utoipa::path(get, path = "/metrics", tag = "process", security((), ("metrics" = [])),
    responses((status = 200, description = "OpenMetrics", body = String, content_type = "application/openmetrics-text"),
        DeniedMetrics))]
pub(super) async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    static PROCESS: LazyLock<Registry> = LazyLock::new(collector::process);
    let mut lines = String::new();
    let encoded = text::encode_registry(&mut lines, &admin.registry)
        .and_then(|()| text::encode_registry(&mut lines, &PROCESS))
        .and_then(|()| text::encode_eof(&mut lines));
    match encoded {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], lines).into_response(),
        Err(error) => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "process", security(("admin" = [])),
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value, content_type = "application/json"),
        Denied))]
pub(super) async fn openapi() -> Response {
    static DOCUMENT: LazyLock<String> = LazyLock::new(document);
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

fn seconds_left(until: Instant, now: Instant) -> u64 {
    until.saturating_duration_since(now).as_secs()
}
