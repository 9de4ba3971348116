//! Publishing to rooms.

use bytes::Bytes;
use hyper::Method;
use serde::{Deserialize, Serialize};

use crate::{
    http::{Again, Fault, Http, Retries},
    options::BadAddress,
};

/// What is published. The bounds are the server's: it answers with [`Fault::Refused`] what is out of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Publish {
    /// Somebody said something elsewhere; live, at most once.
    Chat {
        /// Plain text.
        text: String,
        /// Their id.
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        /// The name to show.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// Somebody gave something.
    Gift {
        /// What, a word of the platform's own.
        gift: String,
        /// How many.
        count: u32,
        /// The giver's id.
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        /// The giver's name.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Words that go with it.
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    /// The stream or the platform says something.
    Notice {
        /// Plain text.
        text: String,
    },
    /// Somebody paid to have it said: it is pinned.
    Super {
        /// Plain text.
        text: String,
        /// Their id.
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        /// The name to show.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// What was paid, as it is to be shown.
        #[serde(skip_serializing_if = "Option::is_none")]
        price: Option<String>,
        /// How long it is pinned; none is the server's choice.
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds: Option<u32>,
    },
    /// Somebody came in; live, at most once.
    Enter {
        /// Their id.
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        /// The name to show.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// Something of the platform's own.
    Custom {
        /// The platform's word for it.
        custom: String,
        /// Whose it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        /// Any JSON, passed through.
        data: serde_json::Value,
    },
}

impl Publish {
    /// A notice.
    pub fn notice(text: impl Into<String>) -> Publish {
        Publish::Notice { text: text.into() }
    }

    /// A chat without a user.
    pub fn chat(text: impl Into<String>) -> Publish {
        Publish::Chat { text: text.into(), user: None, name: None }
    }

    /// A gift of nobody in particular.
    pub fn gift(gift: impl Into<String>, count: u32) -> Publish {
        Publish::Gift { gift: gift.into(), count, user: None, name: None, text: None }
    }

    /// Whether a key makes a second publish count once: on the priority lane.
    fn is_counted(&self) -> bool {
        !matches!(self, Publish::Chat { .. } | Publish::Enter { .. })
    }
}

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Published {
    /// The message's id; empty for `enter`, which has none.
    pub id: String,
    /// The priority lane's epoch; none for chat.
    #[serde(default)]
    pub epoch: Option<String>,
    /// Its place in the priority lane; 0 for chat.
    pub offset: u64,
}

/// Publishes and moderates by the admin API.
///
/// A request is tried again with full jitter while servers are busy or away ([`Retries`] bounds it), always
/// under the same key. What cannot have a key (chat) is sent again only when the server said that it did not
/// take it.
#[derive(Clone, Debug)]
pub struct Publisher {
    pub(crate) http: Http,
}

impl Publisher {
    /// `address` is that of the admin API (`http://danmu-default-admin:9090`); `token` is the admin token, or a
    /// viewer's token of role `publisher`, which may only publish.
    ///
    /// # Errors
    /// [`BadAddress`] for what is none, or a token that no header can carry.
    pub fn new(address: &str, token: &str) -> Result<Publisher, BadAddress> {
        Ok(Publisher { http: Http::new(address, token)? })
    }

    /// Other bounds for tries.
    #[must_use]
    pub fn retries(mut self, retries: Retries) -> Publisher {
        self.http.retries = retries;
        self
    }

    /// Publishes under a key of its own.
    ///
    /// # Errors
    /// [`Fault`]: why it was not published.
    pub async fn publish(&self, room: &str, message: &Publish) -> Result<Published, Fault> {
        self.publish_once(room, message, &ulid::Ulid::generate().to_string()).await
    }

    /// Publishes under the caller's key (1 to 128 visible ASCII characters): for an hour a second publish of the
    /// same message under it counts once, also from another process. Chats and `enter` have no key.
    ///
    /// # Errors
    /// [`Fault`]: why it was not published.
    pub async fn publish_once(&self, room: &str, message: &Publish, key: &str) -> Result<Published, Fault> {
        let again = if message.is_counted() { Again::Always } else { Again::IfRefused };
        let key = message.is_counted().then_some(key);
        self.http.json(Method::POST, &path(room, "/publish")?, Some(body(message)?), key, again).await
    }
}

/// The path of a room. What is no room cannot change the path.
pub(crate) fn path(room: &str, rest: &str) -> Result<String, Fault> {
    if danmu_wire::is_room_id(room) {
        return Ok(format!("/rooms/{room}{rest}"));
    }
    Err(Fault::NotFound(format!("{room:?} cannot be a room: 1 to 63 of a-z, 0-9 and -")))
}

pub(crate) fn body(value: &impl Serialize) -> Result<Bytes, Fault> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| Fault::Refused { status: 400, words: error.to_string() })
}
