//! One reconcile of one fleet: observe, plan, build, apply, report.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use danmu_crds::DanmuFleet;
use danmu_plan::{Observation, Plan, Rollout};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, EvictParams, Preconditions},
    runtime::{controller::Action, events::Recorder},
};
use thiserror::Error;
use tracing::{Level, debug, enabled, info, warn};

use crate::{
    apply::{self, ApplyError},
    build::{self, BuildError, Settings},
    keys::{self, KeysError},
    kind::Kind,
    loads::{Loads, target},
    metrics::Metrics,
    names::Owner,
    observe::{observe, runs},
    report::{Problem, ViewerCounts},
    seen::{Keys, Seen},
    stores::{FleetOrFault, Stores},
    tell,
};

/// Changes that come within this time after the first are taken together: 500 rooms applied at once are one plan.
const GATHER: Duration = Duration::from_millis(250);
/// Loads and the clock move plans too.
const AGAIN: Duration = Duration::from_secs(5);
const AGAIN_MOVING: Duration = Duration::from_secs(1);
/// After a start, the servers are asked once before anything is decided, for at most so long: else every start would
/// take all loads for unknown, and say so.
const FIRST_ANSWERS: Duration = Duration::from_secs(4);
/// A Secret is read again so often: a watch of all Secrets would be more than we should be allowed.
const KEYS_LAST: Duration = Duration::from_secs(60);

/// What every reconcile shares.
pub(crate) struct Context<L> {
    pub(crate) client: Client,
    pub(crate) stores: Stores,
    pub(crate) loads: Arc<L>,
    pub(crate) settings: Settings,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) recorder: Recorder,
    pub(crate) memory: std::sync::Mutex<HashMap<String, Memory>>,
}

/// What is kept of a fleet between reconciles; losing it does no harm.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    /// When this process first saw it.
    since: Option<Instant>,
    /// Why it is `Degraded`, for metrics.
    pub(crate) degraded: Option<String>,
    keys: Option<(Instant, Keys)>,
    pub(crate) told: ViewerCounts,
}

/// Why a reconcile ended early.
#[derive(Debug, Error)]
pub(crate) enum ReconcileError {
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error("a status could not be written: {0}")]
    Status(#[from] kube::Error),
}

impl ReconcileError {
    /// For conditions and metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Keys(KeysError::Api(..)) => "SecretUnreadable",
            Self::Keys(_) => "SecretMissing",
            Self::Build(BuildError::NoImage) => "NoImage",
            Self::Apply(_) => "ApplyFailed",
            Self::Status(_) => "StatusFailed",
        }
    }
}

/// Reconciles a fleet, whatever woke it.
pub(crate) async fn reconcile<L: Loads>(
    fleet: Arc<FleetOrFault>,
    context: Arc<Context<L>>,
) -> Result<Action, ReconcileError> {
    tokio::time::sleep(GATHER).await;
    // A plan without all rooms and pods would take everything away.
    if !context.stores.missing().is_empty() {
        return Ok(Action::requeue(AGAIN_MOVING));
    }
    let began = Instant::now();
    // The newest there is, not what woke us before the wait.
    let key = kube::runtime::reflector::ObjectRef::from_obj(&*fleet);
    let fleet = context.stores.fleets.get(&key).unwrap_or(fleet);
    let result = match &fleet.0 {
        // Told by `unreadable`.
        Err(_) => Ok(Action::await_change()),
        // Its objects go with it.
        Ok(fleet) if fleet.metadata.deletion_timestamp.is_some() => Ok(Action::await_change()),
        Ok(fleet) => one(Arc::new(fleet.clone()), &context).await,
    };
    let reason = result.as_ref().map_or_else(ReconcileError::reason, |_| "ok");
    context.metrics.reconciled(reason, began.elapsed().as_secs_f64());
    result
}

async fn one<L: Loads>(fleet: Arc<DanmuFleet>, context: &Context<L>) -> Result<Action, ReconcileError> {
    let owner = Owner::of(&fleet);
    let mut memory = context.remembered(&owner.uid);
    let keys = known_keys(context, &owner, &fleet, &mut memory).await;
    let seen = context.stores.see(fleet, keys.as_ref().map(Keys::clone).unwrap_or_default(), &*context.loads);
    let new = memory.since.get_or_insert_with(Instant::now).elapsed() < FIRST_ANSWERS;
    if new && keys.is_ok() && waits_for_answers(&seen, &*context.loads) {
        context.remember(owner.uid, memory);
        return Ok(Action::requeue(AGAIN_MOVING));
    }
    let observation = observe(&seen);
    save(&owner, &observation);
    let began = Instant::now();
    let plan = danmu_plan::plan(&observation);
    context.metrics.planned(began.elapsed().as_secs_f64());
    let done = match keys {
        Ok(_) => act(context, &owner, &seen, &observation, &plan).await,
        Err(error) => Err(error.into()),
    };
    let problem =
        done.as_ref().err().map(|error| Problem { reason: error.reason(), message: error.to_string() });
    let told = tell::statuses(context, &seen, &observation, &plan, problem.as_ref(), &mut memory).await;
    context.remember(owner.uid, memory);
    done?;
    let moving = told?
        || !plan.drain.is_empty()
        || !matches!(plan.rollout, Rollout::Done | Rollout::Held)
        || observation.pods.iter().any(|pod| pod.draining.is_some());
    Ok(Action::requeue(if moving { AGAIN_MOVING } else { AGAIN }))
}

fn waits_for_answers(seen: &Seen, loads: &impl Loads) -> bool {
    seen.pods.iter().any(|pod| runs(pod) && pod.metadata.uid.as_ref().is_some_and(|uid| !loads.is_asked(uid)))
}

