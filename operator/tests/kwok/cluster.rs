//! A namespace of the real cluster, an operator in it, and what that asked of the API.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use danmu_crds::{DanmuFleet, DanmuRoom};
use danmu_operator::{Operator, Settings};
use hyper::http::{Method, Request};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        core::v1::{Namespace, Pod, Service},
        discovery::v1::EndpointSlice,
        events::v1::Event,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client, Config, CustomResourceExt, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    client::{Body, ClientBuilder},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tower::util::MapRequestLayer;

use crate::world::{self, FakeLoads};

/// What the operator asked for, in order.
#[derive(Default)]
pub(crate) struct Calls(Mutex<Vec<(Instant, Method, String)>>);

impl Calls {
    pub(crate) fn mark(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Writes since then, as `METHOD path`.
    pub(crate) fn writes(&self, mark: usize) -> Vec<String> {
        let all = self.0.lock().unwrap();
        let writes = all[mark..].iter().filter(|(_, method, _)| *method != Method::GET);
        writes.map(|(_, method, path)| format!("{method} {path}")).collect()
    }

    /// Writes since then, counted by method and kind.
    pub(crate) fn counted(&self, mark: usize) -> BTreeMap<String, usize> {
        let mut counted = BTreeMap::new();
        for line in self.writes(mark) {
            let mut parts = line.split('/').collect::<Vec<_>>();
            let method = parts[0].trim().to_owned();
            let subresource = parts.last().filter(|last| matches!(**last, "status" | "eviction")).copied();
            let kind =
                parts.iter().position(|part| *part == "namespaces").and_then(|at| parts.get(at + 2).copied());
            let name = format!(
                "{method} {}{}",
                kind.unwrap_or("?"),
                subresource.map_or(String::new(), |s| format!("/{s}"))
            );
            parts.clear();
            *counted.entry(name).or_default() += 1;
        }
        counted
    }
}

/// A namespace of a test's own.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) calls: Arc<Calls>,
    pub(crate) loads: Arc<FakeLoads>,
    metrics: Option<Box<dyn Fn() -> String + Send + Sync>>,
    tasks: JoinSet<()>,
}

impl Cluster {
    pub(crate) async fn new(name: &str) -> Cluster {
        let client = Client::try_default().await.expect("KUBECONFIG names a cluster");
        apply_definitions(&client).await;
        let namespace = format!("kwok-{name}-{:06x}", rand::random::<u32>() & 0xff_ffff);
        let object: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        Api::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
        let loads = Arc::new(FakeLoads::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(world::play(client.clone(), namespace.clone(), Arc::clone(&loads)));
        Cluster { client, namespace, calls: Arc::default(), loads, metrics: None, tasks }
    }

    /// Starts an operator that sees this namespace alone; its requests are written down.
    pub(crate) async fn operate(&mut self) {
        let calls = Arc::clone(&self.calls);
        let noted = MapRequestLayer::new(move |request: Request<Body>| {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            calls.0.lock().unwrap().push((Instant::now(), method, path));
            request
        });
        let config = Config::infer().await.unwrap();
        let client = ClientBuilder::try_from(config).unwrap().with_layer(&noted).build();
        let settings = Settings { server_image: Some("danmu-server:one".to_owned()), server_role: None };
        let operator = Operator::new(client, Some(&self.namespace), settings, Arc::clone(&self.loads));
        self.metrics = Some(Box::new(operator.metrics()));
        self.tasks.spawn(operator.run());
    }

    /// The namespace goes with all in it.
    pub(crate) async fn end(mut self) {
        self.tasks.shutdown().await;
        let api: Api<Namespace> = Api::all(self.client.clone());
        api.delete(&self.namespace, &DeleteParams::default()).await.unwrap();
    }

    /// A sum or counter of the operator's, over all its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.as_ref().expect("an operator runs")();
        let of_name = |line: &&str| line.split([' ', '{']).next() == Some(name);
        text.lines().filter(of_name).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) async fn create<K>(&self, name: &str, spec: Value) -> Result<K, kube::Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Serialize
            + DeserializeOwned
            + std::fmt::Debug,
    {
        // As JSON, because some of it cannot be read as our own type.
        let resource = kube::core::ApiResource::erase::<K>(&());
        let api: Api<kube::core::DynamicObject> =
            Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let object = json!({
            "apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name}, "spec": spec,
        });
        let made = api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await?;
        Ok(made.try_parse().unwrap())
    }

    pub(crate) async fn fleet(&self, spec: Value) {
        self.create::<DanmuFleet>("default", spec).await.unwrap();
    }

