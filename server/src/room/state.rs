//! One room as a state machine: no I/O, no clock of its own. [`super::Rooms`] drives it.
//!
//! A quiet room's message goes out at once. Whatever arrives while a fan-out runs goes out as one
//! batch after it. Over [`Settings::tick_over`] messages a second flushes are also at least
//! [`Settings::tick`] apart: cost is viewers × flushes, so this is the one large lever there is.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use danmu_wire::{Chat, Event, Gap, Lane, Position, Stats, Super};

mod merge;

use crate::relay::{self, Opening};
use merge::{merge, merge_gifts};

/// Most messages pinned at once; the oldest makes room.
const PINNED: usize = 20;

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
    /// The sub-room on whose channel they go; none is the room's own.
    pub channel: Option<u32>,
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
    /// What is pinned now.
    pub pinned: Vec<Super>,
}

/// One room.
#[derive(Debug)]
pub struct State {
    settings: Settings,
    /// The room sheds load: its tick is so many times as long, however calm it is.
    longer_tick: Option<u32>,
    epoch: String,
    offset: u64,
    flushed_offset: u64,
    /// Its value before the last flush, which may still be on its way.
    flushed_before: u64,
    /// The flush that tells the epoch.
    anew: u64,
    sequence: u64,
    priority: Vec<Event>,
    /// With whether it was said on this pod.
    chat: VecDeque<(Event, bool)>,
    published: u64,
    channel: Option<u32>,
    stats: Option<Stats>,
    oldest: Option<Instant>,
    in_flight: bool,
    ticking: bool,
    last_flush: Option<Instant>,
    /// The second in which messages are being counted, its count, and the count of the one before.
    rate: (Instant, u32, u32),
    history: VecDeque<Chat>,
    log: VecDeque<Event>,
    /// Flushed or not, oldest first; those that are over are found when somebody joins.
    pinned: VecDeque<Super>,
    /// Chats that fell out of a full queue since everybody was last told.
    overflowed: u64,
}

