//! What a viewer is answered who fetches a part of the video: read, cut to size, made into JSON and compressed
//! once, and kept for the next thousand who ask.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hasher},
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use danmu_wire::{Event, Placed};
use flate2::{Compression, write::GzEncoder};
use moka::{Expiry, future::Cache};
use tokio::sync::Semaphore;

use super::{LAST_POSITION, Metrics, Note, SEGMENT, Store, Stored, segment};

/// Longest range of one answer.
const LONGEST: u64 = 60_000;
/// Most chats of one segment in an answer: a hundred a second, more than anybody reads.
const SHOWN: usize = 1000;
/// Bytes of answers that are kept.
const CACHED: u64 = 64 << 20;
/// How long an answer is good while its segment grows, here and in every cache outside.
const GROWING: Duration = Duration::from_secs(1);
/// The same for a segment that is over; what is said in a replay comes to it late.
const OVER: Duration = Duration::from_secs(10);
/// A segment grows for so long after its end: what was said in it is on its way to the store.
const LATE: u64 = 5_000;
/// How long an answer waits for its turn to be made.
const TURN: Duration = Duration::from_secs(2);
/// For one answer to be made.
const DEADLINE: Duration = Duration::from_secs(5);

/// From one position to another, without the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    from: u64,
    to: u64,
}

/// A range that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRange {
    /// One of the two is missing or no number.
    #[error(
        "give from and to: positions in the video in milliseconds, whole numbers from 0 to {LAST_POSITION}"
    )]
    Number,
    /// Empty or the wrong way round.
    #[error("from must be before to")]
    Empty,
    /// Too long.
    #[error(
        "ask for at most {LONGEST} ms at once, best for one segment: from a multiple of {SEGMENT} to the next"
    )]
    TooLong,
}

impl Range {
    /// Reads `from=…&to=…`.
    ///
    /// # Errors
    /// See [`BadRange`].
    pub fn parse(query: Option<&str>) -> Result<Range, BadRange> {
        let number = |name: &str| {
            let mut values = query?.split('&').filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            let (value, None) = (values.next()?, values.next()) else { return None };
            // `u64::from_str` takes a plus sign.
            let digits = (1..=20).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
            value.parse().ok().filter(|number| digits && *number <= LAST_POSITION)
        };
        let (Some(from), Some(to)) = (number("from"), number("to")) else { return Err(BadRange::Number) };
        if from >= to {
            return Err(BadRange::Empty);
        }
        if to - from > LONGEST {
            return Err(BadRange::TooLong);
        }
        Ok(Range { from, to })
    }

    fn segments(self) -> std::ops::RangeInclusive<u64> {
        segment(self.from)..=segment(self.to - 1)
    }
}

/// What is answered.
#[derive(Debug)]
pub struct Answer {
    /// An array of events with their positions, in order.
    pub json: Bytes,
    /// The same, compressed.
    pub gzip: Bytes,
    /// Changes when the content does; the same on every pod.
    pub tag: String,
    /// Of a thousand chats said, so many are in the answer; in the segment where it is the fewest.
    pub per_mille: u64,
    /// How long it may be kept.
    pub fresh: Duration,
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fetch {
    /// Too many answers are being made.
    #[error("too busy: try again")]
    Busy,
    /// The store does not answer.
    #[error("what was recorded cannot be read now: try again")]
    Away,
}

/// Answers, each made once for as long as it is fresh.
#[derive(Clone)]
pub(super) struct Answers {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    cache: Cache<(Arc<str>, Range), Arc<Answer>>,
    builders: Arc<Semaphore>,
}

struct Fresh;

impl Expiry<(Arc<str>, Range), Arc<Answer>> for Fresh {
    fn expire_after_create(
        &self,
        _: &(Arc<str>, Range),
        answer: &Arc<Answer>,
        _: Instant,
    ) -> Option<Duration> {
        Some(answer.fresh)
    }
}

impl Answers {
    pub(super) fn new(store: Arc<dyn Store>, metrics: Arc<Metrics>) -> Answers {
        let size = |(room, _): &(Arc<str>, Range), answer: &Arc<Answer>| {
            (room.len() + answer.json.len() + answer.gzip.len() + 256) as u32
        };
        let cache = Cache::builder().max_capacity(CACHED).weigher(size).expire_after(Fresh);
        let cache = cache.support_invalidation_closures().build();
        // Whoever asks for ranges that nobody has asked for must not take the cores from the viewers.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Answers { store, metrics, cache, builders: Arc::new(Semaphore::new((cores / 2).max(1))) }
    }

