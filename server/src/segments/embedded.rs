//! The store of a process that is alone: an embedded database, in a file or in memory.

use std::{path::Path, sync::Arc};

use danmu_wire::Removed;
use redb::{
    Database, ReadableDatabase, ReadableTable, StorageError, Table, TableDefinition,
    backends::InMemoryBackend,
};

use super::{KEPT, Keep, Note, Outcome, PRIORITY_BYTES, Store, StoreError, Stored, Write, segment};

/// By room, segment and place in it: `0` and the number of a chat's place, or `1` and a gift's id.
const NOTES: TableDefinition<'_, (&str, u64, &[u8]), &[u8]> = TableDefinition::new("notes");
/// By room and segment: chats said, bytes kept, and when it was last written to.
const SEGMENTS: TableDefinition<'_, (&str, u64), (u64, u64, u64)> = TableDefinition::new("segments");
/// What redb may hold of the file in memory.
const CACHE: usize = 32 << 20;

/// The store of a process that is alone.
#[derive(Clone)]
pub struct Embedded(Arc<Database>);

impl Embedded {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// In words, when that cannot be done: another process has it, it is no such file, the folder is missing.
    pub fn open(file: &Path) -> Result<Embedded, StoreError> {
        let database = Database::builder().set_cache_size(CACHE).create(file).map_err(failed)?;
        Embedded::with(database)
    }

    /// In memory, gone with the process.
    ///
    /// # Errors
    /// Never for a reason of the system's; the type says that it is the same as a file.
    pub fn in_memory() -> Result<Embedded, StoreError> {
        let backend = InMemoryBackend::new();
        Embedded::with(
            Database::builder().set_cache_size(CACHE).create_with_backend(backend).map_err(failed)?,
        )
    }

    fn with(database: Database) -> Result<Embedded, StoreError> {
        let transaction = database.begin_write().map_err(failed)?;
        transaction.open_table(NOTES).map_err(failed)?;
        transaction.open_table(SEGMENTS).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(Embedded(Arc::new(database)))
    }

    /// The database blocks, so it is used where that is allowed.
    fn blocking<'a, T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Outcome<'a, T> {
        let database = Arc::clone(&self.0);
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || work(&database)).await;
            done.map_err(failed)?.map_err(failed)
        })
    }
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(error.to_string())
}

type Notes<'txn> = Table<'txn, (&'static str, u64, &'static [u8]), &'static [u8]>;
type Segments<'txn> = Table<'txn, (&'static str, u64), (u64, u64, u64)>;

impl Store for Embedded {
    fn append<'a>(&'a self, writes: &'a [Write]) -> Outcome<'a, ()> {
        let writes = writes.to_vec();
        self.blocking(move |database| {
            let transaction = database.begin_write()?;
            {
                let mut notes = transaction.open_table(NOTES)?;
                let mut segments = transaction.open_table(SEGMENTS)?;
                for write in &writes {
                    put(&mut notes, &mut segments, write)?;
                }
            }
            transaction.commit()?;
            Ok(())
        })
    }

    fn read<'a>(&'a self, room: &'a str, segment: u64) -> Outcome<'a, Stored> {
        let room = room.to_owned();
        self.blocking(move |database| {
            let transaction = database.begin_read()?;
            let head = transaction.open_table(SEGMENTS)?.get((&*room, segment))?;
            let Some((chats, _, _)) = head.map(|head| head.value()) else { return Ok(Stored::default()) };
            let none: &[u8] = &[];
            let table = transaction.open_table(NOTES)?;
            let mut notes = Vec::new();
            for entry in table.range((&*room, segment, none)..(&*room, segment + 1, none))? {
                notes.extend(Note::read(entry?.1.value()));
            }
            Ok(Stored { chats, notes })
        })
    }

    fn erase<'a>(&'a self, room: &'a str, removed: &'a Removed, now: u64) -> Outcome<'a, u64> {
        let (room, removed) = (room.to_owned(), removed.clone());
        self.blocking(move |database| {
            let transaction = database.begin_write()?;
            let mut erased = 0;
            {
                let mut notes = transaction.open_table(NOTES)?;
                let mut segments = transaction.open_table(SEGMENTS)?;
                for (segment, place) in meant(&notes, &room, &removed, now)? {
                    let bytes =
                        notes.remove((&*room, segment, &*place))?.map_or(0, |v| v.value().len() as u64);
                    let head = segments.get((&*room, segment))?.map(|head| head.value());
                    if let Some((chats, kept, written)) = head {
                        segments.insert((&*room, segment), (chats, kept.saturating_sub(bytes), written))?;
                    }
                    erased += 1;
                }
            }
            transaction.commit()?;
            Ok(erased)
        })
    }

    fn trim<'a>(&'a self, room: &'a str, keep: Keep, now: u64) -> Outcome<'a, u64> {
        let room = room.to_owned();
        self.blocking(move |database| {
            let victims = {
                let transaction = database.begin_read()?;
                let segments = transaction.open_table(SEGMENTS)?;
                too_many(&segments, &room, keep, now)?
            };
            if victims.is_empty() {
                return Ok(0);
            }
            let transaction = database.begin_write()?;
            {
                let mut notes = transaction.open_table(NOTES)?;
                let mut segments = transaction.open_table(SEGMENTS)?;
                let none: &[u8] = &[];
                for segment in &victims {
                    notes.retain_in((&*room, *segment, none)..(&*room, segment + 1, none), |_, _| false)?;
                    segments.remove((&*room, *segment))?;
                }
            }
            transaction.commit()?;
            Ok(victims.len() as u64)
        })
    }
}

