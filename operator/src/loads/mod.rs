//! What the servers say of themselves, and the drains they are told. A trait, so that a reconcile can be tried
//! without servers.

mod http;
mod poller;

use std::sync::Arc;

use thiserror::Error;

pub(crate) use http::HttpLoads;
pub(crate) use poller::{poll, target};

use crate::seen::Told;

/// A server to ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Its fleet's namespace.
    pub namespace: String,
    /// Its fleet.
    pub fleet: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's uid.
    pub uid: String,
    /// The pod's address.
    pub ip: String,
}

/// Why a server did not do as it was asked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LoadError {
    /// The fleet's Secret is not read yet.
    #[error("the admin token is not known yet")]
    NoToken,
    /// No answer within a second.
    #[error("no answer within a second")]
    Late,
    /// It cannot be reached.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// It refuses.
    #[error("it answered with status {0}")]
    Refused(u16),
    /// It says what nobody understands.
    #[error("its answer cannot be read: {0}")]
    Unreadable(String),
}

impl LoadError {
    /// For metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NoToken => "no-token",
            Self::Late => "late",
            Self::Unreachable(_) => "unreachable",
            Self::Refused(_) => "refused",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

/// The servers, as a reconcile knows them.
pub trait Loads: Send + Sync + 'static {
    /// What the pod of this uid last said.
    fn last(&self, uid: &str) -> Option<Arc<Told>>;
    /// Whether the pod of this uid has been asked since this process began, whatever came of it.
    fn is_asked(&self, uid: &str) -> bool;
    /// `POST /drain`; the pod counts as draining from then on.
    fn drain(&self, target: &Target, seconds: u32) -> impl Future<Output = Result<(), LoadError>> + Send;
    /// `DELETE /drain`.
    fn undrain(&self, target: &Target) -> impl Future<Output = Result<(), LoadError>> + Send;
    /// The token of a fleet's servers.
    fn learn_token(&self, namespace: &str, fleet: &str, token: &str);
}

#[cfg(test)]
pub(crate) mod fake;
