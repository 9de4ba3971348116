//! Tokens: who a viewer is, as signed by the site that embeds the room.

mod set;
mod source;

use std::{fmt, sync::Arc};

use danmu_wire::Role;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rsa::pkcs1::DecodeRsaPublicKey;
use serde::{Deserialize, Serialize};

pub use set::{MAX_SET, MAX_SET_KEYS, SetFault};
pub use source::{Follow, Source, SourceFault};

use set::SetKey;
use source::KeySet;

/// Longest token looked at, in bytes; it arrives in a header, whose whole block is bounded too.
pub const MAX_TOKEN: usize = 4096;
/// Longest `sub`, in characters.
pub const MAX_SUB: usize = 128;
/// Longest `name`, in characters.
pub const MAX_NAME: usize = 64;
/// Most entries of `rooms`.
pub const MAX_ROOMS: usize = 100;
/// Shortest HS256 secret, in bytes.
pub const MIN_SECRET: usize = 16;
/// Seconds by which the clock of whoever signs may be ahead of ours when it sets `nbf`.
pub const NOT_BEFORE_LEEWAY: u64 = 60;

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
    /// Whether the token is good for the room.
    pub fn admits(&self, room: &str) -> bool {
        self.rooms.as_ref().is_none_or(|rooms| rooms.iter().any(|named| named == room))
    }

    fn within_bounds(&self) -> bool {
        is_user_id(&self.sub)
            && self.name.as_deref().is_none_or(|name| plain(name, MAX_NAME))
            && self.rooms.as_ref().is_none_or(|rooms| {
                rooms.len() <= MAX_ROOMS && rooms.iter().all(|room| danmu_wire::is_room_id(room))
            })
    }
}

/// Whether a user can be called that: 1 to [`MAX_SUB`] characters, none of control or direction.
pub fn is_user_id(text: &str) -> bool {
    !text.is_empty() && plain(text, MAX_SUB)
}

fn plain(text: &str, longest: usize) -> bool {
    text.chars().count() <= longest && !text.chars().any(reorders_or_controls)
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
    /// Signed with a key that is not known here and could not be looked for just now: it may be known soon.
    #[error("the key of the token is not known here yet: try again")]
    UnknownKey,
    /// Not signed by one of our keys, or its claims are missing or out of bounds.
    #[error("the token is not valid here")]
    Invalid,
}

/// Why a configured key can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Few bytes can be found by trying.
    #[error(
        "--token-secret: its {0} bytes can be guessed; use {MIN_SECRET} or more, as `openssl rand -hex 32` makes them"
    )]
    ShortSecret(usize),
    /// A public key is known to everyone, so as a secret it would accept a token from anyone.
    #[error("--token-secret: this is a PEM file; give a public key as --token-eddsa or --token-rs256")]
    SecretIsPem,
    /// The server only verifies, and must not hold what signs.
    #[error("{0}: this is a private key; give its public key, as `openssl pkey -pubout` prints it")]
    Private(&'static str),
    /// Not a public key of this algorithm.
    #[error("{0}: not a PEM public key of {1}; it starts with -----BEGIN PUBLIC KEY-----")]
    Unreadable(&'static str, &'static str),
    /// Short RSA keys are factored; the library verifies with none longer than 4096 bits.
    #[error("--token-rs256: an RSA key of {0} bits; use 2048 to 4096 bits")]
    RsaSize(usize),
    /// The key set cannot be used.
    #[error("--token-jwks: {0}")]
    Set(#[from] SourceFault),
}

/// What tokens are verified with; any part may be missing. With no key, no token is valid.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources<'a> {
    /// A raw secret of [`MIN_SECRET`] bytes or more.
    pub hs256_secret: Option<&'a [u8]>,
    /// An Ed25519 public key as PEM.
    pub eddsa_pem: Option<&'a [u8]>,
    /// An RSA public key as PEM.
    pub rs256_pem: Option<&'a [u8]>,
    /// Where a JSON Web Key Set is, and how often it is read.
    pub jwks: Option<(&'a str, Follow)>,
    /// `aud` must have this; `None` ignores `aud`.
    pub audience: Option<&'a str>,
    /// `iss` must be this; `None` ignores `iss`.
    pub issuer: Option<&'a str>,
}

/// The keys that tokens are verified with. Each is bound to one algorithm: a token's header chooses among
/// the keys, never how a key is used.
pub struct Keys {
    keys: Vec<(Algorithm, DecodingKey, Validation)>,
    set: Option<Arc<KeySet>>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(algorithm, ..)| algorithm)).entries(&self.set).finish()
    }
}

/// The claims as they come; unknown ones are ignored.
#[derive(Deserialize)]
struct Payload {
    #[serde(flatten)]
    claims: Claims,
    #[serde(default)]
    nbf: Option<u64>,
}

