//! A room's viewers on one worker, in rows.

use danmu_wire::frame::Format;

use super::ROW_CAPACITY;

/// One viewer in a row. The fan-out loop reads these and nothing else until a write fails.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// The first flush this viewer gets.
    pub(super) from: u64,
    /// Index of the socket and the connection.
    pub(super) connection: u32,
    /// Bytes wait for this viewer: it is served from its backlog.
    pub(super) stalled: bool,
}

/// At most [`ROW_CAPACITY`] viewers of one format.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) format: Format,
    /// The last flush written to this row.
    pub(super) flushed: u64,
    pub(super) slots: Vec<Slot>,
}

/// Where a viewer sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) row: u32,
    pub(super) slot: u32,
}

/// A room's viewers on one worker.
#[derive(Debug, Default)]
pub(super) struct Audience {
    pub(super) rows: Vec<Row>,
}

impl Audience {
    /// Seats a viewer in the last row that has room, or a new one.
    pub(super) fn insert(&mut self, format: Format, slot: Slot) -> Place {
        let found = self.rows.iter().rposition(|r| r.format == format && r.slots.len() < ROW_CAPACITY);
        let row = found.unwrap_or_else(|| {
            self.rows.push(Row { format, flushed: 0, slots: Vec::new() });
            self.rows.len() - 1
        });
        let slots = &mut self.rows[row].slots;
        slots.push(slot);
        Place { row: row as u32, slot: (slots.len() - 1) as u32 }
    }

    /// Takes a viewer out; answers the connection that sits in its place now.
    pub(super) fn remove(&mut self, place: Place) -> Option<u32> {
        let row = self.rows.get_mut(place.row as usize)?;
        if place.slot as usize >= row.slots.len() {
            return None;
        }
        row.slots.swap_remove(place.slot as usize);
        row.slots.get(place.slot as usize).map(|moved| moved.connection)
    }

    pub(super) fn slot_mut(&mut self, place: Place) -> Option<&mut Slot> {
        self.rows.get_mut(place.row as usize)?.slots.get_mut(place.slot as usize)
    }

    /// The last flush that the viewer at this place has got; none while it is owed something.
    pub(super) fn written(&self, place: Place) -> Option<u64> {
        let row = self.rows.get(place.row as usize)?;
        let slot = row.slots.get(place.slot as usize)?;
        (!slot.stalled).then(|| row.flushed.max(slot.from.saturating_sub(1)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.iter().all(|row| row.slots.is_empty())
    }

    /// Repacks the rows of a format once they are half empty, so that a room that shrank from 15,000
    /// to 100 viewers is one row again. Only between flushes: moving a viewer to a row that was already
    /// written would make it miss the flush. `moved` learns every viewer's new place.
    pub(super) fn pack(&mut self, mut moved: impl FnMut(u32, Place)) {
        for format in Format::ALL {
            let (rows, viewers) = self
                .rows
                .iter()
                .filter(|row| row.format == format)
                .fold((0, 0), |(rows, viewers), row| (rows + 1, viewers + row.slots.len()));
            if rows > 0 && viewers <= rows * ROW_CAPACITY / 2 && viewers.div_ceil(ROW_CAPACITY) < rows {
                self.repack(format, &mut moved);
            }
        }
    }

    fn repack(&mut self, format: Format, moved: &mut impl FnMut(u32, Place)) {
        let (old, rest): (Vec<Row>, Vec<Row>) = self.rows.drain(..).partition(|row| row.format == format);
        self.rows = rest;
        // Between flushes all rows are at the last one, or were made after it.
        let flushed = old.iter().map(|row| row.flushed).max().unwrap_or(0);
        for slot in old.into_iter().flat_map(|row| row.slots) {
            self.insert(format, slot);
        }
        for (r, row) in self.rows.iter_mut().enumerate() {
            row.slots.shrink_to_fit();
            if row.format == format {
                row.flushed = flushed;
            }
            for (s, slot) in row.slots.iter().enumerate() {
                moved(slot.connection, Place { row: r as u32, slot: s as u32 });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn slot(connection: u32) -> Slot {
        Slot { from: 0, connection, stalled: false }
    }

    #[test]
    fn a_room_that_shrank_is_one_row_again() {
        let mut audience = Audience::default();
        let mut places: HashMap<u32, Place> =
            (0..5000).map(|c| (c, audience.insert(Format::Json, slot(c)))).collect();
        assert_eq!(audience.rows.len(), 5);
        for connection in 100..5000 {
            if let Some(moved) = audience.remove(places[&connection]) {
                let place = places[&connection];
                places.insert(moved, place);
            }
            places.remove(&connection);
        }
        audience.pack(|connection, place| {
            places.insert(connection, place);
        });
        assert_eq!(audience.rows.len(), 1);
        for (connection, place) in places {
            assert_eq!(audience.slot_mut(place).unwrap().connection, connection);
        }
    }

    proptest! {
        #[test]
        fn every_viewer_stays_where_its_place_says(steps in proptest::collection::vec((0u8..10, any::<u16>()), 1..3000)) {
            let mut audience = Audience::default();
            let mut places: Vec<(u32, Place)> = Vec::new();
            let mut next = 0;
            for (what, pick) in steps {
                match what {
                    0..=5 => {
                        let format = Format::ALL[usize::from(pick % 2)];
                        places.push((next, audience.insert(format, slot(next))));
                        next += 1;
                    }
                    6..=8 if !places.is_empty() => {
                        let (_, place) = places.swap_remove(usize::from(pick) % places.len());
                        if let Some(moved) = audience.remove(place) {
                            places.iter_mut().find(|(c, _)| *c == moved).unwrap().1 = place;
                        }
                    }
                    _ => audience.pack(|connection, place| {
                        places.iter_mut().find(|(c, _)| *c == connection).unwrap().1 = place;
                    }),
                }
            }
            for (connection, place) in &places {
                prop_assert_eq!(audience.slot_mut(*place).map(|s| s.connection), Some(*connection));
            }
            let seated: usize = audience.rows.iter().map(|r| r.slots.len()).sum();
            prop_assert_eq!(seated, places.len());
        }
    }
}
