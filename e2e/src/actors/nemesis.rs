//! Breaks things by the schedule, mends them, and writes down when.

use std::{sync::Arc, time::Duration};

use tokio::sync::Mutex;

use super::{Stage, burst};
use crate::{
    history::Fault,
    schedule::{Act, Step},
    world::{LinkProxy, Store, Traffic, WorldError},
};

/// Follows one list of faults to its end.
///
/// # Errors
/// When something does not do as told; the run then shows nothing.
pub async fn nemesis(
    stage: Stage,
    steps: Vec<Step>,
    store: Arc<Mutex<Store>>,
    links: Arc<Vec<LinkProxy>>,
) -> Result<(), WorldError> {
    for step in steps {
        stage.wait_until(step.at).await;
        let from = stage.now();
        let lasts = Duration::from_millis(step.lasts);
        carry_out(&stage, step.act, lasts, &store, &links).await?;
        let fault = Fault { what: step.act.to_string(), from, until: stage.now(), epochs: step.act.epochs() };
        stage.history().faults.push(fault);
    }
    Ok(())
}

async fn carry_out(
    stage: &Stage,
    act: Act,
    lasts: Duration,
    store: &Mutex<Store>,
    links: &[LinkProxy],
) -> Result<(), WorldError> {
    let pods = &stage.pods;
    match act {
        Act::KillPod(pod) => {
            pods.kill(pod).await?;
            tokio::time::sleep(lasts).await;
            pods.start(pod).await
        }
        Act::StopPod(pod) => {
            pods.freeze(pod, true).await?;
            tokio::time::sleep(lasts).await;
            pods.freeze(pod, false).await
        }
        Act::DrainPod(pod) => {
            pods.drain(pod).await?;
            tokio::time::sleep(lasts).await;
            pods.start(pod).await
        }
        Act::Link(pod, traffic) => {
            links[pod].set(traffic);
            tokio::time::sleep(lasts).await;
            links[pod].set(Traffic::Passes);
            Ok(())
        }
        Act::Burst(pod) => {
            links[pod].set(Traffic::Cut);
            // Numbers of its own for each burst's publishers.
            burst(stage, 1_000_000 + stage.now() as usize * 100).await;
            links[pod].set(Traffic::Passes);
            Ok(())
        }
        act => on_store(&mut *store.lock().await, act, lasts).await,
    }
}

async fn on_store(store: &mut Store, act: Act, lasts: Duration) -> Result<(), WorldError> {
    match act {
        Act::CutSubscriptions => store.everywhere(&["CLIENT", "KILL", "TYPE", "pubsub"]).await,
        Act::PauseRedis => {
            let ms = lasts.as_millis().to_string();
            store.primary().command(&["CLIENT", "PAUSE", &ms, "ALL"]).await?;
            tokio::time::sleep(lasts).await;
            Ok(())
        }
        Act::StopRedis => {
            store.primary().freeze(true)?;
            tokio::time::sleep(lasts).await;
            store.primary().freeze(false)
        }
        Act::Flush => store.primary().command(&["FLUSHALL"]).await.map(|_| ()),
        Act::RestartRedis => {
            store.primary().kill().await?;
            tokio::time::sleep(lasts).await;
            store.primary().start_again().await
        }
        Act::FailOver => store.fail_over(true, lasts).await,
        Act::SplitBrain => store.fail_over(false, lasts).await,
        Act::MoveSlot => store.move_slot().await,
        _ => Ok(()),
    }
}
