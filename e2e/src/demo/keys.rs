//! Tokens of an identity provider whose keys change while the servers run.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::json;

use super::{Stage, check, seat::Seat, stage::in_an_hour};
use crate::wait::until;

const ROOM: &str = "demo-keys";
/// The servers look for an unknown key every 10 s at most; a kubelet brings a Secret to its pods within some 90 s.
const ROTATED: Duration = Duration::from_secs(150);

/// A key of the identity provider.
pub(super) struct Key(&'static str, KeyPair);

impl Key {
    pub(super) fn new(name: &'static str) -> Result<Key, String> {
        Ok(Key(name, KeyPair::generate_for(&PKCS_ED25519).map_err(|error| error.to_string())?))
    }

    pub(super) fn set(&self) -> String {
        let x = BASE64_URL_SAFE_NO_PAD.encode(self.1.public_key_raw());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": self.0, "x": x}]}).to_string()
    }

    fn token(&self, user: &str) -> Result<String, String> {
        let header = Header { kid: Some(self.0.to_owned()), ..Header::new(Algorithm::EdDSA) };
        let key = EncodingKey::from_ed_pem(self.1.serialize_pem().as_bytes());
        let key = key.map_err(|error| error.to_string())?;
        let claims = json!({"sub": user, "role": "speaker", "exp": in_an_hour()});
        jsonwebtoken::encode(&header, &claims, &key).map_err(|error| error.to_string())
    }
}

pub(super) async fn walk(stage: &Stage) -> Result<(), String> {
    stage.room(ROOM, json!({"moderation": {"anonymous": "Deny"}})).await?;
    let (old, new) = (Key::new("demo-1")?, Key::new("demo-2")?);
    let anonymous = Seat::join(stage, ROOM, "", None).await.map(drop);
    check(is_closed(&anonymous, &["4507"]), "nobody comes in without a token", &anonymous)?;
    stage.keys(&old.set()).await?;
    let mut ann = comes_in(stage, &old.token("ann")?).await?;
    stage.tell("Ann comes in with a token of the key set's key");
    stage.keys(&new.set()).await?;
    let _bob = comes_in(stage, &new.token("bob")?).await?;
    stage.tell("the provider changes its key, and Bob comes in with the new one");
    let late = Seat::join(stage, ROOM, "", Some(&old.token("eve")?)).await.map(drop);
    check(is_closed(&late, &["4504", "4013"]), "the old key opens nothing any more", &late)?;
    ann.say("still here").await?;
    stage.tell("the old key opens nothing any more; who was in stays until the token ends");
    Ok(())
}

/// Whether the server closed the connection with one of these codes; that it was not reached says nothing of keys. An
/// unknown key is 4013, come back, while the set was read only just now.
fn is_closed(came_in: &Result<(), String>, codes: &[&str]) -> bool {
    matches!(came_in, Err(why) if codes.iter().any(|code| why.contains(code)))
}

async fn comes_in(stage: &Stage, token: &str) -> Result<Seat, String> {
    let what = "the key is known to the servers";
    until(ROTATED, what, async || Seat::join(stage, ROOM, "", Some(token)).await).await
}
