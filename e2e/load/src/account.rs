//! One viewer's account: what it was delivered, what it was told it missed.

/// Whether a message was delivered before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Not before.
    First,
    /// Before: a duplicate.
    Again,
    /// So far out of order that it is not known any more; counted as first, and told.
    Unknown,
}

/// How far out of order messages may come (several servers need not agree on an order) and still be
/// told apart from duplicates.
#[cfg(test)]
const WINDOW: u32 = u128::BITS;

/// One viewer's account.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    highest: u32,
    /// Bit k: message `highest - k` was delivered.
    recent: u128,
    /// The priority lane.
    pub(crate) priority: PriorityAccount,
    /// Messages of the run delivered, duplicates left out; a merged chat counts as often as it says.
    pub(crate) received: u64,
    /// Chats the viewer was told it missed.
    pub(crate) told: u64,
    /// A gap without a number was told: whatever is missing was told.
    pub(crate) open_gap: bool,
    /// It was on more than one connection: what both brought is no fault.
    pub(crate) followed: bool,
}

/// One viewer's account of the priority lane.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PriorityAccount {
    /// The epoch it is in; `None` before the first `joined`.
    pub(crate) epoch: Option<u32>,
    /// The highest offset so far.
    pub(crate) offset: u64,
    /// Events of the run that were delivered.
    pub(crate) received: u64,
    /// Offsets that were passed over.
    pub(crate) missing: u64,
    /// Events the viewer was told it missed.
    pub(crate) told: u64,
    /// A gap without a number was told.
    pub(crate) open_gap: bool,
}

impl Account {
    /// Notes the message with this number (from 1, in the order the viewers' thread first saw them).
    pub(crate) fn note(&mut self, number: u32, times: u32) -> Sight {
        let sight = self.sight(number);
        if sight != Sight::Again {
            self.received += u64::from(times);
        }
        sight
    }

    fn sight(&mut self, number: u32) -> Sight {
        if number > self.highest {
            self.recent = self.recent.checked_shl(number - self.highest).unwrap_or(0) | 1;
            self.highest = number;
            return Sight::First;
        }
        match 1_u128.checked_shl(self.highest - number) {
            None => Sight::Unknown,
            Some(bit) if self.recent & bit != 0 => Sight::Again,
            Some(bit) => {
                self.recent |= bit;
                Sight::First
            }
        }
    }
}

impl PriorityAccount {
    /// The lane stands at `offset` of `epoch` when the viewer joins. One that comes back and is told
    /// `recovered` gets what it missed next; otherwise it was told that something is gone.
    pub(crate) fn join(&mut self, epoch: u32, offset: u64, recovered: bool) {
        match self.epoch {
            Some(before) if before == epoch && recovered => {}
            before => {
                self.open_gap |= before.is_some() && !recovered;
                (self.epoch, self.offset) = (Some(epoch), offset);
            }
        }
    }

    /// Something is gone: so many events, or nobody knows how many; with an epoch the lane begins anew.
    pub(crate) fn gap(&mut self, dropped: Option<u64>, epoch: Option<u32>) {
        self.told += dropped.unwrap_or(0);
        self.open_gap |= dropped.is_none();
        if epoch.is_some() {
            (self.epoch, self.offset) = (epoch, 0);
        }
    }

    /// Notes an event; `own` when it is of this run. Every offset is the last one plus one, or
    /// something is missing; an offset that does not grow was delivered before.
    pub(crate) fn note(&mut self, offset: u64, own: bool) -> Sight {
        if offset <= self.offset {
            return Sight::Again;
        }
        self.missing += offset - self.offset - 1;
        self.offset = offset;
        self.received += u64::from(own);
        Sight::First
    }

    /// Offsets passed over of which the viewer was told nothing.
    pub(crate) const fn untold(&self) -> u64 {
        if self.open_gap { 0 } else { self.missing.saturating_sub(self.told) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn within_the_window_each_message_counts_once(
            numbers in prop::collection::vec(1_u32..127, 0..300),
        ) {
            let mut account = Account::default();
            let mut before = HashSet::new();
            for number in numbers {
                let expected = if before.insert(number) { Sight::First } else { Sight::Again };
                prop_assert_eq!(account.note(number, 1), expected);
            }
            prop_assert_eq!(account.received, before.len() as u64);
        }
    }

    #[test]
    fn what_is_older_than_the_window_is_not_judged() {
        let mut account = Account::default();
        assert_eq!(account.note(1000, 1), Sight::First);
        assert_eq!(account.note(1000 - WINDOW, 1), Sight::Unknown);
        assert_eq!(account.note(1000 - WINDOW + 1, 1), Sight::First);
        assert_eq!(account.note(1000 - WINDOW + 1, 1), Sight::Again);
    }

    #[test]
    fn a_merged_chat_counts_as_often_as_it_says() {
        let mut account = Account::default();
        account.note(1, 5);
        account.note(1, 5);
        assert_eq!(account.received, 5);
    }

    #[test]
    fn who_comes_back_goes_on_where_it_was_unless_it_is_told_otherwise() {
        let mut lane = PriorityAccount::default();
        lane.join(0, 10, false);
        assert!(!lane.open_gap, "who comes first has missed nothing");
        lane.join(0, 13, true);
        assert_eq!(lane.note(11, true), Sight::First);
        lane.join(0, 20, false);
        assert_eq!((lane.offset, lane.open_gap, lane.missing), (20, true, 0));
        lane.join(1, 3, false);
        assert_eq!((lane.epoch, lane.offset), (Some(1), 3));
    }

    #[test]
    fn a_gap_with_an_epoch_begins_the_lane_anew() {
        let mut lane = PriorityAccount::default();
        lane.join(0, 10, false);
        lane.gap(None, Some(1));
        assert_eq!(lane.note(1, true), Sight::First, "offsets count from 1 again");
        lane.join(1, 2, true);
        assert_eq!(lane.note(2, true), Sight::First);
        assert_eq!((lane.epoch, lane.missing, lane.open_gap), (Some(1), 0, true));
    }

    #[test]
    fn a_missing_offset_is_a_loss_unless_it_was_told() {
        let mut lane = PriorityAccount::default();
        lane.join(0, 10, false);
        assert_eq!(lane.note(11, true), Sight::First);
        assert_eq!(lane.note(11, true), Sight::Again);
        assert_eq!(lane.note(14, false), Sight::First);
        assert_eq!((lane.received, lane.missing, lane.untold()), (1, 2, 2));
        lane.told += 1;
        assert_eq!(lane.untold(), 1);
        lane.open_gap = true;
        assert_eq!(lane.untold(), 0);
    }
}
