//! What a flush says once instead of often.

use std::collections::HashMap;

use danmu_wire::{Event, Gift, Style};

/// The same text in the same style, said by several in one flush, is one message "× n". It keeps the
/// first one's id and place.
pub(super) fn merge(events: Vec<Event>) -> Vec<Event> {
    let mut first: HashMap<(String, Style), usize> = HashMap::new();
    let mut merged: Vec<Event> = Vec::with_capacity(events.len());
    for event in events {
        let Event::Chat(mut chat) = event else {
            merged.push(event);
            continue;
        };
        chat.n = chat.n.max(1);
        let at = *first.entry((chat.text.clone(), chat.style.clone())).or_insert(merged.len());
        match merged.get_mut(at) {
            Some(Event::Chat(earlier)) => earlier.n = earlier.n.saturating_add(chat.n),
            _ => merged.push(Event::Chat(chat)),
        }
    }
    merged
}

/// Gifts of one combo that stand beside each other in the lane are one event with the last one's place: a
/// viewer who has seen it has seen them all, and one who comes back gets those after it. The log keeps each.
pub(super) fn merge_gifts(events: Vec<Event>) -> Vec<Event> {
    let mut merged: Vec<Event> = Vec::with_capacity(events.len());
    for event in events {
        match (merged.last_mut(), event) {
            (Some(Event::Gift(earlier)), Event::Gift(gift)) if goes_on(earlier, &gift) => {
                let (count, stands_for) = (earlier.count, earlier.merged.max(1));
                let text = earlier.text.take();
                *earlier = gift;
                earlier.count = earlier.count.saturating_add(count);
                earlier.merged = earlier.merged.max(1).saturating_add(stands_for);
                earlier.text = earlier.text.take().or(text);
            }
            (_, event) => merged.push(event),
        }
    }
    merged
}

fn goes_on(earlier: &Gift, gift: &Gift) -> bool {
    gift.combo.is_some()
        && gift.user.is_some()
        && (&gift.user, &gift.gift) == (&earlier.user, &earlier.gift)
        && gift.offset > 0
        && gift.offset == earlier.offset + 1
}
