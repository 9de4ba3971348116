//! Writes down every flush a worker wrote, so that the benchmark's floor can send the same bytes to as
//! many sockets at the same times (`danmu-load floor --schedule`). Off unless asked for.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::mpsc::{SyncSender, sync_channel},
    time::Instant,
};

use danmu_wire::frame::Format;

/// Lines that wait for the disk. A room makes some 20 a second and worker; over it lines are left out
/// and counted, because a benchmark must not wait for a disk.
const WAITING: usize = 65_536;

/// One flush on one worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// When its first row was begun.
    pub(super) started: Instant,
    pub(super) worker: usize,
    /// Bytes of one write and viewers written, by format.
    pub(super) written: [(usize, u32); Format::ALL.len()],
}

/// The way to the thread that writes the file.
#[derive(Debug)]
pub struct Recorder {
    records: SyncSender<Record>,
}

impl Recorder {
    /// Starts a new file, and the thread that writes it.
    ///
    /// # Errors
    /// When the file cannot be made or the system gives no thread.
    pub fn start(file: &Path) -> io::Result<Recorder> {
        let (records, written) = sync_channel::<Record>(WAITING);
        let (mut out, since) = (BufWriter::new(File::create(file)?), Instant::now());
        writeln!(out, "# offset_us worker json_bytes json_viewers deflate_bytes deflate_viewers")?;
        std::thread::Builder::new().name("record-flushes".to_owned()).spawn(move || {
            while let Ok(first) = written.recv() {
                for record in std::iter::once(first).chain(written.try_iter()) {
                    if let Err(error) = write(&mut out, since, &record) {
                        tracing::error!(%error, "flushes can no longer be recorded");
                        return;
                    }
                }
                // Whoever reads the file while we run finds whole lines.
                if let Err(error) = out.flush() {
                    tracing::error!(%error, "flushes can no longer be recorded");
                    return;
                }
            }
        })?;
        Ok(Recorder { records })
    }

    pub(super) fn record(&self, record: Record) {
        if self.records.try_send(record).is_err() {
            tracing::warn!("a flush is missing in the record: the disk is too slow");
        }
    }
}

fn write(out: &mut impl Write, since: Instant, record: &Record) -> io::Result<()> {
    let offset = record.started.saturating_duration_since(since).as_micros();
    write!(out, "{offset} {}", record.worker)?;
    for (bytes, viewers) in record.written {
        write!(out, " {bytes} {viewers}")?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_says_when_who_how_much_and_to_how_many() {
        let since = Instant::now();
        let started = since + Duration::from_micros(1500);
        let mut out = Vec::new();
        write(&mut out, since, &Record { started, worker: 1, written: [(130, 5000), (0, 0)] }).unwrap();
        assert_eq!(out, b"1500 1 130 5000 0 0\n");
    }
}
