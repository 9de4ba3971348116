//! One room as a state machine: no I/O, no clock of its own. [`super::Rooms`] drives it.
//!
//! A quiet room's message goes out at once. Whatever arrives while a fan-out runs goes out as one
//! batch after it. Over [`Settings::tick_over`] messages a second flushes are also at least
//! [`Settings::tick`] apart: cost is viewers × flushes, so this is the one large lever there is.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use danmu_wire::{Chat, Event, Gap, Lane, Position, Stats};

use crate::relay::{self, Opening};

/// How a room batches and remembers.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Messages a second over which the room ticks.
    pub tick_over: u32,
    /// Least time between two flushes of a ticking room.
    pub tick: Duration,
    /// Chats kept for viewers who join.
    pub history: usize,
    /// Priority events kept for recovery.
    pub log: usize,
    /// Most events waiting for one flush, in each lane.
    pub waiting: usize,
    /// Whether other pods need this pod's chats.
    pub relayed: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            tick_over: 40,
            tick: Duration::from_millis(50),
            history: 50,
            log: relay::LOG,
            waiting: 4096,
            relayed: false,
        }
    }
}

/// What the driver has to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: a flush is in flight or a tick is set, and will see to it.
    Nothing,
    /// Take the batch and fan it out; told to one caller only until [`State::flushed`].
    Flush,
    /// Call [`State::ticked`] at this time.
    TickAt(Instant),
}

/// What one flush is made of.
#[derive(Debug)]
pub struct Batch {
    /// Counts the room's flushes, from 1.
    pub sequence: u64,
    /// In offset order.
    pub priority: Vec<Event>,
    /// In order of arrival, duplicates merged.
    pub chat: Vec<Event>,
    /// Chat messages before merging.
    pub chats: u32,
    /// This pod's own chats among them, merged, for the other pods; empty without any.
    pub ours: Vec<Event>,
    /// How many this pod published before.
    pub published: u64,
    /// When the oldest was accepted.
    pub accepted: Instant,
}

/// What a viewer is told on joining.
#[derive(Debug)]
pub struct Entry {
    /// The lane's epoch.
    pub epoch: String,
    /// The highest offset in any flush so far.
    pub offset: u64,
    /// The viewer has seen more of this epoch than we have.
    pub behind: bool,
    /// The first flush this viewer gets.
    pub from: u64,
    /// Whether `missed` is everything since the viewer's position.
    pub recovered: bool,
    /// Priority events since then.
    pub missed: Vec<Event>,
    /// The newest chats.
    pub history: Vec<Chat>,
}

/// One room.
#[derive(Debug)]
pub struct State {
    settings: Settings,
    epoch: String,
    offset: u64,
    flushed_offset: u64,
    sequence: u64,
    priority: Vec<Event>,
    /// With whether it was said on this pod.
    chat: Vec<(Chat, bool)>,
    published: u64,
    stats: Option<Stats>,
    oldest: Option<Instant>,
    in_flight: bool,
    ticking: bool,
    last_flush: Option<Instant>,
    /// The second in which messages are being counted, its count, and the count of the one before.
    rate: (Instant, u32, u32),
    history: VecDeque<Chat>,
    log: VecDeque<Event>,
    /// Chats that pushed older ones out of a full queue.
    pub overflowed: u64,
}

