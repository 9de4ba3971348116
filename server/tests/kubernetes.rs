//! The real binary beside a Kubernetes API: rooms and placement come from watches, and stay when the API goes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

#[allow(dead_code, unreachable_pub, reason = "shared with other test binaries, which use the rest")]
mod support;

use std::{
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::State, http::Uri, response::Response, routing::get};
use danmu_wire::{Event, Move};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use support::{
    ADMIN_TOKEN, Viewer, admin_of, connect_to,
    process::{Process, danmu_server},
    receiver::{HOOK_SECRET, Receiver},
};
use tokio::{net::TcpListener, sync::broadcast};

/// An API that lists these rooms and tells of their changes.
#[derive(Clone)]
struct Api {
    rooms: Arc<Mutex<Vec<Value>>>,
    fleets: Arc<Mutex<Vec<Value>>>,
    changes: broadcast::Sender<Option<String>>,
    gone: Arc<AtomicBool>,
    /// What was asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Api {
    /// It, and the folder of its kubeconfig.
    async fn start(rooms: Vec<Value>) -> (Api, tempfile::TempDir) {
        let (rooms, asked) = (Arc::new(Mutex::new(rooms)), Arc::default());
        let (changes, fleets) = (broadcast::channel(16).0, Arc::default());
        let api = Api { rooms, fleets, changes, gone: Arc::default(), asked };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(get(answer)).with_state(api.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let folder = tempfile::tempdir().unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{address}")}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "users": [{"name": "test", "user": {"token": "none"}}],
        });
        std::fs::write(folder.path().join("config"), config.to_string()).unwrap();
        (api, folder)
    }

    fn change(&self, room: &Value) {
        self.tell("MODIFIED", room);
    }

    fn tell(&self, kind: &str, room: &Value) {
        let event = json!({"type": kind, "object": room});
        self.changes.send(Some(format!("{event}\n"))).unwrap();
    }

    /// Ends the watches, and refuses everything.
    fn go(&self) {
        self.gone.store(true, Ordering::Release);
        self.changes.send(None).unwrap();
    }
}

async fn answer(State(api): State<Api>, uri: Uri) -> Response<Body> {
    let query = uri.query().unwrap_or_default();
    api.asked.lock().unwrap().push(uri.to_string());
    if api.gone.load(Ordering::Acquire) {
        return Response::builder().status(503).body(Body::empty()).unwrap();
    }
    let rooms = uri.path().ends_with("/danmurooms");
    if query.contains("watch=true") {
        let changes = stream::unfold(api.changes.subscribe(), |mut changes| async move {
            let change = changes.recv().await.ok()??;
            Some((Ok::<_, std::convert::Infallible>(change), changes))
        });
        // The other kind's watch is open as well, and silent.
        let changes = if rooms { changes.boxed() } else { stream::pending().boxed() };
        return Response::new(Body::from_stream(changes));
    }
    let items = match uri.path().rsplit('/').next() {
        Some("danmurooms") => api.rooms.lock().unwrap().clone(),
        Some("danmufleets") => api.fleets.lock().unwrap().clone(),
        _ => Vec::new(),
    };
    let list =
        json!({"apiVersion": "danmu.live/v1alpha1", "metadata": {"resourceVersion": "1"}, "items": items});
    Response::new(Body::from(list.to_string()))
}

fn room(name: &str, placed_on: &[&str], reason: &str) -> Value {
    let placement: Vec<Value> = placed_on.iter().map(|pod| json!({"pod": pod, "viewers": 10})).collect();
    json!({
        "apiVersion": "danmu.live/v1alpha1", "kind": "DanmuRoom", "spec": {"fleet": "default"},
        "metadata": {"name": name, "namespace": "live", "resourceVersion": "2"},
        "status": {
            "url": format!("wss://danmu.example.com/rooms/{name}/ws?room={name}"), "placement": placement,
            "conditions": [{"type": "Routed", "status": "True", "reason": reason, "message": "",
                "lastTransitionTime": "2026-11-01T18:00:00Z"}],
        },
    })
}

/// A pod.
struct Pod(Process);

impl Pod {
    /// One that has served for so long that it asks viewers to move.
    async fn start(folder: &tempfile::TempDir) -> Pod {
        let pod = Pod::fresh(folder).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        pod
    }

    async fn fresh(folder: &tempfile::TempDir) -> Pod {
        let mut command = danmu_server();
        command.args(["--kubernetes", "--fleet=live/default", "--pod=danmu-default-0", "--workers=1"]);
        command.args(["--admin-token", ADMIN_TOKEN]).env("KUBECONFIG", folder.path().join("config"));
        command.env("DANMU_HOOK_SECRET", HOOK_SECRET);
        let pod = Pod(Process::start(command.stderr(Stdio::null())));
        support::pod::eventually("the rooms are listed", async || pod.get("/readyz").await == 200).await;
        pod
    }

    async fn get(&self, path: &str) -> u16 {
        admin_of(self.0.admin, ADMIN_TOKEN, "GET", path, "").await.0
    }

