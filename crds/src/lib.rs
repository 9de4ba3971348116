//! The API types of `danmu.live/v1alpha1`: what a room and a fleet may ask for, how the two make up a
//! room's policy, and how a file of manifests is read. No I/O and no clock.

mod fleet;
mod kinds;
mod manifest;
mod pods;
mod policy;
mod replay;
mod room;
mod route;
mod schema;
mod status;
mod words;

pub use fleet::{DanmuFleet, DanmuFleetSpec, Defaults, ServerSettings, UnlistedRooms};
pub use kinds::Kinds;
pub use manifest::{MAX_MANIFEST_BYTES, Manifest, is_origin, is_room_id, parse_manifests};
pub use pods::{Auth, PodSettings, Redis, Replicas, SecretEntry, SecretName};
pub use policy::{MAX_SUB_ROOMS, RoomPolicy, policy};
pub use replay::{Recording, Replay, RoomMode, Shedding};
pub use room::{Anonymous, DanmuRoom, DanmuRoomSpec, Limits, Moderation, PerViewer, Window};
pub use route::{GatewayRoute, IngressRoute, Route};
pub use status::{FleetStatus, PlacedShare, RoomStatus};
pub use words::{WordList, WordSource, Words};
