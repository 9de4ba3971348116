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

const RSA_1024: &str = "-----BEGIN PUBLIC KEY-----\n\
    MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCmvJWVwnbn86I5d2sODZzKqpiY\n\
    ehvmJv/Q3y62tkQ8X4btWqb9qj3LL3Q/YR3/qUtChuwEYENTrpgp8fekSwiYiiXI\n\
    wGKB4hnTCuiQjK7IjrT3Bf6lBKiSA1lPPafcDByWnFmvv+sKIAQLCIJ02IqjgkA8\n\
    PzFFYJNb5DsP5oN8LwIDAQAB\n\
    -----END PUBLIC KEY-----\n";

const ALL: Sources<'static> = Sources {
    hs256_secret: Some(SECRET),
    eddsa_pem: Some(ED_PUBLIC.as_bytes()),
    rs256_pem: Some(RSA_PUBLIC.as_bytes()),
    jwks: None,
    audience: None,
    issuer: None,
};

fn all_keys() -> Keys {
    Keys::new(&ALL).unwrap()
}

/// Signs whatever it is told, as a forger would.
fn signed(algorithm: Algorithm, secret: &[u8], claims: &impl Serialize) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret)).unwrap()
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
    signed(Algorithm::HS256, SECRET, claims)
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
    let without_eddsa = Keys::new(&Sources { hs256_secret: Some(SECRET), ..Sources::default() }).unwrap();
    assert_eq!(without_eddsa.verify(&token, NOW), Err(TokenError::Invalid));
}

#[test]
fn an_rs256_token_verifies_with_the_defaults_of_missing_claims() {
    let expected = Claims { sub: "u1".into(), name: None, role: Role::Viewer, rooms: None, exp: NOW + 60 };
    assert_eq!(all_keys().verify(RSA_TOKEN, NOW), Ok(expected));
}

#[test]
fn the_public_rsa_key_is_no_hs256_secret() {
    let forged = signed(Algorithm::HS256, RSA_PUBLIC.as_bytes(), &claims());
    assert_eq!(all_keys().verify(&forged, NOW), Err(TokenError::Invalid));
    let rsa_alone = Keys::new(&Sources { rs256_pem: ALL.rs256_pem, ..Sources::default() }).unwrap();
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
    let other = signed(Algorithm::HS256, b"another secret", &claims());
    assert_eq!(all_keys().verify(&other, NOW), Err(TokenError::Invalid));
    let hs512 = signed(Algorithm::HS512, SECRET, &claims());
    assert_eq!(all_keys().verify(&hs512, NOW), Err(TokenError::Invalid));
    let none = Keys::new(&Sources::default()).unwrap();
    assert_eq!(none.verify(&mint(SECRET, &claims()).unwrap(), NOW), Err(TokenError::Invalid));
}

#[test]
fn public_key_signatures_do_not_fit_other_claims_or_keys() {
    let key = EncodingKey::from_ed_pem(ED_PRIVATE.as_bytes()).unwrap();
    let ed = jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims(), &key).unwrap();
    for token in [ed.as_str(), RSA_TOKEN] {
        assert!(all_keys().verify(token, NOW).is_ok());
        let parts: Vec<&str> = token.split('.').collect();
        let other = hs256(&json!({"sub": "admin", "exp": NOW + 60}));
        let other = other.split('.').nth(1).unwrap();
        let (cut, _) = parts[2].split_at(parts[2].len() / 2);
        for forged in [
            format!("{}.{other}.{}", parts[0], parts[2]),
            format!("{}.{}.{cut}", parts[0], parts[1]),
            format!("{}.{}.", parts[0], parts[1]),
        ] {
            assert_eq!(all_keys().verify(&forged, NOW), Err(TokenError::Invalid), "{forged}");
        }
    }
    // Another Ed25519 key: the base point, whose private half nobody here has.
    let other = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAWGZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY=\n-----END PUBLIC KEY-----\n";
    let others = Keys::new(&Sources { eddsa_pem: Some(other.as_bytes()), ..ALL }).unwrap();
    assert_eq!(others.verify(&ed, NOW), Err(TokenError::Invalid));
}

#[test]
fn a_token_expires_in_the_second_it_names() {
    let token = mint(SECRET, &claims()).unwrap();
    assert!(all_keys().verify(&token, NOW + 59).is_ok());
    assert_eq!(all_keys().verify(&token, NOW + 60), Err(TokenError::Expired));
}