impl Keys {
    /// Reads the keys.
    ///
    /// # Errors
    /// Every key that can't be used safely.
    pub fn new(sources: &Sources<'_>) -> Result<Keys, Vec<KeyFault>> {
        let read = [
            sources.hs256_secret.map(|secret| (Algorithm::HS256, secret_key(secret))),
            sources.eddsa_pem.map(|pem| (Algorithm::EdDSA, eddsa_key(pem))),
            sources.rs256_pem.map(|pem| (Algorithm::RS256, rsa_key(pem))),
        ];
        let (mut keys, mut faults) = (Vec::new(), Vec::new());
        for (algorithm, key) in read.into_iter().flatten() {
            match key {
                Ok(key) => keys.push((algorithm, key, validation(algorithm, sources))),
                Err(fault) => faults.push(fault),
            }
        }
        let set = sources.jwks.map(|(place, follow)| {
            let validations = set::ALGORITHMS.map(|algorithm| (algorithm, validation(algorithm, sources)));
            KeySet::new(place, follow, validations)
        });
        let set = set.transpose().map_err(|fault| faults.push(fault.into())).unwrap_or_default();
        if faults.is_empty() { Ok(Keys { keys, set: set.map(Arc::new) }) } else { Err(faults) }
    }

    /// Reads the key set anew now and then, for as long as the keys are in use; comes back at once where
    /// there is none.
    pub async fn follow(self: Arc<Self>) {
        let set = self.set.clone();
        drop(self);
        if let Some(set) = set {
            set.follow().await;
        }
    }

    /// How many keys the key set has now; none without a set.
    pub fn in_set(&self) -> Option<usize> {
        self.set.as_ref().map(|set| set.keys().len())
    }

    /// How often the key set was read, and how often that failed.
    pub fn looks(&self) -> (u64, u64) {
        self.set.as_ref().map_or((0, 0), |set| set.looks())
    }

    /// What `token` says, if one of the keys signed it and it is good at `now_unix` (seconds since the Unix
    /// epoch). `exp` has no leeway, because it also ends connections and the two must agree; `nbf` has
    /// [`NOT_BEFORE_LEEWAY`].
    ///
    /// # Errors
    /// [`TokenError::Expired`] from the second `exp` on, [`TokenError::Invalid`] for all else; an expired
    /// token with a bad signature is invalid.
    pub fn verify(&self, token: &str, now_unix: u64) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Invalid);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        // RFC 7515 4.1.11: whoever does not know a critical extension must refuse the token.
        if header.crit.is_some() {
            return Err(TokenError::Invalid);
        }
        let given = self.keys.iter().find(|(bound, ..)| *bound == header.alg);
        if let Some((_, key, validation)) = given {
            let read = read(token, key, validation, now_unix);
            if read != Err(TokenError::Invalid) || self.set.is_none() {
                return read;
            }
        }
        let set = self.set.as_ref().ok_or(TokenError::Invalid)?;
        if !set::ALGORITHMS.contains(&header.alg) {
            return Err(TokenError::Invalid);
        }
        let keys = set.keys();
        let mut fitting = keys.iter().filter(|key| key.fits(&header)).peekable();
        if fitting.peek().is_none() {
            return Err(TokenError::UnknownKey);
        }
        let mut read = fitting.map(|SetKey { key, validation, .. }| read(token, key, validation, now_unix));
        read.find(|read| *read != Err(TokenError::Invalid)).unwrap_or(Err(TokenError::Invalid))
    }

    /// The same for who can wait: a key that is not known is looked for, if the source was not asked just
    /// before. Takes as long as one look at the source, at most 5 s.
    ///
    /// # Errors
    /// As [`Keys::verify`]; [`TokenError::UnknownKey`] only where the source could not be asked.
    pub async fn look_up(&self, token: &str, now_unix: u64) -> Result<Claims, TokenError> {
        match (self.verify(token, now_unix), &self.set) {
            (Err(TokenError::UnknownKey), Some(set)) => {
                let is_fresh = set.look().await;
                self.verify(token, now_unix).map_err(|error| match error {
                    TokenError::UnknownKey if is_fresh => TokenError::Invalid,
                    error => error,
                })
            }
            (verified, _) => verified,
        }
    }
}

fn read(
    token: &str,
    key: &DecodingKey,
    validation: &Validation,
    now_unix: u64,
) -> Result<Claims, TokenError> {
    let Payload { claims, nbf } =
        jsonwebtoken::decode(token, key, validation).map_err(|_| TokenError::Invalid)?.claims;
    if !claims.within_bounds() || nbf.is_some_and(|nbf| nbf > now_unix.saturating_add(NOT_BEFORE_LEEWAY)) {
        return Err(TokenError::Invalid);
    }
    if claims.exp <= now_unix {
        return Err(TokenError::Expired);
    }
    Ok(claims)
}

