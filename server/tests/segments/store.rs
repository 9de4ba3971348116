//! What every store of segments keeps to: the embedded one, one Redis, a cluster.

use std::{sync::Arc, time::Duration, time::Instant};

use danmu_server::{
    relay::redis::Address,
    segments::{Embedded, KEPT, Keep, ON_SCREEN, Shared, Store, Stored, Write},
};
use danmu_wire::{Chat, Event, Gift, Placed, Removed};

use crate::support::{
    pod::eventually,
    redis::{RedisCluster, RedisServer},
};

const DAY: u64 = 24 * 3600 * 1000;
/// When the tests say something, in milliseconds since 1970.
const NOW: u64 = 1_800_000_000_000;
const KEEP: Keep = Keep { age: Duration::from_secs(30 * 24 * 3600), bytes: 64 << 20 };

/// The store of two pods of one fleet; the embedded store's fleet is one process, which then is both.
struct Stores {
    a: Arc<dyn Store>,
    b: Arc<dyn Store>,
}

impl Stores {
    fn embedded() -> Stores {
        let store = Arc::new(Embedded::in_memory().unwrap());
        Stores { a: Arc::clone(&store) as Arc<dyn Store>, b: store }
    }

    fn on(urls: &str, cluster: bool, name: &str) -> Stores {
        let store = || -> Arc<dyn Store> {
            let address = Address::parse(urls, cluster, None).unwrap();
            Arc::new(Shared::new(address, &format!("segments/{name}")))
        };
        Stores { a: store(), b: store() }
    }
}

macro_rules! every_store {
    ($($test:ident)*) => {
        mod embedded {
            use super::*;
            $(#[tokio::test]
            async fn $test() {
                super::$test(&Stores::embedded()).await;
            })*
        }

        mod redis {
            use super::*;
            $(#[tokio::test]
            async fn $test() {
                let redis = RedisServer::start();
                super::$test(&Stores::on(&redis.url(), false, "one")).await;
            })*
        }

        /// One cluster for all, because one takes a while to come up.
        #[tokio::test]
        async fn all_of_it_holds_on_a_cluster() {
            let cluster = RedisCluster::start(3, false);
            let urls = cluster.url();
            $($test(&Stores::on(&urls, true, stringify!($test))).await;)*
        }
    };
}

every_store! {
    what_is_written_is_read_on_every_pod_and_in_its_room_alone
    a_crowded_segment_is_kept_as_an_even_sample
    a_gift_that_every_pod_hands_over_is_kept_once_and_never_sampled
    what_is_too_old_is_forgotten
    what_is_too_much_is_forgotten_oldest_first
    what_a_moderator_removed_is_gone
    clearing_takes_what_may_be_on_a_screen_and_not_the_whole_recording
}

fn write(room: &str, at: u64, said: u64, event: Event) -> Write {
    Write { room: room.into(), keep: KEEP, said, placed: Placed { at, event } }
}

fn chat(room: &str, at: u64, text: &str, user: &str) -> Write {
    let (id, user) = (format!("id-{text}"), Some(user.to_owned()));
    write(room, at, NOW, Event::Chat(Chat { id, user, text: text.to_owned(), n: 1, ..Chat::default() }))
}

fn gift(room: &str, at: u64, id: &str) -> Write {
    let gift = Gift { id: id.to_owned(), gift: "rose".to_owned(), count: 1, ..Gift::default() };
    write(room, at, NOW, Event::Gift(gift))
}

fn texts(stored: &Stored) -> Vec<String> {
    let mut texts: Vec<String> = stored
        .notes
        .iter()
        .map(|note| match &note.placed.event {
            Event::Chat(chat) => chat.text.clone(),
            other => other.id().unwrap().to_owned(),
        })
        .collect();
    texts.sort();
    texts
}

async fn what_is_written_is_read_on_every_pod_and_in_its_room_alone(stores: &Stores) {
    let said = [chat("a", 0, "one", "ann"), chat("a", 9999, "two", "bob"), chat("a", 10_000, "three", "ann")];
    stores.a.append(&said).await.unwrap();
    stores.b.append(&[chat("ab", 5, "elsewhere", "ann"), chat("a", 7, "弹幕", "cy")]).await.unwrap();
    for store in [&stores.a, &stores.b] {
        let first = store.read("a", 0).await.unwrap();
        assert_eq!((first.chats, texts(&first)), (3, vec!["one".into(), "two".into(), "弹幕".into()]));
        let note = first.notes.iter().find(|note| note.placed == said[1].placed).unwrap();
        assert_eq!(note.said, NOW);
        assert_eq!(texts(&store.read("a", 1).await.unwrap()), ["three"]);
        assert_eq!(texts(&store.read("ab", 0).await.unwrap()), ["elsewhere"]);
        assert_eq!(store.read("a", 2).await.unwrap(), Stored::default());
        assert_eq!(store.read("b", 0).await.unwrap(), Stored::default());
    }
}

