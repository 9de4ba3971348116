//! The viewer page, built from `server/web` and compiled in by build.rs.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode, header, header::HeaderValue};

use super::http::text;

include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// Nothing from elsewhere, nothing inline: what viewers write can never become a script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

/// Whether the page was there when the server was built.
pub fn is_built() -> bool {
    !FILES.is_empty()
}

pub(super) fn index() -> Response<Full<Bytes>> {
    if is_built() {
        asset("/index.html")
    } else {
        text(StatusCode::NOT_FOUND, "built without the page (no Node.js)")
    }
}

pub(super) fn asset(path: &str) -> Response<Full<Bytes>> {
    let Some((_, bytes)) = FILES.iter().find(|(name, _)| *name == path) else {
        return text(StatusCode::NOT_FOUND, "not found");
    };
    let kind = match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    };
    // Names under /assets carry a hash of their content; the index names them and must be fresh.
    let cache = if path.starts_with("/assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut answer = Response::new(Full::from(Bytes::from_static(bytes)));
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, cache),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}
