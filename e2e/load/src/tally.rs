//! What was counted: by a thread, merged for a process, merged again for all processes.

use std::collections::BTreeMap;

use danmu_wire::{Lane, RefusalCode};
use serde::{Deserialize, Serialize};

use crate::{
    account::{Account, Sight},
    latencies::Latencies,
    payload::Seen,
};

/// How often each reason was met.
pub(crate) type Reasons = BTreeMap<String, u64>;

/// How many viewers ended with which number of messages.
pub(crate) type Viewers = BTreeMap<u64, u64>;

/// All that was counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Tally {
    /// Viewers that got `joined`.
    pub(crate) joined: u64,
    /// Viewers that never got so far, by reason.
    pub(crate) failed: Reasons,
    /// Viewers that were cut later, by reason; they are in no account of losses.
    pub(crate) departed: Reasons,
    /// The same for viewers that did not read, which a server may cut.
    pub(crate) departed_slow: Reasons,
    /// Viewers that were asked by `move` to go elsewhere.
    pub(crate) moves: u64,
    /// Viewers that were told 503 and when to come back, each time.
    pub(crate) retried: u64,
    /// Cuts after which a viewer that follows came back or tried to, by reason.
    pub(crate) cuts: Reasons,
    /// Later `joined` of viewers that follow, after a move or a cut.
    pub(crate) rejoined: u64,
    /// From the move or the cut to the next `joined`.
    pub(crate) rejoin: Latencies,
    /// Deliveries that both of a moving viewer's connections made.
    pub(crate) overlaps: u64,
    /// From the first connect(2) to `joined`.
    pub(crate) connect: Latencies,
    /// When the first connect(2) was called, on the machine's monotonic clock; 0 is never.
    pub(crate) first_connect_ns: u64,
    /// When the last viewer joined, on the machine's monotonic clock.
    pub(crate) last_joined_ns: u64,

    /// Messages written to a socket.
    pub(crate) sent: u64,
    /// Messages due that could not be: the speaker was not connected, or its socket was full.
    pub(crate) unsent: u64,
    /// Messages the server took and showed.
    pub(crate) shown: u64,
    /// Messages the server took and left out of the room's sample.
    pub(crate) sampled: u64,
    /// Messages the server did not take, by code.
    pub(crate) refused: Reasons,
    /// From sending to `ack`.
    pub(crate) ack: Latencies,
    /// How late messages were sent: this tool's own doing.
    pub(crate) lateness: Latencies,

    /// Deliveries, duplicates left out.
    pub(crate) received: u64,
    /// Deliveries that had been made before.
    pub(crate) duplicates: u64,
    /// Deliveries too far out of order to know whether they are duplicates.
    pub(crate) unjudged: u64,
    /// Deliveries of messages of somebody else.
    pub(crate) foreign: u64,
    /// From sending to delivery.
    pub(crate) delivery: Latencies,
    /// Viewers by messages accounted for (received and told as lost).
    pub(crate) accounted: Viewers,
    /// The same for viewers that were told of a gap without a number.
    pub(crate) accounted_open: Viewers,
    /// Chats told as lost, over all viewers.
    pub(crate) told: u64,
    /// Sum of `stats.sampled` as the first viewer saw it.
    pub(crate) stats_sampled: u64,

    /// The priority lane.
    pub(crate) priority: PriorityTally,

    /// WebSocket frames read.
    pub(crate) frames: u64,
    /// Bytes read.
    pub(crate) bytes: u64,
    /// Calls of read(2) that gave bytes.
    pub(crate) reads: u64,
    /// CPU time of the process from the start of the talk to the end.
    pub(crate) cpu_ns: u64,
    /// The same on the clock.
    pub(crate) wall_ns: u64,
    /// CPU share of the busiest thread while messages were sent; 1.0 is one whole core.
    pub(crate) busiest_thread: f64,
    /// Messages still came when the longest wait was over: what is lost may only be late.
    pub(crate) still_coming: bool,
    /// The first thing that went wrong, whole.
    pub(crate) first_fault: Option<String>,
    /// When something was last delivered or answered. Not for reports.
    #[serde(skip)]
    pub(crate) last_event_ns: u64,
    /// From when on latencies of the priority lane are told apart, on the monotonic clock.
    #[serde(skip)]
    pub(crate) split_ns: Option<u64>,
}

