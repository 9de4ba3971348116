//! The WebSocket upgrade, both halves: the viewers' request and the floor's answer.

use std::net::{SocketAddr, ToSocketAddrs};

use danmu_wire::{PROTOCOL_TOKEN_PREFIX, frame::Format};
use tungstenite::{
    handshake::{client::Response, derive_accept_key, machine::TryParse, server::Request},
    http::Uri,
};

/// Longest answer or request we keep while it is incomplete.
pub(crate) const MAX_HEAD: usize = 16 * 1024;

/// Where viewers connect to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The first address the host's name stands for.
    pub(crate) address: SocketAddr,
    authority: String,
    path: String,
}

/// An address that viewers cannot connect to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadTarget {
    /// Not a URL.
    #[error("`{0}` is no address of a room: write ws://HOST:PORT/rooms/ROOM/ws")]
    Unreadable(String),
    /// TLS would measure the TLS library.
    #[error("`{0}`: only ws:// is spoken; measure TLS at the gateway, with the gateway's own tools")]
    Scheme(String),
    /// The name has no address.
    #[error("`{0}` has no address: {1}")]
    Unknown(String, String),
}

impl Target {
    /// Reads `ws://HOST[:PORT]/PATH` and looks the host up.
    ///
    /// # Errors
    /// [`BadTarget`] with what to write instead.
    pub(crate) fn parse(url: &str) -> Result<Target, BadTarget> {
        let uri: Uri = url.parse().map_err(|_| BadTarget::Unreadable(url.to_owned()))?;
        let authority = uri.authority().ok_or_else(|| BadTarget::Unreadable(url.to_owned()))?;
        match uri.scheme_str() {
            Some("ws") => {}
            Some(_) => return Err(BadTarget::Scheme(url.to_owned())),
            None => return Err(BadTarget::Unreadable(url.to_owned())),
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let unknown = |why: String| BadTarget::Unknown(authority.to_string(), why);
        let address = (host, authority.port_u16().unwrap_or(80))
            .to_socket_addrs()
            .map_err(|error| unknown(error.to_string()))?
            .next()
            .ok_or_else(|| unknown("the look-up was empty".to_owned()))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Target { address, authority: authority.to_string(), path })
    }

    /// Any other of the addresses that leads to the same room as `here`; `here` if there is none.
    pub(crate) fn elsewhere(targets: &[Target], here: usize) -> usize {
        let is_other = |other: &usize| *other != here && targets[*other].path == targets[here].path;
        let others: Vec<usize> = (0..targets.len()).filter(is_other).collect();
        if others.is_empty() { here } else { others[rand::random_range(0..others.len())] }
    }

    /// The upgrade request of one viewer; `since` is `<epoch>.<offset>` of one that comes back.
    pub(crate) fn request(
        &self,
        key: &str,
        format: Format,
        token: Option<&str>,
        since: Option<&str>,
    ) -> Vec<u8> {
        let joint = if self.path.contains('?') { '&' } else { '?' };
        let since = since.map(|since| format!("{joint}since={since}")).unwrap_or_default();
        let token = token.map(|token| format!(", {PROTOCOL_TOKEN_PREFIX}{token}")).unwrap_or_default();
        format!(
            "GET {}{since} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {}{token}\r\n\r\n",
            self.path,
            self.authority,
            format.protocol(),
        )
        .into_bytes()
    }
}

/// Why an upgrade did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The other side does not speak HTTP.
    #[error("the answer is not HTTP")]
    NotHttp,
    /// An HTTP answer other than 101.
    #[error("HTTP {0}")]
    Status(u16),
    /// 503 with `Retry-After`: come back in so many seconds.
    #[error("HTTP 503")]
    Busy(u64),
    /// `Sec-WebSocket-Accept` is not what our key gives.
    #[error("wrong Sec-WebSocket-Accept")]
    Accept,
    /// The headers do not end.
    #[error("the headers are longer than {MAX_HEAD} bytes")]
    TooLong,
}

/// Looks at the beginning of the server's answer: `Some(length)` once it is whole and good.
///
/// # Errors
/// [`HandshakeError`]; the connection is of no use then.
pub(crate) fn check_answer(bytes: &[u8], key: &str) -> Result<Option<usize>, HandshakeError> {
    match Response::try_parse(bytes) {
        Ok(None) if bytes.len() > MAX_HEAD => Err(HandshakeError::TooLong),
        Ok(None) => Ok(None),
        Ok(Some((length, answer))) => {
            let retry = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
            if let (503, Some(seconds)) =
                (answer.status().as_u16(), retry.and_then(|value| value.trim().parse().ok()))
            {
                return Err(HandshakeError::Busy(seconds));
            }
            if answer.status().as_u16() != 101 {
                return Err(HandshakeError::Status(answer.status().as_u16()));
            }
            let accept = answer.headers().get("sec-websocket-accept");
            if accept.is_none_or(|accept| accept.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes()) {
                return Err(HandshakeError::Accept);
            }
            Ok(Some(length))
        }
        Err(_) => Err(HandshakeError::NotHttp),
    }
}

