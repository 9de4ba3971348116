//! Batches of messages, and how much a publisher may publish.

use std::collections::HashSet;

use danmu_wire::Event;
use serde_json::{Value, json};

use crate::{
    edit, metric, started,
    support::{ADMIN_TOKEN, Danmu, http, pod::eventually, token},
};

const BATCH: &str = "/rooms/talk/publish/batch";

fn gift(name: &str, key: Option<&str>) -> Value {
    json!({"message": {"kind": "gift", "gift": name}, "idempotencyKey": key})
}

async fn send(danmu: &Danmu, messages: Vec<Value>) -> Vec<Value> {
    let (status, answer) = danmu.admin("POST", BATCH, &json!({"messages": messages}).to_string()).await;
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["results"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_batch_is_published_in_its_order_and_answered_message_by_message() {
    let danmu = Danmu::start(&[]).await;
    let mut ann = danmu.join("talk").await;
    let names: Vec<String> = (0..100).map(|number| format!("g{number}")).collect();
    let results = send(&danmu, names.iter().map(|name| gift(name, None)).collect()).await;
    let offsets: Vec<u64> = results.iter().map(|result| result["offset"].as_u64().unwrap()).collect();
    assert_eq!(offsets, (1..=100).collect::<Vec<u64>>());
    let ids: HashSet<&str> = results.iter().map(|result| result["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 100);
    for (name, id) in names.iter().zip(results.iter().map(|result| &result["id"])) {
        let Event::Gift(shown) = ann.find(|event| matches!(event, Event::Gift(_))).await else { panic!() };
        assert_eq!((&shown.gift, shown.id.as_str()), (name, id.as_str().unwrap()));
    }
}

#[tokio::test]
async fn a_bad_message_is_told_in_words_and_stops_no_other() {
    let danmu = Danmu::start(&[]).await;
    let mut ann = danmu.join("talk").await;
    let results = send(
        &danmu,
        vec![
            gift("rose", Some("k1")),
            json!({"message": {"kind": "rocket"}}),
            json!({"message": {"kind": "notice", "text": "\u{200b}"}}),
            json!(7),
            json!({"message": {"kind": "notice", "text": "a"}, "key": "k2"}),
            gift("rose", Some("with a space")),
            gift("lily", Some("k1")),
            gift("rose", Some("k1")),
            json!({"message": {"kind": "chat", "text": "hello", "name": "Ann"}}),
            gift("tulip", None),
        ],
    )
    .await;
    let statuses: Vec<u64> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 422, 422, 422, 422, 400, 409, 200, 200, 200]);
    for (nth, words) in [
        (1, "unknown variant `rocket`"),
        (2, "nothing to show"),
        (3, "the message does not fit"),
        (4, "unknown field `key`"),
        (5, "1 to 128 visible ASCII"),
        (6, "used for another message"),
    ] {
        let told = results[nth]["error"].as_str().unwrap();
        assert!(told.contains(words), "{nth}: {told}");
        assert!(results[nth].get("id").is_none(), "{}", results[nth]);
    }
    assert_eq!(results[7]["id"], results[0]["id"], "a repeated key counts once");
    assert_eq!(results[9]["offset"], 2);
    ann.hears("hello").await;
}

#[tokio::test]
async fn a_batch_is_bounded() {
    let danmu = Danmu::start(&[]).await;
    for (messages, words) in [(0, "this has 0"), (101, "this has 101")] {
        let body = json!({"messages": vec![gift("rose", None); messages]}).to_string();
        let (status, answer) = danmu.admin("POST", BATCH, &body).await;
        assert!(status == 422 && answer.contains(words), "{status} {answer}");
    }
    let long = json!({"messages": [{"message": {"kind": "notice", "text": "x".repeat(70_000)}}]});
    assert_eq!(danmu.admin("POST", BATCH, &long.to_string()).await.0, 413);
}

/// Publishes with a publisher's token; answers the status and the whole answer.
async fn publish_as(danmu: &Danmu, sub: &str, path: &str, body: &Value) -> (u16, String) {
    let (token, body) = (token(sub, "publisher", 600), body.to_string());
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    http(danmu.server.admin, &request).await
}

#[tokio::test]
async fn a_publisher_over_its_quota_is_told_when_to_come_back_and_the_others_go_on() {
    let publishers =
        "{messagesPerSecond: 1, burst: 3, named: [{sub: gifts, messagesPerSecond: 1, burst: 50}]}";
    let danmu = started(&format!("server: {{unlistedRooms: Allow, publishers: {publishers}}}")).await;
    let one = json!({"kind": "gift", "gift": "rose"});
    let batch = |messages| json!({"messages": vec![gift("rose", None); messages]});
    let publish = "/rooms/talk/publish";
    assert_eq!(publish_as(&danmu, "a", BATCH, &batch(2)).await.0, 200);
    let (status, answer) = publish_as(&danmu, "a", BATCH, &batch(2)).await;
    assert!(status == 429 && answer.contains("quota is used up"), "all or none: {answer}");
    assert_eq!(publish_as(&danmu, "a", publish, &one).await.0, 200, "the third of three");
    assert_eq!(publish_as(&danmu, "a", publish, &one).await.0, 429);
    let (status, answer) = publish_as(&danmu, "b", BATCH, &batch(4)).await;
    assert!(status == 422 && answer.contains("at most 3"), "it never fits: {answer}");
    assert_eq!(publish_as(&danmu, "b", publish, &one).await.0, 200);
    assert_eq!(publish_as(&danmu, "gifts", BATCH, &batch(50)).await.0, 200);
    assert_eq!(danmu.admin("POST", BATCH, &batch(3).to_string()).await.0, 200, "the admin token is another");
    assert_eq!(danmu.admin("POST", publish, &one.to_string()).await.0, 429);
    let refused = "danmu_quota_refused_messages_total";
    assert_eq!(metric(&danmu, &format!("{refused}{{reason=\"rate\"}}")).await, 4.0);
    assert_eq!(metric(&danmu, &format!("{refused}{{reason=\"burst\"}}")).await, 4.0);
    edit(&danmu, "server: {unlistedRooms: Allow}");
    eventually("the quota is lifted", async || danmu.admin("POST", publish, &one.to_string()).await.0 == 200)
        .await;
}

#[tokio::test]
async fn retry_after_is_in_the_answer_of_a_used_up_quota() {
    let danmu = started("server: {publishers: {messagesPerSecond: 1}}").await;
    let request = format!(
        "POST /rooms/talk/publish HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\
         Content-Type: application/json\r\nContent-Length: 30\r\nConnection: close\r\n\r\n{{\"kind\":\"notice\",\"text\":\"hello\"}}"
    );
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut answers = Vec::new();
    for _ in 0..2 {
        let mut stream = tokio::net::TcpStream::connect(danmu.server.admin).await.unwrap();
        let body = r#"{"kind":"notice","text":"hello"}"#;
        let request = request.replace("Content-Length: 30", &format!("Content-Length: {}", body.len()));
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answers.push(answer.to_lowercase());
    }
    assert!(answers[0].starts_with("http/1.1 200"), "{}", answers[0]);
    assert!(
        answers[1].starts_with("http/1.1 429") && answers[1].contains("retry-after: 1"),
        "{}",
        answers[1]
    );
}
