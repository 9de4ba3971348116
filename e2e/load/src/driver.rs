//! A thread that owns its viewers' sockets: connects them, lets them speak, reads what comes.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::atomic::Ordering,
    time::Duration,
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};
use tungstenite::{
    handshake::client::generate_key,
    protocol::frame::coding::{Control, Data, OpCode},
};

use crate::{
    account::Account,
    clock,
    payload::PayloadReader,
    run::{Phases, Plan},
    schedule::{Due, Schedule},
    stamp::Stamp,
    tally::{Tally, count},
    viewer::{Desk, Ended, State, Viewer},
};

/// Longest from connect(2) to `joined`.
const JOIN_LIMIT_NS: u64 = 30_000_000_000;
/// Longest sleep of a thread: how late it may hear of a new phase.
const LONGEST_POLL: Duration = Duration::from_millis(20);
/// How often viewers that wait for `joined` are looked at.
const OVERDUE_EVERY_NS: u64 = 1_000_000_000;
/// Connects and messages in one turn, so that reading is never put off for long.
const A_TURN: usize = 64;

/// What a thread hands back.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    /// Of the viewers that were there from before the talk to the end and read all the time.
    pub(crate) accounts: Vec<Account>,
}

/// One thread's viewers.
pub(crate) struct Driver<'a> {
    plan: &'a Plan,
    phases: &'a Phases,
    poll: Poll,
    /// This thread's number: it has the viewers with this number modulo the number of threads.
    number: u64,
    /// By the thread's own number; `None` once the connection is over.
    viewers: Vec<Option<Viewer>>,
    desk: Desk,
    schedule: Option<Schedule>,
    talk_ns: u64,
    scratch: Vec<u8>,
    overdue_ns: u64,
    /// The thread's CPU time when the talk started.
    cpu_before_ns: u64,
    talk_is_over: bool,
}

