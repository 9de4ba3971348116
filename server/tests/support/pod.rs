//! A pod without viewers: a relay, and at its other end a record of what it brought.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use danmu_server::relay::{
    Change, Deliver, Here, Memory, Metrics, Opening, Peers, PublishError, Receipt, Relay, Target,
    redis::{Address, Redis},
};
use danmu_wire::{Chat, Event, Gift, Held, Lane, Settled};

/// What came for one room.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The epoch, empty before the first opening.
    pub epoch: String,
    /// How often the room was opened, which after the first time everybody is told as a gap.
    pub openings: usize,
    pub alone: usize,
    /// Every priority event: its epoch, its offset, its name.
    pub gifts: Vec<(String, u64, String)>,
    pub chats: Vec<String>,
    /// What waits for a moderator.
    pub held: Vec<String>,
    /// What waits no more, and whether it was shown.
    pub settled: Vec<(String, bool)>,
    pub gaps: Vec<(Lane, Option<u64>)>,
    pub moderated: HashSet<Target>,
    pub disconnected: Vec<String>,
    pub peers: Peers,
}

impl Seen {
    pub(crate) fn names(&self) -> Vec<&str> {
        self.gifts.iter().map(|(_, _, name)| name.as_str()).collect()
    }

    /// Asserts that offsets of an epoch have no holes and nothing came twice.
    pub(crate) fn is_whole(&self) {
        let mut last: Option<&(String, u64, String)> = None;
        for gift in &self.gifts {
            let is_next = last.is_none_or(|l| gift.0 != l.0 || gift.1 == l.1 + 1);
            assert!(is_next, "{gift:?} after {last:?}");
            last = Some(gift);
        }
    }
}

#[derive(Default)]
struct Recorder {
    rooms: Mutex<HashMap<String, Seen>>,
    here: Mutex<Vec<Here>>,
    is_full: AtomicBool,
}

impl Recorder {
    fn note<T>(&self, room: &str, note: impl FnOnce(&mut Seen) -> T) -> T {
        note(self.rooms.lock().unwrap().entry(room.to_owned()).or_default())
    }
}

/// What comes for a sub-room is recorded as `room:2`.
fn named(room: &str, sub: Option<u32>) -> String {
    sub.map_or_else(|| room.to_owned(), |sub| format!("{room}:{sub}"))
}

fn gift(epoch: &str, event: Event) -> (String, u64, String) {
    match event {
        Event::Gift(gift) => (epoch.to_owned(), gift.offset, gift.gift),
        other => panic!("not published by these tests: {other:?}"),
    }
}

impl Deliver for Recorder {
    fn opened(&self, room: &str, opening: Opening) {
        self.note(room, |seen| {
            seen.openings += 1;
            seen.epoch = opening.epoch;
            let epoch = seen.epoch.clone();
            seen.gifts.extend(opening.log.into_iter().map(|event| gift(&epoch, event)));
        });
    }

    fn alone(&self, room: &str) {
        self.note(room, |seen| seen.alone += 1);
    }

    fn chat(&self, room: &str, sub: Option<u32>, events: Vec<Event>) {
        let room = &named(room, sub);
        let text = |event| if let Event::Chat(chat) = event { Some(chat.text) } else { None };
        self.note(room, |seen| seen.chats.extend(events.into_iter().filter_map(text)));
    }

    fn priority(&self, room: &str, event: Event) -> Result<(), PublishError> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(PublishError::Busy);
        }
        self.note(room, |seen| seen.gifts.push(gift(&seen.epoch.clone(), event)));
        Ok(())
    }

    fn gap(&self, room: &str, sub: Option<u32>, lane: Lane, dropped: Option<u64>) {
        self.note(&named(room, sub), |seen| seen.gaps.push((lane, dropped)));
    }

    fn moderate(&self, room: &str, change: &Change) -> Result<bool, PublishError> {
        Ok(self.note(room, |seen| match &change.target {
            Target::Disconnect(user) => {
                seen.disconnected.push(user.clone());
                true
            }
            target if change.lifted => seen.moderated.remove(target),
            target => seen.moderated.insert(target.clone()),
        }))
    }

    fn moderation(&self, room: &str, all: &[Change]) {
        self.note(room, |seen| seen.moderated = all.iter().map(|change| change.target.clone()).collect());
    }

    fn held(&self, room: &str, held: Held) {
        self.note(room, |seen| seen.held.push(held.chat.text));
    }

    fn settled(&self, room: &str, settled: &Settled) {
        self.note(room, |seen| seen.settled.push((settled.id.clone(), settled.shown)));
    }

    fn peers(&self, room: &str, sub: Option<u32>, peers: Peers) {
        self.note(&named(room, sub), |seen| seen.peers = peers);
    }

    fn here(&self) -> Vec<Here> {
        self.here.lock().unwrap().clone()
    }
}

