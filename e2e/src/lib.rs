//! x
pub mod check;
pub mod history;
pub mod schedule;
pub mod world;
