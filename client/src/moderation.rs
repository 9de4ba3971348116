//! Moderation by the admin API. Sent again only when the server said that nothing was done.

use std::net::IpAddr;

use bytes::Bytes;
use danmu_wire::Role;
use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    http::{Again, Fault},
    publisher::{Publisher, body, path},
};

/// A message that waits for a moderator.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Held {
    /// Its id.
    pub id: String,
    /// When it was said, RFC 3339.
    pub at: String,
    /// Who said it; none without a token.
    #[serde(default)]
    pub user: Option<String>,
    /// The name shown.
    #[serde(default)]
    pub name: Option<String>,
    /// As it would be shown.
    pub text: String,
}

/// A text on trial.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Trial {
    /// As a viewer would send it.
    pub text: String,
    /// Whose mutes and bans count; none: nobody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// As what; none is a speaker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// From where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
}

/// What would become of a text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Outcome {
    /// The code it would be refused with.
    pub refused: Option<String>,
    /// The same in words.
    pub why: Option<String>,
    /// What would be shown.
    pub text: String,
    /// A moderator would have to look at it first.
    pub held: bool,
    /// Only its sender would see it.
    pub shadowed: bool,
    /// The words it has of the room's lists.
    pub words: Vec<Word>,
}

/// A word that was found.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Word {
    /// `block`, `mask` or `hold`.
    pub list: String,
    /// As it is in the list.
    pub word: String,
}

impl Publisher {
    /// Lets a user watch but not write; without `seconds`: until taken back.
    ///
    /// # Errors
    /// [`Fault`]: why it was not done.
    pub async fn mute(&self, room: &str, user: &str, seconds: Option<u64>) -> Result<(), Fault> {
        self.change(Method::POST, room, "/mutes", whom("user", user, seconds)).await
    }

    /// Takes a mute back.
    ///
    /// # Errors
    /// [`Fault::NotFound`] if there was none; else why it was not done.
    pub async fn unmute(&self, room: &str, user: &str) -> Result<(), Fault> {
        self.change(Method::DELETE, room, "/mutes", whom("user", user, None)).await
    }

    /// Keeps a user out, and closes their connections.
    ///
    /// # Errors
    /// [`Fault`]: why it was not done.
    pub async fn ban(&self, room: &str, user: &str, seconds: Option<u64>) -> Result<(), Fault> {
        self.change(Method::POST, room, "/bans", whom("user", user, seconds)).await
    }

    /// Keeps a network (CIDR, or an address) out.
    ///
    /// # Errors
    /// [`Fault`]: why it was not done.
    pub async fn ban_network(&self, room: &str, network: &str, seconds: Option<u64>) -> Result<(), Fault> {
        self.change(Method::POST, room, "/bans", whom("network", network, seconds)).await
    }

    /// Takes a user's ban back.
    ///
    /// # Errors
    /// [`Fault::NotFound`] if there was none; else why it was not done.
    pub async fn unban(&self, room: &str, user: &str) -> Result<(), Fault> {
        self.change(Method::DELETE, room, "/bans", whom("user", user, None)).await
    }

    /// Takes messages off the screens.
    ///
    /// # Errors
    /// [`Fault`]: why it was not done.
    pub async fn remove(&self, room: &str, ids: &[String]) -> Result<(), Fault> {
        self.change(Method::POST, room, "/remove", json!({"ids": ids})).await
    }

    /// Takes everything that a user said off the screens.
    ///
    /// # Errors
    /// [`Fault`]: why it was not done.
    pub async fn remove_user(&self, room: &str, user: &str) -> Result<(), Fault> {
        self.change(Method::POST, room, "/remove", whom("user", user, None)).await
    }

    /// The messages that wait for a moderator, oldest first.
    ///
    /// # Errors
    /// [`Fault`]: why they cannot be told.
    pub async fn held(&self, room: &str) -> Result<Vec<Held>, Fault> {
        self.http.json(Method::GET, &path(room, "/held")?, None, None, Again::Always).await
    }

    /// Shows a held message, or turns it away.
    ///
    /// # Errors
    /// [`Fault::NotFound`] if somebody else was faster; else why it was not done.
    pub async fn decide(&self, room: &str, id: &str, show: bool) -> Result<(), Fault> {
        self.change(Method::POST, room, "/held", json!({"id": id, "show": show})).await
    }

    /// Who did what: the last 1,000 actions, oldest first, as the server logs them.
    ///
    /// # Errors
    /// [`Fault`]: why it cannot be told.
    pub async fn log(&self, room: &str) -> Result<Vec<Value>, Fault> {
        let lines = self.http.ask(Method::GET, &path(room, "/log")?, None, None, Again::Always).await?;
        let lines = serde_json::Deserializer::from_slice(&lines).into_iter();
        lines.collect::<Result<_, _>>().map_err(|error| Fault::Unreadable(error.to_string()))
    }

    /// Says what would become of a text; nothing is published.
    ///
    /// # Errors
    /// [`Fault`]: why it cannot be told.
    pub async fn dry_run(&self, room: &str, trial: &Trial) -> Result<Outcome, Fault> {
        let asked = Some(body(trial)?);
        self.http.json(Method::POST, &path(room, "/dry-run")?, asked, None, Again::Always).await
    }

    async fn change(&self, method: Method, room: &str, rest: &str, what: Value) -> Result<(), Fault> {
        let body = Some(Bytes::from(what.to_string()));
        self.http.ask(method, &path(room, rest)?, body, None, Again::IfRefused).await.map(drop)
    }
}

fn whom(field: &str, whom: &str, seconds: Option<u64>) -> Value {
    match seconds {
        Some(seconds) => json!({field: whom, "seconds": seconds}),
        None => json!({field: whom}),
    }
}
