//! A room's policy: its own settings over its fleet's defaults over the built-in ones.

use ipnet::IpNet;

use crate::{Anonymous, DanmuFleetSpec, DanmuRoomSpec, Kinds, Limits, Moderation, Replay, WordSource, Words};

/// The most sub-rooms of a room.
pub const MAX_SUB_ROOMS: u32 = 64;

/// Everything a server needs to know to run one room, with nothing left to default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomPolicy {
    /// Danmu shown each second to everyone in the room.
    pub messages_per_second: u32,
    /// Messages one viewer may send in `per_viewer_seconds`.
    pub per_viewer_messages: u32,
    /// The time `per_viewer_messages` is counted over, in seconds.
    pub per_viewer_seconds: u32,
    /// The longest danmu, in characters.
    pub max_length: u32,
    /// How many of the latest danmu a viewer sees on joining.
    pub history: u32,
    /// What a viewer without a token may do.
    pub anonymous: Anonymous,
    /// The least time between two danmu of one viewer, in seconds; 0 is off.
    pub slow_mode_seconds: u32,
    /// Users who may not enter.
    pub banned_users: Vec<String>,
    /// Users who may watch but not speak.
    pub muted_users: Vec<String>,
    /// Networks whose viewers may not enter.
    pub banned_networks: Vec<IpNet>,
    /// Words that stop a danmu.
    pub block: Vec<String>,
    /// Words that are shown as asterisks.
    pub mask: Vec<String>,
    /// Words with which a danmu waits for a moderator.
    pub hold: Vec<String>,
    /// Longer lists, to be read from elsewhere.
    pub words_from: Vec<WordSource>,
    /// The longest pause in a combo of gifts, in milliseconds; 0 is off.
    pub combo_milliseconds: u32,
    /// Under so many viewers it is told who comes in.
    pub enter_below: u32,
    /// Into how many audiences chat splits; 1 is undivided.
    pub sub_rooms: u32,
    /// Recording, replays and load shedding.
    pub replay: Replay,
}

impl Default for RoomPolicy {
    fn default() -> Self {
        policy(None, None)
    }
}

/// The policy of a room: for each field the room's value, else its fleet's default, else the built-in one.
/// Lists are joined, the fleet's first, without repeats. A network that is not one is left out; neither
/// the API server nor [`parse_manifests`](crate::parse_manifests) lets one through.
pub fn policy(fleet: Option<&DanmuFleetSpec>, room: Option<&DanmuRoomSpec>) -> RoomPolicy {
    let defaults = fleet.and_then(|fleet| fleet.defaults.as_ref());
    let limits = [room.and_then(|r| r.limits.as_ref()), defaults.and_then(|d| d.limits.as_ref())];
    let moderation = [room.and_then(|r| r.moderation.as_ref()), defaults.and_then(|d| d.moderation.as_ref())];
    let kinds = [room.and_then(|r| r.kinds.as_ref()), defaults.and_then(|d| d.kinds.as_ref())];
    let sources =
        moderation.map(|m| m.and_then(|m| m.words.as_ref()).map_or(&[][..], |words| &words.from[..]));
    let (per_viewer_messages, per_viewer_seconds) =
        first(limits, |l: &Limits| l.per_viewer).map_or((3, 5), |p| (p.messages, p.seconds));
    let words = |list: fn(&Words) -> &[String]| {
        joined(moderation.map(|m| m.and_then(|m| m.words.as_ref()).map_or(&[][..], list)))
    };
    let lists = |list: fn(&Moderation) -> &[String]| {
        joined(moderation.map(|m: Option<&Moderation>| m.map_or(&[][..], list)))
    };
    RoomPolicy {
        messages_per_second: first(limits, |l| l.messages_per_second).unwrap_or(20),
        per_viewer_messages,
        per_viewer_seconds,
        max_length: first(limits, |l| l.max_length).unwrap_or(100),
        history: first(limits, |l| l.history).unwrap_or(50),
        anonymous: first(moderation, |m| m.anonymous).unwrap_or_default(),
        slow_mode_seconds: first(moderation, |m| m.slow_mode_seconds).unwrap_or(0),
        banned_users: lists(|m| &m.banned_users),
        muted_users: lists(|m| &m.muted_users),
        banned_networks: lists(|m| &m.banned_networks).iter().filter_map(|n| n.parse().ok()).collect(),
        block: words(|w| &w.block),
        mask: words(|w| &w.mask),
        hold: words(|w| &w.hold),
        words_from: joined_sources(sources),
        combo_milliseconds: first(kinds, |k: &Kinds| k.combo_milliseconds).unwrap_or(3000),
        enter_below: first(kinds, |k| k.enter_below).unwrap_or(0),
        sub_rooms: room.map_or(1, |room| room.sub_rooms.clamp(1, MAX_SUB_ROOMS)),
        replay: Replay::of(room),
    }
}

