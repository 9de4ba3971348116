//! Puts the floors together and runs them until it is told to finish.

mod settings;
mod watch;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use danmu_wire::CloseCode;
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, sync::oneshot};

use crate::{
    admin::{self, Admin, Quotas},
    catalog::{self, Catalog},
    config::{Config, Flags},
    drain::Drain,
    edge::{
        self,
        admission::{Admission, Settings as AdmissionSettings},
        listener::{self, Edge},
        session::{Order, Sessions},
    },
    gate,
    hooks::{self, Hooks},
    relay::{self, Memory, Relay, redis::Redis},
    room::{self, Rooms, state},
    rows::{self, Inboxes, Workers},
    segments::{self, Segments},
    traces::{self, Traces},
};
use settings::Given;

/// How often rooms are tended: stats told, empty ones forgotten.
const TEND: Duration = Duration::from_secs(1);
/// How often all recordings are looked through for what is too old.
const TRIM: Duration = Duration::from_secs(1800);
/// Descriptors kept for everything that is not a viewer.
const SPARE_DESCRIPTORS: u64 = 256;

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    /// Where viewers connect.
    pub public: SocketAddr,
    /// Where the admin API is.
    pub admin: SocketAddr,
    /// The drain of this process.
    pub drain: Arc<Drain>,
    /// The rows' counters.
    pub metrics: Arc<rows::Metrics>,
    segments: Arc<Segments>,
    hooks: Arc<Hooks>,
    traces: Option<Arc<Traces>>,
    inboxes: Arc<Inboxes<edge::session::Viewer, Order>>,
    workers: Workers,
    stop: oneshot::Sender<()>,
}

/// Most viewers the descriptor limit allows.
fn capacity() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 20);
    limit.saturating_sub(SPARE_DESCRIPTORS).max(1) as usize
}

