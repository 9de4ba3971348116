//! The stores, the controller and who tells of unreadable objects, put together.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Client, Resource,
    core::{DeserializeGuard, DynamicObject, error_boundary::InvalidObject},
    runtime::{
        Controller, controller,
        events::{Recorder, Reporter},
        reflector::ObjectRef,
        watcher,
    },
};
use tokio::sync::{Notify, mpsc};
use tracing::{debug, error};

use crate::{
    build::Settings,
    controller::{Context, on_error, reconcile},
    loads::{Loads, Target},
    metrics::Metrics,
    names,
    stores::{FleetOrFault, Stores, Streams, fleet_of_labels, fleet_of_room},
    tell,
    unreadable::{self, Unreadable},
};

/// Fleets that are reconciled at once.
const AT_ONCE: u16 = 8;
/// Unreadable objects that wait to be told; the watch waits with the rest.
const FAULTS: usize = 256;
/// Rooms that come, or lose their fleet, in a burst are told of it together.
const GATHER: Duration = Duration::from_millis(250);

/// An operator without a lease, a health port or a poller: it acts as soon as it runs, on what `loads` say.
pub struct Operator<L> {
    context: Arc<Context<L>>,
    streams: Streams,
}

impl<L: Loads> Operator<L> {
    /// One that looks after the fleets of all of `client`'s cluster, or of one namespace.
    pub fn new(client: Client, watched: Option<&str>, settings: Settings, loads: Arc<L>) -> Self {
        Self::with(client, watched, settings, loads, names::OPERATOR.to_owned(), Arc::default())
    }

    pub(crate) fn with(
        client: Client,
        watched: Option<&str>,
        settings: Settings,
        loads: Arc<L>,
        identity: String,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (stores, streams) = Stores::watch(&client, watched);
        let reporter = Reporter { controller: names::OPERATOR.to_owned(), instance: Some(identity) };
        let recorder = Recorder::new(client.clone(), reporter);
        let memory = std::sync::Mutex::default();
        let context = Arc::new(Context { recorder, client, stores, loads, settings, metrics, memory });
        Self { context, streams }
    }

    pub(crate) fn context(&self) -> Arc<Context<L>> {
        Arc::clone(&self.context)
    }

    /// What is counted, in OpenMetrics' text form, also while it runs.
    pub fn metrics(&self) -> impl Fn() -> String + Send + Sync + 'static {
        let metrics = Arc::clone(&self.context.metrics);
        move || metrics.text().unwrap_or_default()
    }

    /// Runs until it is dropped.
    pub async fn run(self) {
        let (faults, told) = mpsc::channel(FAULTS);
        tokio::select! {
            () = control(Arc::clone(&self.context), self.streams, faults) => {}
            () = unreadable::tell_all(self.context, told) => {}
        }
    }
}

impl<L> Context<L> {
    pub(crate) fn drain_seconds(&self, target: &Target) -> u32 {
        let key = ObjectRef::<FleetOrFault>::new(&target.fleet).within(&target.namespace);
        let fleet = self.stores.fleets.get(&key);
        fleet.and_then(|fleet| Some(fleet.0.as_ref().ok()?.spec.drain_seconds)).unwrap_or(60)
    }
}

/// Fleets that rooms name and that are not there. A set, and told apart from the controller: 2,000 rooms of a deleted
/// namespace, each told in line with the watches, held up every other fleet for more than a minute.
#[derive(Default)]
struct Missing {
    fleets: Mutex<HashSet<(Option<String>, String)>>,
    rung: Notify,
}

impl Missing {
    fn add(&self, namespace: Option<String>, name: String) {
        self.fleets.lock().unwrap_or_else(PoisonError::into_inner).insert((namespace, name));
        self.rung.notify_one();
    }

    async fn tell<L: Loads>(&self, context: &Context<L>) {
        loop {
            self.rung.notified().await;
            tokio::time::sleep(GATHER).await;
            let fleets = std::mem::take(&mut *self.fleets.lock().unwrap_or_else(PoisonError::into_inner));
            for (namespace, name) in fleets {
                tell::no_fleet(context, namespace.as_deref(), &name).await;
            }
        }
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
    let missing = Missing::default();
    let reconciled = controller.run(reconcile, on_error, Arc::clone(&context)).for_each(|result| async {
        match result {
            Ok((fleet, _)) => debug!(%fleet, "reconciled"),
            Err(controller::Error::ObjectNotFound(fleet)) => {
                missing.add(fleet.namespace, fleet.name);
            }
            Err(controller::Error::ReconcilerFailed(..)) => {}
            Err(controller::Error::QueueError(fault)) => error!(%fault, "a watch failed; trying again"),
            Err(fault) => debug!(%fault, "not reconciled"),
        }
    });
    tokio::select! {
        () = reconciled => {}
        () = missing.tell(&context) => {}
    }
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
