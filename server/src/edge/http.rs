//! Requests on the public port: the upgrade, the room list, the page.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use danmu_wire::{CloseCode, Position, frame::Format, is_room_id};
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{
    address,
    admission::Permit,
    listener::{Edge, take_permit},
    pages, protocols,
    session::{Arriving, MOVED, Viewer, unix_now},
    token::TokenError,
};
use crate::rows::Arrival;

/// Between our 101 and the socket in our hands.
const UPGRADE_DEADLINE: Duration = Duration::from_secs(5);

pub(super) type Answer = Response<Full<Bytes>>;

/// Answers one request.
pub(super) fn answer(
    edge: &Arc<Edge>,
    request: Request<Incoming>,
    peer: SocketAddr,
    permit: &Mutex<Option<Permit>>,
    now: Instant,
) -> Answer {
    let path = request.uri().path().to_owned();
    let room = path.strip_prefix("/rooms/").and_then(|rest| rest.strip_suffix("/ws"));
    if room.is_some() || path == "/ws" {
        let room = room.map(str::to_owned);
        return upgrade(edge, request, peer, permit, room, now).unwrap_or_else(|refusal| refusal);
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET here");
    }
    let wants_page = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    match path.as_str() {
        "/rooms" => room_list(edge),
        "/" => pages::index(),
        _ => match path.strip_prefix("/rooms/") {
            Some(id) if is_room_id(id) && wants_page => pages::index(),
            Some(id) if edge.rooms.is_allowed(id) => room_detail(edge, id),
            Some(_) => text(StatusCode::NOT_FOUND, "no such room"),
            None => pages::asset(&path),
        },
    }
}

fn room_list(edge: &Edge) -> Answer {
    let rooms: Vec<serde_json::Value> = edge
        .rooms
        .list()
        .into_iter()
        .map(|room| serde_json::json!({"id": room.id, "viewers": room.viewers, "url": format!("/rooms/{}", room.id)}))
        .collect();
    json(&serde_json::Value::from(rooms))
}

fn room_detail(edge: &Edge, id: &str) -> Answer {
    let room = edge.rooms.get(id);
    let viewers = room.as_ref().map_or(0, |room| room.viewers());
    let mut detail =
        serde_json::json!({"id": id, "viewers": viewers, "url": format!("/rooms/{id}/ws?room={id}")});
    let subs = room.map_or_else(Vec::new, |room| room.sub_viewers());
    if !subs.is_empty() {
        let told = subs.iter().map(|sub| serde_json::json!({"sub": sub.sub, "viewers": sub.here}));
        detail["subRooms"] = told.collect();
    }
    json(&detail)
}

/// Refuses before the upgrade only what a client can do nothing about: 400, 403, 503.
fn upgrade(
    edge: &Arc<Edge>,
    mut request: Request<Incoming>,
    peer: SocketAddr,
    permit: &Mutex<Option<Permit>>,
    room: Option<String>,
    now: Instant,
) -> Result<Answer, Answer> {
    let headers = request.headers();
    let accept = accept_key(request.method(), headers)?;
    if !edge.origins.load().allows(headers) {
        edge.metrics.turned_away("origin");
        return Err(text(StatusCode::FORBIDDEN, "this page may not connect here"));
    }
    let offer =
        protocols::offer(headers).map_err(|fault| text(StatusCode::BAD_REQUEST, fault.to_string()))?;
    let busy = |why: &'static str, after: Duration| {
        edge.metrics.turned_away(why);
        let mut answer = text(StatusCode::SERVICE_UNAVAILABLE, "too busy: try again later");
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        // The permit may be gone, and a connection without one must not stay.
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        answer
    };
    let sub = sub(request.uri().query()).map_err(|fault| text(StatusCode::BAD_REQUEST, fault))?;
    if !edge.listed.load(Ordering::Acquire) {
        return Err(busy("starting", Duration::from_secs(2)));
    }
    if edge.closed.load(Ordering::Acquire) {
        return Err(busy("draining", Duration::from_secs(2)));
    }
    let client = address::client(peer.ip(), headers, &edge.trusted.load());
    let mut permit =
        take_permit(permit).ok_or_else(|| text(StatusCode::BAD_REQUEST, "one upgrade a connection"))?;
    if client != peer.ip().to_canonical() {
        permit.count_for(address::group(client)).map_err(|refused| busy(refused.why, refused.retry_after))?;
    }
    // Last: whoever is over a cap of their own must not use up what all share.
    edge.admission.upgrade(now).map_err(|refused| busy(refused.why, refused.retry_after))?;
    let coming = Coming {
        client,
        token: offer.token,
        format: offer.format,
        room,
        since: since(request.uri().query()),
        sub,
        moved: request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == MOVED)),
        permit,
    };
    tokio::spawn(hand_over(Arc::clone(edge), hyper::upgrade::on(&mut request), coming));
    Ok(switching(&accept, offer.selected))
}

