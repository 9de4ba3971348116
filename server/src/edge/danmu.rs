//! `GET /rooms/{id}/danmu?from=&to=`: what was said in a part of the video.
//!
//! Who may watch the room may fetch: the same origins, tokens and bans as for the socket. Unlike there a
//! browser sees the status of an answer, so what is wrong is told with it.

use std::{net::SocketAddr, sync::Arc, sync::atomic::Ordering, time::Instant};

use bytes::Bytes;
use danmu_crds::Anonymous;
use danmu_wire::CloseCode;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
};

use super::{address, http::Answer, listener::Edge, protocols, session::unix_now, token::TokenError};
use crate::{
    room::Room,
    segments::{self, Fetch, Range},
};

/// How much of what was said is in the answer: 1, or less where there was too much.
const SAMPLE: HeaderName = HeaderName::from_static("danmu-sample");

/// The room of a path `/rooms/{id}/danmu`.
pub(super) fn room(path: &str) -> Option<&str> {
    path.strip_prefix("/rooms/")?.strip_suffix("/danmu")
}

/// Answers one request.
pub(super) async fn answer<B>(edge: &Arc<Edge>, request: &Request<B>, id: &str, peer: SocketAddr) -> Answer {
    let headers = request.headers();
    if !edge.origins.load().allows(headers) {
        edge.metrics.turned_away("origin");
        return fault(StatusCode::FORBIDDEN, "this page may not fetch here");
    }
    let mut answer = match *request.method() {
        Method::GET | Method::HEAD => fetch(edge, request, id, peer).await.unwrap_or_else(|refusal| refusal),
        Method::OPTIONS => preflight(),
        _ => fault(StatusCode::METHOD_NOT_ALLOWED, "only GET here"),
    };
    // The page may read it: that it is one of ours was seen above.
    if let Some(origin) = headers.get(header::ORIGIN) {
        let answered = answer.headers_mut();
        answered.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        let exposed = HeaderValue::from_static("etag, danmu-sample, retry-after");
        answered.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    answer.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding, origin"));
    answer
}

async fn fetch<B>(
    edge: &Arc<Edge>,
    request: &Request<B>,
    id: &str,
    peer: SocketAddr,
) -> Result<Answer, Answer> {
    if !edge.listed.load(Ordering::Acquire) {
        return Err(later(fault(StatusCode::SERVICE_UNAVAILABLE, "starting: try again")));
    }
    // Only rooms that are recorded are opened for this: a walk through names must not open thousands.
    if !danmu_wire::is_room_id(id) || !edge.rooms.is_allowed(id) {
        return Err(fault(StatusCode::NOT_FOUND, "no such room"));
    }
    if !edge.rooms.is_recorded(id) {
        return Err(fault(StatusCode::NOT_FOUND, "what is said in this room is not kept"));
    }
    let range = Range::parse(request.uri().query()).map_err(|bad| {
        edge.rooms.segments().refused(bad);
        fault(StatusCode::BAD_REQUEST, &bad.to_string())
    })?;
    let room = edge.rooms.open_room(id).map_err(|_| fault(StatusCode::NOT_FOUND, "no such room"))?;
    // Who is banned is known once the relay has told it.
    room.settle(None).await;
    let is_private = may_watch(edge, &room, request.headers(), peer).await?;
    match room.danmu(range).await {
        Ok(found) => Ok(found_answer(&found, request.headers(), is_private)),
        Err(error @ (Fetch::Busy | Fetch::Away)) => {
            Err(later(fault(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())))
        }
    }
}

/// Whether the answer is for this viewer alone; or why the viewer may not watch.
async fn may_watch(edge: &Edge, room: &Room, headers: &HeaderMap, peer: SocketAddr) -> Result<bool, Answer> {
    let offer = protocols::offer(headers).map_err(|bad| fault(StatusCode::BAD_REQUEST, &bad.to_string()))?;
    let sign_in = |what: &str| {
        let mut answer = fault(StatusCode::UNAUTHORIZED, what);
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        answer
    };
    let verified = match offer.token {
        None => None,
        Some(token) => Some(edge.keys.look_up(&token, unix_now()).await),
    };
    let claims = match verified {
        None => None,
        Some(Ok(claims)) => Some(claims),
        Some(Err(TokenError::UnknownKey)) => {
            return Err(later(fault(StatusCode::SERVICE_UNAVAILABLE, "the token's key is not known yet")));
        }
        Some(Err(_)) => return Err(sign_in("the token is not valid, or has expired")),
    };
    if claims.as_ref().is_some_and(|claims| !claims.admits(&room.id)) {
        return Err(fault(StatusCode::FORBIDDEN, "the token is not for this room"));
    }
    let policy = room.policy();
    let client = address::client(peer.ip(), headers, &edge.trusted.load());
    let user = claims.as_ref().map(|claims| claims.sub.as_str());
    match room.gate.enter(&policy, user, client, Instant::now()) {
        Ok(()) => Ok(policy.rules().anonymous == Anonymous::Deny),
        Err(CloseCode::NotAllowed) => Err(sign_in("only viewers with a token may watch this room")),
        Err(_) => Err(fault(StatusCode::FORBIDDEN, "banned here")),
    }
}

fn found_answer(found: &segments::Answer, headers: &HeaderMap, is_private: bool) -> Answer {
    // Weak: the compressed form and the plain one have the same.
    let tag = format!("W/\"{}\"", found.tag);
    let is_known = has_tag(headers, &found.tag);
    let zipped = takes_gzip(headers);
    let body = match (is_known, zipped) {
        (true, _) => Bytes::new(),
        (false, true) => found.gzip.clone(),
        (false, false) => found.json.clone(),
    };
    let mut answer = Response::new(Full::from(body));
    if is_known {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let who = if is_private { "private" } else { "public" };
    let cache = format!("{who}, max-age={}", found.fresh.as_secs());
    let sample = match found.per_mille {
        1000 => "1".to_owned(),
        per_mille => format!("0.{per_mille:03}"),
    };
    let told = answer.headers_mut();
    for (name, value) in [(header::ETAG, tag), (header::CACHE_CONTROL, cache), (SAMPLE, sample)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            told.insert(name, value);
        }
    }
    if !is_known {
        told.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        told.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if zipped {
            told.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
    }
    answer
}

/// Whether `If-None-Match` names the tag (RFC 9110 §13.1.2: compared weakly).
fn has_tag(headers: &HeaderMap, tag: &str) -> bool {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known).trim_matches('"') == tag)
}

