//! Puts the floors together and runs them until a signal.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use danmu_wire::CloseCode;
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
};

use crate::{
    admin::{self, Admin},
    catalog::{self, Catalog},
    config::{Config, Flags},
    drain::Drain,
    edge::{
        self,
        admission::{Admission, Settings as AdmissionSettings},
        listener::{self, Edge},
        session::{Order, Sessions},
    },
    relay::Memory,
    room::{Rooms, state},
    rows::{self, Inboxes, Workers},
};

/// How often rooms are tended: stats told, empty ones forgotten.
const TEND: Duration = Duration::from_secs(2);
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
    let public = TcpListener::from_std(listener::bind(config.public)?)?;
    let admin_listener = TcpListener::bind(config.admin).await?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (inboxes, polls) = Inboxes::new(if flags.workers == 0 { cores } else { flags.workers })?;
    let settings =
        state::Settings { tick: Duration::from_millis(flags.tick_ms), ..state::Settings::default() };
    let rooms = Rooms::new(Arc::clone(&inboxes) as Arc<dyn rows::FanOut>, settings, runtime.clone());
    rooms.apply(&catalog);
    let mut rows_metrics = rows::Metrics::default();
    rows_metrics.recorder = flags.record_flushes.as_deref().map(rows::Recorder::start).transpose()?;
    let rows_metrics = Arc::new(rows_metrics);
    let edge_metrics = Arc::new(edge::metrics::Metrics::default());
    let mut registry = Registry::with_prefix("danmu");
    rows_metrics.register(&mut registry);
    edge_metrics.register(&mut registry);
    let keys = Arc::new(config.keys);
    let sessions = Arc::new(Sessions {
        rooms: Arc::clone(&rooms),
        relay: Memory::new(&rooms),
        keys: Arc::clone(&keys),
        metrics: Arc::clone(&edge_metrics),
    });
    let workers = Workers::start(&inboxes, polls, &sessions, rows::Limits::default(), &rows_metrics)?;
    let capacity = capacity();
    let edge = Arc::new(Edge {
        admission: Admission::new(AdmissionSettings {
            connections: capacity,
            per_address: flags.per_address_cap,
            upgrades_per_second: flags.upgrades_per_second,
        }),
        trusted: config.trusted,
        origins: ArcSwap::from_pointee(config.origins),
        keys,
        rooms: Arc::clone(&rooms),
        inboxes: Arc::clone(&inboxes),
        metrics: edge_metrics,
        closed: AtomicBool::new(false),
        viewers: 0.into(),
        turn: 0.into(),
    });
    let drain = Drain::new(Arc::clone(&edge), runtime);
    let admin = Arc::new(Admin {
        edge: Arc::clone(&edge),
        relay: Memory::new(&rooms),
        drain: Arc::clone(&drain),
        registry,
        rows: Arc::clone(&rows_metrics),
        token: flags.admin_token.clone().filter(|token| !token.is_empty()),
        capacity,
        drain_seconds: flags.drain_seconds,
    });
    let addresses = (public.local_addr()?, admin_listener.local_addr()?);
    let (stop, stopped) = oneshot::channel();
    follow(flags, catalog, Arc::clone(&rooms), Arc::clone(&inboxes));
    tokio::spawn(listener::run(edge, public, async {
        let _ = stopped.await;
    }));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(admin_listener, admin::router(admin)).await {
            tracing::error!(%error, "the admin port ended");
        }
    });
    Ok(Server {
        public: addresses.0,
        admin: addresses.1,
        drain,
        metrics: rows_metrics,
        inboxes,
        workers,
        stop,
    })
}

/// Follows the folder and tends the rooms for as long as the process lives.
fn follow(
    flags: &Flags,
    catalog: Catalog,
    rooms: Arc<Rooms>,
    inboxes: Arc<Inboxes<edge::session::Viewer, Order>>,
) {
    let (sender, mut changes) = watch::channel(Arc::new(Catalog::default()));
    tokio::spawn(catalog::follow(flags.rooms.clone(), catalog, sender));
    tokio::spawn(async move {
        let mut tend = tokio::time::interval(TEND);
        loop {
            tokio::select! {
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let catalog = Arc::clone(&changes.borrow_and_update());
                    for room in rooms.apply(&catalog) {
                        inboxes.visit(Some(room.key), Order::Close(CloseCode::NoSuchRoom));
                    }
                }
                _ = tend.tick() => rooms.tend(Instant::now()),
            }
        }
    });
}

impl Server {
    /// Waits until the drain is over or nobody is left, then ends the workers.
    pub async fn finish(self, drained: impl Future<Output = ()>) {
        let deadline = self.drain.deadline();
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
    }
}
