//! Putting the priority lane in order: pub/sub is the bell, the stream is the log.
//!
//! No I/O. [`Sequence::push`] takes what pub/sub brings, in any order and with holes; [`Sequence::loaded`]
//! takes what the log says. Between the two every event is answered once, in order, or its loss is told.

use std::collections::BTreeMap;

use danmu_wire::Event;

/// Events kept while an earlier one is missing. More than that comes out of the log again.
const HELD: usize = 256;

/// What to do after a push.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Nothing: seen before, or waiting for a load that is under way.
    Wait,
    /// Deliver these.
    Deliver(Vec<Event>),
    /// Something is missing: load the log after [`Sequence::offset`].
    Load,
}

/// What a load brought.
#[derive(Debug, Default, PartialEq)]
pub struct Loaded {
    /// The lane began anew: everybody has to be told, and `events` are the new epoch's.
    pub anew: bool,
    /// Events that nobody has any more.
    pub lost: u64,
    /// To deliver, in order.
    pub events: Vec<Event>,
    /// Something came meanwhile that this load did not hold: load again.
    pub again: bool,
}

/// One room's place in its priority lane.
#[derive(Debug, Default)]
pub struct Sequence {
    epoch: String,
    offset: u64,
    held: BTreeMap<u64, Event>,
    loading: bool,
    /// A push of another epoch came while a load was under way.
    again: bool,
}

impl Sequence {
    /// The epoch; empty before the first load.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The last offset that was answered.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether a load is under way.
    pub fn is_loading(&self) -> bool {
        self.loading
    }

    /// Notes that a load is under way; whether it has to be started.
    pub fn start_load(&mut self) -> bool {
        !std::mem::replace(&mut self.loading, true)
    }

    /// The load failed: the next push or check starts another.
    pub fn load_failed(&mut self) {
        self.loading = false;
    }

    /// An event could not be delivered: it and all after it count as not answered. The caller loads later.
    pub fn take_back(&mut self, offset: u64) {
        self.offset = self.offset.min(offset.saturating_sub(1));
        self.held.clear();
    }

    /// Takes an event of pub/sub.
    pub fn push(&mut self, epoch: &str, offset: u64, event: Event) -> Step {
        if epoch != self.epoch {
            self.again |= self.loading;
            return if self.loading { Step::Wait } else { Step::Load };
        }
        if offset <= self.offset {
            return Step::Wait;
        }
        if offset == self.offset + 1 && !self.loading {
            self.offset = offset;
            let mut ready = vec![event];
            self.release(&mut ready);
            return Step::Deliver(ready);
        }
        if self.held.len() < HELD {
            self.held.insert(offset, event);
        } else {
            self.again |= self.loading;
        }
        if self.loading { Step::Wait } else { Step::Load }
    }

    /// Takes the log: its epoch, its highest offset, and its events after [`Sequence::offset`] (all of
    /// them when the epoch is another one).
    pub fn loaded(&mut self, epoch: &str, top: u64, events: Vec<(u64, Event)>) -> Loaded {
        self.loading = false;
        let anew = epoch != self.epoch;
        if anew {
            epoch.clone_into(&mut self.epoch);
            self.offset = 0;
            self.held.clear();
        }
        let mut loaded = Loaded { anew, again: std::mem::take(&mut self.again), ..Loaded::default() };
        let mut last = self.offset;
        for (offset, event) in events {
            if offset > last {
                loaded.lost += offset - last - 1;
                last = offset;
                loaded.events.push(event);
            }
        }
        if top > last {
            loaded.lost += top - last;
            last = top;
        }
        self.offset = last;
        self.held.retain(|offset, _| *offset > last);
        self.release(&mut loaded.events);
        loaded.again |= !self.held.is_empty();
        loaded
    }

