//! The rooms of a fleet as the Kubernetes API has them.
//!
//! Two watches: DanmuRooms of the fleet (by the selectable field `spec.fleet`), and the DanmuFleet itself. A
//! third, of ConfigMaps with the label `danmu.live/words`, once a room or the fleet names one.
//! While the API server is away the last catalog stays in force. `Watched` is the part without I/O.

use std::{collections::HashMap, sync::Arc, time::Duration};

use danmu_crds::{DanmuFleet, DanmuFleetSpec, DanmuRoom, DanmuRoomSpec, RoomStatus, UnlistedRooms};
use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        utils::ResetTimerBackoff,
        watcher::{self, Event, ExponentialBackoff, watcher},
    },
};
use tokio::sync::watch;

use super::{
    Catalog, kept,
    words::{self, WordSet},
};

/// Changes that come together make one catalog: 500 rooms applied at once are not 500.
const GATHER: Duration = Duration::from_millis(100);
/// Between two attempts to get a client. The watches have a back-off of their own.
const RETRY: Duration = Duration::from_secs(2);

/// How long rooms wait for their first word lists. After that they open without: a pod that may not read
/// ConfigMaps must not keep everybody out.
const WORDS: Duration = Duration::from_secs(10);

type Rooms = Event<DeserializeGuard<DanmuRoom>>;
type Fleets = Event<DeserializeGuard<DanmuFleet>>;

