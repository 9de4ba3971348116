//! One operator acts at a time: it holds a Lease, and ends when it loses it.
//!
//! The crate's own `watch` says nothing while the API cannot be reached, and the process would go on past the lease's
//! end while another acts. So its errors are counted here, and the requests have a deadline. Who waits looks at the lease
//! now and then: the crate sleeps until its end, even if its holder gives it back.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, Config};
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
/// How often who waits looks whether the lease was given back.
const LOOK: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(500);

/// The lease, as it is now.
async fn manager(
    client: &Client,
    namespace: &str,
    identity: &str,
) -> Result<LeaseManager, LeaseManagerError> {
    LeaseManagerBuilder::new(client.clone(), LEASE)
        .with_namespace(namespace)
        .with_identity(identity)
        .with_duration(SECONDS)
        .with_grace(GRACE_SECONDS)
        .build()
        .await
}

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
    client: Client,
    namespace: String,
    identity: String,
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
        let client = Client::try_from(config)?;
        let manager = manager(&client, namespace, identity).await?;
        Ok(Self { manager, client, namespace: namespace.to_owned(), identity: identity.to_owned() })
    }

    /// Waits until the lease is ours.
    pub(crate) async fn gained(&mut self) {
        loop {
            match self.changed_or_free().await {
                Some(Ok(true)) => return,
                Some(Ok(false)) => {}
                Some(Err(error)) => {
                    warn!(%error, "the lease cannot be had; trying again");
                    sleep(PAUSE).await;
                }
                // A new manager knows what the lease is now.
                None => match manager(&self.client, &self.namespace, &self.identity).await {
                    Ok(manager) => self.manager = manager,
                    Err(error) => warn!(%error, "the lease cannot be read; trying again"),
                },
            }
        }
    }

    /// What became of the lease; nothing if its holder gave it back.
    async fn changed_or_free(&self) -> Option<Result<bool, LeaseManagerError>> {
        let mut changed = std::pin::pin!(self.manager.changed());
        loop {
            tokio::select! {
                changed = &mut changed => return Some(changed),
                () = sleep(LOOK) => {
                    if self.is_free().await {
                        return None;
                    }
                }
            }
        }
    }

    async fn is_free(&self) -> bool {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        // Of errors the manager tells.
        let Ok(Some(lease)) = api.get_opt(LEASE).await else { return false };
        lease.spec.and_then(|spec| spec.holder_identity).is_none_or(|holder| holder.is_empty())
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
