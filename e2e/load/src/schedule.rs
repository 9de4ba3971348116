//! Which of a thread's speakers sends when.

/// One message to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// Nanoseconds after the start of the talk.
    pub(crate) at_ns: u64,
    /// The thread's own number of the viewer.
    pub(crate) viewer: usize,
    /// How many messages this speaker sent before.
    pub(crate) sequence: u32,
}

/// A thread's part of the run's messages, in the order of their times.
#[derive(Debug)]
pub(crate) enum Schedule {
    /// Message `k` of the run is due at `k` / rate and belongs to speaker `k` modulo speakers, so
    /// the threads' parts interleave evenly without talking to each other.
    Paced {
        /// Time between two messages of the run.
        interval_ns: f64,
        /// Speakers of the run.
        of_all: u64,
        /// This thread's: its own number and the run's number of each speaker, ascending.
        speakers: Vec<(usize, u64)>,
        /// No message is due from here on.
        until_ns: u64,
        /// The next one's round and place in `speakers`.
        next: (u32, usize),
    },
    /// Each viewer once, soonest last.
    Once(Vec<Due>),
}

impl Schedule {
    /// The next message that is due at all, without taking it.
    pub(crate) fn peek(&self) -> Option<Due> {
        match self {
            Schedule::Paced { interval_ns, of_all, speakers, until_ns, next: (round, place) } => {
                let (viewer, speaker) = *speakers.get(*place)?;
                let message = u64::from(*round) * of_all + speaker;
                let at_ns = (message as f64 * interval_ns) as u64;
                (at_ns < *until_ns).then_some(Due { at_ns, viewer, sequence: *round })
            }
            Schedule::Once(rest) => rest.last().copied(),
        }
    }

    /// The next message if it is due by `now_ns`.
    pub(crate) fn take(&mut self, now_ns: u64) -> Option<Due> {
        let due = self.peek().filter(|due| due.at_ns <= now_ns)?;
        match self {
            Schedule::Paced { speakers, next: (round, place), .. } => {
                *place += 1;
                if *place == speakers.len() {
                    (*round, *place) = (*round + 1, 0);
                }
            }
            Schedule::Once(rest) => {
                rest.pop();
            }
        }
        Some(due)
    }

    /// Each of `viewers` once, at `random()` (0 to 1) of `within_ns`.
    pub(crate) fn once(viewers: &[usize], within_ns: u64, mut random: impl FnMut() -> f64) -> Schedule {
        let mut all: Vec<Due> = viewers
            .iter()
            .map(|&viewer| Due { at_ns: (random() * within_ns as f64) as u64, viewer, sequence: 0 })
            .collect();
        all.sort_by_key(|due| std::cmp::Reverse(due.at_ns));
        Schedule::Once(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paced(speakers: Vec<(usize, u64)>) -> Schedule {
        Schedule::Paced { interval_ns: 10.0, of_all: 4, speakers, until_ns: 100, next: (0, 0) }
    }

    fn all(mut schedule: Schedule) -> Vec<Due> {
        std::iter::from_fn(|| schedule.take(u64::MAX)).collect()
    }

    #[test]
    fn two_threads_send_every_message_of_the_run_once_and_evenly() {
        let mut due: Vec<u64> = all(paced(vec![(0, 0), (1, 2)]))
            .into_iter()
            .chain(all(paced(vec![(0, 1), (1, 3)])))
            .map(|due| due.at_ns)
            .collect();
        due.sort_unstable();
        assert_eq!(due, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
    }

    #[test]
    fn a_message_is_not_taken_before_its_time() {
        let mut schedule = paced(vec![(0, 1)]);
        assert_eq!(schedule.take(9), None);
        assert_eq!(schedule.take(10), Some(Due { at_ns: 10, viewer: 0, sequence: 0 }));
        assert_eq!(schedule.peek(), Some(Due { at_ns: 50, viewer: 0, sequence: 1 }));
    }

    #[test]
    fn without_speakers_nothing_is_due() {
        assert_eq!(all(paced(vec![])), []);
    }

    #[test]
    fn once_lets_every_viewer_send_once_in_order_of_time() {
        let mut times = [0.9, 0.1, 0.5].into_iter();
        let due = all(Schedule::once(&[3, 4, 5], 1000, || times.next().unwrap()));
        let order: Vec<_> = due.iter().map(|due| (due.viewer, due.at_ns)).collect();
        assert_eq!(order, [(4, 100), (5, 500), (3, 900)]);
    }
}
