//! When the floor sends, and how much.

use std::sync::Arc;

use crate::floor::frames::{Message, SMALLEST, SMALLEST_MESSAGE};

/// What the floor sends from start to end. Times are nanoseconds after the start.
#[derive(Clone, Debug)]
pub(super) enum Pace {
    /// A recorded schedule, in order of time for each worker.
    Replay { sends: Arc<[Recorded]>, next: usize },
    /// Messages of one size at a steady rate.
    Steady { interval_ns: f64, messages: u32, bytes: usize, flush: Flush, next: u32 },
}

/// How messages become sends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Flush {
    /// One each.
    Strict,
    /// What is due goes out together.
    Merge,
    /// What is due goes out together, at the next multiple of so many nanoseconds.
    Tick(u64),
}

/// One line of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recorded {
    at_ns: u64,
    /// The worker of the server that wrote it; `None` is every thread.
    worker: Option<usize>,
    parts: Vec<Part>,
}

/// Bytes of one send to each of so many viewers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) bytes: usize,
    /// `usize::MAX` is all.
    pub(super) viewers: usize,
}

/// One send to every viewer, in up to two sizes: one a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) messages: Vec<Message>,
    pub(super) parts: Vec<Part>,
}

/// A pace that cannot be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadPace {
    #[error(
        "line {0} of the schedule is not `OFFSET_US FRAME_BYTES` or `OFFSET_US WORKER BYTES VIEWERS BYTES VIEWERS`, \
         in order of time: `{1}`"
    )]
    Line(usize, String),
    #[error("line {0} of the schedule is worker {1}'s: give --threads {threads} at least", threads = .1 + 1)]
    Worker(usize, usize),
    #[error("line {0} of the schedule: a frame has {SMALLEST} to 16777216 bytes")]
    Bytes(usize),
    #[error("the rate must be over 0 and at most 1000000 messages a second")]
    Rate,
    #[error("--duration must be 0 to 86400 s")]
    Duration,
    #[error("--tick needs 1 to 60000 ms")]
    Tick,
    #[error("--bytes must be {SMALLEST_MESSAGE} to 65536: a message carries its time")]
    MessageBytes,
}

impl Pace {
    /// Reads a schedule for `threads` threads: lines `OFFSET_US FRAME_BYTES`, sent to all, or as
    /// `danmu-server --record-flushes` writes them; empty lines and those with `#` are skipped.
    ///
    /// # Errors
    /// [`BadPace`] names the line.
    pub(super) fn replay(text: &str, threads: usize) -> Result<Pace, BadPace> {
        let mut sends: Vec<Recorded> = Vec::new();
        let mut last_ns = vec![0; threads];
        for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = || BadPace::Line(number, line.chars().take(60).collect());
            let recorded = Recorded::parse(line).ok_or_else(bad)?;
            if recorded.parts.iter().any(|part| !(SMALLEST..=16 * 1024 * 1024).contains(&part.bytes)) {
                return Err(BadPace::Bytes(number));
            }
            // A server's workers finish the same flush one after the other, so only a worker's own
            // lines are in order.
            let worker = recorded.worker.unwrap_or(0);
            let last = last_ns.get_mut(worker).ok_or(BadPace::Worker(number, worker))?;
            if recorded.at_ns < *last {
                return Err(bad());
            }
            *last = recorded.at_ns;
            sends.push(recorded);
        }
        Ok(Pace::Replay { sends: sends.into(), next: 0 })
    }

    /// The part of it that one thread sends.
    pub(super) fn of_thread(&self, thread: usize) -> Pace {
        match self {
            Pace::Replay { sends, .. } => {
                let mine = |send: &&Recorded| send.worker.is_none_or(|worker| worker == thread);
                Pace::Replay { sends: sends.iter().filter(mine).cloned().collect(), next: 0 }
            }
            steady @ Pace::Steady { .. } => steady.clone(),
        }
    }

    /// `rate` messages a second of `bytes` each for `seconds`.
    ///
    /// # Errors
    /// [`BadPace`] says what is out of range.
    pub(super) fn steady(
        rate: f64,
        seconds: f64,
        bytes: usize,
        strict: bool,
        tick_ms: Option<f64>,
    ) -> Result<Pace, BadPace> {
        if !(f64::MIN_POSITIVE..=1e6).contains(&rate) {
            return Err(BadPace::Rate);
        }
        if !(0.0..=86_400.0).contains(&seconds) {
            return Err(BadPace::Duration);
        }
        if tick_ms.is_some_and(|tick_ms| !(1.0..=60_000.0).contains(&tick_ms)) {
            return Err(BadPace::Tick);
        }
        if !(SMALLEST_MESSAGE..=65_536).contains(&bytes) {
            return Err(BadPace::MessageBytes);
        }
        let flush = match tick_ms {
            _ if strict => Flush::Strict,
            Some(tick_ms) => Flush::Tick((tick_ms * 1e6) as u64),
            None => Flush::Merge,
        };
        let messages = (rate * seconds).round() as u32;
        Ok(Pace::Steady { interval_ns: 1e9 / rate, messages, bytes, flush, next: 0 })
    }

    /// When the next send is due; `None` at the end.
    pub(super) fn next_ns(&self) -> Option<u64> {
        match self {
            Pace::Replay { sends, next } => sends.get(*next).map(|send| send.at_ns),
            Pace::Steady { interval_ns, messages, flush, next, .. } => {
                let due_ns = (f64::from(*next) * interval_ns) as u64;
                (next < messages).then_some(match flush {
                    Flush::Tick(tick_ns) => due_ns.next_multiple_of(*tick_ns),
                    Flush::Strict | Flush::Merge => due_ns,
                })
            }
        }
    }

    /// What is to be sent at `now_ns`, which is not before [`Pace::next_ns`].
    pub(super) fn take(&mut self, now_ns: u64) -> Option<Batch> {
        match self {
            Pace::Replay { sends, next } => {
                let send = sends.get(*next)?;
                *next += 1;
                let message = Message { sequence: *next as u32 - 1, due_ns: send.at_ns };
                Some(Batch { messages: vec![message], parts: send.parts.clone() })
            }
            Pace::Steady { interval_ns, messages, bytes, flush, next } => {
                let mut batch = Vec::new();
                while next < messages {
                    let due_ns = (f64::from(*next) * *interval_ns) as u64;
                    if due_ns > now_ns || (*flush == Flush::Strict && !batch.is_empty()) {
                        break;
                    }
                    batch.push(Message { sequence: *next, due_ns });
                    *next += 1;
                }
                let parts = vec![Part { bytes: batch.len() * *bytes, viewers: usize::MAX }];
                (!batch.is_empty()).then_some(Batch { messages: batch, parts })
            }
        }
    }
}

