//! One worker thread: its sockets, its rows, its wheel.
//!
//! A turn is: wait for events, take commands, read and resume writers, write some rows, fire the wheel.
//! Between two looks at the sockets one large row is written or several small ones, fewer than twice
//! [`ROW_CAPACITY`] sends, so a big room delays others
//! on its thread by one row, not by one room.

mod reading;
mod seating;
mod timing;
mod writing;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use danmu_wire::{
    CloseCode,
    frame::{self, Format},
};
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use slab::Slab;

use super::{
    Actions, Arrival, Flush, Handler, Inboxes, Io, Limits, Metrics, ROW_CAPACITY, RoomKey,
    audience::Audience,
    connection::{Connection, Phase},
    inbox::{Command, WAKE},
    wheel::Wheel,
};

/// Bytes read from one viewer at a turn; whoever sends more waits for the next turn.
const READ: usize = 16 * 1024;

/// How often a drain visits its next share of viewers.
const DRAIN_STEP: Duration = Duration::from_millis(100);

/// A flush on its way through a room's rows.
#[derive(Clone)]
struct Job {
    flush: Arc<Flush>,
    /// Rows before this one are written.
    row: usize,
    /// When the first row was begun; known only where flushes are recorded.
    started: Option<Instant>,
    /// Viewers written so far, by format.
    written: [u32; Format::ALL.len()],
}

/// A drain in progress.
struct Drain<O> {
    order: Arc<O>,
    started: Instant,
    spread_until: Instant,
    deadline: Instant,
    /// Connections still to visit, in reverse.
    left: Vec<u32>,
    all: usize,
    /// The deadline has passed and everybody was closed: nothing is left to do until it is taken back.
    over: bool,
}

pub(super) struct Worker<H: Handler> {
    number: usize,
    poll: Poll,
    inboxes: Arc<Inboxes<H::Viewer, H::Order>>,
    handler: Arc<H>,
    limits: Limits,
    metrics: Arc<Metrics>,
    now: Instant,
    /// Apart from the connections, and filled and emptied with them, so that both have the same
    /// indices: the fan-out loop then reads 16 bytes a viewer here and in the slot, and no more.
    sockets: Slab<TcpStream>,
    connections: Slab<Connection<H::Viewer>>,
    audiences: HashMap<RoomKey, Audience>,
    jobs: VecDeque<Job>,
    wheel: Wheel,
    drain: Option<Drain<H::Order>>,
    /// Viewers with more to read than one turn takes.
    unread: Vec<u32>,
    /// Personal bytes of the handler's current call.
    out: Vec<u8>,
    scratch: Box<[u8]>,
    stopping: bool,
}

