//! Worker threads that own their sockets; a room's viewers on one thread are its rows.
//!
//! `room` hands a [`Flush`] (bytes encoded once) to every worker that has viewers of the room, and a
//! worker writes the same bytes to each socket with one send(2). `edge` hands over upgraded sockets and
//! is called back through [`Handler`] with whole messages. Rows know neither rooms nor rules: a room
//! is a [`RoomKey`], a message is text.
//!
//! What a viewer costs while idle: one slot and one socket (16 bytes each), one [`Handler::Viewer`]
//! with its connection state. No task, no timer, no buffer: deadlines live in one wheel a worker, and
//! bytes are kept only for what is incomplete (inbound) or could not be written (outbound).

mod audience;
mod backlog;
mod connection;
mod flush;
mod inbox;
mod metrics;
mod record;
mod wheel;
mod worker;

use std::{
    collections::HashMap, io, net::TcpStream, sync::Arc, thread::JoinHandle, time::Duration, time::Instant,
};

use danmu_wire::{CloseCode, frame::Format};

use audience::{Audience, Place};
pub use flush::{Flush, Flushed, Frames};
pub use inbox::{Arrival, FanOut, Inboxes};
pub use metrics::Metrics;
pub use record::Recorder;

/// A room as the rows know it; never reused while the process lives.
pub type RoomKey = u64;

/// Most viewers in a row: the unit of fan-out between two looks at the sockets. 1,024 sends take
/// 7–10 ms, so that is how long a busy room can delay anything else on its thread.
pub const ROW_CAPACITY: usize = 1024;

/// Limits of a connection; every wait has one.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A ping goes out after this much silence; after twice as much the viewer is gone. Some proxies
    /// cut at 60 s without traffic, hence 25 s.
    pub ping: Duration,
    /// A viewer who takes no byte for this long while bytes wait is closed with 4008.
    pub stalled: Duration,
    /// The rest of a started frame or fragmented message must come within this time.
    pub half_frame: Duration,
    /// The peer has this long to answer our close frame.
    pub closing: Duration,
    /// Longest message taken, in bytes.
    pub message: usize,
    /// Most frames a viewer may send in a second, pings included.
    pub frames_per_second: u32,
    /// Most priority frames owed to one slow viewer; over it the viewer is closed with 4008.
    pub owed_priority: usize,
    /// Most bytes of personal frames owed to one slow viewer; over it the viewer is closed with 4008.
    pub owed_personal: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            ping: Duration::from_secs(25),
            stalled: Duration::from_secs(10),
            half_frame: Duration::from_secs(10),
            closing: Duration::from_secs(3),
            message: danmu_wire::frame::MAX_MESSAGE,
            frames_per_second: 100,
            owed_priority: 256,
            owed_personal: 64 * 1024,
        }
    }
}

