//! One viewer: a socket, where its connection stands, and its account.

use std::io::{self, Cursor, ErrorKind, Read, Write};

use mio::net::TcpStream;
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

use crate::{
    account::Account,
    handshake::{HandshakeError, check_answer},
    payload::{PayloadError, PayloadReader, Seen},
    tally::Tally,
};

/// Longest frame a server may send.
const MAX_FRAME: u64 = 16 * 1024 * 1024;

/// Most bytes that wait for a full socket.
const MAX_WAITING: usize = 64 * 1024;

/// Where a connection stands.
#[derive(Debug)]
pub(crate) enum State {
    /// connect(2) is under way; then this request is sent.
    Connecting { request: Vec<u8>, key: String },
    /// The request is out.
    Upgrading { key: String },
    /// A WebSocket; `joined` has not come.
    Joining,
    /// In the room.
    Joined,
    /// In the room, but reads no more.
    Deaf,
    /// We said goodbye; what comes now is thrown away.
    Leaving,
    /// We said goodbye because the viewer is elsewhere already; what comes now still counts.
    Parting,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// connect(2), read(2) or write(2) failed.
    #[error("{}", .0.kind())]
    Socket(#[from] io::Error),
    /// The upgrade was refused.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The server closed with a code.
    #[error("closed with {0}")]
    Closed(u16),
    /// The server closed without saying why.
    #[error("closed without a code")]
    Cut,
    /// Bytes that are no frame a server may send.
    #[error("broken frame: {0}")]
    Frame(&'static str),
    /// A frame that says nothing we know.
    #[error("unreadable frame")]
    Payload(#[from] PayloadError),
    /// `joined` did not come in time.
    #[error("no `joined` in time")]
    TimedOut,
}

impl Ended {
    /// Whether a viewer may come back after it; 4500 and above say no.
    pub(crate) const fn may_return(&self) -> bool {
        !matches!(self, Ended::Closed(4500..) | Ended::Frame(_) | Ended::Payload(_))
    }

    /// The whole story, for the one fault that is shown whole.
    pub(crate) fn detail(&self) -> String {
        match self {
            Ended::Socket(error) => error.to_string(),
            Ended::Payload(error) => format!("{self}: {error}"),
            other => other.to_string(),
        }
    }
}

/// One viewer.
#[derive(Debug)]
pub(crate) struct Viewer {
    /// The run's number of this viewer.
    pub(crate) id: u64,
    pub(crate) state: State,
    /// What the poll calls it.
    pub(crate) token: usize,
    /// When the viewer's first connect(2) was called; of one that comes back, when it was moved or cut.
    pub(crate) since_ns: u64,
    /// When this connection's connect(2) was called.
    pub(crate) opened_ns: u64,
    /// It had joined before, on another connection.
    pub(crate) again: bool,
    /// Asked to go elsewhere; the URL by its place in [`PayloadReader::name`].
    pub(crate) moved: Option<Option<u32>>,
    stream: TcpStream,
    /// A viewer that stops reading once it has joined.
    slow: bool,
    /// Where the last payload was remembered.
    place: u16,
    /// Bytes of what is not whole yet.
    partial: Vec<u8>,
    /// Bytes that a full socket did not take.
    waiting: Vec<u8>,
}

/// What all viewers of a thread share.
pub(crate) struct Desk {
    /// One read buffer for all.
    pub(crate) buffer: Box<[u8]>,
    /// Remembers payloads.
    pub(crate) payloads: PayloadReader,
    /// Counts.
    pub(crate) tally: Tally,
    /// The machine's monotonic clock, read once per read(2).
    pub(crate) now: fn() -> u64,
}

impl Viewer {
    /// A viewer whose connect(2) has been called.
    pub(crate) fn new(id: u64, stream: TcpStream, state: State, slow: bool, since_ns: u64) -> Viewer {
        Viewer {
            id,
            state,
            token: 0,
            since_ns,
            opened_ns: since_ns,
            again: false,
            moved: None,
            stream,
            slow,
            place: 0,
            partial: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// The socket, to be registered.
    pub(crate) const fn source(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Whether it can speak and be spoken to.
    pub(crate) const fn is_joined(&self) -> bool {
        matches!(self.state, State::Joined | State::Deaf)
    }

    /// Whether `joined` is still to come.
    pub(crate) const fn is_arriving(&self) -> bool {
        matches!(self.state, State::Connecting { .. } | State::Upgrading { .. } | State::Joining)
    }

    /// The poll said that the socket can be written to.
    ///
    /// # Errors
    /// [`Ended`] when the connection is over.
    pub(crate) fn writable(&mut self) -> Result<(), Ended> {
        if let State::Connecting { request, key } = &mut self.state {
            if let Some(error) = self.stream.take_error()? {
                return Err(error.into());
            }
            self.waiting = std::mem::take(request);
            self.state = State::Upgrading { key: std::mem::take(key) };
        }
        if self.waiting.is_empty() {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.waiting);
        self.write(&waiting).map(drop)
    }

    /// Sends one masked frame; `false` when too much is waiting already.
    ///
    /// # Errors
    /// [`Ended`] when the connection is over.
    pub(crate) fn send(
        &mut self,
        opcode: OpCode,
        payload: &[u8],
        scratch: &mut Vec<u8>,
    ) -> Result<bool, Ended> {
        scratch.clear();
        // RFC 6455 asks for a mask that cannot be foreseen, against scripts in browsers; a load
        // generator runs no scripts, and the server's unmasking costs the same with any mask.
        let mask = (self.id as u32 ^ 0x5a3c_96e1).to_ne_bytes();
        let header = FrameHeader { is_final: true, mask: Some(mask), opcode, ..FrameHeader::default() };
        // Writing to a Vec cannot fail.
        let _ = header.format(payload.len() as u64, scratch);
        scratch.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.write(scratch)
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<bool, Ended> {
        while self.waiting.is_empty() && !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(0) => return Err(Ended::Cut),
                Ok(written) => bytes = bytes.get(written..).unwrap_or(&[]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.waiting.len() + bytes.len() > MAX_WAITING {
            return Ok(false);
        }
        self.waiting.extend_from_slice(bytes);
        Ok(true)
    }

    /// The poll said that the socket can be read from: reads all there is.
    ///
    /// # Errors
    /// [`Ended`] when the connection is over.
    pub(crate) fn readable(&mut self, desk: &mut Desk, account: &mut Account) -> Result<(), Ended> {
        let mut buffer = std::mem::take(&mut desk.buffer);
        let result = self.read_all(&mut buffer, desk, account);
        desk.buffer = buffer;
        result
    }

    fn read_all(&mut self, buffer: &mut [u8], desk: &mut Desk, account: &mut Account) -> Result<(), Ended> {
        while !matches!(self.state, State::Connecting { .. } | State::Deaf) {
            match self.stream.read(buffer) {
                Ok(0) => return Err(Ended::Cut),
                Ok(length) => {
                    let bytes = buffer.get_mut(..length).unwrap_or_default();
                    desk.tally.bytes += length as u64;
                    desk.tally.reads += 1;
                    self.take(bytes, desk, account)?;
                    // A short read has emptied the socket: no second call to be told so.
                    if length < buffer.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes bytes as they came.
    fn take(&mut self, bytes: &[u8], desk: &mut Desk, account: &mut Account) -> Result<(), Ended> {
        if self.partial.is_empty() {
            let used = self.take_whole(bytes, desk, account)?;
            self.partial.extend_from_slice(bytes.get(used..).unwrap_or(&[]));
            return Ok(());
        }
        let mut joined_up = std::mem::take(&mut self.partial);
        joined_up.extend_from_slice(bytes);
        let used = self.take_whole(&joined_up, desk, account)?;
        if used < joined_up.len() {
            joined_up.drain(..used);
            self.partial = joined_up;
        }
        Ok(())
    }

    /// Handles all that is whole; answers how many bytes that was.
    fn take_whole(&mut self, bytes: &[u8], desk: &mut Desk, account: &mut Account) -> Result<usize, Ended> {
        let mut used = 0;
        if let State::Upgrading { key } = &self.state {
            match check_answer(bytes, key)? {
                None => return Ok(0),
                Some(length) => used = length,
            }
            self.state = State::Joining;
        }
        let now_ns = (desk.now)();
        while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            let mut cursor = Cursor::new(rest);
            let header = FrameHeader::parse(&mut cursor).map_err(|_| Ended::Frame("reserved opcode"))?;
            let Some((header, length)) = header else { break };
            if length > MAX_FRAME {
                return Err(Ended::Frame("longer than 16 MiB"));
            }
            let start = cursor.position() as usize;
            let Some(payload) = rest.get(start..start + length as usize) else { break };
            used += start + payload.len();
            desk.tally.frames += 1;
            self.frame(&header, payload, desk, account, now_ns)?;
        }
        Ok(used)
    }

    fn frame(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
        desk: &mut Desk,
        account: &mut Account,
        now_ns: u64,
    ) -> Result<(), Ended> {
        if header.mask.is_some() || header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Ended::Frame("a server sets neither mask nor reserved bits"));
        }
        match header.opcode {
            _ if !header.is_final => Err(Ended::Frame("our server never fragments")),
            OpCode::Data(kind @ (Data::Text | Data::Binary)) => {
                self.events(kind == Data::Binary, payload, desk, account, now_ns)
            }
            OpCode::Control(Control::Ping) => {
                let pong = OpCode::Control(Control::Pong);
                self.send(pong, payload, &mut Vec::new()).map(drop)
            }
            OpCode::Control(Control::Pong) => Ok(()),
            OpCode::Control(Control::Close) => Err(match payload {
                [high, low, ..] => Ended::Closed(u16::from_be_bytes([*high, *low])),
                _ => Ended::Cut,
            }),
            OpCode::Data(_) | OpCode::Control(_) => Err(Ended::Frame("unexpected opcode")),
        }
    }

    fn events(
        &mut self,
        binary: bool,
        payload: &[u8],
        desk: &mut Desk,
        account: &mut Account,
        now_ns: u64,
    ) -> Result<(), Ended> {
        if matches!(self.state, State::Leaving) {
            return Ok(());
        }
        let seen = desk.payloads.read(binary, payload, &mut self.place)?;
        if matches!(self.state, State::Joining) {
            if !matches!(seen.first(), Some(Seen::Joined { .. })) {
                return Err(Ended::Frame("the first event is `joined`"));
            }
            self.state = if self.slow { State::Deaf } else { State::Joined };
            let took_ns = now_ns.saturating_sub(self.since_ns);
            if self.again {
                desk.tally.rejoined += 1;
                desk.tally.rejoin.record_ns(took_ns);
            } else {
                desk.tally.joined += 1;
                desk.tally.connect.record_ns(took_ns);
                desk.tally.last_joined_ns = now_ns;
            }
        }
        if let Some(Seen::Move { url }) = seen.iter().find(|one| matches!(one, Seen::Move { .. })) {
            self.moved = Some(*url);
        }
        desk.tally.note(account, seen, now_ns, self.id == 0);
        Ok(())
    }
}

#[cfg(test)]
#[path = "viewer_tests.rs"]
mod tests;
