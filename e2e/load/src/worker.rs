//! One thread and its viewers: connects them, lets them talk and listen, says goodbye.

mod following;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use danmu_wire::frame::Format;
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use socket2::{Domain, Protocol, Socket, Type};
use tungstenite::{
    handshake::client::generate_key,
    protocol::frame::coding::{Control, Data, OpCode},
};

use crate::{
    account::Account,
    clock,
    handshake::Target,
    payload::PayloadReader,
    schedule::{Due, Schedule},
    stamp::Stamp,
    tally::{Tally, count},
    viewer::{Desk, Ended, State, Viewer},
};

/// Longest sleep, so that the start of the talk is not missed.
const LONGEST_WAIT_NS: u64 = 20_000_000;

/// Events handled before the clock is looked at again: 256 reads are about 1 ms, the most that a
/// message may be late because of reading.
const EVENTS: usize = 256;

/// Fits the frames that pile up on one socket in a second at 20 messages a second, many times over.
const READ_BUFFER: usize = 64 * 1024;

/// A viewer that never reads gets the smallest receive buffer there is, so that it is felt soon.
const SLOW_RECEIVE_BUFFER: usize = 2048;

/// How long the server may take to answer our goodbyes.
const PARTING_NS: u64 = 2_000_000_000;

/// A room in which nothing happened for so long after the talk is quiet.
const QUIET_NS: u64 = 1_000_000_000;

/// Who speaks when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Talk {
    /// So many messages a second, evenly spaced over all speakers.
    Paced {
        /// Messages a second.
        rate: f64,
    },
    /// Each viewer once, at a random time.
    Once,
}

/// The run as all its threads know it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The mark of this run in all texts: `[a-z0-9]+`.
    pub(crate) run: String,
    pub(crate) targets: Vec<Target>,
    /// Local addresses to connect from; empty lets the kernel choose.
    pub(crate) sources: Vec<IpAddr>,
    /// Viewers of the whole run; the first `speakers` speak, the last `slow` never read.
    pub(crate) viewers: u64,
    pub(crate) speakers: u64,
    pub(crate) slow: u64,
    /// Connections a second over the whole run.
    pub(crate) connect_rate: f64,
    pub(crate) connect_timeout_ns: u64,
    pub(crate) format: Format,
    pub(crate) token: Option<String>,
    pub(crate) text_bytes: usize,
    /// What messages say after their stamp; empty is made-up words.
    pub(crate) texts: Arc<[String]>,
    /// Viewers obey `move` and come back after a cut.
    pub(crate) follow: bool,
    pub(crate) talk: Talk,
    pub(crate) talk_ns: u64,
    /// How long into the talk latencies of the priority lane begin to be told apart.
    pub(crate) split_ns: Option<u64>,
    /// Longest wait for the last deliveries.
    pub(crate) settle_ns: u64,
}

/// The start of a talk that will not be.
pub(crate) const CALLED_OFF: u64 = u64::MAX;

/// What the threads of a process tell their conductor, and the one thing it tells them.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    pub(crate) joined: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) received: AtomicU64,
    /// When the talk starts on the monotonic clock; 0 while that is not known, or [`CALLED_OFF`].
    pub(crate) go_ns: AtomicU64,
}

/// A viewer over all its connections.
#[derive(Debug, Default)]
struct Seat {
    /// The connection that speaks.
    viewer: Option<Viewer>,
    account: Account,
    /// When it connected first, was cut, or was asked to move.
    since_ns: u64,
    joined_before: bool,
    /// It connects again at a time that is set, or is connecting again.
    returning: bool,
    tries: u32,
    /// Where to, if it was told a URL; by its place in [`PayloadReader::name`].
    url: Option<u32>,
    /// Where to, if not where it was first; by its place in [`Plan::targets`].
    target: Option<usize>,
}

/// One thread's viewers: those with `id % workers == worker`.
pub(crate) struct Worker<'a> {
    plan: &'a Plan,
    signals: &'a Signals,
    worker: u64,
    workers: u64,
    poll: Poll,
    events: Events,
    desk: Desk,
    seats: Vec<Seat>,
    /// Connections of viewers that have another one: on its way in, or on its way out. By token.
    others: HashMap<usize, Viewer>,
    /// Who connects again and when, soonest first.
    returns: BinaryHeap<Reverse<(u64, usize)>>,
    /// Tokens given so far, in their upper half.
    turns: usize,
    /// Tokens of those that may not have joined yet, longest waiting first.
    handshakes: VecDeque<usize>,
    /// Joined, failed and received as told to the conductor.
    told: [u64; 3],
    failures: u64,
    scratch: Vec<u8>,
}