/// Whether `Accept-Encoding` names gzip, and not with a weight of nothing.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|entry| {
        let (coding, weight) = entry.split_once(';').unwrap_or((entry, ""));
        let weight = weight.trim().trim_start_matches("q=").trim_end_matches(['0', '.']);
        coding.trim().eq_ignore_ascii_case("gzip") && (!entry.contains(';') || !weight.is_empty())
    })
}

/// A browser asks first when it wants to send a token.
fn preflight() -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, if-none-match"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn later(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    answer
}

fn fault(status: StatusCode, what: &str) -> Answer {
    let mut answer = Response::new(Full::from(serde_json::json!({"error": what}).to_string()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn a_tag_is_known_in_every_form_that_a_cache_sends() {
        for known in ["\"ab\"", "W/\"ab\"", "*", "\"cd\", W/\"ab\"", "W/\"ab\",\"cd\""] {
            assert!(has_tag(&with(header::IF_NONE_MATCH, known), "ab"), "{known}");
        }
        for other in ["\"abc\"", "W/\"cd\"", "", "W/"] {
            assert!(!has_tag(&with(header::IF_NONE_MATCH, other), "ab"), "{other}");
        }
        assert!(!has_tag(&HeaderMap::new(), "ab"));
    }

    #[test]
    fn gzip_is_sent_to_whoever_takes_it_and_to_nobody_else() {
        for takes in ["gzip", "deflate, gzip;q=0.5, br", "GZIP", "br;q=1.0, gzip;q=1", "gzip; q=0.001"] {
            assert!(takes_gzip(&with(header::ACCEPT_ENCODING, takes)), "{takes}");
        }
        for not in ["", "br", "identity", "gzip;q=0", "gzip;q=0.000", "x-gzip2"] {
            assert!(!takes_gzip(&with(header::ACCEPT_ENCODING, not)), "{not}");
        }
    }

    #[test]
    fn only_the_path_of_a_rooms_danmu_is_fetched() {
        assert_eq!(room("/rooms/a/danmu"), Some("a"));
        assert_eq!((room("/rooms/danmu"), room("/danmu"), room("/rooms/a/danmu/")), (None, None, None));
    }
}