/// What happens to viewers; called on the worker thread that owns the viewer, so it must not block.
pub trait Handler: Send + Sync + 'static {
    /// State of one viewer; lives in the worker, so keep it small.
    type Viewer: Send + 'static;
    /// What can be asked of every viewer of a room, or of all ([`Inboxes::visit`]).
    type Order: Send + Sync + 'static;

    /// The socket has arrived.
    fn opened(&self, viewer: &mut Self::Viewer, io: &mut Io<'_>);
    /// A whole text message has come.
    fn text(&self, viewer: &mut Self::Viewer, text: &str, io: &mut Io<'_>);
    /// A whole binary message has come.
    fn binary(&self, viewer: &mut Self::Viewer, bytes: &[u8], io: &mut Io<'_>);
    /// The time set with [`Io::set_deadline`] has passed (to the second).
    fn due(&self, viewer: &mut Self::Viewer, io: &mut Io<'_>);
    /// The viewer's turn under an order.
    fn visit(&self, viewer: &mut Self::Viewer, order: &Self::Order, io: &mut Io<'_>);
    /// The viewer has left its row for good. `code` is what we closed with; `None` when the viewer went.
    fn closed(&self, viewer: Self::Viewer, code: Option<CloseCode>, worker: usize);
}

/// What a [`Handler`] may do with the viewer it was called for. Carried out when the call returns.
#[derive(Debug)]
pub struct Io<'a> {
    /// The time of this turn of the worker.
    pub now: Instant,
    /// The worker's number.
    pub worker: usize,
    /// The connection's number on its worker, for [`Inboxes::visit_one`]; used again once it is gone.
    pub connection: u32,
    audiences: &'a HashMap<RoomKey, Audience>,
    seat: Option<(RoomKey, Place)>,
    out: &'a mut Vec<u8>,
    actions: Actions,
}

#[derive(Debug, Default)]
struct Actions {
    seat: Option<Option<Seat>>,
    deadline: Option<Option<Instant>>,
    close: Option<CloseCode>,
}

/// A place in a room's rows.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// Which room.
    pub room: RoomKey,
    /// Which of the flush's encodings.
    pub format: Format,
    /// The first flush this viewer gets; earlier ones are covered by what it was told on joining.
    pub from: u64,
}

impl Io<'_> {
    /// The last flush of its room that was written to this viewer, or that it was told on joining; none in the
    /// lobby, and while it is owed something.
    pub fn written(&self) -> Option<u64> {
        let (room, place) = self.seat?;
        self.audiences.get(&room)?.written(place)
    }

    /// Sends a whole frame to this viewer alone. Goes out before any later flush.
    pub fn send(&mut self, frame: &[u8]) {
        self.out.extend_from_slice(frame);
    }

    /// Seats the viewer in a room, leaving the row it was in.
    pub fn sit(&mut self, seat: Seat) {
        self.actions.seat = Some(Some(seat));
    }

    /// Takes the viewer out of its row; the connection stays (the lobby).
    pub fn stand(&mut self) {
        self.actions.seat = Some(None);
    }

    /// Calls [`Handler::due`] once the time has passed, in place of any earlier deadline.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.actions.deadline = Some(deadline);
    }

    /// Closes with the code after what was sent before. The first call counts.
    pub fn close(&mut self, code: CloseCode) {
        self.actions.close.get_or_insert(code);
    }
}

/// The worker threads, running.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts a thread for each inbox.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start<H: Handler>(
        inboxes: &Arc<Inboxes<H::Viewer, H::Order>>,
        polls: Vec<mio::Poll>,
        handler: &Arc<H>,
        limits: Limits,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Workers> {
        let mut threads = Vec::with_capacity(polls.len());
        for (number, poll) in polls.into_iter().enumerate() {
            let worker = worker::Worker::new(
                number,
                poll,
                Arc::clone(inboxes),
                Arc::clone(handler),
                limits,
                Arc::clone(metrics),
            );
            threads.push(
                std::thread::Builder::new().name(format!("rows-{number}")).spawn(move || worker.run())?,
            );
        }
        Ok(Workers { threads })
    }

    /// Waits for the threads to end after [`Inboxes::stop`].
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

/// Options that every viewer's socket shares; set on the listener, inherited by what it accepts.
///
/// `TCP_NOTSENT_LOWAT` keeps what a slow viewer has not been sent in our hands, where old chat can be
/// dropped, instead of up to 4 MB of it in the kernel. 64 KiB holds several flushes of a busy room.
///
/// # Errors
/// When the kernel refuses an option.
pub fn prepare_listener(listener: &socket2::Socket) -> io::Result<()> {
    listener.set_tcp_nodelay(true)?;
    listener.set_tcp_notsent_lowat(64 * 1024)?;
    listener.set_tcp_user_timeout(Some(Duration::from_secs(30)))?;
    Ok(())
}

/// A socket as it comes from the upgrade: non-blocking, past the handshake.
pub type Socket = TcpStream;
