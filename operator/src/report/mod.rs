//! What is told about a fleet and its rooms: statuses that move only when something did, and Events on their edges.
//! Pure; `controller` writes what comes out.

mod conditions;
mod fleet;
mod replay;
mod room;

pub(crate) use conditions::{Edge, edges, of_the_room};
pub(crate) use fleet::{Problem, degraded_for, fleet};
pub(crate) use room::{ViewerCounts, forget, room, routing, without_fleet};

/// The first two digits: a status that moved with every viewer would wake every watcher.
fn two_digits(number: u32) -> u32 {
    let mut step = 1;
    while number / step >= 100 {
        step *= 10;
    }
    number / step * step
}

#[cfg(test)]
mod tests;