async fn a_crowded_segment_is_kept_as_an_even_sample(stores: &Stores) {
    const SAID: u64 = 3 * KEPT;
    for some in (0..SAID).collect::<Vec<_>>().chunks(1024) {
        let writes: Vec<Write> =
            some.iter().map(|i| chat("a", i * 10_000 / SAID, &i.to_string(), "u")).collect();
        stores.a.append(&writes).await.unwrap();
    }
    let stored = stores.b.read("a", 0).await.unwrap();
    assert_eq!((stored.chats, stored.notes.len() as u64), (SAID, KEPT));
    // Each quarter has its quarter; a deviation of 150 is five and a half times the standard one.
    for quarter in 0..4 {
        let within = |at: u64| (quarter * 2500..(quarter + 1) * 2500).contains(&at);
        let kept = stored.notes.iter().filter(|note| within(note.placed.at)).count() as i64;
        assert!((kept - KEPT as i64 / 4).abs() < 150, "quarter {quarter} has {kept}");
    }
}

async fn a_gift_that_every_pod_hands_over_is_kept_once_and_never_sampled(stores: &Stores) {
    let many: Vec<Write> = (0..KEPT + 100).map(|i| chat("a", i, &i.to_string(), "u")).collect();
    for some in many.chunks(1024) {
        stores.a.append(some).await.unwrap();
    }
    for store in [&stores.a, &stores.b] {
        store.append(&[gift("a", 500, "g1"), gift("a", 501, "g2")]).await.unwrap();
    }
    let stored = stores.a.read("a", 0).await.unwrap();
    let gifts: Vec<String> = texts(&stored).into_iter().filter(|text| text.starts_with('g')).collect();
    assert_eq!((gifts, stored.chats), (vec!["g1".to_owned(), "g2".to_owned()], KEPT + 100));
}

async fn what_is_too_old_is_forgotten(stores: &Stores) {
    let mut old = chat("a", 5, "old", "u");
    old.said = NOW - 31 * DAY;
    stores.a.append(&[old, chat("a", 20_000, "new", "u")]).await.unwrap();
    assert_eq!(stores.b.trim("a", KEEP, NOW).await.unwrap(), 1);
    assert_eq!(stores.a.read("a", 0).await.unwrap(), Stored::default());
    assert_eq!(texts(&stores.a.read("a", 2).await.unwrap()), ["new"]);
    assert_eq!(stores.a.trim("a", KEEP, NOW).await.unwrap(), 0);
}

async fn what_is_too_much_is_forgotten_oldest_first(stores: &Stores) {
    let text = "x".repeat(1000);
    for segment in 0..100 {
        let mut said = chat("a", segment * 10_000, &format!("{segment} {text}"), "u");
        // The last written first in the video: it is age that counts, and not the position.
        said.said = NOW - segment;
        stores.a.append(&[said]).await.unwrap();
    }
    let keep = Keep { bytes: 60_000, ..KEEP };
    let forgotten = stores.b.trim("a", keep, NOW).await.unwrap();
    assert!((60..90).contains(&forgotten), "{forgotten} of 100 are forgotten");
    let mut left = Vec::new();
    for segment in 0..100 {
        if stores.a.read("a", segment).await.unwrap().chats > 0 {
            left.push(segment);
        }
    }
    assert_eq!(left, (0..100 - forgotten).collect::<Vec<_>>());
    assert_eq!(stores.a.trim("a", keep, NOW).await.unwrap(), 0, "it is enough");
}

async fn what_a_moderator_removed_is_gone(stores: &Stores) {
    let mut later = chat("a", 300_000, "later", "bob");
    later.said = NOW + 60_000;
    let said =
        [chat("a", 1, "one", "ann"), chat("a", 2, "two", "bob"), chat("a", 50_000, "three", "bob"), later];
    stores.a.append(&said).await.unwrap();
    stores.a.append(&[chat("b", 1, "one", "bob")]).await.unwrap();
    let ids = Removed { offset: 1, ids: vec!["id-one".into()], ..Removed::default() };
    assert_eq!(stores.b.erase("a", &ids, NOW).await.unwrap(), 1);
    let user = Removed { offset: 2, user: Some("bob".into()), ..Removed::default() };
    assert_eq!(stores.a.erase("a", &user, NOW).await.unwrap(), 2);
    // The other pods hear of it as well.
    assert_eq!(stores.b.erase("a", &user, NOW).await.unwrap(), 0);
    assert_eq!(texts(&stores.a.read("a", 0).await.unwrap()), [""; 0]);
    assert_eq!(texts(&stores.a.read("a", 5).await.unwrap()), [""; 0]);
    assert_eq!(texts(&stores.a.read("a", 30).await.unwrap()), ["later"], "said after the removal");
    assert_eq!(texts(&stores.a.read("b", 0).await.unwrap()), ["one"], "another room");
}