/// The priority lane has as much waiting as it may hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl State {
    /// An empty room, before the relay has told its epoch.
    pub fn new(settings: Settings, now: Instant) -> Self {
        State {
            settings,
            epoch: String::new(),
            offset: 0,
            flushed_offset: 0,
            sequence: 0,
            priority: Vec::new(),
            chat: Vec::new(),
            published: 0,
            stats: None,
            oldest: None,
            in_flight: false,
            ticking: false,
            last_flush: None,
            rate: (now, 0, 0),
            history: VecDeque::new(),
            log: VecDeque::new(),
            overflowed: 0,
        }
    }

    /// Changes how much history is kept.
    pub fn set_history(&mut self, history: usize) {
        self.settings.history = history;
        while self.history.len() > history {
            self.history.pop_front();
        }
    }

    /// Takes a chat message, said on this pod (`ours`) or on another. A full queue drops its oldest.
    pub fn chat(&mut self, chat: Chat, ours: bool, now: Instant) -> Next {
        if self.chat.len() >= self.settings.waiting {
            self.chat.remove(0);
            self.overflowed += 1;
        }
        self.chat.push((chat, ours));
        self.arrived(now)
    }

    /// Takes the next numbered event of the priority lane.
    ///
    /// # Errors
    /// [`Full`] when as much waits as may.
    pub fn priority(&mut self, event: Event, now: Instant) -> Result<Next, Full> {
        if self.priority.len() >= self.settings.waiting {
            return Err(Full);
        }
        self.number(event);
        Ok(self.arrived(now))
    }

    /// Takes what everybody is told with the priority lane but is not part of it: it has no offset, and
    /// whoever joins learns it otherwise.
    ///
    /// # Errors
    /// [`Full`] when as much waits as may.
    pub fn tell(&mut self, event: Event, now: Instant) -> Result<Next, Full> {
        if self.priority.len() >= self.settings.waiting {
            return Err(Full);
        }
        self.priority.push(event);
        Ok(self.arrived(now))
    }

    /// Stats replace each other and are not messages: they neither count nor set a tick.
    pub fn stats(&mut self, stats: Stats, now: Instant) -> Next {
        self.stats = Some(stats);
        self.oldest.get_or_insert(now);
        self.next(now)
    }

    /// The relay has told the lane's epoch, with what its log holds. `in_use` when viewers were let in
    /// before, or under another epoch: they are told that the lane begins anew.
    pub fn opened(&mut self, opening: Opening, in_use: bool, now: Instant) -> Next {
        let had_epoch = !std::mem::replace(&mut self.epoch, opening.epoch).is_empty();
        self.log.clear();
        if in_use {
            // Not bounded by `waiting`: there is one gap an epoch, and the log is bounded itself.
            self.priority.push(Event::Gap(Gap {
                lane: Lane::Priority,
                dropped: None,
                epoch: Some(self.epoch.clone()),
            }));
        }
        (self.offset, self.flushed_offset) = (0, 0);
        if in_use && had_epoch {
            opening.log.into_iter().for_each(|event| self.number(event));
            self.offset = opening.offset;
        } else {
            opening.log.iter().for_each(|event| self.forget(event));
            self.log.extend(opening.log);
            (self.offset, self.flushed_offset) = (opening.offset, opening.offset);
        }
        if in_use { self.arrived(now) } else { Next::Nothing }
    }

    fn number(&mut self, event: Event) {
        self.offset = event.offset().unwrap_or(self.offset + 1);
        self.forget(&event);
        if self.log.len() >= self.settings.log {
            self.log.pop_front();
        }
        self.log.push_back(event.clone());
        self.priority.push(event);
    }

    fn arrived(&mut self, now: Instant) -> Next {
        self.oldest.get_or_insert(now);
        self.count(now);
        self.next(now)
    }

    /// What was said and is removed must not come back as history.
    fn forget(&mut self, event: &Event) {
        let Event::Removed(removed) = event else { return };
        let stays = |chat: &Chat| {
            !removed.all
                && !removed.ids.contains(&chat.id)
                && (removed.user.is_none() || chat.user != removed.user)
        };
        self.history.retain(stays);
        self.chat.retain(|(chat, _)| stays(chat));
    }

    fn count(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.rate.0).as_secs();
        if seconds >= 1 {
            self.rate = (now, 0, if seconds == 1 { self.rate.1 } else { 0 });
        }
        self.rate.1 += 1;
    }

    fn is_busy(&self) -> bool {
        self.rate.1.max(self.rate.2) > self.settings.tick_over
    }

    fn waits(&self) -> bool {
        !self.priority.is_empty() || !self.chat.is_empty() || self.stats.is_some()
    }

    fn next(&mut self, now: Instant) -> Next {
        if self.in_flight || self.ticking || !self.waits() {
            return Next::Nothing;
        }
        if self.is_busy()
            && let Some(at) = self.last_flush.map(|last| last + self.settings.tick)
            && at > now
        {
            self.ticking = true;
            return Next::TickAt(at);
        }
        // From here on, not from `take`: whoever arrives in between must not flush as well, or the two
        // flushes could reach a worker in the wrong order, and it would leave the earlier one out.
        self.in_flight = true;
        Next::Flush
    }

    /// The time of [`Next::TickAt`] has come.
    pub fn ticked(&mut self, now: Instant) -> Next {
        self.ticking = false;
        if self.in_flight || !self.waits() {
            return Next::Nothing;
        }
        self.last_flush = None;
        self.next(now)
    }

    /// The fan-out of the last batch is done.
    pub fn flushed(&mut self, now: Instant) -> Next {
        self.in_flight = false;
        self.next(now)
    }

    /// Takes what waits, as the next flush. The driver must call [`State::flushed`] after its fan-out.
    pub fn take(&mut self, now: Instant) -> Batch {
        self.sequence += 1;
        self.last_flush = Some(now);
        let chat = std::mem::take(&mut self.chat);
        let chats = chat.len() as u32;
        for (message, _) in &chat {
            self.history.push_back(message.clone());
        }
        while self.history.len() > self.settings.history {
            self.history.pop_front();
        }
        self.flushed_offset = self.offset;
        let ours: Vec<Chat> = if self.settings.relayed {
            chat.iter().filter(|(_, ours)| *ours).map(|(chat, _)| chat.clone()).collect()
        } else {
            Vec::new()
        };
        let ours = merge(ours);
        let published = self.published;
        self.published += ours.len() as u64;
        let mut chat = merge(chat.into_iter().map(|(chat, _)| chat).collect());
        chat.extend(self.stats.take().map(Event::Stats));
        Batch {
            sequence: self.sequence,
            priority: std::mem::take(&mut self.priority),
            chat,
            chats,
            ours,
            published,
            accepted: self.oldest.take().unwrap_or(now),
        }
    }

    /// What a viewer who joins now is told, with what it missed since `position`.
    pub fn enter(&self, position: Option<&Position>) -> Entry {
        let flushed = |event: &&Event| event.offset().is_some_and(|o| o <= self.flushed_offset);
        let (recovered, missed) = match position {
            Some(position) if position.epoch == self.epoch && position.offset <= self.flushed_offset => {
                let missed: Vec<Event> = self
                    .log
                    .iter()
                    .filter(flushed)
                    .filter(|event| event.offset() > Some(position.offset))
                    .cloned()
                    .collect();
                let whole = missed.len() as u64 == self.flushed_offset - position.offset;
                (whole, if whole { missed } else { Vec::new() })
            }
            _ => (false, Vec::new()),
        };
        Entry {
            epoch: self.epoch.clone(),
            offset: self.flushed_offset,
            behind: position.is_some_and(|position| self.is_behind(position)),
            from: self.sequence + 1,
            recovered,
            missed,
            history: self.history.iter().cloned().collect(),
        }
    }

    /// Whether the position is further on in this epoch than what was flushed here.
    pub fn is_behind(&self, position: &Position) -> bool {
        position.epoch == self.epoch && position.offset > self.flushed_offset
    }

    /// Whether forgetting the room would lose a recovery.
    pub fn has_log(&self) -> bool {
        !self.log.is_empty()
    }
}

