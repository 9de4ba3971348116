use danmu_wire::{Enter, Gift, Removed};
use proptest::prelude::*;

use super::*;

fn chat(text: &str) -> Chat {
    Chat { id: text.to_owned(), text: text.to_owned(), n: 1, ..Chat::default() }
}

fn opened(settings: Settings, now: Instant) -> State {
    let mut room = State::new(settings, now);
    room.opened(Opening { epoch: "E".into(), ..Opening::default() }, false, now);
    room
}

fn gift(room: &State) -> Event {
    Event::Gift(Gift { offset: room.offset + 1, ..Gift::default() })
}

fn room() -> (State, Instant) {
    let now = Instant::now();
    (opened(Settings::default(), now), now)
}

#[test]
fn a_quiet_rooms_message_goes_out_at_once() {
    let (mut room, now) = room();
    assert_eq!(room.chat(chat("a"), true, now), Next::Flush);
}

#[test]
fn what_arrives_during_a_fan_out_goes_out_as_one_batch_after_it() {
    let (mut room, now) = room();
    room.chat(chat("a"), true, now);
    assert_eq!(room.take(now).chat.len(), 1);
    for text in ["b", "c", "d"] {
        assert_eq!(room.chat(chat(text), true, now), Next::Nothing);
    }
    assert_eq!(room.flushed(now), Next::Flush);
    assert_eq!(room.take(now).chat.len(), 3);
    assert_eq!(room.flushed(now), Next::Nothing);
}

#[test]
fn two_who_arrive_before_a_flush_is_taken_do_not_both_flush() {
    let (mut room, now) = room();
    assert_eq!(room.chat(chat("a"), true, now), Next::Flush);
    assert_eq!(room.priority(gift(&room), now), Ok(Next::Nothing));
    let batch = room.take(now);
    assert_eq!((batch.chat.len(), batch.priority.len()), (1, 1));
    assert_eq!(room.flushed(now), Next::Nothing);
}

#[test]
fn a_busy_room_ticks_and_a_quiet_one_does_not() {
    let (mut room, start) = room();
    let mut flushes = 0;
    let mut tick = None;
    for i in 0..400u64 {
        let now = start + Duration::from_millis(i * 5);
        if tick.is_some_and(|at| at <= now) {
            tick = None;
            if room.ticked(now) == Next::Flush {
                flushes += 1;
                room.take(now);
                room.flushed(now);
            }
        }
        match room.chat(chat(&i.to_string()), true, now) {
            Next::Flush => {
                flushes += 1;
                room.take(now);
                room.flushed(now);
            }
            Next::TickAt(at) => tick = Some(at),
            Next::Nothing => {}
        }
    }
    // 40 messages at once each, then 1.8 s at one flush in 50 ms.
    assert!((60..=85).contains(&flushes), "{flushes}");
}

#[test]
fn a_room_that_sheds_load_flushes_less_often_however_calm_it_is() {
    let (mut room, now) = room();
    room.set_tick(Some(5));
    assert_eq!(room.chat(chat("first"), true, now), Next::Flush);
    room.take(now);
    assert_eq!(room.flushed(now), Next::Nothing);
    let tick = Settings::default().tick;
    assert_eq!(room.chat(chat("second"), true, now + tick), Next::TickAt(now + tick * 5));
    assert_eq!(room.ticked(now + tick * 5), Next::Flush);
    room.take(now + tick * 5);
    room.set_tick(None);
    room.flushed(now + tick * 5);
    assert_eq!(room.chat(chat("third"), true, now + tick * 6), Next::Flush, "calm again");
}

#[test]
fn duplicates_in_a_flush_become_one_with_a_count() {
    let (mut room, now) = room();
    for text in ["gg", "hi", "gg", "gg"] {
        room.chat(chat(text), true, now);
    }
    let batch = room.take(now);
    let said: Vec<(String, u32)> = batch
        .chat
        .iter()
        .map(|e| match e {
            Event::Chat(c) => (c.text.clone(), c.n),
            _ => unreachable!(),
        })
        .collect();
    assert_eq!(said, [("gg".to_owned(), 3), ("hi".to_owned(), 1)]);
    assert_eq!(batch.chats, 4);
}

