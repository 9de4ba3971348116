//! Asks every server every 5 seconds, and every second while it drains or was not heard yet.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, runtime::reflector::Store};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::debug;

use super::{HttpLoads, Loads, Target};
use crate::{metrics::Metrics, names, observe::runs};

const USUAL: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_secs(1);
/// Requests that run at once: a thousand pods that do not answer take four seconds.
const AT_ONCE: usize = 256;

/// Runs until it is dropped. `drain_seconds` gives a fleet's.
pub(crate) async fn poll(
    loads: Arc<HttpLoads>,
    pods: Store<Pod>,
    drain_seconds: impl Fn(&Target) -> u32,
    metrics: Arc<Metrics>,
) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked: HashMap<String, Instant> = HashMap::new();
    loop {
        ticks.tick().await;
        let now = Instant::now();
        let targets: Vec<Target> = pods.state().iter().filter_map(|pod| target(pod)).collect();
        let uids: HashSet<&str> = targets.iter().map(|target| target.uid.as_str()).collect();
        loads.keep(&uids);
        asked.retain(|uid, _| uids.contains(uid.as_str()));
        let due: Vec<&Target> = targets.iter().filter(|target| is_due(&loads, &asked, target, now)).collect();
        asked.extend(due.iter().map(|target| (target.uid.clone(), now)));
        stream::iter(due.into_iter().map(|target| async {
            let answer = loads.ask(target, drain_seconds(target)).await;
            let reason = answer.as_ref().map_or_else(super::LoadError::reason, |()| "ok");
            metrics.polled(reason);
            if let Err(error) = answer {
                debug!(pod = target.pod, namespace = target.namespace, %error, "load unknown");
            }
        }))
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
    }
}

fn is_due(loads: &HttpLoads, asked: &HashMap<String, Instant>, target: &Target, now: Instant) -> bool {
    let Some(last) = asked.get(&target.uid) else { return true };
    let often = loads.last(&target.uid).is_none_or(|told| told.draining.is_some());
    // Half a tick early rather than a whole one late.
    now.duration_since(*last) + TICK / 2 >= if often { TICK } else { USUAL }
}

/// How to reach the pod's server, if it runs.
pub(crate) fn target(pod: &Pod) -> Option<Target> {
    if !runs(pod) {
        return None;
    }
    Some(Target {
        namespace: pod.namespace()?,
        fleet: pod.labels().get(names::FLEET_LABEL)?.clone(),
        pod: pod.name_any(),
        uid: pod.uid()?,
        ip: pod.status.as_ref()?.pod_ip.clone()?,
    })
}
