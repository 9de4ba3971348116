//! The admin port: publish, moderate, look, drain. Bearer token on everything but health and metrics.
//! [`document`] describes it, made from the handlers themselves.

mod access;
mod answer;
mod batch;
mod body;
mod collector;
mod desk;
mod fields;
mod moderation;
mod port;
mod process;
mod quota;
mod rooms;

use std::sync::{Arc, atomic::AtomicUsize};

use axum::{Router, extract::DefaultBodyLimit, http::StatusCode, middleware::from_fn_with_state};
use prometheus_client::registry::Registry;
use utoipa::{
    IntoParams, Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{drain::Drain, edge::listener::Edge, relay::Relay, room::Rooms, rows};
use answer::Refusal;
pub use port::serve;
pub use quota::Quotas;

/// What the admin port needs.
#[derive(Debug)]
pub struct Admin {
    /// The public side.
    pub edge: Arc<Edge>,
    /// Where messages are published.
    pub relay: Arc<Relay>,
    /// How much publishers may publish here.
    pub quotas: Arc<Quotas>,
    /// The drain of this process.
    pub drain: Arc<Drain>,
    /// All metrics.
    pub registry: Registry,
    /// The rows' counters, for `/load`.
    pub rows: Arc<rows::Metrics>,
    /// The bearer token; without one only loopback reaches this port.
    pub token: Option<String>,
    /// The bearer token of `/metrics`; without one it is open.
    pub metrics_token: Option<String>,
    /// Viewers this process is to hold.
    pub capacity: Arc<AtomicUsize>,
}

type Routes = OpenApiRouter<Arc<Admin>>;

/// A room in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "described here, read by `body::Open`")]
struct RoomPath {
    /// The room's id.
    #[param(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", example = "worlds-final")]
    room: String,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Danmu admin API", description = "Publish, moderate, look, drain."),
    modifiers(&Tokens),
    components(schemas(answer::Fault)),
    tags(
        (name = "rooms", description = "Look at rooms and publish to them"),
        (name = "moderation", description = "Mutes, bans, and messages to take off the screens"),
        (name = "process", description = "Health, metrics, load and drain of this process"),
    ),
)]
struct Document;

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        for (name, format, words) in [
            ("admin", None, "--admin-token; not needed where none is set"),
            ("publisher", Some("JWT"), "A viewer's token of role `publisher`, good for the room"),
            ("metrics", None, "--metrics-token"),
        ] {
            let mut bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(words));
            if let Some(format) = format {
                bearer = bearer.bearer_format(format);
            }
            components.add_security_scheme(name, SecurityScheme::Http(bearer.build()));
        }
    }
}

fn guarded() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(rooms::rooms))
        .routes(routes!(rooms::room))
        .routes(routes!(moderation::mute, moderation::unmute))
        .routes(routes!(moderation::shadow, moderation::unshadow))
        .routes(routes!(desk::slow_mode, desk::reset_slow_mode))
        .routes(routes!(desk::held, desk::decide))
        .routes(routes!(desk::log))
        .routes(routes!(desk::dry_run))
        .routes(routes!(moderation::ban, moderation::unban))
        .routes(routes!(moderation::disconnect))
        .routes(routes!(rooms::remove))
        .routes(routes!(rooms::clear))
        .routes(routes!(process::load))
        .routes(routes!(process::start_drain, process::stop_drain))
        .routes(routes!(process::openapi))
}

fn publishing() -> Routes {
    OpenApiRouter::new().routes(routes!(rooms::publish)).routes(routes!(batch::publish_batch))
}

fn metrics() -> Routes {
    OpenApiRouter::new().routes(routes!(process::metrics))
}

fn health() -> Routes {
    OpenApiRouter::new().routes(routes!(process::live)).routes(routes!(process::ready))
}

/// Registers what is looked up when metrics are read.
pub fn register(registry: &mut Registry, rooms: &Arc<Rooms>) {
    registry.register_collector(Box::new(collector::BusyRooms(Arc::clone(rooms))));
    registry.register_collector(Box::new(collector::SheddingRooms(Arc::clone(rooms))));
}

/// All routes.
pub fn router(admin: Arc<Admin>) -> Router {
    let (routes, _) = health()
        .merge(guarded().layer(from_fn_with_state(Arc::clone(&admin), access::admin)))
        .merge(publishing().layer(from_fn_with_state(Arc::clone(&admin), access::publisher)))
        .merge(metrics().layer(from_fn_with_state(Arc::clone(&admin), access::metrics)))
        .split_for_parts();
    routes
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "no such path; see /openapi.json") })
        .method_not_allowed_fallback(|| async {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method; see /openapi.json")
        })
        .layer(DefaultBodyLimit::max(body::MAX_BODY))
        .with_state(admin)
}

/// The OpenAPI document of all routes, as JSON.
pub fn document() -> String {
    let mut document = Document::openapi();
    for routes in [guarded(), publishing(), metrics(), health()] {
        document.merge(routes.into_openapi());
    }
    // Plain data: there is nothing in it that JSON cannot hold.
    document.to_pretty_json().unwrap_or_default() + "\n"
}
