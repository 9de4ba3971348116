//! Moderators: what they ask for, what they are told, and who waits for their word. All of it waits for the
//! relay, so it goes on beside the worker and comes back as an order.

use std::sync::Arc;

use danmu_wire::{Action, Chat, Done, Event, Held, Moderate, RefusalCode, Refused, Role, frame};

use super::{Order, Seated, Sessions, Viewer, hook::address};
use crate::{
    room::{ActError, Acted, Room},
    rows::Io,
};

/// Actions of one moderator that are under way at once.
const MOST_ACTING: u8 = 8;
/// Bytes of held messages told at once: under what a viewer may be owed.
const MOST_HELD: usize = 32 * 1024;

impl Sessions {
    /// A moderator is told what waits for a word, now and from now on; somebody else is not, any more.
    pub(super) fn sit_at_desk(&self, viewer: &Viewer, room: &Arc<Room>, io: &Io<'_>) {
        if viewer.role() < Role::Moderator {
            return room.drop_moderator(viewer.number);
        }
        let at = address(viewer, io);
        room.add_moderator(at);
        let (room, inboxes) = (Arc::clone(room), Arc::clone(&self.inboxes));
        self.runtime.spawn(async move {
            if let Ok(Acted::Held(held)) = room.act("", Action::Held {}).await
                && !held.is_empty()
            {
                inboxes.visit_one(
                    at.worker,
                    at.connection,
                    Order::Tell(at.number, frame::personal(&told(held))),
                );
            }
        });
    }

    pub(super) fn moderate(&self, viewer: &mut Viewer, moderate: Moderate, io: &mut Io<'_>) {
        let Moderate { reference, action } = moderate;
        let Some(room) = viewer.room().cloned() else {
            return self.refuse(reference, RefusalCode::NotInRoom, None, io);
        };
        let Some(by) = viewer.user().filter(|_| viewer.role() >= Role::Moderator) else {
            return self.refuse(reference, RefusalCode::NotModerator, None, io);
        };
        if viewer.acting >= MOST_ACTING {
            return self.refuse(reference, RefusalCode::Busy, None, io);
        }
        let (by, at) = (by.to_owned(), address(viewer, io));
        viewer.acting += 1;
        let (inboxes, metrics) = (Arc::clone(&self.inboxes), Arc::clone(&self.metrics));
        self.runtime.spawn(async move {
            let events = match room.act(&by, action).await {
                Ok(Acted::Done) => vec![Event::Done(Done { reference })],
                Ok(Acted::Held(held)) => {
                    let mut events = told(held);
                    events.push(Event::Done(Done { reference }));
                    events
                }
                Err(error) => {
                    let (code, text) = match error {
                        ActError::None => (RefusalCode::NotFound, RefusalCode::NotFound.text().to_owned()),
                        ActError::Publish(error) => (RefusalCode::Busy, error.to_string()),
                    };
                    metrics.refused(code);
                    vec![Event::Refused(Refused { reference, code, text, retry_ms: None })]
                }
            };
            inboxes.visit_one(at.worker, at.connection, Order::Acted(at.number, frame::personal(&events)));
        });
    }

    /// A moderator looks at the message first.
    pub(super) fn hold(
        &self,
        viewer: &Viewer,
        seated: Seated,
        chat: Chat,
        reference: Option<String>,
        io: &Io<'_>,
    ) {
        let (beside, at, received) = (self.beside(), address(viewer, io), io.now);
        self.runtime.spawn(async move { beside.hold(&seated, chat, at, reference, received).await });
    }
}

/// Held messages as events, the oldest first; what is too much for one viewer at once is left for later.
fn told(held: Vec<Held>) -> Vec<Event> {
    let mut bytes = 0;
    let fits = held.into_iter().take_while(|held| {
        // JSON of the text is at most six times as long; the rest is bounded by the claims.
        bytes += held.chat.text.len() * 2 + 512;
        bytes <= MOST_HELD
    });
    fits.map(|held| Event::Held(Box::new(held))).collect()
}
