//! How a viewer comes into a room, changes it, and is given another sub-room.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use danmu_wire::{CloseCode, Event, Join, Joined, Move, Position, frame};

use super::{Arriving, MOVED, Order, Seated, Sessions, Viewer};
use crate::{
    gate::Rate,
    room::{Entrance, Entry, Visitor},
    rows::{Io, Seat},
};

/// Viewers who are served better elsewhere are asked to move there at most so fast, and the rest stays: a room may become
/// large in a second, and its pods take a second's viewers at a time too.
const HINTS: Rate = Rate { limit: 50, period: Duration::from_secs(1) };
/// A pod that has just started asks nobody: its first viewers come a moment before it learns which rooms are its own.
/// In rollouts some were moved a third time for that.
const SETTLED: Duration = Duration::from_secs(10);
/// How long such a move may take. Nothing is closed after it.
const HINT_MS: u64 = 10_000;

/// Where a viewer wants to be.
#[derive(Debug)]
pub(super) struct Wish<'a> {
    /// The room's id.
    pub(super) id: &'a str,
    /// What it has seen of it.
    pub(super) since: Option<Position>,
    /// The sub-room it asks for.
    pub(super) sub: Option<u32>,
}

impl Sessions {
    pub(super) fn join(&self, viewer: &mut Viewer, wish: &Wish<'_>, patient: bool, io: &mut Io<'_>) {
        let Wish { id, since, sub } = wish;
        if viewer.claims.as_ref().is_some_and(|claims| !claims.admits(id)) {
            return io.close(CloseCode::NotAllowed);
        }
        let visitor = visitor(viewer, *sub, io);
        let (seated, entry) = match self.rooms.enter(id, &visitor, since.as_ref(), patient) {
            Ok(Entrance::Seated(room, sub, entry)) => (Seated { room, sub }, entry),
            Ok(Entrance::Wait(room, sub)) => return self.wait(viewer, Seated { room, sub }, wish, io),
            Err(code) => return io.close(code),
        };
        // One that it would have been given anyway is no choice of its own: clients send back what they were told.
        let own = seated.room.pick(None, visitor.whom());
        let has_chosen = *sub == Some(seated.sub.number) && own != seated.sub.number;
        // What it waited for before is not its wish any more.
        viewer.arriving = None;
        viewer.has_chosen = has_chosen;
        let is_new = viewer.room().is_none_or(|before| !Arc::ptr_eq(before, &seated.room)) && since.is_none();
        self.seat(viewer, &seated, entry, io);
        let room = &seated.room;
        self.set_deadline(viewer, io, None);
        self.sit_at_desk(viewer, room, io);
        if let Some(claims) = viewer.claims.as_ref().filter(|_| is_new) {
            room.arrived(&seated.sub, &claims.sub, claims.name.as_deref(), io.now);
        }
    }

    /// The viewer leaves the place it had, takes this one, and is told of it.
    fn seat(&self, viewer: &mut Viewer, seated: &Seated, entry: Entry, io: &mut Io<'_>) {
        let Seated { room, sub } = seated;
        io.sit(Seat { room: sub.key, format: viewer.format, from: entry.from });
        let (viewers, sub_viewers) = room.tell_audience(sub);
        let joined = Joined {
            room: Some(room.id.to_string()),
            epoch: entry.epoch,
            offset: entry.offset,
            recovered: entry.recovered,
            viewers,
            sub: sub_viewers.map(|_| sub.number),
            sub_viewers,
            mode: room.mode(),
            history: entry.history,
            pinned: entry.pinned,
        };
        let mut events = vec![Event::Joined(Box::new(joined))];
        events.extend(entry.missed);
        events.extend(self.hint(viewer, &room.id, io.now).map(Event::Move));
        io.send(&frame::personal(&events));
        if let Some(left) = viewer.seated.replace(seated.clone()) {
            if !Arc::ptr_eq(&left.room, room) {
                left.room.drop_moderator(viewer.number);
            }
            left.sub.leave(io.worker, viewer.format);
        }
    }

    /// Gives a viewer another sub-room, where an edit makes that its place.
    pub(super) fn reseat(&self, viewer: &mut Viewer, io: &mut Io<'_>) {
        let Some(Seated { room, sub }) = viewer.seated.clone() else { return };
        // Somebody who is owed something is looked at again.
        let Some(written) = io.written() else { return };
        let visitor = visitor(viewer, None, io);
        if let Some((sub, entry)) = room.reseat(&sub, &visitor, viewer.has_chosen, written) {
            viewer.has_chosen = false;
            self.seat(viewer, &Seated { room, sub }, entry, io);
        }
    }

    /// Asks a viewer to move to the room's own pods: once, so that nobody is sent in circles if the hint is wrong.
    fn hint(&self, viewer: &mut Viewer, room: &str, now: Instant) -> Option<Move> {
        let settled = now.saturating_duration_since(self.started) >= SETTLED;
        let url = self.rooms.elsewhere(room).filter(|_| settled && !viewer.moved)?;
        self.hints.lock().unwrap_or_else(PoisonError::into_inner).take(HINTS, now).ok()?;
        viewer.moved = true;
        self.metrics.hints.inc();
        let joint = if url.contains('?') { '&' } else { '?' };
        Some(Move { url: Some(format!("{url}{joint}{MOVED}")), within_ms: HINT_MS })
    }

    /// The viewer waits until the relay has told the room's epoch and comes in then.
    fn wait(&self, viewer: &mut Viewer, seated: Seated, wish: &Wish<'_>, io: &mut Io<'_>) {
        let waits_already = viewer.arriving.is_some();
        let Seated { room, sub } = seated;
        let since = wish.since.clone();
        let arriving = Arriving::Room { id: room.id.to_string(), since: since.clone(), sub: wish.sub };
        viewer.arriving = Some(Box::new(arriving));
        // One task a viewer: what it asks for meanwhile takes the place of what it asked for before.
        if waits_already {
            return;
        }
        let (inboxes, number) = (Arc::clone(&self.inboxes), viewer.number);
        let (worker, connection) = (io.worker, io.connection);
        self.runtime.spawn(async move {
            room.settle(since.as_ref().map(|since| (&*sub, since))).await;
            inboxes.visit_one(worker, connection, Order::Enter(number));
        });
    }

    pub(super) fn change_room(&self, viewer: &mut Viewer, join: &Join, io: &mut Io<'_>) {
        let wish = Wish { id: &join.room, since: join.position(), sub: join.sub };
        self.join(viewer, &wish, true, io);
    }
}

fn visitor<'a>(viewer: &'a Viewer, sub: Option<u32>, io: &Io<'_>) -> Visitor<'a> {
    Visitor {
        user: viewer.user(),
        number: viewer.number,
        sub,
        address: viewer.address,
        worker: io.worker,
        format: viewer.format,
        now: io.now,
    }
}