#[test]
fn a_viewer_back_from_a_cut_gets_every_gift_or_is_told() {
    let (mut room, now) = room();
    for _ in 0..3 {
        room.priority(gift(&room), now).unwrap();
    }
    room.take(now);
    room.flushed(now);
    let entry = room.enter(Some(&Position { epoch: "E".into(), offset: 1 }), 0);
    assert_eq!((entry.recovered, entry.missed.len(), entry.offset), (true, 2, 3));
    let other = room.enter(Some(&Position { epoch: "F".into(), offset: 1 }), 0);
    assert_eq!((other.recovered, other.missed.len()), (false, 0));
    let future = room.enter(Some(&Position { epoch: "E".into(), offset: 9 }), 0);
    assert!(!future.recovered && future.behind);
}

#[test]
fn what_was_removed_does_not_come_back_as_history() {
    let (mut room, now) = room();
    room.chat(chat("bad"), true, now);
    room.chat(chat("good"), true, now);
    room.take(now);
    room.flushed(now);
    let removed = Removed { offset: 1, ids: vec!["bad".into()], ..Removed::default() };
    room.priority(Event::Removed(removed), now).unwrap();
    let history: Vec<String> = room.enter(None, 0).history.into_iter().map(|c| c.text).collect();
    assert_eq!(history, ["good"]);
}

#[test]
fn the_priority_lane_refuses_instead_of_growing_and_chat_drops_its_oldest() {
    let now = Instant::now();
    let mut room = opened(Settings { waiting: 2, ..Settings::default() }, now);
    room.priority(gift(&room), now).unwrap();
    room.priority(gift(&room), now).unwrap();
    assert_eq!(room.priority(gift(&room), now), Err(Full));
    for text in ["a", "b", "c"] {
        room.chat(chat(text), true, now);
    }
    let batch = room.take(now);
    let gap = Event::Gap(Gap { lane: Lane::Chat, dropped: Some(1), epoch: None });
    assert_eq!((batch.chats, batch.priority.last()), (2, Some(&gap)), "and it is told");
}

#[test]
fn a_new_epoch_is_told_to_everybody_and_its_events_follow() {
    let (mut room, now) = room();
    room.priority(gift(&room), now).unwrap();
    room.take(now);
    room.flushed(now);
    let log = vec![Event::Gift(Gift { offset: 1, ..Gift::default() })];
    room.opened(Opening { epoch: "F".into(), offset: 1, log }, true, now);
    assert_eq!(room.enter(None, 0).offset, 0, "what is not flushed yet will come by the flush");
    let batch = room.take(now);
    assert!(matches!(&batch.priority[0], Event::Gap(gap) if gap.epoch.as_deref() == Some("F")));
    assert_eq!(batch.priority[1].offset(), Some(1));
    let entry = room.enter(Some(&Position { epoch: "E".into(), offset: 1 }), 0);
    assert!(!entry.recovered && entry.epoch == "F" && entry.offset == 1);
}

#[test]
fn only_this_pods_chats_go_to_the_other_pods_with_a_count() {
    let now = Instant::now();
    let mut room = opened(Settings { relayed: true, ..Settings::default() }, now);
    for (text, ours) in [("a", true), ("b", false), ("a", true), ("c", true)] {
        room.chat(chat(text), ours, now);
    }
    let batch = room.take(now);
    assert_eq!((batch.ours.len(), batch.published, batch.chat.len()), (2, 0, 3));
    room.flushed(now);
    room.chat(chat("d"), true, now);
    assert_eq!(room.take(now).published, 2);
}

