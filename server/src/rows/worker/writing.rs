//! From a flush to the sockets of its rows.

use std::{
    io::{ErrorKind, Write},
    time::Instant,
};

use bytes::Bytes;
use danmu_wire::{CloseCode, frame::Format};

use super::{Handler, Job, ROW_CAPACITY, Worker};
use crate::rows::{Flush, Frames, audience::Slot, backlog::Backlog, record::Record};

/// What became of one write to one viewer.
enum Trouble {
    /// So many bytes went out, then the socket was full.
    Full(usize),
    /// The socket is dead.
    Dead,
    /// The viewer is behind already: its backlog takes the flush.
    Behind,
}

impl<H: Handler> Worker<H> {
    /// Writes rows of the waiting flushes in turn, up to one full row's worth of sends.
    pub(super) fn write_rows(&mut self) {
        let mut budget = ROW_CAPACITY;
        // The job stays in the queue while its row is written: a viewer found dead in it leaves its row,
        // and rows must not be repacked in the middle of a flush, or the moved viewers would miss it.
        while budget > 0
            && let Some(mut job) = self.jobs.front().cloned()
        {
            if job.row == 0 && self.metrics.recorder.is_some() {
                job.started = Some(Instant::now());
            }
            let written = self.write_row(&mut job);
            self.jobs.pop_front();
            if let Some(sent) = written {
                budget = budget.saturating_sub(sent.max(1));
                self.jobs.push_back(Job { row: job.row + 1, ..job });
            } else {
                self.finish(&job);
            }
        }
    }

    /// Writes the job's next row; `None` when there is none.
    fn write_row(&mut self, job: &mut Job) -> Option<usize> {
        let flush = &job.flush;
        let row = self.audiences.get_mut(&flush.room)?.rows.get_mut(job.row)?;
        if row.flushed >= flush.sequence {
            return Some(0);
        }
        row.flushed = flush.sequence;
        let frames = flush.frames.get(row.format as usize)?.clone();
        let Some(frames) = frames else { return Some(0) };
        let mut troubled: Vec<(u32, Trouble)> = Vec::new();
        let (mut writes, mut taken) = (0u64, 0usize);
        let bytes: &[u8] = &frames.bytes;
        for slot in &row.slots {
            if slot.from > flush.sequence {
                continue;
            }
            if slot.stalled {
                troubled.push((slot.connection, Trouble::Behind));
                continue;
            }
            let Some(socket) = self.sockets.get(slot.connection as usize) else { continue };
            writes += 1;
            match (&mut &*socket).write(bytes) {
                Ok(n) if n == bytes.len() => taken += n,
                Ok(n) => {
                    taken += n;
                    troubled.push((slot.connection, Trouble::Full(n)));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    troubled.push((slot.connection, Trouble::Full(0)));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    troubled.push((slot.connection, Trouble::Full(0)));
                }
                Err(_) => troubled.push((slot.connection, Trouble::Dead)),
            }
        }
        let sent = row.slots.len();
        if let Some(written) = job.written.get_mut(row.format as usize) {
            *written += writes as u32;
        }
        self.metrics.writes.inc_by(writes);
        // The rest of a cut flush goes out later and is not counted: it is what a slow viewer takes.
        self.metrics.bytes.inc_by(taken as u64);
        for (index, trouble) in troubled {
            self.handle_trouble(index, &trouble, &frames, flush);
        }
        Some(sent)
    }

    fn handle_trouble(&mut self, index: u32, trouble: &Trouble, frames: &Frames, flush: &Flush) {
        match trouble {
            Trouble::Dead => self.remove(index),
            Trouble::Full(written) => {
                self.stall(index, |backlog| backlog.begin_flush(frames, flush.chats, *written));
            }
            Trouble::Behind => {
                let limits = self.limits;
                let Some(connection) = self.connections.get_mut(index as usize) else { return };
                let Some(backlog) = connection.backlog.as_mut() else { return };
                match backlog.flush(frames, flush, &limits) {
                    Ok(skipped) if skipped > 0 => self.metrics.dropped_slow(skipped),
                    Ok(_) => {}
                    Err(_) => self.close(index, CloseCode::TooSlow),
                }
            }
        }
    }

    fn finish(&mut self, job: &Job) {
        self.metrics.flushes.inc();
        self.metrics
            .latency
            .observe(Instant::now().saturating_duration_since(job.flush.accepted).as_secs_f64());
        self.pack_rows(job.flush.room);
        if let (Some(recorder), Some(started)) = (&self.metrics.recorder, job.started) {
            let bytes = |format: Format| {
                let frames = job.flush.frames.get(format as usize).and_then(Option::as_ref);
                frames.map_or(0, |frames| frames.bytes.len())
            };
            let written = Format::ALL.map(|format| {
                let viewers = job.written.get(format as usize).copied().unwrap_or(0);
                (if viewers > 0 { bytes(format) } else { 0 }, viewers)
            });
            recorder.record(Record { started, worker: self.number, written });
        }
        job.flush.written();
    }

    /// The viewer's socket is full: from now on it is served from a backlog.
    fn stall(&mut self, index: u32, begin: impl FnOnce(&mut Backlog)) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        let mut backlog = Box::new(Backlog::new(now));
        begin(&mut backlog);
        connection.backlog = Some(backlog);
        self.metrics.stalled.inc();
        self.mark_stalled(index, true);
        self.set_wheel(index);
        // The socket may have emptied between the failed write and this mark; its edge would then be
        // lost, so try once more.
        self.resume(index);
    }

    /// The viewer's socket has room again.
    pub(super) fn resume(&mut self, index: u32) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        let Some(backlog) = connection.backlog.as_mut() else { return };
        let Some(socket) = self.sockets.get(index as usize) else { return };
        match backlog.write(now, |bytes| (&mut &*socket).write(bytes)) {
            Ok(true) => {
                connection.backlog = None;
                self.metrics.stalled.dec();
                self.mark_stalled(index, false);
            }
            Ok(false) => {}
            Err(_) => self.remove(index),
        }
    }

    fn mark_stalled(&mut self, index: u32, stalled: bool) {
        let slot = self.slot_mut(index);
        if let Some(Slot { stalled: mark, .. }) = slot {
            *mark = stalled;
        }
    }

    /// Sends whole frames to one viewer, behind what it is owed.
    pub(super) fn send_personal(&mut self, index: u32, frames: &[u8]) {
        let limits = self.limits;
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        if let Some(backlog) = connection.backlog.as_mut() {
            if backlog.personal(Bytes::copy_from_slice(frames), &limits).is_err() {
                self.close(index, CloseCode::TooSlow);
            }
            return;
        }
        let Some(socket) = self.sockets.get(index as usize) else { return };
        let written = match (&mut &*socket).write(frames) {
            Ok(n) => n,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(_) => {
                self.remove(index);
                return;
            }
        };
        if let Some(rest) = frames.get(written..).filter(|rest| !rest.is_empty()) {
            let rest = Bytes::copy_from_slice(rest);
            self.stall(index, |backlog| backlog.begin_personal(rest));
        }
    }
}