/// A relay with its record.
pub(crate) struct Pod {
    pub relay: Relay,
    pub metrics: Arc<Metrics>,
    recorder: Arc<Recorder>,
}

impl Pod {
    pub(crate) fn in_memory() -> Pod {
        Pod::new(Relay::Memory(Memory::default()), Arc::default())
    }

    /// On one Redis, a cluster, or sentinels.
    pub(crate) fn on_redis(urls: &str, cluster: bool, fleet: &str) -> Pod {
        Pod::at(Address::parse(urls, cluster, None).unwrap(), fleet)
    }

    pub(crate) fn at(address: Address, fleet: &str) -> Pod {
        let metrics = Arc::new(Metrics::default());
        let runtime = tokio::runtime::Handle::current();
        let redis = Redis::new(address, fleet, Arc::clone(&metrics), runtime, true);
        Pod::new(Relay::Redis(Box::new(redis)), metrics)
    }

    fn new(relay: Relay, metrics: Arc<Metrics>) -> Pod {
        let recorder = Arc::new(Recorder::default());
        relay.attach(&recorder);
        Pod { relay, metrics, recorder }
    }

    /// Opens a room and waits until it is connected.
    pub(crate) async fn open(&self, room: &str) {
        self.start_to_open(room);
        eventually("the room opens", async || self.seen(room).openings > 0).await;
    }

    pub(crate) fn start_to_open(&self, room: &str) {
        let room: Arc<str> = room.into();
        let here = Here { room: Arc::clone(&room), sub: None, viewers: 1, senders: 0, messages: 0, stage: 0 };
        self.recorder.here.lock().unwrap().push(here);
        self.relay.open(&room);
    }

    /// As a room does without viewers; its record is forgotten.
    pub(crate) fn close(&self, room: &str) {
        self.recorder.here.lock().unwrap().retain(|here| &*here.room != room);
        self.relay.close(&room.into());
        self.recorder.rooms.lock().unwrap().remove(room);
    }

    pub(crate) fn set_viewers(&self, room: &str, viewers: u64, senders: u32) {
        for here in self.recorder.here.lock().unwrap().iter_mut().filter(|here| &*here.room == room) {
            (here.viewers, here.senders) = (viewers, senders);
        }
    }

    /// From now on rooms take no priority event, or take them again.
    pub(crate) fn fill(&self, is_full: bool) {
        self.recorder.is_full.store(is_full, Ordering::Relaxed);
    }

    pub(crate) async fn gift(&self, room: &str, name: &str) -> Result<Receipt, PublishError> {
        self.gift_once(room, name, None).await
    }

    pub(crate) async fn gift_once(
        &self,
        room: &str,
        name: &str,
        key: Option<&str>,
    ) -> Result<Receipt, PublishError> {
        let id = ulid::Ulid::generate().to_string();
        self.relay
            .priority(room, Event::Gift(Gift { id, gift: name.to_owned(), ..Gift::default() }), key, 0)
            .await
    }

    /// Publishes again until it is taken; under one key, so that it counts once.
    pub(crate) async fn gift_at_last(&self, room: &str, name: &str) -> Receipt {
        let started = Instant::now();
        loop {
            match self.gift_once(room, name, Some(name)).await {
                Ok(receipt) => return receipt,
                Err(error) => assert!(started.elapsed() < Duration::from_secs(20), "{name}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn chat(&self, room: &str, before: u64, texts: &[&str]) {
        let chats: Vec<_> = texts
            .iter()
            .map(|text| Event::Chat(Chat { id: "1".into(), text: (*text).into(), n: 1, ..Chat::default() }))
            .collect();
        self.relay.chat(room, None, before, &chats);
    }

    pub(crate) async fn moderate(
        &self,
        room: &str,
        target: Target,
        lifted: bool,
    ) -> Result<bool, PublishError> {
        self.relay.moderate(room, Change { target, until: None, lifted, seconds: None }).await
    }

    pub(crate) fn seen(&self, room: &str) -> Seen {
        self.recorder.rooms.lock().unwrap().get(room).cloned().unwrap_or_default()
    }

    /// Waits until the room has got so many priority events.
    pub(crate) async fn gets(&self, room: &str, gifts: usize) -> Seen {
        let wanted = format!("{gifts} gifts in {room}");
        eventually(&wanted, async || self.seen(room).gifts.len() >= gifts).await;
        self.seen(room)
    }
}

pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < Duration::from_secs(20), "it does not come true that {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
