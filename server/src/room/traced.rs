//! What a room tells of traced messages. All of it does nothing where nothing is traced.

use std::{sync::Arc, time::Instant};

use danmu_wire::{Event, Lane};

use super::{Room, Rooms, state::Batch};
use crate::traces::{Outcome, Taken, Traces};

impl Rooms {
    /// Sets where traces go.
    pub fn on_trace(&self, traces: Arc<Traces>) {
        let _ = self.traces.set(traces);
    }
}

impl Room {
    /// A viewer's message is about to be answered, `received` being when it came.
    pub fn said(&self, message: &str, outcome: Outcome, received: Instant) {
        if let Some(traces) = self.traces.get() {
            traces.said(&self.id, message, outcome, received);
        }
    }

    /// The same for what a third party published.
    pub fn published(&self, message: &str, lane: Lane, received: Instant) {
        if let Some(traces) = self.traces.get() {
            traces.published(&self.id, message, lane, received);
        }
    }

    /// An event that was taken on this pod, or numbered for all, is about to wait for a flush.
    pub(super) fn arrives(&self, event: &Event) {
        if let Some(traces) = self.traces.get() {
            traces.arrived(self.key, event);
        }
    }

    /// The same for another pod's chats.
    pub(super) fn comes(&self, stamp: u64, events: &[Event]) {
        if let Some(traces) = self.traces.get() {
            traces.relayed(&self.id, self.key, stamp, events);
        }
    }

    /// What of the batch is traced.
    pub(super) fn traced(&self, batch: &Batch, at: Instant) -> Option<Taken> {
        let traces = self.traces.get()?;
        traces.taken(&self.id, self.key, batch.priority.iter().chain(&batch.chat), at)
    }
}
