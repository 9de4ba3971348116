//! `danmu-operator run`: lease, watches, poller, controller, health; and the end of them all.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Client, Config, Resource,
    core::{DeserializeGuard, DynamicObject, error_boundary::InvalidObject},
    runtime::{
        Controller, controller,
        events::{Recorder, Reporter},
        reflector::ObjectRef,
        watcher,
    },
};
use thiserror::Error;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tracing::{debug, error, info, warn};

use crate::{
    build::{ADMIN_PORT, Settings},
    controller::{Context, on_error, reconcile},
    health::Health,
    leader::{LeaderError, Leadership},
    loads::{HttpLoads, Loads, Target, poll},
    metrics::Metrics,
    names,
    stores::{FleetOrFault, Stores, Streams, fleet_of_labels, fleet_of_room},
    tell,
    unreadable::{self, Unreadable},
};

/// Fleets that are reconciled at once.
const AT_ONCE: u16 = 8;
/// Between two attempts to reach the API at the start.
const RETRY: Duration = Duration::from_secs(2);
/// Unreadable objects that wait to be told; the watch waits with the rest.
const FAULTS: usize = 256;

/// What `run` was told.
pub(crate) struct Told {
    pub(crate) settings: Settings,
    pub(crate) namespace: String,
    pub(crate) watched: Option<String>,
    pub(crate) identity: String,
    pub(crate) health: SocketAddr,
}

/// Why the operator ended.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    #[error("no way to a cluster: {0}; run it in one, or set KUBECONFIG")]
    Config(#[from] kube::config::InferConfigError),
    #[error("no client: {0}")]
    Client(#[from] kube::Error),
    #[error(transparent)]
    Leader(#[from] LeaderError),
    #[error("the health port cannot be had: {0}; choose another with --health")]
    Health(std::io::Error),
    #[error("no signals: {0}")]
    Signals(std::io::Error),
    #[error("the lease is lost: another operator may act now; this one ends to start anew")]
    LeaseLost,
    #[error("the watches ended; this is a fault of ours")]
    Ended,
}

/// Runs until a signal, or until the lease is lost.
pub(crate) async fn run(told: Told) -> Result<(), RunError> {
    let config = Config::infer().await?;
    let client = Client::try_from(config.clone())?;
    let metrics = Arc::new(Metrics::default());
    let health = Health::new(Arc::clone(&metrics));
    let mut asked_to_end = std::pin::pin!(asked_to_end()?);
    let mut serving = tokio::spawn(health.clone().serve(told.health));
    let seeking = sought(config, &told, &health);
    let leadership = tokio::select! {
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
async fn sought(config: Config, told: &Told, health: &Health) -> Result<Leadership, LeaderError> {
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

async fn lead(client: Client, told: Told, metrics: Arc<Metrics>, health: Health) {
    let (stores, streams) = Stores::watch(&client, told.watched.as_deref());
    let reporter = Reporter { controller: names::OPERATOR.to_owned(), instance: Some(told.identity) };
    let loads = Arc::new(HttpLoads::new(ADMIN_PORT));
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        stores,
        loads: Arc::clone(&loads),
        settings: told.settings,
        metrics: Arc::clone(&metrics),
        memory: std::sync::Mutex::default(),
    });
    let seen = Arc::clone(&context);
    health.waits(move || seen.stores.missing());
    let seen = Arc::clone(&context);
    let drain_seconds = move |target: &Target| seen.drain_seconds(target);
    let polling = poll(loads, context.stores.pods.clone(), drain_seconds, metrics);
    let (faults, told_faults) = mpsc::channel(FAULTS);
    tokio::select! {
        () = control(Arc::clone(&context), streams, faults) => {}
        () = polling => {}
        () = unreadable::tell_all(context, told_faults) => {}
    }
}

impl<L> Context<L> {
    fn drain_seconds(&self, target: &Target) -> u32 {
        let key = ObjectRef::<FleetOrFault>::new(&target.fleet).within(&target.namespace);
        let fleet = self.stores.fleets.get(&key);
        fleet.and_then(|fleet| Some(fleet.0.as_ref().ok()?.spec.drain_seconds)).unwrap_or(60)
    }
}

/// Everything that touches a fleet wakes its one reconcile.
pub(crate) async fn control<L: Loads>(
    context: Arc<Context<L>>,
    streams: Streams,
    faults: mpsc::Sender<Unreadable>,
) {
    let Streams { fleets, rooms, pods, owned } = streams;
    let fleets = reporting(fleets, faults.clone(), Unreadable::Fleet);
    let rooms = reporting(rooms, faults, Unreadable::Room);
    let config = controller::Config::default().concurrency(AT_ONCE);
    let mut controller = Controller::for_stream(fleets, context.stores.fleets.clone())
        .with_config(config)
        .watches_stream(rooms, |room| fleet_of_room(&room))
        .watches_stream(pods, |pod: Pod| fleet_of_labels(&pod));
    for (resource, stream) in owned {
        controller = controller.watches_stream_with(
            stream,
            |object: DynamicObject| fleet_of_labels(&object),
            resource,
        );
    }
    let kept = Arc::clone(&context);
    controller
        .run(reconcile, on_error, context)
        .for_each(|result| async {
            match result {
                Ok((fleet, _)) => debug!(%fleet, "reconciled"),
                Err(controller::Error::ObjectNotFound(fleet)) => {
                    tell::no_fleet(&kept, fleet.namespace.as_deref(), &fleet.name).await;
                }
                Err(controller::Error::ReconcilerFailed(..)) => {}
                Err(controller::Error::QueueError(fault)) => error!(%fault, "a watch failed; trying again"),
                Err(fault) => debug!(%fault, "not reconciled"),
            }
        })
        .await;
}

/// Passes objects on, and those that cannot be read to whoever tells it.
fn reporting<K>(
    stream: impl Stream<Item = Result<DeserializeGuard<K>, watcher::Error>> + Send + 'static,
    faults: mpsc::Sender<Unreadable>,
    wrap: fn(InvalidObject) -> Unreadable,
) -> impl Stream<Item = Result<DeserializeGuard<K>, watcher::Error>> + Send + 'static
where
    K: Resource + Clone + Send + Sync + 'static,
{
    stream.then(move |item| {
        let faults = faults.clone();
        async move {
            if let Ok(DeserializeGuard(Err(fault))) = &item {
                // Only fails when everything ends.
                let _ = faults.send(wrap(fault.clone())).await;
            }
            item
        }
    })
}
