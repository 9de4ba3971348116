//! Names in Redis. All of a room share one hash tag, so that one script can touch them on a cluster.

/// The names of one fleet.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    fleet: String,
}

impl Keys {
    /// Names of the fleet `namespace/name`.
    pub(super) fn new(fleet: &str) -> Keys {
        Keys { fleet: fleet.to_owned() }
    }

    fn prefix(&self) -> String {
        format!("danmu:{{{}/", self.fleet)
    }

    /// Hash: the epoch `e`, the run id `r` of the primary that began it, the highest offset `o`.
    pub(super) fn meta(&self, room: &str) -> String {
        format!("{}{room}}}:meta", self.prefix())
    }

    /// Stream: the newest priority events; an entry's id is its offset.
    pub(super) fn log(&self, room: &str) -> String {
        format!("{}{room}}}:log", self.prefix())
    }

    /// Hash: mutes and bans with their ends, and `version`, which counts changes.
    pub(super) fn moderation(&self, room: &str) -> String {
        format!("{}{room}}}:moderation", self.prefix())
    }

    /// Hash: what was published under an idempotency key.
    pub(super) fn once(&self, room: &str, key: &str) -> String {
        format!("{}{room}}}:once:{key}", self.prefix())
    }

    /// Number: what the user has given of the gift so far in this combo.
    pub(super) fn combo(&self, room: &str, user: &str, gift: &str) -> String {
        format!("{}{room}}}:combo:{gift}:{user}", self.prefix())
    }

    /// Hash: messages that wait for a moderator, by id, each behind the time since which.
    pub(super) fn held(&self, room: &str) -> String {
        format!("{}{room}}}:held", self.prefix())
    }

    /// Stream: what moderators did.
    pub(super) fn audit(&self, room: &str) -> String {
        format!("{}{room}}}:audit", self.prefix())
    }

    /// Hash: which call of which pod is the one to do `what`.
    pub(super) fn claim(&self, room: &str, what: &str) -> String {
        format!("{}{room}}}:claim:{what}", self.prefix())
    }

    /// The room's pub/sub channel.
    pub(super) fn channel(&self, room: &str) -> String {
        format!("{}{room}}}:live", self.prefix())
    }

    /// A pub/sub channel: the room's own, or that of a sub-room.
    pub(super) fn channel_of(&self, room: &str, sub: Option<u32>) -> String {
        let channel = self.channel(room);
        sub.map_or_else(|| channel.clone(), |sub| format!("{channel}:{sub}"))
    }

    /// The room of a channel, and the sub-room if it is that of one.
    pub(super) fn room<'a>(&self, channel: &'a str) -> Option<(&'a str, Option<u32>)> {
        let (room, rest) = channel.strip_prefix(&self.prefix())?.split_once("}:live")?;
        let sub = match rest.strip_prefix(':') {
            Some(number) => Some(number.parse().ok()?),
            None if rest.is_empty() => None,
            None => return None,
        };
        danmu_wire::is_room_id(room).then_some((room, sub))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_leads_back_to_its_room_and_to_no_other() {
        let keys = Keys::new("local/default");
        assert_eq!(keys.channel("a"), "danmu:{local/default/a}:live");
        assert_eq!(keys.channel_of("a", Some(7)), "danmu:{local/default/a}:live:7");
        for sub in [None, Some(0), Some(63)] {
            assert_eq!(keys.room(&keys.channel_of("worlds-final", sub)), Some(("worlds-final", sub)));
        }
        for other in [
            "danmu:{local/other/a}:live",
            "danmu:{local/default/a}:log",
            "danmu:{local/default/}:live",
            "",
            "danmu:{local/default/a}:live:",
            "danmu:{local/default/a}:live:x",
            "danmu:{local/default/a}:lively",
        ] {
            assert_eq!(keys.room(other), None, "{other}");
        }
    }
}
