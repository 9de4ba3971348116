//! A key set over real HTTP: one that rotates, hangs, is garbage, is endless.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{set::MAX_SET, *};

const NOW: u64 = 1_800_000_000;
/// No cooldown to speak of.
const EAGER: Follow = Follow {
    refresh: Duration::from_secs(3600),
    cooldown: Duration::from_millis(1),
    deadline: Duration::from_millis(500),
};

/// What an issuer signs with.
struct Issuer {
    kid: &'static str,
    pair: KeyPair,
    algorithm: Algorithm,
}

impl Issuer {
    fn ed25519(kid: &'static str) -> Issuer {
        let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        Issuer { kid, pair, algorithm: Algorithm::EdDSA }
    }

    fn p256(kid: &'static str) -> Issuer {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Issuer { kid, pair, algorithm: Algorithm::ES256 }
    }

    fn jwk(&self) -> Value {
        let point = self.pair.public_key_raw();
        let told = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        match self.algorithm {
            Algorithm::EdDSA => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": told(point)})
            }
            _ => json!({"kty": "EC", "crv": "P-256", "kid": self.kid, "use": "sig", "alg": "ES256",
                "x": told(&point[1..33]), "y": told(&point[33..])}),
        }
    }

    fn token(&self) -> String {
        self.token_with(Some(self.kid), &json!({"sub": "u1", "exp": NOW + 60}))
    }

    fn token_with(&self, kid: Option<&str>, claims: &Value) -> String {
        let pem = self.pair.serialize_pem();
        let key = match self.algorithm {
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_ec_pem(pem.as_bytes()),
        };
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &key.unwrap()).unwrap()
    }
}

fn set(issuers: &[&Issuer]) -> String {
    json!({"keys": issuers.iter().map(|issuer| issuer.jwk()).collect::<Vec<_>>()}).to_string()
}

/// What the issuer's server does.
#[derive(Clone)]
enum Answer {
    Body(String),
    Status(&'static str),
    Hang,
    /// So many bytes, without a length told before.
    Endless(usize),
}

/// An issuer's server.
struct Served {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
}

impl Served {
    async fn new(answer: Answer) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let (next, count) = (Arc::clone(&answer), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = socket.read(&mut [0; 4096]).await;
                let answer = next.lock().unwrap().clone();
                let bytes = match answer {
                    Answer::Body(body) => {
                        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
                    }
                    Answer::Status(line) => format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n"),
                    Answer::Hang => {
                        tokio::spawn(async move {
                            tokio::time::sleep(Duration::from_secs(60)).await;
                            drop(socket);
                        });
                        continue;
                    }
                    Answer::Endless(bytes) => {
                        format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", " ".repeat(bytes))
                    }
                };
                let _ = socket.write_all(bytes.as_bytes()).await;
            }
        });
        Served { address, answer, asked }
    }

    fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Keys that follow this server.
    fn keys(&self, follow: Follow) -> Arc<Keys> {
        let url = format!("http://{}/jwks.json", self.address);
        let keys =
            Arc::new(Keys::new(&Sources { jwks: Some((&url, follow)), ..Sources::default() }).unwrap());
        tokio::spawn(Arc::clone(&keys).follow());
        keys
    }
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_key_that_came_after_the_last_reading_is_looked_for_when_a_token_names_it() {
    let (old, new) = (Issuer::ed25519("a"), Issuer::p256("b"));
    let served = Served::new(Answer::Body(set(&[&old]))).await;
    let keys = served.keys(EAGER);
    assert_eq!(keys.look_up(&old.token(), NOW).await.unwrap().sub, "u1");
    assert_eq!(keys.verify(&new.token(), NOW), Err(TokenError::UnknownKey));
    served.answers(Answer::Body(set(&[&new])));
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(keys.look_up(&new.token(), NOW).await.unwrap().sub, "u1");
    assert_eq!(keys.verify(&old.token(), NOW), Err(TokenError::UnknownKey), "the old key is withdrawn");
}

#[tokio::test]
async fn made_up_keys_ask_the_source_once_a_cooldown_however_many_come() {
    let known = Issuer::ed25519("a");
    let served = Served::new(Answer::Body(set(&[&known]))).await;
    let keys = served.keys(Follow { cooldown: Duration::from_secs(60), ..EAGER });
    assert!(keys.look_up(&known.token(), NOW).await.is_ok());
    for _ in 0..100 {
        let made_up = Issuer::ed25519("b").token();
        assert_eq!(keys.look_up(&made_up, NOW).await, Err(TokenError::UnknownKey), "not known yet");
    }
    assert_eq!(served.asked(), 1);
}

