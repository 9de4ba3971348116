//! Fleets and rooms that cannot be read, such as those of a newer or older definition. Each says so itself, in an
//! Event and a condition; everything else goes on without it.

use std::{collections::HashMap, sync::Arc};

use danmu_crds::{DanmuFleet, DanmuRoom};
use jiff::Timestamp;
use k8s_openapi::{NamespaceResourceScope, api::core::v1::ObjectReference};
use kube::{
    Api, Resource,
    api::{Patch, PatchParams},
    core::{ApiResource, DynamicObject, error_boundary::InvalidObject},
};
use serde_json::json;
use tokio::sync::mpsc::Receiver;
use tracing::{debug, warn};

use crate::{controller::Context, names, tell};

/// How many are remembered; more than that are told again now and then.
const REMEMBERED: usize = 10_000;

/// An object that cannot be read.
pub(crate) enum Unreadable {
    Fleet(InvalidObject),
    Room(InvalidObject),
}

/// Tells each once a generation: what is told changes the object, and would come back here.
pub(crate) async fn tell_all<L>(context: Arc<Context<L>>, mut faults: Receiver<Unreadable>) {
    let mut told: HashMap<Option<String>, Option<i64>> = HashMap::new();
    while let Some(fault) = faults.recv().await {
        let (Unreadable::Fleet(object) | Unreadable::Room(object)) = &fault;
        let generation = object.metadata.generation;
        if told.len() >= REMEMBERED {
            told.clear();
        }
        if told.insert(object.metadata.uid.clone(), generation) == Some(generation) {
            continue;
        }
        match &fault {
            Unreadable::Fleet(object) => one::<DanmuFleet, L>(&context, object).await,
            Unreadable::Room(object) => one::<DanmuRoom, L>(&context, object).await,
        }
    }
}

async fn one<K, L>(context: &Context<L>, fault: &InvalidObject)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    let name = fault.metadata.name.clone().unwrap_or_default();
    let namespace = fault.metadata.namespace.clone().unwrap_or_default();
    let error: String = fault.error.chars().take(500).collect();
    let note = format!("it cannot be read: {error}; correct it and apply it again");
    warn!(kind = %K::kind(&()), name, namespace, note, "unreadable");
    let about = ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: Some(name.clone()),
        namespace: Some(namespace.clone()),
        uid: fault.metadata.uid.clone(),
        ..ObjectReference::default()
    };
    tell::event(context, &about, true, "Unreadable", &note).await;
    let resource = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &namespace, &resource);
    let condition = json!({
        "type": "Ready", "status": "False", "reason": "Unreadable", "message": note,
        "lastTransitionTime": Timestamp::now().to_string(),
    });
    let body = json!({
        "apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name},
        "status": {"conditions": [condition]},
    });
    let params = PatchParams::apply(names::OPERATOR).force();
    if let Err(error) = api.patch_status(&name, &params, &Patch::Apply(&body)).await {
        debug!(%error, name, namespace, "its status was not taken");
    }
}