    fn release(&mut self, ready: &mut Vec<Event>) {
        while let Some(event) = self.held.remove(&(self.offset + 1)) {
            self.offset += 1;
            ready.push(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use danmu_wire::Gift;
    use proptest::prelude::*;

    use super::*;

    fn gift(offset: u64) -> Event {
        Event::Gift(Gift { offset, ..Gift::default() })
    }

    fn offsets(events: &[Event]) -> Vec<u64> {
        events.iter().filter_map(Event::offset).collect()
    }

    fn at(epoch: &str, offset: u64) -> Sequence {
        let mut sequence = Sequence::default();
        sequence.start_load();
        sequence.loaded(epoch, offset, Vec::new());
        sequence
    }

    #[test]
    fn a_hole_is_filled_from_the_log_and_what_came_after_it_is_not_lost() {
        let mut sequence = at("E", 3);
        assert_eq!(sequence.push("E", 5, gift(5)), Step::Load);
        assert!(sequence.start_load());
        assert_eq!(sequence.push("E", 6, gift(6)), Step::Wait);
        let loaded = sequence.loaded("E", 5, vec![(4, gift(4)), (5, gift(5))]);
        assert_eq!((offsets(&loaded.events), loaded.lost, loaded.again), (vec![4, 5, 6], 0, false));
    }

    #[test]
    fn what_the_log_no_longer_has_is_told() {
        let mut sequence = at("E", 3);
        sequence.start_load();
        let loaded = sequence.loaded("E", 9, vec![(8, gift(8)), (9, gift(9))]);
        assert_eq!((offsets(&loaded.events), loaded.lost), (vec![8, 9], 4));
    }

    #[test]
    fn another_epoch_starts_anew_even_when_it_shows_up_during_a_load() {
        let mut sequence = at("E", 3);
        assert_eq!(sequence.push("F", 1, gift(1)), Step::Load);
        sequence.start_load();
        let loaded = sequence.loaded("F", 1, vec![(1, gift(1))]);
        assert!(loaded.anew && loaded.lost == 0);
        sequence.start_load();
        assert_eq!(sequence.push("G", 1, gift(1)), Step::Wait);
        assert!(sequence.loaded("F", 1, Vec::new()).again);
    }

    #[test]
    fn an_undelivered_event_comes_again_from_the_log() {
        let mut sequence = at("E", 0);
        assert_eq!(sequence.push("E", 1, gift(1)), Step::Deliver(vec![gift(1)]));
        sequence.take_back(1);
        sequence.start_load();
        assert_eq!(offsets(&sequence.loaded("E", 1, vec![(1, gift(1))]).events), [1]);
    }

    proptest! {
        /// Pub/sub that drops, doubles and reorders, with loads that succeed or fail at any moment: every
        /// event up to the last load comes out once and in order.
        #[test]
        fn each_event_once_and_in_order(pushes in proptest::collection::vec((1u64..40, 0u8..6), 0..200)) {
            let mut sequence = at("E", 0);
            let (mut top, mut out) = (0, Vec::new());
            for (offset, what) in pushes {
                top = top.max(offset);
                let step = match what {
                    0..=3 => sequence.push("E", offset, gift(offset)),
                    _ => Step::Load,
                };
                match step {
                    Step::Wait => {}
                    Step::Deliver(events) => out.extend(offsets(&events)),
                    Step::Load if sequence.start_load() && what != 4 => {
                        let log = (sequence.offset() + 1..=top).map(|o| (o, gift(o))).collect();
                        let loaded = sequence.loaded("E", top, log);
                        prop_assert_eq!(loaded.lost, 0);
                        out.extend(offsets(&loaded.events));
                    }
                    Step::Load => sequence.load_failed(),
                }
            }
            sequence.start_load();
            let log = (sequence.offset() + 1..=top).map(|o| (o, gift(o))).collect();
            out.extend(offsets(&sequence.loaded("E", top, log).events));
            prop_assert_eq!(out, (1..=top).collect::<Vec<_>>());
        }
    }
}
