//! How other threads reach the workers.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use mio::{Poll, Token, Waker};

use super::{Flush, RoomKey, Socket};

/// The token of the waker; connections count from 0.
pub(super) const WAKE: Token = Token(usize::MAX);

/// An upgraded socket on its way to a worker.
#[derive(Debug)]
pub struct Arrival<V> {
    /// Non-blocking, past the handshake.
    pub socket: Socket,
    /// The viewer's state.
    pub viewer: V,
    /// What the viewer sent right behind its handshake.
    pub early: Vec<u8>,
}

/// What a worker can be told.
pub(super) enum Command<V, O> {
    Adopt(Box<Arrival<V>>),
    FanOut(Arc<Flush>),
    Visit { room: Option<RoomKey>, order: Arc<O> },
    VisitOne { connection: u32, order: O },
    Drain { order: Arc<O>, spread_until: Instant, deadline: Instant },
    Undrain,
    Stop,
}

struct Inbox<V, O> {
    /// Bounded by what fills it: a room has one flush in flight, arrivals hold a permit of the
    /// connection cap, and orders come from the admin port, the relay and the recording, whose queues are
    /// bounded, and from viewers who wait, each for one room.
    commands: Mutex<Vec<Command<V, O>>>,
    waker: Waker,
}

/// The way to every worker. Cheap to call from any thread.
pub struct Inboxes<V, O> {
    inboxes: Vec<Inbox<V, O>>,
}

/// Hands flushes to workers; what `room` sees of the rows.
pub trait FanOut: Send + Sync {
    /// How many workers there are.
    fn workers(&self) -> usize;
    /// Hands the flush to one worker.
    fn fan_out(&self, worker: usize, flush: Arc<Flush>);
}

impl<V: Send + 'static, O: Send + Sync + 'static> Inboxes<V, O> {
    /// Inboxes and polls for so many workers; [`super::Workers::start`] takes them.
    ///
    /// # Errors
    /// When the kernel gives no epoll or eventfd.
    pub fn new(workers: usize) -> io::Result<(Arc<Self>, Vec<Poll>)> {
        let mut inboxes = Vec::with_capacity(workers);
        let mut polls = Vec::with_capacity(workers);
        for _ in 0..workers {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), WAKE)?;
            inboxes.push(Inbox { commands: Mutex::new(Vec::new()), waker });
            polls.push(poll);
        }
        Ok((Arc::new(Inboxes { inboxes }), polls))
    }

    /// Gives a socket to one worker.
    pub fn adopt(&self, worker: usize, arrival: Arrival<V>) {
        self.push(worker, Command::Adopt(Box::new(arrival)));
    }

    /// Has every viewer of the room (or of all, lobby included) visited with the order.
    pub fn visit(&self, room: Option<RoomKey>, order: O) {
        let order = Arc::new(order);
        self.each(|| Command::Visit { room, order: Arc::clone(&order) });
    }

    /// Has one connection visited, if it is still there; another may have its number by now.
    pub fn visit_one(&self, worker: usize, connection: u32, order: O) {
        self.push(worker, Command::VisitOne { connection, order });
    }

    /// Visits all viewers with the order, spread evenly until `spread_until`; whoever is left at the
    /// deadline is closed with 4001, and whoever comes later is closed at once.
    pub fn drain(&self, order: O, spread_until: Instant, deadline: Instant) {
        let order = Arc::new(order);
        self.each(|| Command::Drain { order: Arc::clone(&order), spread_until, deadline });
    }

    /// Takes a drain back.
    pub fn undrain(&self) {
        self.each(|| Command::Undrain);
    }

    /// Ends the workers; open sockets get 1001.
    pub fn stop(&self) {
        self.each(|| Command::Stop);
    }

    fn each(&self, command: impl Fn() -> Command<V, O>) {
        for worker in 0..self.inboxes.len() {
            self.push(worker, command());
        }
    }

    fn push(&self, worker: usize, command: Command<V, O>) {
        let Some(inbox) = self.inboxes.get(worker) else { return };
        let mut commands = inbox.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = commands.is_empty();
        commands.push(command);
        drop(commands);
        // A worker takes all commands at a turn, so only the first one has to wake it.
        if was_empty && let Err(error) = inbox.waker.wake() {
            tracing::error!(worker, %error, "a worker cannot be woken");
        }
    }

    /// Moves all commands into `taken`, which must be empty.
    pub(super) fn take(&self, worker: usize, taken: &mut Vec<Command<V, O>>) {
        if let Some(inbox) = self.inboxes.get(worker) {
            std::mem::swap(&mut *inbox.commands.lock().unwrap_or_else(PoisonError::into_inner), taken);
        }
    }
}

impl<V: Send + 'static, O: Send + Sync + 'static> FanOut for Inboxes<V, O> {
    fn workers(&self) -> usize {
        self.inboxes.len()
    }

    fn fan_out(&self, worker: usize, flush: Arc<Flush>) {
        self.push(worker, Command::FanOut(flush));
    }
}

impl<V, O> std::fmt::Debug for Inboxes<V, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inboxes").field("workers", &self.inboxes.len()).finish()
    }
}
