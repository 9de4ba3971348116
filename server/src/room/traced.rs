//! What a room tells of traced messages. All of it does nothing where nothing is traced.

use std::{sync::Arc, time::Instant};

use danmu_wire::{Event, Lane};

use super::{Room, Rooms, SubRoom, state::Batch};
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
        if let Some(traces) = self.ways.traces.get() {
            traces.said(&self.id, message, outcome, received);
        }
    }

    /// The same for what a third party published.
    pub fn published(&self, message: &str, lane: Lane, received: Instant) {
        if let Some(traces) = self.ways.traces.get() {
            traces.published(&self.id, message, lane, received);
        }
    }

    /// Another pod's chats are about to wait for a flush, of a sub-room or, from a pod that knows of none, of the first.
    pub(super) fn comes(&self, sub: Option<u32>, stamp: u64, events: &[Event]) {
        let Some(traces) = self.ways.traces.get() else { return };
        let other = sub.and_then(|number| self.sub(number));
        let key = other.map_or(self.first.key, |sub| sub.key);
        traces.relayed(&self.id, key, stamp, events);
    }
}

impl SubRoom {
    /// An event that was taken on this pod, or numbered for all, is about to wait for a flush.
    pub(super) fn arrives(&self, event: &Event) {
        if let Some(traces) = self.ways.traces.get() {
            traces.arrived(self.key, event);
        }
    }

    /// What of the batch is traced.
    pub(super) fn traced(&self, batch: &Batch, at: Instant) -> Option<Taken> {
        let traces = self.ways.traces.get()?;
        traces.taken(&self.ways.id, self.key, batch.priority.iter().chain(&batch.chat), at)
    }
}