/// The same text in the same style, said by several in one flush, is one message "× n". It keeps the
/// first one's id and place.
fn merge(chats: Vec<Chat>) -> Vec<Event> {
    let mut first: HashMap<(String, danmu_wire::Style), usize> = HashMap::new();
    let mut merged: Vec<Chat> = Vec::with_capacity(chats.len());
    for chat in chats {
        let at = *first.entry((chat.text.clone(), chat.style.clone())).or_insert(merged.len());
        match merged.get_mut(at) {
            Some(earlier) => earlier.n += chat.n.max(1),
            None => merged.push(Chat { n: chat.n.max(1), ..chat }),
        }
    }
    merged.into_iter().map(Event::Chat).collect()
}

#[cfg(test)]
mod tests {
    use danmu_wire::{Gift, Removed};
    use proptest::prelude::*;

    use super::*;

    fn chat(text: &str) -> Chat {
        Chat { id: text.to_owned(), text: text.to_owned(), n: 1, ..Chat::default() }
    }

    fn opened(settings: Settings, now: Instant) -> State {
        let mut room = State::new(settings, now);
        room.opened(Opening { epoch: "E".into(), ..Opening::default() }, false, now);
        room
    }

    fn gift(room: &State) -> Event {
        Event::Gift(Gift { offset: room.offset + 1, ..Gift::default() })
    }

