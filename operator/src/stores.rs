//! What the operator watches, kept in memory: reads of a reconcile come from here.

use std::{collections::HashMap, sync::Arc, time::Duration};

use danmu_crds::{DanmuFleet, DanmuRoom};
use futures_util::{StreamExt, stream::BoxStream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{ApiResource, DeserializeGuard, DynamicObject},
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        utils::ResetTimerBackoff,
        watcher,
        watcher::ExponentialBackoff,
    },
};
use serde::de::DeserializeOwned;

use crate::{
    discovery::{self, GatewayApi},
    kind::Kind,
    loads::Loads,
    names,
    seen::{Keys, Live, Seen},
};

/// A fleet, or why it cannot be read.
pub(crate) type FleetOrFault = DeserializeGuard<DanmuFleet>;
/// A room, or why it cannot be read.
pub(crate) type RoomOrFault = DeserializeGuard<DanmuRoom>;

/// Everything watched.
pub(crate) struct Stores {
    pub(crate) fleets: Store<FleetOrFault>,
    pub(crate) rooms: Store<RoomOrFault>,
    pub(crate) pods: Store<Pod>,
    owned: HashMap<Kind, Store<DynamicObject>>,
    gateway_api: Arc<GatewayApi>,
}

/// Streams that keep the stores; they must be polled.
pub(crate) struct Streams {
    pub(crate) fleets: BoxStream<'static, Result<FleetOrFault, watcher::Error>>,
    pub(crate) rooms: BoxStream<'static, Result<RoomOrFault, watcher::Error>>,
    pub(crate) pods: BoxStream<'static, Result<Pod, watcher::Error>>,
    pub(crate) owned: Vec<(ApiResource, BoxStream<'static, Result<DynamicObject, watcher::Error>>)>,
}

fn ours() -> watcher::Config {
    watcher::Config::default().labels(&format!("{}={}", names::MANAGED_BY, names::OPERATOR))
}

/// When a watch that failed is tried again. The default of kube waits up to a minute, and after an outage the first try
/// fails once more, because the version it goes on from is too old: a new room would wait as long.
fn again() -> ResetTimerBackoff<ExponentialBackoff> {
    let delays = backon::ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(3))
        .with_jitter()
        .without_max_times();
    ResetTimerBackoff::new(ExponentialBackoff::from(delays), Duration::from_secs(10))
}

/// Watches `api` into a store. Managed fields are half of an object, and nobody here reads them.
fn watch<K>(
    api: Api<K>,
    config: watcher::Config,
    resource: K::DynamicType,
    trim: fn(&mut K),
) -> (Store<K>, BoxStream<'static, Result<K, watcher::Error>>)
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
    K::DynamicType: Eq + std::hash::Hash + Clone + Send + Sync,
{
    let writer = reflector::store::Writer::new(resource);
    let store = writer.as_reader();
    let stream = watcher(api, config)
        .modify(move |object| {
            object.managed_fields_mut().clear();
            trim(object);
        })
        .backoff(again())
        .reflect(writer)
        .touched_objects();
    (store, stream.boxed())
}

/// Of a pod's spec only its node is read.
fn trim_pod(pod: &mut Pod) {
    if let Some(spec) = &mut pod.spec {
        let node_name = spec.node_name.take();
        *spec = PodSpec { node_name, ..PodSpec::default() };
    }
}

impl Stores {
    /// Watches all of `client`'s cluster, or one namespace.
    pub(crate) fn watch(client: &Client, namespace: Option<&str>) -> (Self, Streams) {
        fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
        where
            K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
        {
            namespace.map_or_else(
                || Api::all(client.clone()),
                |namespace| Api::namespaced(client.clone(), namespace),
            )
        }
        let all = watcher::Config::default;
        let (fleets, fleet_stream) = watch(scoped(client, namespace), all(), (), |_| {});
        let (rooms, room_stream) = watch(scoped(client, namespace), all(), (), |_| {});
        let (pods, pod_stream) = watch(scoped(client, namespace), ours(), (), trim_pod);
        let gateway_api = Arc::new(GatewayApi::default());
        let (mut owned, mut streams) = (HashMap::new(), Vec::new());
        for kind in Kind::ALL {
            let resource = kind.resource();
            let api = namespace.map_or_else(
                || Api::all_with(client.clone(), &resource),
                |namespace| Api::namespaced_with(client.clone(), namespace, &resource),
            );
            let (store, stream) = watch(api, ours(), resource.clone(), |_| {});
            owned.insert(kind, store);
            let stream = if kind == Kind::HttpRoute {
                discovery::once_there(client.clone(), Arc::clone(&gateway_api), stream).boxed()
            } else {
                stream
            };
            streams.push((resource, stream));
        }
        let stores = Self { fleets, rooms, pods, owned, gateway_api };
        (stores, Streams { fleets: fleet_stream, rooms: room_stream, pods: pod_stream, owned: streams })
    }

    /// What has not been listed yet, for `/readyz`. HTTPRoutes may be absent for good.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        fn is_ready(ready: impl Future<Output = Result<(), reflector::store::WriterDropped>>) -> bool {
            let mut ready = std::pin::pin!(ready);
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            matches!(ready.as_mut().poll(&mut context), std::task::Poll::Ready(Ok(())))
        }
        let mut missing = Vec::new();
        for (name, ready) in [
            ("DanmuFleets (are the CRDs installed?)", is_ready(self.fleets.wait_until_ready())),
            ("DanmuRooms (are the CRDs installed?)", is_ready(self.rooms.wait_until_ready())),
            ("Pods", is_ready(self.pods.wait_until_ready())),
        ] {
            if !ready {
                missing.push(name);
            }
        }
        if !self.gateway_api.is_known() {
            missing.push("word of the Gateway API");
        }
        let needed =
            Kind::ALL.into_iter().filter(|kind| *kind != Kind::HttpRoute || self.gateway_api.is_there());
        missing.extend(
            needed
                .filter(|kind| self.owned.get(kind).is_none_or(|store| !is_ready(store.wait_until_ready())))
                .map(Kind::name),
        );
        missing
    }

    /// Everything about one fleet; `loads` gives what its servers said.
    pub(crate) fn see(&self, fleet: Arc<DanmuFleet>, keys: Keys, loads: &impl Loads) -> Seen {
        let (namespace, name) = (fleet.namespace(), fleet.name_any());
        let of_fleet = |meta: &kube::core::ObjectMeta| {
            let label = meta.labels.as_ref().and_then(|labels| labels.get(names::FLEET_LABEL));
            meta.namespace == namespace && label == Some(&name)
        };
        let rooms = self.rooms_of(namespace.as_deref(), &name);
        let pods: Vec<Arc<Pod>> = self.pods.state_filter(|pod| of_fleet(&pod.metadata));
        let loads = pods.iter().filter_map(|pod| {
            let uid = pod.metadata.uid.as_ref()?;
            Some((uid.clone(), loads.last(uid)?))
        });
        let loads = loads.collect();
        let live = self.owned.iter().flat_map(|(&kind, store)| {
            store
                .state_filter(|object| of_fleet(&object.metadata))
                .into_iter()
                .map(move |object| Live { kind, object })
        });
        let live = live.collect();
        let host_taken = self.host_taken(&fleet);
        let gateway_api = self.gateway_api.is_there();
        Seen { now: Timestamp::now(), fleet, rooms, pods, live, loads, keys, gateway_api, host_taken }
    }

    /// The rooms that name this fleet.
    pub(crate) fn rooms_of(&self, namespace: Option<&str>, fleet: &str) -> Vec<Arc<DanmuRoom>> {
        let rooms = self.rooms.state().into_iter().filter_map(|room| {
            let room = room.0.as_ref().ok()?;
            let of_fleet = room.metadata.namespace.as_deref() == namespace
                && room.spec.fleet == fleet
                && room.metadata.deletion_timestamp.is_none();
            of_fleet.then(|| Arc::new(room.clone()))
        });
        rooms.collect()
    }

    /// A host of this fleet that an older one has.
    fn host_taken(&self, fleet: &DanmuFleet) -> Option<String> {
        let fleets = self.fleets.state();
        let others = fleets.iter().filter_map(|other| other.0.as_ref().ok());
        let older: Vec<&DanmuFleet> = others.filter(|other| age(other) < age(fleet)).collect();
        let hosts = fleet.spec.route.hosts();
        hosts
            .into_iter()
            .find(|host| older.iter().any(|other| other.spec.route.hosts().contains(host)))
            .map(str::to_owned)
    }
}