/// What was counted on the priority lane.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PriorityTally {
    /// Messages the admin API took.
    pub(crate) published: u64,
    /// Messages it did not take, by reason.
    pub(crate) unpublished: Reasons,
    /// Deliveries of the run's messages.
    pub(crate) received: u64,
    /// Events whose offset had been seen.
    pub(crate) duplicates: u64,
    /// Offsets passed over, told or not.
    pub(crate) missing_offsets: u64,
    /// Offsets passed over of which the viewer was told nothing.
    pub(crate) untold_offsets: u64,
    /// Events told as lost.
    pub(crate) told: u64,
    /// From publishing to delivery.
    pub(crate) delivery: Latencies,
    /// The same of events published before `--split`.
    pub(crate) before: Latencies,
    /// The same of later ones, to viewers who were neither moved nor cut.
    pub(crate) after: Latencies,
    /// Viewers by messages accounted for.
    pub(crate) accounted: Viewers,
    /// The same for viewers that were told of a gap without a number.
    pub(crate) accounted_open: Viewers,
}

impl Tally {
    /// Notes what one frame told a viewer at `now_ns`; `first_viewer` speaks for the room's stats.
    pub(crate) fn note(&mut self, account: &mut Account, seen: &[Seen], now_ns: u64, first_viewer: bool) {
        for one in seen {
            match *one {
                Seen::Chat { number, times, sent_ns } => match account.note(number, times) {
                    Sight::Again if account.followed => self.overlaps += u64::from(times),
                    Sight::Again => self.duplicates += u64::from(times),
                    sight => {
                        self.received += u64::from(times);
                        self.unjudged += u64::from(sight == Sight::Unknown);
                        self.delivery.record_ns(now_ns.saturating_sub(sent_ns));
                    }
                },
                // Only who was there before asks the history for what fell between two connections.
                Seen::History { number, times, sent_ns } => {
                    if account.followed && account.note(number, times) == Sight::First {
                        self.received += u64::from(times);
                        self.delivery.record_ns(now_ns.saturating_sub(sent_ns));
                    }
                }
                Seen::Foreign => self.foreign += 1,
                Seen::Priority { offset, sent_ns } => self.note_priority(account, offset, sent_ns, now_ns),
                Seen::Stats { sampled } => {
                    self.stats_sampled += if first_viewer { sampled } else { 0 };
                    continue; // Comes also in a room where nothing happens any more.
                }
                Seen::Joined { epoch, offset, recovered } => account.priority.join(epoch, offset, recovered),
                Seen::Ack { sent_ns, shown } => {
                    *(if shown { &mut self.shown } else { &mut self.sampled }) += 1;
                    if let Some(sent_ns) = sent_ns {
                        self.ack.record_ns(now_ns.saturating_sub(sent_ns));
                    }
                }
                Seen::Refused(code) => self.refuse(code),
                Seen::Gap { lane: Lane::Chat, dropped, .. } => {
                    account.told += dropped.unwrap_or(0);
                    account.open_gap |= dropped.is_none();
                }
                Seen::Gap { lane: Lane::Priority, dropped, epoch } => account.priority.gap(dropped, epoch),
                Seen::Move { .. } => self.moves += 1,
            }
            self.last_event_ns = now_ns;
        }
    }

