//! Fleets, rooms and pods for tests, as the API would give them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use danmu_crds::{DanmuFleet, DanmuRoom};
use danmu_plan::{Observation, Plan};
use hyper::http;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::{
    build::{Object, Settings, build},
    observe::observe,
    seen::{Keys, Live, Seen, Told},
};

pub(crate) fn now() -> Timestamp {
    "2026-11-01T18:00:00Z".parse().unwrap()
}

pub(crate) fn fleet(spec: Value) -> DanmuFleet {
    serde_json::from_value(json!({
        "apiVersion": "danmu.live/v1alpha1", "kind": "DanmuFleet", "spec": spec,
        "metadata": {"name": "default", "namespace": "live", "uid": "fleet-uid", "generation": 3},
    }))
    .unwrap()
}

pub(crate) fn room(name: &str, spec: Value) -> Arc<DanmuRoom> {
    let room = json!({
        "apiVersion": "danmu.live/v1alpha1", "kind": "DanmuRoom", "spec": spec,
        "metadata": {"name": name, "namespace": "live", "uid": format!("{name}-uid"), "generation": 2},
    });
    Arc::new(serde_json::from_value(room).unwrap())
}

/// A Ready pod of the newest revision, made an hour ago.
pub(crate) fn pod(ordinal: u32) -> Pod {
    let name = format!("danmu-default-{ordinal}");
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "live", "uid": format!("{name}-uid"),
            "creationTimestamp": "2026-11-01T17:00:00Z",
            "labels": {"danmu.live/fleet": "default", "controller-revision-hash": "new"},
        },
        "spec": {"nodeName": "node-1", "containers": []},
        "status": {
            "phase": "Running", "podIP": format!("10.0.0.{}", ordinal + 1),
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-01T17:00:10Z"}],
            "containerStatuses": [{
                "name": "server", "ready": true, "restartCount": 0, "image": "a", "imageID": "a",
                "state": {"running": {"startedAt": "2026-11-01T17:00:05Z"}},
            }],
        },
    }))
    .unwrap()
}

pub(crate) fn told(rooms: &[(&str, u32)]) -> Arc<Told> {
    let rooms = rooms.iter().map(|(room, viewers)| ((*room).to_owned(), *viewers));
    let rooms: std::collections::BTreeMap<String, u32> = rooms.collect();
    let at = now() - SignedDuration::from_secs(1);
    Arc::new(Told {
        at,
        viewers: rooms.values().sum(),
        capacity: 15_000,
        rooms,
        shedding: [].into(),
        draining: None,
    })
}

/// A fleet of `pods` Ready pods, all of which told that they are empty.
pub(crate) fn seen(spec: Value, rooms: Vec<Arc<DanmuRoom>>, pods: u32) -> Seen {
    let pods: Vec<Arc<Pod>> = (0..pods).map(|ordinal| Arc::new(pod(ordinal))).collect();
    let loads: HashMap<String, Arc<Told>> =
        pods.iter().map(|pod| (pod.metadata.uid.clone().unwrap(), told(&[]))).collect();
    let mut seen = Seen {
        now: now(),
        fleet: Arc::new(fleet(spec)),
        rooms,
        live: Vec::new(),
        loads,
        keys: Keys { secret: "danmu-default-admin".to_owned(), ..Keys::default() },
        gateway_api: true,
        host_taken: None,
        pods,
    };
    let replicas = seen.pods.len();
    let set = json!({
        "metadata": {
            "name": "danmu-default", "namespace": "live",
            "annotations": {"danmu.live/replicas-since": "2026-11-01T17:00:00Z"},
        },
        "spec": {"replicas": replicas, "serviceName": "a", "selector": {}, "template": {}},
        "status": {"replicas": replicas, "updateRevision": "new"},
    });
    seen.live.push(live(crate::kind::Kind::StatefulSet, set));
    seen
}

pub(crate) fn live(kind: crate::kind::Kind, body: Value) -> Live {
    Live { kind, object: Arc::new(serde_json::from_value::<DynamicObject>(body).unwrap()) }
}

pub(crate) fn settings() -> Settings {
    Settings { server_image: Some("danmu-server:test".to_owned()), server_role: None }
}

/// The whole pure part of a reconcile.
pub(crate) fn decided(seen: &Seen) -> (Observation, Plan, Vec<Object>) {
    let observation = observe(seen);
    let plan = danmu_plan::plan(&observation);
    let objects = build(seen, &observation, &plan, &settings()).unwrap();
    (observation, plan, objects)
}

/// The objects as the API server would give them back, in place of what was there.
pub(crate) fn given_back(seen: &mut Seen, objects: &[Object]) {
    seen.live = objects
        .iter()
        .map(|object| {
            let mut body = object.body.clone();
            body["metadata"]["annotations"][crate::names::APPLIED] =
                json!(crate::apply::fingerprint(&object.body));
            body["metadata"]["uid"] = json!(format!("{}-uid", object.name));
            if object.kind == crate::kind::Kind::StatefulSet {
                body["status"] = json!({"replicas": 1, "updateRevision": "new"});
            }
            live(object.kind, body)
        })
        .collect();
}

/// A gateway that takes every route.
pub(crate) fn gateway() -> Value {
    json!({"route": {"gateway": {"name": "public", "namespace": "gw", "hostnames": ["live.example.com"]}}})
}

/// What a client asked of an API that says yes to everything, or what `refuse` says for a path.
pub(crate) struct Asked {
    asked: Arc<Mutex<Vec<String>>>,
}

impl Asked {
    /// Each as `METHOD path`, in order.
    pub(crate) fn all(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn with(&self, part: &str) -> Vec<String> {
        self.all().into_iter().filter(|asked| asked.contains(part)).collect()
    }
}

pub(crate) fn api(refuse: fn(&str) -> Option<u16>) -> (kube::Client, Asked) {
    let (service, mut handle) =
        tower_test::mock::pair::<http::Request<kube::client::Body>, http::Response<kube::client::Body>>();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Some((request, send)) = handle.next_request().await {
            let line = format!("{} {}", request.method(), request.uri().path());
            let refused = refuse(&line);
            kept.lock().unwrap().push(line);
            let sent = request.into_body().collect_bytes().await.unwrap();
            let body = match refused {
                Some(code) => json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                    "reason": if code == 404 { "NotFound" } else { "Forbidden" }, "message": "not for you",
                    "metadata": {},
                }),
                None => serde_json::from_slice(&sent)
                    .unwrap_or_else(|_| json!({"kind": "Status", "status": "Success"})),
            };
            let body = kube::client::Body::from(serde_json::to_vec(&body).unwrap());
            send.send_response(http::Response::builder().status(refused.unwrap_or(200)).body(body).unwrap());
        }
    });
    (kube::Client::new(service, "default"), Asked { asked })
}
