//! Makes the cluster what the objects say: server-side apply where something differs, and what is no longer asked
//! for goes.

use std::collections::{HashMap, HashSet};

use futures_util::{StreamExt, stream};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    core::DynamicObject,
};
use serde_json::{Value, json};
use thiserror::Error;

use crate::{build::Object, kind::Kind, metrics::Metrics, names, names::Owner, seen::Live};

/// Requests of one fleet that run at once.
const AT_ONCE: usize = 16;

/// An object that could not be applied or deleted.
#[derive(Debug, Error)]
#[error("{} {name} could not be {action}: {source}", kind.name())]
pub(crate) struct ApplyError {
    pub(crate) kind: Kind,
    name: String,
    action: &'static str,
    source: Box<kube::Error>,
}

/// Applies what differs, kind by kind in their order; deletes the rest in reverse; the StatefulSet comes last.
///
/// One object that is refused does not stop the others, except those of its name that come after it: no route to a
/// slice that is not there. What was refused is returned.
pub(crate) async fn apply(
    client: &Client,
    owner: &Owner,
    desired: &[Object],
    live: &[Live],
    metrics: &Metrics,
) -> Vec<ApplyError> {
    let by_name: HashMap<(Kind, String), &DynamicObject> =
        live.iter().map(|live| ((live.kind, live.object.name_any()), &*live.object)).collect();
    let find = |object: &Object| by_name.get(&(object.kind, object.name.clone())).copied();
    let mut failed: Vec<ApplyError> = Vec::new();
    for kind in Kind::ALL {
        if kind == Kind::StatefulSet {
            failed.extend(prune(client, owner, desired, live, metrics).await);
        }
        // No Service without its slice, no route without its Service; all else goes on.
        let chain = |error: &&ApplyError| matches!(error.kind, Kind::EndpointSlice | Kind::Service);
        let stopped: HashSet<&str> = failed.iter().filter(chain).map(|error| error.name.as_str()).collect();
        let mut puts = Vec::new();
        for object in desired.iter().filter(|object| object.kind == kind) {
            let goes_on = kind == Kind::StatefulSet || !stopped.contains(object.name.as_str());
            if goes_on && !is_applied(object, find(object)) {
                puts.push(put(client, owner, object, metrics));
            }
        }
        failed.extend(failures(puts).await);
    }
    failed
}

async fn failures(requests: Vec<impl Future<Output = Result<(), ApplyError>>>) -> Vec<ApplyError> {
    let done = stream::iter(requests).buffer_unordered(AT_ONCE);
    done.filter_map(|result| std::future::ready(result.err())).collect().await
}

fn api(client: &Client, owner: &Owner, kind: Kind) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), &owner.namespace, &kind.resource())
}

async fn put(client: &Client, owner: &Owner, object: &Object, metrics: &Metrics) -> Result<(), ApplyError> {
    let mut body = object.body.clone();
    body["metadata"]["annotations"][names::APPLIED] = json!(fingerprint(&object.body));
    let params = PatchParams::apply(names::OPERATOR).force();
    let done = api(client, owner, object.kind).patch(&object.name, &params, &Patch::Apply(&body)).await;
    metrics.object(object.kind, "applied", done.is_ok());
    done.map(drop).map_err(|source| ApplyError {
        kind: object.kind,
        name: object.name.clone(),
        action: "applied",
        source: Box::new(source),
    })
}

/// Ours and no longer asked for, routes before Services before slices.
async fn prune(
    client: &Client,
    owner: &Owner,
    desired: &[Object],
    live: &[Live],
    metrics: &Metrics,
) -> Vec<ApplyError> {
    let wanted: HashSet<(Kind, &str)> =
        desired.iter().map(|object| (object.kind, object.name.as_str())).collect();
    let mut failed = Vec::new();
    for kind in Kind::ALL.into_iter().rev() {
        let mut removals = Vec::new();
        for orphan in live.iter().filter(|live| live.kind == kind && is_of(owner, &live.object)) {
            if !wanted.contains(&(kind, orphan.object.name_any().as_str())) {
                removals.push(remove(client, owner, orphan, metrics));
            }
        }
        failed.extend(failures(removals).await);
        // A route that stays needs what it points at.
        if !failed.is_empty() {
            break;
        }
    }
    failed
}

/// The label alone could be anybody's.
fn is_of(owner: &Owner, object: &DynamicObject) -> bool {
    object.owner_references().iter().any(|reference| reference.uid == owner.uid)
}

async fn remove(client: &Client, owner: &Owner, orphan: &Live, metrics: &Metrics) -> Result<(), ApplyError> {
    if orphan.object.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let name = orphan.object.name_any();
    let only_this = Preconditions { uid: orphan.object.uid(), resource_version: None };
    let params = DeleteParams { preconditions: Some(only_this), ..DeleteParams::background() };
    let done = api(client, owner, orphan.kind).delete(&name, &params).await;
    metrics.object(orphan.kind, "deleted", done.is_ok());
    match done {
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(source) => {
            Err(ApplyError { kind: orphan.kind, name, action: "deleted", source: Box::new(source) })
        }
        Ok(_) => Ok(()),
    }
}

/// Whether a live object is as desired: everything asked for is there, and nothing more was asked for last time.
fn is_applied(desired: &Object, live: Option<&DynamicObject>) -> bool {
    let Some(live) = live else { return false };
    let same = live.annotations().get(names::APPLIED) == Some(&fingerprint(&desired.body));
    let Ok(mut found) = serde_json::to_value(live) else { return false };
    // A list of objects gives no types to its items; the kind is known from where it was listed.
    for field in ["apiVersion", "kind"] {
        found[field] = desired.body[field].clone();
    }
    same && holds(&desired.body, &found, false)
}

pub(crate) fn fingerprint(body: &Value) -> String {
    names::hash(body.to_string().as_bytes())
}

/// Whether all of `wanted` is in `found`: the API server adds defaults and statuses to maps, but nothing to lists; and
/// it writes quantities in a form of its own.
fn holds(wanted: &Value, found: &Value, quantities: bool) -> bool {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted.iter().all(|(name, value)| {
            let quantities = quantities || matches!(name.as_str(), "requests" | "limits");
            found.get(name).map_or_else(|| is_nothing(value), |found| holds(value, found, quantities))
        }),
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len()
                && wanted.iter().zip(found).all(|(wanted, found)| holds(wanted, found, false))
        }
        (Value::String(wanted), Value::String(found)) if quantities => {
            wanted == found || quantity(wanted).is_some_and(|wanted| Some(wanted) == quantity(found))
        }
        _ => wanted == found,
    }
}

/// The number that a quantity such as `500m`, `1e3` or `2Gi` stands for, in thousandths.
fn quantity(text: &str) -> Option<i128> {
    const SUFFIXES: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let suffixed = SUFFIXES.iter().find_map(|&(suffix, times)| Some((text.strip_suffix(suffix)?, times)));
    let (number, times) = suffixed.unwrap_or((text, 1.0));
    let thousandths = number.parse::<f64>().ok()? * times * 1000.0;
    // Kubernetes rounds up to what it can store.
    #[expect(clippy::cast_possible_truncation, reason = "rounded, and far under the bound")]
    thousandths.is_finite().then(|| (thousandths - 1e-6).ceil() as i128)
}

/// The API server leaves these out.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests;
