use std::sync::Mutex;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode as Code},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;

/// A server as `danmu-server` answers; what it says can be changed.
#[derive(Clone)]
struct Server {
    load: Arc<Mutex<Value>>,
    drains: Arc<Mutex<Vec<Value>>>,
}

impl Server {
    async fn start(load: Value) -> (Self, HttpLoads) {
        let server = Self { load: Arc::new(Mutex::new(load)), drains: Arc::default() };
        let router = Router::new()
            .route(
                "/load",
                get(async |State(server): State<Self>, headers: HeaderMap| {
                    if headers.get("authorization").is_none_or(|token| token != "Bearer token") {
                        return Err(Code::UNAUTHORIZED);
                    }
                    let load = server.load.lock().unwrap().clone();
                    if load["late"] == true {
                        tokio::time::sleep(DEADLINE * 2).await;
                    }
                    Ok(Json(load))
                }),
            )
            .route(
                "/drain",
                post(async |State(server): State<Self>, Json(body): Json<Value>| {
                    server.drains.lock().unwrap().push(body);
                    (Code::ACCEPTED, Json(json!({"secondsLeft": 60})))
                })
                .delete(async || (Code::NOT_FOUND, "there was none")),
            )
            .with_state(server.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let loads = HttpLoads::new(port);
        loads.learn_token("live", "default", "token");
        (server, loads)
    }
}

fn target() -> Target {
    let text = str::to_owned;
    Target {
        namespace: text("live"),
        fleet: text("default"),
        pod: text("danmu-default-0"),
        uid: text("uid"),
        ip: text("127.0.0.1"),
    }
}

fn load() -> Value {
    json!({"viewers": 7, "capacity": 15000, "rooms": {"finals": 5}, "draining": false, "secondsLeft": null})
}

#[tokio::test]
async fn a_server_is_asked_with_its_fleets_token_and_its_answer_kept() {
    let (server, loads) = Server::start(load()).await;
    assert_eq!(loads.last("uid"), None);
    loads.ask(&target(), 60).await.unwrap();
    let told = loads.last("uid").unwrap();
    assert_eq!((told.viewers, told.capacity, told.rooms["finals"], told.draining), (7, 15_000, 5, None));
    assert!(told.shedding.is_empty());
    *server.load.lock().unwrap() = json!({"viewers": 7, "capacity": 9, "shedding": {"finals": 2}});
    loads.ask(&target(), 60).await.unwrap();
    assert_eq!(loads.last("uid").unwrap().shedding, [("finals".to_owned(), 2)].into());
    loads.learn_token("live", "default", "new");
    assert_eq!(loads.ask(&target(), 60).await, Ok(()), "a pod that still has the token before");
    let told = loads.last("uid").unwrap();
    loads.learn_token("live", "default", "newer");
    assert_eq!(loads.ask(&target(), 60).await, Err(LoadError::Refused(401)));
    assert_eq!(loads.last("uid"), Some(told), "the last answer stays, with its age");
    let stranger = Target { fleet: "other".to_owned(), ..target() };
    assert_eq!(loads.ask(&stranger, 60).await, Err(LoadError::NoToken));
}

#[tokio::test]
async fn a_drain_counts_from_when_it_was_told_and_zero_viewers_only_after_it() {
    let (server, loads) = Server::start(load()).await;
    loads.ask(&target(), 60).await.unwrap();
    loads.drain(&target(), 90).await.unwrap();
    assert_eq!(*server.drains.lock().unwrap(), [json!({"seconds": 90})]);
    let began = loads.last("uid").unwrap().draining.unwrap();
    assert!(loads.last("uid").unwrap().at < began, "the old answer says nothing of the drain");
    *server.load.lock().unwrap() = json!({"viewers": 0, "capacity": 1, "draining": true, "secondsLeft": 88});
    loads.ask(&target(), 90).await.unwrap();
    let told = loads.last("uid").unwrap();
    assert_eq!((told.draining, told.viewers), (Some(began), 0));
    assert!(told.at > began);
    loads.undrain(&target()).await.unwrap();
    assert_eq!(loads.last("uid").unwrap().draining, None, "also where there was none");
}

#[tokio::test]
async fn a_new_operator_learns_when_a_drain_began_from_what_is_left_of_it() {
    let (_server, loads) =
        Server::start(json!({"viewers": 0, "capacity": 1, "draining": true, "secondsLeft": 20})).await;
    loads.ask(&target(), 60).await.unwrap();
    let told = loads.last("uid").unwrap();
    assert_eq!(told.at.duration_since(told.draining.unwrap()).as_secs(), 40);
}

#[tokio::test]
async fn a_late_a_broken_and_an_absent_server_are_told_apart() {
    let (server, loads) = Server::start(json!({"late": true})).await;
    assert_eq!(loads.ask(&target(), 60).await, Err(LoadError::Late));
    *server.load.lock().unwrap() = json!({"viewers": "many"});
    assert!(matches!(loads.ask(&target(), 60).await, Err(LoadError::Unreadable(_))));
    let nowhere = HttpLoads::new(1);
    nowhere.learn_token("live", "default", "token");
    assert!(matches!(nowhere.ask(&target(), 60).await, Err(LoadError::Unreachable(_))));
    let nonsense = Target { ip: "not an address".to_owned(), ..target() };
    assert!(matches!(loads.ask(&nonsense, 60).await, Err(LoadError::Unreachable(_))));
    loads.keep(&HashSet::new());
    assert_eq!(loads.last("uid"), None);
}