impl<H: Handler> Worker<H> {
    pub(super) fn new(
        number: usize,
        poll: Poll,
        inboxes: Arc<Inboxes<H::Viewer, H::Order>>,
        handler: Arc<H>,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Self {
        let now = Instant::now();
        Worker {
            number,
            poll,
            inboxes,
            handler,
            limits,
            metrics,
            now,
            sockets: Slab::new(),
            connections: Slab::new(),
            audiences: HashMap::new(),
            jobs: VecDeque::new(),
            wheel: Wheel::new(now),
            drain: None,
            unread: Vec::new(),
            out: Vec::new(),
            scratch: vec![0; READ].into(),
            stopping: false,
        }
    }

    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        let mut commands = Vec::new();
        while !self.stopping {
            if let Err(error) = self.poll.poll(&mut events, Some(self.patience()))
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                tracing::error!(worker = self.number, %error, "epoll failed");
                std::thread::sleep(Duration::from_millis(10));
            }
            self.now = Instant::now();
            self.inboxes.take(self.number, &mut commands);
            for command in commands.drain(..) {
                self.obey(command);
            }
            for connection in std::mem::take(&mut self.unread) {
                self.read(connection);
            }
            for event in &events {
                if event.token() != WAKE {
                    self.ready(event);
                }
            }
            self.write_rows();
            self.fire_wheel();
            self.step_drain();
        }
        self.end();
    }

    /// How long the worker may sleep.
    fn patience(&self) -> Duration {
        if !self.jobs.is_empty() || !self.unread.is_empty() {
            return Duration::ZERO;
        }
        let tick = self.wheel.wait(self.now);
        if self.drain.as_ref().is_some_and(|drain| !drain.over) { tick.min(DRAIN_STEP) } else { tick }
    }

    fn obey(&mut self, command: Command<H::Viewer, H::Order>) {
        match command {
            Command::Adopt(arrival) => self.adopt(*arrival),
            Command::FanOut(flush) => {
                self.jobs.push_back(Job { flush, row: 0, started: None, written: Default::default() });
            }
            Command::Visit { room, order } => self.visit(room, &order),
            Command::VisitOne { connection, order } => {
                self.call(connection, |handler, viewer, io| handler.visit(viewer, &order, io));
            }
            Command::Drain { order, spread_until, deadline } => {
                let left: Vec<u32> = self.connections.iter().map(|(index, _)| index as u32).collect();
                let all = left.len();
                let started = self.now;
                self.drain = Some(Drain { order, started, spread_until, deadline, left, all, over: false });
            }
            Command::Undrain => self.drain = None,
            Command::Stop => self.stopping = true,
        }
    }

    fn adopt(&mut self, arrival: Arrival<H::Viewer>) {
        let Arrival { socket, viewer, mut early } = arrival;
        let mut socket = TcpStream::from_std(socket);
        let index = self.sockets.vacant_key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut socket, Token(index), interest) {
            tracing::warn!(%error, "a socket cannot be watched");
            self.handler.closed(viewer, None, self.number);
            return;
        }
        self.sockets.insert(socket);
        let now = self.wheel.passed(self.now);
        let same = self.connections.insert(Connection::new(viewer, now));
        debug_assert_eq!(index, same);
        let index = index as u32;
        self.metrics.viewers.inc();
        self.call(index, |handler, viewer, io| handler.opened(viewer, io));
        self.set_wheel(index);
        if self.drain.as_ref().is_some_and(|drain| self.now >= drain.deadline) {
            self.close(index, CloseCode::Drain);
        }
        if !early.is_empty() {
            self.take_bytes(index, &mut early);
        }
        // Bytes may have come before the socket was watched; edge-triggered epoll tells them at
        // registration, so nothing more is needed here.
    }

    /// Calls the handler for one open viewer and carries out what it asked for.
    fn call(&mut self, index: u32, body: impl FnOnce(&H, &mut H::Viewer, &mut Io<'_>)) {
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        if connection.phase != Phase::Open {
            return;
        }
        let mut out = std::mem::take(&mut self.out);
        let mut io = Io {
            now: self.now,
            worker: self.number,
            connection: index,
            audiences: &self.audiences,
            seat: connection.seat,
            out: &mut out,
            actions: Actions::default(),
        };
        body(&self.handler, &mut connection.viewer, &mut io);
        let Actions { seat, deadline, close } = io.actions;
        if let Some(deadline) = deadline {
            connection.deadline = deadline.map_or(0, |at| self.wheel.tick(at));
            self.set_wheel(index);
        }
        if let Some(seat) = seat {
            self.reseat(index, seat);
        }
        if !out.is_empty() {
            self.send_personal(index, &out);
        }
        out.clear();
        // A joined frame can have 10 kB of history; one large buffer a worker is enough.
        out.shrink_to(READ);
        self.out = out;
        if let Some(code) = close {
            self.close(index, code);
        }
    }

    fn visit(&mut self, room: Option<RoomKey>, order: &Arc<H::Order>) {
        let visited: Vec<u32> = self
            .connections
            .iter()
            .filter(|(_, c)| room.is_none() || c.seat.is_some_and(|(seated, _)| Some(seated) == room))
            .map(|(index, _)| index as u32)
            .collect();
        for index in visited {
            self.call(index, |handler, viewer, io| handler.visit(viewer, order, io));
        }
    }

    /// Says goodbye with a code: the viewer leaves its row at once, the socket after the peer's answer.
    fn close(&mut self, index: u32, code: CloseCode) {
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        if connection.phase != Phase::Open {
            return;
        }
        self.metrics.closed_with(code);
        let until = self.wheel.tick(self.now + self.limits.closing);
        connection.phase = Phase::Closing(code, until);
        let cut = connection.backlog.take().map(|backlog| {
            self.metrics.stalled.dec();
            backlog.is_cut()
        });
        self.leave_row(index);
        let sent = cut != Some(true)
            && self.sockets.get(index as usize).is_some_and(|socket| {
                let frame = frame::close(code);
                std::io::Write::write(&mut &*socket, &frame).is_ok_and(|n| n == frame.len())
            });
        if sent {
            self.set_wheel(index);
        } else {
            // In the middle of a frame, or with a full socket, no close frame can be read any more.
            self.remove(index);
        }
    }

    /// Forgets a connection; closes its socket.
    fn remove(&mut self, index: u32) {
        if !self.connections.contains(index as usize) {
            return;
        }
        self.leave_row(index);
        let connection = self.connections.remove(index as usize);
        // Closing the descriptor takes it out of epoll as well.
        drop(self.sockets.remove(index as usize));
        self.metrics.viewers.dec();
        if connection.backlog.is_some() {
            self.metrics.stalled.dec();
        }
        let code = match connection.phase {
            Phase::Closing(code, _) => Some(code),
            Phase::Open => None,
        };
        self.handler.closed(connection.viewer, code, self.number);
    }

    fn end(&mut self) {
        // The process may end in the very moment of the drain's deadline; viewers are told the same.
        let code = if self.drain.is_some() { CloseCode::Drain } else { CloseCode::GoingAway };
        let open: Vec<u32> = self.connections.iter().map(|(index, _)| index as u32).collect();
        for index in open {
            self.close(index, code);
            self.remove(index);
        }
        for job in self.jobs.drain(..) {
            job.flush.written();
        }
    }
}

#[cfg(test)]
mod tests;
