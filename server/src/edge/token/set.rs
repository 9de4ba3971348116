//! A JSON Web Key Set (RFC 7517): which of its keys tokens may be verified with.

use std::fmt;

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind, Header, Validation,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;

/// Longest key set, in bytes.
pub const MAX_SET: usize = 256 * 1024;
/// Most keys of a set; issuers have two or three.
pub const MAX_SET_KEYS: usize = 64;
/// Longest `kid` that is kept.
const MAX_KID: usize = 256;

/// What tokens of a key set may be signed with. None of them has a secret: what is served by URL is known
/// to all.
pub(super) const ALGORITHMS: [Algorithm; 3] = [Algorithm::EdDSA, Algorithm::RS256, Algorithm::ES256];

/// Why a key set is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetFault {
    /// Not JSON with a list `keys`.
    #[error("it is no JSON Web Key Set: a JSON object with a list `keys`")]
    NoSet,
    /// Longer than any issuer's.
    #[error("it is longer than {MAX_SET} bytes")]
    TooLong,
    /// More keys than any issuer has.
    #[error("it has {0} keys; at most {MAX_SET_KEYS} are read")]
    TooMany(usize),
    /// With none of its keys a token can be verified.
    #[error(
        "none of its {0} keys is a public key for signatures of EdDSA (Ed25519), RS256 (2048 to 4096 bits) or ES256"
    )]
    NoneFits(usize),
}

/// A key of the set, bound to one algorithm.
pub(super) struct SetKey {
    kid: Option<String>,
    algorithm: Algorithm,
    pub(super) key: DecodingKey,
    pub(super) validation: Validation,
}

impl fmt::Debug for SetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.algorithm, self.kid)
    }
}

impl SetKey {
    /// Whether a token with this header may be signed by it. A token without `kid` is tried with all.
    pub(super) fn fits(&self, header: &Header) -> bool {
        self.algorithm == header.alg && (header.kid.is_none() || header.kid == self.kid)
    }
}

#[derive(Deserialize)]
struct Set {
    /// As they come: one of a kind we do not know must not spoil the others.
    keys: Vec<serde_json::Value>,
}

/// The keys of a set that can be used; the others are left out, as RFC 7517 5 has it.
pub(super) fn read(bytes: &[u8], validations: &[(Algorithm, Validation)]) -> Result<Vec<SetKey>, SetFault> {
    if bytes.len() > MAX_SET {
        return Err(SetFault::TooLong);
    }
    let Set { keys: all } = serde_json::from_slice(bytes).map_err(|_| SetFault::NoSet)?;
    if all.len() > MAX_SET_KEYS {
        return Err(SetFault::TooMany(all.len()));
    }
    let count = all.len();
    let usable = |value: serde_json::Value| {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let (algorithm, key) = usable(&jwk)?;
        let kid = jwk.common.key_id.filter(|kid| kid.len() <= MAX_KID);
        let (_, validation) = validations.iter().find(|(bound, _)| *bound == algorithm)?;
        Some(SetKey { kid, algorithm, key, validation: validation.clone() })
    };
    let keys: Vec<SetKey> = all.into_iter().filter_map(usable).collect();
    if keys.is_empty() { Err(SetFault::NoneFits(count)) } else { Ok(keys) }
}

/// The one algorithm a key is good for, if it is a sound public key that its issuer signs with.
fn usable(jwk: &Jwk) -> Option<(Algorithm, DecodingKey)> {
    let common = &jwk.common;
    let signs = common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
    let verifies = common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    if !signs || !verifies || common.key_algorithm.is_some_and(|told| told != named) {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    is_sound(algorithm, &key).then_some((algorithm, key))
}

/// The library looks at a key only when a token comes, and panics on a short Ed25519 one.
fn is_sound(algorithm: Algorithm, key: &DecodingKey) -> bool {
    match (algorithm, key.kind()) {
        (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(bytes)) => super::is_ed25519(bytes),
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(bytes)) => {
            p256::PublicKey::from_sec1_bytes(bytes).is_ok()
        }
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            let (n, e) = (rsa::BigUint::from_bytes_be(n), rsa::BigUint::from_bytes_be(e));
            (2048..=4096).contains(&n.bits()) && rsa::RsaPublicKey::new(n, e).is_ok()
        }
        _ => false,
    }
}
