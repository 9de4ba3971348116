//! How viewers reach a fleet. Only the operator reads it.

#![expect(unreachable_pub, reason = "KubeSchema copies each struct, with its pub, into a function")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How viewers come in: through a Gateway, through an Ingress, or by your own means.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!(has(self.gateway) && has(self.ingress))")
    .message("give gateway or ingress, and not both"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// A Gateway (Gateway API); HTTPRoutes are made for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayRoute>,
    /// An ingress controller; Ingresses are made for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressRoute>,
    /// Whether viewers come by TLS, so that the rooms' URLs begin with wss.
    #[serde(default = "yes")]
    pub tls: bool,
}

impl Default for Route {
    fn default() -> Self {
        Self { gateway: None, ingress: None, tls: yes() }
    }
}

fn yes() -> bool {
    true
}

/// A Gateway and the hosts viewers know it by.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayRoute {
    /// The Gateway's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The Gateway's namespace; the fleet's own if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Hosts of this fleet, the first is told in URLs. None: every host of the Gateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub hostnames: Vec<String>,
}

/// An ingress controller and the host viewers know it by.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IngressRoute {
    /// The IngressClass; the cluster's default if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,
    /// The host of this fleet.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
}

impl Route {
    /// The hosts of this fleet.
    pub fn hosts(&self) -> Vec<&str> {
        let gateway = self.gateway.iter().flat_map(|gateway| gateway.hostnames.iter().map(String::as_str));
        gateway.chain(self.ingress.iter().map(|ingress| ingress.host.as_str())).collect()
    }
}