impl Recorded {
    fn parse(line: &str) -> Option<Recorded> {
        let numbers: Vec<u64> =
            line.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        let part = |bytes: u64, viewers: u64| Part { bytes: bytes as usize, viewers: viewers as usize };
        let (offset_us, worker, parts) = match numbers[..] {
            [offset_us, bytes] => (offset_us, None, vec![part(bytes, u64::MAX)]),
            [offset_us, worker, json, json_viewers, deflate, deflate_viewers] => {
                let mut parts = vec![part(json, json_viewers), part(deflate, deflate_viewers)];
                parts.retain(|part| part.viewers > 0);
                (offset_us, Some(worker as usize), parts)
            }
            _ => return None,
        };
        Some(Recorded { at_ns: offset_us.checked_mul(1000)?, worker, parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady(strict: bool, tick_ms: Option<f64>) -> Pace {
        Pace::steady(100.0, 0.05, 120, strict, tick_ms).unwrap()
    }

    /// (when, messages) of each send by a sender that needs 25 ms for each.
    fn sends(mut pace: Pace) -> Vec<(u64, usize)> {
        let (mut now_ns, mut sends) = (0, Vec::new());
        while let Some(next_ns) = pace.next_ns() {
            now_ns = next_ns.max(now_ns);
            let batch = pace.take(now_ns).unwrap();
            sends.push((now_ns / 1_000_000, batch.messages.len()));
            now_ns += 25_000_000;
        }
        sends
    }

    #[test]
    fn strict_sends_each_message_alone_however_late() {
        assert_eq!(sends(steady(true, None)), [(0, 1), (25, 1), (50, 1), (75, 1), (100, 1)]);
    }

    #[test]
    fn merge_sends_at_once_what_came_during_the_last_fan_out() {
        assert_eq!(sends(steady(false, None)), [(0, 1), (25, 2), (50, 2)]);
    }

    #[test]
    fn a_tick_collects_its_messages() {
        assert_eq!(sends(steady(false, Some(30.0))), [(0, 1), (30, 3), (60, 1)]);
    }

    #[test]
    fn a_schedule_is_replayed_line_by_line() {
        let mut pace = Pace::replay("# recorded\n0 120\n\n1500 4\n", 1).unwrap();
        assert_eq!(pace.next_ns(), Some(0));
        assert_eq!(pace.take(9).unwrap().parts, [Part { bytes: 120, viewers: usize::MAX }]);
        assert_eq!(pace.next_ns(), Some(1_500_000));
        assert_eq!(pace.take(1_500_000).unwrap().parts[0].bytes, 4);
        assert_eq!((pace.next_ns(), pace.take(u64::MAX)), (None, None));
    }

    #[test]
    fn a_recorded_schedule_gives_each_thread_its_worker() {
        let text = "0 0 120 5 0 0\n9 1 130 4 90 2\n5 0 140 5 0 0\n";
        let pace = Pace::replay(text, 2).unwrap();
        let (mut first, mut second) = (pace.of_thread(0), pace.of_thread(1));
        assert_eq!(first.take(0).unwrap().parts, [Part { bytes: 120, viewers: 5 }]);
        assert_eq!(first.next_ns(), Some(5000));
        let parts = [Part { bytes: 130, viewers: 4 }, Part { bytes: 90, viewers: 2 }];
        assert_eq!(second.take(9000).unwrap().parts, parts);
        assert_eq!(second.next_ns(), None);
    }

    #[test]
    fn a_bad_schedule_names_its_line() {
        for bad in [
            "0 120\nx 120",
            "0 120\n5",
            "9 120\n5 120",
            "0 120\n1 3",
            "0 120\n1 99999999999",
            "0 0 120 9 0 0\n1 1 120 9 0 0",
        ] {
            let told = Pace::replay(bad, 1).unwrap_err().to_string();
            assert!(told.starts_with("line 2 of the schedule"), "{bad}: {told}");
        }
    }
}