fn put(notes: &mut Notes<'_>, segments: &mut Segments<'_>, write: &Write) -> Result<(), StorageError> {
    let (room, segment) = (&*write.room, segment(write.placed.at));
    let head = segments.get((room, segment))?.map(|head| head.value());
    let (mut chats, mut bytes, _) = head.unwrap_or_default();
    let value = write.bytes();
    let place = match write.once() {
        Some(id) => {
            let place = [&[1], id.as_bytes()].concat();
            let fits = bytes < PRIORITY_BYTES + KEPT * 256;
            let is_there = notes.get((room, segment, &*place))?.is_some();
            (fits && !is_there).then_some(place)
        }
        None => {
            // Each of n chats has the chance KEPT/n to be among those kept, whenever it was said.
            let place = if chats < KEPT { chats } else { rand::random_range(0..=chats) };
            chats += 1;
            (place < KEPT).then(|| [&[0], &place.to_be_bytes()[..]].concat())
        }
    };
    if let Some(place) = place {
        let before = notes.insert((room, segment, &*place), &*value)?.map_or(0, |v| v.value().len() as u64);
        bytes = (bytes + value.len() as u64).saturating_sub(before);
    }
    segments.insert((room, segment), (chats, bytes, write.said))?;
    Ok(())
}

/// The places of what a removal is about.
fn meant(
    notes: &Notes<'_>,
    room: &str,
    removed: &Removed,
    now: u64,
) -> Result<Vec<(u64, Vec<u8>)>, StorageError> {
    let none: &[u8] = &[];
    let mut places = Vec::new();
    for entry in notes.range((room, 0, none)..(room, u64::MAX, none))? {
        let (key, value) = entry?;
        if Note::read(value.value()).is_some_and(|note| note.is_meant(removed, now)) {
            let (_, segment, place) = key.value();
            places.push((segment, place.to_vec()));
        }
    }
    Ok(places)
}

/// The segments to forget. Over the size so many go that a tenth is free again: each look costs a walk.
fn too_many(
    segments: &impl ReadableTable<(&'static str, u64), (u64, u64, u64)>,
    room: &str,
    keep: Keep,
    now: u64,
) -> Result<Vec<u64>, StorageError> {
    let oldest = now.saturating_sub(keep.age.as_millis() as u64);
    let (mut victims, mut left, mut total) = (Vec::new(), Vec::new(), 0);
    for entry in segments.range((room, 0)..(room, u64::MAX))? {
        let (key, value) = entry?;
        let (segment, (_, bytes, written)) = (key.value().1, value.value());
        if written < oldest {
            victims.push(segment);
        } else {
            total += bytes;
            left.push((written, segment, bytes));
        }
    }
    if total > keep.bytes {
        left.sort_unstable();
        for (_, segment, bytes) in left {
            if total <= keep.bytes / 10 * 9 {
                break;
            }
            total -= bytes;
            victims.push(segment);
        }
    }
    Ok(victims)
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Embedded")
    }
}
