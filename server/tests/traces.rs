//! A sampled message from viewer to viewer, as a collector sees it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it goes wrong")]

#[allow(dead_code, unreachable_pub, reason = "shared with other test binaries, which use the rest")]
mod support;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use danmu_wire::{Ack, Event};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span as Sent,
};
use prost::Message;
use support::{Danmu, Viewer, redis::RedisServer};

/// A span, and the process it is of.
#[derive(Clone, Debug)]
struct Span {
    pod: String,
    fleet: String,
    sent: Sent,
}

impl Span {
    fn has(&self, key: &str) -> String {
        value(&self.sent.attributes, key)
    }
}

fn value(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|one| one.key == key).and_then(|one| one.value.clone());
    match found.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{key}: {other:?} in {attributes:?}"),
    }
}

/// Not a collector, but what one answers: it takes OTLP over HTTP and keeps it.
#[derive(Clone, Default)]
struct CollectorOfTheTest {
    bodies: Arc<Mutex<Vec<Bytes>>>,
}

impl CollectorOfTheTest {
    async fn start() -> (CollectorOfTheTest, SocketAddr) {
        let collector = CollectorOfTheTest::default();
        let take = async |State(collector): State<CollectorOfTheTest>, headers: HeaderMap, body: Bytes| {
            assert_eq!(headers.get("content-type").unwrap(), "application/x-protobuf");
            collector.bodies.lock().unwrap().push(body);
        };
        let router = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (collector, address)
    }

    /// What came so far of one message.
    fn trace(&self, message: &str) -> Vec<Span> {
        let id = ulid::Ulid::from_string(message).unwrap().to_bytes();
        let mut spans = self.spans();
        spans.retain(|span| span.sent.trace_id == id);
        spans
    }

    fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for body in self.bodies.lock().unwrap().iter() {
            for of_process in ExportTraceServiceRequest::decode(body.clone()).unwrap().resource_spans {
                let about = of_process.resource.unwrap().attributes;
                assert_eq!(value(&about, "service.name"), "danmu-server");
                let (pod, fleet) = (value(&about, "service.instance.id"), value(&about, "danmu.fleet"));
                let sent = of_process.scope_spans.into_iter().flat_map(|scope| scope.spans);
                spans.extend(sent.map(|sent| Span { pod: pod.clone(), fleet: fleet.clone(), sent }));
            }
        }
        spans
    }

    /// Waits until so many spans of the message are here; no more come with them.
    async fn whole_trace(&self, message: &str, spans: usize) -> Vec<Span> {
        let began = Instant::now();
        loop {
            let trace = self.trace(message);
            if trace.len() >= spans {
                assert_eq!(trace.len(), spans, "{trace:#?}");
                return trace;
            }
            assert!(began.elapsed() < support::PATIENCE, "only {trace:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn pod(name: &str, collector: SocketAddr, extra: &[&str]) -> Danmu {
    let (endpoint, name) = (format!("--otlp-endpoint=http://{collector}"), format!("--pod={name}"));
    let mut flags = vec![endpoint.as_str(), &name, "--trace-one-in=1"];
    flags.extend(extra);
    Danmu::start(&flags).await
}

/// The one span of this name on this pod.
fn of<'a>(trace: &'a [Span], pod: &str, name: &str) -> &'a Sent {
    let mut found = trace.iter().filter(|span| span.pod == pod && span.sent.name == name);
    let one = found.next().unwrap_or_else(|| panic!("no {name} of {pod}: {trace:#?}"));
    assert!(found.next().is_none(), "two of {name}: {trace:#?}");
    &one.sent
}

fn nanos_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

async fn acknowledged(viewer: &mut Viewer) -> Ack {
    match viewer.find(|event| matches!(event, Event::Ack(_))).await {
        Event::Ack(ack) => ack,
        _ => unreachable!(),
    }
}

