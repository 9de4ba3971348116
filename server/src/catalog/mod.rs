//! Where a room's policy comes from: a folder of DanmuRoom manifests, or a watch of the Kubernetes API,
//! followed live.

mod folder;
pub mod kubernetes;
mod words;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use danmu_crds::{DanmuFleetSpec, RoomPolicy, WordSource};
use tokio::sync::watch;

use folder::Folder;
pub use words::{MAX_WORD, MAX_WORDS, WordSet};

/// How long after an edit, at most, the folder is looked at again.
const POLL: Duration = Duration::from_millis(500);

/// The rooms of a folder of manifests, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// The policy of each listed room. A room that did not change keeps its `Arc` from one catalog to the next.
    pub rooms: HashMap<String, Arc<RoomPolicy>>,
    /// The policy of a room that is not listed; `None` refuses such rooms.
    pub unlisted: Option<Arc<RoomPolicy>>,
    /// The fleet, or the built-in one where there is no DanmuFleet. As with rooms, the `Arc` is kept.
    pub fleet: Arc<DanmuFleetSpec>,
    /// Where viewers of a room are served better than here: the address of its own route. Only rooms with pods of
    /// their own, of which this is none, have one; a folder of manifests knows no pods.
    pub elsewhere: HashMap<String, Arc<str>>,
    /// The sub-rooms whose viewers come to this pod, where a room's placement tells any.
    pub sub_rooms: HashMap<String, Arc<[u32]>>,
    /// Longer lists of words, by the name that `words.from` has. The `Arc` of an unchanged one is kept.
    pub words: HashMap<String, Arc<WordSet>>,
    /// What is wrong in the manifests now, each as `file: field: what is wrong and what to do`.
    pub faults: Vec<String>,
}

/// Reads the `.yaml` and `.yml` files of `dir`. It blocks: meant for the start of the process.
///
/// # Errors
/// Everything that is wrong in the folder, at once.
pub fn load(dir: &Path) -> Result<Catalog, Vec<String>> {
    let catalog = Folder::default().scan(dir, &Catalog::default());
    if catalog.faults.is_empty() { Ok(catalog) } else { Err(catalog.faults) }
}

/// Sends a new catalog after each change in `dir`, until every receiver is gone. `first` is what [`load`]
/// returned.
///
/// An edit with faults changes no room: a file that cannot be read keeps what it last held, and files
/// that contradict each other keep the whole last catalog. Each new fault is logged once.
///
/// The folder is polled every 500 ms rather than watched. A ConfigMap is updated by swapping a symlink,
/// which removes the very files a watch stands on, and network file systems report no changes made
/// elsewhere; a poll costs one `stat` a file, and only changed files are read.
pub async fn follow(dir: PathBuf, first: Catalog, sender: watch::Sender<Arc<Catalog>>) {
    let mut last = Arc::new(first);
    let mut folder = Folder::default();
    loop {
        let (scanned, previous, place) = (folder, Arc::clone(&last), dir.clone());
        let scan = tokio::task::spawn_blocking(move || {
            let mut folder = scanned;
            let next = folder.scan(&place, &previous);
            (folder, next)
        });
        let Ok((scanned, next)) = scan.await else {
            tracing::error!("the manifests are no longer followed: reading them failed");
            return;
        };
        folder = scanned;
        for fault in next.faults.iter().filter(|fault| !last.faults.contains(fault)) {
            tracing::warn!(%fault, "a manifest has a fault; what was there before stays in force");
        }
        if next.differs(&last) {
            last = Arc::new(next);
            sender.send_replace(Arc::clone(&last));
        }
        tokio::select! {
            () = sender.closed() => return,
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

impl Catalog {
    /// Whether anything changed; an unchanged policy is the same `Arc`, so no policy is compared.
    fn differs(&self, last: &Self) -> bool {
        let same = |a: &Option<Arc<RoomPolicy>>, b: &Option<Arc<RoomPolicy>>| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        let same_words = |name: &String, words: &Arc<WordSet>| {
            last.words.get(name).is_some_and(|before| Arc::ptr_eq(before, words))
        };
        self.faults != last.faults
            || self.elsewhere != last.elsewhere
            || self.sub_rooms != last.sub_rooms
            || self.words.len() != last.words.len()
            || !self.words.iter().all(|(name, words)| same_words(name, words))
            || !Arc::ptr_eq(&self.fleet, &last.fleet)
            || !same(&self.unlisted, &last.unlisted)
            || self.rooms.len() != last.rooms.len()
            || self
                .rooms
                .iter()
                .any(|(id, policy)| !last.rooms.get(id).is_some_and(|p| Arc::ptr_eq(p, policy)))
    }
}

/// The sources that are named, each once.
fn named<'a>(policies: impl Iterator<Item = &'a Arc<RoomPolicy>>) -> std::collections::BTreeSet<&'a str> {
    policies.flat_map(|policy| &policy.words_from).map(|source| &*source.config_map).collect()
}

impl Catalog {
    /// Every policy.
    fn policies(&self) -> impl Iterator<Item = &Arc<RoomPolicy>> {
        self.rooms.values().chain(&self.unlisted)
    }

    /// The lists of a policy, in order. Those that cannot be read are left out, and so is what goes over
    /// [`MAX_WORDS`]; both are among the faults.
    pub fn lists<'a>(
        &'a self,
        policy: &'a RoomPolicy,
    ) -> impl Iterator<Item = (&'a WordSource, &'a Arc<WordSet>)> {
        let mut words = 0;
        let found =
            policy.words_from.iter().filter_map(|source| Some((source, self.words.get(&source.config_map)?)));
        found.filter(move |(_, list)| {
            let fits = words + list.len() <= MAX_WORDS;
            words += if fits { list.len() } else { 0 };
            fits
        })
    }

    /// Tells of rooms whose lists are too long together.
    fn tell_too_long(&mut self) {
        let over = |(id, policy): (&String, &Arc<RoomPolicy>)| {
            let known =
                policy.words_from.iter().filter(|source| self.words.contains_key(&source.config_map)).count();
            (self.lists(policy).count() < known)
                .then(|| format!("room {id}: spec.moderation.words.from: the lists have more than {MAX_WORDS} words together; what goes over is left out"))
        };
        let mut over: Vec<String> = self.rooms.iter().filter_map(over).collect();
        over.sort_unstable();
        self.faults.extend(over);
    }
}

/// `last` itself where it says the same as `next`.
fn kept<T: PartialEq>(next: T, last: Option<&Arc<T>>) -> Arc<T> {
    last.filter(|last| ***last == next).map_or_else(|| Arc::new(next), Arc::clone)
}

#[cfg(test)]
mod tests;
