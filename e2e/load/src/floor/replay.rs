//! The loop that is the floor.

use std::{collections::HashSet, net::TcpStream, thread, time::Duration};

use rustix::{io::Errno, net::SendFlags};

use crate::{
    clock,
    floor::{
        frames::{Message, SMALLEST_MESSAGE, encode},
        pace::Pace,
    },
};

/// How long the last bytes of cut frames may take.
const FLUSH_NS: u64 = 5_000_000_000;

/// One viewer's socket.
#[derive(Debug)]
pub(super) struct Outbound {
    pub(super) stream: TcpStream,
    /// Bytes of a frame that the socket took only in part: they must go before the next frame.
    rest: Vec<u8>,
    gone: bool,
}

impl Outbound {
    pub(super) const fn new(stream: TcpStream) -> Outbound {
        Outbound { stream, rest: Vec::new(), gone: false }
    }
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    /// Calls of send(2) for a frame.
    pub(super) sends: u64,
    /// Bytes the sockets took.
    pub(super) bytes: u64,
    /// Sends to all.
    pub(super) batches: u64,
    /// Messages to all; the same in every thread.
    pub(super) messages: u64,
    /// Messages to one viewer each.
    pub(super) deliveries: u64,
    /// Frames a full socket did not take: lost to that viewer.
    pub(super) eagains: u64,
    /// Frames that were taken in part, and finished later.
    pub(super) partials: u64,
    /// Viewers whose socket broke.
    pub(super) gone: u64,
}

impl Sent {
    /// Adds what another thread sent.
    pub(super) fn add(&mut self, other: &Sent) {
        self.sends += other.sends;
        self.bytes += other.bytes;
        self.batches += other.batches;
        self.messages = self.messages.max(other.messages);
        self.deliveries += other.deliveries;
        self.eagains += other.eagains;
        self.partials += other.partials;
        self.gone += other.gone;
    }
}

/// Sends to `viewers` at this pace from `start_ns` on.
pub(super) fn replay(viewers: &mut [Outbound], mut pace: Pace, start_ns: u64) -> Sent {
    let mut sent = Sent::default();
    let mut cut = HashSet::new();
    while let Some(next_ns) = pace.next_ns() {
        let now_ns = clock::monotonic_ns().saturating_sub(start_ns);
        if now_ns < next_ns {
            thread::sleep(Duration::from_nanos(next_ns - now_ns));
            continue;
        }
        let Some(batch) = pace.take(now_ns) else { break };
        let stamped: Vec<Message> = batch
            .messages
            .iter()
            .map(|message| Message { due_ns: start_ns + message.due_ns, ..*message })
            .collect();
        sent.batches += 1;
        sent.messages += stamped.len() as u64;
        let mut rest = 0..viewers.len();
        for part in &batch.parts {
            let to = rest.start.saturating_add(part.viewers).min(rest.end);
            let frame = encode(&stamped, part.bytes);
            let carried = if part.bytes >= SMALLEST_MESSAGE { stamped.len() as u64 } else { 0 };
            for at in std::mem::replace(&mut rest.start, to)..to {
                if let Some(viewer) = viewers.get_mut(at)
                    && send_whole(viewer, at, &frame, &mut cut, &mut sent)
                {
                    sent.deliveries += carried;
                }
            }
        }
    }
    let end_ns = clock::monotonic_ns() + FLUSH_NS;
    while !cut.is_empty() && clock::monotonic_ns() < end_ns {
        cut.retain(|&at| {
            viewers.get_mut(at).is_some_and(|viewer| {
                finish(viewer, &mut sent);
                !viewer.rest.is_empty() && !viewer.gone
            })
        });
        thread::sleep(Duration::from_millis(1));
    }
    sent
}

/// Sends a frame; whether the viewer gets it, now or after what its socket still owes.
fn send_whole(
    viewer: &mut Outbound,
    at: usize,
    frame: &[u8],
    cut: &mut HashSet<usize>,
    sent: &mut Sent,
) -> bool {
    if viewer.gone {
        return false;
    }
    if !cut.is_empty() && cut.contains(&at) {
        finish(viewer, sent);
        if !viewer.rest.is_empty() {
            sent.eagains += 1;
            return false;
        }
        cut.remove(&at);
    }
    sent.sends += 1;
    match send(viewer, frame, sent) {
        None => false,
        Some(0) => {
            sent.eagains += 1;
            false
        }
        Some(taken) => {
            if let Some(rest) = frame.get(taken..).filter(|rest| !rest.is_empty()) {
                sent.partials += 1;
                viewer.rest = rest.to_vec();
                cut.insert(at);
            }
            true
        }
    }
}

fn finish(viewer: &mut Outbound, sent: &mut Sent) {
    let rest = std::mem::take(&mut viewer.rest);
    let taken = send(viewer, &rest, sent).unwrap_or(rest.len());
    viewer.rest = rest.get(taken..).unwrap_or(&[]).to_vec();
}

/// How much the socket took; `None` when it broke.
fn send(viewer: &mut Outbound, bytes: &[u8], sent: &mut Sent) -> Option<usize> {
    match rustix::net::send(&viewer.stream, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Ok(taken) => {
            sent.bytes += taken as u64;
            Some(taken)
        }
        Err(Errno::AGAIN | Errno::INTR) => Some(0),
        Err(_) => {
            viewer.gone = true;
            sent.gone += 1;
            None
        }
    }
}
