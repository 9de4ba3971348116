//! `danmu-load floor`: a bare send(2) loop that replays a server's frames, without a server.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use danmu_wire::{Event, Joined, Notice, frame};
use serde::Serialize;
use socket2::{Domain, Socket, Type};

use crate::{
    clock,
    handshake::{self, HandshakeError},
    raise_socket_limit,
    stamp::{self, FLOOR, Stamp},
};

/// Longest wait for the next viewer, its request, and a socket that takes nothing.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait, after the replay, for all viewers to go: closing first would cut what is under way.
const GOODBYE: Duration = Duration::from_secs(90);
/// A server's frames are a few dozen kilobytes at most.
const MAX_FRAME: usize = 16 * 1024 * 1024;

/// What `floor` is told.
#[derive(Debug, Args)]
pub(crate) struct FloorArguments {
    /// Where to listen; port 0 takes a free one. The port is the first line of the output.
    #[arg(long)]
    listen: SocketAddr,
    /// How many viewers must have joined before the replay.
    #[arg(long)]
    viewers: usize,
    /// A file of lines `offset_us bytes`: when, after the start, a frame of so many bytes goes to all.
    #[arg(long)]
    schedule: PathBuf,
    /// Leave out each send whose number this divides, to prove that the viewers notice.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    drop_every: Option<u64>,
}

/// Why there was no replay.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FloorError {
    /// The schedule is not there.
    #[error("the schedule {0} cannot be read: {1}")]
    Unreadable(PathBuf, io::Error),
    /// A line is not `offset_us bytes`.
    #[error(
        "line {0} of the schedule: write `offset_us bytes`, offsets in order and 4 to {MAX_FRAME} bytes a frame"
    )]
    Line(usize),
    /// Not enough viewers came.
    #[error("only {0} of {1} viewers joined: {2}")]
    Viewers(usize, usize, JoinError),
    /// The address cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
}

/// Why a viewer did not join.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    /// It did not come, or its connection broke.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// Its request is no upgrade.
    #[error("no WebSocket upgrade: {0}")]
    Handshake(#[from] HandshakeError),
}

/// One frame to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    at_us: u64,
    bytes: usize,
}

/// What the replay cost.
#[derive(Debug, Default, Serialize)]
struct FloorReport {
    viewers: usize,
    frames: u64,
    sends: u64,
    failed_sends: u64,
    dropped_sends: u64,
    bytes: u64,
    cpu_seconds: f64,
    cpu_us_per_send: f64,
    wall_seconds: f64,
    latest_start_ms: f64,
}

/// Prints the port, waits for the viewers, replays, prints what it cost as JSON.
///
/// # Errors
/// [`FloorError`] when there was no replay.
pub(crate) fn run(arguments: &FloorArguments) -> Result<(), FloorError> {
    let text = fs::read_to_string(&arguments.schedule)
        .map_err(|error| FloorError::Unreadable(arguments.schedule.clone(), error))?;
    let lines = parse_schedule(&text)?;
    raise_socket_limit();
    let (listener, port) =
        listen(arguments.listen).map_err(|error| FloorError::Listen(arguments.listen, error))?;
    println!("{port}");
    let mut viewers = Vec::new();
    while viewers.len() < arguments.viewers {
        let viewer =
            join(&listener).map_err(|error| FloorError::Viewers(viewers.len(), arguments.viewers, error))?;
        viewers.push(viewer);
    }
    let report = replay(&lines, &viewers, arguments.drop_every);
    // Plain numbers: cannot fail.
    println!("{}", serde_json::to_string(&report).unwrap_or_default());
    wait_for_goodbyes(&viewers, Instant::now() + GOODBYE);
    Ok(())
}

fn parse_schedule(text: &str) -> Result<Vec<Line>, FloorError> {
    let mut lines: Vec<Line> = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line = parse_line(line).ok_or(FloorError::Line(index + 1))?;
        if lines.last().is_some_and(|last| last.at_us > line.at_us) {
            return Err(FloorError::Line(index + 1));
        }
        lines.push(line);
    }
    Ok(lines)
}

fn parse_line(line: &str) -> Option<Line> {
    let (at_us, bytes) = line.trim().split_once(char::is_whitespace)?;
    let line = Line { at_us: at_us.parse().ok()?, bytes: bytes.trim().parse().ok()? };
    (4..=MAX_FRAME).contains(&line.bytes).then_some(line)
}

fn listen(address: SocketAddr) -> io::Result<(Socket, u16)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    // Linux ends accept(2) by it, too.
    socket.set_read_timeout(Some(PATIENCE))?;
    let port = socket.local_addr()?.as_socket().map_or(0, |local| local.port());
    Ok((socket, port))
}