/// The first value given, the room's before the fleet's.
fn first<S, T>(room_then_fleet: [Option<&S>; 2], field: impl Fn(&S) -> Option<T>) -> Option<T> {
    room_then_fleet.into_iter().flatten().find_map(field)
}

fn joined([room, fleet]: [&[String]; 2]) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    fleet.iter().chain(room).filter(|entry| seen.insert(entry.as_str())).cloned().collect()
}

fn joined_sources([room, fleet]: [&[WordSource]; 2]) -> Vec<WordSource> {
    let mut seen = std::collections::HashSet::new();
    fleet.iter().chain(room).filter(|source| seen.insert(*source)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Defaults, PerViewer};

    fn moderation(anonymous: Option<Anonymous>, banned: &[&str], masked: &[&str]) -> Moderation {
        let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        Moderation {
            anonymous,
            banned_users: strings(banned),
            words: Some(Words { mask: strings(masked), ..Words::default() }),
            ..Moderation::default()
        }
    }

    #[test]
    fn a_room_without_settings_has_the_built_in_policy() {
        let policy = policy(None, None);
        assert_eq!((policy.messages_per_second, policy.max_length, policy.history), (20, 100, 50));
        assert_eq!((policy.per_viewer_messages, policy.per_viewer_seconds), (3, 5));
        assert_eq!((policy.anonymous, policy.slow_mode_seconds), (Anonymous::Watch, 0));
    }

    #[test]
    fn the_rooms_field_wins_over_the_fleets_and_the_fleets_over_the_built_in() {
        let fleet = DanmuFleetSpec {
            defaults: Some(Defaults {
                limits: Some(Limits {
                    max_length: Some(40),
                    history: Some(10),
                    per_viewer: Some(PerViewer { messages: 1, seconds: 9 }),
                    ..Limits::default()
                }),
                moderation: Some(moderation(Some(Anonymous::Deny), &["eve", "mallory"], &["spoiler"])),
                kinds: Some(Kinds { combo_milliseconds: Some(0), enter_below: Some(500) }),
            }),
            ..DanmuFleetSpec::default()
        };
        let room = DanmuRoomSpec {
            limits: Some(Limits { history: Some(0), ..Limits::default() }),
            moderation: Some(moderation(Some(Anonymous::Speak), &["trudy", "eve"], &["secret"])),
            ..DanmuRoomSpec::default()
        };
        let room = DanmuRoomSpec { kinds: Some(Kinds { enter_below: Some(9), ..Kinds::default() }), ..room };
        let policy = policy(Some(&fleet), Some(&room));
        assert_eq!((policy.combo_milliseconds, policy.enter_below), (0, 9));
        assert_eq!((policy.history, policy.max_length, policy.messages_per_second), (0, 40, 20));
        assert_eq!((policy.per_viewer_messages, policy.per_viewer_seconds), (1, 9));
        assert_eq!(policy.anonymous, Anonymous::Speak);
        assert_eq!(policy.banned_users, ["eve", "mallory", "trudy"], "lists are joined without repeats");
        assert_eq!(policy.mask, ["spoiler", "secret"]);
    }
}
