//! The priority lane: every connection's offsets, and what was acknowledged.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Rule, Violation, is_troubled};
use crate::history::{Answer, Connection, History, Ms, Publish, Receipt, What};
use danmu_wire::Lane;

/// Offsets of an epoch that a viewer must have got: after the first, up to the second.
struct Owed {
    epoch: String,
    after: u64,
    upto: u64,
    at: Ms,
    connection: usize,
}

pub(super) fn check(history: &History, found: &mut Vec<Violation>) {
    let mut owed: BTreeMap<usize, Vec<Owed>> = BTreeMap::new();
    for (index, connection) in history.connections.iter().enumerate() {
        let walk = Walk::new(history, index, connection, found).run();
        owed.entry(connection.viewer).or_default().extend(walk);
    }
    one_lane(history, found);
    acknowledged(history, &owed, found);
    keys(history, found);
    publishers(history, found);
    epochs(history, found);
}

/// One connection, event by event.
struct Walk<'a> {
    history: &'a History,
    index: usize,
    connection: &'a Connection,
    found: &'a mut Vec<Violation>,
    epoch: String,
    /// The last offset; none when the next one may be any.
    last: Option<u64>,
    /// Events that were told to be lost and have not been passed yet.
    lost: u64,
    /// Up to here `recovered: true` promised everything.
    promised: u64,
    ids: HashSet<&'a str>,
    owed: Vec<Owed>,
}

impl<'a> Walk<'a> {
    fn new(
        history: &'a History,
        index: usize,
        connection: &'a Connection,
        found: &'a mut Vec<Violation>,
    ) -> Self {
        Walk {
            history,
            index,
            connection,
            found,
            epoch: String::new(),
            last: None,
            lost: 0,
            promised: 0,
            ids: HashSet::new(),
            owed: Vec::new(),
        }
    }

    fn run(mut self) -> Vec<Owed> {
        for seen in &self.connection.seen {
            match &seen.what {
                What::Joined { epoch, offset, recovered, .. } => {
                    self.joined(seen.at, epoch, *offset, *recovered);
                }
                What::Gift { id, offset, .. } => self.gift(seen.at, id, *offset),
                What::Gap { lane: Lane::Priority, dropped, epoch } => {
                    self.gap(seen.at, *dropped, epoch.as_deref());
                }
                _ => {}
            }
        }
        let at = self.connection.seen.last().map_or(self.connection.opened, |seen| seen.at);
        self.keeps_promise(at);
        self.owed
    }

    fn tell(&mut self, rule: Rule, at: Ms, what: String) {
        self.found.push(Violation { rule, at, connection: Some(self.index), what });
    }

    fn owe(&mut self, at: Ms, after: u64) {
        let (epoch, connection) = (self.epoch.clone(), self.index);
        self.owed.push(Owed { epoch, after, upto: after, at, connection });
    }

    fn joined(&mut self, at: Ms, epoch: &str, offset: u64, recovered: bool) {
        epoch.clone_into(&mut self.epoch);
        let since = self.connection.since.clone();
        match since {
            Some(since) if recovered => {
                if since.epoch != epoch || since.offset > offset {
                    self.tell(Rule::RecoveredWhole, at, format!("recovered {since} at {epoch}.{offset}"));
                }
                self.last = Some(since.offset);
                self.promised = offset;
                self.owe(at, since.offset);
            }
            since => {
                if let Some(since) = since
                    && !is_troubled(&self.history.faults, at, at)
                {
                    let what = format!("not recovered since {since} at {epoch}.{offset}, without a cause");
                    self.tell(Rule::LossHasCause, at, what);
                }
                self.last = (!epoch.is_empty()).then_some(offset);
                self.promised = 0;
                self.owe(at, offset);
            }
        }
    }