    /// A viewer who has joined, and what else it was told at once.
    async fn join(&self, path: &str) -> (Viewer, Option<Move>) {
        let mut viewer = connect_to(self.0.public, path, &[]).await.unwrap();
        assert!(matches!(viewer.event().await, Event::Joined(_)));
        // Whatever there is to tell is told with `joined`, so before the answer to this.
        viewer.send(r#"{"op":"ping"}"#).await;
        match viewer.event().await {
            Event::Move(hint) => (viewer, Some(hint)),
            Event::Pong => (viewer, None),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_viewer_of_a_room_placed_elsewhere_is_served_and_asked_once_to_move() {
    let rooms = vec![
        room("away", &["danmu-default-1"], "Accepted"),
        room("here", &["danmu-default-0", "danmu-default-1"], "Accepted"),
        room("unrouted", &["danmu-default-1"], "SharedRoute"),
        room("cold", &[], "SharedRoute"),
    ];
    let (_api, folder) = Api::start(rooms).await;
    let pod = Pod::start(&folder).await;
    let (mut viewer, hint) = pod.join("/rooms/away/ws?room=away").await;
    let url = hint.expect("a hint").url.unwrap();
    assert_eq!(url, "wss://danmu.example.com/rooms/away/ws?room=away&moved=1");
    assert!(matches!(viewer.event().await, Event::Pong), "it is served all the same");
    let path = url.strip_prefix("wss://danmu.example.com").unwrap();
    assert_eq!(pod.join(path).await.1, None, "whoever was moved here stays, or it would go in circles");
    for other in ["here", "unrouted", "cold"] {
        assert_eq!(pod.join(&format!("/rooms/{other}/ws")).await.1, None, "{other}");
    }
}

#[tokio::test]
async fn a_pod_that_has_just_started_asks_nobody() {
    let (_api, folder) = Api::start(vec![room("away", &["danmu-default-1"], "Accepted")]).await;
    let pod = Pod::fresh(&folder).await;
    assert_eq!(pod.join("/rooms/away/ws").await.1, None);
}

#[tokio::test]
async fn a_viewer_who_comes_by_the_lobby_is_asked_when_it_joins_and_never_again() {
    let rooms = vec![room("away", &["danmu-default-1"], "Accepted"), room("cold", &[], "SharedRoute")];
    let (_api, folder) = Api::start(rooms).await;
    let pod = Pod::start(&folder).await;
    let (mut viewer, hint) = pod.join("/ws").await;
    assert_eq!(hint, None);
    for hinted in [true, false] {
        viewer.send(r#"{"op":"join","room":"away"}"#).await;
        assert!(matches!(viewer.event().await, Event::Joined(_)));
        viewer.send(r#"{"op":"ping"}"#).await;
        if hinted {
            assert!(matches!(viewer.event().await, Event::Move(_)));
        }
        assert!(matches!(viewer.event().await, Event::Pong));
    }
}

#[tokio::test]
async fn a_crowd_that_comes_at_once_is_not_sent_away_at_once() {
    let (_api, folder) = Api::start(vec![room("away", &["danmu-default-1"], "Accepted")]).await;
    let pod = Pod::start(&folder).await;
    let mut viewers = Vec::new();
    let began = std::time::Instant::now();
    for _ in 0..200 {
        viewers.push(pod.join("/rooms/away/ws").await);
    }
    let most = 50 + 50 * (began.elapsed().as_secs() as usize + 1);
    let asked = viewers.iter().filter(|(_, hint)| hint.is_some()).count();
    assert!((50..=most).contains(&asked), "{asked} of 200, at most {most}");
}

#[tokio::test]
async fn placement_is_followed_and_the_rooms_stay_when_the_api_goes() {
    let (api, folder) = Api::start(vec![room("moves", &["danmu-default-0"], "Accepted")]).await;
    let pod = Pod::start(&folder).await;
    assert_eq!(pod.join("/rooms/moves/ws").await.1, None);
    support::pod::eventually("it watches", async || {
        api.asked
            .lock()
            .unwrap()
            .iter()
            .any(|asked| asked.contains("danmurooms?") && asked.contains("watch=true"))
    })
    .await;
    assert!(
        api.asked.lock().unwrap().iter().any(|asked| asked.contains("fieldSelector=spec.fleet%3Ddefault"))
    );
    api.change(&room("moves", &["danmu-default-1"], "Accepted"));
    support::pod::eventually("it is hinted", async || pod.join("/rooms/moves/ws").await.1.is_some()).await;
    let before = api.asked.lock().unwrap().len();
    api.go();
    support::pod::eventually("it asks in vain", async || api.asked.lock().unwrap().len() > before).await;
    assert_eq!(pod.get("/readyz").await, 200);
    assert!(pod.join("/rooms/moves/ws").await.1.is_some());
}

#[tokio::test]
async fn hooks_and_quotas_are_those_of_the_fleet_in_the_api() {
    let receiver = Receiver::start().await;
    let (api, folder) = Api::start(vec![room("ends", &[], "Accepted")]).await;
    api.fleets.lock().unwrap().push(json!({
        "apiVersion": "danmu.live/v1alpha1", "kind": "DanmuFleet",
        "metadata": {"name": "default", "namespace": "live", "resourceVersion": "2"},
        "spec": {
            "server": {"publishers": {"messagesPerSecond": 1}},
            "hooks": {"webhooks": [{"name": "a", "url": receiver.url(), "events": ["RoomEnded"]}]},
        },
    }));
    let pod = Pod::fresh(&folder).await;
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let body = r#"{"kind":"notice","text":"hello"}"#;
        statuses.push(admin_of(pod.0.admin, ADMIN_TOKEN, "POST", "/rooms/ends/publish", body).await.0);
    }
    assert_eq!(statuses, [200, 429]);
    support::pod::eventually("it watches", async || {
        let asked = api.asked.lock().unwrap();
        asked.iter().any(|asked| asked.contains("danmurooms?") && asked.contains("watch=true"))
    })
    .await;
    api.tell("DELETED", &room("ends", &[], "Accepted"));
    let told = receiver.gets(1).await.remove(0).body;
    let data = json!({"fleet": "live/default", "room": "ends", "reason": "removed"});
    assert_eq!((&told["type"], &told["data"]), (&json!("room.ended"), &data));
}
