//! A room with several sub-rooms, without sockets.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
    time::Instant,
};

use danmu_crds::RoomPolicy;
use danmu_wire::{Event, Gift, frame::Format};

use super::{Entrance, Entry, Rooms, SubRoom, Visitor, state::Settings};
use crate::{
    catalog::Catalog,
    relay::{Deliver, Memory, PublishError, Relay},
    rows::{FanOut, Flush, Flushed},
    segments::{self, Segments},
};

/// Keeps every flush, and lets none be done before it is told.
#[derive(Default)]
struct Held(Mutex<Vec<Arc<Flush>>>);

impl FanOut for Held {
    fn workers(&self) -> usize {
        1
    }

    fn fan_out(&self, _: usize, flush: Arc<Flush>) {
        self.0.lock().unwrap().push(flush);
    }
}

impl Held {
    /// The last flush of a sub-room is written.
    fn finish(&self, sub: &Arc<SubRoom>) {
        let flushes = self.0.lock().unwrap().clone();
        let last = flushes.iter().rfind(|flush| flush.room == sub.key).unwrap();
        Arc::clone(sub).flushed(last);
    }

    /// The offsets written to a sub-room so far.
    fn gifts(&self, sub: &SubRoom) -> Vec<u64> {
        let mut gifts = Vec::new();
        for flush in self.0.lock().unwrap().iter().filter(|flush| flush.room == sub.key) {
            let frame = flush.frames[Format::Json as usize].as_ref().and_then(crate::rows::Frames::priority);
            let Some(frame) = frame else { continue };
            let start = frame.iter().position(|byte| *byte == b'[').unwrap();
            let events: Vec<Event> = serde_json::from_slice(&frame[start..]).unwrap();
            gifts.extend(
                events.iter().filter(|event| matches!(event, Event::Gift(_))).filter_map(Event::offset),
            );
        }
        gifts
    }
}

fn policy(sub_rooms: u32) -> Arc<RoomPolicy> {
    Arc::new(RoomPolicy { sub_rooms, ..RoomPolicy::default() })
}

fn catalog(sub_rooms: u32, placed: &[u32]) -> Catalog {
    Catalog {
        rooms: HashMap::from([("stage".to_owned(), policy(sub_rooms))]),
        sub_rooms: HashMap::from([("stage".to_owned(), placed.into())]),
        ..Catalog::default()
    }
}

async fn rooms(sub_rooms: u32, placed: &[u32], waiting: usize) -> (Arc<Rooms>, Arc<Held>) {
    let runtime = tokio::runtime::Handle::current();
    let held = Arc::new(Held::default());
    let store = Arc::new(segments::Embedded::in_memory().unwrap());
    let segments = Segments::new(store, Arc::default(), &runtime);
    let relay = Arc::new(Relay::Memory(Memory::default()));
    let settings = Settings { waiting, ..Settings::default() };
    let rooms = Rooms::new(Arc::clone(&held) as Arc<dyn FanOut>, relay, segments, settings, runtime);
    rooms.apply(&catalog(sub_rooms, placed));
    (rooms, held)
}

fn visitor(number: u64, sub: Option<u32>) -> Visitor<'static> {
    Visitor {
        user: None,
        number,
        sub,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        worker: 0,
        format: Format::Json,
        now: Instant::now(),
    }
}

fn enter(rooms: &Rooms, who: &Visitor<'_>) -> (Arc<SubRoom>, Entry) {
    match rooms.enter("stage", who, None, true) {
        Ok(Entrance::Seated(_, sub, entry)) => (sub, entry),
        other => panic!("{other:?}"),
    }
}

fn gift(offset: u64) -> Event {
    Event::Gift(Gift { offset, ..Gift::default() })
}

#[tokio::test]
async fn an_event_that_one_sub_room_has_no_room_for_is_taken_by_none_and_comes_to_each_once() {
    let (rooms, held) = rooms(2, &[], 2).await;
    let (zero, one) = (enter(&rooms, &visitor(0, Some(0))).0, enter(&rooms, &visitor(1, Some(1))).0);
    // The first is on its way in both; two more wait. Sub-room 0 goes on, so that 1 alone is full.
    for offset in 1..=3 {
        rooms.priority("stage", gift(offset)).unwrap();
    }
    held.finish(&zero);
    assert_eq!(held.gifts(&zero), [1, 2, 3]);
    assert_eq!(rooms.priority("stage", gift(4)), Err(PublishError::Busy));
    held.finish(&one);
    assert_eq!(rooms.priority("stage", gift(4)), Ok(()));
    for sub in [&zero, &one] {
        held.finish(sub);
        assert_eq!(held.gifts(sub), [1, 2, 3, 4], "sub-room {}", sub.number);
    }
}

#[tokio::test]
async fn viewers_who_ask_for_nothing_come_to_what_is_placed_here_and_a_friends_number_counts_more() {
    let (rooms, _held) = rooms(8, &[2, 5, 60], 100).await;
    let mut found: Vec<u32> = (0..100).map(|number| enter(&rooms, &visitor(number, None)).0.number).collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, [2, 5], "60 is placed by mistake: the room does not have it");
    assert_eq!(enter(&rooms, &visitor(7, Some(3))).0.number, 3);
    rooms.apply(&catalog(8, &[]));
    let anywhere: std::collections::BTreeSet<u32> =
        (0..200).map(|number| enter(&rooms, &visitor(number, None)).0.number).collect();
    assert_eq!(anywhere.len(), 8, "none are told: all may be here");
}

#[tokio::test]
async fn a_viewer_is_given_another_place_where_the_old_one_ends_in_the_lane() {
    let (rooms, held) = rooms(2, &[], 100).await;
    let (from, _) = enter(&rooms, &visitor(0, Some(1)));
    let room = rooms.get("stage").unwrap();
    rooms.priority("stage", gift(1)).unwrap();
    assert_eq!(held.gifts(&from), [1], "on its way");
    rooms.apply(&catalog(1, &[]));
    // Not written to this viewer yet, so it is told again, and what waits is as well.
    rooms.priority("stage", gift(2)).unwrap();
    let (to, entry) = room.reseat(&from, &visitor(0, None), true, 0).unwrap();
    assert_eq!((to.number, entry.recovered), (0, true));
    assert_eq!(entry.missed.iter().filter_map(Event::offset).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((to.viewers(), room.reseat(&to, &visitor(0, None), false, 0).is_none()), (1, true));
    from.leave(0, Format::Json);
    assert_eq!(room.viewers(), 1);
    // Sub-room 1 is forgotten as soon as nobody is left in it.
    rooms.tend(Instant::now());
    assert_eq!(room.keys(), [to.key]);
}
