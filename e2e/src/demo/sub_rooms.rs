//! One room whose chat is for eight audiences: friends choose theirs by number, and gifts are for all.

use danmu_wire::Event;
use serde_json::json;

use super::{Stage, check, seat::Seat};

const ROOM: &str = "demo-sub-rooms";

pub(super) async fn walk(stage: &Stage) -> Result<(), String> {
    let limits = json!({"perViewer": {"messages": 100, "seconds": 5}});
    let spec =
        |count: u32| json!({"subRooms": count, "moderation": {"anonymous": "Speak"}, "limits": limits});
    stage.room(ROOM, spec(2)).await?;
    let mut ann = stage
        .until("the room has two sub-rooms", async || {
            let seat = Seat::join(stage, ROOM, "&sub=0", None).await?;
            if seat.joined.sub == Some(0) { Ok(seat) } else { Err(format!("{:?}", seat.joined.sub)) }
        })
        .await?;
    let mut bob = Seat::join(stage, ROOM, "&sub=1", None).await?;
    let mut cleo = Seat::join(stage, ROOM, "&sub=1", None).await?;
    check(
        (bob.joined.sub, cleo.joined.sub) == (Some(1), Some(1)),
        "friends choose the same",
        bob.joined.sub,
    )?;
    stage.tell("Ann is in sub-room 0; Bob and Cleo chose 1");

    ann.say("only for 0").await?;
    bob.say("only for 1").await?;
    // Said after Ann's: had that come here, Cleo would see it first.
    let seen = cleo.next_chat().await?;
    check(seen == "only for 1", "chat stays in its sub-room", &seen)?;
    stage.tell("what Ann says stays in 0, what Bob says in 1");
    stage.publish(ROOM, json!({"kind": "gift", "gift": "rocket", "user": "dan"})).await?;
    for seat in [&mut ann, &mut bob, &mut cleo] {
        seat.sees("the gift", |event| matches!(event, Event::Gift(_)).then_some(())).await?;
    }
    stage.tell("a gift is for all of them");
    let (all, own) = ann
        .sees("both numbers", |event| match event {
            Event::Stats(stats) if stats.viewers == 3 => Some((stats.viewers, stats.sub_viewers)),
            _ => None,
        })
        .await?;
    check(own == Some(1), "of three viewers one is in Ann's sub-room", own)?;
    stage.tell(&format!("of {all} viewers {} is in Ann's sub-room", own.unwrap_or(0)));

    stage.room(ROOM, spec(8)).await?;
    let late = stage
        .until("the room has eight sub-rooms", async || {
            let seat = Seat::join(stage, ROOM, "&sub=7", None).await?;
            if seat.joined.sub == Some(7) { Ok(seat) } else { Err(format!("{:?}", seat.joined.sub)) }
        })
        .await?;
    drop(late);
    bob.say("still together").await?;
    let seen = cleo.next_chat().await?;
    check(seen == "still together", "who chose a sub-room stays in it", &seen)?;
    stage.tell("the room grows to eight; Bob and Cleo stay where they chose to be, on the same connections");
    Ok(())
}
