//! A folder of manifests: reads what changed, and makes up the catalog from all of it.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use danmu_crds::{DanmuFleet, DanmuFleetSpec, DanmuRoom, MAX_MANIFEST_BYTES, Manifest, UnlistedRooms};

use super::{Catalog, kept, words::KnownWords};

/// More files than a hand-kept folder has; with 1 MiB each it bounds what a wrong path makes us read.
const MAX_FILES: usize = 10_000;

/// What is known of each file, so that only changed ones are read again.
#[derive(Default)]
pub(super) struct Folder {
    files: BTreeMap<String, KnownFile>,
    /// Folders of word lists, by name.
    words: BTreeMap<String, KnownWords>,
    /// Whether every file was read without a fault once. Until then `files` does not hold what the
    /// catalog given to `scan` was made of, and that catalog stands for it.
    complete: bool,
}

#[derive(Default)]
struct KnownFile {
    seen: Option<Fingerprint>,
    /// What the file held when it was last without faults.
    good: Vec<Manifest>,
    faults: Vec<String>,
}

/// Tells one version of a file from the next. The resolved path is part of it: after the swap of a
/// ConfigMap's symlink a file may well have the length and, in coarse file systems, the time of the old one.
#[derive(PartialEq)]
pub(super) struct Fingerprint {
    resolved: PathBuf,
    modified: Option<SystemTime>,
    length: u64,
}

impl Folder {
    /// The folder's catalog now. Rooms with an unchanged policy keep the `Arc` they have in `last`.
    pub(super) fn scan(&mut self, dir: &Path, last: &Catalog) -> Catalog {
        let names = match names(dir) {
            Ok(names) => names,
            Err(error) => return last.with(vec![format!("{}: {error}; make it readable", dir.display())]),
        };
        if names.len() > MAX_FILES {
            let fault = format!("{}: has {} manifests; keep at most {MAX_FILES}", dir.display(), names.len());
            return last.with(vec![fault]);
        }
        self.files.retain(|name, _| names.binary_search(name).is_ok());
        for name in names {
            let path = dir.join(&name);
            self.files.entry(name).or_default().refresh(&path);
        }
        let mut faults: Vec<String> = self.files.values().flat_map(|file| file.faults.clone()).collect();
        if !self.complete && !faults.is_empty() {
            self.files.clear();
            return last.with(faults);
        }
        match catalog(&self.files, last) {
            Ok(mut catalog) => {
                faults.extend(self.read_words(dir, &mut catalog));
                catalog.faults = faults;
                catalog.tell_too_long();
                if !self.complete && !catalog.faults.is_empty() {
                    let faults = std::mem::take(&mut catalog.faults);
                    (self.files, self.words) = Default::default();
                    return last.with(faults);
                }
                self.complete = true;
                catalog
            }
            Err(contradictions) => {
                faults.extend(contradictions);
                last.with(faults)
            }
        }
    }
}

impl Folder {
    /// Reads the lists that the catalog names, from folders beside the manifests. Answers what is wrong.
    fn read_words(&mut self, dir: &Path, catalog: &mut Catalog) -> Vec<String> {
        let named = super::named(catalog.policies());
        self.words.retain(|name, _| named.contains(name.as_str()));
        for name in &named {
            self.words.entry((*name).to_owned()).or_default().refresh(&dir.join(name));
        }
        let good = self.words.iter().filter_map(|(name, known)| Some((name.clone(), known.good.clone()?)));
        catalog.words = good.collect();
        let fault = |(name, known): (&String, &KnownWords)| {
            known.fault.as_ref().map(|fault| format!("words.from: {name}: {fault}"))
        };
        self.words.iter().filter_map(fault).collect()
    }
}

impl Catalog {
    fn with(&self, faults: Vec<String>) -> Self {
        Self { faults, ..self.clone() }
    }
}

/// The manifests' file names, sorted. Names that start with a dot are not ours: a ConfigMap's `..data`,
/// an editor's swap file.
fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        if !name.starts_with('.') && (name.ends_with(".yaml") || name.ends_with(".yml")) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

