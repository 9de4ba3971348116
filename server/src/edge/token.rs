//! Tokens: who a viewer is, as signed by the site that embeds the room.

use std::fmt;

use danmu_wire::Role;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

/// Longest token looked at, in bytes; it arrives in a header, whose whole block is bounded too.
pub const MAX_TOKEN: usize = 4096;
/// Longest `sub`, in characters.
pub const MAX_SUB: usize = 128;
/// Longest `name`, in characters.
pub const MAX_NAME: usize = 64;
/// Most entries of `rooms`.
pub const MAX_ROOMS: usize = 100;

/// What a token says about its bearer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// The bearer's stable id, 1 to [`MAX_SUB`] characters.
    pub sub: String,
    /// The name shown beside what the bearer says, at most [`MAX_NAME`] characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the bearer may do.
    #[serde(default)]
    pub role: Role,
    /// The rooms the token is good for; `None` means every room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rooms: Option<Vec<String>>,
    /// When the token ends, in seconds since the Unix epoch.
    pub exp: u64,
}

impl Claims {
    fn within_bounds(&self) -> bool {
        let plain = |text: &str, longest: usize| {
            text.chars().count() <= longest && !text.chars().any(reorders_or_controls)
        };
        !self.sub.is_empty()
            && plain(&self.sub, MAX_SUB)
            && self.name.as_deref().is_none_or(|name| plain(name, MAX_NAME))
            && self.rooms.as_ref().is_none_or(|rooms| {
                rooms.len() <= MAX_ROOMS && rooms.iter().all(|room| danmu_wire::is_room_id(room))
            })
    }
}

/// Control and bidirectional formatting characters: in a name they would disturb the text around it.
fn reorders_or_controls(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Why a token was not taken. It does not say more, because the bearer may be guessing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Signed by one of our keys, but its time is over: a fresh one will do.
    #[error("the token has expired: get a fresh one")]
    Expired,
    /// Not signed by one of our keys, or its claims are missing or out of bounds.
    #[error("the token is not valid here")]
    Invalid,
}

/// Why a configured key can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// An empty secret would accept a token from anyone.
    #[error("the HS256 secret is empty: give it at least 32 random bytes")]
    EmptySecret,
    /// A public key is known to everyone, so as a secret it would accept a token from anyone.
    #[error("the HS256 secret is a PEM file: give a PEM public key as the EdDSA or RS256 key instead")]
    SecretIsPem,
    /// The server only verifies, and must not hold what signs.
    #[error("the {0} key is a private key: give its public key, as `openssl pkey -pubout` prints it")]
    Private(&'static str),
    /// Not a public key of this algorithm.
    #[error("the {0} key is not a PEM public key of that algorithm: {1}")]
    Unreadable(&'static str, String),
}

/// The keys that tokens are verified with. Each is bound to one algorithm: a token's header chooses among
/// the keys, never how a key is used.
pub struct Keys {
    keys: Vec<(Algorithm, DecodingKey, Validation)>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(algorithm, ..)| algorithm)).finish()
    }
}

impl Keys {
    /// Reads the keys: a raw HS256 secret, and Ed25519 and RSA public keys as PEM. With none, no token is
    /// valid.
    ///
    /// # Errors
    /// The first key that can't be used safely.
    pub fn new(
        hs256_secret: Option<&[u8]>,
        eddsa_pem: Option<&[u8]>,
        rs256_pem: Option<&[u8]>,
    ) -> Result<Keys, KeyError> {
        let mut keys = Vec::new();
        if let Some(secret) = hs256_secret {
            if secret.is_empty() {
                return Err(KeyError::EmptySecret);
            }
            if secret.trim_ascii_start().starts_with(b"-----BEGIN ") {
                return Err(KeyError::SecretIsPem);
            }
            keys.push(bound(Algorithm::HS256, DecodingKey::from_secret(secret)));
        }
        if let Some(pem) = eddsa_pem {
            keys.push(bound(Algorithm::EdDSA, public_key("EdDSA", pem, DecodingKey::from_ed_pem)?));
        }
        if let Some(pem) = rs256_pem {
            keys.push(bound(Algorithm::RS256, public_key("RS256", pem, DecodingKey::from_rsa_pem)?));
        }
        Ok(Keys { keys })
    }

