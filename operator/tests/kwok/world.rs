//! Servers that a test plays: viewers come, spread over the pods they are sent to, and move away from pods that drain.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use danmu_operator::{LoadError, Loads, Target, Told};
use futures_util::StreamExt;
use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{core::v1::Pod, discovery::v1::EndpointSlice},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{WatchStreamExt, reflector, reflector::Store, watcher},
};

const TICK: Duration = Duration::from_millis(500);
/// Viewers of a pod that drains have moved so long after.
const MOVED: i64 = 2;

/// What the servers say, and what they were told.
#[derive(Default)]
pub(crate) struct FakeLoads(Mutex<World>);

#[derive(Default)]
struct World {
    told: HashMap<String, Arc<Told>>,
    drains: HashMap<String, Timestamp>,
    asked: Vec<String>,
    audience: BTreeMap<String, u32>,
    /// Viewers by room and pod.
    seats: BTreeMap<String, BTreeMap<String, u32>>,
    silent: bool,
    /// How far rooms shed load, on every pod.
    shedding: BTreeMap<String, u8>,
    /// Viewers who were on a pod when it went.
    cut: u32,
    /// Moves of viewers away from a pod that drains.
    moved: u32,
}

impl Loads for FakeLoads {
    fn last(&self, uid: &str) -> Option<Arc<Told>> {
        self.0.lock().unwrap().told.get(uid).cloned()
    }

    fn is_asked(&self, uid: &str) -> bool {
        self.0.lock().unwrap().told.contains_key(uid)
    }

    async fn drain(&self, target: &Target, _: u32) -> Result<(), LoadError> {
        let mut world = self.0.lock().unwrap();
        world.asked.push(format!("drain {}", target.pod));
        let now = Timestamp::now();
        world.drains.entry(target.uid.clone()).or_insert(now);
        world.retell(&target.uid, Some(now));
        Ok(())
    }

    async fn undrain(&self, target: &Target) -> Result<(), LoadError> {
        let mut world = self.0.lock().unwrap();
        world.asked.push(format!("undrain {}", target.pod));
        world.drains.remove(&target.uid);
        world.retell(&target.uid, None);
        Ok(())
    }

    fn learn_token(&self, _: &str, _: &str, _: &str) {}
}

impl FakeLoads {
    /// So many viewers want to be in the room.
    pub(crate) fn audience(&self, room: &str, viewers: u32) {
        self.0.lock().unwrap().audience.insert(room.to_owned(), viewers);
    }

    /// Every pod sheds so much of the room's load; 0: none.
    pub(crate) fn shed(&self, room: &str, stage: u8) {
        let shedding = &mut self.0.lock().unwrap().shedding;
        shedding.insert(room.to_owned(), stage);
        shedding.retain(|_, stage| *stage > 0);
    }

    /// No server answers any more.
    pub(crate) fn silent(&self, silent: bool) {
        self.0.lock().unwrap().silent = silent;
    }

    /// Drains begun and taken back, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.0.lock().unwrap().asked.clone()
    }

    /// Viewers who were cut off, because their pod went while they were on it.
    pub(crate) fn cut(&self) -> u32 {
        self.0.lock().unwrap().cut
    }

    /// Moves of viewers away from pods that drain.
    pub(crate) fn moved(&self) -> u32 {
        self.0.lock().unwrap().moved
    }

    /// Viewers seated, in all rooms.
    pub(crate) fn seated(&self) -> u32 {
        self.0.lock().unwrap().seats.values().flat_map(BTreeMap::values).sum()
    }
}

impl World {
    fn retell(&mut self, uid: &str, draining: Option<Timestamp>) {
        if let Some(told) = self.told.get_mut(uid) {
            *told = Arc::new(Told { draining, ..Told::clone(told) });
        }
    }