impl<'a> Driver<'a> {
    /// A thread without viewers so far.
    ///
    /// # Errors
    /// The system has no more epoll instances.
    pub(crate) fn new(number: u64, plan: &'a Plan, phases: &'a Phases) -> io::Result<Driver<'a>> {
        Ok(Driver {
            plan,
            phases,
            poll: Poll::new()?,
            number,
            viewers: Vec::new(),
            desk: Desk {
                buffer: vec![0; 64 * 1024].into(),
                payloads: PayloadReader::new(&plan.run),
                tally: Tally::default(),
                now: clock::monotonic_ns,
            },
            schedule: None,
            talk_ns: 0,
            scratch: Vec::new(),
            overdue_ns: 0,
            cpu_before_ns: 0,
            talk_is_over: false,
        })
    }

    /// Works until the main thread says to leave.
    ///
    /// # Errors
    /// Polling failed; what befalls one viewer is counted instead.
    pub(crate) fn work(mut self) -> io::Result<Outcome> {
        let mut events = Events::with_capacity(1024);
        while !self.phases.leave.load(Ordering::Relaxed) {
            let now = clock::monotonic_ns();
            self.connect_due(now);
            self.end_overdue(now);
            self.talk(now);
            match self.poll.poll(&mut events, Some(self.sleep())) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                Ok(()) | Err(_) => {}
            }
            for event in &events {
                self.serve(event.token().0, event.is_readable(), event.is_writable());
            }
            self.phases.last_event_ns.fetch_max(self.desk.tally.last_event_ns, Ordering::Relaxed);
        }
        Ok(self.leave())
    }

    /// How long nothing is due.
    fn sleep(&self) -> Duration {
        let due = self.schedule.as_ref().and_then(Schedule::peek).map(|due| self.talk_ns + due.at_ns);
        let connect = self.next_connect_ns();
        let next = [due, connect].into_iter().flatten().min().unwrap_or(u64::MAX);
        LONGEST_POLL.min(Duration::from_nanos(next.saturating_sub(clock::monotonic_ns())))
    }

    /// The run's number of this thread's next viewer.
    fn next_viewer(&self) -> u64 {
        self.viewers.len() as u64 * self.plan.arguments.threads + self.number
    }

    fn next_connect_ns(&self) -> Option<u64> {
        let id = self.next_viewer();
        let after_ns = id as f64 / self.plan.arguments.connect_rate * 1e9;
        (id < self.plan.arguments.viewers).then(|| self.plan.start_ns + after_ns as u64)
    }

    fn connect_due(&mut self, now: u64) {
        for _ in 0..A_TURN {
            if self.next_connect_ns().is_none_or(|at| at > now) {
                return;
            }
            let id = self.next_viewer();
            let viewer = match self.connect(id, now) {
                Ok(viewer) => Some(viewer),
                Err(error) => {
                    self.note_failed(&Ended::Socket(error));
                    None
                }
            };
            self.viewers.push(viewer);
        }
    }

    fn connect(&self, id: u64, now: u64) -> io::Result<Viewer> {
        let target = self.plan.target.address;
        let socket = Socket::new(Domain::for_address(target), Type::STREAM.nonblocking(), None)?;
        socket.set_tcp_nodelay(true)?;
        let sources = &self.plan.arguments.source;
        if !sources.is_empty() {
            let source = sources[id as usize % sources.len()];
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        match socket.connect(&target.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
                return Err(error);
            }
            Ok(()) | Err(_) => {}
        }
        let key = generate_key();
        let request = self.plan.target.request(&key, self.plan.format, self.plan.arguments.token.as_deref());
        let state = State::Connecting { request, key };
        let stream = TcpStream::from_std(socket.into());
        let mut viewer = Viewer::new(id, stream, state, id >= self.plan.first_slow, now);
        let token = Token(self.viewers.len());
        self.poll.registry().register(viewer.source(), token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(viewer)
    }

    fn end_overdue(&mut self, now: u64) {
        if now < self.overdue_ns || self.talk_ns != 0 {
            return;
        }
        self.overdue_ns = now + OVERDUE_EVERY_NS;
        for local in 0..self.viewers.len() {
            let overdue = |viewer: &Viewer| !viewer.is_joined() && now > viewer.since_ns + JOIN_LIMIT_NS;
            if self.viewers[local].as_ref().is_some_and(overdue) {
                self.end(local, &Ended::TimedOut);
            }
        }
    }

    fn serve(&mut self, local: usize, readable: bool, writable: bool) {
        let Some(Some(viewer)) = self.viewers.get_mut(local) else { return };
        let was_joined = viewer.is_joined();
        let mut result = Ok(());
        if writable {
            result = viewer.writable();
        }
        if readable && result.is_ok() {
            result = viewer.readable(&mut self.desk);
        }
        if !was_joined && viewer.is_joined() {
            self.phases.settled.fetch_add(1, Ordering::Relaxed);
        }
        if let Err(ended) = result {
            self.end(local, &ended);
        }
    }

    /// A viewer's connection is over.
    fn end(&mut self, local: usize, ended: &Ended) {
        let Some(viewer) = self.viewers.get_mut(local).and_then(Option::take) else { return };
        if viewer.is_joined() {
            count(&mut self.desk.tally.departed, &ended.to_string());
            self.desk.tally.first_fault.get_or_insert_with(|| ended.detail());
        } else {
            self.note_failed(ended);
        }
    }

    fn note_failed(&mut self, ended: &Ended) {
        count(&mut self.desk.tally.failed, &ended.to_string());
        self.desk.tally.first_fault.get_or_insert_with(|| ended.detail());
        self.phases.settled.fetch_add(1, Ordering::Relaxed);
    }

    /// Sends what is due.
    fn talk(&mut self, now: u64) {
        if self.schedule.is_none() {
            self.talk_ns = self.phases.talk_ns.load(Ordering::Relaxed);
            if self.talk_ns == 0 {
                return;
            }
            self.schedule = Some(self.plan_talk());
            self.cpu_before_ns = clock::thread_cpu_ns();
        }
        if now < self.talk_ns {
            return;
        }
        for _ in 0..A_TURN {
            let Some(due) = self.schedule.as_mut().and_then(|s| s.take(now - self.talk_ns)) else {
                break;
            };
            self.say(due);
        }
        let length = self.plan.talk_length_ns();
        if !self.talk_is_over && now > self.talk_ns + length {
            self.talk_is_over = true;
            let used = clock::thread_cpu_ns() - self.cpu_before_ns;
            self.desk.tally.busiest_thread = used as f64 / (now - self.talk_ns).max(1) as f64;
        }
    }

    fn plan_talk(&self) -> Schedule {
        let arguments = &self.plan.arguments;
        let of_this_thread = |below: u64| {
            (self.number..below)
                .step_by(arguments.threads as usize)
                .enumerate()
                .collect::<Vec<(usize, u64)>>()
        };
        if let Some(within) = arguments.once_within {
            let viewers: Vec<usize> =
                of_this_thread(self.plan.first_slow).iter().map(|pair| pair.0).collect();
            return Schedule::once(&viewers, (within * 1e9) as u64, rand::random::<f64>);
        }
        Schedule::Paced {
            interval_ns: 1e9 / arguments.rate,
            of_all: arguments.speakers,
            speakers: of_this_thread(arguments.speakers),
            until_ns: self.plan.talk_length_ns(),
            next: (0, 0),
        }
    }

    fn say(&mut self, due: Due) {
        let Some(Some(viewer)) =
            self.viewers.get_mut(due.viewer).filter(|one| one.as_ref().is_some_and(Viewer::is_joined))
        else {
            self.desk.tally.unsent += 1;
            return;
        };
        let now = clock::monotonic_ns();
        self.desk.tally.lateness.record_ns(now.saturating_sub(self.talk_ns + due.at_ns));
        let stamp = Stamp { speaker: viewer.id as u32, sequence: due.sequence, sent_ns: now };
        let text = stamp.text(&self.plan.run, self.plan.arguments.text_bytes);
        // Neither the run's name nor the padding has a letter that JSON escapes.
        let say = format!(r#"{{"op":"say","text":"{text}","ref":"{now}"}}"#);
        match viewer.send(OpCode::Data(Data::Text), say.as_bytes(), &mut self.scratch) {
            Ok(true) => self.desk.tally.sent += 1,
            Ok(false) => self.desk.tally.unsent += 1,
            Err(ended) => {
                self.desk.tally.unsent += 1;
                self.end(due.viewer, &ended);
            }
        }
    }

    /// Says goodbye for everybody and hands back what was counted.
    fn leave(mut self) -> Outcome {
        let mut accounts = Vec::with_capacity(self.viewers.len());
        for viewer in self.viewers.iter_mut().flatten() {
            if matches!(viewer.state, State::Joined) {
                accounts.push(viewer.account);
            }
            // 1000, normal closure. A server that does not take it any more sees the socket close.
            let _ = viewer.send(OpCode::Control(Control::Close), &[0x03, 0xe8], &mut self.scratch);
        }
        Outcome { tally: self.desk.tally, accounts }
    }
}
