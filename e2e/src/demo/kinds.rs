//! Gifts that count up, a message that is pinned, who comes in, and a kind of the platform's own.

use danmu_wire::Event;
use serde_json::json;

use super::{Stage, check, seat::Seat};

const ROOM: &str = "demo-kinds";

pub(super) async fn walk(stage: &Stage) -> Result<(), String> {
    let kinds = json!({"comboMilliseconds": 3000, "enterBelow": 10});
    stage.room(ROOM, json!({"moderation": {"anonymous": "Watch"}, "kinds": kinds})).await?;
    let mut ann = Seat::join(stage, ROOM, "", Some(&stage.token("ann", "speaker")?)).await?;
    let _bob = Seat::join(stage, ROOM, "", Some(&stage.token("bob", "speaker")?)).await?;
    ann.sees("that Bob came in", |event| match event {
        Event::Enter(enter) if enter.user.as_deref() == Some("bob") => Some(()),
        _ => None,
    })
    .await?;
    stage.tell("Bob comes in, and Ann is told: the room is small");

    for _ in 0..3 {
        stage.publish(ROOM, json!({"kind": "gift", "gift": "rose", "user": "bob"})).await?;
    }
    let mut given = 0;
    let combo = ann.sees("three roses", |event| match event {
        Event::Gift(gift) => {
            given += gift.count;
            // Absent where it would say the same as `count`.
            (given == 3).then(|| gift.combo.unwrap_or(gift.count.into()))
        }
        _ => None,
    });
    let combo = combo.await?;
    check(combo == 3, "three roses in a row are a combo of 3", combo)?;
    stage.tell("three roses in a row count up to a combo of 3, and none is left out");

    let said = json!({"kind": "super", "text": "好球", "user": "bob", "price": "¥30", "seconds": 60});
    stage.publish(ROOM, said).await?;
    ann.sees("the pinned message", |event| matches!(event, Event::Super(_)).then_some(())).await?;
    let late = Seat::join(stage, ROOM, "", None).await?;
    let left: Vec<u32> = late.joined.pinned.iter().map(|said| said.seconds).collect();
    check(matches!(left[..], [1..=60]), "whoever joins later finds it pinned, with the seconds left", &left)?;
    stage.tell("a paid message is pinned for a minute, also for whoever joins later");

    let poll = json!({"question": "Who wins?", "choices": ["red", "blue"]});
    stage.publish(ROOM, json!({"kind": "custom", "custom": "poll", "data": poll})).await?;
    let data = ann.sees("the poll", |event| match event {
        Event::Custom(custom) if custom.kind == "poll" => Some(custom.data.clone()),
        _ => None,
    });
    let data = data.await?;
    check(data == poll, "a kind of the platform's own passes through as it is", &data)?;
    stage.publish(ROOM, json!({"kind": "notice", "text": "Kick-off in five minutes"})).await?;
    ann.sees("the notice", |event| matches!(event, Event::Notice(_)).then_some(())).await?;
    stage.tell("a poll of the platform's own passes through, and so does a notice");
    Ok(())
}