    pub(super) async fn fetch(
        &self,
        room: &Arc<str>,
        range: Range,
        live: Option<u64>,
    ) -> Result<Arc<Answer>, Fetch> {
        let mut made = false;
        // Whoever asks for the same meanwhile waits for this one.
        let answer = self.cache.try_get_with((Arc::clone(room), range), async {
            made = true;
            let turn = tokio::time::timeout(TURN, self.builders.acquire()).await;
            let Ok(Ok(_turn)) = turn else { return Err(Fetch::Busy) };
            tokio::time::timeout(DEADLINE, self.make(room, range, live)).await.unwrap_or(Err(Fetch::Away))
        });
        let answer = answer.await.map_err(|error| (*error).clone());
        self.metrics.fetched(match (&answer, made) {
            (Ok(_), true) => "made",
            (Ok(_), false) => "cached",
            (Err(Fetch::Busy), _) => "busy",
            (Err(Fetch::Away), _) => "away",
        });
        answer
    }

    async fn make(&self, room: &Arc<str>, range: Range, live: Option<u64>) -> Result<Arc<Answer>, Fetch> {
        let mut parts = Vec::new();
        for segment in range.segments() {
            parts.push(self.store.read(room, segment).await.map_err(|error| {
                tracing::warn!(%error, room = &**room, "a segment cannot be read");
                Fetch::Away
            })?);
        }
        let grows = live.is_some_and(|live| range.to + LATE > live);
        let fresh = if grows { GROWING } else { OVER };
        // Thousands of messages to read, write and compress: not on the threads that accept viewers.
        let made = tokio::task::spawn_blocking(move || Arc::new(build(parts, range, fresh))).await;
        made.map_err(|_| Fetch::Away)
    }

    /// A message came to this position: the answer for its segment is not good any more.
    pub(super) async fn outdated(&self, room: &Arc<str>, at: u64) {
        let from = segment(at) * SEGMENT;
        self.cache.invalidate(&(Arc::clone(room), Range { from, to: from + SEGMENT })).await;
    }

    /// Something was removed, anywhere in the room.
    pub(super) fn forget(&self, room: &Arc<str>) {
        let room = Arc::clone(room);
        // Fails only where closures are not supported, and here they are.
        let _ = self.cache.invalidate_entries_if(move |(other, _), _| *other == room);
    }
}

fn build(parts: Vec<Stored>, range: Range, fresh: Duration) -> Answer {
    let (mut placed, mut per_mille) = (Vec::new(), 1000);
    for part in parts {
        let (shown, share) = sample(part);
        per_mille = per_mille.min(share);
        placed.extend(shown.into_iter().filter(|note| (range.from..range.to).contains(&note.at)));
    }
    let json = serde_json::to_vec(&placed).unwrap_or_else(|_| b"[]".to_vec());
    let mut gzip = GzEncoder::new(Vec::with_capacity(json.len() / 4 + 64), Compression::new(6));
    // Writing to memory does not fail.
    let _ = gzip.write_all(&json);
    let gzip = gzip.finish().unwrap_or_default();
    let tag = format!("{:016x}", hash(&json));
    Answer { json: json.into(), gzip: gzip.into(), tag, per_mille, fresh }
}

/// A segment in order, with at most [`SHOWN`] chats, taken evenly over the segment: where twice as much was
/// said, twice as much is left. Gifts and notices stay. And how many of a thousand chats that is.
fn sample(part: Stored) -> (Vec<Placed>, u64) {
    let mut notes = part.notes;
    notes.sort_by(|a: &Note, b: &Note| {
        (a.placed.at, a.placed.event.id()).cmp(&(b.placed.at, b.placed.event.id()))
    });
    // A command that Redis's client repeated may have kept one twice.
    let mut seen = HashSet::new();
    notes.retain(|note| note.placed.event.id().is_none_or(|id| seen.insert(id.to_owned())));
    let is_chat = |note: &Note| matches!(note.placed.event, Event::Chat(_));
    let chats = notes.iter().filter(|note| is_chat(note)).count();
    let mut nth = 0;
    let mut left = Vec::with_capacity(notes.len());
    for note in notes {
        if is_chat(&note) {
            nth += 1;
            if chats > SHOWN && nth * SHOWN / chats == (nth - 1) * SHOWN / chats {
                continue;
            }
        }
        left.push(note.placed);
    }
    let said = part.chats.max(chats as u64).max(1);
    let share = if chats == 0 { 1000 } else { (chats.min(SHOWN) as u64 * 1000 / said).max(1) };
    (left, share)
}

/// The same on every pod of one version.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use danmu_wire::{Chat, Gift};
    use proptest::prelude::*;

    use super::*;

    fn chat(at: u64, id: usize) -> Note {
        let chat = Chat { id: format!("{id:026}"), text: "hi".into(), n: 1, ..Chat::default() };
        Note { said: 0, placed: Placed { at, event: Event::Chat(chat) } }
    }

