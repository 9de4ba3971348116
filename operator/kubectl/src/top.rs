//! `kubectl danmu top`: pods and rooms by viewers.

use std::{
    collections::{BTreeMap, HashMap},
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use danmu_operator::state;
use kube::ResourceExt;
use serde::Serialize;

use crate::{
    cluster::Cluster,
    servers::{Answer, Servers, rate},
    table::table,
};

const AGAIN: Duration = Duration::from_secs(2);
/// Rooms on the screen; `--json` has them all.
const ROOMS: usize = 30;

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    pods: Vec<PodLine>,
    rooms: Vec<RoomLine>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PodLine {
    pod: String,
    state: String,
    /// None: it did not answer.
    viewers: Option<i64>,
    capacity: Option<u64>,
    rooms: Option<usize>,
    messages_per_second: Option<f64>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct RoomLine {
    room: String,
    viewers: u64,
    pods: usize,
    expected: Option<u32>,
    shedding: u8,
    listed: bool,
}

type Accepted = HashMap<String, (f64, Instant)>;

/// Prints until Ctrl-C, or once.
pub(crate) async fn top(cluster: &Cluster, once: bool, json: bool) -> Result<(), String> {
    let mut servers = Servers::default();
    let mut before = Accepted::new();
    let screen = std::io::stdout().is_terminal();
    let mut current = Cluster::clone(cluster);
    // The first look only begins the rates.
    for round in 0_u64.. {
        let answers = servers.ask(&current).await;
        let view = view(&current, &answers, &before);
        before = accepted(&answers);
        let last = once || json;
        if round > 0 || !last {
            show(&view, json, screen && !last)?;
        }
        if round > 0 && last {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            _ = tokio::signal::ctrl_c() => break,
        }
        current.look_again().await?;
    }
    Ok(())
}

fn show(view: &View, json: bool, clear: bool) -> Result<(), String> {
    let text = if json {
        serde_json::to_string_pretty(view).map_err(|error| error.to_string())? + "\n"
    } else {
        format!("{}{}", if clear { "\x1b[2J\x1b[H" } else { "" }, text(view))
    };
    // A reader that went (`| head`) is no fault.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn accepted(answers: &HashMap<String, Result<Answer, String>>) -> Accepted {
    let known =
        answers.iter().filter_map(|(pod, answer)| Some((pod.clone(), answer.as_ref().ok()?.accepted?)));
    known.collect()
}

fn view(cluster: &Cluster, answers: &HashMap<String, Result<Answer, String>>, before: &Accepted) -> View {
    let mut pods: Vec<PodLine> = Vec::new();
    for pod in &cluster.found.pods {
        let name = pod.name_any();
        let (runs, ready) = state(pod);
        let mut line = PodLine { pod: name.clone(), ..PodLine::default() };
        line.state = match answers.get(&name) {
            _ if pod.metadata.deletion_timestamp.is_some() => "Terminating".to_owned(),
            _ if !runs => "Not running".to_owned(),
            Some(Err(error)) => format!("Unknown: {error}"),
            Some(Ok(answer)) if answer.load.draining => {
                format!("Draining, {} s left", answer.load.seconds_left.unwrap_or(0))
            }
            _ if ready => "Ready".to_owned(),
            _ => "Not ready".to_owned(),
        };
        if let Some(Ok(answer)) = answers.get(&name) {
            line.viewers = Some(answer.load.viewers);
            line.capacity = Some(answer.load.capacity);
            line.rooms = Some(answer.load.rooms.len());
            line.messages_per_second =
                before.get(&name).zip(answer.accepted).and_then(|(before, now)| rate(*before, now));
        }
        pods.push(line);
    }
    pods.sort_by(|a, b| b.viewers.cmp(&a.viewers).then_with(|| a.pod.cmp(&b.pod)));
    View { pods, rooms: rooms(cluster, answers) }
}

fn rooms(cluster: &Cluster, answers: &HashMap<String, Result<Answer, String>>) -> Vec<RoomLine> {
    let listed = cluster.found.rooms.iter().map(|room| {
        let expected = Some(room.spec.expected_viewers).filter(|expected| *expected > 0);
        let line = RoomLine { room: room.name_any(), expected, listed: true, ..RoomLine::default() };
        (room.name_any(), line)
    });
    let mut all: BTreeMap<String, RoomLine> = listed.collect();
    for answer in answers.values().flatten() {
        for (room, viewers) in &answer.load.rooms {
            let line = all
                .entry(room.clone())
                .or_insert_with(|| RoomLine { room: room.clone(), ..RoomLine::default() });
            line.viewers += viewers;
            line.pods += 1;
        }
        for (room, stage) in &answer.load.shedding {
            if let Some(line) = all.get_mut(room) {
                line.shedding = line.shedding.max(*stage);
            }
        }
    }
    let mut all: Vec<RoomLine> = all.into_values().collect();
    all.sort_by(|a, b| b.viewers.cmp(&a.viewers).then_with(|| a.room.cmp(&b.room)));
    all
}

fn text(view: &View) -> String {
    let unknown = || "?".to_owned();
    let pods: Vec<Vec<String>> = view
        .pods
        .iter()
        .map(|pod| {
            vec![
                pod.pod.clone(),
                pod.viewers.map_or_else(unknown, |viewers| viewers.to_string()),
                pod.capacity.map_or_else(unknown, |capacity| capacity.to_string()),
                pod.rooms.map_or_else(unknown, |rooms| rooms.to_string()),
                pod.messages_per_second.map_or_else(unknown, |rate| format!("{rate:.1}")),
                pod.state.clone(),
            ]
        })
        .collect();
    let rooms: Vec<Vec<String>> = view
        .rooms
        .iter()
        .take(ROOMS)
        .map(|room| {
            let shedding = if room.shedding > 0 {
                format!("sheds load, stage {}", room.shedding)
            } else {
                String::new()
            };
            let unlisted = if room.listed { String::new() } else { "no manifest".to_owned() };
            let notes: Vec<String> =
                [shedding, unlisted].into_iter().filter(|note| !note.is_empty()).collect();
            vec![
                room.room.clone(),
                room.viewers.to_string(),
                room.expected.map_or_else(|| "-".to_owned(), |expected| expected.to_string()),
                room.pods.to_string(),
                notes.join("; "),
            ]
        })
        .collect();
    let pods = table(&["POD", "VIEWERS", "CAPACITY", "ROOMS", "MSG/S", "STATE"], &pods);
    let more = match view.rooms.len().saturating_sub(ROOMS) {
        0 => String::new(),
        more => format!("and {more} rooms more (--json has them all)\n"),
    };
    format!("{pods}\n{}{more}", table(&["ROOM", "VIEWERS", "EXPECTED", "PODS", "NOTES"], &rooms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_a_question_mark() {
        let known = PodLine {
            pod: "danmu-default-0".into(),
            state: "Ready".into(),
            viewers: Some(120),
            capacity: Some(15_000),
            rooms: Some(2),
            messages_per_second: Some(7.25),
        };
        let silent =
            PodLine { pod: "danmu-default-1".into(), state: "Not running".into(), ..PodLine::default() };
        let finals = RoomLine {
            room: "finals".into(),
            viewers: 120,
            pods: 1,
            expected: Some(80_000),
            shedding: 1,
            listed: true,
        };
        let lobby = RoomLine { room: "side".into(), ..RoomLine::default() };
        let told = text(&View { pods: vec![known, silent], rooms: vec![finals, lobby] });
        assert_eq!(
            told,
            "POD               VIEWERS   CAPACITY   ROOMS   MSG/S   STATE\n\
             danmu-default-0   120       15000      2       7.2     Ready\n\
             danmu-default-1   ?         ?          ?       ?       Not running\n\n\
             ROOM     VIEWERS   EXPECTED   PODS   NOTES\n\
             finals   120       80000      1      sheds load, stage 1\n\
             side     0         -          0      no manifest\n"
        );
    }
}