    fn note_priority(&mut self, account: &mut Account, offset: u64, sent_ns: Option<u64>, now_ns: u64) {
        match (account.priority.note(offset, sent_ns.is_some()), sent_ns) {
            (Sight::Again, _) if account.followed => self.overlaps += 1,
            (Sight::Again, _) => self.priority.duplicates += 1,
            (_, Some(sent_ns)) => {
                self.priority.received += 1;
                let took_ns = now_ns.saturating_sub(sent_ns);
                self.priority.delivery.record_ns(took_ns);
                match self.split_ns {
                    Some(split_ns) if sent_ns < split_ns => self.priority.before.record_ns(took_ns),
                    Some(_) if !account.followed => self.priority.after.record_ns(took_ns),
                    _ => {}
                }
            }
            (_, None) => {}
        }
    }

    fn refuse(&mut self, code: RefusalCode) {
        count(&mut self.refused, code.code());
    }

    /// Closes the account of a viewer that was there from before the talk to the end.
    pub(crate) fn close(&mut self, account: &Account) {
        let lane = &account.priority;
        let chats = if account.open_gap { &mut self.accounted_open } else { &mut self.accounted };
        *chats.entry(account.received + account.told).or_default() += 1;
        self.told += account.told;
        let events =
            if lane.open_gap { &mut self.priority.accounted_open } else { &mut self.priority.accounted };
        *events.entry(lane.received + lane.told).or_default() += 1;
        self.priority.told += lane.told;
        self.priority.missing_offsets += lane.missing;
        self.priority.untold_offsets += lane.untold();
    }

    /// Adds all that another thread or process counted.
    pub(crate) fn merge(&mut self, other: &Tally) {
        self.joined += other.joined;
        merge(&mut self.failed, &other.failed);
        merge(&mut self.departed, &other.departed);
        merge(&mut self.departed_slow, &other.departed_slow);
        self.moves += other.moves;
        self.retried += other.retried;
        merge(&mut self.cuts, &other.cuts);
        self.rejoined += other.rejoined;
        self.rejoin.merge(&other.rejoin);
        self.overlaps += other.overlaps;
        self.connect.merge(&other.connect);
        let starts = [self.first_connect_ns, other.first_connect_ns];
        self.first_connect_ns = starts.into_iter().filter(|start| *start != 0).min().unwrap_or(0);
        self.last_joined_ns = self.last_joined_ns.max(other.last_joined_ns);
        self.sent += other.sent;
        self.unsent += other.unsent;
        self.shown += other.shown;
        self.sampled += other.sampled;
        merge(&mut self.refused, &other.refused);
        self.ack.merge(&other.ack);
        self.lateness.merge(&other.lateness);
        self.received += other.received;
        self.duplicates += other.duplicates;
        self.unjudged += other.unjudged;
        self.foreign += other.foreign;
        self.delivery.merge(&other.delivery);
        merge(&mut self.accounted, &other.accounted);
        merge(&mut self.accounted_open, &other.accounted_open);
        self.told += other.told;
        self.stats_sampled += other.stats_sampled;
        self.priority.merge(&other.priority);
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.reads += other.reads;
        self.cpu_ns += other.cpu_ns;
        self.wall_ns = self.wall_ns.max(other.wall_ns);
        self.busiest_thread = self.busiest_thread.max(other.busiest_thread);
        self.still_coming |= other.still_coming;
        self.first_fault = self.first_fault.take().or_else(|| other.first_fault.clone());
    }
}

impl PriorityTally {
    fn merge(&mut self, other: &PriorityTally) {
        self.published += other.published;
        merge(&mut self.unpublished, &other.unpublished);
        self.received += other.received;
        self.duplicates += other.duplicates;
        self.missing_offsets += other.missing_offsets;
        self.untold_offsets += other.untold_offsets;
        self.told += other.told;
        self.delivery.merge(&other.delivery);
        self.before.merge(&other.before);
        self.after.merge(&other.after);
        merge(&mut self.accounted, &other.accounted);
        merge(&mut self.accounted_open, &other.accounted_open);
    }
}

