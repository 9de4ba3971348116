//! One operator acts at a time: it holds a Lease, and ends when it loses it.
//!
//! The crate's own `watch` says nothing while the API cannot be reached, and the process would go on past the lease's
//! end while another acts. So its errors are counted here, and the requests have a deadline.

use std::time::Duration;

use kube::{Client, Config};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

const LEASE: &str = "danmu-operator";
/// Another takes over so long after the last sign of life.
const SECONDS: u64 = 20;
/// Renewed so long before it ends.
const GRACE_SECONDS: u64 = 10;
/// A request to the API for the lease.
const REQUEST: Duration = Duration::from_secs(2);
/// Errors for so long are a loss: with the first one's deadline, still before the lease's end.
const FAILING: Duration = Duration::from_secs(6);
const PAUSE: Duration = Duration::from_millis(500);

/// Why no lease can be asked for.
#[derive(Debug, Error)]
pub enum LeaderError {
    /// The client cannot be made.
    #[error("no client for the lease: {0}")]
    Client(#[from] kube::Error),
    /// The lease cannot be made.
    #[error("the lease {LEASE} cannot be read or made: {0}")]
    Lease(#[from] LeaseManagerError),
}

/// A lease that is asked for.
pub(crate) struct Leadership {
    manager: LeaseManager,
}

impl Leadership {
    /// Asks for the lease in `namespace`, as `identity`.
    pub(crate) async fn seek(
        mut config: Config,
        namespace: &str,
        identity: &str,
    ) -> Result<Self, LeaderError> {
        config.connect_timeout = Some(REQUEST);
        config.read_timeout = Some(REQUEST);
        config.write_timeout = Some(REQUEST);
        let manager = LeaseManagerBuilder::new(Client::try_from(config)?, LEASE)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_duration(SECONDS)
            .with_grace(GRACE_SECONDS)
            .build()
            .await?;
        Ok(Self { manager })
    }

    /// Waits until the lease is ours.
    pub(crate) async fn gained(&self) {
        loop {
            match self.manager.changed().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    warn!(%error, "the lease cannot be had; trying again");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Waits until it no longer is, or may no longer be. The process must end then: another one acts.
    pub(crate) async fn lost(&self) {
        let mut failing: Option<Instant> = None;
        loop {
            // Pending for long after an error is a lease renewed.
            let Ok(changed) = timeout(FAILING, self.manager.changed()).await else {
                failing = None;
                continue;
            };
            match changed {
                Ok(true) => failing = None,
                Ok(false) => return,
                Err(error) => {
                    warn!(%error, "the lease cannot be renewed; trying again");
                    if failing.get_or_insert_with(Instant::now).elapsed() >= FAILING {
                        return;
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Gives the lease back, so that another need not wait for its end.
    pub(crate) async fn release(self) {
        if let Ok(Err(error)) = timeout(REQUEST, self.manager.release()).await {
            warn!(%error, "the lease could not be given back");
        }
    }
}
