//! `GET /rooms/{id}/danmu`: what is answered, to whom, and what is refused.

use std::io::Read;

use danmu_wire::Event;

use crate::{
    SPEAK, ago, ask, get, is_kept, put,
    support::{Danmu, pod::eventually, redis::RedisServer, token},
};

/// A server with the room `film`, a replay in which everybody may write, and a viewer in it.
async fn film(extra: &[&str]) -> (Danmu, crate::support::Viewer) {
    let danmu = Danmu::start(extra).await;
    put(&danmu, "film", &format!("mode: OnDemand, {SPEAK}"));
    is_kept(&danmu, "film").await;
    let viewer = danmu.join("film").await;
    (danmu, viewer)
}

async fn say_at(viewer: &mut crate::support::Viewer, text: &str, at: u64) {
    viewer.send(serde_json::json!({"op": "say", "text": text, "at": at, "ref": text}).to_string()).await;
    let ack = viewer.find(|event| matches!(event, Event::Ack(_) | Event::Refused(_))).await;
    assert!(matches!(&ack, Event::Ack(ack) if ack.shown), "{ack:?}");
}

#[tokio::test]
async fn what_is_acknowledged_is_fetched_in_order_and_within_its_range() {
    let (danmu, mut ann) = film(&[]).await;
    for (text, at) in [("late", 19_999), ("first", 10_000), ("before", 9_999), ("after", 20_000)] {
        say_at(&mut ann, text, at).await;
    }
    let reply = get(&danmu, "/rooms/film/danmu?from=10000&to=20000").await;
    assert_eq!(reply.texts(), ["first", "late"]);
    assert_eq!(reply.placed()[0].at, 10_000);
    assert_eq!(reply.header("danmu-sample"), Some("1"));
    assert_eq!(get(&danmu, "/rooms/film/danmu?from=9999&to=19999").await.texts(), ["before", "first"]);
    assert_eq!(get(&danmu, "/rooms/film/danmu?from=50000&to=60000").await.texts(), [""; 0]);
}

#[tokio::test]
async fn an_answer_is_kept_by_caches_until_it_changes() {
    let (danmu, mut ann) = film(&[]).await;
    say_at(&mut ann, "one", 5).await;
    let path = "/rooms/film/danmu?from=0&to=10000";
    let first = get(&danmu, path).await;
    let tag = first.header("etag").unwrap().to_owned();
    assert!(tag.starts_with("W/\""), "{tag}");
    assert_eq!(first.header("cache-control"), Some("public, max-age=10"));
    assert_eq!(first.header("vary"), Some("accept-encoding, origin"));
    let again = ask(&danmu, "GET", path, &format!("If-None-Match: {tag}\r\n")).await;
    assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(&*tag)));
    let other = ask(&danmu, "GET", path, "If-None-Match: W/\"0000\"\r\n").await;
    assert_eq!((other.status, &other.body), (200, &first.body));
    // What is said here is seen here at once, whatever is cached.
    say_at(&mut ann, "two", 6).await;
    let changed = ask(&danmu, "GET", path, &format!("If-None-Match: {tag}\r\n")).await;
    assert_eq!(changed.texts(), ["one", "two"]);
    assert_ne!(changed.header("etag"), Some(&*tag));
}

