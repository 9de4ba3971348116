//! What a viewer has seen: its place on the priority lane, and the ids of messages.

use std::collections::{HashSet, VecDeque};

use danmu_wire::{Event, Joined, Position};

/// Ids remembered to drop duplicates: minutes of a busy room.
const REMEMBERED: usize = 2_000;

/// What of the lane one connection tells for the second time.
#[derive(Debug, Default)]
pub(crate) struct Joining {
    /// The epoch as this connection knows it; offsets from it count in this one only.
    epoch: String,
    /// How far the lane was seen when it joined.
    already: u64,
}

/// What was seen, over all connections.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    epoch: String,
    offset: u64,
    /// The last place that was handed out: a gift may stand for several before it.
    shown: u64,
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Seen {
    pub(crate) fn from(since: Option<Position>) -> Seen {
        let (epoch, offset) = since.map(|since| (since.epoch, since.offset)).unwrap_or_default();
        Seen { epoch, offset, ..Seen::default() }
    }

    pub(crate) fn position(&self) -> Option<Position> {
        (!self.epoch.is_empty()).then(|| Position { epoch: self.epoch.clone(), offset: self.offset })
    }

    /// A connection has joined: leaves only what is new of its history, and answers whether something of the
    /// priority lane is lost.
    pub(crate) fn join(&mut self, joining: &mut Joining, joined: &mut Joined) -> bool {
        let lost = !self.epoch.is_empty() && !joined.recovered;
        let same = joined.epoch == self.epoch;
        joining.already = if same { self.offset } else { 0 };
        joining.epoch.clone_from(&joined.epoch);
        if !same {
            self.shown = 0;
        }
        self.offset = if same { self.offset.max(joined.offset) } else { joined.offset };
        self.epoch.clone_from(&joined.epoch);
        joined.history.retain(|chat| self.is_first(&chat.id));
        lost
    }

    /// Whether an event is to be handed out; follows the position. `current` is the connection that counts.
    pub(crate) fn take(&mut self, joining: &mut Joining, event: &Event, current: bool) -> bool {
        let same = joining.epoch == self.epoch;
        // An offset of 0 is that of an event without a place on the lane.
        let offset = event.offset().filter(|offset| *offset > 0);
        if same && offset.is_some_and(|offset| offset <= joining.already.max(self.shown)) {
            return false;
        }
        if let Some(id) = event.id()
            && !self.is_first(id)
        {
            return false;
        }
        if let Event::Gap(gap) = event
            && let Some(epoch) = &gap.epoch
        {
            // What was seen of the old epoch is no position any more.
            if current {
                *self = Seen { epoch: epoch.clone(), offset: 0, shown: 0, ..std::mem::take(self) };
            }
            *joining = Joining { epoch: epoch.clone(), already: 0 };
        }
        if let Some(offset) = offset.filter(|_| joining.epoch == self.epoch) {
            self.offset = self.offset.max(offset);
            self.shown = self.shown.max(offset);
        }
        true
    }

    fn is_first(&mut self, id: &str) -> bool {
        // `enter` has none.
        if id.is_empty() {
            return true;
        }
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use danmu_wire::{Chat, Gap, Gift, Lane, Removed};

    use super::*;

    fn gift(offset: u64) -> Event {
        Event::Gift(Gift { id: format!("g{offset}"), offset, gift: "rose".into(), ..Gift::default() })
    }

    fn chat(id: &str) -> Chat {
        Chat { id: id.into(), text: id.into(), ..Chat::default() }
    }

    fn joins(seen: &mut Seen, epoch: &str, offset: u64, recovered: bool) -> (Joining, bool) {
        let mut joining = Joining::default();
        let mut joined = Joined { epoch: epoch.into(), offset, recovered, ..Joined::default() };
        let lost = seen.join(&mut joining, &mut joined);
        (joining, lost)
    }

    #[test]
    fn what_is_recovered_after_a_cut_follows_once_and_in_order() {
        let mut seen = Seen::default();
        let (mut first, lost) = joins(&mut seen, "E", 4, false);
        assert!(!lost, "nothing was seen before");
        assert!(seen.take(&mut first, &gift(5), true));
        let (mut second, lost) = joins(&mut seen, "E", 7, true);
        assert!(!lost);
        let taken: Vec<bool> = [5, 6, 7, 8].map(|offset| seen.take(&mut second, &gift(offset), true)).into();
        assert_eq!(taken, [false, true, true, true]);
        assert_eq!(seen.position(), Some("E.8".parse().unwrap()));
    }

    #[test]
    fn while_two_connections_are_open_each_message_comes_once() {
        let mut seen = Seen::default();
        let (mut old, _) = joins(&mut seen, "E", 0, false);
        let (mut new, _) = joins(&mut seen, "E", 0, true);
        assert!(seen.take(&mut old, &gift(1), false));
        assert!(!seen.take(&mut new, &gift(1), true));
        assert!(seen.take(&mut new, &Event::Chat(chat("c")), true));
        assert!(!seen.take(&mut old, &Event::Chat(chat("c")), false));
        let removed = Event::Removed(Removed { offset: 2, all: true, ..Removed::default() });
        assert!(seen.take(&mut new, &removed, true));
        assert!(!seen.take(&mut old, &removed, false));
    }

    #[test]
    fn a_new_epoch_begins_at_nothing_and_is_told_as_a_loss_to_who_comes_back() {
        let mut seen = Seen::default();
        let (mut link, _) = joins(&mut seen, "E", 9, false);
        let gap = Event::Gap(Gap { lane: Lane::Priority, dropped: None, epoch: Some("F".into()) });
        assert!(seen.take(&mut link, &gap, true));
        assert!(seen.take(&mut link, &gift(1), true));
        assert_eq!(seen.position(), Some("F.1".parse().unwrap()));
        let (_, lost) = joins(&mut seen, "G", 0, false);
        assert!(lost);
    }

    #[test]
    fn the_history_tells_only_what_is_new_and_memory_is_bounded() {
        let mut seen = Seen::default();
        let (mut link, _) = joins(&mut seen, "E", 0, false);
        assert!(seen.take(&mut link, &Event::Chat(chat("a")), true));
        let mut joined =
            Joined { epoch: "E".into(), history: vec![chat("a"), chat("b")], ..Joined::default() };
        seen.join(&mut Joining::default(), &mut joined);
        assert_eq!(joined.history, [chat("b")]);
        for number in 0..10_000 {
            seen.take(&mut link, &Event::Chat(chat(&format!("n{number}"))), true);
        }
        assert_eq!((seen.ids.len(), seen.order.len()), (REMEMBERED, REMEMBERED));
    }
}