#[tokio::test]
async fn a_message_from_pod_to_pod_is_one_trace_in_order() {
    let (redis, (collector, address)) = (RedisServer::start(), CollectorOfTheTest::start().await);
    let on_redis = ["--redis", &redis.url()];
    let (a, b) = (pod("pod-a", address, &on_redis).await, pod("pod-b", address, &on_redis).await);
    let (mut ann, mut bob) = (a.join("talk").await, b.join("talk").await);
    let before = nanos_now();
    ann.say("hello").await;
    let message = bob.hears("hello").await.id;
    let trace = collector.whole_trace(&message, 6).await;

    let (say, flush, fan_out) =
        (of(&trace, "pod-a", "say"), of(&trace, "pod-a", "flush"), of(&trace, "pod-a", "fan-out"));
    let (relay, waits, there) =
        (of(&trace, "pod-b", "relay"), of(&trace, "pod-b", "flush"), of(&trace, "pod-b", "fan-out"));
    assert!(say.parent_span_id.is_empty());
    for (span, parent) in [(flush, say), (fan_out, flush), (relay, say), (waits, relay), (there, waits)] {
        assert_eq!(span.parent_span_id, parent.span_id, "{span:?} under {parent:?}");
    }
    let names: std::collections::HashSet<_> = trace.iter().map(|span| &span.sent.span_id).collect();
    assert_eq!(names.len(), 6);

    let (said, shown) = (say.start_time_unix_nano, there.end_time_unix_nano);
    // The wall clock is read anew for each span that is not measured from another one.
    let jitter = 2_000_000;
    let order = [
        before.saturating_sub(jitter),
        say.start_time_unix_nano,
        flush.start_time_unix_nano,
        flush.end_time_unix_nano,
        relay.start_time_unix_nano,
        relay.end_time_unix_nano,
        waits.start_time_unix_nano,
        waits.end_time_unix_nano,
        there.end_time_unix_nano,
        nanos_now(),
    ];
    assert!(order.windows(2).all(|pair| pair[0] <= pair[1] + jitter), "{trace:#?}");
    assert_eq!(
        (fan_out.start_time_unix_nano, there.start_time_unix_nano),
        (flush.end_time_unix_nano, waits.end_time_unix_nano)
    );
    assert!(trace.iter().all(|span| span.sent.start_time_unix_nano <= span.sent.end_time_unix_nano));
    assert!(shown - said < 5_000_000_000, "{trace:#?}");

    let root = trace.iter().find(|span| span.sent.name == "say").unwrap();
    let told = ["danmu.room", "danmu.lane", "danmu.outcome", "danmu.message"].map(|key| root.has(key));
    assert_eq!(told, ["talk", "chat", "shown", &message]);
    assert!(trace.iter().all(|span| span.fleet == "local/default"));
    let written = trace.iter().find(|span| span.pod == "pod-b" && span.sent.name == "fan-out").unwrap();
    assert_eq!((written.has("danmu.viewers"), written.has("danmu.workers")), ("1".into(), "1".into()));
}

#[tokio::test]
async fn what_a_third_party_publishes_is_traced_on_every_pod_and_once() {
    let (redis, (collector, address)) = (RedisServer::start(), CollectorOfTheTest::start().await);
    let on_redis = ["--redis", &redis.url()];
    let (a, b) = (pod("pod-a", address, &on_redis).await, pod("pod-b", address, &on_redis).await);
    let (mut ann, mut bob) = (a.join("talk").await, b.join("talk").await);
    let body = r#"{"kind":"gift","gift":"rose"}"#;
    let publish = async || {
        let request = format!(
            "POST /rooms/talk/publish HTTP/1.1\r\nHost: admin\r\nAuthorization: Bearer {}\r\nIdempotency-Key: k1\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            support::ADMIN_TOKEN,
            body.len()
        );
        support::http(a.server.admin, &request).await
    };
    let first = publish().await;
    assert_eq!((first.0, &publish().await), (200, &first), "the second counts for the first");
    for viewer in [&mut ann, &mut bob] {
        viewer.find(|event| matches!(event, Event::Gift(_))).await;
    }
    let told: serde_json::Value = serde_json::from_str(&first.1).unwrap();
    let message = told.get("id").unwrap().as_str().unwrap();
    let trace = collector.whole_trace(message, 5).await;
    let root = of(&trace, "pod-a", "publish");
    for pod in ["pod-a", "pod-b"] {
        let flush = of(&trace, pod, "flush");
        assert_eq!(flush.parent_span_id, root.span_id);
        assert_eq!(of(&trace, pod, "fan-out").parent_span_id, flush.span_id);
    }
    assert_eq!(value(&root.attributes, "danmu.lane"), "priority");
    // A later message's trace is here, and so would be a second one of the gift.
    ann.say("later").await;
    collector.whole_trace(&bob.hears("later").await.id, 6).await;
    assert_eq!(collector.trace(message).len(), 5);
}

