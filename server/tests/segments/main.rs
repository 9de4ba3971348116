//! What is said by its position in the video: stores, fetches, replays, load shedding.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it goes wrong")]

mod crash;
mod fetch;
mod replay;
mod shedding;
mod store;
#[allow(dead_code, unreachable_pub, reason = "shared with other test binaries, which use the rest")]
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use danmu_wire::Placed;
use support::{Danmu, PATIENCE};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The answer to one request.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn placed(&self) -> Vec<Placed> {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap()
    }

    fn texts(&self) -> Vec<String> {
        let text = |placed: Placed| match placed.event {
            danmu_wire::Event::Chat(chat) => chat.text,
            danmu_wire::Event::Gift(gift) => gift.gift,
            other => panic!("{other:?}"),
        };
        self.placed().into_iter().map(text).collect()
    }
}

/// Asks for a path on the public port; `extra` are whole header lines.
async fn ask(danmu: &Danmu, method: &str, path: &str, extra: &str) -> Reply {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: danmu\r\nConnection: close\r\n{extra}\r\n");
    let mut stream = TcpStream::connect(danmu.public()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("no answer").unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("no head");
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head, body: answer[end + 4..].to_vec() }
}

async fn get(danmu: &Danmu, path: &str) -> Reply {
    ask(danmu, "GET", path, "").await
}

/// Puts a manifest of room `talk`, where everybody may write, in place at once, as editors do.
fn put(danmu: &Danmu, name: &str, spec: &str) {
    let limits = "limits: {messagesPerSecond: 1000, perViewer: {messages: 1000, seconds: 1}}";
    let text = format!(
        "apiVersion: danmu.live/v1alpha1\nkind: DanmuRoom\nmetadata: {{name: {name}}}\nspec: {{{limits}, {spec}}}\n"
    );
    let folder = danmu.folder.path();
    std::fs::write(folder.join(".next"), text).unwrap();
    std::fs::rename(folder.join(".next"), folder.join(format!("room-{name}.yaml"))).unwrap();
}

/// Waits until the server has taken a room up that is recorded.
async fn is_kept(danmu: &Danmu, name: &str) {
    support::pod::eventually("the room is recorded", async || {
        get(danmu, &format!("/rooms/{name}/danmu?from=0&to=1")).await.status != 404
    })
    .await;
}

/// The moment so many seconds ago, as manifests write it.
fn ago(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let moment = now - Duration::from_secs(seconds);
    jiff::Timestamp::from_second(moment.as_secs() as i64).unwrap().to_string()
}

const SPEAK: &str = "moderation: {anonymous: Speak}";
