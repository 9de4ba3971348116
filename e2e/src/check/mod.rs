//! From a history to the promises that were broken. Pure.
//!
//! The priority lane: `lane`. Chat: `chat`. What has to hold once all is mended: `ending`.

mod chat;
mod ending;
mod lane;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use crate::history::{Fault, History, Ms};

/// How long after a fault was mended its consequences may be told to viewers: a half-open link is found
/// within 5 s, a new connection tried within 3 s.
pub const GRACE: Ms = 9_000;

/// What Danmu promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// One connection brings nothing twice.
    NoDuplicates,
    /// Offsets follow each other on a connection, unless a gap was told.
    NoHoles,
    /// `recovered: true` comes with everything since the viewer's position.
    RecoveredWhole,
    /// An acknowledged event reaches every viewer, or its loss is told.
    AcknowledgedArrives,
    /// Everybody sees the same event at the same place of the lane.
    OneLane,
    /// What one publisher publishes one after the other is numbered in that order.
    PublishersOrder,
    /// An idempotency key counts once.
    KeyCountsOnce,
    /// A loss is told only when there was a cause.
    LossHasCause,
    /// An epoch ends only when Redis lost its memory or its primary.
    EpochHasCause,
    /// Only what was said or published is shown.
    NothingInvented,
    /// What a sender said on one connection is shown in that order.
    SendersOrder,
    /// The chats of one pod come in one order, whoever sees them.
    PodsOrder,
    /// In calm times a shown chat reaches everybody.
    CalmChatArrives,
    /// Once all is mended, the last gift and the last chats reach everybody.
    Converges,
    /// Once all is mended, everybody knows the number of viewers within 10 s.
    Counted,
    /// The run has shown something.
    NotVacuous,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// When it showed.
    pub at: Ms,
    /// On which connection, if on one.
    pub connection: Option<usize>,
    /// In words.
    pub what: String,
}

/// All broken promises of a history, in the order in which they showed.
pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    lane::check(history, &mut found);
    chat::check(history, &mut found);
    ending::check(history, &mut found);
    found.sort_by_key(|violation| violation.at);
    found
}

/// Whether a fault, or its consequences, fall into the time.
fn is_troubled(faults: &[Fault], from: Ms, until: Ms) -> bool {
    faults.iter().any(|fault| fault.from <= until && from <= fault.until.saturating_add(GRACE))
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:9.3} s  {:?}: {}", self.at as f64 / 1000.0, self.rule, self.what)
    }
}

/// The first violations with what happened around them, and how many there are of each kind.
pub fn report(history: &History, violations: &[Violation], most: usize) -> String {
    let mut text = String::new();
    for violation in violations.iter().take(most) {
        text.push_str(&format!("{violation}\n"));
        for fault in history
            .faults
            .iter()
            .filter(|fault| fault.from <= violation.at && violation.at <= fault.until.saturating_add(GRACE))
        {
            text.push_str(&format!("      fault {}–{} ms: {}\n", fault.from, fault.until, fault.what));
        }
        if let Some(connection) = violation.connection.and_then(|index| history.connections.get(index)) {
            text.push_str(&format!(
                "      viewer {} on {} since {}, opened {} ms, {}\n",
                connection.viewer,
                connection.pod,
                connection.since.as_ref().map_or_else(|| "the start".to_owned(), ToString::to_string),
                connection.opened,
                connection
                    .closed
                    .as_ref()
                    .map_or_else(|| "open".to_owned(), |(at, why)| format!("closed {at} ms: {why}")),
            ));
            let middle = connection.seen.partition_point(|seen| seen.at < violation.at);
            for seen in connection.seen.iter().skip(middle.saturating_sub(6)).take(9) {
                let mut what = format!("{:?}", seen.what);
                if what.len() > 160 {
                    what = what.chars().take(160).chain(['…']).collect();
                }
                text.push_str(&format!("      {:9.3} s  {what}\n", seen.at as f64 / 1000.0));
            }
        }
    }
    let mut counts = BTreeMap::new();
    for violation in violations {
        *counts.entry(violation.rule).or_insert(0usize) += 1;
    }
    for (rule, count) in counts {
        text.push_str(&format!("{rule:?}: {count}\n"));
    }
    text
}
