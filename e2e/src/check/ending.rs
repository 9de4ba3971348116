//! Once the nemesis has stopped: everybody is together again.

use super::{Rule, Violation};
use crate::history::{Ending, History, Ms, What};

/// The last messages have to be everywhere within this time.
const SOON: Ms = 3_000;
/// The number of viewers has to be right within this time after it last changed.
const COUNTED: Ms = 10_000;

pub(super) fn check(history: &History, found: &mut Vec<Violation>) {
    let mut tell = |rule, at, connection, what| found.push(Violation { rule, at, connection, what });
    let received = history
        .connections
        .iter()
        .any(|connection| connection.seen.iter().any(|seen| matches!(seen.what, What::Gift { .. })));
    if !received {
        tell(Rule::NotVacuous, 0, None, "no viewer received a gift: the run shows nothing".to_owned());
    }
    let Some(ending) = &history.ending else {
        return tell(Rule::NotVacuous, 0, None, "the run did not come to its end".to_owned());
    };
    for viewer in &ending.viewers {
        for (what, text) in missing(history, ending, *viewer) {
            let what = format!("viewer {viewer} did not get the last {what}, {text}");
            let connection = history.connections.iter().rposition(|c| c.viewer == *viewer);
            tell(Rule::Converges, ending.asked + SOON, connection, what);
        }
    }
    counts(history, ending, &mut tell);
}

fn missing<'a>(history: &'a History, ending: &'a Ending, viewer: usize) -> Vec<(&'static str, &'a str)> {
    let in_time = |at: Ms| at <= ending.asked + SOON;
    let seen = || history.last_connection(viewer).into_iter().flat_map(|c| &c.seen).filter(|s| in_time(s.at));
    let mut missing = Vec::new();
    if !seen().any(|seen| matches!(&seen.what, What::Gift { gift, .. } if *gift == ending.gift)) {
        missing.push(("gift", ending.gift.as_str()));
    }
    for chat in &ending.chats {
        if !seen().any(|seen| matches!(&seen.what, What::Chat { text, .. } if text == chat)) {
            missing.push(("chat", chat.as_str()));
        }
    }
    missing
}

fn counts(history: &History, ending: &Ending, tell: &mut impl FnMut(Rule, Ms, Option<usize>, String)) {
    let changed = history
        .connections
        .iter()
        .flat_map(|connection| [connection.joined(), connection.closed.as_ref().map(|(at, _)| *at)])
        .flatten()
        .filter(|at| *at < ending.asked)
        .fold(ending.mended, Ms::max);
    let (due, expected) = (changed + COUNTED, ending.viewers.len() as u64);
    let mut pods: Vec<usize> = ending.counts.iter().map(|count| count.pod).collect();
    pods.sort_unstable();
    pods.dedup();
    for pod in pods {
        let late: Vec<_> = ending.counts.iter().filter(|c| c.pod == pod && c.at >= due).collect();
        if late.is_empty() {
            tell(Rule::Counted, due, None, format!("pod {pod} was not asked after {due} ms"));
        }
        if let Some(wrong) = late.iter().find(|count| count.viewers != Some(expected)) {
            let what = format!("pod {pod} says {:?} viewers instead of {expected}", wrong.viewers);
            tell(Rule::Counted, wrong.at, None, what);
        }
    }
    for viewer in &ending.viewers {
        let told = history.last_connection(*viewer).and_then(|connection| {
            let told = connection.seen.iter().rev().filter(|seen| seen.at <= due);
            told.filter_map(|seen| match seen.what {
                What::Joined { viewers, .. } | What::Viewers(viewers) => Some(viewers),
                _ => None,
            })
            .next()
        });
        if told != Some(expected) {
            let connection = history.connections.iter().rposition(|c| c.viewer == *viewer);
            let what = format!("viewer {viewer} was last told {told:?} viewers instead of {expected}");
            tell(Rule::Counted, due, connection, what);
        }
    }
}