impl<'a> Worker<'a> {
    /// A thread that has done nothing yet.
    ///
    /// # Errors
    /// When the system has no more epoll instances.
    pub(crate) fn new(plan: &'a Plan, signals: &'a Signals, worker: u64, workers: u64) -> io::Result<Self> {
        Ok(Worker {
            plan,
            signals,
            worker,
            workers,
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            desk: Desk {
                buffer: vec![0; READ_BUFFER].into(),
                payloads: PayloadReader::new(&plan.run),
                tally: Tally::default(),
                now: clock::monotonic_ns,
            },
            seats: Vec::new(),
            others: HashMap::new(),
            returns: BinaryHeap::new(),
            turns: 0,
            handshakes: VecDeque::new(),
            told: [0; 3],
            failures: 0,
            scratch: Vec::new(),
        })
    }

    /// The whole run of this thread.
    ///
    /// # Errors
    /// When the poll itself fails; what happens to a viewer is in the tally.
    pub(crate) fn run(mut self) -> io::Result<Tally> {
        let Some(go_ns) = self.connect()? else { return Ok(self.desk.tally) };
        self.talk(go_ns)?;
        self.settle()?;
        for seat in &self.seats {
            match &seat.viewer {
                Some(viewer) if matches!(viewer.state, State::Joined) => {
                    self.desk.tally.close(&seat.account);
                }
                None if seat.joined_before && seat.returning => {
                    count(&mut self.desk.tally.departed, "never came back");
                }
                _ => {}
            }
        }
        let tally = std::mem::take(&mut self.desk.tally);
        self.part()?;
        Ok(tally)
    }

    /// Connects at the run's rate until the conductor says when to talk, and waits for that moment;
    /// `None` when the run is called off.
    fn connect(&mut self) -> io::Result<Option<u64>> {
        let start_ns = clock::monotonic_ns();
        self.desk.tally.first_connect_ns = start_ns;
        let mine = (self.plan.viewers + self.workers - 1 - self.worker) / self.workers;
        loop {
            let now_ns = clock::monotonic_ns();
            let due = (now_ns - start_ns) as f64 / 1e9 * self.plan.connect_rate / self.workers as f64 + 1.0;
            while (self.seats.len() as u64) < mine.min(due as u64) {
                self.seats.push(Seat { since_ns: now_ns, ..Seat::default() });
                self.open(self.seats.len() - 1);
            }
            self.come_back(now_ns);
            self.expire(now_ns);
            let go_ns = self.signals.go_ns.load(Ordering::Relaxed);
            if go_ns == CALLED_OFF {
                return Ok(None);
            }
            if go_ns != 0 && now_ns >= go_ns {
                return Ok(Some(go_ns));
            }
            let more = (self.seats.len() as u64) < mine || !self.returns.is_empty();
            self.turn(if more { 1_000_000 } else { LONGEST_WAIT_NS })?;
        }
    }

    fn talk(&mut self, go_ns: u64) -> io::Result<()> {
        let (cpu_ns, end_ns) = (clock::thread_cpu_ns(), go_ns + self.plan.talk_ns);
        self.desk.tally.split_ns = self.plan.split_ns.map(|split_ns| go_ns + split_ns);
        let mut schedule = self.schedule();
        let mut now_ns = clock::monotonic_ns();
        while now_ns < end_ns {
            while let Some(due) = schedule.take(now_ns.saturating_sub(go_ns)) {
                self.say(due, go_ns);
            }
            now_ns = clock::monotonic_ns();
            self.come_back(now_ns);
            self.expire(now_ns);
            let next_ns = schedule.peek().map_or(end_ns, |due| end_ns.min(go_ns + due.at_ns));
            self.turn(next_ns.saturating_sub(now_ns).min(LONGEST_WAIT_NS))?;
            now_ns = clock::monotonic_ns();
        }
        // What was due in the last moments is not forgotten.
        while let Some(due) = schedule.take(self.plan.talk_ns) {
            self.say(due, go_ns);
        }
        let (used_ns, wall_ns) = (clock::thread_cpu_ns() - cpu_ns, now_ns.saturating_sub(go_ns).max(1));
        self.desk.tally.busiest_thread = used_ns as f64 / wall_ns as f64;
        Ok(())
    }

    fn schedule(&self) -> Schedule {
        let speakers: Vec<(usize, u64)> = (0..self.seats.len())
            .map(|at| (at, self.id(at)))
            .take_while(|(_, id)| *id < self.plan.speakers)
            .collect();
        match self.plan.talk {
            Talk::Paced { rate } => Schedule::Paced {
                interval_ns: 1e9 / rate,
                of_all: self.plan.speakers,
                speakers: if rate > 0.0 { speakers } else { Vec::new() },
                until_ns: self.plan.talk_ns,
                next: (0, 0),
            },
            Talk::Once => {
                let viewers: Vec<usize> = speakers.into_iter().map(|(at, _)| at).collect();
                Schedule::once(&viewers, self.plan.talk_ns, || rand::random_range(0.0..1.0))
            }
        }
    }

