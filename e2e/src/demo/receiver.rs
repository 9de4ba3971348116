//! A third party: an HTTP server that is told of events and asked about messages, and checks who asks.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use ring::hmac;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// What the servers sign with, as Standard Webhooks writes it.
pub(super) const SECRET: &str = "whsec_YSBzZWNyZXQgb2YgdGhlIGRlbW8sIGZvciBhbGwgdG8gc2Vl";

/// A third party, until it is dropped.
pub(super) struct Receiver {
    pub(super) port: u16,
    told: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl Receiver {
    pub(super) async fn start() -> Result<Receiver, String> {
        let told = Arc::new(Mutex::new(Vec::new()));
        let routes = Router::new()
            .route("/events", post(event))
            .route("/judge", post(judge))
            .with_state(Arc::clone(&told));
        // Pods come from another address than this machine's loopback.
        let listener = TcpListener::bind("0.0.0.0:0").await.map_err(|error| error.to_string())?;
        let port = listener.local_addr().map_err(|error| error.to_string())?.port();
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, routes).await;
        });
        Ok(Receiver { port, told, task })
    }

    /// The events of this type so far, of one room.
    pub(super) fn told(&self, kind: &str, room: &str) -> Vec<Value> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().filter(|event| event["type"] == kind && event["data"]["room"] == room).cloned().collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether a request is signed by the servers: HMAC-SHA256 of id, time and body.
fn is_signed(headers: &HeaderMap, body: &[u8]) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let secret = BASE64_STANDARD.decode(SECRET.trim_start_matches("whsec_")).unwrap_or_default();
    let mut signed = format!("{}.{}.", header("webhook-id"), header("webhook-timestamp")).into_bytes();
    signed.extend_from_slice(body);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    header("webhook-signature").split(' ').any(|one| {
        let tag = one.strip_prefix("v1,").and_then(|tag| BASE64_STANDARD.decode(tag).ok());
        tag.is_some_and(|tag| hmac::verify(&key, &signed, &tag).is_ok())
    })
}

async fn event(State(told): State<Arc<Mutex<Vec<Value>>>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if !is_signed(&headers, &body) {
        return StatusCode::UNAUTHORIZED;
    }
    let event = serde_json::from_slice(&body).unwrap_or_default();
    told.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    StatusCode::NO_CONTENT
}

async fn judge(headers: HeaderMap, body: Bytes) -> (StatusCode, Json<Value>) {
    if !is_signed(&headers, &body) {
        return (StatusCode::UNAUTHORIZED, Json(Value::Null));
    }
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = asked["text"].as_str().unwrap_or_default();
    let verdict = if text.contains("coins for sale") {
        json!({"verdict": "refuse", "reason": "no trade here"})
    } else if text.contains("teh") {
        json!({"verdict": "allow", "text": text.replace("teh", "the")})
    } else {
        json!({"verdict": "allow"})
    };
    (StatusCode::OK, Json(verdict))
}
