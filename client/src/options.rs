//! Where a viewer goes, and as whom.

use std::{fmt, sync::Arc};

use danmu_wire::Position;
use url::Url;

/// An address nobody can connect to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address:?}: {why}; write for example {example}")]
pub struct BadAddress {
    pub(crate) address: String,
    pub(crate) why: String,
    pub(crate) example: &'static str,
}

/// As whom a viewer watches.
#[derive(Clone, Default)]
pub enum Token {
    /// Anonymously.
    #[default]
    None,
    /// With this token; when it has expired, the viewer ends.
    Fixed(String),
    /// Asked before each connection: a fresh one each time it is needed. It must not block.
    Fresh(Arc<dyn Fn() -> String + Send + Sync>),
}

impl Token {
    pub(crate) fn get(&self) -> Option<String> {
        match self {
            Token::None => None,
            Token::Fixed(token) => Some(token.clone()),
            Token::Fresh(fresh) => Some(fresh()),
        }
    }
}

/// Tokens do not belong into logs.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Token::None => "None",
            Token::Fixed(_) => "Fixed(…)",
            Token::Fresh(_) => "Fresh(…)",
        })
    }
}

/// Which room to watch, where, as whom, and from which position on.
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) address: Url,
    pub(crate) room: String,
    pub(crate) token: Token,
    pub(crate) since: Option<Position>,
    pub(crate) sub: Option<u32>,
}

impl Options {
    /// `server` is the address of the servers (`https://danmu.example`), or the room's own WebSocket address
    /// (as in the room's `status.url`).
    ///
    /// # Errors
    /// [`BadAddress`] for anything that is no address, and for a room that cannot be one.
    pub fn new(server: &str, room: &str) -> Result<Options, BadAddress> {
        let bad =
            |why: String| BadAddress { address: server.to_owned(), why, example: "https://danmu.example" };
        if !danmu_wire::is_room_id(room) {
            return Err(bad(format!("{room:?} cannot be a room: 1 to 63 of a-z, 0-9 and -")));
        }
        let mut address = Url::parse(server).map_err(|error| bad(error.to_string()))?;
        let scheme = match address.scheme() {
            "http" | "ws" => "ws",
            "https" | "wss" => "wss",
            other => return Err(bad(format!("{other} is no way to a room"))),
        };
        if address.host_str().is_none() || address.set_scheme(scheme).is_err() {
            return Err(bad("there is no host in it".to_owned()));
        }
        if matches!(address.path(), "" | "/") {
            address.set_path(&format!("/rooms/{room}/ws"));
        }
        address.set_fragment(None);
        Ok(Options { address, room: room.to_owned(), token: Token::None, since: None, sub: None })
    }

    /// As whom.
    #[must_use]
    pub fn token(self, token: Token) -> Options {
        Options { token, ..self }
    }

    /// From where on the priority lane, as a viewer before this one left it ([`crate::Viewer::position`]).
    #[must_use]
    pub fn since(self, since: Option<Position>) -> Options {
        Options { since, ..self }
    }

    /// Which part of a divided room, as `joined` told it.
    #[must_use]
    pub fn sub_room(self, sub: Option<u32>) -> Options {
        Options { sub, ..self }
    }

    /// Where to connect to: the usual address, or where the server says. A server's word that cannot be read
    /// counts as none, and leads never from TLS to plain: the token travels in the handshake.
    pub(crate) fn target(&self, to: Option<&str>, since: Option<&Position>, sub: Option<u32>) -> Url {
        let asked = to.and_then(|to| self.address.join(to).ok()).filter(|url| url.host_str().is_some());
        let mut url = asked.unwrap_or_else(|| self.address.clone());
        let tls = self.address.scheme() == "wss" || matches!(url.scheme(), "wss" | "https");
        if url.set_scheme(if tls { "wss" } else { "ws" }).is_err() {
            url = self.address.clone();
        }
        url.set_fragment(None);
        let is_ours = |name: &str| matches!(name, "room" | "since" | "sub");
        let kept: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(name, _)| !is_ours(name))
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        let mut query = url.query_pairs_mut();
        query.clear().extend_pairs(kept).append_pair("room", &self.room);
        if let Some(since) = since {
            query.append_pair("since", &since.to_string());
        }
        if let Some(sub) = sub {
            query.append_pair("sub", &sub.to_string());
        }
        drop(query);
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_completed_and_a_rooms_own_is_kept() {
        let target =
            |server: &str| Options::new(server, "finals").unwrap().target(None, None, None).to_string();
        assert_eq!(target("https://d.example"), "wss://d.example/rooms/finals/ws?room=finals");
        assert_eq!(target("http://[::1]:8080/"), "ws://[::1]:8080/rooms/finals/ws?room=finals");
        assert_eq!(target("ws://d.example/live/x?a=b&room=y#z"), "ws://d.example/live/x?a=b&room=finals");
    }

    #[test]
    fn position_and_part_go_along_and_a_move_leads_where_the_server_says() {
        let options = Options::new("https://d.example", "finals").unwrap();
        let since: Position = "E.7".parse().unwrap();
        let told = options.target(Some("wss://e.example/rooms/finals/ws?moved=1"), Some(&since), Some(3));
        assert_eq!(told.as_str(), "wss://e.example/rooms/finals/ws?moved=1&room=finals&since=E.7&sub=3");
        let own = options.target(Some("?moved=1"), None, None);
        assert_eq!(own.as_str(), "wss://d.example/rooms/finals/ws?moved=1&room=finals");
    }

    #[test]
    fn a_token_never_goes_from_tls_to_plain_and_nonsense_leads_home() {
        let options = Options::new("https://d.example", "finals").unwrap();
        for (told, host) in [
            ("ws://e.example/x", "wss://e.example/x?room=finals"),
            ("http://e.example/x", "wss://e.example/x?room=finals"),
            ("javascript:alert(1)", "wss://d.example/rooms/finals/ws?room=finals"),
            ("mailto:a@b", "wss://d.example/rooms/finals/ws?room=finals"),
            ("//[", "wss://d.example/rooms/finals/ws?room=finals"),
        ] {
            assert_eq!(options.target(Some(told), None, None).as_str(), host, "{told}");
        }
    }

    #[test]
    fn what_cannot_be_an_address_is_refused_in_words() {
        for (server, room, words) in [
            ("danmu.example", "finals", "relative URL without a base"),
            ("ftp://d.example", "finals", "ftp is no way to a room"),
            ("https://d.example", "Finals!", "cannot be a room"),
        ] {
            let told = Options::new(server, room).unwrap_err().to_string();
            assert!(told.contains(words), "{told}");
        }
    }

    #[test]
    fn a_token_is_not_printed() {
        let options = Options::new("https://d.example", "a").unwrap().token(Token::Fixed("secret".into()));
        assert!(!format!("{options:?}").contains("secret"));
    }
}
