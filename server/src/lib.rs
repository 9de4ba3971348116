//! Danmu's room server. The modules stand on floors, and a module uses only floors below it:
//!
//! ```text
//! admin  drain              what the operator of this process asks of it
//! edge                      what comes in
//! room                      what a room is and does
//! relay  gate  rows  catalog  segments  hooks  traces    what it needs, each ignorant of the others
//! https                     requests to other servers
//! wire   crds               words and types, no I/O (crates of their own)
//! ```
//!
//! Two neighbours borrow from others: `segments` has the relay's way to Redis, `traces` hears of the rows' flushes.

pub mod admin;
pub mod catalog;
pub mod config;
pub mod drain;
pub mod edge;
pub mod gate;
pub mod hooks;
pub mod https;
pub mod relay;
pub mod room;
pub mod rows;
pub mod segments;
pub mod serve;
mod splitmix;
pub mod traces;