    /// What `token` says, if one of the keys signed it and it is good at `now_unix` (seconds since the Unix
    /// epoch). There is no leeway: whoever mints can add it to `exp`.
    ///
    /// # Errors
    /// [`TokenError::Expired`] from the second `exp` on, [`TokenError::Invalid`] for all else; an expired
    /// token with a bad signature is invalid.
    pub fn verify(&self, token: &str, now_unix: u64) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Invalid);
        }
        let algorithm = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?.alg;
        let (_, key, validation) =
            self.keys.iter().find(|(bound, ..)| *bound == algorithm).ok_or(TokenError::Invalid)?;
        let claims =
            jsonwebtoken::decode::<Claims>(token, key, validation).map_err(|_| TokenError::Invalid)?.claims;
        if !claims.within_bounds() {
            return Err(TokenError::Invalid);
        }
        if claims.exp <= now_unix {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }
}

/// A key that is used with `algorithm` alone. A token for another audience stays refused, as RFC 7519
/// 4.1.3 asks of a receiver that has no audience name.
fn bound(algorithm: Algorithm, key: DecodingKey) -> (Algorithm, DecodingKey, Validation) {
    let mut validation = Validation::new(algorithm);
    // The caller passes the time in; the library would read the clock and add 60 s of leeway.
    validation.validate_exp = false;
    (algorithm, key, validation)
}

fn public_key(
    algorithm: &'static str,
    pem: &[u8],
    read: fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>,
) -> Result<DecodingKey, KeyError> {
    // The library reads a private RSA key without complaint and then fails on every token.
    if String::from_utf8_lossy(pem).contains("PRIVATE KEY-----") {
        return Err(KeyError::Private(algorithm));
    }
    read(pem).map_err(|error| KeyError::Unreadable(algorithm, error.to_string()))
}

