//! One run: the world comes up, everybody works while the nemesis breaks things, all is mended, the last
//! messages are sent, and the history is closed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    sync::{Mutex, watch},
    task::JoinSet,
};

use crate::{
    actors::{Phase, Stage, nemesis, publish_until_taken, publisher, viewer},
    history::{Count, Ending, History, Ms},
    schedule::{Nemesis, Step, draw},
    world::{LinkProxy, Pods, Store, WorldError, http},
};

const PODS: usize = 3;
const VIEWERS: usize = 9;
const TALKERS: usize = 5;
const PUBLISHERS: usize = 2;
/// From the last fault to the last messages.
const SETTLES: Ms = 13_000;
/// The same for servers that are to fail anyway.
const SETTLES_BADLY: Ms = 1_000;
/// From the last messages to the end: they have 3 s, and the pods are asked for their numbers.
const LASTS: Ms = 3_500;
/// How long the last gift is tried for.
const GIVE_UP: Duration = Duration::from_secs(10);

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `danmu-server`.
    pub server: PathBuf,
    /// Where schedules and decisions are drawn from.
    pub seed: u64,
    /// What may be broken.
    pub nemesis: Nemesis,
    /// How long things are broken.
    pub trouble: Ms,
    /// Servers that do not recover from the log: the checker has to find it.
    pub no_recovery: bool,
}

impl Plan {
    /// What the nemesis will do: the same for the same plan.
    pub fn schedule(&self) -> [Vec<Step>; 2] {
        draw(self.seed, self.nemesis, PODS, self.trouble)
    }
}

/// Runs the plan with files in `folder`.
///
/// # Errors
/// When a process does not do as told, or ends by itself.
pub async fn run(plan: &Plan, folder: &Path) -> Result<History, WorldError> {
    let store = match plan.nemesis {
        Nemesis::Cluster => Store::cluster(folder).await?,
        Nemesis::Pair | Nemesis::Links => Store::pair(folder).await?,
    };
    let (arguments, links) = links(plan, &store).await?;
    let pods = Arc::new(Pods::new(&plan.server, folder, arguments)?);
    for pod in 0..PODS {
        pods.start(pod).await?;
    }
    let (phase, seen) = watch::channel(Phase::Work);
    let (words, told) = watch::channel(vec![None; VIEWERS]);
    let stage = Stage::new(Arc::clone(&pods), seen, told, plan.seed);
    let mut actors = JoinSet::new();
    for number in 0..VIEWERS {
        actors.spawn(viewer(stage.clone(), number, number < TALKERS));
    }
    for number in 0..PUBLISHERS {
        actors.spawn(publisher(stage.clone(), number));
    }
    let (store, links) = (Arc::new(Mutex::new(store)), Arc::new(links));
    let [on_pods, on_store] =
        plan.schedule().map(|steps| nemesis(stage.clone(), steps, Arc::clone(&store), Arc::clone(&links)));
    tokio::try_join!(on_pods, on_store)?;
    stage.wait_until(plan.trouble).await;
    pods.are_alive().await?;
    let settles = if plan.no_recovery { SETTLES_BADLY } else { SETTLES };
    let ending = end(&stage, settles, &phase, &words).await;
    pods.are_alive().await?;
    phase.send_replace(Phase::Over);
    while let Some(actor) = actors.join_next().await {
        actor.map_err(std::io::Error::other).map_err(WorldError::Process)?;
    }
    let mut history = stage.history().clone();
    history.ending = Some(ending);
    Ok(history)
}

/// Each pod's arguments, and the proxies on its link to Redis. A cluster's clients find its nodes by
/// themselves, so there are no proxies.
async fn links(plan: &Plan, store: &Store) -> Result<(Vec<Vec<String>>, Vec<LinkProxy>), WorldError> {
    let (mut arguments, mut links) = (Vec::new(), Vec::new());
    for _ in 0..PODS {
        let mut words = if plan.nemesis == Nemesis::Cluster {
            vec!["--redis".to_owned(), store.url(), "--redis-cluster".to_owned()]
        } else {
            let link = LinkProxy::start(store.service()).await?;
            let url = format!("redis://127.0.0.1:{}", link.port);
            links.push(link);
            vec!["--redis".to_owned(), url]
        };
        if plan.no_recovery {
            words.push("--no-recovery".to_owned());
        }
        arguments.push(words);
    }
    Ok((arguments, links))
}

async fn end(
    stage: &Stage,
    settles: Ms,
    phase: &watch::Sender<Phase>,
    words: &watch::Sender<Vec<Option<String>>>,
) -> Ending {
    let mended = stage.now();
    phase.send_replace(Phase::Settle);
    stage.wait_until(mended + settles).await;
    phase.send_replace(Phase::Last);
    // Whoever is in the middle of publishing or speaking comes to its end.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let gift = "last".to_owned();
    let mut random = StdRng::seed_from_u64(stage.seed);
    // A gift that is never taken breaks `Converges`; it must not keep the run from its end.
    let taken = publish_until_taken(stage, PUBLISHERS, &gift, &mut random);
    let _ = tokio::time::timeout(GIVE_UP, taken).await;
    // The first viewers sit on one pod each.
    let chats: Vec<String> = (0..PODS).map(|pod| format!("last-{pod}")).collect();
    let mut all: Vec<Option<String>> = chats.iter().cloned().map(Some).collect();
    all.resize(VIEWERS, None);
    words.send_replace(all);
    let asked = stage.now();
    let mut counts = Vec::new();
    while stage.now() < asked + LASTS {
        for pod in 0..PODS {
            counts.push(count(stage, pod).await);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ending { mended, viewers: (0..VIEWERS).collect(), gift, chats, asked, counts }
}

async fn count(stage: &Stage, pod: usize) -> Count {
    let at = stage.now();
    let viewers = async {
        let addresses = stage.pods.addresses(pod)?;
        let (_, body) = http(&addresses.admin, "GET", "/rooms/soak", None, String::new()).await?;
        serde_json::from_str::<serde_json::Value>(&body).ok()?.get("viewers")?.as_u64()
    };
    Count { pod, at, viewers: viewers.await }
}