    fn room() -> (State, Instant) {
        let now = Instant::now();
        (opened(Settings::default(), now), now)
    }

    #[test]
    fn a_quiet_rooms_message_goes_out_at_once() {
        let (mut room, now) = room();
        assert_eq!(room.chat(chat("a"), true, now), Next::Flush);
    }

    #[test]
    fn what_arrives_during_a_fan_out_goes_out_as_one_batch_after_it() {
        let (mut room, now) = room();
        room.chat(chat("a"), true, now);
        assert_eq!(room.take(now).chat.len(), 1);
        for text in ["b", "c", "d"] {
            assert_eq!(room.chat(chat(text), true, now), Next::Nothing);
        }
        assert_eq!(room.flushed(now), Next::Flush);
        assert_eq!(room.take(now).chat.len(), 3);
        assert_eq!(room.flushed(now), Next::Nothing);
    }

    #[test]
    fn two_who_arrive_before_a_flush_is_taken_do_not_both_flush() {
        let (mut room, now) = room();
        assert_eq!(room.chat(chat("a"), true, now), Next::Flush);
        assert_eq!(room.priority(gift(&room), now), Ok(Next::Nothing));
        let batch = room.take(now);
        assert_eq!((batch.chat.len(), batch.priority.len()), (1, 1));
        assert_eq!(room.flushed(now), Next::Nothing);
    }

    #[test]
    fn a_busy_room_ticks_and_a_quiet_one_does_not() {
        let (mut room, start) = room();
        let mut flushes = 0;
        let mut tick = None;
        for i in 0..400u64 {
            let now = start + Duration::from_millis(i * 5);
            if tick.is_some_and(|at| at <= now) {
                tick = None;
                if room.ticked(now) == Next::Flush {
                    flushes += 1;
                    room.take(now);
                    room.flushed(now);
                }
            }
            match room.chat(chat(&i.to_string()), true, now) {
                Next::Flush => {
                    flushes += 1;
                    room.take(now);
                    room.flushed(now);
                }
                Next::TickAt(at) => tick = Some(at),
                Next::Nothing => {}
            }
        }
        // 40 messages at once each, then 1.8 s at one flush in 50 ms.
        assert!((60..=85).contains(&flushes), "{flushes}");
    }

    #[test]
    fn duplicates_in_a_flush_become_one_with_a_count() {
        let (mut room, now) = room();
        for text in ["gg", "hi", "gg", "gg"] {
            room.chat(chat(text), true, now);
        }
        let batch = room.take(now);
        let said: Vec<(String, u32)> = batch
            .chat
            .iter()
            .map(|e| match e {
                Event::Chat(c) => (c.text.clone(), c.n),
                _ => unreachable!(),
            })
            .collect();
        assert_eq!(said, [("gg".to_owned(), 3), ("hi".to_owned(), 1)]);
        assert_eq!(batch.chats, 4);
    }

    #[test]
    fn a_viewer_back_from_a_cut_gets_every_gift_or_is_told() {
        let (mut room, now) = room();
        for _ in 0..3 {
            room.priority(gift(&room), now).unwrap();
        }
        room.take(now);
        room.flushed(now);
        let entry = room.enter(Some(&Position { epoch: "E".into(), offset: 1 }));
        assert_eq!((entry.recovered, entry.missed.len(), entry.offset), (true, 2, 3));
        let other = room.enter(Some(&Position { epoch: "F".into(), offset: 1 }));
        assert_eq!((other.recovered, other.missed.len()), (false, 0));
        let future = room.enter(Some(&Position { epoch: "E".into(), offset: 9 }));
        assert!(!future.recovered && future.behind);
    }

