//! For every promise a history that keeps it and one that breaks it: a checker that cannot fail is worthless.

use danmu_wire::Lane;

use super::*;
use crate::history::*;

fn receipt(epoch: &str, offset: u64) -> Receipt {
    Receipt { id: format!("id-{epoch}-{offset}"), epoch: epoch.to_owned(), offset }
}

/// A gift `g<offset>`, acknowledged at `epoch.offset`.
fn published(epoch: &str, offset: u64) -> Publish {
    Publish {
        publisher: 0,
        gift: format!("g-{epoch}-{offset}"),
        key: Some(format!("k-{epoch}-{offset}")),
        asked: offset * 100,
        answered: offset * 100 + 10,
        answer: Answer::Taken(receipt(epoch, offset)),
    }
}

fn joined(epoch: &str, offset: u64, recovered: bool) -> What {
    What::Joined { epoch: epoch.to_owned(), offset, recovered, viewers: 1, history: Vec::new() }
}

fn gift(epoch: &str, offset: u64) -> What {
    let id = receipt(epoch, offset).id;
    What::Gift { id, offset, gift: format!("g-{epoch}-{offset}") }
}

fn gap(epoch: Option<&str>, dropped: Option<u64>) -> What {
    What::Gap { lane: Lane::Priority, dropped, epoch: epoch.map(str::to_owned) }
}

fn chat(text: &str) -> What {
    What::Chat { id: format!("id-{text}"), text: text.to_owned() }
}

fn connection(viewer: usize, since: Option<&str>, events: Vec<What>) -> Connection {
    let seen = events.into_iter().enumerate().map(|(i, what)| Seen { at: 5_000 + i as Ms, what }).collect();
    Connection { viewer, since: since.map(|since| since.parse().unwrap()), seen, ..Connection::default() }
}

fn said(connection: usize, text: &str) -> Said {
    Said { connection, text: text.to_owned(), at: 5_100, shown: Some(5_110) }
}

fn fault() -> Fault {
    Fault { what: "a fault".to_owned(), from: 0, until: 100_000, epochs: 0 }
}

/// What was broken, apart from how the run ended.
fn broken(history: &History) -> Vec<Rule> {
    let mut rules: Vec<Rule> = check(history)
        .into_iter()
        .map(|violation| violation.rule)
        .filter(|rule| !matches!(rule, Rule::NotVacuous))
        .collect();
    rules.sort();
    rules.dedup();
    rules
}

fn lane(connections: Vec<Connection>) -> History {
    let publishes = (1..=9).map(|offset| published("E", offset)).collect();
    History { publishes, connections, ..History::default() }
}

#[test]
fn a_lane_that_is_whole_breaks_nothing() {
    let first = connection(0, None, vec![joined("E", 1, false), gift("E", 2), gift("E", 3)]);
    let second =
        connection(0, Some("E.3"), vec![joined("E", 5, true), gift("E", 4), gift("E", 5), gift("E", 6)]);
    assert_eq!(broken(&lane(vec![first, second])), []);
}

#[test]
fn a_doubled_event_is_found() {
    let twice = connection(0, None, vec![joined("E", 1, false), gift("E", 2), gift("E", 2)]);
    assert_eq!(broken(&lane(vec![twice])), [Rule::NoDuplicates]);
    let back = connection(0, None, vec![joined("E", 3, false), gift("E", 4), gift("E", 3)]);
    assert_eq!(broken(&lane(vec![back])), [Rule::NoDuplicates]);
}

#[test]
fn a_hole_is_found_unless_it_was_told() {
    let hole = connection(0, None, vec![joined("E", 1, false), gift("E", 2), gift("E", 4)]);
    assert_eq!(broken(&lane(vec![hole])), [Rule::NoHoles]);
    let told = vec![joined("E", 1, false), gift("E", 2), gap(None, Some(1)), gift("E", 4), gift("E", 5)];
    let mut history = lane(vec![connection(0, None, told.clone())]);
    history.faults.push(fault());
    assert_eq!(broken(&history), []);
    let mut more = told;
    more.push(gift("E", 7));
    let mut history = lane(vec![connection(0, None, more)]);
    history.faults.push(fault());
    assert_eq!(broken(&history), [Rule::NoHoles], "more is missing than was told");
    let after_epoch = vec![joined("E", 3, false), gap(Some("F"), None), gift("F", 2)];
    let mut history = lane(vec![connection(0, None, after_epoch)]);
    history.publishes.push(published("F", 2));
    history.faults.push(Fault { epochs: 1, ..fault() });
    assert_eq!(broken(&history), [Rule::NoHoles], "an epoch begins with 1");
}

