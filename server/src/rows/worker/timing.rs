//! Deadlines: pings, silence, stalls, half frames, closing, the handler's own, and the drain.

use danmu_wire::{CloseCode, frame};

use super::{DRAIN_STEP, Handler, Phase, Worker};
use crate::rows::wheel::Tick;

impl<H: Handler> Worker<H> {
    /// Sets the wheel to the connection's next deadline, unless it is set to an earlier one already.
    pub(super) fn set_wheel(&mut self, index: u32) {
        let limits = self.limits;
        let seconds = |duration: std::time::Duration| duration.as_secs().max(1) as Tick;
        let Some(connection) = self.connections.get(index as usize) else { return };
        let mut next = connection.heard.max(connection.pinged) + seconds(limits.ping);
        if let Phase::Closing(_, until) = connection.phase {
            next = next.min(until);
        }
        if let Some(backlog) = &connection.backlog {
            next = next.min(self.wheel.tick(backlog.progressed + limits.stalled));
        }
        if connection.incomplete > 0 {
            next = next.min(connection.incomplete + seconds(limits.half_frame));
        }
        if connection.deadline > 0 {
            next = next.min(connection.deadline);
        }
        let set = connection.wheel;
        if set <= self.wheel.passed(self.now) || next < set {
            let tick = self.wheel.set(index, next);
            if let Some(connection) = self.connections.get_mut(index as usize) {
                connection.wheel = tick;
            }
        }
    }

    pub(super) fn fire_wheel(&mut self) {
        let mut due = Vec::new();
        self.wheel.fire(self.now, &mut due);
        for (index, tick) in due {
            // Entries of an earlier setting, or of an earlier viewer with this index, are stale.
            if self.connections.get(index as usize).is_some_and(|c| c.wheel == tick) {
                self.check(index);
                self.set_wheel(index);
            }
        }
    }

    /// Acts on whatever has passed for one connection.
    fn check(&mut self, index: u32) {
        let limits = self.limits;
        let now = self.wheel.passed(self.now);
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        if let Phase::Closing(_, until) = connection.phase {
            if now >= until {
                self.remove(index);
            }
            return;
        }
        if connection.backlog.as_ref().is_some_and(|b| self.now >= b.progressed + limits.stalled) {
            return self.close(index, CloseCode::TooSlow);
        }
        if connection.incomplete > 0 && now >= connection.incomplete + limits.half_frame.as_secs() as Tick {
            return self.close(index, CloseCode::Protocol);
        }
        let ping = limits.ping.as_secs().max(1) as Tick;
        if now >= connection.heard + 2 * ping {
            return self.close(index, CloseCode::Idle);
        }
        if now >= connection.heard.max(connection.pinged) + ping {
            connection.pinged = now;
            // A viewer with a backlog is not waiting for a ping, and its stall has a deadline.
            if connection.backlog.is_none() {
                self.send_personal(index, &frame::PING);
            }
        }
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        if connection.deadline > 0 && now >= connection.deadline {
            connection.deadline = 0;
            self.call(index, |handler, viewer, io| handler.due(viewer, io));
        }
    }

    /// Visits the next share of viewers; closes whoever is left at the deadline.
    pub(super) fn step_drain(&mut self) {
        let Some(drain) = self.drain.as_mut().filter(|drain| !drain.over) else { return };
        let spread = drain.spread_until.saturating_duration_since(drain.started).max(DRAIN_STEP);
        let passed = self.now.saturating_duration_since(drain.started);
        let share = (passed.as_secs_f64() / spread.as_secs_f64()).min(1.0);
        let keep = drain.all - (drain.all as f64 * share).ceil() as usize;
        let turn = drain.left.split_off(keep.min(drain.left.len()));
        let order = std::sync::Arc::clone(&drain.order);
        let over = self.now >= drain.deadline;
        drain.over = over;
        for index in turn {
            self.call(index, |handler, viewer, io| handler.visit(viewer, &order, io));
        }
        if over {
            let open: Vec<u32> = self.connections.iter().map(|(index, _)| index as u32).collect();
            for index in open {
                self.close(index, CloseCode::Drain);
            }
        }
    }
}
