//! A gift service that publishes batches, a platform that is told what happens, and one that is asked before a message is
//! shown.

use std::time::Duration;

use danmu_wire::Event;
use serde_json::{Value, json};

use super::{Stage, check, receiver::Receiver, seat::Seat};

const ROOM: &str = "demo-third-parties";
/// From so many viewers on the room is hot.
const HOT: usize = 4;
/// Long enough that a second pod would have told it as well.
const TWICE: Duration = Duration::from_secs(3);

pub(super) async fn walk(stage: &Stage) -> Result<(), String> {
    let receiver = Receiver::start().await?;
    let address = format!("http://{}:{}", stage.reached_at, receiver.port);
    let events = json!(["RoomHot", "RoomEnded", "MessageHeld"]);
    let hooks = json!({
        "webhooks": [{"name": "platform", "url": format!("{address}/events"), "events": events}],
        "publish": {"url": format!("{address}/judge"), "deadlineMs": 2000, "onFailure": "Refuse"},
    });
    let publishers = json!({"messagesPerSecond": 20, "burst": 50});
    stage
        .edit_fleet(json!({"hooks": hooks, "hotRoomViewers": HOT, "server": {"publishers": publishers}}))
        .await?;
    let moderation = json!({"anonymous": "Speak", "words": {"hold": ["casino"]}});
    let limits = json!({"perViewer": {"messages": 100, "seconds": 5}});
    stage.room(ROOM, json!({"moderation": moderation, "limits": limits})).await?;
    let mut ann = Seat::join(stage, ROOM, "", None).await?;

    asked_before_it_is_shown(stage, &mut ann).await?;
    publishes(stage, &mut ann).await?;
    ann.say("off to the casino").await?;
    let held = told_once(stage, &receiver, "message.held").await?;
    check(held["data"]["text"] == "off to the casino", "the platform gets what was held", &held)?;
    stage.tell("a held message is told to the platform, signed");

    let mut crowd = Vec::new();
    for _ in 0..HOT {
        crowd.push(Seat::join(stage, ROOM, "", None).await?);
    }
    let hot = told_once(stage, &receiver, "room.hot").await?;
    stage.tell(&format!("{} viewers: the room is hot, and that is told once", hot["data"]["viewers"]));
    stage.remove_room(ROOM).await?;
    told_once(stage, &receiver, "room.ended").await?;
    stage.tell("the room's manifest goes, and its end is told once");
    stage.edit_fleet(json!({"hooks": null, "server": {"publishers": null}})).await
}

async fn asked_before_it_is_shown(stage: &Stage, ann: &mut Seat) -> Result<(), String> {
    let refused = stage
        .until("the platform is asked", async || match ann.say("coins for sale").await {
            Ok(ack) => Err(format!("{ack:?}")),
            Err(why) => Ok(why),
        })
        .await?;
    stage.tell(&format!("the platform refuses a message before anybody sees it: {refused}"));
    ann.say("teh best").await?;
    let seen = ann.sees("the corrected text", |event| match event {
        Event::Chat(chat) if chat.text.contains("best") => Some(chat.text),
        _ => None,
    });
    let seen = seen.await?;
    check(seen == "the best", "the platform's text is shown instead", &seen)?;
    stage.tell("and gives another text for a second one");
    Ok(())
}

async fn publishes(stage: &Stage, ann: &mut Seat) -> Result<(), String> {
    let gift = |key: &str, gift: &str| json!({"idempotencyKey": key, "message": {"kind": "gift", "gift": gift, "user": "dan"}});
    let path = format!("/rooms/{ROOM}/publish/batch");
    let batch =
        json!({"messages": [gift("order-1", "rocket"), gift("order-2", ""), gift("order-3", "rose")]});
    let answer = stage.admin("POST", &path, batch.clone()).await?;
    let status = |at: usize| answer["results"][at]["status"].clone();
    check([status(0), status(1), status(2)] == [200, 422, 200], "each is answered by itself", &answer)?;
    let again = stage.admin("POST", &path, batch).await?;
    let same = |at: usize| again["results"][at]["id"] == answer["results"][at]["id"];
    check(same(0) && same(2), "the same orders again count once", &again)?;
    let other = json!({"messages": [gift("order-1", "another")]});
    let other = stage.admin("POST", &path, other).await?;
    check(other["results"][0]["status"] == 409, "an order's key with another gift is refused", &other)?;
    let mut given = Vec::new();
    ann.sees("both gifts", |event| match event {
        Event::Gift(gift) => {
            given.push(gift.gift);
            (given == ["rocket", "rose"]).then_some(())
        }
        _ => None,
    })
    .await?;
    stage.tell("a batch of orders: in order, the faulty one told by itself, sent again counted once");

    let many: Vec<Value> = (0..50).map(|at| gift(&format!("flood-{at}"), "rose")).collect();
    let many = stage.ask_admin("POST", &path, &[], json!({"messages": many})).await?;
    check(many.status == 429, "a publisher's quota is kept", many.status)?;
    let wait = many.header("retry-after");
    stage.tell(&format!("a batch over the publisher's quota answers 429, Retry-After: {wait}"));
    Ok(())
}

/// Waits for an event about the room, and a little longer: it may come only once.
async fn told_once(stage: &Stage, receiver: &Receiver, kind: &str) -> Result<Value, String> {
    stage
        .until(kind, async || {
            let told = receiver.told(kind, ROOM);
            if told.is_empty() { Err("nothing".to_owned()) } else { Ok(()) }
        })
        .await?;
    tokio::time::sleep(TWICE).await;
    let told = receiver.told(kind, ROOM);
    check(told.len() == 1, "it is told once", &told)?;
    Ok(told.into_iter().next().unwrap_or_default())
}
