//! Signatures as Standard Webhooks has them: HMAC-SHA256 over id, time and body, with dots between.

use base64::{Engine, prelude::BASE64_STANDARD};
use hyper::{
    HeaderMap,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use ring::hmac::{self, HMAC_SHA256};

/// Shortest secret, in bytes.
pub const MIN_SECRET: usize = 24;
/// Longest secret, in bytes.
const MAX_SECRET: usize = 64;
/// How old a message may be, or how far ahead of the receiver's clock, in seconds.
pub const TOLERANCE: u64 = 300;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Why a secret cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretFault {
    /// `whsec_` without base64 behind it.
    #[error("after `whsec_` comes base64, as `echo whsec_$(openssl rand -base64 32)` makes it")]
    NoBase64,
    /// Too short to be safe, or longer than the specification has it.
    #[error(
        "it has {0} bytes; use {MIN_SECRET} to {MAX_SECRET}, as `echo whsec_$(openssl rand -base64 32)` makes it"
    )]
    Length(usize),
}

/// Why a message is not taken for one of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forged {
    /// A header is missing or no number.
    #[error("webhook-id, webhook-timestamp or webhook-signature is missing or unreadable")]
    Headers,
    /// Older than [`TOLERANCE`] or from the future: somebody may send it a second time.
    #[error("the message is too old, or from the future")]
    Time,
    /// No signature fits.
    #[error("no signature fits")]
    Signature,
}

/// What both ends know.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl Secret {
    /// Reads `whsec_…`, or takes any other text as it is.
    ///
    /// # Errors
    /// See [`SecretFault`].
    pub fn parse(text: &str) -> Result<Secret, SecretFault> {
        let bytes = match text.strip_prefix("whsec_") {
            Some(base64) => BASE64_STANDARD.decode(base64.trim()).map_err(|_| SecretFault::NoBase64)?,
            None => text.as_bytes().to_vec(),
        };
        if !(MIN_SECRET..=MAX_SECRET).contains(&bytes.len()) {
            return Err(SecretFault::Length(bytes.len()));
        }
        Ok(Secret(hmac::Key::new(HMAC_SHA256, &bytes)))
    }

    /// The headers of a signed message, sent at `timestamp` (seconds since 1970).
    pub fn headers(&self, id: &str, timestamp: u64, body: &[u8]) -> HeaderMap {
        let tag = hmac::sign(&self.0, &signed(id, timestamp, body));
        let signature = format!("v1,{}", BASE64_STANDARD.encode(tag));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(TIMESTAMP, timestamp.into());
        for (name, value) in [(ID, id), (SIGNATURE, signature.as_str())] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        headers
    }

    /// Whether a message is its sender's, and of `now` (seconds since 1970). The comparison takes a time that
    /// does not tell how much was right.
    ///
    /// # Errors
    /// See [`Forged`].
    pub fn verify(&self, headers: &HeaderMap, body: &[u8], now: u64) -> Result<(), Forged> {
        let header = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let (Some(id), Some(timestamp), Some(signatures)) =
            (header(ID), header(TIMESTAMP), header(SIGNATURE))
        else {
            return Err(Forged::Headers);
        };
        let timestamp: u64 = timestamp.parse().map_err(|_| Forged::Headers)?;
        if now.abs_diff(timestamp) > TOLERANCE {
            return Err(Forged::Time);
        }
        let signed = signed(id, timestamp, body);
        let fits = |signature: &str| {
            let base64 = signature.strip_prefix("v1,");
            let tag = base64.and_then(|base64| BASE64_STANDARD.decode(base64).ok());
            tag.is_some_and(|tag| hmac::verify(&self.0, &signed, &tag).is_ok())
        };
        // Several, while a secret is being replaced.
        if signatures.split(' ').any(fits) { Ok(()) } else { Err(Forged::Signature) }
    }
}

fn signed(id: &str, timestamp: u64, body: &[u8]) -> Vec<u8> {
    let mut signed = format!("{id}.{timestamp}.").into_bytes();
    signed.extend(body);
    signed
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's libraries.
    #[test]
    fn a_signature_is_the_one_of_standard_webhooks() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let (id, timestamp, body) =
            ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        let headers = secret.headers(id, timestamp, body);
        assert_eq!(headers[SIGNATURE], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!((&headers[ID], &headers[TIMESTAMP]), (&HeaderValue::from_static(id), &timestamp.into()));
        assert_eq!(secret.verify(&headers, body, timestamp), Ok(()));
    }

    #[test]
    fn what_is_forged_old_or_changed_on_the_way_is_not_taken() {
        let secret = Secret::parse("a secret of two dozen bytes").unwrap();
        let headers = secret.headers("1", 1000, b"{}");
        assert_eq!(secret.verify(&headers, b"{}", 1000 + TOLERANCE), Ok(()));
        assert_eq!(secret.verify(&headers, b"{}", 1001 + TOLERANCE), Err(Forged::Time));
        assert_eq!(secret.verify(&headers, b"{ }", 1000), Err(Forged::Signature));
        let other = Secret::parse("another secret of many bytes").unwrap();
        assert_eq!(other.verify(&headers, b"{}", 1000), Err(Forged::Signature));
        for (name, forged, fault) in [
            ("webhook-id", "2", Forged::Signature),
            ("webhook-timestamp", "1001", Forged::Signature),
            ("webhook-timestamp", "soon", Forged::Headers),
            ("webhook-signature", "v1,", Forged::Signature),
            ("webhook-signature", "v1,%%%", Forged::Signature),
            ("webhook-signature", "v2,AAAA", Forged::Signature),
        ] {
            let mut headers = headers.clone();
            headers.insert(name, forged.parse().unwrap());
            assert_eq!(secret.verify(&headers, b"{}", 1001), Err(fault), "{name}: {forged}");
            headers.remove(name);
            assert_eq!(secret.verify(&headers, b"{}", 1001), Err(Forged::Headers), "{name}");
        }
    }

    #[test]
    fn while_a_secret_is_replaced_one_of_two_signatures_is_enough() {
        let [old, new] = ["the old secret of many bytes", "the new secret of many bytes"]
            .map(|text| Secret::parse(text).unwrap());
        let mut headers = new.headers("1", 1000, b"{}");
        let of_old = old.headers("1", 1000, b"{}")[SIGNATURE].to_str().unwrap().to_owned();
        let both = format!("{of_old} {}", headers[SIGNATURE].to_str().unwrap());
        headers.insert(SIGNATURE, both.parse().unwrap());
        assert_eq!((old.verify(&headers, b"{}", 1000), new.verify(&headers, b"{}", 1000)), (Ok(()), Ok(())));
    }

    #[test]
    fn a_secret_that_can_be_guessed_or_read_in_no_way_is_told() {
        assert_eq!(Secret::parse("short").unwrap_err(), SecretFault::Length(5));
        assert_eq!(Secret::parse("whsec_AAAA").unwrap_err(), SecretFault::Length(3));
        assert_eq!(Secret::parse("whsec_?").unwrap_err(), SecretFault::NoBase64);
        assert_eq!(Secret::parse(&"a".repeat(65)).unwrap_err(), SecretFault::Length(65));
    }
}
