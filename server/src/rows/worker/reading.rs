//! From a viewer's socket to the handler.

use std::io::{ErrorKind, Read};

use danmu_wire::{
    CloseCode,
    frame::{self, Inbound, Message},
};
use mio::event::Event;

use super::{Handler, Phase, READ, Worker};

impl<H: Handler> Worker<H> {
    pub(super) fn ready(&mut self, event: &Event) {
        let index = event.token().0 as u32;
        if event.is_writable() {
            self.resume(index);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(index);
        }
    }

    /// Reads what has come, at most one buffer; the rest waits for the next turn so that a viewer who
    /// floods delays nobody.
    pub(super) fn read(&mut self, index: u32) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut taken = 0;
        while let Some(socket) = self.sockets.get(index as usize) {
            match (&mut &*socket).read(&mut scratch) {
                Ok(0) => {
                    self.remove(index);
                    break;
                }
                Ok(n) => {
                    taken += n;
                    self.take_bytes(index, scratch.get_mut(..n).unwrap_or(&mut []));
                    if taken >= READ {
                        self.unread.push(index);
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.remove(index);
                    break;
                }
            }
        }
        self.scratch = scratch;
    }

    pub(super) fn take_bytes(&mut self, index: u32, bytes: &mut [u8]) {
        let now = self.wheel.passed(self.now);
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        connection.heard = now;
        if let Phase::Closing(..) = connection.phase {
            self.drain_closing(index, bytes);
            return;
        }
        let mut inbound = std::mem::take(&mut connection.inbound);
        let mut flooding = false;
        let mut whole = false;
        let result = inbound.take(bytes, self.limits.message, |message| {
            self.metrics.received.inc();
            let Some(connection) = self.connections.get_mut(index as usize) else { return false };
            if !connection.count_frame(now, self.limits.frames_per_second) {
                flooding = true;
                return false;
            }
            whole |= matches!(message, Message::Text(_) | Message::Binary(_));
            self.hear(index, message);
            self.connections.get(index as usize).is_some_and(|c| c.phase == Phase::Open)
        });
        self.after_bytes(index, inbound, whole);
        if flooding {
            self.close(index, CloseCode::Flooding);
        } else if let Err(error) = result {
            tracing::debug!(%error, "a viewer broke the protocol");
            self.close(index, error.close_code());
        }
    }

    /// Keeps what is incomplete. `whole`: a message has ended, so what is incomplete began after it.
    fn after_bytes(&mut self, index: u32, inbound: Inbound, whole: bool) {
        let since = self.wheel.tick(self.now);
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        if connection.phase != Phase::Open {
            return;
        }
        let was = connection.incomplete;
        connection.incomplete = match (inbound.is_incomplete(), was) {
            (false, _) => 0,
            (true, earlier) if earlier != 0 && !whole => earlier,
            (true, _) => since,
        };
        connection.inbound = inbound;
        if was == 0 && connection.incomplete != 0 {
            self.set_wheel(index);
        }
    }

    fn hear(&mut self, index: u32, message: Message<'_>) {
        match message {
            Message::Text(text) => self.call(index, |handler, viewer, io| handler.text(viewer, text, io)),
            Message::Binary(bytes) => {
                self.call(index, |handler, viewer, io| handler.binary(viewer, bytes, io));
            }
            Message::Ping(payload) => {
                let mut pong = Vec::with_capacity(payload.len() + 2);
                frame::push_pong(&mut pong, payload);
                self.send_personal(index, &pong);
            }
            Message::Pong => {}
            Message::Close(code) => {
                // The side that answers a close frame is the server: it also closes TCP (RFC 6455 §7.1.1).
                let cut = self.connections.get(index as usize).is_some_and(|c| c.backlog.is_some());
                if !cut {
                    self.send_personal(index, &frame::close_echo(code));
                }
                self.remove(index);
            }
        }
    }

    /// While we wait for the answer to our close frame, only its arrival matters.
    fn drain_closing(&mut self, index: u32, bytes: &mut [u8]) {
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        let mut answered = false;
        let result = connection.inbound.take(bytes, self.limits.message, |message| {
            answered = matches!(message, Message::Close(_));
            !answered
        });
        if answered || result.is_err() {
            self.remove(index);
        }
    }
}
