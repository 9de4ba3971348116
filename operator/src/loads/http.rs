//! The admin API of the servers, asked over HTTP.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{LoadError, Loads, Target};
use crate::seen::Told;

/// A server that takes longer has more to do than to talk.
const DEADLINE: Duration = Duration::from_secs(1);
const UNAUTHORIZED: u16 = StatusCode::UNAUTHORIZED.as_u16();
/// A load of 10,000 rooms has about 1 MiB.
const LARGEST: usize = 8 << 20;

/// The answer to `GET /load`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    viewers: i64,
    capacity: u64,
    #[serde(default)]
    rooms: BTreeMap<String, u64>,
    #[serde(default)]
    shedding: BTreeMap<String, u8>,
    #[serde(default)]
    draining: bool,
    #[serde(default)]
    seconds_left: Option<u64>,
}

/// A fleet's namespace and name.
type FleetKey = (String, String);

/// What each pod last said, and how to ask.
pub(crate) struct HttpLoads {
    client: Client<HttpConnector, Full<Bytes>>,
    port: u16,
    /// By uid; nothing for a pod that was asked in vain.
    told: RwLock<HashMap<String, Option<Arc<Told>>>>,
    /// The newest first, and the one before it: pods know a new token only once they are replaced, and they are
    /// replaced only while their loads are known.
    tokens: RwLock<HashMap<FleetKey, Vec<Arc<str>>>>,
}

impl HttpLoads {
    pub(crate) fn new(port: u16) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(DEADLINE));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(1)
            .build(connector);
        Self { client, port, told: RwLock::default(), tokens: RwLock::default() }
    }

    /// Asks a pod for its load and remembers the answer.
    pub(super) async fn ask(&self, target: &Target, drain_seconds: u32) -> Result<(), LoadError> {
        let answer = self.send(target, Method::GET, "/load", None).await.and_then(|body| {
            serde_json::from_slice(&body).map_err(|error| LoadError::Unreadable(error.to_string()))
        });
        let at = Timestamp::now();
        let mut all = self.told.write().unwrap_or_else(PoisonError::into_inner);
        match answer {
            // It was not asked at all.
            Err(LoadError::NoToken) => Err(LoadError::NoToken),
            Err(error) => {
                all.entry(target.uid.clone()).or_default();
                Err(error)
            }
            Ok(answer) => {
                let last = all.entry(target.uid.clone()).or_default();
                let before = last.as_ref().and_then(|told| told.draining);
                *last = Some(Arc::new(told(answer, before, at, drain_seconds)));
                Ok(())
            }
        }
    }

    /// Forgets pods that are gone.
    pub(super) fn keep(&self, uids: &HashSet<&str>) {
        self.told
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|uid, _| uids.contains(uid.as_str()));
    }

    /// The pod drains or no longer does, from this moment; its next answer will say the same.
    fn mark(&self, uid: &str, draining: Option<Timestamp>) {
        let mut all = self.told.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(Some(told)) = all.get_mut(uid) {
            *told = Arc::new(Told { draining, ..Told::clone(told) });
        }
    }

    async fn send(
        &self,
        target: &Target,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Bytes, LoadError> {
        let key = (target.namespace.clone(), target.fleet.clone());
        let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let exchange = async {
            let mut refused = LoadError::NoToken;
            for token in tokens.unwrap_or_default() {
                refused = match self.exchange(target, &method, path, body.as_deref(), &token).await {
                    Err(error @ LoadError::Refused(UNAUTHORIZED)) => error,
                    done => return done,
                };
            }
            Err(refused)
        };
        tokio::time::timeout(DEADLINE, exchange).await.unwrap_or(Err(LoadError::Late))
    }

    async fn exchange(
        &self,
        target: &Target,
        method: &Method,
        path: &str,
        body: Option<&str>,
        token: &str,
    ) -> Result<Bytes, LoadError> {
        let unreachable = |error: &dyn std::fmt::Display| LoadError::Unreachable(error.to_string());
        let ip: IpAddr = target.ip.parse().map_err(|error| unreachable(&error))?;
        let address = std::net::SocketAddr::new(ip, self.port);
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{address}{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body.unwrap_or_default().to_owned()))
            .map_err(|error| unreachable(&error))?;
        let response = self.client.request(request).await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        if !status.is_success() {
            return Err(LoadError::Refused(status.as_u16()));
        }
        body.map(|body| body.to_bytes()).map_err(|error| LoadError::Unreadable(error.to_string()))
    }
}

/// The answer, with the moment the drain began: as remembered, else from what is left of it.
fn told(answer: Answer, before: Option<Timestamp>, at: Timestamp, drain_seconds: u32) -> Told {
    let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let draining = answer.draining.then(|| {
        before.unwrap_or_else(|| {
            let left = answer.seconds_left.unwrap_or(0).min(u64::from(drain_seconds));
            let gone = (i64::from(drain_seconds) - i64::try_from(left).unwrap_or(0)).max(1);
            at - SignedDuration::from_secs(gone)
        })
    });
    Told {
        at,
        viewers: count(u64::try_from(answer.viewers).unwrap_or(0)),
        capacity: count(answer.capacity),
        rooms: answer.rooms.into_iter().map(|(room, viewers)| (room, count(viewers))).collect(),
        shedding: answer.shedding,
        draining,
    }
}

impl Loads for HttpLoads {
    fn last(&self, uid: &str) -> Option<Arc<Told>> {
        self.told.read().unwrap_or_else(PoisonError::into_inner).get(uid).cloned().flatten()
    }

    fn is_asked(&self, uid: &str) -> bool {
        self.told.read().unwrap_or_else(PoisonError::into_inner).contains_key(uid)
    }

    async fn drain(&self, target: &Target, seconds: u32) -> Result<(), LoadError> {
        // Before the request: an answer of 0 viewers counts only if it came after the drain began.
        let began = Timestamp::now();
        let body = format!("{{\"seconds\":{seconds}}}");
        self.send(target, Method::POST, "/drain", Some(body)).await?;
        self.mark(&target.uid, Some(began));
        Ok(())
    }

    async fn undrain(&self, target: &Target) -> Result<(), LoadError> {
        match self.send(target, Method::DELETE, "/drain", None).await {
            Ok(_) => {}
            // There was none.
            Err(LoadError::Refused(status)) if status == StatusCode::NOT_FOUND.as_u16() => {}
            Err(error) => return Err(error),
        }
        self.mark(&target.uid, None);
        Ok(())
    }

    fn learn_token(&self, namespace: &str, fleet: &str, token: &str) {
        let key = (namespace.to_owned(), fleet.to_owned());
        let mut all = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        let tokens = all.entry(key).or_default();
        if tokens.first().is_none_or(|newest| **newest != *token) {
            tokens.insert(0, token.into());
            tokens.truncate(2);
        }
    }
}

#[cfg(test)]
mod tests;