#[test]
fn an_expired_forgery_is_invalid_rather_than_expired() {
    let forged = signed(Algorithm::HS256, b"another secret", &claims());
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
        json!({"sub": "u1", "exp": exp, "nbf": "soon"}),
        json!({"sub": "u1", "exp": exp, "nbf": -1}),
        json!({"sub": "u1", "exp": 1e300}),
        json!({"sub": ["u1"], "exp": exp}),
        json!({"sub": "line\nbreak", "exp": exp}),
        json!({"sub": "u1", "exp": exp, "role": 3}),
        json!({"sub": "u1", "exp": exp, "rooms": [7]}),
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
fn a_token_is_not_good_before_its_time_but_for_the_leeway() {
    let with = |nbf| verify(&json!({"sub": "u1", "exp": NOW + 3600, "nbf": nbf}));
    assert!(with(NOW - 1).is_ok());
    assert!(with(NOW + NOT_BEFORE_LEEWAY).is_ok());
    assert_eq!(with(NOW + NOT_BEFORE_LEEWAY + 1), Err(TokenError::Invalid));
    assert_eq!(with(u64::MAX), Err(TokenError::Invalid));
}

#[test]
fn audience_and_issuer_count_only_where_they_are_pinned() {
    let token = |more: Value| {
        let mut claims = json!({"sub": "u1", "exp": NOW + 60});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        hs256(&claims)
    };
    let ours = json!({"aud": "danmu", "iss": "site"});
    let either = json!({"aud": ["danmu", "shop"], "iss": "site"});
    let pinned = Keys::new(&Sources { audience: Some("danmu"), issuer: Some("site"), ..ALL }).unwrap();
    for good in [&ours, &either] {
        assert!(pinned.verify(&token(good.clone()), NOW).is_ok(), "{good}");
    }
    for bad in [
        json!({}),
        json!({"aud": "danmu"}),
        json!({"iss": "site"}),
        json!({"aud": "shop", "iss": "site"}),
        json!({"aud": "danmu", "iss": "other"}),
        json!({"aud": 7, "iss": "site"}),
    ] {
        assert_eq!(pinned.verify(&token(bad.clone()), NOW), Err(TokenError::Invalid), "{bad}");
        assert!(all_keys().verify(&token(bad.clone()), NOW).is_ok(), "not pinned: {bad}");
    }
    let minted = mint_for(SECRET, &claims(), Some("danmu"), Some("site")).unwrap();
    assert_eq!(pinned.verify(&minted, NOW), Ok(claims()));
}

#[test]
fn a_claim_given_twice_is_invalid() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let sign = |claims: String| {
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let key = EncodingKey::from_secret(SECRET);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    };
    let exp = NOW + 60;
    assert!(all_keys().verify(&sign(format!(r#"{{"sub":"u1","exp":{exp}}}"#)), NOW).is_ok());
    let twice = sign(format!(r#"{{"sub":"u1","sub":"u2","exp":{exp}}}"#));
    assert_eq!(all_keys().verify(&twice, NOW), Err(TokenError::Invalid));
}

#[test]
fn a_critical_extension_is_invalid() {
    let header = Header { crit: Some(vec!["b64".into()]), ..Header::new(Algorithm::HS256) };
    let token = jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(SECRET)).unwrap();
    assert_eq!(all_keys().verify(&token, NOW), Err(TokenError::Invalid));
}

#[test]
fn nothing_is_minted_that_would_not_verify() {
    assert_eq!(mint(b"", &claims()), Err(MintError::Secret(KeyFault::ShortSecret(0))));
    assert_eq!(mint(SECRET, &Claims { sub: String::new(), ..claims() }), Err(MintError::Refused));
    let sub = "s".repeat(MAX_SUB + 1);
    assert_eq!(mint(SECRET, &Claims { sub, ..claims() }), Err(MintError::Refused));
}

#[test]
fn unsafe_or_unreadable_keys_are_refused_all_at_once() {
    let eddsa = |pem: &str| Keys::new(&Sources { eddsa_pem: Some(pem.as_bytes()), ..ALL }).unwrap_err();
    let rs256 = |pem: &str| Keys::new(&Sources { rs256_pem: Some(pem.as_bytes()), ..ALL }).unwrap_err();
    let secret = |secret: &[u8]| Keys::new(&Sources { hs256_secret: Some(secret), ..ALL }).unwrap_err();
    assert_eq!(secret(b"fifteen bytes ."), [KeyFault::ShortSecret(15)]);
    assert_eq!(secret(RSA_PUBLIC.as_bytes()), [KeyFault::SecretIsPem]);
    assert_eq!(eddsa(ED_PRIVATE), [KeyFault::Private("--token-eddsa")]);
    assert_eq!(rs256(RSA_1024), [KeyFault::RsaSize(1024)]);
    for no_rsa in ["no key", "", ED_PUBLIC] {
        assert_eq!(rs256(no_rsa), [KeyFault::Unreadable("--token-rs256", "RSA")], "{no_rsa}");
    }
    let all = Sources {
        hs256_secret: Some(b""),
        eddsa_pem: Some(b""),
        rs256_pem: Some(RSA_1024.as_bytes()),
        ..ALL
    };
    assert_eq!(Keys::new(&all).unwrap_err().len(), 3);
}

#[test]
fn an_ed25519_key_that_would_panic_or_fit_any_signature_is_refused_at_start() {
    let pem = |key: &str| format!("-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n");
    for (what, key) in [
        ("16 bytes", "MBowBQYDK2VwAxEAEREREREREREREREREREREQ=="),
        ("33 bytes", "MCswBQYDK2VwAyIAERERERERERERERERERERERERERERERERERERERERERER"),
        ("no point", "MCowBQYDK2VwAyEAAgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("the neutral point", "MCowBQYDK2VwAyEAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ] {
        let keys = Keys::new(&Sources { eddsa_pem: Some(pem(key).as_bytes()), ..ALL });
        assert_eq!(keys.unwrap_err(), [KeyFault::Unreadable("--token-eddsa", "Ed25519")], "{what}");
    }
}
