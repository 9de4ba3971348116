//! What a room is and does: batch, merge, number, remember, count.