    /// After a `joined` that promised everything nothing else may come before all of it.
    fn keeps_promise(&mut self, at: Ms) {
        if let Some(last) = self.last.filter(|last| *last < self.promised) {
            let what = format!("recovered up to {}, but after {last} nothing came", self.promised);
            self.tell(Rule::RecoveredWhole, at, what);
        }
        self.promised = 0;
    }

    fn gift(&mut self, at: Ms, id: &'a str, offset: u64) {
        if !self.ids.insert(id) {
            self.tell(Rule::NoDuplicates, at, format!("event {id} came twice on one connection"));
        }
        if let Some(last) = self.last {
            if offset <= last {
                self.tell(Rule::NoDuplicates, at, format!("offset {offset} after {last}"));
                return;
            }
            let missing = offset - last - 1;
            if missing > self.lost {
                let rule = if last < self.promised { Rule::RecoveredWhole } else { Rule::NoHoles };
                self.tell(
                    rule,
                    at,
                    format!("offset {offset} after {last} of {}, and no gap told", self.epoch),
                );
                self.owe(at, offset - 1);
            } else if missing > 0 {
                self.owe(at, offset - 1);
            }
            self.lost -= missing.min(self.lost);
        } else {
            self.owe(at, offset - 1);
        }
        self.last = Some(offset);
        if let Some(owed) = self.owed.last_mut() {
            (owed.upto, owed.at) = (offset, at);
        }
    }

    fn gap(&mut self, at: Ms, dropped: Option<u64>, epoch: Option<&str>) {
        self.keeps_promise(at);
        if !is_troubled(&self.history.faults, at, at) {
            self.tell(
                Rule::LossHasCause,
                at,
                format!("a gap (epoch {epoch:?}, {dropped:?}) without a cause"),
            );
        }
        match epoch {
            Some(epoch) => {
                // A server that did not know the epoch cannot tell where its viewers are.
                self.last = (!self.epoch.is_empty()).then_some(0);
                epoch.clone_into(&mut self.epoch);
                self.lost = 0;
                self.owe(at, 0);
            }
            None => self.lost = self.lost.saturating_add(dropped.unwrap_or(u64::MAX)),
        }
    }
}