impl KnownFile {
    fn refresh(&mut self, path: &Path) {
        let seen = fingerprint(path);
        if let (Ok(seen), Some(known)) = (&seen, &self.seen)
            && seen == known
        {
            return;
        }
        let read = seen.and_then(|seen| Ok((seen, read(path)?)));
        let parsed = match read {
            Ok((seen, text)) => {
                self.seen = Some(seen);
                danmu_crds::parse_manifests(&path.display().to_string(), &text)
            }
            Err(error) => {
                self.seen = None;
                Err(vec![format!("{}: the whole file: {error}; make it readable", path.display())])
            }
        };
        match parsed {
            Ok(manifests) => (self.good, self.faults) = (manifests, Vec::new()),
            Err(faults) => self.faults = faults,
        }
    }
}

pub(super) fn fingerprint(path: &Path) -> io::Result<Fingerprint> {
    let resolved = fs::canonicalize(path)?;
    let metadata = fs::metadata(&resolved)?;
    if !metadata.is_file() {
        // Opening a named pipe would wait for its writer, for ever.
        return Err(io::Error::other("is not a file"));
    }
    Ok(Fingerprint { resolved, modified: metadata.modified().ok(), length: metadata.len() })
}

/// The text of a file, up to one byte over the limit, which the parser then tells of.
fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_MANIFEST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("is not UTF-8 text or is over 1 MiB"))
}

/// The catalog that `files` make up, or how they contradict each other.
fn catalog(files: &BTreeMap<String, KnownFile>, last: &Catalog) -> Result<Catalog, Vec<String>> {
    let mut faults = Vec::new();
    let mut fleet: Option<(&str, &DanmuFleet)> = None;
    let mut rooms: HashMap<&str, (&str, &DanmuRoom)> = HashMap::new();
    for (file, known) in files {
        for manifest in &known.good {
            match manifest {
                Manifest::Fleet(next) => match fleet {
                    Some((first, _)) => faults.push(format!(
                        "{file}: kind: is a second DanmuFleet, after the one in {first}; a folder serves one fleet, remove one"
                    )),
                    None => fleet = Some((file, next)),
                },
                Manifest::Room(room) => {
                    let id = room.metadata.name.as_deref().unwrap_or_default();
                    if let Some((first, _)) = rooms.insert(id, (file, room)) {
                        faults.push(format!(
                            "{file}: metadata.name: room {id} is in {first} too; remove one or rename it"
                        ));
                    }
                }
            }
        }
    }
    let fleet_name = fleet.and_then(|(_, fleet)| fleet.metadata.name.as_deref());
    for (id, (file, room)) in &rooms {
        if let Some(name) = fleet_name.filter(|name| *name != room.spec.fleet) {
            faults.push(format!(
                "{file}: spec.fleet: room {id} is of fleet {}, this folder's fleet is {name}; write fleet: {name}",
                room.spec.fleet
            ));
        }
    }
    if !faults.is_empty() {
        // In a steady order, or each poll would look like a change.
        faults.sort_unstable();
        return Err(faults);
    }
    let fleet = fleet.map(|(_, fleet)| &fleet.spec);
    let rooms = rooms.into_iter().map(|(id, (_, room))| {
        (id.to_owned(), kept(danmu_crds::policy(fleet, Some(&room.spec)), last.rooms.get(id)))
    });
    let unlisted = fleet.filter(|fleet| fleet.server.unlisted_rooms == UnlistedRooms::Allow);
    Ok(Catalog {
        elsewhere: HashMap::new(),
        sub_rooms: HashMap::new(),
        rooms: rooms.collect(),
        unlisted: unlisted.map(|fleet| kept(danmu_crds::policy(Some(fleet), None), last.unlisted.as_ref())),
        fleet: kept(fleet.map_or_else(DanmuFleetSpec::default, Clone::clone), Some(&last.fleet)),
        words: HashMap::new(),
        faults,
    })
}