/// The floor's answer to a viewer's request, once the request is whole.
///
/// # Errors
/// [`HandshakeError`] for what is no upgrade.
pub(crate) fn answer(bytes: &[u8]) -> Result<Option<Vec<u8>>, HandshakeError> {
    match Request::try_parse(bytes) {
        Ok(None) if bytes.len() > MAX_HEAD => Err(HandshakeError::TooLong),
        Ok(None) => Ok(None),
        Ok(Some((_, request))) => {
            let header = |name: &str| request.headers().get(name).map(|value| value.as_bytes());
            let key = header("sec-websocket-key").ok_or(HandshakeError::Accept)?;
            let offered = header("sec-websocket-protocol").unwrap_or(b"");
            let protocol = if offered.starts_with(Format::Deflate.protocol().as_bytes()) {
                Format::Deflate.protocol()
            } else {
                Format::Json.protocol()
            };
            let accept = derive_accept_key(key);
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
            );
            Ok(Some(head.into_bytes()))
        }
        Err(_) => Err(HandshakeError::NotHttp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    #[test]
    fn the_two_halves_understand_each_other() {
        let target = Target::parse("ws://127.0.0.1:8080/rooms/a/ws?room=a").unwrap();
        let request = target.request(KEY, Format::Json, Some("x.y.z"), None);
        assert!(answer(&request[..request.len() - 1]).unwrap().is_none());
        let answer = answer(&request).unwrap().unwrap();
        assert_eq!(check_answer(&answer[..answer.len() - 1], KEY).unwrap(), None);
        assert_eq!(check_answer(&answer, KEY).unwrap(), Some(answer.len()));
    }

    #[test]
    fn the_request_names_the_room_and_carries_the_token_as_a_sub_protocol() {
        let target = Target::parse("ws://localhost:8080/rooms/a/ws?room=a").unwrap();
        let request =
            String::from_utf8(target.request(KEY, Format::Deflate, Some("x.y.z"), Some("E.7"))).unwrap();
        assert!(
            request.starts_with("GET /rooms/a/ws?room=a&since=E.7 HTTP/1.1\r\nHost: localhost:8080\r\n"),
            "{request}"
        );
        assert!(request.contains("Sec-WebSocket-Protocol: danmu.v1.deflate, token.x.y.z\r\n"), "{request}");
    }

    #[test]
    fn a_refusal_is_known_by_its_status() {
        let busy = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 4\r\nContent-Length: 0\r\n\r\n";
        assert!(matches!(check_answer(busy, KEY), Err(HandshakeError::Busy(4))));
        let answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
        assert!(matches!(check_answer(answer, KEY), Err(HandshakeError::Status(403))));
    }

    #[test]
    fn a_wrong_accept_key_is_no_upgrade() {
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: AAAA\r\n\r\n";
        assert!(matches!(check_answer(answer, KEY), Err(HandshakeError::Accept)));
    }

    #[test]
    fn headers_without_end_are_given_up() {
        let mut endless = b"HTTP/1.1 101 x\r\n".to_vec();
        endless.resize(MAX_HEAD + 100, b'a');
        assert!(check_answer(&endless, KEY).is_err());
    }

    #[test]
    fn who_comes_back_goes_to_another_address_of_the_same_room() {
        let urls =
            ["ws://127.0.0.1:1/rooms/a/ws", "ws://127.0.0.1:2/rooms/a/ws", "ws://127.0.0.1:3/rooms/b/ws"];
        let targets = urls.map(|url| Target::parse(url).unwrap());
        let places = [0, 1, 2].map(|here| Target::elsewhere(&targets, here));
        assert_eq!(places, [1, 0, 2], "the only address of a room is kept");
    }

    #[test]
    fn an_address_that_cannot_be_used_says_what_to_write() {
        assert!(Target::parse("nonsense").unwrap_err().to_string().contains("ws://HOST:PORT"));
        assert!(Target::parse("wss://127.0.0.1:1/x").unwrap_err().to_string().contains("only ws://"));
        assert!(Target::parse("ws://[::1]:80/x").unwrap().address.is_ipv6());
    }
}
