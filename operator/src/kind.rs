//! The kinds of objects that the operator owns.

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Service, ServiceAccount},
    discovery::v1::EndpointSlice,
    networking::v1::Ingress,
    policy::v1::PodDisruptionBudget,
    rbac::v1::RoleBinding,
};
use kube::core::{ApiResource, GroupVersionKind};

/// A kind, in the order they are made; they go in reverse. A route comes after its Service and that after its
/// slice, because a proxy answers for a route without endpoints at once, with an error. The StatefulSet is last: pods
/// find everything they need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    ServiceAccount,
    RoleBinding,
    PodDisruptionBudget,
    EndpointSlice,
    Service,
    HttpRoute,
    Ingress,
    StatefulSet,
}

/// The group and version of HTTPRoute.
pub(crate) const GATEWAY_API: &str = "gateway.networking.k8s.io/v1";

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::ServiceAccount,
        Self::RoleBinding,
        Self::PodDisruptionBudget,
        Self::EndpointSlice,
        Self::Service,
        Self::HttpRoute,
        Self::Ingress,
        Self::StatefulSet,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ServiceAccount => "ServiceAccount",
            Self::RoleBinding => "RoleBinding",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::EndpointSlice => "EndpointSlice",
            Self::Service => "Service",
            Self::HttpRoute => "HTTPRoute",
            Self::Ingress => "Ingress",
            Self::StatefulSet => "StatefulSet",
        }
    }

    pub(crate) fn resource(self) -> ApiResource {
        match self {
            Self::ServiceAccount => ApiResource::erase::<ServiceAccount>(&()),
            Self::RoleBinding => ApiResource::erase::<RoleBinding>(&()),
            Self::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
            Self::EndpointSlice => ApiResource::erase::<EndpointSlice>(&()),
            Self::Service => ApiResource::erase::<Service>(&()),
            Self::HttpRoute => ApiResource::from_gvk_with_plural(
                &GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute"),
                "httproutes",
            ),
            Self::Ingress => ApiResource::erase::<Ingress>(&()),
            Self::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        }
    }
}