    fn pass(&mut self, pods: &[Arc<Pod>], slices: &HashMap<String, Vec<String>>) {
        let now = Timestamp::now();
        let uid = |pod: &Pod| pod.uid().unwrap_or_default();
        let up: Vec<&Arc<Pod>> = pods.iter().filter(|pod| is_ready(pod)).collect();
        let there: HashSet<String> = pods.iter().map(|pod| uid(pod)).collect();
        let drained =
            |uid: &str| self.drains.get(uid).is_some_and(|at| now.duration_since(*at).as_secs() >= MOVED);
        let takes: Vec<String> =
            up.iter().map(|pod| uid(pod)).filter(|uid| !self.drains.contains_key(uid)).collect();
        for (nth, (room, &audience)) in self.audience.iter().enumerate() {
            let seats = self.seats.entry(room.clone()).or_default();
            seats.retain(|uid, viewers| {
                self.cut += if there.contains(uid) { 0 } else { *viewers };
                self.moved += if there.contains(uid) && drained(uid) { *viewers } else { 0 };
                there.contains(uid) && !drained(uid)
            });
            let here: u32 = seats.values().sum();
            if here > audience {
                seats.values_mut().for_each(|seat| {
                    *seat =
                        u32::try_from(u64::from(*seat) * u64::from(audience) / u64::from(here)).unwrap_or(0);
                });
            }
            let here: u32 = seats.values().sum();
            let own = slices.get(room).filter(|slice| !slice.is_empty());
            // A gateway that hashes sends a cold room to one pod.
            let hashed: Vec<String> = takes.get(nth % takes.len().max(1)).cloned().into_iter().collect();
            let to = own.unwrap_or(&hashed);
            let (come, among) = (audience.saturating_sub(here), u32::try_from(to.len()).unwrap_or(1).max(1));
            for (place, uid) in (0u32..).zip(to) {
                *seats.entry(uid.clone()).or_default() += come / among + u32::from(place < come % among);
            }
            seats.retain(|_, viewers| *viewers > 0);
        }
        if self.silent {
            return;
        }
        let mut rooms: HashMap<&str, BTreeMap<String, u32>> = HashMap::new();
        for (room, seats) in &self.seats {
            for (uid, &viewers) in seats {
                rooms.entry(uid).or_default().insert(room.clone(), viewers);
            }
        }
        self.told = up
            .iter()
            .map(|pod| {
                let rooms = rooms.remove(uid(pod).as_str()).unwrap_or_default();
                let draining = self.drains.get(&uid(pod)).copied();
                let shedding = self.shedding.clone();
                let viewers = rooms.values().sum();
                let told = Told { at: now, viewers, capacity: 100_000, rooms, shedding, draining };
                (uid(pod), Arc::new(told))
            })
            .collect();
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn watch<K>(api: Api<K>, labels: &str) -> (Store<K>, impl Future<Output = ()>)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let (store, writer) = reflector::store();
    let stream = watcher(api, watcher::Config::default().labels(labels)).default_backoff().reflect(writer);
    (store, stream.for_each(|_| std::future::ready(())))
}

/// Lets time pass in the namespace until it is dropped.
pub(crate) async fn play(client: Client, namespace: String, loads: Arc<FakeLoads>) {
    let (pods, watched_pods) = watch::<Pod>(Api::namespaced(client.clone(), &namespace), "danmu.live/fleet");
    let (slices, watched_slices) =
        watch::<EndpointSlice>(Api::namespaced(client, &namespace), "danmu.live/room");
    let passing = async {
        loop {
            tokio::time::sleep(TICK).await;
            let by_room = slices
                .state()
                .iter()
                .filter_map(|slice| {
                    let uids = slice
                        .endpoints
                        .iter()
                        .filter_map(|endpoint| endpoint.target_ref.as_ref()?.uid.clone());
                    Some((slice.labels().get("danmu.live/room")?.clone(), uids.collect()))
                })
                .collect();
            loads.0.lock().unwrap().pass(&pods.state(), &by_room);
        }
    };
    tokio::join!(watched_pods, watched_slices, passing);
}