    fn say(&mut self, due: Due, go_ns: u64) {
        let viewer = self.seats.get_mut(due.viewer).and_then(|seat| seat.viewer.as_mut());
        let Some(viewer) = viewer.filter(|viewer| matches!(viewer.state, State::Joined)) else {
            self.desk.tally.unsent += 1;
            return;
        };
        let sent_ns = clock::monotonic_ns();
        let stamp = Stamp { speaker: Some(viewer.id as u32), sequence: due.sequence, sent_ns };
        // Neighbours in the file are alike, and so would be what is said at one time: stride over it.
        let line = (viewer.id as usize * 37 + due.sequence as usize * 101) % self.plan.texts.len().max(1);
        let text = match self.plan.texts.get(line) {
            Some(line) => stamp.line(&self.plan.run, line),
            None => stamp.text(&self.plan.run, self.plan.text_bytes),
        };
        let say = serde_json::json!({"op": "say", "text": text, "ref": sent_ns.to_string()}).to_string();
        let result = viewer.send(OpCode::Data(Data::Text), say.as_bytes(), &mut self.scratch);
        self.desk.tally.lateness.record_ns(sent_ns.saturating_sub(go_ns + due.at_ns));
        match result {
            Ok(true) => self.desk.tally.sent += 1,
            Ok(false) => self.desk.tally.unsent += 1,
            Err(ended) => {
                self.desk.tally.unsent += 1;
                let token = viewer.token;
                self.end(token, &ended);
            }
        }
    }

    /// Reads on until nothing has come for a while.
    fn settle(&mut self) -> io::Result<()> {
        let start_ns = clock::monotonic_ns();
        let mut now_ns = start_ns;
        while now_ns - start_ns < self.plan.settle_ns
            && now_ns.saturating_sub(self.desk.tally.last_event_ns.max(start_ns)) < QUIET_NS
        {
            self.turn(LONGEST_WAIT_NS)?;
            now_ns = clock::monotonic_ns();
            self.come_back(now_ns);
            self.expire(now_ns);
        }
        self.desk.tally.still_coming =
            now_ns.saturating_sub(self.desk.tally.last_event_ns.max(start_ns)) < QUIET_NS;
        Ok(())
    }

    /// Says goodbye and lets the server close, so that the ports of a next run are not in TIME_WAIT.
    fn part(&mut self) -> io::Result<()> {
        self.returns.clear();
        self.others.clear();
        for at in 0..self.seats.len() {
            let Some(viewer) = self.seats.get_mut(at).and_then(|seat| seat.viewer.as_mut()) else { continue };
            let bye = 1000_u16.to_be_bytes();
            let told = viewer.is_joined()
                && viewer.send(OpCode::Control(Control::Close), &bye, &mut self.scratch).is_ok();
            viewer.state = State::Leaving;
            if !told {
                let token = viewer.token;
                self.end(token, &Ended::Cut);
            }
        }
        let start_ns = clock::monotonic_ns();
        while self.seats.iter().any(|seat| seat.viewer.is_some())
            && clock::monotonic_ns() - start_ns < PARTING_NS
        {
            self.turn(LONGEST_WAIT_NS)?;
        }
        Ok(())
    }