#[test]
fn a_recovery_that_is_not_whole_is_found() {
    let hole = connection(0, Some("E.1"), vec![joined("E", 4, true), gift("E", 2), gift("E", 4)]);
    assert_eq!(broken(&lane(vec![hole])), [Rule::RecoveredWhole]);
    let short = connection(0, Some("E.1"), vec![joined("E", 4, true), gift("E", 2), gift("E", 3)]);
    assert_eq!(broken(&lane(vec![short])), [Rule::RecoveredWhole]);
    let nothing = connection(0, Some("E.1"), vec![joined("E", 4, true)]);
    assert_eq!(broken(&lane(vec![nothing])), [Rule::RecoveredWhole]);
    let other = connection(0, Some("D.1"), vec![joined("E", 1, true)]);
    assert_eq!(broken(&lane(vec![other])), [Rule::RecoveredWhole]);
    let ahead = connection(0, Some("E.3"), vec![joined("E", 2, true)]);
    assert_eq!(broken(&lane(vec![ahead])), [Rule::RecoveredWhole]);
}

#[test]
fn an_acknowledged_event_that_another_one_took_the_place_of_is_found() {
    let mut wrong = gift("E", 2);
    if let What::Gift { gift, .. } = &mut wrong {
        *gift = "g-E-9".to_owned();
    }
    let rules = broken(&lane(vec![connection(0, None, vec![joined("E", 1, false), wrong])]));
    assert_eq!(rules, [Rule::AcknowledgedArrives, Rule::OneLane]);
}

#[test]
fn two_promises_of_one_place_and_two_places_of_one_key_are_found() {
    let mut history = lane(Vec::new());
    history.publishes.push(Publish { publisher: 1, gift: "other".into(), key: None, ..published("E", 4) });
    assert_eq!(broken(&history), [Rule::OneLane]);
    let mut history = lane(Vec::new());
    let again = Answer::Taken(receipt("E", 12));
    history.publishes.push(Publish { answer: again, ..published("E", 4) });
    assert_eq!(broken(&history), [Rule::KeyCountsOnce]);
    let mut doubled = gift("E", 3);
    if let What::Gift { gift, .. } = &mut doubled {
        *gift = "unknown answer".to_owned();
    }
    let mut again = gift("E", 4);
    if let What::Gift { gift, .. } = &mut again {
        *gift = "unknown answer".to_owned();
    }
    let seen = vec![joined("E", 2, false), doubled, again];
    let unknown = Publish { answer: Answer::Nothing, gift: "unknown answer".into(), ..published("E", 3) };
    let history = History {
        publishes: vec![unknown],
        connections: vec![connection(0, None, seen)],
        ..History::default()
    };
    assert_eq!(broken(&history), [Rule::KeyCountsOnce]);
}

#[test]
fn a_publishers_events_out_of_order_are_found() {
    let mut history = History::default();
    history.publishes.extend([published("E", 2), published("E", 1)]);
    assert_eq!(broken(&history), [Rule::PublishersOrder]);
    let again = published("E", 1);
    history.publishes = vec![published("E", 1), published("E", 2), again];
    assert_eq!(broken(&history), [], "a repeat has its first place");
}

#[test]
fn a_loss_without_a_cause_is_found() {
    let lost = || connection(0, Some("E.1"), vec![joined("E", 3, false)]);
    assert_eq!(broken(&lane(vec![lost()])), [Rule::LossHasCause]);
    let mut history = lane(vec![lost()]);
    history.faults.push(fault());
    assert_eq!(broken(&history), []);
    let told = connection(0, None, vec![joined("E", 1, false), gap(None, Some(1)), gift("E", 3)]);
    assert_eq!(broken(&lane(vec![told])), [Rule::LossHasCause]);
}

#[test]
fn an_epoch_without_a_cause_is_found() {
    let changed = || connection(0, None, vec![joined("E", 1, false), gap(Some("F"), None), gift("F", 1)]);
    let mut history = lane(vec![changed()]);
    history.publishes.push(published("F", 1));
    history.faults.push(fault());
    assert_eq!(broken(&history), [Rule::EpochHasCause]);
    history.faults.push(Fault { epochs: 1, ..fault() });
    assert_eq!(broken(&history), []);
}

