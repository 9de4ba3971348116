//! The Secret with a fleet's admin token: the operator makes one where nobody gave one.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client, api::PostParams};
use rand::distr::{Alphanumeric, SampleString};
use thiserror::Error;

use crate::{
    names::{self, Owner},
    seen::Keys,
};

/// The key of the admin token.
pub(crate) const ADMIN_TOKEN: &str = "admin-token";
/// The key of the secret of HS256 tokens.
pub(crate) const TOKEN_SECRET: &str = "token-secret";
/// The key of the secret that requests of hooks are signed with.
pub(crate) const HOOK_SECRET: &str = "hook-secret";
const TOKEN_LENGTH: usize = 43;
/// What servers read at their start and never again: another one is another revision of their pods. A key set they read
/// again themselves, and what others write on the Secret's metadata is no reason to move viewers.
const READ_ONCE: [&str; 5] = [ADMIN_TOKEN, TOKEN_SECRET, HOOK_SECRET, "eddsa.pem", "rs256.pem"];

/// Why a fleet's token is not known.
#[derive(Debug, Error)]
pub(crate) enum KeysError {
    /// The Secret that the fleet names is not there.
    #[error("the Secret {0} is not there; make it, with the entry {ADMIN_TOKEN}")]
    Missing(String),
    /// It lacks the token.
    #[error("the Secret {0} has no {ADMIN_TOKEN} of visible ASCII; add one")]
    NoToken(String),
    /// The API said no.
    #[error("the Secret {0} cannot be read or made: {1}")]
    Api(String, Box<kube::Error>),
}

/// The admin token, and which other keys there are. Makes the Secret of a fleet that names none.
pub(crate) async fn keys(
    client: &Client,
    owner: &Owner,
    named: Option<&str>,
) -> Result<(Keys, String), KeysError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &owner.namespace);
    let name = named.map_or_else(|| format!("{}-admin", names::fleet(&owner.name)), str::to_owned);
    let failed = |error| KeysError::Api(name.clone(), Box::new(error));
    let secret = match (api.get_opt(&name).await.map_err(failed)?, named) {
        (Some(secret), _) => secret,
        (None, Some(_)) => return Err(KeysError::Missing(name)),
        (None, None) => api.create(&PostParams::default(), &fresh(owner, &name)).await.map_err(failed)?,
    };
    read(&name, &secret)
}

fn fresh(owner: &Owner, name: &str) -> Secret {
    let token = Alphanumeric.sample_string(&mut rand::rng(), TOKEN_LENGTH);
    let entry = (ADMIN_TOKEN.to_owned(), ByteString(token.into_bytes()));
    Secret { metadata: owner.meta(name.to_owned()), data: Some([entry].into()), ..Secret::default() }
}

/// What is in a Secret: which keys, and the admin token.
pub(crate) fn read(name: &str, secret: &Secret) -> Result<(Keys, String), KeysError> {
    let empty = BTreeMap::new();
    let data = secret.data.as_ref().unwrap_or(&empty);
    let has = |key: &str| data.get(key).is_some_and(|value| !value.0.is_empty());
    let token = data.get(ADMIN_TOKEN).and_then(|token| std::str::from_utf8(&token.0).ok());
    let token = token.filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
    let token = token.ok_or_else(|| KeysError::NoToken(name.to_owned()))?;
    let keys = Keys {
        secret: name.to_owned(),
        version: version(secret),
        hs256: has(TOKEN_SECRET),
        eddsa: has("eddsa.pem"),
        rs256: has("rs256.pem"),
        jwks: has("jwks.json"),
        hooks: has(HOOK_SECRET),
    };
    Ok((keys, token.to_owned()))
}

/// A hash of what is read once. Salted with the Secret's uid: it stands in pods' annotations.
fn version(secret: &Secret) -> String {
    let mut bytes = secret.metadata.uid.clone().unwrap_or_default().into_bytes();
    for key in READ_ONCE {
        let value = secret.data.as_ref().and_then(|data| data.get(key)).map_or(&[][..], |value| &value.0);
        bytes.extend(value.len().to_be_bytes());
        bytes.extend(value);
    }
    names::hash(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use danmu_crds::{DanmuFleet, DanmuFleetSpec};

    #[test]
    fn a_made_secret_has_a_token_that_can_be_sent() {
        let owner = Owner::of(&DanmuFleet::new("default", DanmuFleetSpec::default()));
        let (one, other) = (fresh(&owner, "a"), fresh(&owner, "a"));
        let (keys, token) = read("a", &one).unwrap();
        assert_eq!((keys.secret.as_str(), token.len()), ("a", TOKEN_LENGTH));
        assert_ne!(one.data, other.data);
    }

    #[test]
    fn only_what_servers_read_once_replaces_their_pods() {
        let mut secret = Secret::default();
        let mut version_with = |key: &str, value: &str| {
            let data = secret.data.get_or_insert_default();
            data.insert(key.to_owned(), ByteString(value.as_bytes().to_vec()));
            secret.metadata.resource_version = Some(value.to_owned());
            version(&secret)
        };
        let first = version_with(ADMIN_TOKEN, "a");
        assert_eq!(version_with("jwks.json", "{}"), first);
        let signed = version_with(HOOK_SECRET, "d");
        assert_ne!(signed, first);
        let second = version_with("rs256.pem", "b");
        assert_ne!(second, signed);
        assert_ne!(version_with(ADMIN_TOKEN, "c"), second);
    }

    #[test]
    fn a_secret_without_a_usable_token_says_what_to_add() {
        for token in [&b""[..], b"a b", b"\xff"] {
            let data = [(ADMIN_TOKEN.to_owned(), ByteString(token.to_vec()))].into();
            let error = read("mine", &Secret { data: Some(data), ..Secret::default() }).unwrap_err();
            assert!(error.to_string().contains("mine has no admin-token"), "{error}");
        }
    }
}