/// The same place holds the same event for everybody, and only what was published is there.
fn one_lane(history: &History, found: &mut Vec<Violation>) {
    let published: HashSet<&str> = history.publishes.iter().map(|publish| publish.gift.as_str()).collect();
    let mut places: HashMap<(&str, u64), (&str, &str)> = HashMap::new();
    for publish in &history.publishes {
        let Answer::Taken(Receipt { id, epoch, offset }) = &publish.answer else { continue };
        let first = *places.entry((epoch, *offset)).or_insert((id, &publish.gift));
        if first != (id.as_str(), publish.gift.as_str()) {
            let what = format!("{epoch}.{offset} was promised to {} and to {}", first.1, publish.gift);
            found.push(Violation { rule: Rule::OneLane, at: publish.answered, connection: None, what });
        }
    }
    let mut where_is: HashMap<(&str, &str), u64> = HashMap::new();
    for (index, connection) in history.connections.iter().enumerate() {
        let mut epoch = "";
        for seen in &connection.seen {
            match &seen.what {
                What::Joined { epoch: now, .. } | What::Gap { epoch: Some(now), .. } => epoch = now,
                What::Gift { id, offset, gift } => {
                    let mut tell = |rule, what| {
                        found.push(Violation { rule, at: seen.at, connection: Some(index), what });
                    };
                    if !published.contains(gift.as_str()) {
                        tell(Rule::NothingInvented, format!("gift {gift} was never published"));
                    }
                    let first = *places.entry((epoch, *offset)).or_insert((id, gift));
                    if first != (id.as_str(), gift.as_str()) {
                        tell(
                            Rule::OneLane,
                            format!("{epoch}.{offset} is {gift} ({id}) here, {first:?} elsewhere"),
                        );
                    }
                    let place = *where_is.entry((epoch, gift)).or_insert(*offset);
                    if place != *offset {
                        let what = format!("{gift} has the offsets {place} and {offset} in epoch {epoch}");
                        tell(Rule::KeyCountsOnce, what);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Every promised event is there wherever a viewer's positions say that it passed it.
fn acknowledged(history: &History, owed: &BTreeMap<usize, Vec<Owed>>, found: &mut Vec<Violation>) {
    let mut promised: HashMap<&str, BTreeMap<u64, &Publish>> = HashMap::new();
    for publish in &history.publishes {
        if let Answer::Taken(Receipt { epoch, offset, .. }) = &publish.answer {
            promised.entry(epoch).or_default().insert(*offset, publish);
        }
    }
    let mut got: HashMap<usize, HashSet<&str>> = HashMap::new();
    for connection in &history.connections {
        let gifts = connection.seen.iter().filter_map(|seen| match &seen.what {
            What::Gift { gift, .. } => Some(gift.as_str()),
            _ => None,
        });
        got.entry(connection.viewer).or_default().extend(gifts);
    }
    for (viewer, all) in owed {
        let got = got.entry(*viewer).or_default();
        for owed in all.iter().filter(|owed| owed.after < owed.upto) {
            let Some(promised) = promised.get(owed.epoch.as_str()) else { continue };
            for (offset, publish) in promised.range(owed.after + 1..=owed.upto) {
                if !got.contains(publish.gift.as_str()) {
                    let what = format!(
                        "viewer {viewer} passed {}.{offset} and never got {}, acknowledged at {} ms",
                        owed.epoch, publish.gift, publish.answered
                    );
                    let (rule, connection) = (Rule::AcknowledgedArrives, Some(owed.connection));
                    found.push(Violation { rule, at: owed.at, connection, what });
                }
            }
        }
    }
}

fn keys(history: &History, found: &mut Vec<Violation>) {
    let mut first: HashMap<(&str, &str), &Receipt> = HashMap::new();
    for publish in &history.publishes {
        let (Some(key), Answer::Taken(receipt)) = (&publish.key, &publish.answer) else { continue };
        let earlier = *first.entry((key, &receipt.epoch)).or_insert(receipt);
        if earlier != receipt {
            let what = format!("key {key} was answered with {earlier:?} and with {receipt:?}");
            found.push(Violation { rule: Rule::KeyCountsOnce, at: publish.answered, connection: None, what });
        }
    }
}

fn publishers(history: &History, found: &mut Vec<Violation>) {
    // Of one publisher: its events in the order in which they were first acknowledged.
    let mut last: HashMap<(usize, &str), (u64, &str)> = HashMap::new();
    let mut done: HashSet<&str> = HashSet::new();
    for publish in &history.publishes {
        let Answer::Taken(Receipt { epoch, offset, .. }) = &publish.answer else { continue };
        if !done.insert(&publish.gift) {
            continue;
        }
        let before = last.insert((publish.publisher, epoch), (*offset, &publish.gift));
        if let Some((earlier, gift)) = before.filter(|(earlier, _)| earlier >= offset) {
            let what = format!("{gift} is at {epoch}.{earlier}, and {} after it at {offset}", publish.gift);
            let rule = Rule::PublishersOrder;
            found.push(Violation { rule, at: publish.answered, connection: None, what });
        }
    }
}

fn epochs(history: &History, found: &mut Vec<Violation>) {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut last = 0;
    for connection in &history.connections {
        for event in &connection.seen {
            if let What::Joined { epoch, .. } | What::Gap { epoch: Some(epoch), .. } = &event.what
                && !epoch.is_empty()
                && seen.insert(epoch)
            {
                last = event.at;
            }
        }
    }
    let causes: usize = history.faults.iter().map(|fault| fault.epochs).sum();
    if seen.len() > causes + 1 {
        let what = format!("{} epochs, and only {causes} causes for a new one: {seen:?}", seen.len());
        found.push(Violation { rule: Rule::EpochHasCause, at: last, connection: None, what });
    }
}
