//! The rows engine alone, over real sockets: what viewers of one row owe to each other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use danmu_server::rows::{
    Arrival, FanOut, Flush, Flushed, Frames, Handler, Inboxes, Io, Limits, Metrics, ROW_CAPACITY, Seat,
    Workers,
};
use danmu_wire::{
    CloseCode,
    frame::{self, Format},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const ROOM: u64 = 7;
const PATIENCE: Duration = Duration::from_secs(10);

/// Seats everybody in one room and reports who has left, and with which code.
struct OneRoom {
    left: mpsc::SyncSender<Option<CloseCode>>,
}

impl Handler for OneRoom {
    type Viewer = ();
    type Order = ();

    fn opened(&self, (): &mut (), io: &mut Io<'_>) {
        io.sit(Seat { room: ROOM, format: Format::Json, from: 0 });
        io.send(&HELLO);
    }

    fn text(&self, (): &mut (), _: &str, _: &mut Io<'_>) {}
    fn binary(&self, (): &mut (), _: &[u8], _: &mut Io<'_>) {}
    fn due(&self, (): &mut (), _: &mut Io<'_>) {}
    fn visit(&self, (): &mut (), (): &(), _: &mut Io<'_>) {}

    fn closed(&self, (): (), code: Option<CloseCode>, _: usize) {
        let _ = self.left.try_send(code);
    }
}

/// A ping: tells a test that its viewer is seated.
const HELLO: [u8; 2] = frame::PING;

struct Done(mpsc::SyncSender<u64>);

impl Flushed for Done {
    fn flushed(self: Arc<Self>, flush: &Flush) {
        self.0.send(flush.sequence).unwrap();
    }
}

/// One worker with one room.
struct Rows {
    inboxes: Arc<Inboxes<(), ()>>,
    metrics: Arc<Metrics>,
    listener: TcpListener,
    left: mpsc::Receiver<Option<CloseCode>>,
    done: (Arc<Done>, mpsc::Receiver<u64>),
    sequence: u64,
}

impl Rows {
    fn start(limits: Limits) -> Rows {
        // Three descriptors a viewer; many shells start with 1,024.
        let files = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).unwrap();
        let (inboxes, polls) = Inboxes::new(1).unwrap();
        let (left_sender, left) = mpsc::sync_channel(4 * ROW_CAPACITY);
        let (done_sender, done) = mpsc::sync_channel(1);
        let metrics = Arc::new(Metrics::default());
        let handler = Arc::new(OneRoom { left: left_sender });
        Workers::start(&inboxes, polls, &handler, limits, &metrics).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Rows { inboxes, metrics, listener, left, done: (Arc::new(Done(done_sender)), done), sequence: 0 }
    }

    /// A seated viewer: its own end, and a second handle of the server's end.
    fn join(&self) -> (TcpStream, TcpStream) {
        let mut viewer = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        viewer.set_read_timeout(Some(PATIENCE)).unwrap();
        let (socket, _) = self.listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let server_end = socket.try_clone().unwrap();
        self.inboxes.adopt(0, Arrival { socket, viewer: (), early: Vec::new() });
        let mut hello = [0; HELLO.len()];
        viewer.read_exact(&mut hello).unwrap();
        (viewer, server_end)
    }

    /// Writes one flush to the room and waits until the worker has done it; answers its bytes.
    fn flush(&mut self, priority: bool, payload: &[u8]) -> Vec<u8> {
        self.sequence += 1;
        let mut bytes = Vec::new();
        frame::push_text(&mut bytes, payload);
        let frames = Frames { bytes: bytes.clone().into(), priority: if priority { bytes.len() } else { 0 } };
        let owner = Arc::clone(&self.done.0) as Arc<dyn Flushed>;
        let flush = Flush::new(ROOM, self.sequence, [Some(frames), None], 1, Instant::now(), 1, owner);
        self.inboxes.fan_out(0, Arc::new(flush));
        assert_eq!(self.done.1.recv_timeout(PATIENCE), Ok(self.sequence), "the flush never ends");
        bytes
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.inboxes.stop();
    }
}

/// Viewers found dead in the middle of a flush once had the rows repacked under it: viewers moved from a
/// row not yet written to one that was missed the flush without a word.
#[test]
fn a_room_that_halves_in_the_middle_of_a_flush_loses_nobodys_message() {
    let mut rows = Rows::start(Limits::default());
    let mut viewers: Vec<_> = (0..ROW_CAPACITY + 400).map(|_| rows.join()).collect();
    assert_eq!(rows.metrics.rows.get(), 2);
    let mut expected = rows.flush(false, b"before");
    // A send fails now, but no event tells the worker before it tries: the deaths fall into the flush.
    // Of the first row they are so many that the room is half empty when its second row's turn comes.
    let gone = viewers.drain(100..ROW_CAPACITY);
    let dying: Vec<_> =
        gone.map(|(viewer, server_end)| (viewer, server_end.shutdown(Shutdown::Write))).collect();
    expected.extend(rows.flush(false, b"while it halves"));
    assert_eq!(rows.metrics.viewers.get() as usize, viewers.len());
    assert_eq!(rows.metrics.rows.get(), 1, "after the flush the room is packed");
    expected.extend(rows.flush(false, b"after"));
    for (viewer, _) in &mut viewers {
        let mut got = vec![0; expected.len()];
        viewer.read_exact(&mut got).expect("a message was missed");
        assert_eq!(got, expected, "each message once, in order");
        viewer.set_nonblocking(true).unwrap();
        assert_eq!(
            viewer.read(&mut got).unwrap_err().kind(),
            std::io::ErrorKind::WouldBlock,
            "one came twice"
        );
    }
    drop(dying);
}

/// What this process has in memory, in KiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A viewer whose window is as small as the kernel allows, so that it stalls soon.
fn never_reads(rows: &Rows) -> TcpStream {
    let (viewer, _) = rows.join();
    socket2::SockRef::from(&viewer).set_recv_buffer_size(1).unwrap();
    viewer
}

#[test]
fn who_never_reads_is_closed_with_4008_in_bounded_memory_and_delays_nobody() {
    let mut rows = Rows::start(Limits { stalled: Duration::from_secs(1), ..Limits::default() });
    let (mut reader, _) = rows.join();
    let _never_reads = never_reads(&rows);
    let payload = vec![b'x'; 60_000];
    let mut got = Vec::new();
    let mut worst = Duration::ZERO;
    let (started, before) = (Instant::now(), resident());
    let mut flushes = 0;
    let closed = loop {
        let sent = Instant::now();
        let expected = rows.flush(false, &payload);
        got.resize(expected.len(), 0);
        reader.read_exact(&mut got).unwrap();
        assert!(got == expected);
        worst = worst.max(sent.elapsed());
        flushes += 1;
        if let Ok(code) = rows.left.try_recv() {
            break code;
        }
        assert!(started.elapsed() < PATIENCE, "never closed");
    };
    assert_eq!(closed, Some(CloseCode::TooSlow));
    assert!(worst < Duration::from_secs(1), "the reader waited {worst:?}");
    // Had every flush been kept for the slow viewer, this would be 60 kB for each of them.
    let (grown, kept) = (resident().saturating_sub(before), flushes * payload.len() / 1024);
    assert!(kept > 30_000, "too few flushes to tell: {flushes}");
    assert!(grown < 15_000, "{grown} KiB more after {flushes} flushes");
}

#[test]
fn priority_frames_owed_past_the_bound_close_with_4008_at_once() {
    let mut rows = Rows::start(Limits { owed_priority: 16, ..Limits::default() });
    let (mut reader, _) = rows.join();
    let _never_reads = never_reads(&rows);
    let started = Instant::now();
    let closed = loop {
        let expected = rows.flush(true, &[b'x'; 60_000]);
        let mut got = vec![0; expected.len()];
        reader.read_exact(&mut got).unwrap();
        assert!(got == expected);
        if let Ok(code) = rows.left.try_recv() {
            break code;
        }
        assert!(started.elapsed() < Duration::from_secs(8), "not closed before the deadline of a stall");
    };
    assert_eq!(closed, Some(CloseCode::TooSlow));
}

#[test]
fn a_viewer_whose_messages_come_in_halves_but_do_end_is_not_cut() {
    let rows = Rows::start(Limits { half_frame: Duration::from_secs(1), ..Limits::default() });
    let (mut viewer, _) = rows.join();
    // Empty masked texts; each write ends in the middle of one.
    let message = [0x81, 0x80, 1, 2, 3, 4];
    viewer.write_all(&message[..3]).unwrap();
    let until = Instant::now() + Duration::from_millis(3_200);
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(200));
        viewer.write_all(&[&message[3..], &message[..3]].concat()).unwrap();
    }
    let mut close = [0; 4];
    viewer.set_nonblocking(true).unwrap();
    assert!(viewer.read(&mut close).is_err(), "cut though every message has ended: {close:?}");
    // And with no end it is, so the deadline was on.
    viewer.set_nonblocking(false).unwrap();
    viewer.read_exact(&mut close).unwrap();
    assert_eq!(close[0], 0x88);
    assert_eq!(u16::from_be_bytes([close[2], close[3]]), CloseCode::Protocol.code());
}
