//! The public port: accept, admission, and HTTP until the upgrade.

use std::{
    net::{Shutdown, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{
    address,
    admission::{Admission, Permit, Refused},
    danmu, http,
    metrics::Metrics,
    origin::Origins,
    session::{Order, Viewer},
    token::Keys,
};
use crate::{room::Rooms, rows, rows::Inboxes};

/// Headers must be whole within this time (hyper's own default is inert without a timer).
const HEADER_DEADLINE: Duration = Duration::from_secs(5);
/// Most bytes of a request's head.
const HEAD_BYTES: usize = 16 * 1024;
/// Most connections that are turned away and still read from; they have no permit, so they must stay
/// well under the descriptors kept for everything that is no viewer.
const FAREWELLS: usize = 64;
/// A client that was turned away has this long to read why.
const FAREWELL_DEADLINE: Duration = Duration::from_secs(1);

/// What the public port needs.
#[derive(Debug)]
pub struct Edge {
    /// Connection caps and the upgrade rate.
    pub admission: Arc<Admission>,
    /// Proxies whose forwarding headers count.
    pub trusted: ArcSwap<Vec<IpNet>>,
    /// Pages that may connect.
    pub origins: ArcSwap<Origins>,
    /// Token keys.
    pub keys: Arc<Keys>,
    /// The rooms.
    pub rooms: Arc<Rooms>,
    /// The workers.
    pub inboxes: Arc<Inboxes<Viewer, Order>>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// No upgrades while set: this process is being emptied.
    pub closed: AtomicBool,
    /// No upgrades before it is set: the rooms are not known yet, and to refuse one would be final.
    pub listed: AtomicBool,
    /// Numbers viewers.
    pub viewers: AtomicU64,
    /// Deals viewers to workers in turn.
    pub turn: AtomicUsize,
}

/// Binds a listening socket; `[::]` takes IPv4 as well.
///
/// # Errors
/// When the address cannot be had.
pub fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    rows::prepare_listener(&socket)?;
    socket.bind(&address.into())?;
    // A cut brings everybody back at once; the kernel caps this at somaxconn (4,096).
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Accepts until `shutdown` resolves.
pub async fn run(edge: Arc<Edge>, listener: TcpListener, shutdown: impl Future<Output = ()>) {
    tokio::pin!(shutdown);
    let mut pause = Duration::from_millis(5);
    let farewells = Arc::new(Semaphore::new(FAREWELLS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = Duration::from_millis(5);
                admit(&edge, stream, peer, &farewells);
            }
            Err(error) => {
                // Out of descriptors, most likely: wait, longer each time, instead of spinning.
                tracing::warn!(%error, ?pause, "accept failed");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}

fn admit(edge: &Arc<Edge>, stream: TcpStream, peer: SocketAddr, farewells: &Arc<Semaphore>) {
    let ip = peer.ip().to_canonical();
    // Behind a proxy all viewers share its address: they are counted by their own, from the headers.
    let group = (!edge.trusted.load().iter().any(|n| n.contains(&ip))).then(|| address::group(ip));
    match edge.admission.connection(group) {
        Ok(permit) => {
            let edge = Arc::clone(edge);
            tokio::spawn(serve(edge, stream, peer, permit));
        }
        Err(refused) => {
            edge.metrics.turned_away(refused.why);
            turn_away(stream, &refused, farewells);
        }
    }
}

/// A 503 without looking at the request; what does not fit the socket at once is let go.
fn turn_away(stream: TcpStream, refused: &Refused, farewells: &Arc<Semaphore>) {
    let seconds = refused.retry_after.as_secs().max(1);
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {seconds}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let _ = socket2::SockRef::from(&stream).send(answer.as_bytes());
    // When a flood has taken every farewell, the rest may see a reset: they are told by it as well.
    if let Ok(permit) = Arc::clone(farewells).try_acquire_owned() {
        tokio::spawn(farewell(stream, permit));
    }
}

/// Closing a socket with unread bytes resets it, and the reset takes the answer with it. So the request
/// is read, for a moment, and thrown away.
async fn farewell(stream: TcpStream, _permit: OwnedSemaphorePermit) {
    let _ = socket2::SockRef::from(&stream).shutdown(Shutdown::Write);
    let mut thrown_away = [0; 1024];
    let mut left = HEAD_BYTES;
    let reading = async {
        while left > 0 && stream.readable().await.is_ok() {
            match stream.try_read(&mut thrown_away) {
                Ok(0) => return,
                Ok(read) => left = left.saturating_sub(read),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    let _ = tokio::time::timeout(FAREWELL_DEADLINE, reading).await;
}

async fn serve(edge: Arc<Edge>, stream: TcpStream, peer: SocketAddr, permit: Permit) {
    let permit = Arc::new(Mutex::new(Some(permit)));
    let service = service_fn(|request| {
        let edge = Arc::clone(&edge);
        let permit = Arc::clone(&permit);
        async move {
            let fetched = danmu::room(request.uri().path()).map(str::to_owned);
            let answer = match fetched {
                Some(room) => danmu::answer(&edge, &request, &room, peer).await,
                None => http::answer(&edge, request, peer, &permit, Instant::now()),
            };
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%peer, %error, "a connection ended badly");
    }
}

/// Takes the permit out of its connection for the viewer that the connection becomes.
pub(super) fn take_permit(permit: &Mutex<Option<Permit>>) -> Option<Permit> {
    permit.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl Edge {
    pub(super) fn next_worker(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % rows::FanOut::workers(&*self.inboxes).max(1)
    }
}