#[test]
fn what_nobody_said_is_found() {
    let invented = connection(0, None, vec![joined("E", 9, false), chat("made up"), gift("E", 10)]);
    assert_eq!(broken(&lane(vec![invented])), [Rule::NothingInvented]);
    let history = vec![("id".to_owned(), "made up".to_owned())];
    let joined = What::Joined { epoch: "E".into(), offset: 0, recovered: false, viewers: 1, history };
    assert_eq!(broken(&lane(vec![connection(0, None, vec![joined])])), [Rule::NothingInvented]);
}

fn talk(viewers: Vec<Vec<&str>>) -> History {
    let mut connections = vec![connection(9, None, Vec::new()), connection(8, None, Vec::new())];
    for (viewer, texts) in viewers.into_iter().enumerate() {
        let events = [joined("E", 0, false)].into_iter().chain(texts.into_iter().map(chat)).collect();
        connections.push(connection(viewer, None, events));
    }
    // Senders on connections 0 and 1, both on the same pod.
    let said = vec![said(0, "a1"), said(0, "a2"), said(1, "b1"), said(1, "b2")];
    History { connections, said, faults: vec![fault()], ..History::default() }
}

#[test]
fn chat_may_be_lost_in_trouble_but_not_doubled_or_reordered() {
    assert_eq!(broken(&talk(vec![vec!["a1", "b1", "a2"], vec!["a1", "a2", "b2"]])), []);
    assert_eq!(broken(&talk(vec![vec!["a1", "a1"]])), [Rule::NoDuplicates]);
    assert_eq!(broken(&talk(vec![vec!["a2", "a1"]])), [Rule::SendersOrder]);
    assert_eq!(broken(&talk(vec![vec!["a1", "b1"], vec!["b1", "a1"]])), [Rule::PodsOrder]);
    let mut history = talk(vec![vec!["a1", "b1"], vec!["b1", "a1"]]);
    history.connections[1].pod.pod = 1;
    assert_eq!(broken(&history), [], "two pods have no common order");
}

#[test]
fn a_chat_that_is_lost_in_calm_is_found() {
    let all = vec!["a1", "a2", "b1", "b2"];
    let mut history = talk(vec![all.clone(), vec!["a1", "a2", "b1"]]);
    assert_eq!(broken(&history), []);
    history.faults.clear();
    assert_eq!(broken(&history), [Rule::CalmChatArrives]);
    history.connections[3].closed = Some((6_000, "left".into()));
    assert_eq!(broken(&history), [], "it was not there long enough");
}

fn ended(events: Vec<What>, told: u64) -> History {
    let mut events = events;
    events.insert(0, joined("E", 8, false));
    events.push(What::Viewers(told));
    let ending = Ending {
        mended: 4_000,
        viewers: vec![0],
        gift: "g-E-9".into(),
        chats: vec!["last".into()],
        asked: 5_000,
        counts: vec![Count { pod: 0, at: 16_000, viewers: Some(1) }],
    };
    let mut history = lane(vec![connection(0, None, events)]);
    history.said = vec![said(0, "last")];
    history.ending = Some(ending);
    history
}

#[test]
fn an_end_without_everybody_together_is_found() {
    assert_eq!(check(&ended(vec![gift("E", 9), chat("last")], 1)), []);
    let mut history = ended(vec![gift("E", 9)], 1);
    history.faults.push(fault());
    assert_eq!(broken(&history), [Rule::Converges]);
    assert_eq!(broken(&ended(vec![chat("last")], 1)), [Rule::Converges]);
    assert_eq!(broken(&ended(vec![gift("E", 9), chat("last")], 2)), [Rule::Counted]);
    let mut history = ended(vec![gift("E", 9), chat("last")], 1);
    history.ending.as_mut().unwrap().counts[0].viewers = Some(3);
    assert_eq!(broken(&history), [Rule::Counted]);
    history.ending.as_mut().unwrap().counts[0].at = 100;
    assert_eq!(broken(&history), [Rule::Counted], "nobody asked late enough");
}

#[test]
fn a_run_that_shows_nothing_is_no_success() {
    let rules: Vec<Rule> = check(&History::default()).into_iter().map(|violation| violation.rule).collect();
    assert_eq!(rules, [Rule::NotVacuous, Rule::NotVacuous]);
}
