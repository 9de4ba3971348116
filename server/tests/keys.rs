//! A key set that rotates under a running server: viewers come in with the new key, renew with it, and are
//! asked back while it cannot be looked for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it goes wrong")]

#[allow(dead_code, unreachable_pub, reason = "shared with other test binaries, which use the rest")]
mod support;

use std::fs;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use danmu_server::edge::session::unix_now;
use danmu_wire::{CloseCode, Event, RefusalCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::json;
use support::{Danmu, Viewer};

struct Issuer(&'static str, KeyPair);

impl Issuer {
    fn new(kid: &'static str) -> Issuer {
        Issuer(kid, KeyPair::generate_for(&PKCS_ED25519).unwrap())
    }

    fn set(&self) -> String {
        let x = BASE64_URL_SAFE_NO_PAD.encode(self.1.public_key_raw());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": self.0, "x": x}]}).to_string()
    }

    fn token(&self) -> String {
        let header = Header { kid: Some(self.0.to_owned()), ..Header::new(Algorithm::EdDSA) };
        let key = EncodingKey::from_ed_pem(self.1.serialize_pem().as_bytes()).unwrap();
        let claims = json!({"sub": "ann", "role": "speaker", "exp": unix_now() + 600});
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    }
}

async fn join(danmu: &Danmu, token: &str) -> Viewer {
    let protocols = ["danmu.v1.json".to_owned(), format!("token.{token}")];
    danmu.connect("/rooms/members/ws", &protocols).await.unwrap()
}

#[tokio::test]
async fn a_viewer_with_a_new_key_is_let_in_once_it_is_there_and_asked_back_before() {
    let (old, new) = (Issuer::new("a"), Issuer::new("b"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    fs::write(&file, old.set()).unwrap();
    let danmu = Danmu::start(&["--token-jwks", file.to_str().unwrap()]).await;
    let mut ann = join(&danmu, &old.token()).await;
    assert!(matches!(ann.event().await, Event::Joined(_)));
    fs::write(&file, new.set()).unwrap();
    // The file was read just now, at the start: for ten seconds nobody's word has it read again.
    let mut early = join(&danmu, &new.token()).await;
    assert_eq!(early.close_code().await, CloseCode::TooBusy.code());
    ann.send(json!({"op": "token", "token": new.token()}).to_string()).await;
    assert_eq!(ann.refusal().await.code, RefusalCode::TokenInvalid);
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    let mut bob = join(&danmu, &new.token()).await;
    assert!(matches!(bob.event().await, Event::Joined(_)), "the key is looked for while he waits");
    ann.send(json!({"op": "token", "token": new.token()}).to_string()).await;
    ann.say("renewed").await;
    ann.find(|e| matches!(e, Event::Ack(_))).await;
    let mut late = join(&danmu, &old.token()).await;
    assert_eq!(late.close_code().await, CloseCode::TooBusy.code(), "just looked: not known yet");
    let (_, metrics) = danmu.admin("GET", "/metrics", "").await;
    assert!(metrics.contains("danmu_token_keys 1"), "{metrics}");
}
