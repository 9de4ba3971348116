//! How a fleet's pods are made: image, place, Redis, tokens. Only the operator reads it.

#![expect(unreachable_pub, reason = "KubeSchema copies each struct, with its pub, into a function")]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration};
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Where the pods run, and what else they need; fields are those of a Pod.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSettings {
    /// Labels of the nodes that may run the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 50))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that the pods do not mind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "foreign_list")]
    pub tolerations: Vec<Toleration>,
    /// Nodes and neighbours the pods want or do not want.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "foreign")]
    pub affinity: Option<Affinity>,
    /// Secrets for pulling the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub image_pull_secrets: Vec<SecretName>,
    /// Annotations of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 50))]
    pub annotations: BTreeMap<String, String>,
}

impl PodSettings {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A type of Kubernetes: its own API checks it when the pods are made.
pub(crate) fn foreign(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn foreign_list(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 20, "items": foreign(generator)})
}

/// A Secret in the fleet's namespace.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretName {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// One entry of a Secret in the fleet's namespace.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretEntry {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The entry's key.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Where Redis or Valkey is.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.url) != has(self.secretRef)")
    .message("give either url or secretRef, and not both"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Redis {
    /// `redis://host:6379`, `rediss://…` or `redis+sentinel://host/service`. With a password: use `secretRef`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub url: Option<String>,
    /// A Secret's entry that holds the URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretEntry>,
    /// Whether it is a cluster.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cluster: bool,
}

/// The bounds of the number of pods.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.min <= self.max").message("min must not be more than max"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Replicas {
    /// The fewest; `kubectl scale` moves it.
    #[serde(default = "default_min")]
    #[schemars(range(min = 0, max = 1000))]
    pub min: u32,
    /// The most. A rollout may go one over it for a while.
    #[serde(default = "default_max")]
    #[schemars(range(min = 1, max = 1000))]
    pub max: u32,
}

impl Default for Replicas {
    fn default() -> Self {
        Self { min: default_min(), max: default_max() }
    }
}

fn default_min() -> u32 {
    1
}

fn default_max() -> u32 {
    50
}

/// Tokens and keys of the room servers.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Auth {
    /// A Secret with `admin-token`, and of `token-secret` (HS256), `eddsa.pem`, `rs256.pem` and `jwks.json` (a key set)
    /// those that viewers' tokens are made with; `hook-secret` signs the requests of `hooks`. The operator makes one, with an admin token alone, if none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretName>,
    /// A key set that whoever makes the viewers' tokens publishes, instead of `jwks.json` in the Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks: Option<KeySet>,
}

/// A published JSON Web Key Set, read by each pod every five minutes and when a token names an unknown key.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeySet {
    /// Where it is, such as `https://id.example.com/.well-known/jwks.json`.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new(format!("self.matches('{}')", crate::manifest::HTTPS_PATTERN))
        .message("url is an https address such as https://id.example.com/.well-known/jwks.json, without a user"))]
    pub url: String,
    /// What the `aud` of every token must name. Give it if the issuer signs for other sites too: without it their tokens
    /// are good here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub audience: Option<String>,
    /// What the `iss` of every token must be.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub issuer: Option<String>,
}