/// Starts everything and comes back once both ports answer.
///
/// # Errors
/// When an address cannot be bound or a thread or epoll cannot be had.
pub async fn start(flags: &Flags, config: Config, catalog: Catalog) -> std::io::Result<Server> {
    let runtime = tokio::runtime::Handle::current();
    // While the ports are opened, and not while the first edit with words waits for it.
    tokio::task::spawn_blocking(gate::prepare);
    let given = Given::new(flags, &config);
    let settings = given.over(&catalog.fleet);
    let public = TcpListener::from_std(listener::bind(config.public)?)?;
    let admin_listener = TcpListener::bind(config.admin).await?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (inboxes, polls) = Inboxes::new(if flags.workers == 0 { cores } else { flags.workers })?;
    let batching =
        state::Settings { tick: Duration::from_millis(flags.tick_ms), ..state::Settings::default() };
    let segment_metrics = Arc::new(segments::Metrics::default());
    let store = store(flags, &config)?;
    let segments = Segments::new(store, Arc::clone(&segment_metrics), &runtime);
    let relay_metrics = Arc::new(relay::Metrics::default());
    let relay = Arc::new(match config.redis {
        None => Relay::Memory(Memory::default()),
        Some(address) => {
            let metrics = Arc::clone(&relay_metrics);
            Relay::Redis(Box::new(Redis::new(
                address,
                &flags.fleet,
                metrics,
                runtime.clone(),
                !flags.no_recovery,
            )))
        }
    });
    let fan_out = Arc::clone(&inboxes) as Arc<dyn rows::FanOut>;
    let rooms = Rooms::new(fan_out, Arc::clone(&relay), Arc::clone(&segments), batching, runtime.clone());
    let trace_metrics = traces::Metrics::default();
    let traces = trace(flags, config.traces.as_ref(), &trace_metrics)?;
    if let Some(traces) = &traces {
        rooms.on_trace(Arc::clone(traces));
    }
    rooms.on_expel(expel(&inboxes));
    let told = Arc::clone(&inboxes);
    rooms.on_tell(Box::new(move |at, frame| {
        told.visit_one(at.worker, at.connection, Order::Tell(at.number, frame));
    }));
    let visited = Arc::clone(&inboxes);
    rooms.on_reseat(Box::new(move |sub, turn| visited.visit(Some(sub), Order::Reseat(turn))));
    rooms.apply(&catalog);
    let mut rows_metrics = rows::Metrics::default();
    rows_metrics.recorder = flags.record_flushes.as_deref().map(rows::Recorder::start).transpose()?;
    let rows_metrics = Arc::new(rows_metrics);
    let edge_metrics = Arc::new(edge::metrics::Metrics::default());
    let mut registry = Registry::with_prefix("danmu");
    rows_metrics.register(&mut registry);
    edge_metrics.register(&mut registry);
    relay_metrics.register(&mut registry);
    segment_metrics.register(&mut registry);
    let hook_metrics = Arc::new(hooks::Metrics::default());
    hook_metrics.register(&mut registry);
    let hooks = Arc::new(Hooks::new(config.hooks, &flags.fleet, hook_metrics, runtime.clone()));
    hooks.apply(&catalog.fleet);
    trace_metrics.register(&mut registry);
    admin::register(&mut registry, &rooms);
    let keys = Arc::new(config.keys);
    registry.register_collector(Box::new(edge::metrics::KeySetLooks(Arc::clone(&keys))));
    tokio::spawn(Arc::clone(&keys).follow());
    let sessions = Arc::new(Sessions {
        rooms: Arc::clone(&rooms),
        inboxes: Arc::clone(&inboxes),
        runtime: runtime.clone(),
        keys: Arc::clone(&keys),
        metrics: Arc::clone(&edge_metrics),
        hooks: Arc::clone(&hooks),
        hints: std::sync::Mutex::default(),
        started: Instant::now(),
    });
    let workers = Workers::start(&inboxes, polls, &sessions, config.limits, &rows_metrics)?;
    let capacity = capacity();
    let edge = Arc::new(Edge {
        admission: Admission::new(AdmissionSettings {
            connections: capacity,
            per_address: settings.per_address,
            upgrades_per_second: settings.upgrades_per_second,
        }),
        trusted: ArcSwap::from_pointee(settings.trusted),
        origins: ArcSwap::from_pointee(settings.origins),
        keys,
        rooms: Arc::clone(&rooms),
        inboxes: Arc::clone(&inboxes),
        metrics: edge_metrics,
        closed: AtomicBool::new(false),
        listed: AtomicBool::new(flags.rooms.is_some()),
        viewers: 0.into(),
        turn: 0.into(),
    });
    let planned = Arc::new(AtomicUsize::new(planned_for(&catalog, capacity)));
    let drain = Drain::new(Arc::clone(&edge), runtime, settings.drain_seconds);
    let quotas = Arc::new(Quotas::default());
    quotas.register(&mut registry);
    quotas.set(catalog.fleet.server.publishers.clone());
    let admin = Arc::new(Admin {
        edge: Arc::clone(&edge),
        relay,
        quotas: Arc::clone(&quotas),
        drain: Arc::clone(&drain),
        registry,
        rows: Arc::clone(&rows_metrics),
        token: flags.admin_token.clone().filter(|token| !token.is_empty()),
        metrics_token: flags.metrics_token.clone(),
        capacity: Arc::clone(&planned),
    });
    let addresses = (public.local_addr()?, admin_listener.local_addr()?);
    let (stop, stopped) = oneshot::channel();
    let watch = watch::Watch::new(&catalog, Arc::clone(&hooks), Arc::clone(&rooms), Arc::clone(&admin.relay));
    let (sender, changes) = tokio::sync::watch::channel(Arc::new(Catalog::default()));
    match (&flags.rooms, flags.fleet.split_once('/')) {
        (Some(rooms), _) => drop(tokio::spawn(catalog::follow(rooms.clone(), catalog, sender))),
        (None, fleet) => {
            let (namespace, fleet) = fleet.unwrap_or(("default", &flags.fleet));
            let (namespace, fleet, pod) = (namespace.to_owned(), fleet.to_owned(), flags.pod.clone());
            let followed = catalog::kubernetes::follow(namespace, fleet, pod, sender);
            tokio::spawn(followed);
        }
    }
    let taking = Taking {
        given,
        edge: Arc::clone(&edge),
        drain: Arc::clone(&drain),
        capacity,
        planned,
        watch: Arc::clone(&watch),
        quotas,
    };
    tokio::spawn(watch.hot_rooms());
    tokio::spawn(taking.take(changes));
    tokio::spawn(trim(Arc::clone(&rooms), Arc::clone(&segments)));
    tokio::spawn(tend(rooms));
    tokio::spawn(listener::run(edge, public, async {
        let _ = stopped.await;
    }));
    tokio::spawn(admin::serve(admin_listener, admin::router(admin)));
    Ok(Server {
        public: addresses.0,
        admin: addresses.1,
        drain,
        metrics: rows_metrics,
        segments,
        hooks,
        traces,
        inboxes,
        workers,
        stop,
    })
}

/// Where what rooms record is kept.
fn store(flags: &Flags, config: &Config) -> std::io::Result<Arc<dyn segments::Store>> {
    Ok(match (&config.redis, &flags.segments) {
        (Some(address), _) => Arc::new(segments::Shared::new(address.clone(), &flags.fleet)),
        (None, Some(file)) => Arc::new(segments::Embedded::open(file).map_err(|error| {
            std::io::Error::other(format!("--segments: {} cannot be opened: {error}", file.display()))
        })?),
        (None, None) => Arc::new(segments::Embedded::in_memory().map_err(std::io::Error::other)?),
    })
}