/// The priority lane has as much waiting as it may hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl State {
    /// An empty room, before the relay has told its epoch.
    pub fn new(settings: Settings, now: Instant) -> Self {
        State {
            settings,
            longer_tick: None,
            epoch: String::new(),
            offset: 0,
            flushed_offset: 0,
            flushed_before: 0,
            anew: 0,
            sequence: 0,
            priority: Vec::new(),
            chat: VecDeque::new(),
            published: 0,
            channel: None,
            stats: None,
            oldest: None,
            in_flight: false,
            ticking: false,
            last_flush: None,
            rate: (now, 0, 0),
            history: VecDeque::new(),
            log: VecDeque::new(),
            pinned: VecDeque::new(),
            overflowed: 0,
        }
    }

    /// One more sub-room of the same room, `channel`: it stands where this one does in the lane, and nothing was
    /// said in it.
    pub fn sibling(&self, channel: u32, now: Instant) -> State {
        State {
            longer_tick: self.longer_tick,
            epoch: self.epoch.clone(),
            offset: self.offset,
            flushed_offset: self.offset,
            channel: Some(channel),
            log: self.log.clone(),
            pinned: self.pinned.clone(),
            ..State::new(self.settings, now)
        }
    }

    /// Chats of this pod go on another channel from now on, on which it has published so many before. Answers how
    /// many it has on the one it leaves.
    pub fn set_channel(&mut self, channel: Option<u32>, published: u64) -> u64 {
        self.channel = channel;
        std::mem::replace(&mut self.published, published)
    }

    /// Changes how much history is kept.
    pub fn set_history(&mut self, history: usize) {
        self.settings.history = history;
        while self.history.len() > history {
            self.history.pop_front();
        }
    }

    /// Makes the tick so many times as long, or ends that.
    pub fn set_tick(&mut self, longer: Option<u32>) {
        self.longer_tick = longer;
    }

    /// Takes a chat message, said on this pod (`ours`) or on another. A full queue drops its oldest.
    pub fn chat(&mut self, chat: Chat, ours: bool, now: Instant) -> Next {
        self.live(Event::Chat(chat), ours, now)
    }

    /// The same for anything on the chat lane.
    pub fn live(&mut self, event: Event, ours: bool, now: Instant) -> Next {
        if self.chat.len() >= self.settings.waiting
            && let Some((_, ours)) = self.chat.pop_front()
        {
            self.overflowed += 1;
            // The other pods find it missing by the count.
            self.published += u64::from(ours && self.settings.relayed);
        }
        self.chat.push_back((event, ours));
        self.arrived(now)
    }

    /// Takes the next numbered event of the priority lane.
    ///
    /// # Errors
    /// [`Full`] when as much waits as may.
    pub fn priority(&mut self, event: Event, now: Instant) -> Result<Next, Full> {
        if self.is_full() {
            return Err(Full);
        }
        Ok(self.priority_in_any_case(event, now))
    }

    /// The same after [`State::is_full`] was asked, for all sub-rooms at once; should they have been told something
    /// meanwhile, it is one more than the bound.
    pub fn priority_in_any_case(&mut self, event: Event, now: Instant) -> Next {
        self.number(event);
        self.arrived(now)
    }

    /// Whether the priority lane has as much waiting as it may hold.
    pub fn is_full(&self) -> bool {
        self.priority.len() >= self.settings.waiting
    }

    /// Takes what everybody is told with the priority lane but is not part of it: it has no offset, and
    /// whoever joins learns it otherwise.
    ///
    /// # Errors
    /// [`Full`] when as much waits as may.
    pub fn tell(&mut self, event: Event, now: Instant) -> Result<Next, Full> {
        if self.is_full() {
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
        self.pinned.clear();
        // What waits is of the old epoch: to whoever joins before the flush its offsets would be places in
        // the new one.
        self.priority.iter_mut().for_each(|event| event.set_offset(0));
        if in_use {
            self.anew = self.sequence + 1;
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
            for event in &opening.log {
                self.forget(event);
                self.pin(event);
            }
            self.log.extend(opening.log);
            (self.offset, self.flushed_offset) = (opening.offset, opening.offset);
        }
        if in_use { self.arrived(now) } else { Next::Nothing }
    }

    fn number(&mut self, event: Event) {
        self.offset = event.offset().unwrap_or(self.offset + 1);
        self.forget(&event);
        self.pin(&event);
        if self.log.len() >= self.settings.log {
            self.log.pop_front();
        }
        self.log.push_back(event.clone());
        self.priority.push(event);
    }

    fn pin(&mut self, event: &Event) {
        let Event::Super(said) = event else { return };
        if self.pinned.len() >= PINNED {
            self.pinned.pop_front();
        }
        self.pinned.push_back(said.clone());
    }

    fn arrived(&mut self, now: Instant) -> Next {
        self.oldest.get_or_insert(now);
        self.count(now);
        self.next(now)
    }

    /// What was said and is removed must not come back as history.
    fn forget(&mut self, event: &Event) {
        let Event::Removed(removed) = event else { return };
        let stays = |id: &String, user: &Option<String>| {
            !removed.all && !removed.ids.contains(id) && (removed.user.is_none() || *user != removed.user)
        };
        self.history.retain(|chat| stays(&chat.id, &chat.user));
        self.pinned.retain(|said| stays(&said.id, &said.user));
        self.chat.retain(|(event, _)| match event {
            Event::Chat(chat) => stays(&chat.id, &chat.user),
            _ => true,
        });
    }

    fn count(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.rate.0).as_secs();
        if seconds >= 1 {
            self.rate = (now, 0, if seconds == 1 { self.rate.1 } else { 0 });
        }
        self.rate.1 += 1;
    }

    fn is_busy(&self) -> bool {
        self.longer_tick.is_some() || self.rate.1.max(self.rate.2) > self.settings.tick_over
    }

    fn waits(&self) -> bool {
        !self.priority.is_empty() || !self.chat.is_empty() || self.stats.is_some()
    }

    fn next(&mut self, now: Instant) -> Next {
        if self.in_flight || self.ticking || !self.waits() {
            return Next::Nothing;
        }
        if self.is_busy()
            && let Some(at) =
                self.last_flush.map(|last| last + self.settings.tick * self.longer_tick.unwrap_or(1))
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
        for (event, _) in &chat {
            if let Event::Chat(message) = event {
                self.history.push_back(message.clone());
            }
        }
        while self.history.len() > self.settings.history {
            self.history.pop_front();
        }
        self.flushed_before = std::mem::replace(&mut self.flushed_offset, self.offset);
        let ours: Vec<Event> = if self.settings.relayed {
            chat.iter().filter(|(_, ours)| *ours).map(|(chat, _)| chat.clone()).collect()
        } else {
            Vec::new()
        };
        let ours = merge(ours);
        let published = self.published;
        self.published += ours.len() as u64;
        let mut chat = merge(chat.into_iter().map(|(chat, _)| chat).collect());
        chat.extend(self.stats.take().map(Event::Stats));
        if self.overflowed > 0 {
            let dropped = Some(std::mem::take(&mut self.overflowed));
            self.priority.push(Event::Gap(Gap { lane: Lane::Chat, dropped, epoch: None }));
        }
        Batch {
            sequence: self.sequence,
            priority: merge_gifts(std::mem::take(&mut self.priority)),
            chat,
            chats,
            ours,
            channel: self.channel,
            published,
            accepted: self.oldest.take().unwrap_or(now),
        }
    }

    /// What a viewer who joins now is told, with what it missed since `position`. `unix_ms` is the clock by
    /// which pinned messages end.
    pub fn enter(&self, position: Option<&Position>, unix_ms: u64) -> Entry {
        let left = |event: &Event| match event {
            Event::Super(said) => Event::Super(said.left_at(unix_ms)),
            event => event.clone(),
        };
        let flushed = |event: &&Event| event.offset().is_some_and(|o| o <= self.flushed_offset);
        let (recovered, missed) = match position {
            Some(position) if position.epoch == self.epoch && position.offset <= self.flushed_offset => {
                let missed: Vec<Event> = self
                    .log
                    .iter()
                    .filter(flushed)
                    .filter(|event| event.offset() > Some(position.offset))
                    .map(left)
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
            pinned: self.pinned(unix_ms),
        }
    }

    /// What is pinned and flushed, with the seconds that are left.
    fn pinned(&self, unix_ms: u64) -> Vec<Super> {
        let flushed = self.pinned.iter().filter(|said| said.offset <= self.flushed_offset);
        flushed.map(|said| said.left_at(unix_ms)).filter(|said| said.seconds > 0).collect()
    }

    /// The place in the lane of a viewer here to whom all flushes up to `written` were written; none when it has yet to
    /// be told of the epoch.
    pub fn seen(&self, written: u64) -> Option<Position> {
        let offset = match self.sequence.saturating_sub(written) {
            _ if written < self.anew => return None,
            0 => self.flushed_offset,
            1 => self.flushed_before,
            // Of a flush there is but one on its way.
            _ => return None,
        };
        Some(Position { epoch: self.epoch.clone(), offset })
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

#[cfg(test)]
mod tests;
