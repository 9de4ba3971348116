//! Who sits in which row.

use super::{Handler, Worker};
use crate::rows::{
    RoomKey, Seat,
    audience::{Audience, Slot},
};

impl<H: Handler> Worker<H> {
    /// Moves a viewer to another room's rows, or out of any.
    pub(super) fn reseat(&mut self, index: u32, seat: Option<Seat>) {
        self.leave_row(index);
        let connection = self.connections.get_mut(index as usize);
        if let Some(backlog) = connection.and_then(|connection| connection.backlog.as_mut()) {
            backlog.leave_room();
        }
        let Some(seat) = seat else { return };
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        let stalled = connection.backlog.is_some();
        let audience = self.audiences.entry(seat.room).or_default();
        let rows = audience.rows.len();
        let place = audience.insert(seat.format, Slot { from: seat.from, connection: index, stalled });
        self.metrics.rows.inc_by((audience.rows.len() - rows) as i64);
        connection.seat = Some((seat.room, place));
    }

    pub(super) fn leave_row(&mut self, index: u32) {
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        let Some((room, place)) = connection.seat.take() else { return };
        let Some(audience) = self.audiences.get_mut(&room) else { return };
        if let Some(moved) = audience.remove(place)
            && let Some(connection) = self.connections.get_mut(moved as usize)
        {
            connection.seat = Some((room, place));
        }
        self.drop_empty(room);
        self.pack_rows(room);
    }

    fn drop_empty(&mut self, room: RoomKey) {
        if self.audiences.get(&room).is_some_and(Audience::is_empty)
            && let Some(audience) = self.audiences.remove(&room)
        {
            self.metrics.rows.dec_by(audience.rows.len() as i64);
        }
    }

    /// Repacks a room's rows when they are half empty and no flush is under way.
    pub(super) fn pack_rows(&mut self, room: RoomKey) {
        let Some(audience) = self.audiences.get_mut(&room) else { return };
        // One row cannot be packed, and most rooms are one row: skip the search for a flush.
        if audience.rows.len() < 2 || self.jobs.iter().any(|job| job.flush.room == room) {
            return;
        }
        let rows = audience.rows.len();
        let connections = &mut self.connections;
        audience.pack(|index, place| {
            if let Some(connection) = connections.get_mut(index as usize) {
                connection.seat = Some((room, place));
            }
        });
        self.metrics.rows.inc_by(audience.rows.len() as i64 - rows as i64);
    }

    pub(super) fn slot_mut(&mut self, index: u32) -> Option<&mut Slot> {
        let (room, place) = self.connections.get(index as usize)?.seat?;
        self.audiences.get_mut(&room)?.slot_mut(place)
    }
}
