//! Wire protocol v1: what viewers and servers say to each other, and in which bytes.
//!
//! The server, the load generator and the tests all speak through this crate. It does no I/O and
//! knows nobody: [`Event`]s and [`Op`]s are the words, [`frame`] turns them into WebSocket frames
//! and back, [`codes`] is the one table of close codes and refusals that the README is tested against.

mod action;
pub mod codes;
mod desk;
mod event;
pub mod frame;
mod kinds;
mod names;
mod op;
mod position;

pub use action::{Action, MAX_ID, MAX_IDS, MAX_SECONDS, MAX_SLOW};
pub use codes::{CloseCode, RefusalCode};
pub use desk::{Done, Held, Settled};
pub use event::{
    Ack, Chat, Event, Gap, Gift, Joined, Lane, Mode, Move, Notice, OnDemand, Placed, Placing, Refused,
    Removed, Role, Size, Stats, Style,
};
pub use kinds::{Custom, Enter, Super};
pub use names::{action_names, event_names, op_names};
pub use op::{BadOp, Join, Moderate, Op, Say};
pub use position::{BadPosition, Position};

/// Sub-protocol of plain JSON text frames; the default when a client offers none.
pub const PROTOCOL_JSON: &str = "danmu.v1.json";
/// Sub-protocol in which frames of [`frame::DEFLATE_FROM`] bytes and more come as raw deflate in a binary frame.
pub const PROTOCOL_DEFLATE: &str = "danmu.v1.deflate";
/// Prefix of the sub-protocol entry that carries a token: browsers can set no headers on a WebSocket.
pub const PROTOCOL_TOKEN_PREFIX: &str = "token.";

/// Longest room id in bytes: a DNS label, because room ids are Kubernetes object names.
pub const MAX_ROOM_ID: usize = 63;

/// Whether `id` is a room id: `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
///
/// ```
/// assert!(danmu_wire::is_room_id("worlds-final"));
/// assert!(!danmu_wire::is_room_id("Worlds"));
/// assert!(!danmu_wire::is_room_id("-final"));
/// assert!(!danmu_wire::is_room_id(""));
/// ```
pub fn is_room_id(id: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = id.as_bytes();
    bytes.len() <= MAX_ROOM_ID
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
}