/// Counts one more of `reason`.
pub(crate) fn count(reasons: &mut Reasons, reason: &str) {
    match reasons.get_mut(reason) {
        Some(times) => *times += 1,
        None => {
            reasons.insert(reason.to_owned(), 1);
        }
    }
}

fn merge<K: Ord + Clone>(into: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
    for (key, times) in from {
        *into.entry(key.clone()).or_default() += times;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: Seen = Seen::Chat { number: 1, times: 1, sent_ns: 1_000_000 };

    #[test]
    fn a_delivery_counts_once_and_its_time_is_kept() {
        let (mut tally, mut account) = (Tally::default(), Account::default());
        tally.note(&mut account, &[CHAT], 3_000_000, false);
        tally.note(&mut account, &[CHAT], 9_000_000, false);
        assert_eq!((tally.received, tally.duplicates, tally.delivery.count()), (1, 1, 1));
        assert!((tally.delivery.milliseconds_at(50.0) - 2.0).abs() < 0.01);
    }

    #[test]
    fn a_told_gap_is_accounted_for_and_a_silent_loss_is_not() {
        let mut tally = Tally::default();
        let (mut told, mut silent, mut open) = (Account::default(), Account::default(), Account::default());
        let gap = |dropped| Seen::Gap { lane: Lane::Chat, dropped, epoch: None };
        tally.note(&mut told, &[CHAT, gap(Some(2))], 5, false);
        tally.note(&mut silent, &[CHAT], 5, false);
        tally.note(&mut open, &[gap(None)], 5, false);
        for account in [&told, &silent, &open] {
            tally.close(account);
        }
        assert_eq!(tally.accounted, Viewers::from([(1, 1), (3, 1)]));
        assert_eq!(tally.accounted_open, Viewers::from([(0, 1)]));
        assert_eq!(tally.told, 2);
    }

    #[test]
    fn what_others_feel_of_a_drain_is_told_apart() {
        let mut tally = Tally { split_ns: Some(10), ..Tally::default() };
        let (mut stays, mut moves) = (Account::default(), Account::default());
        moves.followed = true;
        let gift = |offset, sent_ns| Seen::Priority { offset, sent_ns: Some(sent_ns) };
        for account in [&mut stays, &mut moves] {
            tally.note(account, &[gift(1, 9), gift(2, 10)], 20, false);
        }
        let lane = &tally.priority;
        assert_eq!((lane.delivery.count(), lane.before.count(), lane.after.count()), (4, 2, 1));
    }

    #[test]
    fn answers_are_counted_by_kind() {
        let (mut tally, mut account) = (Tally::default(), Account::default());
        let ack = |shown| Seen::Ack { sent_ns: Some(1000), shown };
        let seen = [ack(true), ack(true), ack(false), Seen::Refused(RefusalCode::SlowMode)];
        tally.note(&mut account, &seen, 2000, false);
        assert_eq!((tally.shown, tally.sampled, tally.ack.count()), (2, 1, 3));
        assert_eq!(tally.refused, Reasons::from([("slow_mode".to_owned(), 1)]));
    }

    #[test]
    fn merging_two_processes_loses_nothing() {
        let (mut tally, mut account) = (Tally::default(), Account::default());
        let seen = [CHAT, Seen::Priority { offset: 1, sent_ns: Some(5) }, Seen::Refused(RefusalCode::Busy)];
        tally.note(&mut account, &seen, 5, true);
        tally.close(&account);
        tally.joined = 1;
        count(&mut tally.failed, "HTTP 503");
        let text = serde_json::to_string(&tally).unwrap();
        let mut twice: Tally = serde_json::from_str(&text).unwrap();
        twice.merge(&tally);
        assert_eq!((twice.joined, twice.received, twice.delivery.count()), (2, 2, 2));
        assert_eq!((twice.failed["HTTP 503"], twice.refused["busy"]), (2, 2));
        assert_eq!((twice.accounted[&1], twice.priority.accounted[&1]), (2, 2));
    }
}
