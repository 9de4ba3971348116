//! The admin API over real sockets: who may, what is refused in which words, what the document and
//! the metrics say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it goes wrong")]

#[allow(dead_code, unreachable_pub, reason = "shared with other test binaries, which use the rest")]
mod support;

use std::{collections::BTreeMap, time::Duration};

use danmu_server::edge::{
    session::unix_now,
    token::{Claims, mint},
};
use danmu_wire::{CloseCode, Event, Role};
use serde_json::Value;
use support::{ADMIN_TOKEN, Danmu, PATIENCE, SECRET, http, token};

/// The `error` of an answer, which must be there.
fn error(body: &str) -> String {
    let answer: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON: {body}"));
    answer["error"].as_str().unwrap_or_else(|| panic!("no error: {body}")).to_owned()
}

fn document() -> Value {
    serde_json::from_str(&danmu_server::admin::document()).unwrap()
}

/// Method, path and description of every operation.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let all = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter();
        methods.map(|(method, operation)| (method.to_uppercase(), path.clone(), operation.clone()))
    });
    all.collect()
}

#[tokio::test]
async fn the_served_document_is_the_one_in_the_tree_and_needs_the_token() {
    let danmu = Danmu::start(&[]).await;
    let (status, body) = danmu.admin("GET", "/openapi.json", "").await;
    let tree = include_str!("../openapi.json");
    assert!(status == 200 && body == tree, "server/openapi.json differs; run `cargo xtask openapi`");
    assert_eq!(danmu.admin_with("wrong", "GET", "/openapi.json", "").await.0, 401);
}

#[tokio::test]
async fn every_operation_answers_only_what_its_description_says() {
    let danmu = Danmu::start(&[]).await;
    for (method, path, operation) in operations(&document()) {
        for room in ["talk", "nowhere"] {
            for body in ["", "no json", "[]", "{}", r#"{"user":"u1"}"#, r#"{"user":""}"#] {
                let path = path.replace("{room}", room);
                let (status, answer) = danmu.admin(&method, &path, body).await;
                let described = &operation["responses"][status.to_string()];
                assert!(described.is_object(), "{method} {path} {body}: {status} {answer}");
                if described["content"]["application/json"]["schema"]["$ref"] == "#/components/schemas/Fault"
                {
                    error(&answer);
                }
            }
        }
    }
}

#[tokio::test]
async fn every_operation_but_health_and_metrics_needs_the_token() {
    let danmu = Danmu::start(&[]).await;
    for (method, path, _) in operations(&document()) {
        let status = danmu.admin_with("wrong", &method, &path.replace("{room}", "talk"), "{}").await.0;
        let open = ["/livez", "/readyz", "/metrics"].contains(&path.as_str());
        assert_eq!(status, if open { 200 } else { 401 }, "{method} {path}");
    }
}

#[test]
fn the_readme_has_every_operation() {
    let readme = include_str!("../../README.md");
    let (_, table) = readme.split_once("## Admin API").unwrap();
    for (method, path, _) in operations(&document()) {
        let path = format!("{}`", path.replace("{room}", "{id}"));
        let has = |line: &str| {
            line.split('|').nth(1).is_some_and(|request| request.contains(&path) && request.contains(&method))
        };
        assert!(table.lines().any(has), "{method} {path}");
    }
}