async fn clearing_takes_what_may_be_on_a_screen_and_not_the_whole_recording(stores: &Stores) {
    let mut old = chat("a", 1, "old", "ann");
    old.said = NOW - ON_SCREEN.as_millis() as u64 - 1;
    stores.a.append(&[old, chat("a", 2, "new", "bob")]).await.unwrap();
    let all = Removed { offset: 1, all: true, ..Removed::default() };
    assert_eq!(stores.a.erase("a", &all, NOW).await.unwrap(), 1);
    assert_eq!(texts(&stores.a.read("a", 0).await.unwrap()), ["old"]);
}

#[tokio::test]
async fn a_file_outlives_its_process_and_belongs_to_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("segments.redb");
    let first = Embedded::open(&file).unwrap();
    first.append(&[chat("a", 1, "one", "ann")]).await.unwrap();
    let second = Embedded::open(&file).expect_err("two processes must not write to one file");
    assert!(second.to_string().contains("open"), "{second}");
    drop(first);
    let again = Embedded::open(&file).unwrap();
    assert_eq!(texts(&again.read("a", 0).await.unwrap()), ["one"]);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("segments.redb");
    std::fs::write(&file, "not a database, but long enough to look like one ".repeat(200)).unwrap();
    assert!(Embedded::open(&file).is_err());
    assert!(Embedded::open(&folder.path().join("missing/segments.redb")).is_err());
}

#[tokio::test]
async fn a_redis_that_is_silent_or_gone_is_told_in_time_and_used_again_when_it_is_back() {
    let mut redis = RedisServer::start();
    let stores = Stores::on(&redis.url(), false, "away");
    stores.a.append(&[chat("a", 1, "one", "ann")]).await.unwrap();
    redis.freeze(true);
    let asked = Instant::now();
    stores.a.append(&[chat("a", 2, "two", "ann")]).await.unwrap_err();
    assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
    redis.freeze(false);
    eventually("it is used again", async || stores.a.read("a", 0).await.is_ok()).await;
    redis.kill();
    stores.a.read("a", 0).await.unwrap_err();
    redis.start_again();
    eventually("it is used again", async || stores.a.append(&[chat("a", 3, "three", "ann")]).await.is_ok())
        .await;
}

#[tokio::test]
async fn what_is_kept_in_redis_has_an_end_and_one_hash_tag() {
    let redis = RedisServer::start();
    let stores = Stores::on(&redis.url(), false, "keys");
    stores.a.append(&[chat("a", 1, "one", "ann"), gift("a", 2, "g")]).await.unwrap();
    let keys = redis.command(&["KEYS", "*"]).unwrap();
    let mut keys = <Vec<String> as ::redis::FromRedisValue>::from_redis_value(keys).unwrap();
    keys.sort();
    assert_eq!(keys, ["bytes", "seg:0", "segs"].map(|name| format!("danmu:{{segments/keys/a}}:{name}")));
    for key in keys {
        let left: i64 =
            ::redis::FromRedisValue::from_redis_value(redis.command(&["TTL", &key]).unwrap()).unwrap();
        assert!((29 * 24 * 3600..=30 * 24 * 3600).contains(&left), "{key} lives {left} s");
    }
}

#[tokio::test]
async fn what_somebody_else_wrote_into_redis_is_passed_over() {
    let redis = RedisServer::start();
    let stores = Stores::on(&redis.url(), false, "foreign");
    stores.a.append(&[chat("a", 1, "one", "ann")]).await.unwrap();
    let key = "danmu:{segments/foreign/a}:seg:0";
    for (field, value) in
        [("5", "nonsense"), ("6", "7 {\"at\":-1}"), ("p1", ""), ("x", "1 {}"), ("n", "many")]
    {
        redis.text(&["HSET", key, field, value]);
    }
    assert_eq!(texts(&stores.a.read("a", 0).await.unwrap()), ["one"]);
}
