//! Events to WebSocket frames, and a viewer's bytes back to messages (RFC 6455).
//!
//! Out: [`push_text`], [`push_binary`] and friends append whole server frames (unmasked) to a buffer
//! that is then shared by every viewer of a format. In: [`Inbound`] takes bytes as they come from a
//! socket and keeps only what is incomplete, in one box that an idle viewer does not have.

use std::{cell::RefCell, io::Cursor};

use flate2::{Compress, Compression, FlushCompress, Status};
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

use crate::{CloseCode, Event};

/// Payloads under this many bytes go out as plain JSON even to `danmu.v1.deflate` viewers:
/// a single 120-byte chat grows under deflate, and shrinks to about 0.7 only from 500 bytes on.
pub const DEFLATE_FROM: usize = 512;

/// Longest message a viewer may send, in bytes; the longest `maxLength` (500 characters) in
/// 4-byte characters with its JSON fits.
pub const MAX_MESSAGE: usize = 4096;

/// Longest payload of a control frame (RFC 6455 §5.5).
const MAX_CONTROL: usize = 125;

/// How a viewer wants its frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Format {
    /// JSON in text frames.
    #[default]
    Json = 0,
    /// Raw deflate in binary frames from [`DEFLATE_FROM`] bytes on.
    Deflate = 1,
}

impl Format {
    /// Both formats, indexed by `as usize`.
    pub const ALL: [Format; 2] = [Format::Json, Format::Deflate];

    /// The format's sub-protocol.
    pub const fn protocol(self) -> &'static str {
        match self {
            Format::Json => crate::PROTOCOL_JSON,
            Format::Deflate => crate::PROTOCOL_DEFLATE,
        }
    }

    /// Appends one frame with `json` (a JSON array of events) in this format.
    pub fn push(self, out: &mut Vec<u8>, json: &[u8]) {
        match self {
            Format::Deflate if json.len() >= DEFLATE_FROM => push_binary(out, &deflate(json)),
            Format::Json | Format::Deflate => push_text(out, json),
        }
    }
}

/// Events as the JSON array that is a frame's payload.
pub fn json_array(events: &[Event]) -> Vec<u8> {
    // A chat is about 120 bytes; serialising our own plain structs cannot fail.
    let mut json = Vec::with_capacity(2 + events.len() * 128);
    if serde_json::to_writer(&mut json, events).is_err() {
        json.clear();
        json.extend_from_slice(b"[]");
    }
    json
}

/// One personal frame: always plain JSON, whatever the viewer's format.
pub fn personal(events: &[Event]) -> Vec<u8> {
    let json = json_array(events);
    let mut frame = Vec::with_capacity(json.len() + 10);
    push_text(&mut frame, &json);
    frame
}

/// Appends a text frame.
pub fn push_text(out: &mut Vec<u8>, payload: &[u8]) {
    push_frame(out, OpCode::Data(Data::Text), payload);
}

/// Appends a binary frame.
pub fn push_binary(out: &mut Vec<u8>, payload: &[u8]) {
    push_frame(out, OpCode::Data(Data::Binary), payload);
}

/// Appends a pong with the ping's payload.
pub fn push_pong(out: &mut Vec<u8>, payload: &[u8]) {
    push_frame(out, OpCode::Control(Control::Pong), payload);
}

/// A ping without payload.
pub const PING: [u8; 2] = [0x89, 0x00];

/// A whole close frame with the code and reason of the table.
pub fn close(code: CloseCode) -> Vec<u8> {
    let mut payload = code.code().to_be_bytes().to_vec();
    payload.extend_from_slice(code.reason().as_bytes());
    let mut frame = Vec::with_capacity(payload.len() + 2);
    push_frame(&mut frame, OpCode::Control(Control::Close), &payload);
    frame
}

/// A whole close frame that answers a viewer's own: its code, or none.
pub fn close_echo(code: Option<u16>) -> Vec<u8> {
    let mut frame = Vec::with_capacity(4);
    let payload = code.map(u16::to_be_bytes);
    push_frame(&mut frame, OpCode::Control(Control::Close), payload.as_ref().map_or(&[], |p| p.as_slice()));
    frame
}

