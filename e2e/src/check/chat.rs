//! Chat: at most once, in order, never invented; and not lost while nothing is broken.

use std::collections::{HashMap, HashSet};

use super::{Rule, Violation, is_troubled};
use crate::history::{Connection, History, Ms, PodRun, Said, What};

/// A shown chat has to be everywhere within this time while nothing is broken.
const SOON: Ms = 3_000;
/// The nemesis starts, and viewers come, before the run is this old.
const START: Ms = 3_000;

pub(super) fn check(history: &History, found: &mut Vec<Violation>) {
    let said: HashMap<&str, (usize, &Said)> =
        history.said.iter().enumerate().map(|(number, said)| (said.text.as_str(), (number, said))).collect();
    let mut order: HashMap<PodRun, Order> = HashMap::new();
    for (index, connection) in history.connections.iter().enumerate() {
        connection_order(history, index, connection, &said, &mut order, found);
    }
    for (pod, order) in order {
        if let Some(number) = order.cycle() {
            let text = history.said.get(number).map_or("", |said| said.text.as_str());
            let what = format!("chats of {pod} come in different orders, {text} among them");
            let at = history.said.get(number).map_or(0, |said| said.at);
            found.push(Violation { rule: Rule::PodsOrder, at, connection: None, what });
        }
    }
    calm(history, found);
}

/// A connection's chats, those of the history first.
fn chats(connection: &Connection) -> impl Iterator<Item = (Ms, &str, &str)> {
    connection.seen.iter().flat_map(|seen| {
        let several: Vec<(Ms, &str, &str)> = match &seen.what {
            What::Joined { history, .. } => {
                history.iter().map(|(id, text)| (seen.at, id.as_str(), text.as_str())).collect()
            }
            What::Chat { id, text } => vec![(seen.at, id.as_str(), text.as_str())],
            _ => Vec::new(),
        };
        several
    })
}

fn connection_order<'a>(
    history: &'a History,
    index: usize,
    connection: &'a Connection,
    said: &HashMap<&str, (usize, &Said)>,
    order: &mut HashMap<PodRun, Order>,
    found: &mut Vec<Violation>,
) {
    let mut ids = HashSet::new();
    let mut of_sender: HashMap<usize, usize> = HashMap::new();
    let mut of_pod: HashMap<PodRun, usize> = HashMap::new();
    for (at, id, text) in chats(connection) {
        let mut tell = |rule, what| found.push(Violation { rule, at, connection: Some(index), what });
        if !ids.insert(id) {
            tell(Rule::NoDuplicates, format!("chat {text} ({id}) came twice on one connection"));
            continue;
        }
        let Some((number, said)) = said.get(text) else {
            tell(Rule::NothingInvented, format!("nobody said `{text}`"));
            continue;
        };
        if let Some(before) = of_sender.insert(said.connection, *number).filter(|before| before > number) {
            let before = history.said.get(before).map_or("", |said| said.text.as_str());
            tell(Rule::SendersOrder, format!("{text} came after {before}, which was said later"));
        }
        let Some(pod) = history.connections.get(said.connection).map(|connection| connection.pod) else {
            continue;
        };
        let order = order.entry(pod).or_default();
        if let Some(before) = of_pod.insert(pod, *number) {
            order.after(before, *number);
        }
    }
}

/// Which chat was seen before which, as a graph.
#[derive(Default)]
struct Order {
    next: HashMap<usize, HashSet<usize>>,
}

impl Order {
    fn after(&mut self, before: usize, then: usize) {
        self.next.entry(before).or_default().insert(then);
    }

    /// Somebody in a circle, which no one order explains.
    fn cycle(&self) -> Option<usize> {
        let mut incoming: HashMap<usize, usize> = HashMap::new();
        for (before, after) in &self.next {
            incoming.entry(*before).or_default();
            for then in after {
                *incoming.entry(*then).or_default() += 1;
            }
        }
        let mut free: Vec<usize> =
            incoming.iter().filter(|(_, count)| **count == 0).map(|(chat, _)| *chat).collect();
        while let Some(chat) = free.pop() {
            incoming.remove(&chat);
            for then in self.next.get(&chat).into_iter().flatten() {
                if let Some(count) = incoming.get_mut(then) {
                    *count -= 1;
                    if *count == 0 {
                        free.push(*then);
                    }
                }
            }
        }
        incoming.into_keys().min()
    }
}

/// What is shown while nothing is broken reaches everybody who was there before and stays.
fn calm(history: &History, found: &mut Vec<Violation>) {
    let texts: Vec<HashSet<&str>> = history
        .connections
        .iter()
        .map(|connection| chats(connection).map(|(_, _, text)| text).collect())
        .collect();
    for said in &history.said {
        let Some(shown) = said.shown else { continue };
        if said.at < START || is_troubled(&history.faults, said.at, shown + SOON) {
            continue;
        }
        for (index, connection) in history.connections.iter().enumerate() {
            let there =
                connection.joined().is_some_and(|joined| joined < said.at) && connection.end() > shown + SOON;
            if there && !texts.get(index).is_some_and(|texts| texts.contains(said.text.as_str())) {
                let what = format!("{} was shown at {shown} ms in calm, and did not come", said.text);
                let (rule, connection) = (Rule::CalmChatArrives, Some(index));
                found.push(Violation { rule, at: shown, connection, what });
            }
        }
    }
}
