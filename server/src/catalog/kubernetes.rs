//! The rooms of a fleet as the Kubernetes API has them.
//!
//! Two watches: DanmuRooms of the fleet (by the selectable field `spec.fleet`), and the DanmuFleet itself. A
//! third, of ConfigMaps with the label `danmu.live/words`, once a room or the fleet names one.
//! While the API server is away the last catalog stays in force. `Watched` is the part without I/O.

use std::{collections::HashMap, sync::Arc, time::Duration};

use danmu_crds::{DanmuFleet, DanmuFleetSpec, DanmuRoom, DanmuRoomSpec, UnlistedRooms};
use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
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
/// `namespace` and `fleet` name the DanmuFleet. The client is the pod's own, or that of `KUBECONFIG`.
pub async fn follow(namespace: String, fleet: String, sender: watch::Sender<Arc<Catalog>>) {
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
    run(rooms.default_backoff(), fleets.default_backoff(), words.default_backoff(), &sender).await;
}

async fn run(
    rooms: impl Stream<Item = watcher::Result<Rooms>>,
    fleets: impl Stream<Item = watcher::Result<Fleets>>,
    words: impl Stream<Item = watcher::Result<Event<ConfigMap>>>,
    sender: &watch::Sender<Arc<Catalog>>,
) {
    tokio::pin!(rooms, fleets, words);
    let mut watched = Watched::default();
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
    rooms: HashMap<String, DanmuRoomSpec>,
    /// The list that is being told anew; it takes the place of `rooms` when it is whole.
    listing: HashMap<String, DanmuRoomSpec>,
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

impl Watched {
    fn room(&mut self, event: Rooms) {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(room) => {
                if let Some((name, spec)) = self.read_room(room) {
                    self.listing.insert(name, spec);
                }
            }
            Event::InitDone => {
                self.rooms = std::mem::take(&mut self.listing);
                self.rooms_listed = true;
            }
            Event::Apply(room) => {
                if let Some((name, spec)) = self.read_room(room) {
                    self.rooms.insert(name, spec);
                }
            }
            Event::Delete(room) => {
                self.faults.remove(&room_name(&room.name_any()));
                self.rooms.remove(&room.name_any());
            }
        }
    }

    /// The room's spec; of an unreadable one what it was before.
    fn read_room(&mut self, room: DeserializeGuard<DanmuRoom>) -> Option<(String, DanmuRoomSpec)> {
        let name = room.name_any();
        let object = room_name(&name);
        match room.0 {
            Ok(room) => {
                self.faults.remove(&object);
                Some((name, room.spec))
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
            || self.rooms.values().any(|room| names(room.moderation.as_ref()))
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
        let policy = |(name, spec): (&String, &DanmuRoomSpec)| {
            (name.clone(), kept(danmu_crds::policy(fleet, Some(spec)), known.rooms.get(name)))
        };
        let unlisted = fleet.filter(|fleet| fleet.server.unlisted_rooms == UnlistedRooms::Allow);
        let mut faults: Vec<String> = self.faults.values().cloned().collect();
        faults.sort_unstable();
        let mut next = Catalog {
            rooms: self.rooms.iter().map(policy).collect(),
            unlisted: unlisted
                .map(|fleet| kept(danmu_crds::policy(Some(fleet), None), known.unlisted.as_ref())),
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
mod tests {
    use serde_json::json;

    use super::*;

    fn room(name: &str, spec: serde_json::Value) -> DeserializeGuard<DanmuRoom> {
        let object = json!({
            "apiVersion": "danmu.live/v1alpha1", "kind": "DanmuRoom",
            "metadata": {"name": name, "namespace": "live"}, "spec": spec,
        });
        serde_json::from_value(object).unwrap()
    }

    fn listed(rooms: Vec<DeserializeGuard<DanmuRoom>>) -> Watched {
        let mut watched = Watched::default();
        watched.fleet(Event::Init);
        watched.fleet(Event::InitDone);
        watched.room(Event::Init);
        for room in rooms {
            watched.room(Event::InitApply(room));
        }
        watched.room(Event::InitDone);
        watched
    }

    #[test]
    fn nothing_is_told_before_both_lists_are_whole() {
        let mut watched = Watched::default();
        watched.room(Event::Init);
        watched.room(Event::InitDone);
        assert!(watched.catalog(None).is_none());
        watched.fleet(Event::Init);
        watched.fleet(Event::InitDone);
        assert!(watched.catalog(None).is_some());
    }

    #[test]
    fn a_change_of_one_room_keeps_the_others_as_they_are_and_a_status_changes_nothing() {
        let limits = |n| json!({"fleet": "default", "limits": {"messagesPerSecond": n}});
        let mut watched = listed(vec![room("a", limits(5)), room("b", limits(6))]);
        let first = watched.catalog(None).unwrap();
        watched.room(Event::Apply(room("a", limits(5))));
        assert!(watched.catalog(Some(&first)).is_none(), "the same spec: a status moved");
        watched.room(Event::Apply(room("a", limits(9))));
        let next = watched.catalog(Some(&first)).unwrap();
        assert_eq!(next.rooms["a"].messages_per_second, 9);
        assert!(Arc::ptr_eq(&next.rooms["b"], &first.rooms["b"]));
    }

    #[test]
    fn an_unreadable_room_keeps_its_last_good_policy_and_stops_nobody() {
        let mut watched = listed(vec![room("a", json!({"limits": {"messagesPerSecond": 5}}))]);
        let first = watched.catalog(None).unwrap();
        watched.room(Event::Apply(room("a", json!({"limits": "many"}))));
        watched.room(Event::Apply(room("b", json!({}))));
        let next = watched.catalog(Some(&first)).unwrap();
        assert!(next.faults[0].contains("DanmuRoom a"), "{:?}", next.faults);
        assert!(Arc::ptr_eq(&next.rooms["a"], &first.rooms["a"]) && next.rooms.contains_key("b"));
        watched.room(Event::Delete(room("a", json!({}))));
        let last = watched.catalog(Some(&next)).unwrap();
        assert!(last.faults.is_empty() && !last.rooms.contains_key("a"));
    }

    fn words(name: &str, text: &str) -> ConfigMap {
        serde_json::from_value(json!({"metadata": {"name": name}, "data": {"b": text, "a": "first"}}))
            .unwrap()
    }

    fn with_words() -> Watched {
        let from = json!({"words": {"from": [{"configMap": "bad-words"}]}});
        listed(vec![room("a", json!({"moderation": from}))])
    }

    #[test]
    fn a_room_waits_for_its_word_lists_and_opens_without_when_they_do_not_come() {
        let mut watched = with_words();
        assert!(watched.wants_words() && watched.catalog(None).is_none());
        watched.gave_up = true;
        let without = watched.catalog(None).unwrap();
        assert!(without.words.is_empty() && without.faults[0].contains("no ConfigMap bad-words"));
        watched.words(Event::Init);
        watched.words(Event::InitApply(words("bad-words", "second")));
        watched.words(Event::InitDone);
        let next = watched.catalog(Some(&without)).unwrap();
        assert_eq!(
            *next.words["bad-words"],
            [Box::from("first"), "second".into()],
            "in the order of the keys"
        );
        assert!(next.faults.is_empty());
    }

    /// A watch that tells what it is given and then nothing more.
    fn watching<K: Send + 'static>(events: Vec<Event<K>>) -> impl Stream<Item = watcher::Result<Event<K>>> {
        futures_util::stream::iter(events.into_iter().map(Ok)).chain(futures_util::stream::pending())
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_may_not_read_config_maps_opens_its_rooms_all_the_same() {
        let named = room("a", json!({"moderation": {"words": {"from": [{"configMap": "bad-words"}]}}}));
        let rooms = watching(vec![Event::Init, Event::InitApply(named), Event::InitDone]);
        let fleets = watching(vec![Event::Init, Event::InitDone]);
        let denied = futures_util::stream::iter([Err(watcher::Error::NoResourceVersion)])
            .chain(futures_util::stream::pending());
        let (sender, mut catalogs) = watch::channel(Arc::new(Catalog::default()));
        let begin = tokio::time::Instant::now();
        tokio::spawn(async move { run(rooms, fleets, denied, &sender).await });
        catalogs.changed().await.unwrap();
        assert!((WORDS..WORDS * 2).contains(&begin.elapsed()), "{:?}", begin.elapsed());
        assert!(catalogs.borrow().rooms.contains_key("a"));
    }

    #[test]
    fn an_edit_of_a_word_list_is_a_change_and_a_bad_one_keeps_the_last_good() {
        let mut watched = with_words();
        watched.words(Event::Init);
        watched.words(Event::InitApply(words("bad-words", "second")));
        watched.words(Event::InitDone);
        let first = watched.catalog(None).unwrap();
        watched.words(Event::Apply(words("bad-words", "second")));
        assert!(watched.catalog(Some(&first)).is_none(), "the same words");
        watched.words(Event::Apply(words("bad-words", &"x\n".repeat(1_000_000))));
        let bad = watched.catalog(Some(&first)).unwrap();
        assert!(Arc::ptr_eq(&bad.words["bad-words"], &first.words["bad-words"]));
        assert!(bad.faults[0].contains("more than 200000 words"), "{:?}", bad.faults);
        watched.words(Event::Apply(words("bad-words", "third")));
        let next = watched.catalog(Some(&bad)).unwrap();
        assert!(next.faults.is_empty() && next.words["bad-words"].contains(&Box::from("third")));
        watched.words(Event::Delete(words("bad-words", "third")));
        assert!(watched.catalog(Some(&next)).unwrap().words.is_empty());
    }

    #[test]
    fn without_a_named_list_no_config_map_is_asked_for() {
        assert!(!listed(vec![room("a", json!({}))]).wants_words());
    }

    #[test]
    fn a_list_told_anew_drops_what_was_deleted_meanwhile() {
        let mut watched = listed(vec![room("a", json!({})), room("b", json!({}))]);
        watched.room(Event::Init);
        watched.room(Event::InitApply(room("b", json!({}))));
        assert_eq!(watched.catalog(None).unwrap().rooms.len(), 2, "not before the list is whole");
        watched.room(Event::InitDone);
        assert_eq!(watched.catalog(None).unwrap().rooms.len(), 1);
    }
}