/// An HS256 token with `claims`, for tools and tests.
///
/// # Errors
/// [`TokenError::Invalid`] if [`Keys::verify`] would refuse the token whatever the time.
pub fn mint(secret: &[u8], claims: &Claims) -> Result<String, TokenError> {
    if secret.is_empty() || !claims.within_bounds() {
        return Err(TokenError::Invalid);
    }
    let key = EncodingKey::from_secret(secret);
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key)
        .map_err(|_| TokenError::Invalid)?;
    if token.len() > MAX_TOKEN {
        return Err(TokenError::Invalid);
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    const NOW: u64 = 1_800_000_000;
    // Made for these tests alone with `openssl genpkey`.
    const ED_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIIvy3E57bCOut9U4GDQWwnNswAgCJ7LEALkYxIHkySKy\n\
        -----END PRIVATE KEY-----\n";
    const ED_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAl8bYZKoUTFk+c2XtCc1fauyAZ/a+FYMrYtoF178pylI=\n\
        -----END PUBLIC KEY-----\n";
    const RSA_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAum3biZGnj3HLJbdRHv2X\n\
        DSjDsOQiNiN4VFlWYHN3igl7Y8YwNs/mMRGcSuHVtHbfD5GxByWkfe+oaKIenCzI\n\
        Inkg26nuh8C6ZLvrZXmWHehM7PYlICVZjMwg6XPRVYmmlCr5Esqqa5QjZvNsJdXQ\n\
        epwFP1WqAS56VEpXEVzYw2BUv6+6xitvZPDVaw9NyB1qEceLJ4g+Tf1dS5yqxrPA\n\
        xaC5YW/Nymfoaw+PV9Nt2e1cYIKx1Pp7pviO4HPPmdVlzWX/Bw2GBDvZYqKXp5//\n\
        xnKMpRh3XXN94GeozWStwUhEAfUT+wTiq3axrNqWXz3U8UASMR8zRzKEElqfL8Hv\n\
        uwIDAQAB\n\
        -----END PUBLIC KEY-----\n";
    /// `{"sub":"u1","exp":1800000060}`, signed with the private half of `RSA_PUBLIC` by openssl.
    const RSA_TOKEN: &str = "\
        eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1MSIsImV4cCI6MTgwMDAwMDA2MH0.pJ6bltRB_gIgp\
        b2lOhwdBVCQEhy2BBW8owA1lI4jvEEs73FnFt1_L8pDAzRGkz1W2VdcZ8mhpas4NugogDl2TyU9J9Gr5YB24rjtxlK\
        gud1yXNSQC7Cz7jCgVGALAYPxfHIJslNi3RcnwQxdMyFbmdIIYqcCLsCgJYeq9AcIwm3slwO7mtK5PrCI_PKBplCz1\
        jwjamJj7avnGNXdX1I6Q2y1tHsGP5q3tWjoqAxx5dYKnv3I2DXrxtCst6jHwJM1Dgv-jUwM2Mklc10VAu1ePFhhQ4d\
        zPkmQRiYePIXB8YoB9fNeHUb_YZ75tHHc7P8pgGKuIjmWlqL5-e6PxEl3bA";

    fn all_keys() -> Keys {
        Keys::new(Some(SECRET), Some(ED_PUBLIC.as_bytes()), Some(RSA_PUBLIC.as_bytes())).unwrap()
    }

    fn claims() -> Claims {
        Claims {
            sub: "u1".into(),
            name: Some("弾幕".into()),
            role: Role::Moderator,
            rooms: Some(vec!["worlds-final".into()]),
            exp: NOW + 60,
        }
    }

    fn hs256(claims: &Value) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET))
            .unwrap()
    }

    fn verify(claims: &Value) -> Result<Claims, TokenError> {
        all_keys().verify(&hs256(claims), NOW)
    }

    #[test]
    fn a_minted_token_verifies_to_the_same_claims() {
        let token = mint(SECRET, &claims()).unwrap();
        assert_eq!(all_keys().verify(&token, NOW), Ok(claims()));
    }

    #[test]
    fn an_eddsa_token_verifies() {
        let key = EncodingKey::from_ed_pem(ED_PRIVATE.as_bytes()).unwrap();
        let token = jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims(), &key).unwrap();
        assert_eq!(all_keys().verify(&token, NOW), Ok(claims()));
        let without_eddsa = Keys::new(Some(SECRET), None, None).unwrap();
        assert_eq!(without_eddsa.verify(&token, NOW), Err(TokenError::Invalid));
    }

    #[test]
    fn an_rs256_token_verifies_with_the_defaults_of_missing_claims() {
        let expected =
            Claims { sub: "u1".into(), name: None, role: Role::Viewer, rooms: None, exp: NOW + 60 };
        assert_eq!(all_keys().verify(RSA_TOKEN, NOW), Ok(expected));
    }

    #[test]
    fn the_public_rsa_key_is_no_hs256_secret() {
        let forged = mint(RSA_PUBLIC.as_bytes(), &claims()).unwrap();
        assert_eq!(all_keys().verify(&forged, NOW), Err(TokenError::Invalid));
        let rsa_alone = Keys::new(None, None, Some(RSA_PUBLIC.as_bytes())).unwrap();
        assert_eq!(rsa_alone.verify(&forged, NOW), Err(TokenError::Invalid));
    }

    #[test]
    fn garbage_and_unsigned_tokens_are_invalid() {
        // {"alg":"none","typ":"JWT"} . {"sub":"u1","exp":1800000060}
        let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJ1MSIsImV4cCI6MTgwMDAwMDA2MH0.";
        let cut = hs256(&json!({"sub": "u1", "exp": NOW + 60}));
        let cut = &cut[..cut.rfind('.').unwrap() + 1];
        for token in ["", ".", "..", "...", "a.b.c", "弾.幕.弾", "\0", unsigned, cut] {
            assert_eq!(all_keys().verify(token, NOW), Err(TokenError::Invalid), "{token:?}");
        }
    }

    #[test]
    fn another_key_or_algorithm_of_the_family_is_invalid() {
        let other = mint(b"another secret", &claims()).unwrap();
        assert_eq!(all_keys().verify(&other, NOW), Err(TokenError::Invalid));
        let key = EncodingKey::from_secret(SECRET);
        let hs512 = jsonwebtoken::encode(&Header::new(Algorithm::HS512), &claims(), &key).unwrap();
        assert_eq!(all_keys().verify(&hs512, NOW), Err(TokenError::Invalid));
        let none = Keys::new(None, None, None).unwrap();
        assert_eq!(none.verify(&mint(SECRET, &claims()).unwrap(), NOW), Err(TokenError::Invalid));
    }

    #[test]
    fn a_token_expires_in_the_second_it_names() {
        let token = mint(SECRET, &claims()).unwrap();
        assert!(all_keys().verify(&token, NOW + 59).is_ok());
        assert_eq!(all_keys().verify(&token, NOW + 60), Err(TokenError::Expired));
    }

    #[test]
    fn an_expired_forgery_is_invalid_rather_than_expired() {
        let forged = mint(b"another secret", &claims()).unwrap();
        assert_eq!(all_keys().verify(&forged, NOW + 3600), Err(TokenError::Invalid));
    }

    #[test]
    fn missing_or_wrong_claims_are_invalid() {
        let exp = NOW + 60;
        let rooms: Vec<String> = (0..=MAX_ROOMS).map(|n| format!("r{n}")).collect();
        assert!(verify(&json!({"sub": "u1", "exp": exp, "extra": {"ours": false}})).is_ok());
        assert!(verify(&json!({"sub": "u1", "exp": exp, "rooms": rooms[1..]})).is_ok());
        for bad in [
            json!({"sub": "u1"}),
            json!({"exp": exp}),
            json!({"sub": "", "exp": exp}),
            json!({"sub": 7, "exp": exp}),
            json!({"sub": "s".repeat(MAX_SUB + 1), "exp": exp}),
            json!({"sub": "u1", "exp": -1}),
            json!({"sub": "u1", "exp": "soon"}),
            json!({"sub": "u1", "exp": exp, "role": "king"}),
            json!({"sub": "u1", "exp": exp, "name": "幕".repeat(MAX_NAME + 1)}),
            json!({"sub": "u1", "exp": exp, "name": "line\nbreak"}),
            json!({"sub": "u1", "exp": exp, "name": "\u{202e}reversed"}),
            json!({"sub": "u1", "exp": exp, "rooms": "worlds-final"}),
            json!({"sub": "u1", "exp": exp, "rooms": ["Worlds Final"]}),
            json!({"sub": "u1", "exp": exp, "rooms": rooms}),
            json!({"sub": "u1", "exp": exp, "aud": "another-service"}),
            json!(["u1", exp]),
        ] {
            assert_eq!(verify(&bad), Err(TokenError::Invalid), "{bad}");
        }
    }

    #[test]
    fn a_huge_token_is_invalid_even_if_well_signed() {
        let token = hs256(&json!({"sub": "u1", "exp": NOW + 60, "extra": "x".repeat(MAX_TOKEN)}));
        assert_eq!(all_keys().verify(&token, NOW), Err(TokenError::Invalid));
    }

    #[test]
    fn nothing_is_minted_that_would_not_verify() {
        assert_eq!(mint(b"", &claims()), Err(TokenError::Invalid));
        assert_eq!(mint(SECRET, &Claims { sub: String::new(), ..claims() }), Err(TokenError::Invalid));
    }

    #[test]
    fn unsafe_or_unreadable_keys_are_refused() {
        let new = |hs256: Option<&str>, eddsa: Option<&str>, rs256: Option<&str>| {
            let refused =
                Keys::new(hs256.map(str::as_bytes), eddsa.map(str::as_bytes), rs256.map(str::as_bytes));
            refused.unwrap_err()
        };
        assert_eq!(new(Some(""), None, None), KeyError::EmptySecret);
        assert_eq!(new(Some(RSA_PUBLIC), None, None), KeyError::SecretIsPem);
        assert_eq!(new(None, Some(ED_PRIVATE), None), KeyError::Private("EdDSA"));
        assert!(matches!(new(None, Some(RSA_PUBLIC), None), KeyError::Unreadable("EdDSA", _)));
        assert!(matches!(new(None, None, Some(ED_PUBLIC)), KeyError::Unreadable("RS256", _)));
        assert!(matches!(new(None, None, Some("no key")), KeyError::Unreadable("RS256", _)));
    }
}