proptest! {
    /// Whoever joins at any moment with any position sees each priority event exactly once:
    /// recovered or live.
    #[test]
    fn no_gift_is_missed_or_doubled_around_a_join(
        steps in proptest::collection::vec(0u8..4, 1..80), join_at in 0usize..80, seen in 0u64..10,
    ) {
        let (mut room, now) = room();
        let mut got: Vec<u64> = Vec::new();
        let mut from = None;
        let mut since = 0;
        let mut flying = false;
        for (i, step) in steps.iter().enumerate() {
            if i == join_at {
                let top = room.flushed_offset;
                since = seen.min(top);
                let entry = room.enter(Some(&Position { epoch: "E".into(), offset: since }), 0);
                prop_assert!(entry.recovered);
                got.extend(entry.missed.iter().filter_map(Event::offset));
                from = Some(entry.from);
            }
            match step {
                0 | 1 => { room.priority(gift(&room), now).unwrap(); }
                2 if !flying => {
                    flying = true;
                    let batch = room.take(now);
                    if from.is_some_and(|from| batch.sequence >= from) {
                        got.extend(batch.priority.iter().filter_map(Event::offset));
                    }
                }
                3 if flying => {
                    flying = false;
                    room.flushed(now);
                }
                _ => {}
            }
        }
        if from.is_some() {
            let expected: Vec<u64> = (since + 1..=room.flushed_offset).collect();
            prop_assert_eq!(got, expected);
        }
    }
}

fn rose(room: &State, user: &str, count: u32, combo: Option<u64>) -> Event {
    Event::Gift(Gift {
        id: format!("{user}{}", room.offset + 1),
        offset: room.offset + 1,
        user: Some(user.to_owned()),
        gift: "rose".into(),
        count,
        merged: 1,
        combo,
        ..Gift::default()
    })
}

