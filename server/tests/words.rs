//! Long lists of words beside the manifests: read at start, edited while everybody talks, refused in words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it goes wrong")]

#[allow(dead_code, unreachable_pub, reason = "shared with other test binaries, which use the rest")]
mod support;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use danmu_wire::RefusalCode;
use support::{Danmu, pod::eventually};

const ROOM: &str = "
apiVersion: danmu.live/v1alpha1
kind: DanmuRoom
metadata: {name: listed}
spec:
  limits: {messagesPerSecond: 1000, perViewer: {messages: 1000, seconds: 1}}
  moderation:
    anonymous: Speak
    words: {from: [{configMap: long, list: Block}, {configMap: soft, list: Mask}]}
";

/// So many words, of which the last is `last`.
fn list(words: usize, last: &str) -> String {
    let mut list = String::new();
    for word in 1..words {
        list.push_str(&format!("词{word}语\n"));
    }
    list + last + "\n"
}

fn write(folder: &Path, name: &str, text: &str) {
    let folder = folder.join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("words.txt"), text).unwrap();
}

async fn started() -> Danmu {
    let danmu = Danmu::start(&[]).await;
    let folder = danmu.folder.path();
    write(folder, "long", &list(100_000, "firstly"));
    write(folder, "soft", "softly\n");
    fs::write(folder.join("listed.yaml"), ROOM).unwrap();
    // A hundred thousand words take an unoptimised build its time.
    let started = Instant::now();
    while danmu.admin("GET", "/rooms/listed", "").await.0 != 200 {
        assert!(started.elapsed() < Duration::from_secs(120));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("100,000 words in force after {:?}", started.elapsed());
    danmu
}

async fn outcome(danmu: &Danmu, text: &str) -> serde_json::Value {
    let body = serde_json::json!({"text": text}).to_string();
    serde_json::from_str(&danmu.admin("POST", "/rooms/listed/dry-run", &body).await.1).unwrap()
}

#[tokio::test]
async fn a_hundred_thousand_words_are_in_force_and_an_edit_takes_nobodys_time() {
    let danmu = started().await;
    let mut ann = danmu.join("listed").await;
    ann.say("FIRSTLY").await;
    assert_eq!(ann.refusal().await.code, RefusalCode::BlockedWord);
    ann.say("ｓｏｆｔｌｙ 词500语").await;
    assert_eq!(ann.refusal().await.code, RefusalCode::BlockedWord);
    ann.say("softly").await;
    ann.hears("******").await;
    write(danmu.folder.path(), "long", &list(100_000, "lastly"));
    let (mut longest, mut said) = (Duration::ZERO, 0);
    while outcome(&danmu, "lastly").await["refused"] != "blocked_word" {
        let begin = Instant::now();
        let text = format!("hello {said}");
        ann.say(&text).await;
        ann.hears(&text).await;
        (longest, said) = (longest.max(begin.elapsed()), said + 1);
        // Under the connection's own limit.
        tokio::time::sleep(Duration::from_millis(260)).await;
    }
    println!("{said} messages while 100,000 words were taken up, the slowest there and back in {longest:?}");
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    assert_eq!(outcome(&danmu, "firstly").await["refused"], serde_json::Value::Null);
}

#[tokio::test]
async fn a_list_with_a_million_lines_keeps_the_last_good_one_and_an_empty_one_has_no_words() {
    let danmu = Danmu::start(&[]).await;
    let folder = danmu.folder.path();
    write(folder, "long", "firstly\n");
    write(folder, "soft", "");
    fs::write(folder.join("listed.yaml"), ROOM).unwrap();
    eventually("the room is listed", async || danmu.admin("GET", "/rooms/listed", "").await.0 == 200).await;
    assert_eq!(outcome(&danmu, "firstly").await["refused"], "blocked_word");
    write(folder, "soft", "now\n");
    write(folder, "long", &"word\n".repeat(1_000_000));
    // The other list shows that the folder was looked at.
    eventually("the edit is seen", async || outcome(&danmu, "now").await["text"] == "***").await;
    assert_eq!(outcome(&danmu, "firstly").await["refused"], "blocked_word");
    assert_eq!(outcome(&danmu, "word").await["refused"], serde_json::Value::Null);
    write(folder, "long", "");
    eventually("the list is empty", async || outcome(&danmu, "firstly").await["refused"].is_null()).await;
}

#[test]
fn a_server_does_not_start_with_a_list_it_cannot_read_and_says_which() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("listed.yaml"), ROOM).unwrap();
    write(folder.path(), "long", &"word\n".repeat(1_000_000));
    let faults = danmu_server::catalog::load(folder.path()).unwrap_err();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(
        faults[0].contains("words.from: long") && faults[0].contains("more than 200000 words"),
        "{faults:?}"
    );
    assert!(faults[1].contains("words.from: soft"), "{faults:?}");
}