/// Sends a catalog once both lists are there and after each change, until every receiver is gone.
/// `namespace` and `fleet` name the DanmuFleet, `pod` this process as rooms are placed on it. The client is the pod's
/// own, or that of `KUBECONFIG`.
pub async fn follow(
    namespace: String,
    fleet: String,
    pod: Option<String>,
    sender: watch::Sender<Arc<Catalog>>,
) {
    let client = loop {
        match Client::try_default().await {
            Ok(client) => break client,
            Err(error) => {
                tracing::warn!(%error, "no way to the Kubernetes API yet: no service account and no KUBECONFIG");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    let rooms = watcher(
        Api::<DeserializeGuard<DanmuRoom>>::namespaced(client.clone(), &namespace),
        watcher::Config::default().fields(&format!("spec.fleet={fleet}")),
    );
    let fleets = watcher(
        Api::<DeserializeGuard<DanmuFleet>>::namespaced(client.clone(), &namespace),
        watcher::Config::default().fields(&format!("metadata.name={fleet}")),
    );
    let words = watcher(
        Api::<ConfigMap>::namespaced(client, &namespace),
        watcher::Config::default().labels("danmu.live/words"),
    );
    run(Watched::of(pod), rooms.backoff(again()), fleets.backoff(again()), words.backoff(again()), &sender)
        .await;
}

/// When a watch that failed is tried again. The default of kube waits up to a minute, and after an outage the first try
/// fails once more, because the version it goes on from is too old. Jitter spreads a thousand servers.
fn again() -> ResetTimerBackoff<ExponentialBackoff> {
    let delays = backon::ExponentialBuilder::default()
        .with_min_delay(Duration::from_secs(1))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times();
    ResetTimerBackoff::new(ExponentialBackoff::from(delays), Duration::from_secs(10))
}

async fn run(
    mut watched: Watched,
    rooms: impl Stream<Item = watcher::Result<Rooms>>,
    fleets: impl Stream<Item = watcher::Result<Fleets>>,
    words: impl Stream<Item = watcher::Result<Event<ConfigMap>>>,
    sender: &watch::Sender<Arc<Catalog>>,
) {
    tokio::pin!(rooms, fleets, words);
    let mut last: Option<Arc<Catalog>> = None;
    let mut due = None;
    let mut told = false;
    let mut patience = None;
    loop {
        let wants_words = watched.wants_words();
        if wants_words && !watched.words_listed {
            patience = patience.or_else(|| Some(tokio::time::Instant::now() + WORDS));
        }
        let failed = tokio::select! {
            () = sender.closed() => return,
            Some(event) = rooms.next() => event.map(|event| watched.room(event)).err(),
            Some(event) = fleets.next() => event.map(|event| watched.fleet(event)).err(),
            // Not watched before one is named: most pods need no right to read ConfigMaps.
            Some(event) = words.next(), if wants_words => event.map(|event| watched.words(event)).err(),
            () = until(patience), if !watched.words_listed && !watched.gave_up => {
                watched.gave_up = true;
                due = due.or_else(|| Some(tokio::time::Instant::now()));
                continue;
            }
            () = until(due) => {
                due = None;
                if let Some(next) = watched.catalog(last.as_deref()) {
                    let next = Arc::new(next);
                    last = Some(Arc::clone(&next));
                    sender.send_replace(next);
                }
                continue;
            }
        };
        match failed {
            // Once a stumble: the watches try again by themselves, less and less often.
            Some(error) if !told => {
                told = true;
                tracing::warn!(%error, "the Kubernetes API cannot be watched; the rooms stay as they are");
            }
            Some(_) => {}
            None => {
                told = false;
                due = due.or_else(|| Some(tokio::time::Instant::now() + GATHER));
            }
        }
    }
}

async fn until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// What the two watches have told so far.
#[derive(Default)]
struct Watched {
    /// This pod's name; none: it cannot know whether a room is placed elsewhere.
    pod: Option<String>,
    rooms: HashMap<String, Listed>,
    /// The list that is being told anew; it takes the place of `rooms` when it is whole.
    listing: HashMap<String, Listed>,
    fleet: Option<DanmuFleetSpec>,
    has_fleet: bool,
    rooms_listed: bool,
    fleet_listed: bool,
    /// Lists of words by ConfigMap; the last good one of each.
    words: HashMap<String, Arc<WordSet>>,
    /// ConfigMaps that are being told anew, each once.
    words_listing: Vec<String>,
    words_listed: bool,
    /// The word lists do not come; rooms open without.
    gave_up: bool,
    /// By object, so that a mended one takes its fault with it.
    faults: HashMap<String, String>,
}

/// What is read of a room.
#[derive(Clone)]
struct Listed {
    spec: DanmuRoomSpec,
    /// Where its viewers are served better than here.
    elsewhere: Option<Arc<str>>,
    /// The sub-rooms that are placed here; empty where none are told.
    sub_rooms: Arc<[u32]>,
}

/// The room's address, if it has pods of its own and `pod` is none of them. Only while its own route is accepted: by the
/// fleet's route a viewer would come to any pod again.
fn elsewhere_of(status: &RoomStatus, pod: &str) -> Option<Arc<str>> {
    let placed_here = status.placement.iter().any(|share| share.pod == pod);
    let routed = status.conditions.iter().any(|condition| {
        condition.type_ == "Routed" && condition.status == "True" && condition.reason != "SharedRoute"
    });
    let away = routed && !placed_here && !status.placement.is_empty();
    status.url.as_deref().filter(|_| away).map(Arc::from)
}

/// The sub-rooms that are placed on `pod`.
fn sub_rooms_of(status: &RoomStatus, pod: &str) -> Arc<[u32]> {
    let here = status.placement.iter().find(|share| share.pod == pod);
    here.map_or_else(Arc::default, |share| share.sub_rooms.as_slice().into())
}

impl Watched {
    fn of(pod: Option<String>) -> Self {
        Self { pod, ..Self::default() }
    }

    fn room(&mut self, event: Rooms) {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(room) => {
                if let Some((name, room)) = self.read_room(room) {
                    self.listing.insert(name, room);
                }
            }
            Event::InitDone => {
                self.rooms = std::mem::take(&mut self.listing);
                self.rooms_listed = true;
            }
            Event::Apply(room) => {
                if let Some((name, room)) = self.read_room(room) {
                    self.rooms.insert(name, room);
                }
            }
            Event::Delete(room) => {
                self.faults.remove(&room_name(&room.name_any()));
                self.rooms.remove(&room.name_any());
            }
        }
    }

    /// What the room is; an unreadable one is what it was before.
    fn read_room(&mut self, room: DeserializeGuard<DanmuRoom>) -> Option<(String, Listed)> {
        let name = room.name_any();
        let object = room_name(&name);
        match room.0 {
            Ok(room) => {
                self.faults.remove(&object);
                let placed = self.pod.as_deref().zip(room.status.as_ref());
                let elsewhere = placed.and_then(|(pod, status)| elsewhere_of(status, pod));
                let sub_rooms = placed.map_or_else(Arc::default, |(pod, status)| sub_rooms_of(status, pod));
                Some((name, Listed { spec: room.spec, elsewhere, sub_rooms }))
            }
            Err(invalid) => {
                self.faults.insert(object.clone(), format!("{object}: {}", invalid.error));
                let before = self.rooms.get(&name).cloned()?;
                Some((name, before))
            }
        }
    }

    fn fleet(&mut self, event: Fleets) {
        match event {
            Event::Init => self.has_fleet = false,
            Event::InitApply(fleet) | Event::Apply(fleet) => {
                self.has_fleet = true;
                let object = format!("DanmuFleet {}", fleet.name_any());
                match fleet.0 {
                    Ok(fleet) => {
                        self.faults.remove(&object);
                        self.fleet = Some(fleet.spec);
                    }
                    Err(invalid) => {
                        self.faults.insert(object.clone(), format!("{object}: {}", invalid.error));
                    }
                }
            }
            Event::InitDone => {
                self.fleet_listed = true;
                if !self.has_fleet {
                    self.fleet = None;
                }
            }
            Event::Delete(_) => self.fleet = None,
        }
    }

    /// Whether a room or the fleet names a ConfigMap.
    fn wants_words(&self) -> bool {
        let names = |moderation: Option<&danmu_crds::Moderation>| {
            moderation.and_then(|m| m.words.as_ref()).is_some_and(|words| !words.from.is_empty())
        };
        let defaults = self.fleet.as_ref().and_then(|fleet| fleet.defaults.as_ref());
        names(defaults.and_then(|defaults| defaults.moderation.as_ref()))
            || self.rooms.values().any(|room| names(room.spec.moderation.as_ref()))
    }

    fn words(&mut self, event: Event<ConfigMap>) {
        match event {
            Event::Init => self.words_listing.clear(),
            Event::InitApply(map) => {
                self.words_listing.push(map.name_any());
                self.read_words(&map);
            }
            Event::Apply(map) => self.read_words(&map),
            Event::InitDone => {
                let listed: std::collections::HashSet<String> = self.words_listing.drain(..).collect();
                self.words.retain(|name, _| listed.contains(name));
                self.faults.retain(|object, _| {
                    object.strip_prefix("ConfigMap ").is_none_or(|name| listed.contains(name))
                });
                self.words_listed = true;
            }
            Event::Delete(map) => {
                self.words.remove(&map.name_any());
                self.faults.remove(&map_name(&map.name_any()));
            }
        }
    }

    /// The words of a ConfigMap; one that cannot be read leaves what was there before.
    fn read_words(&mut self, map: &ConfigMap) {
        let name = map.name_any();
        let object = map_name(&name);
        let entries = map.data.iter().flatten().map(|(key, text)| (key.as_str(), text.as_str()));
        match words::read(&object, entries) {
            Ok(words) => {
                self.faults.remove(&object);
                let before = self.words.get(&name).filter(|before| ***before == words).cloned();
                self.words.insert(name, before.unwrap_or_else(|| Arc::new(words)));
            }
            Err(fault) => drop(self.faults.insert(object, fault.to_string())),
        }
    }

    /// The catalog now, if both lists are known and it is another one than `last`.
    fn catalog(&self, last: Option<&Catalog>) -> Option<Catalog> {
        let words_known = self.words_listed || self.gave_up || !self.wants_words();
        if !self.rooms_listed || !self.fleet_listed || !words_known {
            return None;
        }
        let known = last.cloned().unwrap_or_default();
        let fleet = self.fleet.as_ref();
        let policy = |(name, room): (&String, &Listed)| {
            (name.clone(), kept(danmu_crds::policy(fleet, Some(&room.spec)), known.rooms.get(name)))
        };
        let unlisted = fleet.filter(|fleet| fleet.server.unlisted_rooms == UnlistedRooms::Allow);
        let mut faults: Vec<String> = self.faults.values().cloned().collect();
        faults.sort_unstable();
        let mut next = Catalog {
            rooms: self.rooms.iter().map(policy).collect(),
            unlisted: unlisted
                .map(|fleet| kept(danmu_crds::policy(Some(fleet), None), known.unlisted.as_ref())),
            elsewhere: self
                .rooms
                .iter()
                .filter_map(|(name, room)| Some((name.clone(), room.elsewhere.clone()?)))
                .collect(),
            sub_rooms: self
                .rooms
                .iter()
                .filter(|(_, room)| !room.sub_rooms.is_empty())
                .map(|(name, room)| (name.clone(), Arc::clone(&room.sub_rooms)))
                .collect(),
            fleet: kept(fleet.cloned().unwrap_or_default(), Some(&known.fleet)),
            words: HashMap::new(),
            faults,
        };
        let missing = self.give_words(&mut next);
        next.faults.extend(missing);
        next.tell_too_long();
        for fault in next.faults.iter().filter(|fault| !known.faults.contains(fault)) {
            tracing::warn!(%fault, "an object cannot be read; what was there before stays in force");
        }
        (last.is_none() || next.differs(&known)).then_some(next)
    }

    /// Gives the catalog the lists it names. Answers those that are not there.
    fn give_words(&self, next: &mut Catalog) -> Vec<String> {
        let named: Vec<String> = super::named(next.policies()).into_iter().map(str::to_owned).collect();
        let mut missing = Vec::new();
        for name in named {
            match self.words.get(&name) {
                Some(words) => drop(next.words.insert(name, Arc::clone(words))),
                None if self.faults.contains_key(&map_name(&name)) => {}
                None => missing.push(format!(
                    "words.from: there is no ConfigMap {name} with the label danmu.live/words, or it may not be read"
                )),
            }
        }
        missing
    }
}

fn map_name(name: &str) -> String {
    format!("ConfigMap {name}")
}

fn room_name(name: &str) -> String {
    format!("DanmuRoom {name}")
}

#[cfg(test)]
mod tests;