    /// Waits for sockets at most so long and serves those that are ready.
    fn turn(&mut self, wait_ns: u64) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(Duration::from_nanos(wait_ns))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        let (mut ended, mut changed) = (Vec::new(), Vec::new());
        for event in &self.events {
            let token = event.token().0;
            let Some(seat) = self.seats.get_mut(token & SEAT) else { continue };
            let viewer = match &mut seat.viewer {
                Some(viewer) if viewer.token == token => Some(viewer),
                _ => self.others.get_mut(&token),
            };
            let Some(viewer) = viewer else { continue };
            let was_joined = viewer.is_joined();
            let mut result = Ok(());
            if event.is_writable() || event.is_error() {
                result = viewer.writable();
            }
            if result.is_ok() && (event.is_readable() || event.is_read_closed()) {
                result = viewer.readable(&mut self.desk, &mut seat.account);
            }
            if result.is_ok() && matches!(viewer.state, State::Deaf) && event.is_read_closed() {
                result = Err(Ended::Cut);
            }
            if viewer.is_joined() && (!was_joined || viewer.moved.is_some()) {
                changed.push(token);
            }
            if let Err(error) = result {
                ended.push((token, error));
            }
        }
        for token in changed {
            self.follow(token);
        }
        for (token, error) in ended {
            self.end(token, &error);
        }
        self.tell();
        Ok(())
    }

    fn tell(&mut self) {
        let now = [self.desk.tally.joined, self.failures, self.desk.tally.received];
        let signals = [&self.signals.joined, &self.signals.failed, &self.signals.received];
        for ((signal, now), told) in signals.into_iter().zip(now).zip(&mut self.told) {
            if now > *told {
                signal.fetch_add(now - *told, Ordering::Relaxed);
                *told = now;
            }
        }
    }

    fn id(&self, at: usize) -> u64 {
        self.worker + at as u64 * self.workers
    }

    /// Which of the run's targets is the viewer's.
    fn target(&self, at: usize) -> usize {
        self.seats[at].target.unwrap_or(self.id(at) as usize % self.plan.targets.len())
    }

    /// Opens a connection for the viewer: its only one, or one beside the one it is to leave.
    fn open(&mut self, at: usize) {
        let (id, plan) = (self.id(at), self.plan);
        let slow = id >= plan.viewers - plan.slow;
        let moved_to = self.seats[at].url.and_then(|url| Target::parse(self.desk.payloads.name(url)).ok());
        let target = moved_to.as_ref().unwrap_or(&plan.targets[self.target(at)]);
        self.turns += 1;
        let token = (self.turns << 32) | at;
        let opened = connect(plan, target, id, slow).and_then(|mut stream| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(token), interest)?;
            Ok(stream)
        });
        let stream = match opened {
            Ok(stream) => stream,
            Err(error) => return self.failed(at, &Ended::Socket(error)),
        };
        let seat = &mut self.seats[at];
        let lane = &seat.account.priority;
        let since = lane.epoch.map(|epoch| format!("{}.{}", self.desk.payloads.name(epoch), lane.offset));
        let key = generate_key();
        let request = target.request(&key, plan.format, plan.token.as_deref(), since.as_deref());
        let state = State::Connecting { request, key };
        let mut viewer = Viewer::new(id, stream, state, slow, seat.since_ns);
        (viewer.token, viewer.again) = (token, seat.joined_before);
        viewer.opened_ns = clock::monotonic_ns();
        self.handshakes.push_back(token);
        if seat.viewer.is_none() {
            seat.viewer = Some(viewer);
        } else {
            self.others.insert(token, viewer);
        }
    }

    /// Gives up on those that did not join in time.
    fn expire(&mut self, now_ns: u64) {
        while let Some(&token) = self.handshakes.front() {
            let viewer = match self.seats.get(token & SEAT).and_then(|seat| seat.viewer.as_ref()) {
                Some(viewer) if viewer.token == token => Some(viewer),
                _ => self.others.get(&token),
            };
            match viewer.filter(|viewer| viewer.is_arriving()) {
                Some(viewer) if now_ns.saturating_sub(viewer.opened_ns) < self.plan.connect_timeout_ns => {
                    return;
                }
                Some(_) => self.end(token, &Ended::TimedOut),
                None => {}
            }
            self.handshakes.pop_front();
        }
    }

    fn end(&mut self, token: usize, ended: &Ended) {
        let at = token & SEAT;
        let Some(seat) = self.seats.get_mut(at) else { return };
        let viewer = if seat.viewer.as_ref().is_some_and(|viewer| viewer.token == token) {
            seat.viewer.take()
        } else {
            self.others.remove(&token)
        };
        let Some(mut viewer) = viewer else { return };
        // The socket closes with the viewer; the poll forgets it with the socket.
        let _ = self.poll.registry().deregister(viewer.source());
        match viewer.state {
            State::Leaving | State::Parting => {}
            State::Joined if self.plan.follow && ended.may_return() => self.cut(at, ended),
            State::Joined => {
                count(&mut self.desk.tally.departed, &ended.to_string());
                self.note_fault(ended);
            }
            State::Deaf => count(&mut self.desk.tally.departed_slow, &ended.to_string()),
            State::Connecting { .. } | State::Upgrading { .. } | State::Joining => self.failed(at, ended),
        }
    }

    fn note_fault(&mut self, ended: &Ended) {
        self.desk.tally.first_fault.get_or_insert_with(|| ended.detail());
    }
}

/// The seat in a token; the rest tells a viewer's connections apart.
const SEAT: usize = u32::MAX as usize;

/// Calls connect(2) without waiting for it.
fn connect(plan: &Plan, target: &Target, id: u64, slow: bool) -> io::Result<TcpStream> {
    let domain = Domain::for_address(target.address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if slow {
        socket.set_recv_buffer_size(SLOW_RECEIVE_BUFFER)?;
    }
    if !plan.sources.is_empty() {
        let source = plan.sources[id as usize % plan.sources.len()];
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&target.address.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            Err(error)
        }
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}
