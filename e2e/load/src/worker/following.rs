//! Connecting again: after a 503, after a cut, and because the server asks to move.

use std::cmp::Reverse;

use tungstenite::protocol::frame::coding::{Control, OpCode};

use super::{SEAT, Worker};
use crate::{
    clock,
    handshake::{HandshakeError, Target},
    tally::count,
    viewer::{Ended, State, Viewer},
};

/// Full jitter: a random time up to 1 s, 2 s, 4 s … 30 s after the first, second, third … failure.
const FIRST_JITTER_NS: u64 = 1_000_000_000;
const LONGEST_JITTER_NS: u64 = 30_000_000_000;

impl Worker<'_> {
    /// Connects those whose time has come.
    pub(super) fn come_back(&mut self, now_ns: u64) {
        while let Some(&Reverse((at_ns, at))) = self.returns.peek()
            && at_ns <= now_ns
        {
            self.returns.pop();
            self.open(at);
        }
    }

    /// A connection has joined, or was asked to move: the viewer's other one goes, or a new one comes.
    pub(super) fn follow(&mut self, token: usize) {
        let at = token & SEAT;
        let Some(seat) = self.seats.get_mut(at) else { return };
        if let Some(joined) = self.others.remove(&token) {
            // It is in elsewhere: now the old connection may go.
            if let Some(mut old) = seat.viewer.replace(joined) {
                let bye = 1000_u16.to_be_bytes();
                let told = old.send(OpCode::Control(Control::Close), &bye, &mut self.scratch);
                old.state = State::Parting;
                let old_token = old.token;
                self.others.insert(old_token, old);
                if let Err(ended) = told {
                    self.end(old_token, &ended);
                }
            }
        }
        let Some(seat) = self.seats.get_mut(at) else { return };
        let Some(viewer) = seat.viewer.as_mut() else { return };
        if seat.returning && viewer.token == token && viewer.moved.is_none() {
            seat.returning = false;
        }
        (seat.joined_before, seat.tries) = (true, 0);
        let Some(url) = viewer.moved.take() else { return };
        if self.plan.follow && !std::mem::replace(&mut seat.returning, true) {
            // The server spreads its viewers; no need to spread them again.
            let now_ns = clock::monotonic_ns();
            (seat.since_ns, seat.account.followed) = (now_ns, true);
            seat.url = url.or(seat.url);
            if url.is_none() {
                self.turn_elsewhere(at);
            }
            self.returns.push(Reverse((now_ns, at)));
        }
    }

    /// The viewer's connection is gone though it wants to stay.
    pub(super) fn cut(&mut self, at: usize, ended: &Ended) {
        count(&mut self.desk.tally.cuts, &ended.to_string());
        let Some(seat) = self.seats.get_mut(at) else { return };
        // Chat is live: what is said until the viewer is back it was never promised.
        (seat.account.followed, seat.account.open_gap) = (true, true);
        if !std::mem::replace(&mut seat.returning, true) {
            seat.since_ns = clock::monotonic_ns();
            self.turn_elsewhere(at);
            self.return_after_jitter(at);
            return;
        }
        let arriving = |(token, viewer): &(&usize, &Viewer)| **token & SEAT == at && viewer.is_arriving();
        if let Some(token) = self.others.iter().find(arriving).map(|(token, _)| *token) {
            // On its way to another server already: that is its connection now.
            seat.viewer = self.others.remove(&token);
        }
    }

    /// A connection that never joined.
    pub(super) fn failed(&mut self, at: usize, ended: &Ended) {
        let Some(seat) = self.seats.get_mut(at) else { return };
        let now_ns = clock::monotonic_ns();
        let waited_ns = now_ns.saturating_sub(seat.since_ns);
        if let Ended::Handshake(HandshakeError::Busy(seconds)) = ended {
            self.desk.tally.retried += 1;
            if seat.joined_before || waited_ns < self.plan.connect_timeout_ns {
                self.returns.push(Reverse((now_ns + seconds.min(&60) * 1_000_000_000, at)));
                return;
            }
        }
        if seat.joined_before && self.plan.follow && ended.may_return() {
            self.turn_elsewhere(at);
            self.return_after_jitter(at);
        } else if seat.joined_before {
            seat.returning = false;
            count(&mut self.desk.tally.departed, &ended.to_string());
            self.note_fault(ended);
        } else {
            self.fail(ended);
        }
    }

    /// Several addresses of one room stand for the one behind which a balancer chooses: the next
    /// connection goes to any other of them.
    fn turn_elsewhere(&mut self, at: usize) {
        self.seats[at].target = Some(Target::elsewhere(&self.plan.targets, self.target(at)));
    }

    fn return_after_jitter(&mut self, at: usize) {
        let Some(seat) = self.seats.get_mut(at) else { return };
        let most_ns = (FIRST_JITTER_NS << seat.tries.min(5)).min(LONGEST_JITTER_NS);
        seat.tries += 1;
        let wait_ns = (rand::random_range(0.0..1.0) * most_ns as f64) as u64;
        self.returns.push(Reverse((clock::monotonic_ns() + wait_ns, at)));
    }

    fn fail(&mut self, ended: &Ended) {
        self.failures += 1;
        count(&mut self.desk.tally.failed, &ended.to_string());
        self.note_fault(ended);
    }
}