/// Accepts one viewer and lets it join.
fn join(listener: &Socket) -> Result<TcpStream, JoinError> {
    let (socket, _) = listener.accept()?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let mut stream = TcpStream::from(socket);
    let (mut request, mut buffer) = (Vec::new(), [0; 2048]);
    let mut answer = loop {
        let length = stream.read(&mut buffer)?;
        request.extend_from_slice(buffer.get(..length).unwrap_or(&[]));
        match handshake::answer(&request)? {
            Some(answer) => break answer,
            None if length == 0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            None => {}
        }
    };
    let joined = Joined { epoch: "floor".into(), recovered: true, ..Joined::default() };
    answer.extend(frame::personal(&[Event::Joined(Box::new(joined))]));
    stream.write_all(&answer)?;
    Ok(stream)
}

/// Sends every line's frame to every viewer, each at its time or as soon as the last one is out.
fn replay(lines: &[Line], viewers: &[TcpStream], drop_every: Option<u64>) -> FloorReport {
    let mut report = FloorReport { viewers: viewers.len(), ..FloorReport::default() };
    let (mut offset, mut turn) = (0, 0_u64);
    let (start, cpu_before) = (Instant::now(), clock::process_cpu_ns());
    for line in lines {
        let due = Duration::from_micros(line.at_us);
        thread::sleep(due.saturating_sub(start.elapsed()));
        let late = start.elapsed().saturating_sub(due).as_secs_f64() * 1e3;
        report.latest_start_ms = report.latest_start_ms.max(late);
        let frame = numbered_frame(&mut offset, line.bytes);
        report.frames += 1;
        for mut viewer in viewers {
            turn += 1;
            if drop_every.is_some_and(|every| turn.is_multiple_of(every)) {
                report.dropped_sends += 1;
            } else if viewer.write_all(&frame).is_ok() {
                report.sends += 1;
                report.bytes += frame.len() as u64;
            } else {
                report.failed_sends += 1;
            }
        }
    }
    report.cpu_seconds = (clock::process_cpu_ns() - cpu_before) as f64 / 1e9;
    report.wall_seconds = start.elapsed().as_secs_f64();
    report.cpu_us_per_send = report.cpu_seconds * 1e6 / report.sends.max(1) as f64;
    report
}

/// A whole frame of exactly `bytes`: the next event of the priority lane, so that viewers notice
/// when one is missing; one too short for that has no event in it.
fn numbered_frame(offset: &mut u64, bytes: usize) -> Vec<u8> {
    // RFC 6455 §5.2: 125 and 65535 are the longest payloads of the shorter headers. No frame has
    // 128, 129 or 65540 to 65545 bytes; the next shorter one takes its place.
    let payload = match bytes {
        ..=127 => bytes.saturating_sub(2),
        128..=129 => 125,
        130..=65539 => bytes - 4,
        65540..=65545 => 65535,
        _ => bytes - 10,
    };
    let stamp = Stamp { speaker: 0, sequence: *offset as u32, sent_ns: clock::monotonic_ns() };
    let mut notice = Notice { id: String::new(), offset: *offset + 1, text: stamp.text(FLOOR, 0) };
    let mut json = frame::json_array(&[Event::Notice(notice.clone())]);
    if json.len() > payload {
        json = b"[]".to_vec();
        json.resize(payload.max(2), b' ');
    } else {
        *offset += 1;
        let length = notice.text.len() + payload - json.len();
        stamp::pad(&mut notice.text, length, *offset as usize);
        json = frame::json_array(&[Event::Notice(notice)]);
    }
    let mut whole = Vec::with_capacity(bytes);
    frame::push_text(&mut whole, &json);
    whole
}

/// Reads until every viewer has gone, or the deadline.
fn wait_for_goodbyes(viewers: &[TcpStream], deadline: Instant) {
    let mut buffer = [0; 2048];
    for mut viewer in viewers {
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() || viewer.set_read_timeout(Some(rest)).is_err() {
                break;
            }
            match viewer.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_exactly_the_bytes_of_its_line() {
        let mut offset = 0;
        for bytes in (4..128).chain(130..400).chain([4096, 65539, 65546, 100_000]) {
            assert_eq!(numbered_frame(&mut offset, bytes).len(), bytes);
        }
    }

    #[test]
    fn only_frames_with_room_for_an_event_are_numbered() {
        let mut offset = 0;
        numbered_frame(&mut offset, 20);
        assert_eq!(offset, 0);
        numbered_frame(&mut offset, 200);
        assert_eq!(offset, 1);
    }

    #[test]
    fn a_schedule_is_read_and_a_bad_line_is_named() {
        let lines = parse_schedule("0 130\n\n5000 4096\n").unwrap();
        assert_eq!(lines, [Line { at_us: 0, bytes: 130 }, Line { at_us: 5000, bytes: 4096 }]);
        for bad in ["0 130\n5", "0 130\nx 5", "9 130\n5 130", "0 130\n1 3", "0 130\n1 20 3"] {
            assert!(parse_schedule(bad).unwrap_err().to_string().starts_with("line 2"), "{bad}");
        }
    }
}