/// Checks the handshake (RFC 6455 §4.2.1) and answers the accept key.
fn accept_key(method: &Method, headers: &HeaderMap) -> Result<String, Answer> {
    let bad = |what| text(StatusCode::BAD_REQUEST, what);
    let has = |name: HeaderName, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|entry| entry.trim().eq_ignore_ascii_case(word))
    };
    if *method != Method::GET {
        return Err(bad("a WebSocket starts with GET"));
    }
    if !has(header::UPGRADE, "websocket") || !has(header::CONNECTION, "upgrade") {
        let mut answer = text(StatusCode::UPGRADE_REQUIRED, "this address is a WebSocket");
        answer.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        return Err(answer);
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let mut answer = text(StatusCode::UPGRADE_REQUIRED, "only WebSocket version 13");
        answer.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return Err(answer);
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| bad("Sec-WebSocket-Key is missing"))?;
    if key.len() != 24 {
        return Err(bad("Sec-WebSocket-Key is 24 characters of base64"));
    }
    Ok(tungstenite::handshake::derive_accept_key(key.as_bytes()))
}

fn switching(accept: &str, protocol: Option<&'static str>) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(protocol) = protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    answer
}

/// `since=<epoch>.<offset>` of the query; anything else counts as none.
fn since(query: Option<&str>) -> Option<Position> {
    query?.split('&').find_map(|pair| pair.strip_prefix("since="))?.parse().ok()
}

/// `sub=<number>` of the query. One that is too high is told by nothing: the room may have had more.
fn sub(query: Option<&str>) -> Result<Option<u32>, &'static str> {
    let Some(number) = query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("sub=")))
    else {
        return Ok(None);
    };
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let sub = number.parse().ok().filter(|_| is_number);
    sub.map(Some).ok_or("`sub` is the number of a sub-room, from 0")
}

/// A viewer between its handshake and its worker.
struct Coming {
    client: IpAddr,
    token: Option<String>,
    format: Format,
    room: Option<String>,
    since: Option<Position>,
    sub: Option<u32>,
    /// It was asked to move here.
    moved: bool,
    permit: Permit,
}

/// Looks at the token: by now the answer can be seen in a browser. One whose key is not known yet waits.
async fn verified(edge: &Edge, coming: Coming) -> Viewer {
    let Coming { client, token, format, room, since, sub, moved, permit } = coming;
    let verified = match token {
        None => None,
        Some(token) => Some(edge.keys.look_up(&token, unix_now()).await),
    };
    let (claims, refused) = match verified {
        None => (None, None),
        Some(Ok(claims)) => (Some(claims), None),
        Some(Err(TokenError::Expired)) => (None, Some(CloseCode::TokenExpired)),
        Some(Err(TokenError::UnknownKey)) => (None, Some(CloseCode::TooBusy)),
        Some(Err(TokenError::Invalid)) => (None, Some(CloseCode::TokenInvalid)),
    };
    let arriving = match (refused, room) {
        (Some(code), _) => Arriving::Refused(code),
        (None, Some(id)) => Arriving::Room { id, since, sub },
        (None, None) => Arriving::Lobby,
    };
    let number = edge.viewers.fetch_add(1, Ordering::Relaxed);
    Viewer::new(number, claims, client, format, arriving, moved, permit)
}

/// Takes the socket from hyper and gives it to a worker.
async fn hand_over(edge: Arc<Edge>, upgrade: hyper::upgrade::OnUpgrade, coming: Coming) {
    let Ok(Ok(upgraded)) = tokio::time::timeout(UPGRADE_DEADLINE, upgrade).await else { return };
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        tracing::error!("the upgraded connection is not a socket");
        return;
    };
    let viewer = verified(&edge, coming).await;
    match parts.io.into_inner().into_std() {
        Ok(socket) => {
            let worker = edge.next_worker();
            edge.inboxes.adopt(worker, Arrival { socket, viewer, early: parts.read_buf.to_vec() });
        }
        Err(error) => tracing::warn!(%error, "the socket cannot leave the runtime"),
    }
}

pub(super) fn text(status: StatusCode, what: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(what.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

fn json(value: &serde_json::Value) -> Answer {
    let mut answer = Response::new(Full::from(value.to_string()));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