    pub(crate) async fn room(&self, name: &str, spec: Value) {
        self.create::<DanmuRoom>(name, spec).await.unwrap();
    }

    pub(crate) async fn patch<K>(&self, name: &str, patch: Value)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub(crate) async fn rooms(&self) -> Vec<DanmuRoom> {
        self.api().list(&ListParams::default()).await.unwrap().items
    }

    pub(crate) async fn pods(&self) -> Vec<Pod> {
        let mut pods: Vec<Pod> = self.api().list(&ListParams::default()).await.unwrap().items;
        pods.sort_by_key(ordinal);
        pods
    }

    pub(crate) async fn set(&self) -> Option<StatefulSet> {
        self.api().get_opt("danmu-default").await.unwrap()
    }

    pub(crate) async fn replicas(&self) -> i32 {
        self.set().await.and_then(|set| set.spec?.replicas).unwrap_or(0)
    }

    /// Slices and Services of rooms, by room.
    pub(crate) async fn of_rooms<K>(&self) -> BTreeMap<String, K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let list = self.api::<K>().list(&ListParams::default().labels("danmu.live/room")).await.unwrap();
        list.items.into_iter().map(|object| (object.labels()["danmu.live/room"].clone(), object)).collect()
    }

    pub(crate) async fn slices(&self) -> BTreeMap<String, EndpointSlice> {
        self.of_rooms().await
    }

    pub(crate) async fn services(&self) -> BTreeMap<String, Service> {
        self.of_rooms().await
    }

    /// Status and reason of a fleet's condition.
    pub(crate) async fn fleet_condition(&self, kind: &str) -> (String, String) {
        let fleet: DanmuFleet = self.api().get("default").await.unwrap();
        condition(&fleet.status.unwrap_or_default().conditions, kind)
    }

    pub(crate) async fn room_condition(&self, room: &str, kind: &str) -> (String, String) {
        let room: DanmuRoom = self.api().get(room).await.unwrap();
        condition(&room.status.unwrap_or_default().conditions, kind)
    }

    /// Waits until nothing moves: the fleet is as planned, and every room is placed.
    pub(crate) async fn settles(&self, seconds: u64) {
        eventually("the fleet settles", seconds, async || {
            if self.fleet_condition("Progressing").await.1 != "Settled" {
                return None;
            }
            let rooms = self.rooms().await;
            let placed = |room: &DanmuRoom| {
                let status = room.status.clone().unwrap_or_default();
                condition(&status.conditions, "Placed").0 == "True"
            };
            rooms.iter().all(placed).then_some(())
        })
        .await;
    }

    /// The reasons of the Events about an object.
    pub(crate) async fn events(&self, about: &str) -> Vec<String> {
        let list = self.api::<Event>().list(&ListParams::default()).await.unwrap();
        let ours = list.items.into_iter().filter(|event| {
            event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some(about)
                && event.reporting_controller.as_deref() == Some("danmu-operator")
        });
        ours.filter_map(|event| event.reason).collect()
    }
}

pub(crate) fn condition(conditions: &[Condition], kind: &str) -> (String, String) {
    let found = conditions.iter().find(|condition| condition.type_ == kind);
    found.map_or_else(Default::default, |found| (found.status.clone(), found.reason.clone()))
}

pub(crate) fn ordinal(pod: &Pod) -> u32 {
    pod.name_any().rsplit('-').next().and_then(|last| last.parse().ok()).unwrap_or(u32::MAX)
}

/// The names that a slice's endpoints have, sorted.
pub(crate) fn endpoints(slice: &EndpointSlice) -> Vec<String> {
    let names = slice.endpoints.iter().filter_map(|endpoint| endpoint.target_ref.as_ref()?.name.clone());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Asks until there is an answer.
pub(crate) async fn eventually<T>(what: &str, seconds: u64, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < until, "not within {seconds} s: {what}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Server-side, as users do, and waits until they are served.
pub(crate) async fn apply_definitions(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in [DanmuRoom::crd(), DanmuFleet::crd()] {
        let (name, params) = (definition.name_any(), PatchParams::apply("kwok-test").force());
        api.patch(&name, &params, &Patch::Apply(&definition)).await.unwrap();
        let served = kube::runtime::wait::await_condition(
            api.clone(),
            &name,
            kube::runtime::wait::conditions::is_crd_established(),
        );
        tokio::time::timeout(Duration::from_secs(20), served).await.unwrap().unwrap();
    }
}