    #[test]
    fn what_was_removed_does_not_come_back_as_history() {
        let (mut room, now) = room();
        room.chat(chat("bad"), true, now);
        room.chat(chat("good"), true, now);
        room.take(now);
        room.flushed(now);
        let removed = Removed { offset: 1, ids: vec!["bad".into()], ..Removed::default() };
        room.priority(Event::Removed(removed), now).unwrap();
        let history: Vec<String> = room.enter(None).history.into_iter().map(|c| c.text).collect();
        assert_eq!(history, ["good"]);
    }

    #[test]
    fn the_priority_lane_refuses_instead_of_growing_and_chat_drops_its_oldest() {
        let now = Instant::now();
        let mut room = opened(Settings { waiting: 2, ..Settings::default() }, now);
        room.priority(gift(&room), now).unwrap();
        room.priority(gift(&room), now).unwrap();
        assert_eq!(room.priority(gift(&room), now), Err(Full));
        for text in ["a", "b", "c"] {
            room.chat(chat(text), true, now);
        }
        assert_eq!((room.take(now).chats, room.overflowed), (2, 1));
    }

    #[test]
    fn a_new_epoch_is_told_to_everybody_and_its_events_follow() {
        let (mut room, now) = room();
        room.priority(gift(&room), now).unwrap();
        room.take(now);
        room.flushed(now);
        let log = vec![Event::Gift(Gift { offset: 1, ..Gift::default() })];
        room.opened(Opening { epoch: "F".into(), offset: 1, log, moderation: Vec::new() }, true, now);
        assert_eq!(room.enter(None).offset, 0, "what is not flushed yet will come by the flush");
        let batch = room.take(now);
        assert!(matches!(&batch.priority[0], Event::Gap(gap) if gap.epoch.as_deref() == Some("F")));
        assert_eq!(batch.priority[1].offset(), Some(1));
        let entry = room.enter(Some(&Position { epoch: "E".into(), offset: 1 }));
        assert!(!entry.recovered && entry.epoch == "F" && entry.offset == 1);
    }

    #[test]
    fn only_this_pods_chats_go_to_the_other_pods_with_a_count() {
        let now = Instant::now();
        let mut room = opened(Settings { relayed: true, ..Settings::default() }, now);
        for (text, ours) in [("a", true), ("b", false), ("a", true), ("c", true)] {
            room.chat(chat(text), ours, now);
        }
        let batch = room.take(now);
        assert_eq!((batch.ours.len(), batch.published, batch.chat.len()), (2, 0, 3));
        room.flushed(now);
        room.chat(chat("d"), true, now);
        assert_eq!(room.take(now).published, 2);
    }

    proptest! {
        /// Whoever joins at any moment with any position sees each priority event exactly once:
        /// recovered or live.
        #[test]
        fn no_gift_is_missed_or_doubled_around_a_join(
            steps in proptest::collection::vec(0u8..4, 1..80), join_at in 0usize..80, seen in 0u64..10,
        ) {
            let (mut room, now) = room();
            let mut got: Vec<u64> = Vec::new();
            let mut from = None;
            let mut since = 0;
            let mut flying = false;
            for (i, step) in steps.iter().enumerate() {
                if i == join_at {
                    let top = room.flushed_offset;
                    since = seen.min(top);
                    let entry = room.enter(Some(&Position { epoch: "E".into(), offset: since }));
                    prop_assert!(entry.recovered);
                    got.extend(entry.missed.iter().filter_map(Event::offset));
                    from = Some(entry.from);
                }
                match step {
                    0 | 1 => { room.priority(gift(&room), now).unwrap(); }
                    2 if !flying => {
                        flying = true;
                        let batch = room.take(now);
                        if from.is_some_and(|from| batch.sequence >= from) {
                            got.extend(batch.priority.iter().filter_map(Event::offset));
                        }
                    }
                    3 if flying => {
                        flying = false;
                        room.flushed(now);
                    }
                    _ => {}
                }
            }
            if from.is_some() {
                let expected: Vec<u64> = (since + 1..=room.flushed_offset).collect();
                prop_assert_eq!(got, expected);
            }
        }
    }
}