fn push_frame(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    out.push(0x80 | u8::from(opcode));
    match payload.len() {
        length @ 0..=125 => out.push(length as u8),
        length @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// One whole payload as a raw deflate stream (RFC 1951), no context kept.
pub fn deflate(payload: &[u8]) -> Vec<u8> {
    thread_local! {
        // A compressor is 260 kB; one a thread is reset for each frame.
        static COMPRESS: RefCell<Compress> = RefCell::new(Compress::new(Compression::new(6), false));
    }
    COMPRESS.with_borrow_mut(|compress| {
        compress.reset();
        let mut out = Vec::with_capacity(payload.len() / 2 + 64);
        loop {
            let taken = compress.total_in() as usize;
            let rest = payload.get(taken..).unwrap_or(&[]);
            match compress.compress_vec(rest, &mut out, FlushCompress::Finish) {
                Ok(Status::StreamEnd) | Err(_) => return out,
                Ok(Status::Ok | Status::BufError) => out.reserve(out.capacity().max(256)),
            }
        }
    })
}

/// Why a viewer's bytes are no WebSocket.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Mask, reserved bits, opcode, fragmentation or close payload against RFC 6455.
    #[error("breaks RFC 6455: {0}")]
    Protocol(&'static str),
    /// Text that is not UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// Longer than the limit; judged by the header, before anything is kept.
    #[error("longer than the limit")]
    TooBig,
}

impl FrameError {
    /// The code to close with.
    pub const fn close_code(&self) -> CloseCode {
        match self {
            FrameError::Protocol(_) => CloseCode::Protocol,
            FrameError::NotUtf8 => CloseCode::NotUtf8,
            FrameError::TooBig => CloseCode::TooBig,
        }
    }
}

/// What came out of a viewer's bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message (no operation of ours uses one).
    Binary(&'a [u8]),
    /// A ping with its payload, to be answered.
    Ping(&'a [u8]),
    /// A pong.
    Pong,
    /// The viewer closes; the code is valid or absent. Nothing after it counts.
    Close(Option<u16>),
}

/// A viewer's half-read bytes: 8 bytes while nothing is incomplete.
#[derive(Debug, Default)]
pub struct Inbound(Option<Box<Partial>>);

#[derive(Debug, Default)]
struct Partial {
    /// Bytes of a frame that is not whole yet, as they came.
    head: Vec<u8>,
    /// Unmasked payloads of a fragmented message so far.
    message: Vec<u8>,
    /// What the fragments are of; `None` when no message is open.
    kind: Option<Data>,
    /// How much of a text message is known to be UTF-8.
    checked: usize,
}

impl Inbound {
    /// Whether the viewer owes us the rest of a frame or message.
    pub const fn is_incomplete(&self) -> bool {
        self.0.is_some()
    }

    /// Takes bytes as they came and hands every whole message to `each`, in order; `each` answers
    /// whether to go on. Keeps what is incomplete: at most `limit` + 14 bytes of a frame and
    /// `limit` bytes of a fragmented message.
    ///
    /// # Errors
    /// [`FrameError`] at the first offence; what came before it has been handed over. The connection
    /// must then be closed with its code.
    pub fn take(
        &mut self,
        bytes: &mut [u8],
        limit: usize,
        mut each: impl FnMut(Message<'_>) -> bool,
    ) -> Result<(), FrameError> {
        let mut partial = self.0.take().unwrap_or_default();
        let result = if partial.head.is_empty() {
            partial.take_whole(bytes, limit, &mut each).map(|used| partial.keep(bytes, used))
        } else {
            let mut head = std::mem::take(&mut partial.head);
            head.extend_from_slice(bytes);
            partial.take_whole(&mut head, limit, &mut each).map(|used| {
                head.drain(..used);
                partial.head = head;
            })
        };
        if !partial.head.is_empty() || partial.kind.is_some() {
            self.0 = Some(partial);
        }
        result
    }
}

impl Partial {
    fn keep(&mut self, bytes: &[u8], used: usize) {
        self.head.extend_from_slice(bytes.get(used..).unwrap_or(&[]));
    }

    /// Handles all whole frames at the start of `bytes`; answers how many bytes they took.
    fn take_whole(
        &mut self,
        bytes: &mut [u8],
        limit: usize,
        each: &mut impl FnMut(Message<'_>) -> bool,
    ) -> Result<usize, FrameError> {
        let mut used = 0;
        while let Some(rest) = bytes.get_mut(used..).filter(|rest| !rest.is_empty()) {
            let Some((header, header_length, length)) = read_header(rest)? else { break };
            let opcode = self.check(&header, length, limit)?;
            let length = length as usize;
            let Some(payload) = rest.get_mut(header_length..header_length + length) else { break };
            if let Some(mask) = header.mask {
                unmask(payload, mask);
            }
            used += header_length + length;
            if !self.handle(opcode, header.is_final, payload, each)? {
                return Ok(bytes.len());
            }
        }
        Ok(used)
    }

    /// Judges a frame by its header alone, so that a bad length costs no memory.
    fn check(&self, header: &FrameHeader, length: u64, limit: usize) -> Result<OpCode, FrameError> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(FrameError::Protocol("reserved bits without an extension"));
        }
        if header.mask.is_none() {
            return Err(FrameError::Protocol("a client's frames are masked"));
        }
        match header.opcode {
            OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)) => {
                return Err(FrameError::Protocol("reserved opcode"));
            }
            OpCode::Control(_) if !header.is_final => {
                return Err(FrameError::Protocol("a control frame is never fragmented"));
            }
            OpCode::Control(_) if length > MAX_CONTROL as u64 => {
                return Err(FrameError::Protocol("a control frame has at most 125 bytes"));
            }
            OpCode::Data(Data::Continue) if self.kind.is_none() => {
                return Err(FrameError::Protocol("a continuation of nothing"));
            }
            OpCode::Data(Data::Text | Data::Binary) if self.kind.is_some() => {
                return Err(FrameError::Protocol("a new message inside a fragmented one"));
            }
            OpCode::Data(_) if length > limit.saturating_sub(self.message.len()) as u64 => {
                return Err(FrameError::TooBig);
            }
            OpCode::Control(_) | OpCode::Data(_) => {}
        }
        Ok(header.opcode)
    }

    fn handle(
        &mut self,
        opcode: OpCode,
        is_final: bool,
        payload: &[u8],
        each: &mut impl FnMut(Message<'_>) -> bool,
    ) -> Result<bool, FrameError> {
        match opcode {
            OpCode::Control(Control::Ping) => Ok(each(Message::Ping(payload))),
            OpCode::Control(Control::Pong) => Ok(each(Message::Pong)),
            OpCode::Control(_) => {
                each(Message::Close(close_payload(payload)?));
                Ok(false)
            }
            OpCode::Data(kind) if is_final && self.kind.is_none() => deliver(kind, payload, each),
            OpCode::Data(kind) => self.fragment(kind, is_final, payload, each),
        }
    }

    fn fragment(
        &mut self,
        kind: Data,
        is_final: bool,
        payload: &[u8],
        each: &mut impl FnMut(Message<'_>) -> bool,
    ) -> Result<bool, FrameError> {
        let kind = *self.kind.get_or_insert(kind);
        self.message.extend_from_slice(payload);
        if kind == Data::Text {
            self.check_utf8()?;
        }
        if !is_final {
            return Ok(true);
        }
        self.kind = None;
        self.checked = 0;
        let message = std::mem::take(&mut self.message);
        deliver(kind, &message, each)
    }

    /// Fails at the first fragment that can never become UTF-8; looks at each byte once.
    fn check_utf8(&mut self) -> Result<(), FrameError> {
        let unchecked = self.message.get(self.checked..).unwrap_or(&[]);
        match std::str::from_utf8(unchecked) {
            Ok(_) => self.checked = self.message.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(FrameError::NotUtf8),
        }
        Ok(())
    }
}

fn read_header(bytes: &[u8]) -> Result<Option<(FrameHeader, usize, u64)>, FrameError> {
    let mut cursor = Cursor::new(bytes);
    match FrameHeader::parse(&mut cursor) {
        Ok(header) => Ok(header.map(|(header, length)| (header, cursor.position() as usize, length))),
        Err(_) => Err(FrameError::Protocol("reserved opcode")),
    }
}

fn deliver(
    kind: Data,
    payload: &[u8],
    each: &mut impl FnMut(Message<'_>) -> bool,
) -> Result<bool, FrameError> {
    match kind {
        Data::Text => {
            let text = std::str::from_utf8(payload).map_err(|_| FrameError::NotUtf8)?;
            Ok(each(Message::Text(text)))
        }
        _ => Ok(each(Message::Binary(payload))),
    }
}

/// RFC 6455 §7.4: no code, or a code that may be sent with a UTF-8 reason.
fn close_payload(payload: &[u8]) -> Result<Option<u16>, FrameError> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        [_] => return Err(FrameError::Protocol("half a close code")),
    };
    if std::str::from_utf8(reason).is_err() {
        return Err(FrameError::NotUtf8);
    }
    match code {
        1000..=1003 | 1007..=1011 | 3000..=4999 => Ok(Some(code)),
        _ => Err(FrameError::Protocol("a close code that is never sent")),
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let (words, rest) = payload.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests;