#[tokio::test]
async fn an_answer_is_compressed_for_whoever_takes_it() {
    let (danmu, mut ann) = film(&[]).await;
    for i in 0..30 {
        say_at(&mut ann, &format!("the same words over and over {i}"), i).await;
        // The connection's own limit: 20 in 5 seconds.
        if i % 19 == 18 {
            tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        }
    }
    let path = "/rooms/film/danmu?from=0&to=10000";
    let plain = get(&danmu, path).await;
    let zipped = ask(&danmu, "GET", path, "Accept-Encoding: br, gzip\r\n").await;
    assert_eq!((plain.header("content-encoding"), zipped.header("content-encoding")), (None, Some("gzip")));
    assert_eq!(plain.header("etag"), zipped.header("etag"));
    assert!(zipped.body.len() * 3 < plain.body.len(), "{} of {}", zipped.body.len(), plain.body.len());
    let mut unzipped = Vec::new();
    flate2::read::GzDecoder::new(&zipped.body[..]).read_to_end(&mut unzipped).unwrap();
    assert_eq!(unzipped, plain.body);
    let head = ask(&danmu, "HEAD", path, "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn a_bad_range_is_refused_in_words_that_say_what_is_allowed() {
    let (danmu, mut ann) = film(&[]).await;
    let numbers = "whole numbers from 0 to 31622400000";
    for (query, words) in [
        ("from=5&to=5", "from must be before to"),
        ("from=10000&to=0", "from must be before to"),
        ("from=0&to=60001", "at most 60000 ms"),
        ("from=0&to=31622400000", "at most 60000 ms"),
        ("from=-1&to=5", numbers),
        ("from=NaN&to=5", numbers),
        ("from=0&to=Infinity", numbers),
        ("from=0&to=1.5", numbers),
        ("from=0&to=99999999999999999999999", numbers),
        ("from=0&to=31622400001", numbers),
        ("from=0", numbers),
        ("from=&to=", numbers),
        ("from=0&to=1&to=2", numbers),
        ("%00=%ff&&&=&from", numbers),
    ] {
        let reply = get(&danmu, &format!("/rooms/film/danmu?{query}")).await;
        let told = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(reply.status == 400 && told.contains(words), "{query:?}: {} {told}", reply.status);
    }
    for path in [
        "/rooms/nowhere/danmu?from=0&to=1",
        "/rooms/talk/danmu?from=0&to=1",
        "/rooms/A%2fB/danmu?from=0&to=1",
    ] {
        assert_eq!(get(&danmu, path).await.status, 404, "{path}");
    }
    assert_eq!(
        ask(&danmu, "POST", "/rooms/film/danmu?from=0&to=1", "Content-Length: 0\r\n").await.status,
        405
    );
    say_at(&mut ann, "still here", 0).await;
}

#[tokio::test]
async fn who_may_watch_may_fetch_and_nobody_else() {
    let danmu = Danmu::start(&[]).await;
    put(&danmu, "club", "mode: OnDemand, moderation: {anonymous: Deny, bannedUsers: [eve]}");
    is_kept(&danmu, "club").await;
    let path = "/rooms/club/danmu?from=0&to=10000";
    let with =
        async |token: &str| ask(&danmu, "GET", path, &format!("Authorization: Bearer {token}\r\n")).await;
    let nobody = get(&danmu, path).await;
    assert_eq!((nobody.status, nobody.header("www-authenticate")), (401, Some("Bearer")));
    let member = with(&token("ann", "viewer", 60)).await;
    assert_eq!((member.status, member.header("cache-control")), (200, Some("private, max-age=10")));
    assert_eq!(with(&token("eve", "viewer", 60)).await.status, 403);
    assert_eq!(with("not.a.token").await.status, 401);
    assert_eq!(with(&token("ann", "viewer", 0)).await.status, 401, "expired");
    let (status, _) = danmu.admin("POST", "/rooms/club/bans", r#"{"user":"ann"}"#).await;
    assert_eq!(status, 204);
    assert_eq!(with(&token("ann", "viewer", 60)).await.status, 403, "banned since");
    let twice = "Authorization: Bearer a\r\nSec-WebSocket-Protocol: danmu.v1.json, token.b\r\n";
    assert_eq!(ask(&danmu, "GET", path, twice).await.status, 400);
}

#[tokio::test]
async fn pages_that_may_connect_may_fetch_and_others_may_not() {
    let (danmu, _ann) = film(&["--allowed-origins=https://example.com"]).await;
    let path = "/rooms/film/danmu?from=0&to=10000";
    let ours = ask(&danmu, "GET", path, "Origin: https://example.com\r\n").await;
    assert_eq!((ours.status, ours.header("access-control-allow-origin")), (200, Some("https://example.com")));
    assert!(ours.header("access-control-expose-headers").unwrap().contains("danmu-sample"));
    let theirs = ask(&danmu, "GET", path, "Origin: https://evil.example\r\n").await;
    assert_eq!(theirs.status, 403);
    let asked = ask(&danmu, "OPTIONS", path, "Origin: https://example.com\r\n").await;
    assert_eq!(
        (asked.status, asked.header("access-control-allow-headers")),
        (204, Some("authorization, if-none-match"))
    );
    assert_eq!(ask(&danmu, "OPTIONS", path, "Origin: https://evil.example\r\n").await.status, 403);
}

#[tokio::test]
async fn a_live_room_records_what_it_shows_from_its_beginning_on() {
    let danmu = Danmu::start(&[]).await;
    put(&danmu, "match", &format!("startedAt: {}, recording: {{}}, {SPEAK}", ago(95)));
    put(&danmu, "tonight", &format!("startedAt: 2999-01-01T00:00:00Z, recording: {{}}, {SPEAK}"));
    is_kept(&danmu, "match").await;
    is_kept(&danmu, "tonight").await;
    let (mut ann, mut bob) = (danmu.join("match").await, danmu.join("tonight").await);
    ann.say("goal").await;
    ann.hears("goal").await;
    let body = r#"{"kind":"gift","gift":"rose"}"#;
    danmu.admin("POST", "/rooms/match/publish", body).await;
    ann.find(|event| matches!(event, Event::Gift(_))).await;
    bob.say("too early").await;
    bob.hears("too early").await;
    let path = "/rooms/match/danmu?from=90000&to=150000";
    eventually("it is recorded", async || get(&danmu, path).await.texts().len() == 2).await;
    let reply = get(&danmu, path).await;
    let placed = reply.placed();
    assert!(placed.iter().all(|placed| (93_000..120_000).contains(&placed.at)), "{placed:?}");
    assert_eq!(reply.header("cache-control"), Some("public, max-age=1"), "it grows");
    let past = get(&danmu, "/rooms/match/danmu?from=0&to=10000").await;
    assert_eq!((past.texts(), past.header("cache-control")), (vec![], Some("public, max-age=10")));
    assert_eq!(get(&danmu, "/rooms/tonight/danmu?from=0&to=60000").await.texts(), [""; 0]);
}

#[tokio::test]
async fn what_is_removed_from_the_screens_is_gone_from_the_recording() {
    let (danmu, mut ann) = film(&[]).await;
    let mut eve = danmu.join_as("film", "eve", "speaker").await;
    say_at(&mut ann, "good", 5).await;
    say_at(&mut eve, "bad", 6).await;
    let path = "/rooms/film/danmu?from=0&to=10000";
    assert_eq!(get(&danmu, path).await.texts(), ["good", "bad"]);
    let (status, _) = danmu.admin("POST", "/rooms/film/remove", r#"{"user":"eve"}"#).await;
    assert_eq!(status, 200);
    eventually("it is gone", async || get(&danmu, path).await.texts() == ["good"]).await;
}

#[tokio::test]
async fn what_one_pod_records_every_pod_answers_and_once() {
    let redis = RedisServer::start();
    let pods =
        [Danmu::start(&["--redis", &redis.url()]).await, Danmu::start(&["--redis", &redis.url()]).await];
    let spec = format!("startedAt: {}, recording: {{}}, {SPEAK}", ago(5));
    for pod in &pods {
        put(pod, "match", &spec);
        put(pod, "film", &format!("mode: OnDemand, {SPEAK}"));
        is_kept(pod, "match").await;
        is_kept(pod, "film").await;
    }
    let (mut ann, mut bob) = (pods[0].join("match").await, pods[1].join("match").await);
    ann.say("from a").await;
    bob.hears("from a").await;
    bob.say("from b").await;
    ann.hears("from b").await;
    pods[1].admin("POST", "/rooms/match/publish", r#"{"kind":"gift","gift":"rose"}"#).await;
    for viewer in [&mut ann, &mut bob] {
        viewer.find(|event| matches!(event, Event::Gift(_))).await;
    }
    let mut cy = pods[0].join("film").await;
    say_at(&mut cy, "later", 7_000).await;
    for pod in &pods {
        let path = "/rooms/match/danmu?from=0&to=60000";
        eventually("all is there", async || get(pod, path).await.texts().len() >= 3).await;
        let mut texts = get(pod, path).await.texts();
        texts.sort();
        assert_eq!(texts, ["from a", "from b", "rose"]);
        assert_eq!(get(pod, "/rooms/film/danmu?from=0&to=10000").await.texts(), ["later"]);
    }
    let (_, metrics) = pods[0].admin("GET", "/metrics", "").await;
    assert!(metrics.contains("danmu_segment_kept_messages_total 3"), "{metrics}");
}

#[tokio::test]
async fn a_redis_that_is_away_is_told_and_whoever_speaks_is_not_told_that_it_was_kept() {
    let mut redis = RedisServer::start();
    let (danmu, mut ann) = film(&["--redis", &redis.url()]).await;
    say_at(&mut ann, "one", 5).await;
    redis.kill();
    ann.send(r#"{"op":"say","text":"two","at":6,"ref":"2"}"#).await;
    let refused = ann.refusal().await;
    assert_eq!((refused.code, refused.reference.as_deref()), (danmu_wire::RefusalCode::Busy, Some("2")));
    let reply = get(&danmu, "/rooms/film/danmu?from=10000&to=20000").await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("2")));
}