#[tokio::test]
async fn neither_what_is_said_nor_by_whom_leaves_the_server() {
    let (collector, address) = CollectorOfTheTest::start().await;
    let pod = pod("pod-a", address, &[]).await;
    let mut ann = pod.join_as("talk", "secretive-user", "speaker").await;
    let mut spans = 0;
    for (text, of_it) in [("a-secret-text", 3), ("perhaps a-secret-text", 1)] {
        ann.say(text).await;
        let ack = acknowledged(&mut ann).await;
        collector.whole_trace(&ack.id, of_it).await;
        spans += of_it;
    }
    let outcomes: Vec<String> =
        collector.spans().iter().filter(|s| s.sent.name == "say").map(|s| s.has("danmu.outcome")).collect();
    assert_eq!(outcomes, ["shown", "held"]);
    assert_eq!(collector.spans().len(), spans, "nothing else was said");
    for body in collector.bodies.lock().unwrap().iter() {
        let sent = String::from_utf8_lossy(body).to_lowercase();
        assert!(sent.contains("talk") && !sent.contains("secret"), "{sent}");
    }
}

#[tokio::test]
async fn the_last_traces_are_out_before_the_process_ends() {
    let (collector, address) = CollectorOfTheTest::start().await;
    let pod = pod("pod-a", address, &[]).await;
    let mut ann = pod.join("talk").await;
    ann.say("last words").await;
    let message = ann.hears("last words").await.id;
    pod.server.finish(std::future::ready(())).await;
    assert_eq!(collector.trace(&message).len(), 3);
}

async fn dropped(pod: &Danmu) -> u64 {
    let (_, text) = pod.admin("GET", "/metrics", "").await;
    let line = text.lines().find(|line| line.starts_with("danmu_trace_dropped_spans_total "));
    line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

/// Has 1,600 messages published, which are 4,800 spans: more than may wait and be under way together. A viewer's own
/// rate would not allow it.
async fn talk_a_lot(pod: &Danmu) {
    let (mut ann, mut bob) = (pod.join("talk").await, pod.join("talk").await);
    for n in 0..1600 {
        let (word, said) = (format!("word {n}"), Instant::now());
        let body = format!(r#"{{"kind":"chat","text":"{word}"}}"#);
        assert_eq!(pod.admin("POST", "/rooms/talk/publish", &body).await.0, 200);
        // Not each: a busy room ticks, and this would take a minute.
        if n % 100 == 99 {
            bob.hears(&word).await;
            assert!(said.elapsed() < Duration::from_secs(2), "{word}: {:?}", said.elapsed());
        }
    }
    ann.say("said").await;
    assert!(acknowledged(&mut ann).await.shown);
    bob.hears("said").await;
}

#[tokio::test]
async fn without_a_collector_all_is_served_as_ever_and_the_spans_are_counted_as_lost() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let pod = pod("pod-a", nobody, &[]).await;
    talk_a_lot(&pod).await;
    let began = Instant::now();
    while dropped(&pod).await < 4800 {
        assert!(began.elapsed() < support::PATIENCE, "{}", dropped(&pod).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_collector_that_never_answers_fills_a_bounded_queue_and_holds_up_neither_viewers_nor_the_end() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let pod = pod("pod-a", silent.local_addr().unwrap(), &[]).await;
    let began = Instant::now();
    talk_a_lot(&pod).await;
    let lost = dropped(&pod).await;
    assert!(lost > 0, "the queue grows without end");
    // Before the first export was given up: what is lost did not fit.
    assert!(began.elapsed() < Duration::from_secs(5) || lost > 512, "{lost} in {:?}", began.elapsed());
    let ending = Instant::now();
    pod.server.finish(std::future::ready(())).await;
    assert!(ending.elapsed() < Duration::from_secs(8), "{:?}", ending.elapsed());
}
