//! What one server carries, and its drain.

use std::collections::BTreeMap;

use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;

use crate::{
    http::{Again, Fault},
    publisher::Publisher,
};

/// What a server carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// Open viewer connections.
    pub viewers: i64,
    /// Viewers it is to hold.
    pub capacity: u64,
    /// Viewers by room, rooms without viewers left out.
    pub rooms: BTreeMap<String, u64>,
    /// Rooms that shed load, with how far.
    #[serde(default)]
    pub shedding: BTreeMap<String, u8>,
    /// Whether a drain is on.
    pub draining: bool,
    /// Seconds until its deadline.
    pub seconds_left: Option<u64>,
}

impl Publisher {
    /// What the server behind this address carries: of a Service that is any of its pods.
    ///
    /// # Errors
    /// [`Fault`]: why it cannot be told.
    pub async fn load(&self) -> Result<Load, Fault> {
        self.http.json(Method::GET, "/load", None, None, Again::Always).await
    }

    /// The server's metrics, as OpenMetrics; needs no token where it has none for them.
    ///
    /// # Errors
    /// [`Fault`]: why they cannot be told.
    pub async fn metrics(&self) -> Result<String, Fault> {
        let text = self.http.ask(Method::GET, "/metrics", None, None, Again::Always).await?;
        String::from_utf8(text.into()).map_err(|error| Fault::Unreadable(error.to_string()))
    }

    /// Starts a drain, or finds one on; answers the seconds until its deadline. Without `seconds`: as the server
    /// is set.
    ///
    /// # Errors
    /// [`Fault`]: why it does not drain.
    pub async fn drain(&self, seconds: Option<u64>) -> Result<u64, Fault> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Draining {
            seconds_left: u64,
        }
        let body = seconds.map(|seconds| Bytes::from(format!("{{\"seconds\":{seconds}}}")));
        let draining: Draining = self.http.json(Method::POST, "/drain", body, None, Again::Always).await?;
        Ok(draining.seconds_left)
    }

    /// Takes a drain back.
    ///
    /// # Errors
    /// [`Fault::NotFound`] if there was none; else why it was not done.
    pub async fn undrain(&self) -> Result<(), Fault> {
        self.http.ask(Method::DELETE, "/drain", None, None, Again::IfRefused).await.map(drop)
    }
}
