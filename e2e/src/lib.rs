//! Tests of a whole fleet, and the checker: Danmu checked like a database, in Jepsen's manner.
//!
//! `cargo xtask soak` runs it. A [`run`] starts a real Redis and several real servers ([`world`]), lets
//! publishers and viewers work ([`actors`]) while a nemesis breaks things by a [`schedule`] drawn from a
//! seed, and writes all that was asked, answered and received into a [`history`]. [`check`] is pure: from
//! a history it tells every promise that was broken.

pub mod actors;
pub mod check;
pub mod demo;
pub mod history;
pub mod http;
pub mod run;
pub mod schedule;
pub mod wait;
pub mod world;