#[tokio::test]
async fn many_viewers_who_wait_for_the_same_key_share_one_look() {
    let (old, new) = (Issuer::ed25519("a"), Issuer::ed25519("b"));
    let served = Served::new(Answer::Body(set(&[&old]))).await;
    let keys = served.keys(EAGER);
    assert!(keys.look_up(&old.token(), NOW).await.is_ok());
    served.answers(Answer::Body(set(&[&old, &new])));
    tokio::time::sleep(Duration::from_millis(5)).await;
    let token = new.token();
    let all = (0..50).map(|_| keys.look_up(&token, NOW));
    assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
    // One may have been on its way when the last of them asked.
    assert!(served.asked() <= 3, "{}", served.asked());
}

#[tokio::test]
async fn a_key_that_a_fresh_look_does_not_bring_makes_the_token_invalid() {
    let known = Issuer::ed25519("a");
    let served = Served::new(Answer::Body(set(&[&known]))).await;
    let keys = served.keys(EAGER);
    assert!(keys.look_up(&known.token(), NOW).await.is_ok());
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(keys.look_up(&Issuer::ed25519("b").token(), NOW).await, Err(TokenError::Invalid));
    let forged = Issuer::ed25519("a").token();
    assert_eq!(keys.look_up(&forged, NOW).await, Err(TokenError::Invalid), "the name alone is no key");
}

