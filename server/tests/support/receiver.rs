//! A third party's HTTP server: it takes signed requests, keeps them, and answers as the test has it.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use danmu_server::{
    edge::session::unix_now,
    hooks::{Breaker, Retry, Secret, Settings},
};
use serde_json::Value;

pub(crate) const HOOK_SECRET: &str = "a secret for hooks of tests";

/// A request whose signature was good.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub headers: HeaderMap,
    pub bytes: Bytes,
    pub body: Value,
    pub at: Instant,
}

impl Taken {
    pub(crate) fn id(&self) -> String {
        self.headers["webhook-id"].to_str().unwrap().to_owned()
    }
}

/// What the receiver answers.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Status(u16),
    Json(String),
    /// It never answers.
    Hang,
}

type Replies = Arc<dyn Fn(&Taken) -> Reply + Send + Sync>;

#[derive(Clone)]
struct Shared {
    taken: Arc<Mutex<Vec<Taken>>>,
    script: Arc<Mutex<VecDeque<Reply>>>,
    then: Arc<Mutex<Replies>>,
}

pub(crate) struct Receiver {
    pub address: SocketAddr,
    shared: Shared,
}

impl Receiver {
    /// Answers 200 for now.
    pub(crate) async fn start() -> Receiver {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let then: Replies = Arc::new(|_| Reply::Status(200));
        let shared =
            Shared { taken: Arc::default(), script: Arc::default(), then: Arc::new(Mutex::new(then)) };
        let router = Router::new().fallback(take).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Receiver { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/danmu", self.address)
    }

    /// Answers these first.
    pub(crate) fn first(&self, replies: impl IntoIterator<Item = Reply>) {
        self.shared.script.lock().unwrap().extend(replies);
    }

    /// Answers so from now on.
    pub(crate) fn then(&self, reply: impl Fn(&Taken) -> Reply + Send + Sync + 'static) {
        *self.shared.then.lock().unwrap() = Arc::new(reply);
    }

    /// What came so far.
    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.shared.taken.lock().unwrap().clone()
    }

    /// Waits for so many requests, and that no more follow at once.
    pub(crate) async fn gets(&self, requests: usize) -> Vec<Taken> {
        let wanted = format!("{requests} requests come");
        super::pod::eventually(&wanted, async || self.taken().len() >= requests).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let taken = self.taken();
        assert_eq!(taken.len(), requests, "{taken:?}");
        taken
    }
}

async fn take(State(shared): State<Shared>, headers: HeaderMap, bytes: Bytes) -> Response {
    let secret = Secret::parse(HOOK_SECRET).unwrap();
    if let Err(forged) = secret.verify(&headers, &bytes, unix_now()) {
        return (StatusCode::FORBIDDEN, forged.to_string()).into_response();
    }
    let body = serde_json::from_slice(&bytes).unwrap();
    let taken = Taken { headers, bytes, body, at: Instant::now() };
    shared.taken.lock().unwrap().push(taken.clone());
    let scripted = shared.script.lock().unwrap().pop_front();
    let then = Arc::clone(&shared.then.lock().unwrap());
    match scripted.unwrap_or_else(|| then(&taken)) {
        // Where a redirect leads there is an answer: whoever follows it is found.
        Reply::Status(status) => {
            (StatusCode::from_u16(status).unwrap(), [(header::LOCATION, "/elsewhere")]).into_response()
        }
        Reply::Json(json) => json.into_response(),
        Reply::Hang => std::future::pending().await,
    }
}

/// Settings with pauses that a test can wait for.
pub(crate) fn settings() -> Settings {
    let retry = Retry {
        deadline: Duration::from_millis(500),
        first: Duration::from_millis(20),
        tries: 4,
        oldest: Duration::from_secs(60),
    };
    let breaker = Breaker { failures: 3, pause: Duration::from_millis(400) };
    Settings { secret: Some(Secret::parse(HOOK_SECRET).unwrap()), retry, breaker }
}