/// Where sampled messages are traced to, if they are.
fn trace(
    flags: &Flags,
    settings: Option<&traces::Settings>,
    metrics: &traces::Metrics,
) -> std::io::Result<Option<Arc<Traces>>> {
    let Some(settings) = settings else { return Ok(None) };
    let instance = flags.pod.clone().unwrap_or_else(|| ulid::Ulid::generate().to_string());
    let origin = traces::Origin { instance, fleet: flags.fleet.clone() };
    let traces = Traces::start(settings, origin, metrics.clone()).map_err(std::io::Error::other)?;
    Ok(Some(Arc::new(traces)))
}

/// Closes the connections of whoever is banned or disconnected.
fn expel(inboxes: &Arc<Inboxes<edge::session::Viewer, Order>>) -> room::Expel {
    let inboxes = Arc::clone(inboxes);
    Box::new(move |room, who| {
        let order = match who {
            room::Expelled::User(user) => Order::Disconnect(user.to_owned()),
            room::Expelled::Banned => Order::CloseBanned,
        };
        inboxes.visit(Some(room), order);
    })
}

/// The viewers that the fleet gives this process, at most what its descriptors allow.
fn planned_for(catalog: &Catalog, capacity: usize) -> usize {
    capacity.min(catalog.fleet.viewers_per_pod as usize)
}

/// What a new catalog changes.
struct Taking {
    given: Given,
    edge: Arc<Edge>,
    drain: Arc<Drain>,
    capacity: usize,
    planned: Arc<AtomicUsize>,
    watch: Arc<watch::Watch>,
    quotas: Arc<Quotas>,
}

impl Taking {
    /// Puts every new catalog in force, for as long as the process lives.
    async fn take(self, mut changes: tokio::sync::watch::Receiver<Arc<Catalog>>) {
        while changes.changed().await.is_ok() {
            let catalog = Arc::clone(&changes.borrow_and_update());
            self.given.over(&catalog.fleet).apply(&self.edge, &self.drain);
            self.planned.store(planned_for(&catalog, self.capacity), Ordering::Relaxed);
            self.watch.take(&catalog);
            self.quotas.set(catalog.fleet.server.publishers.clone());
            let (listed, faults) = (catalog.rooms.len(), catalog.faults.len());
            let rooms = Arc::clone(&self.edge.rooms);
            // Long lists of words take a while to compile; viewers wait for none of it.
            let applied = tokio::task::spawn_blocking(move || rooms.apply(&catalog));
            let Ok(refused) = applied.await else {
                tracing::error!("the manifests could not be put in force; the rooms keep what they have");
                continue;
            };
            self.edge.listed.store(true, Ordering::Release);
            for room in refused {
                for key in room.keys() {
                    self.edge.inboxes.visit(Some(key), Order::Close(CloseCode::NoSuchRoom));
                }
            }
            tracing::info!(rooms = listed, faults, "the manifests are in force");
        }
    }
}

/// Recordings of rooms that nobody writes to any more grow old as well.
async fn trim(rooms: Arc<Rooms>, segments: Arc<Segments>) {
    loop {
        tokio::time::sleep(TRIM).await;
        for (room, keep) in rooms.recorded() {
            segments.trim(&room, keep);
            // One by one, so that thousands of rooms do not fill the queue.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn tend(rooms: Arc<Rooms>) {
    let mut tick = tokio::time::interval(TEND);
    loop {
        tick.tick().await;
        rooms.tend(Instant::now());
    }
}

impl Server {
    /// Waits until the drain is over or nobody is left, then ends the workers.
    pub async fn finish(self, drained: impl Future<Output = ()>) {
        // A drain of the admin API that is on may be longer than whoever sent the signal waits.
        let most = Instant::now() + Duration::from_secs(self.drain.seconds());
        let deadline = self.drain.deadline().map(|deadline| deadline.min(most));
        tokio::pin!(drained);
        while self.metrics.viewers.get() > 0 && deadline.is_some_and(|deadline| Instant::now() < deadline) {
            tokio::select! {
                () = &mut drained => break,
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
        // The workers close whoever is left; their close frames are out before the process ends.
        let _ = self.stop.send(());
        self.inboxes.stop();
        let _ = tokio::task::spawn_blocking(move || self.workers.join()).await;
        // Nobody is left who could say more.
        self.segments.settle().await;
        self.hooks.finish().await;
        if let Some(traces) = &self.traces {
            traces.settle().await;
        }
    }
}