#[cfg(test)]
impl Stores {
    /// Stores that hold just this.
    pub(crate) fn of(
        fleets: Vec<serde_json::Value>,
        rooms: Vec<serde_json::Value>,
        pods: Vec<Pod>,
        live: Vec<Live>,
    ) -> Self {
        fn filled<K>(objects: Vec<K>, resource: K::DynamicType) -> Store<K>
        where
            K: Resource + Clone + 'static,
            K::DynamicType: Eq + std::hash::Hash + Clone,
        {
            let mut writer = reflector::store::Writer::new(resource);
            for event in [watcher::Event::Init, watcher::Event::InitDone] {
                writer.apply_watcher_event(&event);
            }
            for object in objects {
                writer.apply_watcher_event(&watcher::Event::Apply(object));
            }
            let store = writer.as_reader();
            // A dropped writer makes its store unusable; a test ends soon.
            std::mem::forget(writer);
            store
        }
        fn read<K: DeserializeOwned>(objects: Vec<serde_json::Value>) -> Vec<K> {
            objects.into_iter().map(|object| serde_json::from_value(object).unwrap()).collect()
        }
        let owned = Kind::ALL.map(|kind| {
            let of_kind = live.iter().filter(|live| live.kind == kind).map(|live| (*live.object).clone());
            (kind, filled(of_kind.collect(), kind.resource()))
        });
        let gateway_api = Arc::new(GatewayApi::default());
        gateway_api.said(true);
        Self {
            fleets: filled(read(fleets), ()),
            rooms: filled(read(rooms), ()),
            pods: filled(pods, ()),
            owned: owned.into(),
            gateway_api,
        }
    }
}

type Age = (Option<Timestamp>, Option<String>, String);

fn age(fleet: &DanmuFleet) -> Age {
    let made = fleet.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (made, fleet.namespace(), fleet.name_any())
}

/// The fleet that a labelled object belongs to.
pub(crate) fn fleet_of_labels<K: Resource>(object: &K) -> Option<ObjectRef<FleetOrFault>> {
    let name = object.labels().get(names::FLEET_LABEL)?;
    Some(ObjectRef::new(name).within(&object.namespace()?))
}

/// The fleet that a room names.
pub(crate) fn fleet_of_room(room: &RoomOrFault) -> Option<ObjectRef<FleetOrFault>> {
    let room = room.0.as_ref().ok()?;
    Some(ObjectRef::new(&room.spec.fleet).within(&room.namespace()?))
}
