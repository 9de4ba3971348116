//! The benchmark's floor: a bare loop of send(2) of ready frames to as many sockets as a server has
//! viewers. What a server costs over this is the server's own.

mod accept;
mod frames;
mod pace;
mod replay;

use std::{
    fs, io,
    net::TcpStream,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    clock,
    floor::{
        pace::{BadPace, Pace},
        replay::{Sent, replay},
    },
    options::{FloorOptions, FloorPlan, open_files},
};

/// How long to wait for the viewers to leave after the last frame.
const PARTING: Duration = Duration::from_secs(60);

/// A floor that cannot be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FloorError {
    #[error(transparent)]
    Pace(#[from] BadPace),
    #[error("cannot read the schedule {0}: {1}")]
    Schedule(PathBuf, io::Error),
    #[error("{viewers} viewers need more open files than the limit of {limit}: raise it (ulimit -n)")]
    Files { viewers: usize, limit: u64 },
    #[error("{name} must be {range}")]
    Range { name: &'static str, range: &'static str },
    #[error("cannot serve viewers: {0}")]
    Accept(#[from] io::Error),
    #[error("only {here} of {expected} viewers came within {seconds} s")]
    Alone { here: usize, expected: usize, seconds: u64 },
    #[error("a sending thread panicked: this is a bug of danmu-load")]
    Panicked,
}

impl FloorError {
    /// Whether other options would help.
    pub(crate) const fn is_usage(&self) -> bool {
        !matches!(self, FloorError::Accept(_) | FloorError::Alone { .. } | FloorError::Panicked)
    }
}

/// Waits for viewers, sends what was asked for, prints what it cost.
///
/// # Errors
/// [`FloorError`] in words for people.
pub(crate) fn run(options: &FloorOptions) -> Result<(), FloorError> {
    if !(1..=256).contains(&options.threads) {
        return Err(FloorError::Range { name: "--threads", range: "1 to 256" });
    }
    let pace = pace(options)?;
    let (viewers, limit) = (options.viewers, open_files());
    if viewers as u64 + 100 > limit {
        return Err(FloorError::Files { viewers, limit });
    }
    let mut sockets = accept::accept(options.listen, viewers, options.start_on_stdin)?;
    let connected = sockets.len();
    let start_ns = clock::monotonic_ns() + options.start_after * 1_000_000;
    thread::sleep(Duration::from_millis(options.start_after));

    let share = connected.div_ceil(options.threads).max(1);
    let (cpu_ns, wall) = (clock::process_cpu_ns(), Instant::now());
    let sent = thread::scope(|scope| {
        let threads: Vec<_> = sockets
            .chunks_mut(share)
            .enumerate()
            .map(|(thread, part)| {
                let pace = pace.of_thread(thread);
                scope.spawn(move || replay(part, pace, start_ns))
            })
            .collect();
        let mut all = Sent::default();
        for thread in threads {
            all.add(&thread.join().map_err(|_| FloorError::Panicked)?);
        }
        Ok::<_, FloorError>(all)
    })?;
    let (cpu_ns, wall) = (clock::process_cpu_ns() - cpu_ns, wall.elapsed());

    println!(
        "{}",
        json!({
            "viewers": connected,
            "sends": sent.sends,
            "bytes": sent.bytes,
            "batches": sent.batches,
            "messages": sent.messages,
            "deliveries": sent.deliveries,
            "eagains": sent.eagains,
            "partials": sent.partials,
            "gone": sent.gone,
            "cpu_seconds": cpu_ns as f64 / 1e9,
            "cpu_us_per_send": cpu_ns as f64 / 1e3 / sent.sends.max(1) as f64,
            "wall_seconds": wall.as_secs_f64(),
        })
    );
    wait_for_goodbyes(sockets.into_iter().map(|socket| socket.stream));
    Ok(())
}

fn pace(options: &FloorOptions) -> Result<Pace, FloorError> {
    let FloorPlan { schedule, strict, merge, tick } = &options.plan;
    if let Some(path) = schedule {
        let text = fs::read_to_string(path).map_err(|error| FloorError::Schedule(path.clone(), error))?;
        return Ok(Pace::replay(&text, options.threads)?);
    }
    let tick_ms = tick.as_ref().and_then(|tick| tick.first().copied());
    let rate = strict.or(*merge).or(tick.as_ref().and_then(|tick| tick.get(1).copied())).unwrap_or(0.0);
    Ok(Pace::steady(rate, options.duration, options.bytes, strict.is_some(), tick_ms)?)
}

/// A viewer's first bytes after the handshake are its goodbye.
fn wait_for_goodbyes(viewers: impl Iterator<Item = TcpStream>) {
    let end = Instant::now() + PARTING;
    for mut viewer in viewers {
        let rest = end.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return;
        }
        // Whatever comes, or nothing: the socket is closed after it.
        let _ = viewer.set_nonblocking(false).and_then(|()| viewer.set_read_timeout(Some(rest)));
        let _ = io::Read::read(&mut viewer, &mut [0; 16]);
    }
}
