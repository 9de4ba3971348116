//! A room that becomes too large for itself shows less, then writes less often, then lets its viewers fetch.

use std::time::Duration;

use danmu_wire::Event;
use serde_json::json;

use super::{Stage, check, seat::Seat, stage::unix_ms};

const ROOM: &str = "demo-shedding";
/// A stage ends when the load was low for 30 s.
const CALM: Duration = Duration::from_secs(45);

pub(super) async fn walk(stage: &Stage) -> Result<(), String> {
    let started = jiff::Timestamp::from_millisecond(i64::try_from(unix_ms() - 5_000).unwrap_or(0));
    let started = started.map_err(|error| error.to_string())?;
    let spec = json!({
        "startedAt": started, "recording": {"retentionDays": 1, "maxBytes": 1_048_576},
        "shedding": {"viewersAbove": 2, "messagesPerSecondAbove": 1000}, "moderation": {"anonymous": "Speak"},
    });
    stage.room(ROOM, spec).await?;
    let mut ann = Seat::join(stage, ROOM, "", None).await?;
    let mut others = Vec::new();
    for _ in 0..5 {
        others.push(Seat::join(stage, ROOM, "", None).await?);
    }
    let at = ann.sees("that viewers have to fetch", |event| match event {
        Event::Mode(mode) => mode.on_demand.and_then(|it| it.at_ms),
        _ => None,
    });
    let at = at.await?;
    stage.tell(&format!("six viewers where two were planned for: they fetch, the live video is at {at} ms"));
    let ack = ann.say("is this on?").await?;
    check(ack.shown, "what is said meanwhile is taken", &ack)?;
    stage
        .until("it is fetched", async || {
            let answer = stage.fetch(&format!("/rooms/{ROOM}/danmu?from=0&to=60000"), &[]).await?;
            if answer.body.contains("is this on?") { Ok(()) } else { Err(answer.body) }
        })
        .await?;
    stage.tell("what Ann says is found in the piece that everybody fetches");
    if stage.is_cluster() {
        told_by_the_operator(stage, "True").await?;
    }
    drop(others);
    ann.sees_within(CALM, "that chat is live again", |event| match event {
        Event::Mode(mode) if mode.on_demand.is_none() => Some(()),
        _ => None,
    })
    .await?;
    stage.tell("the others leave, and half a minute later chat is live again");
    Ok(())
}

async fn told_by_the_operator(stage: &Stage, status: &str) -> Result<(), String> {
    let told = stage.until("the room's condition tells it", async || {
        let room = stage.object("danmuroom", ROOM).await?;
        let conditions = room["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let shedding = conditions.iter().find(|condition| condition["type"] == "Shedding");
        match shedding {
            Some(shedding) if shedding["status"] == status => Ok(shedding.clone()),
            _ => Err(serde_json::to_string(&conditions).unwrap_or_default()),
        }
    });
    let told = told.await?;
    stage.tell(&format!("kubectl get danmuroom tells it: {}: {}", told["reason"], told["message"]));
    Ok(())
}
