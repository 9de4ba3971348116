//! What an admin looks at and does from a terminal: `kubectl danmu`.

use std::process::Stdio;

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::ChildStdout,
    time::{Duration, timeout},
};

use super::{Stage, check, seat::Seat};

const ROOM: &str = "demo-kubectl";
const SOON: Duration = Duration::from_secs(20);

pub(super) async fn walk(stage: &Stage) -> Result<(), String> {
    stage.room(ROOM, json!({"moderation": {"anonymous": "Speak"}})).await?;
    let mut ann = Seat::join(stage, ROOM, "", None).await?;
    let top = stage.danmu(&["top", "--once"]).await?;
    check(top.contains("VIEWERS") && top.contains(ROOM), "top shows pods and rooms", &top)?;
    stage.tell(&format!("kubectl danmu top --once:\n{top}"));
    let why = stage.danmu(&["why", ROOM]).await?;
    check(why.starts_with(ROOM), "why says where the room is", &why)?;
    stage.tell(&format!("kubectl danmu why {ROOM}:\n{why}"));

    let mut tail = stage.plugin(&["tail", ROOM])?;
    tail.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut tail = tail.spawn().map_err(|error| format!("kubectl danmu tail: {error}"))?;
    let mut lines = BufReader::new(tail.stdout.take().ok_or("tail has no output")?).lines();
    // Until it watches, nothing is told; so it is said until it is.
    let seen = stage
        .until("tail prints what is said", async || {
            ann.say("anybody there?").await?;
            line_with(&mut lines, "anybody there?", Duration::from_secs(2)).await
        })
        .await?;
    stage.tell(&format!("kubectl danmu tail {ROOM}: {seen}"));
    stage.danmu(&["say", ROOM, "Back in five minutes"]).await?;
    let notice = line_with(&mut lines, "Back in five minutes", SOON).await?;
    stage.tell(&format!("kubectl danmu say, and tail shows it: {notice}"));
    Ok(())
}

/// The next line with these words.
async fn line_with(
    lines: &mut Lines<BufReader<ChildStdout>>,
    words: &str,
    within: Duration,
) -> Result<String, String> {
    let found = async {
        while let Ok(Some(line)) = lines.next_line().await {
            if line.contains(words) {
                return Ok(line);
            }
        }
        Err("tail ended".to_owned())
    };
    timeout(within, found).await.unwrap_or_else(|_| Err(format!("no line with {words:?} in {within:?}")))
}
