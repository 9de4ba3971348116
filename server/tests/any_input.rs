//! Input of any shape, as a rule and not as examples: JSON, room ids, tokens, offers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

#[allow(dead_code, unreachable_pub, reason = "shared with other test binaries, which use the rest")]
mod support;

use danmu_server::{
    edge::{
        protocols,
        session::unix_now,
        token::{Keys, Sources},
    },
    rows::Limits,
};
use danmu_wire::{CloseCode, Event, RefusalCode, is_room_id};
use hyper::{
    HeaderMap,
    header::{AUTHORIZATION, HeaderValue, SEC_WEBSOCKET_PROTOCOL},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use support::{Danmu, SECRET, token};
use tokio::runtime::Runtime;

/// Values that operations have, and any others in their places.
fn any_value() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("say"),
        Just("join"),
        Just("token"),
        Just("ping"),
        Just("top"),
        Just("#ff00aa"),
        Just("talk"),
    ];
    let leaf = prop_oneof![
        word.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = prop_oneof![
            Just("op".to_owned()),
            Just("text".to_owned()),
            Just("ref".to_owned()),
            Just("color".to_owned()),
            Just("mode".to_owned()),
            Just("room".to_owned()),
            Just("since".to_owned()),
            Just("token".to_owned()),
            any::<String>(),
        ];
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((key, inner), 0..6).prop_map(|pairs| { Value::Object(pairs.into_iter().collect()) })
        ]
    })
}

/// An operation by name with anything in its fields.
fn any_operation() -> impl Strategy<Value = Value> {
    let op = prop_oneof![Just("say"), Just("join"), Just("token"), Just("ping")];
    let field = || proptest::option::of(any_value());
    (op, field(), field(), field(), field()).prop_map(|(op, text, reference, room, token)| {
        let mut operation = json!({ "op": op });
        for (key, value) in [("text", text), ("ref", reference), ("room", room), ("token", token)] {
            if let Some(value) = value {
                operation[key] = value;
            }
        }
        operation
    })
}

/// Each message is answered or taken, and none ends the viewer, except a join that names no room.
#[test]
fn json_of_any_shape_is_survived() {
    let runtime = Runtime::new().unwrap();
    let limits = Limits { frames_per_second: u32::MAX, ..Limits::default() };
    let danmu = runtime.block_on(Danmu::start_with(&[], limits));
    let viewer = std::cell::RefCell::new(runtime.block_on(danmu.join("talk")));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(200));
    let shapes = prop_oneof![any_value(), any_operation()];
    let outcome = runner.run(&shapes, |value| {
        let text = value.to_string();
        prop_assume!(text.len() <= 4096);
        let leaves = value["op"] == "join" && value["room"].is_string();
        let mut viewer = viewer.borrow_mut();
        runtime.block_on(async {
            if leaves {
                let mut other = danmu.join("talk").await;
                other.send(text.as_str()).await;
                // Another room's `joined`, a close code of the table, or a refusal: but always an answer.
                let _ = other.answer().await;
            } else {
                viewer.send(text.as_str()).await;
                viewer.send(r#"{"op":"ping"}"#).await;
                viewer.find(|event| matches!(event, Event::Pong)).await;
            }
        });
        Ok(())
    });
    outcome.unwrap();
}

#[tokio::test]
async fn no_room_id_out_of_the_grammar_gets_in() {
    let danmu = Danmu::start(&[]).await;
    let long = "a".repeat(64);
    for id in [
        "",
        "-talk",
        "talk-",
        "TALK",
        "talk.",
        "ta/lk",
        "talk%2f..",
        "%2e%2e",
        "talk%00",
        "talk%0a",
        "*",
        "t*lk",
        "talk:x",
        "%7Btalk%7D",
        "danmu%3A",
        "%E5%BC%B9%E5%B9%95",
        &long,
    ] {
        let mut viewer = danmu.connect(&format!("/rooms/{id}/ws"), &[]).await.unwrap();
        assert_eq!(viewer.close_code().await, CloseCode::BadRequest.code(), "{id}");
    }
    for id in ["", "..", "TALK", "ta lk", "talk\n", "talk\u{0}", "弹幕", "talk*", "{talk}", "a:b", &long] {
        let mut viewer = danmu.join("talk").await;
        viewer.send(json!({"op": "join", "room": id}).to_string()).await;
        assert_eq!(viewer.close_code().await, CloseCode::BadRequest.code(), "{id:?}");
    }
    let mut innocent = danmu.join("talk").await;
    innocent.say("still here").await;
    innocent.hears("still here").await;
}

