//! What a run is made of: real processes, and proxies on the links between them.

mod link_proxy;
mod pods;
mod redis_server;
mod store;

pub use link_proxy::{LinkProxy, Traffic};
pub use pods::{Addresses, Pods, http};
pub use redis_server::RedisServer;
pub use store::Store;

use std::process::ExitStatus;

/// What keeps a run from being one.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// A program cannot be started.
    #[error("{program} cannot be started: {error}")]
    Start {
        /// Which.
        program: String,
        /// Why.
        error: std::io::Error,
    },
    /// A server said something else than its addresses.
    #[error("danmu-server did not come up: {0}")]
    NoAddresses(String),
    /// Redis does not answer.
    #[error("Redis on port {port}: {error}")]
    Redis {
        /// Its port.
        port: u16,
        /// Why.
        error: redis::RedisError,
    },
    /// A process could not be signalled or waited for.
    #[error("process: {0}")]
    Process(#[from] std::io::Error),
    /// A process ended by itself.
    #[error("a process ended by itself: {0}")]
    Ended(ExitStatus),
    /// Something took too long.
    #[error("{0} took too long")]
    Late(&'static str),
}

/// A port nobody uses now.
fn free_port() -> Result<u16, WorldError> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Sends a signal to a child of ours.
fn signal(child: &tokio::process::Child, signal: rustix::process::Signal) -> Result<(), WorldError> {
    let id = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
    match id {
        Some(id) => Ok(rustix::process::kill_process(id, signal).map_err(std::io::Error::from)?),
        None => Ok(()),
    }
}