#[tokio::test]
async fn faults_are_told_in_json_and_in_words() {
    let danmu = Danmu::start(&[]).await;
    let long = format!(r#"{{"kind":"notice","text":"{}"}}"#, "x".repeat(70_000));
    let publish = "/rooms/talk/publish";
    for (method, path, body, status, words) in [
        ("GET", "/nowhere", "", 404, "no such path"),
        ("GET", "/rooms/nowhere", "", 404, "no room `nowhere`"),
        ("GET", "/rooms/Not%20A%20Room", "", 404, "no room"),
        ("GET", "/rooms/%ff", "", 404, "no room's id"),
        ("POST", "/rooms/nowhere/publish", "{}", 404, "no room `nowhere`"),
        ("PUT", publish, "{}", 405, "method"),
        ("POST", publish, "", 400, "empty"),
        ("POST", publish, "{\"kind\":", 400, "not JSON"),
        ("POST", publish, &long, 413, "65536 bytes"),
        ("POST", publish, r#"{"kind":"rocket"}"#, 422, "rocket"),
        ("POST", publish, r#"{"kind":"notice","text":"\u200b"}"#, 422, "nothing to show"),
        ("POST", publish, r#"{"kind":"notice","text":"a","user":"u1"}"#, 422, "unknown field `user`"),
        ("POST", publish, r#"{"kind":"gift","gift":"rose","count":0}"#, 422, "does not fit"),
        ("POST", "/rooms/talk/bans", r#"{"network":"10.0.0.0/99"}"#, 422, "203.0.113.0/24"),
        ("POST", "/rooms/talk/bans", r#"{"user":"a","network":"10.0.0.0/8"}"#, 422, "one of both"),
        ("POST", "/rooms/talk/remove", "{}", 422, "`ids` or `user`"),
        ("POST", "/drain", r#"{"seconds":0}"#, 422, "1 to 3600"),
        ("DELETE", "/drain", "", 404, "there was none"),
        ("DELETE", "/rooms/talk/mutes", r#"{"user":"nobody"}"#, 404, "there was none"),
    ] {
        let (got, answer) = danmu.admin(method, path, body).await;
        assert_eq!(got, status, "{method} {path} {answer}");
        assert!(error(&answer).contains(words), "{method} {path}: {answer}");
    }
    let plain = format!(
        "POST {publish} HTTP/1.1\r\nHost: a\r\nAuthorization: bearer {ADMIN_TOKEN}\r\nContent-Type: text/plain\r\n\
         Content-Length: 2\r\nConnection: close\r\n\r\n{{}}"
    );
    let (status, answer) = http(danmu.server.admin, &plain).await;
    assert_eq!((status, error(&answer).contains("application/json")), (415, true), "{answer}");
}

#[tokio::test]
async fn users_and_times_are_bounded() {
    let danmu = Danmu::start(&[]).await;
    let longest = "é".repeat(128);
    let mute = |user: &str, seconds: &str| format!(r#"{{"user":"{user}","seconds":{seconds}}}"#);
    for (user, seconds, status) in [
        ("u1", "1", 204),
        ("u1", "null", 204),
        (&longest, "315360000", 204),
        ("u1", "0", 422),
        ("u1", "315360001", 422),
        ("u1", "-1", 422),
        ("u1", "1.5", 422),
        ("u1", "18446744073709551615", 422),
        ("", "1", 422),
        (&format!("{longest}x"), "1", 422),
        (r"line\nbreak", "1", 422),
    ] {
        let (got, answer) = danmu.admin("POST", "/rooms/talk/mutes", &mute(user, seconds)).await;
        assert_eq!(got, status, "{user} {seconds}: {answer}");
        let ban = danmu.admin("POST", "/rooms/talk/bans", &mute(user, seconds)).await;
        assert_eq!(ban.0, status, "{user} {seconds}: {}", ban.1);
    }
}

#[tokio::test]
async fn a_network_is_banned_however_it_is_written() {
    let danmu = Danmu::start(&[]).await;
    let mut ann = danmu.join("talk").await;
    let ban = r#"{"network":"::ffff:127.0.0.9/104"}"#;
    assert_eq!(danmu.admin("POST", "/rooms/talk/bans", ban).await.0, 204);
    assert_eq!(ann.close_code().await, CloseCode::Banned.code());
    let room = danmu.admin("GET", "/rooms/talk", "").await.1;
    assert!(room.contains(r#""bannedNetworks":[{"entry":"127.0.0.0/8","seconds":null}]"#), "{room}");
    assert_eq!(danmu.admin("DELETE", "/rooms/talk/bans", r#"{"network":"127.0.0.0/8"}"#).await.0, 204);
    danmu.join("talk").await;
}

#[tokio::test]
async fn a_publisher_publishes_in_its_rooms_and_does_nothing_else() {
    let danmu = Danmu::start(&[]).await;
    let mut ann = danmu.join("talk").await;
    let signed = |role: Role, rooms: Option<Vec<String>>, exp: u64| {
        let claims = Claims { sub: "shop".into(), name: None, role, rooms, exp };
        mint(SECRET.as_bytes(), &claims).unwrap()
    };
    let later = unix_now() + 600;
    let gift = r#"{"kind":"gift","gift":"rocket"}"#;
    let only_quiet = Some(vec!["quiet".to_owned()]);
    for (what, token, room, status) in [
        ("every room", signed(Role::Publisher, None, later), "talk", 200),
        ("this room", signed(Role::Publisher, only_quiet.clone(), later), "quiet", 200),
        ("another room", signed(Role::Publisher, only_quiet, later), "talk", 403),
        ("a moderator", signed(Role::Moderator, None, later), "talk", 403),
        ("expired", signed(Role::Publisher, None, 1), "talk", 401),
        ("garbage", "a.b.c".to_owned(), "talk", 401),
        ("nothing", String::new(), "talk", 401),
    ] {
        let (got, answer) = danmu.admin_with(&token, "POST", &format!("/rooms/{room}/publish"), gift).await;
        assert_eq!(got, status, "{what}: {answer}");
        if status != 200 {
            error(&answer);
        }
    }
    ann.find(|event| matches!(event, Event::Gift(gift) if gift.gift == "rocket")).await;
    let publisher = token("shop", "publisher", 600);
    for (method, path, _) in operations(&document()) {
        let open = ["/livez", "/readyz", "/metrics"].contains(&path.as_str());
        if !open && !path.starts_with("/rooms/{room}/publish") {
            let path = path.replace("{room}", "talk");
            assert_eq!(danmu.admin_with(&publisher, &method, &path, "{}").await.0, 401, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_cleared_room_is_clear_on_screens_and_for_whoever_comes_later() {
    let danmu = Danmu::start(&[]).await;
    let mut ann = danmu.join("talk").await;
    ann.say("gone soon").await;
    ann.hears("gone soon").await;
    let (status, answer) = danmu.admin("POST", "/rooms/talk/clear", "").await;
    assert_eq!((status, answer.as_str()), (200, r#"{"offset":1}"#));
    ann.find(|event| matches!(event, Event::Removed(removed) if removed.all)).await;
    let mut bob = danmu.connect("/rooms/talk/ws", &[]).await.unwrap();
    let Event::Joined(joined) = bob.event().await else { panic!("not joined") };
    assert_eq!(joined.history, []);
}

#[tokio::test]
async fn a_message_is_removed_by_its_id() {
    let danmu = Danmu::start(&[]).await;
    let mut ann = danmu.join("talk").await;
    ann.say("bad").await;
    let id = ann.hears("bad").await.id;
    ann.say("good").await;
    ann.hears("good").await;
    let remove = format!(r#"{{"ids":["{id}"]}}"#);
    assert_eq!(danmu.admin("POST", "/rooms/talk/remove", &remove).await.0, 200);
    ann.find(|event| matches!(event, Event::Removed(removed) if removed.ids == [id.clone()])).await;
    let mut bob = danmu.connect("/rooms/talk/ws", &[]).await.unwrap();
    let Event::Joined(joined) = bob.event().await else { panic!("not joined") };
    assert_eq!(joined.history.iter().map(|chat| chat.text.as_str()).collect::<Vec<_>>(), ["good"]);
    let many = format!(r#"{{"ids":["a"{}]}}"#, r#","a""#.repeat(100));
    assert_eq!(danmu.admin("POST", "/rooms/talk/remove", &many).await.0, 422);
}

#[tokio::test]
async fn the_metrics_token_opens_metrics_and_nothing_else() {
    let danmu = Danmu::start(&["--metrics-token", "scraper"]).await;
    assert_eq!(danmu.admin_with("scraper", "GET", "/metrics", "").await.0, 200);
    let (status, answer) = danmu.admin_with("", "GET", "/metrics", "").await;
    assert_eq!((status, error(&answer).contains("metrics token")), (401, true));
    assert_eq!(danmu.admin_with("scraper", "GET", "/rooms", "").await.0, 401);
}

#[tokio::test]
async fn silent_connections_leave_a_place_and_give_theirs_back() {
    let danmu = Danmu::start(&[]).await;
    let mut silent = Vec::new();
    for _ in 0..127 {
        silent.push(tokio::net::TcpStream::connect(danmu.server.admin).await.unwrap());
    }
    // It is closed after its answer although the request does not ask for that: places are scarce.
    let kept = http(danmu.server.admin, "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(kept.0, 200, "one place is left");
    drop(silent);
    // As many again: had the first ones kept their places, these and the request would find none.
    let mut silent = Vec::new();
    for _ in 0..127 {
        silent.push(tokio::net::TcpStream::connect(danmu.server.admin).await.unwrap());
    }
    assert_eq!(danmu.admin("GET", "/livez", "").await.0, 200, "places come back");
}

/// Values by name with labels, each family checked against what Prometheus agreed on names.
fn scrape(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut values = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            assert!(name.starts_with("danmu_") || name.starts_with("process_"), "{line}");
            assert!(!name.ends_with("_total") && ["counter", "gauge", "histogram"].contains(&kind), "{line}");
            let old_units = ["_ms", "_millis", "_milliseconds", "_kb", "_mb", "_count", "_percent"];
            assert!(!old_units.iter().any(|unit| name.ends_with(unit)), "{line}");
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let labels = name.split_once('{').map_or("", |(_, labels)| labels);
            for label in labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('=')) {
                assert!(
                    ["code", "reason", "result", "stage", "le"].contains(&label.0),
                    "a label for each viewer? {line}"
                );
            }
            assert!(values.insert(name.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
        }
    }
    values
}

/// A room whose cap leaves most out, beside those of the other tests.
const TIGHT: &str = "
apiVersion: danmu.live/v1alpha1
kind: DanmuRoom
metadata: {name: tight}
spec:
  limits: {messagesPerSecond: 1, perViewer: {messages: 1000, seconds: 1}}
  moderation: {anonymous: Speak}
";

#[tokio::test]
async fn the_metrics_tell_what_happened() {
    let danmu = Danmu::start(&[]).await;
    std::fs::write(danmu.folder.path().join("tight.yaml"), TIGHT).unwrap();
    let (mut ann, mut bob) = (danmu.join_as("talk", "ann", "speaker").await, danmu.join("talk").await);
    ann.say("hello").await;
    bob.hears("hello").await;
    bob.say("a forbidden word").await;
    bob.refusal().await;
    danmu.admin("POST", "/rooms/talk/publish", r#"{"kind":"gift","gift":"rose"}"#).await;
    ann.find(|event| matches!(event, Event::Gift(_))).await;
    let page = "GET /ws HTTP/1.1\r\nHost: a\r\nOrigin: https://elsewhere.example\r\nUpgrade: websocket\r\n\
        Connection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert_eq!(http(danmu.public(), page).await.0, 403);
    tokio::time::timeout(PATIENCE, async {
        while danmu.admin("GET", "/rooms/tight", "").await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the new manifest is not followed");
    let mut eve = danmu.join("tight").await;
    for number in 0..10 {
        eve.say(&number.to_string()).await;
    }
    eve.find(|event| matches!(event, Event::Ack(ack) if !ack.shown)).await;
    danmu.admin("POST", "/rooms/talk/disconnect", r#"{"user":"ann"}"#).await;
    assert_eq!(ann.close_code().await, CloseCode::Disconnected.code());
    tokio::time::timeout(PATIENCE, async {
        while !danmu.admin("GET", "/load", "").await.1.contains(r#""viewers":2"#) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("ann is still counted");

    let values = scrape(&danmu.admin_with("", "GET", "/metrics", "").await.1);
    let value = |name: &str| *values.get(name).unwrap_or_else(|| panic!("no {name}: {values:#?}"));
    assert_eq!(value("danmu_viewers"), 2.0);
    assert_eq!(value("danmu_rows"), 2.0);
    assert_eq!(value("danmu_rooms"), 2.0);
    assert_eq!(value("danmu_stalled_viewers"), 0.0);
    assert_eq!(value(r#"danmu_refused_messages_total{code="blocked_word"}"#), 1.0);
    assert_eq!(value(r#"danmu_turned_away_total{reason="origin"}"#), 1.0);
    assert_eq!(value(&format!("danmu_closes_total{{code=\"{}\"}}", CloseCode::Disconnected.code())), 1.0);
    let sampled = value("danmu_sampled_messages_total");
    assert!((1.0..10.0).contains(&sampled), "{sampled}");
    assert!(value("danmu_accepted_messages_total") >= 3.0);
    assert!(value("danmu_received_frames_total") >= 3.0);
    assert!(value("danmu_flushes_total") >= 3.0);
    // "hello" and the rose to two viewers each.
    assert!(value("danmu_writes_total") >= 4.0);
    let size = value("danmu_sent_bytes_total") / value("danmu_writes_total");
    assert!((20.0..1000.0).contains(&size), "{size} bytes a write");
    let flushes = value("danmu_fan_out_latency_seconds_count");
    assert_eq!(value(r#"danmu_fan_out_latency_seconds_bucket{le="+Inf"}"#), flushes);
    let mean = value("danmu_fan_out_latency_seconds_sum") / flushes;
    assert!(flushes >= 3.0 && (0.0..1.0).contains(&mean), "{mean} s over {flushes}");
    assert!(
        (0.0..PATIENCE.as_secs_f64() * 6.0)
            .contains(&(unix_now() as f64 - value("process_start_time_seconds")))
    );
    assert!(value("process_open_fds") > 5.0 && value("process_open_fds") < value("process_max_fds"));
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_cpu_seconds_total") >= 0.0);
}

#[tokio::test]
async fn only_what_was_published_counts_as_accepted() {
    let danmu = Danmu::start(&[]).await;
    let publish = async |key: &str, text: &str| {
        let body = format!(r#"{{"kind":"notice","text":"{text}"}}"#);
        let request = format!(
            "POST /rooms/talk/publish HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nIdempotency-Key: {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            support::ADMIN_TOKEN,
            body.len()
        );
        support::http(danmu.server.admin, &request).await.0
    };
    assert_eq!(publish("k", "one").await, 200);
    assert_eq!(publish("k", "another").await, 409);
    let (_, metrics) = danmu.admin("GET", "/metrics", "").await;
    assert!(metrics.lines().any(|line| line == "danmu_accepted_messages_total 1"), "{metrics}");
}
