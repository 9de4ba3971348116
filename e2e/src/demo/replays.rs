//! What is said in a live stream is kept by its position, and the stream's room becomes its replay.

use danmu_wire::{Event, Placed};
use serde_json::{Value, json};

use super::{Stage, check, seat::Seat, stage::unix_ms};

const ROOM: &str = "demo-replay";
/// The video began so long ago, in milliseconds: what is said is in a segment that is not the first.
const RUNS_FOR: u64 = 25_000;

pub(super) async fn walk(stage: &Stage) -> Result<(), String> {
    let started = jiff::Timestamp::from_millisecond(i64::try_from(unix_ms() - RUNS_FOR).unwrap_or(0));
    let started = started.map_err(|error| error.to_string())?;
    let spec = |mode: &str| {
        json!({
            "mode": mode, "startedAt": started, "recording": {"retentionDays": 1, "maxBytes": 1_048_576},
            "moderation": {"anonymous": "Speak"}, "limits": {"perViewer": {"messages": 100, "seconds": 5}},
        })
    };
    stage.room(ROOM, spec("Live")).await?;
    let mut ann = Seat::join(stage, ROOM, "", None).await?;
    for text in ["what a start", "前方高能", "gg"] {
        ann.say(text).await?;
    }
    let live = fetched(stage, 0, 60_000, 3).await?;
    let first = live[0].at;
    check(first >= RUNS_FOR, "what is said live has the video's position", &live)?;
    stage.tell(&format!("three messages of the live stream are kept, the first at {first} ms"));

    stage.room(ROOM, spec("OnDemand")).await?;
    let segment = ann.sees("the change to a replay", |event| match event {
        Event::Mode(mode) => mode.on_demand.map(|it| it.segment_ms),
        _ => None,
    });
    let segment = segment.await?;
    stage.tell(&format!("the room is a replay now; who was in stays in, and fetches pieces of {segment} ms"));
    ann.send(json!({"op": "say", "text": "I knew it", "at": 5_000, "ref": "replay"})).await?;
    ann.answer("replay").await?;
    let early = fetched(stage, 0, 10_000, 1).await?;
    check(early[0].at == 5_000, "what is said in a replay is kept at the position watched", &early)?;
    stage.tell("what Ann says while she watches 0:05 is kept there, for everybody after her");
    cached(stage).await?;

    stage.room(ROOM, spec("Live")).await?;
    ann.sees("the change back", |event| match event {
        Event::Mode(mode) if mode.on_demand.is_none() => Some(()),
        _ => None,
    })
    .await?;
    let ack = ann.say("and on we go").await?;
    check(ack.shown, "it is live again", &ack)?;
    ann.sees("her own words", |event| match event {
        Event::Chat(chat) if chat.text == "and on we go" => Some(()),
        _ => None,
    })
    .await?;
    stage.tell("and back to live, on the same connection");
    bad_ranges(stage).await
}

/// What was said in a part of the video, once there is so much.
async fn fetched(stage: &Stage, from: u64, to: u64, count: usize) -> Result<Vec<Placed>, String> {
    stage
        .until(&format!("{count} messages are fetched"), async || {
            let answer = stage.fetch(&format!("/rooms/{ROOM}/danmu?from={from}&to={to}"), &[]).await?;
            let placed: Vec<Placed> =
                serde_json::from_str(&answer.body).map_err(|error| format!("{error}: {}", answer.body))?;
            if placed.len() == count { Ok(placed) } else { Err(answer.body) }
        })
        .await
}

/// A piece is asked for again with its mark: nothing is sent twice.
async fn cached(stage: &Stage) -> Result<(), String> {
    let path = format!("/rooms/{ROOM}/danmu?from=0&to=10000");
    let first = stage.fetch(&path, &[]).await?;
    let mark = first.header("etag");
    let again = stage.fetch(&path, &[("if-none-match", &mark)]).await?;
    check(again.status == 304 && again.body.is_empty(), "a piece that is known is not sent again", &again)?;
    let kept = first.header("cache-control");
    stage.tell(&format!("a piece that is known answers 304; Cache-Control: {kept}"));
    Ok(())
}

async fn bad_ranges(stage: &Stage) -> Result<(), String> {
    for range in ["from=20000&to=10000", "from=0&to=99999999999", "from=-5&to=10"] {
        let answer = stage.fetch(&format!("/rooms/{ROOM}/danmu?{range}"), &[]).await?;
        let told: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        check(answer.status == 400 && told["error"].is_string(), "a range that is none is refused", &answer)?;
    }
    stage.tell("ranges that are none are refused in words");
    Ok(())
}
