//! Words that block, mask and hold; the moderator's desk; the log; and why a text would be refused.

use danmu_wire::Event;
use serde_json::json;

use super::{Stage, check, seat::Seat};

const ROOM: &str = "demo-moderation";
const LIST: &str = "demo-slurs";

pub(super) async fn walk(stage: &Stage) -> Result<(), String> {
    stage.words(LIST, "# what nobody needs\nrudeword\n").await?;
    let words = json!({
        "mask": ["spoiler"], "hold": ["casino"], "from": [{"configMap": LIST, "list": "Block"}],
    });
    let limits = json!({"perViewer": {"messages": 100, "seconds": 5}});
    let moderation = json!({"anonymous": "Watch", "words": words});
    stage.room(ROOM, json!({"moderation": moderation, "limits": limits})).await?;
    words_are_told(stage).await?;
    let mut ann = Seat::join(stage, ROOM, "", Some(&stage.token("ann", "speaker")?)).await?;
    let mut bob = Seat::join(stage, ROOM, "", Some(&stage.token("bob", "speaker")?)).await?;
    let mut may = Seat::join(stage, ROOM, "", Some(&stage.token("may", "moderator")?)).await?;

    let refused = ann.say("a rudeword").await;
    check(is_refused(&refused, "not allowed here"), "a word of the list is refused", &refused)?;
    ann.say("no spoiler please").await?;
    let masked = bob.next_chat().await?;
    check(masked == "no ******* please", "a word to mask is shown as asterisks", &masked)?;
    stage.tell("one word is refused, another shown as asterisks");

    held_is_shown(&mut ann, &mut bob, &mut may).await?;
    stage.tell("a held message waits for a moderator, who shows it");
    shadow_is_alone(&mut ann, &mut bob, &mut may).await?;
    stage.tell("whoever is shadowed talks to nobody, and is not told");

    act(&mut may, json!({"do": "mute", "user": "bob", "seconds": 600})).await?;
    let muted = bob.say("let me").await;
    check(is_refused(&muted, "muted"), "a muted viewer is refused", &muted)?;
    act(&mut may, json!({"do": "unmute", "user": "bob"})).await?;
    act(&mut may, json!({"do": "slow_mode", "seconds": 30})).await?;
    bob.sees("slow mode", |event| match event {
        Event::Mode(mode) if mode.slow_mode_seconds == 30 => Some(()),
        _ => None,
    })
    .await?;
    act(&mut may, json!({"do": "clear"})).await?;
    bob.sees("that all is cleared", |event| match event {
        Event::Removed(removed) if removed.all => Some(()),
        _ => None,
    })
    .await?;
    stage.tell("a mute, slow mode and a clear reach everybody");

    let log = stage.ask_admin("GET", &format!("/rooms/{ROOM}/log"), &[], serde_json::Value::Null).await?;
    let by = log.body.lines().filter(|line| line.contains("\"may\"")).count();
    check(by >= 6, "the log has each of the moderator's actions", &log.body)?;
    stage.tell(&format!("the log tells who did what: {by} lines of May's"));
    Ok(())
}

async fn words_are_told(stage: &Stage) -> Result<(), String> {
    let told = stage.until("the list of words is in force", async || {
        let text = json!({"text": "such a rudeword"});
        let told = stage.admin("POST", &format!("/rooms/{ROOM}/dry-run"), text).await?;
        if told["refused"] == "blocked_word" { Ok(told["words"].to_string()) } else { Err(told.to_string()) }
    });
    let told = told.await?;
    stage.tell(&format!("a dry run says why a text would be refused: {told}"));
    Ok(())
}

async fn held_is_shown(ann: &mut Seat, bob: &mut Seat, may: &mut Seat) -> Result<(), String> {
    let ack = ann.say("meet me at the casino").await?;
    check(ack.held && !ack.shown, "the message is held", &ack)?;
    let id = may.sees("the held message", |event| match event {
        Event::Held(held) => Some(held.chat.id.clone()),
        _ => None,
    });
    let id = id.await?;
    act(may, json!({"do": "show", "id": id})).await?;
    let shown = bob.next_chat().await?;
    check(shown == "meet me at the casino", "everybody gets what the moderator showed", &shown)
}

async fn shadow_is_alone(ann: &mut Seat, bob: &mut Seat, may: &mut Seat) -> Result<(), String> {
    act(may, json!({"do": "shadow", "user": "ann"})).await?;
    let ack = ann.say("hello? anybody?").await?;
    check(ack.shown, "nothing tells a shadowed viewer", &ack)?;
    // Later than hers: had it been shown, Bob would see it first.
    act(may, json!({"do": "unshadow", "user": "ann"})).await?;
    ann.say("I am back").await?;
    let seen = bob.next_chat().await?;
    check(seen == "I am back", "nobody got what was said in the shadow", &seen)
}

/// Whether the server refused it in such words; a cut is no refusal.
fn is_refused(answer: &Result<danmu_wire::Ack, String>, words: &str) -> bool {
    matches!(answer, Err(why) if why.contains(words))
}

/// Does something as a moderator, and waits until it is done.
async fn act(may: &mut Seat, mut action: serde_json::Value) -> Result<(), String> {
    let reference = action.to_string().chars().take(60).collect::<String>();
    if let Some(action) = action.as_object_mut() {
        action.insert("op".to_owned(), json!("moderate"));
        action.insert("ref".to_owned(), json!(reference));
    }
    may.send(action).await?;
    let done = may.sees("done", |event| match event {
        Event::Done(done) if done.reference.as_deref() == Some(&reference) => Some(Ok(())),
        Event::Refused(refused) if refused.reference.as_deref() == Some(&reference) => {
            Some(Err(refused.text))
        }
        _ => None,
    });
    done.await?
}
