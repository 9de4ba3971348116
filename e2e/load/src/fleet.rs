//! The threads of one process.

use std::{io, sync::atomic::Ordering, thread, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    clock,
    publish::Publisher,
    tally::Tally,
    worker::{CALLED_OFF, Plan, Signals, Worker},
};

/// How often progress is told.
const TICK: Duration = Duration::from_millis(50);

/// How far a process, or all of them, are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Viewers that joined.
    pub(crate) joined: u64,
    /// Viewers that never will.
    pub(crate) failed: u64,
    /// Messages delivered.
    pub(crate) received: u64,
}

/// Which of how many processes this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    /// From 0.
    pub(crate) index: u64,
    /// At least 1.
    pub(crate) of: u64,
}

/// A run that could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// A thread of ours.
    #[error("a thread of the load generator failed: {0}")]
    Thread(io::Error),
    /// The process that started us is gone.
    #[error("the process that started this one is gone; stopped")]
    Orphaned,
    /// A process could not be started.
    #[error("cannot start process {0} of the load generator: {1}")]
    Start(u64, io::Error),
    /// A process ended early.
    #[error("process {0} of the load generator ended without its report; its own words are above")]
    Silent(u64),
    /// The run takes longer than all its deadlines together.
    #[error("the processes of the load generator did not finish within {0} s; stopped")]
    Endless(u64),
}

/// Told about progress until it answers when the talk starts (on the monotonic clock), and after that
/// to the end.
pub(crate) type Conduct<'a> = dyn FnMut(Progress) -> Result<Option<u64>, RunError> + 'a;

/// Runs this process's part of the run.
///
/// # Errors
/// [`RunError`]; nothing that a server does is one.
pub(crate) fn run(
    plan: &Plan,
    shard: Shard,
    threads: u64,
    publisher: Option<&Publisher>,
    conduct: &mut Conduct<'_>,
) -> Result<Tally, RunError> {
    let signals = Signals::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let worker = shard.index * threads + thread;
                let signals = &signals;
                scope.spawn(move || Worker::new(plan, signals, worker, shard.of * threads)?.run())
            })
            .collect();
        let early_end = || workers.iter().any(thread::ScopedJoinHandle::is_finished);
        let go_ns = wait_for_start(&signals, conduct, early_end);
        signals.go_ns.store(*go_ns.as_ref().unwrap_or(&CALLED_OFF), Ordering::Relaxed);
        let cpu_ns = clock::process_cpu_ns();
        let publishing = match (&go_ns, publisher) {
            (Ok(go_ns), Some(publisher)) if *go_ns != CALLED_OFF => {
                let go_ns = *go_ns;
                Some(scope.spawn(move || publisher.run(&plan.run, plan.text_bytes, go_ns, plan.talk_ns)))
            }
            _ => None,
        };
        while !workers.iter().all(thread::ScopedJoinHandle::is_finished) {
            conduct(signals.progress())?;
            thread::sleep(TICK);
        }
        let go_ns = go_ns?;
        let mut tally = Tally::default();
        for worker in workers {
            tally.merge(&joined(worker.join()).and_then(|result| result).map_err(RunError::Thread)?);
        }
        tally.cpu_ns = clock::process_cpu_ns() - cpu_ns;
        tally.wall_ns = clock::monotonic_ns().saturating_sub(go_ns);
        if let Some(publishing) = publishing {
            tally.merge(&joined(publishing.join()).map_err(RunError::Thread)?);
        }
        Ok(tally)
    })
}

fn joined<T>(result: thread::Result<T>) -> io::Result<T> {
    result.map_err(|_| io::Error::other("it panicked: this is a bug of danmu-load"))
}

fn wait_for_start(
    signals: &Signals,
    conduct: &mut Conduct<'_>,
    early_end: impl Fn() -> bool,
) -> Result<u64, RunError> {
    loop {
        if early_end() {
            return Ok(CALLED_OFF); // Its error is told when it is joined.
        }
        if let Some(go_ns) = conduct(signals.progress())? {
            return Ok(go_ns);
        }
        thread::sleep(TICK);
    }
}

impl Signals {
    fn progress(&self) -> Progress {
        Progress {
            joined: self.joined.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
        }
    }
}