/// For a key that is used with `algorithm` alone.
fn validation(algorithm: Algorithm, sources: &Sources<'_>) -> Validation {
    let mut validation = Validation::new(algorithm);
    // The caller passes the time in; the library would read the clock.
    validation.validate_exp = false;
    validation.validate_aud = sources.audience.is_some();
    let mut required = vec!["exp"];
    if let Some(audience) = sources.audience {
        validation.set_audience(&[audience]);
        required.push("aud");
    }
    if let Some(issuer) = sources.issuer {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }
    validation.set_required_spec_claims(&required);
    validation
}

fn secret_key(secret: &[u8]) -> Result<DecodingKey, KeyFault> {
    if secret.trim_ascii_start().starts_with(b"-----BEGIN ") {
        return Err(KeyFault::SecretIsPem);
    }
    if secret.len() < MIN_SECRET {
        return Err(KeyFault::ShortSecret(secret.len()));
    }
    Ok(DecodingKey::from_secret(secret))
}

fn eddsa_key(pem: &[u8]) -> Result<DecodingKey, KeyFault> {
    let unreadable = KeyFault::Unreadable("--token-eddsa", "Ed25519");
    refuse_private("--token-eddsa", pem)?;
    let key = DecodingKey::from_ed_pem(pem).map_err(|_| unreadable.clone())?;
    // jsonwebtoken 11.1 slices the first 32 bytes at every token and panics when there are fewer. The
    // curve check tells here, rather than to every viewer, that the bytes are no point of it.
    if key.try_get_as_bytes().is_ok_and(is_ed25519) { Ok(key) } else { Err(unreadable) }
}

fn is_ed25519(bytes: &[u8]) -> bool {
    let point = <&[u8; 32]>::try_from(bytes).ok().map(ed25519_dalek::VerifyingKey::from_bytes);
    matches!(point, Some(Ok(point)) if !point.is_weak())
}

fn rsa_key(pem: &[u8]) -> Result<DecodingKey, KeyFault> {
    let unreadable = KeyFault::Unreadable("--token-rs256", "RSA");
    refuse_private("--token-rs256", pem)?;
    let key = DecodingKey::from_rsa_pem(pem).map_err(|_| unreadable.clone())?;
    // The library takes keys of any size here; those over 4096 bits then fail at every token.
    let read = key.try_get_as_bytes().ok().and_then(|der| rsa::pkcs1::RsaPublicKey::try_from(der).ok());
    let modulus = read.ok_or(unreadable.clone())?.modulus.as_bytes().to_vec();
    let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
    if !(2048..=4096).contains(&bits) {
        return Err(KeyFault::RsaSize(bits));
    }
    // The library's own reading, as it does at every token: it also looks at the exponent.
    let der = key.try_get_as_bytes().map_err(|_| unreadable.clone())?;
    rsa::RsaPublicKey::from_pkcs1_der(der).map_err(|_| unreadable)?;
    Ok(key)
}

fn refuse_private(flag: &'static str, pem: &[u8]) -> Result<(), KeyFault> {
    // The library reads a private RSA key without complaint and then fails on every token.
    if String::from_utf8_lossy(pem).contains("PRIVATE KEY-----") {
        return Err(KeyFault::Private(flag));
    }
    Ok(())
}

/// The claims of a token to be made, with what [`Sources`] may ask for.
#[derive(Serialize)]
struct Minted<'a> {
    #[serde(flatten)]
    claims: &'a Claims,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
}

/// Why no token was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// The server would not take the secret.
    #[error(transparent)]
    Secret(#[from] KeyFault),
    /// The server would refuse the token.
    #[error(
        "the server would refuse it: a user has 1 to {MAX_SUB} characters, a name at most {MAX_NAME}, no control characters; at most {MAX_ROOMS} rooms, each with a room's name; {MAX_TOKEN} bytes in all"
    )]
    Refused,
}

/// An HS256 token with `claims`, for tools and tests.
///
/// # Errors
/// If [`Keys::verify`] would refuse the token whatever the time.
pub fn mint(secret: &[u8], claims: &Claims) -> Result<String, MintError> {
    mint_for(secret, claims, None, None)
}

/// The same for a server with `--token-audience` or `--token-issuer`.
///
/// # Errors
/// As [`mint`].
pub fn mint_for(
    secret: &[u8],
    claims: &Claims,
    aud: Option<&str>,
    iss: Option<&str>,
) -> Result<String, MintError> {
    secret_key(secret)?;
    if !claims.within_bounds() {
        return Err(MintError::Refused);
    }
    let key = EncodingKey::from_secret(secret);
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &Minted { claims, aud, iss }, &key)
        .map_err(|_| MintError::Refused)?;
    if token.len() > MAX_TOKEN {
        return Err(MintError::Refused);
    }
    Ok(token)
}

#[cfg(test)]
mod set_tests;
#[cfg(test)]
mod tests;