#[test]
fn gifts_of_a_combo_beside_each_other_are_one_event_and_the_log_keeps_each() {
    let (mut room, now) = room();
    for (user, count, combo) in
        [("ann", 1, None), ("ann", 2, Some(3)), ("bob", 1, None), ("ann", 1, Some(4)), ("ann", 1, Some(5))]
    {
        let event = rose(&room, user, count, combo);
        room.priority(event, now).unwrap();
    }
    let batch = room.take(now);
    let told: Vec<(u64, u32, u32, Option<u64>)> = batch
        .priority
        .iter()
        .map(|event| match event {
            Event::Gift(gift) => (gift.offset, gift.count, gift.merged, gift.combo),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [(2, 3, 2, Some(3)), (3, 1, 1, None), (5, 2, 2, Some(5))]);
    let total: u32 = told.iter().map(|(_, count, ..)| count).sum();
    assert_eq!(total, 6, "nothing given is lost");
    let entry = room.enter(Some(&Position { epoch: "E".into(), offset: 2 }), 0);
    assert!(entry.recovered && entry.missed.len() == 3, "whoever comes back gets each after its place");
}

#[test]
fn a_new_combo_of_the_same_giver_is_an_event_of_its_own() {
    let (mut room, now) = room();
    for combo in [Some(2), None] {
        let event = rose(&room, "ann", 1, combo);
        room.priority(event, now).unwrap();
    }
    assert_eq!(room.take(now).priority.len(), 2);
}

fn said(room: &State, at: u64, seconds: u32) -> Event {
    let (id, offset) = (format!("s{at}"), room.offset + 1);
    Event::Super(Super { id, offset, user: Some("ann".into()), at, seconds, ..Super::default() })
}

#[test]
fn whoever_joins_is_told_what_is_still_pinned_with_the_time_that_is_left() {
    let (mut room, now) = room();
    for (at, seconds) in [(0, 10), (5_000, 60)] {
        let event = said(&room, at, seconds);
        room.priority(event, now).unwrap();
    }
    assert_eq!(room.enter(None, 6_000).pinned.len(), 0, "what is not flushed yet will come by the flush");
    room.take(now);
    let left = |at| room.enter(None, at).pinned.iter().map(|said| said.seconds).collect::<Vec<_>>();
    assert_eq!(left(6_000), [4, 59]);
    assert_eq!(left(20_000), [45]);
    assert_eq!(left(65_000), [0; 0]);
    let back = room.enter(Some(&Position { epoch: "E".into(), offset: 0 }), 20_000);
    let missed =
        back.missed.iter().map(|event| if let Event::Super(said) = event { said.seconds } else { 99 });
    assert_eq!(missed.collect::<Vec<_>>(), [0, 45], "what is over is recovered, and not pinned again");
}

#[test]
fn what_is_removed_is_pinned_no_more_and_pins_are_bounded() {
    let (mut room, now) = room();
    for at in 0..30 {
        let event = said(&room, at, 60);
        room.priority(event, now).unwrap();
    }
    room.take(now);
    assert_eq!(room.enter(None, 0).pinned.len(), PINNED);
    let removed = Removed { offset: room.offset + 1, ids: vec!["s29".into()], ..Removed::default() };
    room.priority(Event::Removed(removed), now).unwrap();
    room.flushed(now);
    room.take(now);
    assert!(room.enter(None, 0).pinned.iter().all(|said| said.id != "s29"));
    let removed = Removed { offset: room.offset + 1, user: Some("ann".into()), ..Removed::default() };
    room.priority(Event::Removed(removed), now).unwrap();
    assert!(room.enter(None, 0).pinned.is_empty());
}

#[test]
fn pins_of_the_log_are_known_when_a_room_is_opened() {
    let now = Instant::now();
    let mut room = State::new(Settings::default(), now);
    let log = vec![Event::Super(Super { offset: 1, seconds: 60, ..Super::default() })];
    room.opened(Opening { epoch: "E".into(), offset: 1, log }, false, now);
    assert_eq!(room.enter(None, 0).pinned.len(), 1);
}

#[test]
fn who_comes_in_is_told_on_the_chat_lane_and_is_no_history() {
    let (mut room, now) = room();
    room.live(Event::Enter(Enter { user: Some("ann".into()), name: None }), true, now);
    room.chat(chat("a"), true, now);
    assert_eq!(room.take(now).chat.len(), 2);
    assert_eq!(room.enter(None, 0).history.len(), 1);
}

#[test]
fn a_sub_room_that_opens_later_stands_where_its_sibling_does_and_nothing_was_said_in_it() {
    let (mut room, now) = room();
    room.priority(gift(&room), now).unwrap();
    room.chat(chat("a"), true, now);
    room.take(now);
    room.priority(gift(&room), now).unwrap();
    // Its second gift is not flushed yet: here nobody waits for a flush, so it counts as told.
    let sibling = room.sibling(3, now);
    let back = "E.0".parse().unwrap();
    let entry = sibling.enter(Some(&back), 0);
    assert_eq!((entry.epoch.as_str(), entry.offset, entry.recovered), ("E", 2, true));
    assert_eq!((entry.missed.len(), entry.history.len(), entry.from), (2, 0, 1));
}

#[test]
fn where_a_viewer_stands_in_the_lane_goes_by_the_last_flush_that_was_written_to_it() {
    let (mut room, now) = room();
    let offset = |room: &State, written| room.seen(written).map(|position| position.offset);
    assert_eq!(offset(&room, 0), Some(0));
    room.priority(gift(&room), now).unwrap();
    room.take(now);
    assert_eq!((offset(&room, 0), offset(&room, 1)), (Some(0), Some(1)), "on its way, and written");
    room.flushed(now);
    room.priority(gift(&room), now).unwrap();
    assert_eq!(offset(&room, 1), Some(1), "what waits is not seen");
    room.take(now);
    assert_eq!(offset(&room, 0), None, "two flushes back: nobody is");
    room.flushed(now);
    // The epoch's end is told with the next flush: until then a viewer has no place in the new one.
    room.opened(Opening { epoch: "F".into(), ..Opening::default() }, true, now);
    assert_eq!(room.seen(2), None);
    assert_eq!(room.take(now).sequence, 3);
    assert_eq!((room.seen(2), room.seen(3)), (None, Some("F.0".parse().unwrap())));
}

#[test]
fn each_channel_counts_what_was_published_on_it() {
    let now = Instant::now();
    let mut room = opened(Settings { relayed: true, ..Settings::default() }, now);
    let flush = |room: &mut State| {
        room.chat(chat("a"), true, now);
        let batch = room.take(now);
        room.flushed(now);
        (batch.channel, batch.published)
    };
    assert_eq!((flush(&mut room), flush(&mut room)), ((None, 0), (None, 1)));
    let elsewhere = room.set_channel(Some(0), 0);
    assert_eq!((flush(&mut room), flush(&mut room)), ((Some(0), 0), (Some(0), 1)));
    assert_eq!(room.set_channel(None, elsewhere), 2);
    assert_eq!(flush(&mut room), (None, 2));
}