#[tokio::test]
async fn the_last_good_keys_stay_whatever_the_source_does_and_a_viewer_waits_no_longer_than_the_deadline() {
    let known = Issuer::ed25519("a");
    let served = Served::new(Answer::Body(set(&[&known]))).await;
    let keys = served.keys(EAGER);
    assert!(keys.look_up(&known.token(), NOW).await.is_ok());
    let too_many = json!({"keys": vec![known.jwk(); MAX_SET_KEYS + 1]}).to_string();
    for bad in [
        Answer::Hang,
        Answer::Status("503 Service Unavailable"),
        Answer::Status("302 Found"),
        Answer::Body("<html>".to_owned()),
        Answer::Body("[]".to_owned()),
        Answer::Body(r#"{"keys": []}"#.to_owned()),
        Answer::Body(too_many),
        Answer::Body("\u{0}".repeat(1000)),
        Answer::Endless(10 << 20),
    ] {
        served.answers(bad);
        tokio::time::sleep(Duration::from_millis(5)).await;
        let begin = Instant::now();
        assert_eq!(keys.look_up(&Issuer::p256("z").token(), NOW).await, Err(TokenError::UnknownKey));
        assert!(begin.elapsed() < Duration::from_secs(3));
        assert!(keys.verify(&known.token(), NOW).is_ok());
    }
    assert_eq!(keys.in_set(), Some(1));
    assert!(keys.looks().1 >= 9, "{:?}", keys.looks());
}

#[tokio::test]
async fn a_source_that_is_away_at_the_start_is_asked_again_without_a_token() {
    let known = Issuer::p256("a");
    let served = Served::new(Answer::Status("500 Oops")).await;
    let keys = served.keys(EAGER);
    assert_eq!(keys.look_up(&known.token(), NOW).await, Err(TokenError::UnknownKey));
    served.answers(Answer::Body(set(&[&known])));
    eventually("the keys are there", || keys.verify(&known.token(), NOW).is_ok()).await;
}

#[tokio::test]
async fn keys_are_read_again_in_the_background() {
    let (old, new) = (Issuer::ed25519("a"), Issuer::ed25519("b"));
    let served = Served::new(Answer::Body(set(&[&old]))).await;
    let keys = served.keys(Follow { refresh: Duration::from_millis(20), ..EAGER });
    assert!(keys.look_up(&old.token(), NOW).await.is_ok());
    served.answers(Answer::Body(set(&[&new])));
    eventually("the new key is there", || keys.verify(&new.token(), NOW).is_ok()).await;
}

#[tokio::test]
async fn a_file_is_read_at_once_and_followed_and_a_bad_edit_changes_nothing() {
    let (old, new) = (Issuer::ed25519("a"), Issuer::p256("b"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let place = path.to_str().unwrap();
    let follow = Follow { refresh: Duration::from_millis(20), ..EAGER };
    let made = || Keys::new(&Sources { jwks: Some((place, follow)), ..Sources::default() });
    assert!(made().unwrap_err()[0].to_string().contains("cannot be read"));
    std::fs::write(&path, set(&[&old])).unwrap();
    let keys = Arc::new(made().unwrap());
    assert!(keys.verify(&old.token(), NOW).is_ok());
    tokio::spawn(Arc::clone(&keys).follow());
    std::fs::write(&path, "{").unwrap();
    eventually("the bad edit is seen", || keys.looks().1 > 0).await;
    assert!(keys.verify(&old.token(), NOW).is_ok());
    std::fs::write(&path, set(&[&new])).unwrap();
    eventually("the good edit is seen", || keys.verify(&new.token(), NOW).is_ok()).await;
}

#[test]
fn keys_come_over_tls_or_from_this_machine_only() {
    for good in
        ["https://id.example.com/keys", "http://127.0.0.1:1/k", "http://[::1]/k", "http://localhost/k"]
    {
        assert!(matches!(Source::parse(good), Ok(Source::Url(_))), "{good}");
    }
    assert!(matches!(Source::parse("/etc/keys.json"), Ok(Source::File(_))));
    for bad in [
        "http://id.example.com/keys",
        "http://10.0.0.1/k",
        "ftp://localhost/k",
        "https://",
        "http://localhost.evil.com/",
    ] {
        assert!(Source::parse(bad).is_err(), "{bad}");
    }
}

fn read(keys: &[Value]) -> Result<usize, SetFault> {
    let validations =
        set::ALGORITHMS.map(|algorithm| (algorithm, validation(algorithm, &Sources::default())));
    set::read(json!({"keys": keys}).to_string().as_bytes(), &validations).map(|keys| keys.len())
}

#[test]
fn of_a_set_only_sound_public_keys_for_signatures_are_taken() {
    let (ed, ec) = (Issuer::ed25519("a").jwk(), Issuer::p256("b").jwk());
    let with = |jwk: &Value, field: &str, value: Value| {
        let mut jwk = jwk.clone();
        jwk[field] = value;
        jwk
    };
    let unfit = [
        json!({"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0", "alg": "HS256"}),
        json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
        json!({"kty": "RSA", "n": "_".repeat(342), "e": "AA"}),
        json!({"kty": "RSA", "n": "_".repeat(1366), "e": "AQAB"}),
        json!({"kty": "PQC", "k": 1}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": "_".repeat(43)}),
        with(&ec, "x", "AAAA".into()),
        with(&ec, "crv", "P-384".into()),
        with(&ec, "alg", "ES384".into()),
        with(&ec, "use", "enc".into()),
        with(&ed, "key_ops", json!(["sign"])),
        json!(1),
    ];
    for key in &unfit {
        assert_eq!(read(std::slice::from_ref(key)), Err(SetFault::NoneFits(1)), "{key}");
    }
    let all: Vec<Value> = unfit.into_iter().chain([ed, ec]).collect();
    assert_eq!(read(&all), Ok(2), "one of a kind we do not know spoils no other");
    assert_eq!(set::read(&vec![b' '; MAX_SET + 1], &[]).unwrap_err(), SetFault::TooLong);
}

#[test]
fn audience_and_issuer_are_pinned_for_keys_of_a_set_too() {
    let issuer = Issuer::ed25519("a");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    std::fs::write(&path, set(&[&issuer])).unwrap();
    let sources = Sources {
        jwks: Some((path.to_str().unwrap(), EAGER)),
        audience: Some("danmu"),
        issuer: Some("https://id.example.com"),
        ..Sources::default()
    };
    let keys = Keys::new(&sources).unwrap();
    let claims = |aud: &str, iss: &str| json!({"sub": "u1", "exp": NOW + 60, "aud": aud, "iss": iss});
    let verify = |kid, claims: Value| keys.verify(&issuer.token_with(kid, &claims), NOW);
    assert!(verify(Some("a"), claims("danmu", "https://id.example.com")).is_ok());
    assert!(verify(None, claims("danmu", "https://id.example.com")).is_ok(), "without a kid all are tried");
    assert_eq!(verify(Some("a"), claims("other", "https://id.example.com")), Err(TokenError::Invalid));
    assert_eq!(verify(Some("a"), claims("danmu", "https://evil.example")), Err(TokenError::Invalid));
    assert_eq!(verify(Some("a"), json!({"sub": "u1", "exp": NOW + 60})), Err(TokenError::Invalid));
    let late = json!({"sub": "u1", "exp": NOW, "aud": "danmu", "iss": "https://id.example.com"});
    assert_eq!(verify(Some("a"), late), Err(TokenError::Expired));
}

#[test]
fn a_set_verifies_no_secret_tokens() {
    let issuer = Issuer::ed25519("a");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    std::fs::write(&path, set(&[&issuer])).unwrap();
    let place = path.to_str().unwrap();
    let keys = Keys::new(&Sources { jwks: Some((place, EAGER)), ..Sources::default() }).unwrap();
    let header = Header { kid: Some("a".into()), ..Header::new(Algorithm::HS256) };
    let public = EncodingKey::from_secret(issuer.pair.public_key_raw());
    let forged = jsonwebtoken::encode(&header, &json!({"sub": "u1", "exp": NOW + 60}), &public).unwrap();
    assert_eq!(keys.verify(&forged, NOW), Err(TokenError::Invalid));
}