fn signed(header: &Header, claims: &Value, secret: &str) -> String {
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

/// A token put together by hand, with the signature of a good one.
fn forged(header: &str, claims: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let good = token("ann", "moderator", 60);
    let signature = good.rsplit('.').next().unwrap();
    format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

#[tokio::test]
async fn tokens_of_every_wrong_kind_close_with_4504() {
    let danmu = Danmu::start(&[]).await;
    let exp = unix_now() + 60;
    let claims = json!({"sub": "ann", "role": "moderator", "exp": exp});
    let hs256 = Header::new(Algorithm::HS256);
    let good = token("ann", "moderator", 60);
    let with = |key: &str, value: Value| {
        let mut claims = claims.clone();
        claims[key] = value;
        signed(&hs256, &claims, SECRET)
    };
    let wrong = [
        ("empty", String::new()),
        ("dots", "..".into()),
        ("no signature", good.rsplit_once('.').unwrap().0.to_owned() + "."),
        ("cut", good[..good.len() - 1].to_owned()),
        ("huge", format!("{good}{}", "a".repeat(9_000))),
        ("alg none", forged(r#"{"alg":"none"}"#, &claims.to_string())),
        ("alg unknown", forged(r#"{"alg":"HS1"}"#, &claims.to_string())),
        ("alg of a public key", forged(r#"{"alg":"RS256"}"#, &claims.to_string())),
        ("another's claims", forged(r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string())),
        ("header no JSON", forged("{", &claims.to_string())),
        ("another secret", signed(&hs256, &claims, "another secret of 32 bytes length")),
        ("another algorithm", signed(&Header::new(Algorithm::HS512), &claims, SECRET)),
        ("claims an array", signed(&hs256, &json!([]), SECRET)),
        ("no sub", signed(&hs256, &json!({"exp": exp}), SECRET)),
        ("no exp", signed(&hs256, &json!({"sub": "ann"}), SECRET)),
        ("exp negative", with("exp", json!(-1))),
        ("exp a text", with("exp", json!("never"))),
        ("exp without end", with("exp", json!(1e300))),
        ("sub a number", with("sub", json!(7))),
        ("sub empty", with("sub", json!(""))),
        ("sub endless", with("sub", json!("a".repeat(2_000)))),
        ("role unknown", with("role", json!("emperor"))),
        ("rooms a text", with("rooms", json!("talk"))),
    ];
    for (kind, token) in wrong {
        let offer = ["danmu.v1.json".to_owned(), format!("token.{token}")];
        match danmu.connect("/rooms/talk/ws", &offer).await {
            Ok(mut viewer) => {
                assert_eq!(viewer.close_code().await, CloseCode::TokenInvalid.code(), "{kind}");
            }
            Err(error) => panic!("{kind}: {error}"),
        }
        let mut viewer = danmu.join("talk").await;
        viewer.send(json!({"op": "token", "token": token}).to_string()).await;
        // One over 4 KiB is no message at all.
        match viewer.answer().await {
            Ok(Event::Refused(refused)) => assert_eq!(refused.code, RefusalCode::TokenInvalid, "{kind}"),
            Err(code) => assert_eq!((code, kind), (CloseCode::TooBig.code(), "huge")),
            Ok(event) => panic!("{kind}: {event:?}"),
        }
    }
}

proptest! {
    /// Header lines of any bytes: refused or read, and what is selected was offered.
    #[test]
    fn offers_of_any_bytes_are_survived(
        lines in vec(vec(any::<u8>(), 0..60), 0..4),
        words in vec("(danmu\\.v1\\.(json|deflate)|token\\.[a-z.]{0,9}|[a-z,; ]{0,9})", 0..12),
        bearer in proptest::option::of("[Bb]earer +[ -~]{0,20}"),
    ) {
        let mut headers = HeaderMap::new();
        for line in lines.iter().map(Vec::as_slice).chain([words.join(",").as_bytes()]) {
            if let Ok(line) = HeaderValue::from_bytes(line) {
                headers.append(SEC_WEBSOCKET_PROTOCOL, line);
            }
        }
        if let Some(bearer) = &bearer {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(bearer).unwrap());
        }
        if let Ok(offer) = protocols::offer(&headers)
            && let Some(selected) = offer.selected
        {
            prop_assert!(words.iter().any(|word| word.split(',').any(|entry| entry.trim() == selected)));
        }
    }

    #[test]
    fn no_token_of_any_letters_is_good(text in "\\PC{0,80}", parts in vec("[A-Za-z0-9_-]{0,60}", 3)) {
        let keys = Keys::new(&Sources { hs256_secret: Some(SECRET.as_bytes()), ..Sources::default() }).unwrap();
        prop_assert!(keys.verify(&text, 0).is_err());
        prop_assert!(keys.verify(&parts.join("."), 0).is_err());
    }

    #[test]
    fn what_is_a_room_id_is_a_dns_label(id in "\\PC{0,70}", label in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?") {
        prop_assert!(is_room_id(&label));
        if is_room_id(&id) {
            prop_assert!(id.len() <= 63 && id.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')));
        }
    }
}