/// For `danmu-operator plan`; `DANMU_LOG=info,observation=debug` switches it on.
fn save(owner: &Owner, observation: &Observation) {
    if enabled!(target: "observation", Level::DEBUG)
        && let Ok(json) = serde_json::to_string(observation)
    {
        debug!(target: "observation", namespace = owner.namespace, fleet = owner.name, json);
    }
}

async fn known_keys<L: Loads>(
    context: &Context<L>,
    owner: &Owner,
    fleet: &DanmuFleet,
    memory: &mut Memory,
) -> Result<Keys, KeysError> {
    let named =
        fleet.spec.auth.as_ref().and_then(|auth| auth.secret_ref.as_ref()).map(|secret| secret.name.as_str());
    if let Some((at, keys)) = &memory.keys
        && at.elapsed() < KEYS_LAST
        && named.is_none_or(|named| named == keys.secret)
    {
        return Ok(keys.clone());
    }
    let asked = keys::keys(&context.client, owner, named).await;
    // An API that does not answer for once must not hold up slices and drains; it is asked again next time.
    if let (Err(KeysError::Api(..)), Some((_, known))) = (&asked, &memory.keys)
        && named.is_none_or(|named| named == known.secret)
    {
        return Ok(known.clone());
    }
    memory.keys = None;
    let (keys, token) = asked?;
    context.loads.learn_token(&owner.namespace, &owner.name, &token);
    memory.keys = Some((Instant::now(), keys.clone()));
    Ok(keys)
}

/// Slices first, then the drains that they make room for.
async fn act<L: Loads>(
    context: &Context<L>,
    owner: &Owner,
    seen: &Seen,
    observation: &Observation,
    plan: &Plan,
) -> Result<(), ReconcileError> {
    let objects = build::build(seen, observation, plan, &context.settings)?;
    let failed = apply::apply(&context.client, owner, &objects, &seen.live, &context.metrics).await;
    if plan.replicas.now != observation.replicas {
        context.metrics.step("replicas");
        let why = plan.reasons(&observation.fleet).into_iter().next().unwrap_or_default();
        info!(fleet = owner.name, from = observation.replicas, to = plan.replicas.now, why, "replicas");
        tell::event(context, &seen.fleet.object_ref(&()), false, "Scaled", &why).await;
    }
    // One room's refused route stops no drain; but a pod that drains must have left the slices.
    if failed.iter().all(|failed| failed.kind != Kind::EndpointSlice) {
        drains(context, seen, observation, plan).await;
        if let Rollout::Evict(ordinal) = plan.rollout {
            let name = observation.fleet.pod_name(ordinal);
            if let Some(pod) = seen.pods.iter().find(|pod| pod.name_any() == name) {
                evict(context, pod).await;
            }
        }
    }
    failed.into_iter().next().map_or(Ok(()), |error| Err(error.into()))
}

/// A server that does not answer is asked again in a second; the plan waits for its load anyway.
async fn drains<L: Loads>(context: &Context<L>, seen: &Seen, observation: &Observation, plan: &Plan) {
    let seconds = observation.fleet.drain_seconds;
    let steps = plan.drain.iter().map(|pod| (pod, true)).chain(plan.undrain.iter().map(|pod| (pod, false)));
    for (&ordinal, begins) in steps {
        let name = observation.fleet.pod_name(ordinal);
        let Some(pod) = seen.pods.iter().find(|pod| pod.name_any() == name) else { continue };
        let Some(target) = target(pod) else { continue };
        let done = if begins {
            context.loads.drain(&target, seconds).await
        } else {
            context.loads.undrain(&target).await
        };
        let (step, reason) = if begins { ("drain", "DrainStarted") } else { ("undrain", "DrainTakenBack") };
        match done {
            Ok(()) => {
                context.metrics.step(step);
                let note = format!("{name}: {} viewers", seen.load(pod).map_or(0, |told| told.viewers));
                tell::event(context, &seen.fleet.object_ref(&()), false, reason, &note).await;
            }
            Err(error) => warn!(pod = name, step, %error, "the server was not told"),
        }
    }
}

/// Through the eviction API: the disruption budget counts nodes that drain as well.
async fn evict<L: Loads>(context: &Context<L>, pod: &Pod) {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &pod.namespace().unwrap_or_default());
    let only_this = Preconditions { uid: pod.uid(), resource_version: None };
    let options = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
    let params = EvictParams { delete_options: Some(options), ..EvictParams::default() };
    match api.evict(&pod.name_any(), &params).await {
        Ok(_) => context.metrics.step("evict"),
        // 429: another pod is away; 404 and 409: it is another pod already.
        Err(error) => info!(pod = pod.name_any(), %error, "not evicted now"),
    }
}

impl<L> Context<L> {
    fn remembered(&self, uid: &str) -> Memory {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned().unwrap_or_default()
    }

    fn remember(&self, uid: String, memory: Memory) {
        let mut all = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(uid, memory);
        // Fleets that are gone.
        let there: std::collections::HashSet<String> =
            self.stores.fleets.state().iter().filter_map(|fleet| fleet.meta().uid.clone()).collect();
        all.retain(|uid, _| there.contains(uid));
        self.metrics.degraded(all.values().filter_map(|memory| memory.degraded.clone()));
    }
}

/// When to try again.
#[expect(clippy::needless_pass_by_value, reason = "the controller gives it so")]
pub(crate) fn on_error<L>(
    fleet: Arc<FleetOrFault>,
    error: &ReconcileError,
    _context: Arc<Context<L>>,
) -> Action {
    let reason = error.reason();
    warn!(fleet = fleet.name_any(), namespace = fleet.namespace(), reason, %error, "reconcile failed");
    Action::requeue(AGAIN)
}

#[cfg(test)]
mod tests;
