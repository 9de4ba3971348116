//! `danmu-operator run`: lease, watches, poller, controller, health; and the end of them all.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use kube::{Client, Config};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use crate::{
    build::{ADMIN_PORT, Settings},
    health::Health,
    leader::{LeaderError, Leadership},
    loads::{HttpLoads, Target, poll},
    metrics::Metrics,
    operator::Operator,
};

/// Between two attempts to reach the API at the start.
const RETRY: Duration = Duration::from_secs(2);

/// What [`run`] is told.
#[derive(Debug)]
pub struct Options {
    /// What fleets are built with.
    pub settings: Settings,
    /// The namespace of the Lease.
    pub namespace: String,
    /// The one namespace whose fleets are looked after; none: all.
    pub watched: Option<String>,
    /// Who holds the Lease.
    pub identity: String,
    /// Address of the health port.
    pub health: SocketAddr,
}

/// Why the operator ended.
#[derive(Debug, Error)]
pub enum RunError {
    /// There is no configuration.
    #[error("no way to a cluster: {0}; run it in one, or set KUBECONFIG")]
    Config(#[from] kube::config::InferConfigError),
    /// The configuration is no good.
    #[error("no client: {0}")]
    Client(#[from] kube::Error),
    /// No lease can be asked for.
    #[error(transparent)]
    Leader(#[from] LeaderError),
    /// The health port is taken.
    #[error("the health port cannot be had: {0}; choose another with --health")]
    Health(std::io::Error),
    /// Signals cannot be had.
    #[error("no signals: {0}")]
    Signals(std::io::Error),
    /// Another may act.
    #[error("the lease is lost: another operator may act now; this one ends to start anew")]
    LeaseLost,
    /// What never ends did.
    #[error("the watches ended; this is a fault of ours")]
    Ended,
}

/// Runs until a signal, or until the lease is lost.
///
/// # Errors
/// Why it had to end.
pub async fn run(told: Options) -> Result<(), RunError> {
    let config = Config::infer().await?;
    let client = Client::try_from(config.clone())?;
    let metrics = Arc::new(Metrics::default());
    let health = Health::new(Arc::clone(&metrics));
    let mut asked_to_end = std::pin::pin!(asked_to_end()?);
    let mut serving = tokio::spawn(health.clone().serve(told.health));
    let seeking = sought(config, &told, &health);
    let mut leadership = tokio::select! {
        leadership = seeking => leadership?,
        () = &mut asked_to_end => return Ok(()),
        ended = &mut serving => return Err(health_error(ended)),
    };
    info!(identity = told.identity, "waiting for the lease");
    tokio::select! {
        () = leadership.gained() => {}
        () = &mut asked_to_end => return Ok(()),
        ended = &mut serving => return Err(health_error(ended)),
    }
    info!("leads");
    metrics.leader.set(1);
    let ended = tokio::select! {
        () = lead(client, told, metrics, health) => Err(RunError::Ended),
        () = leadership.lost() => return Err(RunError::LeaseLost),
        () = asked_to_end => Ok(()),
        ended = &mut serving => Err(health_error(ended)),
    };
    leadership.release().await;
    ended
}

/// Asks for the lease until the API answers: a process that ended instead would be started ever more rarely.
async fn sought(config: Config, told: &Options, health: &Health) -> Result<Leadership, LeaderError> {
    health.waits(|| vec!["a first answer of the API on the Lease"]);
    loop {
        match Leadership::seek(config.clone(), &told.namespace, &told.identity).await {
            Err(LeaderError::Lease(error)) => {
                warn!(%error, namespace = told.namespace, "the Lease cannot be asked for; trying again");
                tokio::time::sleep(RETRY).await;
            }
            done => {
                health.stands_by();
                return done;
            }
        }
    }
}

fn health_error(ended: Result<std::io::Result<()>, tokio::task::JoinError>) -> RunError {
    RunError::Health(
        ended
            .map_err(std::io::Error::other)
            .and_then(|done| done)
            .err()
            .unwrap_or_else(|| std::io::Error::other("it ended")),
    )
}

fn asked_to_end() -> Result<impl Future<Output = ()>, RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

async fn lead(client: Client, told: Options, metrics: Arc<Metrics>, health: Health) {
    let loads = Arc::new(HttpLoads::new(ADMIN_PORT));
    let watched = told.watched.as_deref();
    let operator = Operator::with(
        client,
        watched,
        told.settings,
        Arc::clone(&loads),
        told.identity,
        Arc::clone(&metrics),
    );
    let context = operator.context();
    let seen = Arc::clone(&context);
    health.waits(move || seen.stores.missing());
    let seen = Arc::clone(&context);
    let drain_seconds = move |target: &Target| seen.drain_seconds(target);
    tokio::select! {
        () = operator.run() => {}
        () = poll(loads, context.stores.pods.clone(), drain_seconds, metrics) => {}
    }
}