    fn gift(at: u64) -> Note {
        let gift = Gift { id: format!("gift-{at}"), gift: "rose".into(), ..Gift::default() };
        Note { said: 0, placed: Placed { at, event: Event::Gift(gift) } }
    }

    #[test]
    fn a_range_is_two_positions_in_order_and_not_far_apart() {
        let read = |query: &str| Range::parse(Some(query));
        assert_eq!(read("from=0&to=10000"), Ok(Range { from: 0, to: 10_000 }));
        assert_eq!(read("room=a&to=70000&from=10000"), Ok(Range { from: 10_000, to: 70_000 }));
        for bad in [
            "",
            "from=1",
            "to=1",
            "from=&to=1",
            "from=-5&to=1",
            "from=NaN&to=1",
            "from=0&to=1e4",
            "from=0&to=1.5",
            "from=+0&to=1",
            "from=0&to=inf",
            "from=0&to=99999999999999999999999",
            "from=0&to=31622400001",
            "from=0&from=1&to=2",
            "from=0x1&to=2",
            "from=%30&to=2",
            "from=0 &to=2",
        ] {
            assert_eq!(read(bad), Err(BadRange::Number), "{bad}");
        }
        assert_eq!(Range::parse(None), Err(BadRange::Number));
        assert_eq!((read("from=5&to=5"), read("from=6&to=5")), (Err(BadRange::Empty), Err(BadRange::Empty)));
        assert_eq!(read("from=0&to=60001"), Err(BadRange::TooLong));
        assert_eq!(read("from=31622399999&to=31622400000").unwrap().segments(), 3_162_239..=3_162_239);
        assert_eq!(read("from=9999&to=20001").unwrap().segments(), 0..=2);
    }

    #[test]
    fn a_crowded_second_stays_as_crowded_beside_a_calm_one() {
        // 8,000 in the first second of ten, 100 in each of the others.
        let busy = (0..8000).map(|i| chat(i / 8, i as usize));
        let calm = (0..900).map(|i| chat(1000 + i * 10, 10_000 + i as usize));
        let notes: Vec<Note> = busy.chain(calm).chain([gift(4000), gift(4001)]).collect();
        let (left, per_mille) = sample(Stored { chats: 8900, notes });
        let count = |from: u64, to: u64| {
            let within = |p: &&Placed| (from..to).contains(&p.at) && matches!(p.event, Event::Chat(_));
            left.iter().filter(within).count() as i64
        };
        assert_eq!((left.len(), per_mille), (SHOWN + 2, 112));
        assert!((count(0, 1000) - 899).abs() <= 1, "{}", count(0, 1000));
        for second in 1..10 {
            assert!((count(second * 1000, (second + 1) * 1000) - 11).abs() <= 1, "second {second}");
        }
        assert!(left.is_sorted_by_key(|placed| placed.at));
        assert_eq!(left.iter().filter(|p| matches!(p.event, Event::Gift(_))).count(), 2);
    }

    #[test]
    fn what_was_kept_twice_is_told_once_and_what_was_left_out_before_is_counted() {
        let notes = vec![chat(5, 1), chat(5, 1), chat(3, 2)];
        let (left, per_mille) = sample(Stored { chats: 20, notes });
        assert_eq!(left.iter().map(|placed| placed.at).collect::<Vec<_>>(), [3, 5]);
        assert_eq!(per_mille, 100);
        assert_eq!(sample(Stored::default()), (Vec::new(), 1000));
    }

    #[test]
    fn an_answer_has_its_range_alone_and_its_two_forms_are_the_same() {
        use std::io::Read;
        let notes = (0..100).map(|i| chat(i * 100, i as usize)).collect();
        let range = Range { from: 500, to: 1000 };
        let answer = build(vec![Stored { chats: 100, notes }], range, OVER);
        let placed: Vec<Placed> = serde_json::from_slice(&answer.json).unwrap();
        assert_eq!(placed.iter().map(|p| p.at).collect::<Vec<_>>(), [500, 600, 700, 800, 900]);
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&answer.gzip[..]).read_to_end(&mut plain).unwrap();
        assert_eq!(plain, answer.json);
    }

    proptest! {
        /// Any tenth of what was said has its tenth of what is shown.
        #[test]
        fn every_part_keeps_its_share(chats in 1usize..6000, tenth in 0usize..10) {
            let notes = (0..chats).map(|i| chat(i as u64, i)).collect();
            let (left, _) = sample(Stored { chats: chats as u64, notes });
            prop_assert_eq!(left.len(), chats.min(SHOWN));
            let (from, to) = (chats * tenth / 10, chats * (tenth + 1) / 10);
            let part = left.iter().filter(|p| (from as u64..to as u64).contains(&p.at)).count();
            let fair = (to - from) as f64 * left.len() as f64 / chats as f64;
            prop_assert!((part as f64 - fair).abs() <= 1.0, "{part} of {fair}");
        }
    }
}
