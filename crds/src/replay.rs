//! Recording, replays and load shedding of a room: what was said, by its place in the video.

#![expect(unreachable_pub, reason = "KubeSchema copies each struct, with its pub, into a function")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::DanmuRoomSpec;

/// How viewers get what is said.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoomMode {
    /// At once, over their connection.
    #[default]
    Live,
    /// By asking for the part of the video that they watch.
    OnDemand,
}

/// How long and how much of what is said is kept.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Recording {
    /// A part of the video to which nothing was said for so many days is forgotten.
    #[serde(default = "thirty")]
    #[schemars(range(min = 1, max = 3650))]
    pub retention_days: u32,
    /// Over so many bytes the parts that nothing was said to for longest are forgotten.
    #[serde(default = "sixty_four_mib")]
    #[schemars(range(min = 1048576, max = 1099511627776_u64))]
    pub max_bytes: u64,
}

fn thirty() -> u32 {
    30
}

fn sixty_four_mib() -> u64 {
    64 << 20
}

impl Default for Recording {
    fn default() -> Self {
        Recording { retention_days: thirty(), max_bytes: sixty_four_mib() }
    }
}

/// When a room sheds load: over a number it shows less, over 1.5 times as much it writes less often, over
/// twice as much its viewers fetch what is recorded.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = kube::core::Rule::new("has(self.viewersAbove) || has(self.messagesPerSecondAbove)")
    .message("give viewersAbove, messagesPerSecondAbove or both"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shedding {
    /// Viewers of the room, on all its pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100000000))]
    pub viewers_above: Option<u32>,
    /// Messages said each second, shown or not, on all its pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000000))]
    pub messages_per_second_above: Option<u32>,
}

/// All of it, as a server needs to know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// How viewers get what is said.
    pub mode: RoomMode,
    /// Position 0 of the video, in milliseconds since 1970.
    pub started_ms: Option<i64>,
    /// What is kept; none: nothing.
    pub recording: Option<Recording>,
    /// When load is shed; none: never.
    pub shedding: Option<Shedding>,
}

impl Replay {
    /// What the room's manifest says. An OnDemand room keeps what is said also without `recording`.
    pub(crate) fn of(room: Option<&DanmuRoomSpec>) -> Replay {
        let Some(room) = room else { return Replay::default() };
        let kept = (room.mode == RoomMode::OnDemand).then(Recording::default);
        Replay {
            mode: room.mode,
            started_ms: room.started_at.map(|at| at.as_millisecond()),
            recording: room.recording.or(kept),
            shedding: room.shedding,
        }
    }
}
