//! The one table of close codes and refusal codes. The README's protocol chapter is tested against it.
//!
//! Close codes are ours from 4000 up (private use by RFC 6455 §7.4.2): 4000–4499 mean "come back",
//! 4500–4999 mean "do not". A client needs to know no more than that range.

use serde::{Deserialize, Serialize};

macro_rules! close_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $reason:literal;)*) => {
        /// Why the server ended a connection.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum CloseCode { $($(#[$doc])* $name,)* }

        impl CloseCode {
            /// Every code, in the order of the table.
            pub const ALL: &'static [CloseCode] = &[$(CloseCode::$name,)*];

            /// The number in the close frame.
            pub const fn code(self) -> u16 { match self { $(CloseCode::$name => $code,)* } }

            /// The reason in the close frame, for people; at most 123 bytes (RFC 6455 §5.5).
            pub const fn reason(self) -> &'static str { match self { $(CloseCode::$name => $reason,)* } }
        }
    };
}

close_codes! {
    /// The viewer went; nothing is wrong.
    Normal = 1000, "bye";
    /// The process ends at once (second signal); [`CloseCode::Drain`] is the polite form.
    GoingAway = 1001, "the server is going away";
    /// A frame broke RFC 6455: no mask, reserved bits, an unknown opcode, a fragmented control frame.
    Protocol = 1002, "the frame breaks the WebSocket protocol";
    /// A text frame was not UTF-8.
    NotUtf8 = 1007, "text must be UTF-8";
    /// A message was longer than the server takes.
    TooBig = 1009, "the message is too long";
    /// This server is being emptied; another one has room.
    Drain = 4001, "this server is being drained: reconnect";
    /// The token's `exp` has passed; come back with a fresh one (or renew in place with `op: token`).
    TokenExpired = 4005, "the token has expired: reconnect with a fresh one";
    /// The viewer reads more slowly than the priority lane fills.
    TooSlow = 4008, "reading too slowly: reconnect";
    /// Nothing was heard from the viewer for too long.
    Idle = 4010, "no answer to pings: reconnect";
    /// The server has no room for another viewer just now.
    TooBusy = 4013, "too busy: reconnect later";
    /// A moderator or a publisher's system disconnected the user.
    Disconnected = 4014, "disconnected by a moderator";
    /// The request makes no sense, for example a room id out of grammar.
    BadRequest = 4501, "bad request";
    /// The user or the network is banned.
    Banned = 4503, "banned";
    /// The token is malformed, badly signed, or of an algorithm that is not accepted.
    TokenInvalid = 4504, "the token is not valid";
    /// The token does not name this room, or anonymous viewers are denied.
    NotAllowed = 4507, "not allowed in this room";
    /// The room does not exist here and unlisted rooms are refused.
    NoSuchRoom = 4510, "no such room";
    /// More frames a second than any viewer needs to send.
    Flooding = 4513, "too many frames";
    /// No `join` within the lobby's limit.
    LobbyTimeout = 4514, "no room was joined in time";
}

impl CloseCode {
    /// The code of a close frame, if it is one of ours.
    pub fn from_code(code: u16) -> Option<CloseCode> {
        CloseCode::ALL.iter().copied().find(|known| known.code() == code)
    }

    /// Whether a client should come back (with full jitter) after this code.
    pub const fn reconnect(self) -> bool {
        let code = self.code();
        code != 1000
            && code < 4500
            && !matches!(self, CloseCode::Protocol | CloseCode::NotUtf8 | CloseCode::TooBig)
    }
}

macro_rules! refusal_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// Why something a viewer said was not shown.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum RefusalCode { $($(#[$doc])* #[serde(rename = $code)] $name,)* }

        impl RefusalCode {
            /// Every code, in the order of the table.
            pub const ALL: &'static [RefusalCode] = &[$(RefusalCode::$name,)*];

            /// The code on the wire and in the metrics' `code` label.
            pub const fn code(self) -> &'static str { match self { $(RefusalCode::$name => $code,)* } }

            /// The same in words, for people.
            pub const fn text(self) -> &'static str { match self { $(RefusalCode::$name => $text,)* } }
        }
    };
}

refusal_codes! {
    /// Not JSON, not an operation we know, or a field of the wrong kind.
    BadRequest = "bad_request", "that could not be understood";
    /// `say` outside of any room.
    NotInRoom = "not_in_room", "join a room first";
    /// Anonymous viewers may only watch here.
    SignIn = "sign_in", "sign in to write here";
    /// The token's role only watches.
    WatchOnly = "watch_only", "you may only watch here";
    /// The user or the network is banned.
    Banned = "banned", "you are banned here";
    /// The user or the network is muted.
    Muted = "muted", "you are muted here";
    /// Slow mode: one message per user in so many seconds.
    SlowMode = "slow_mode", "slow mode is on: wait a little";
    /// The user's own limit over all connections.
    UserRate = "user_rate", "you write too fast";
    /// This connection's limit.
    ConnectionRate = "connection_rate", "too many messages on this connection";
    /// The limit of the network address.
    AddressRate = "address_rate", "too many messages from your network";
    /// Nothing is left of the text once invisible characters are gone.
    Empty = "empty", "there is nothing to show";
    /// Longer than the room's `maxLength`.
    TooLong = "too_long", "that is too long for this room";
    /// The text has a word this room blocks.
    BlockedWord = "blocked_word", "that has a word which is not allowed here";
    /// Mode, colour or size are not for this role.
    Style = "style", "that style is not for you";
    /// The room cannot take it now; try again.
    Busy = "busy", "the room is too busy: try again";
    /// A replay is written to at a position of its video, and this is none.
    Position = "position", "that is no position of this video";
    /// A token offered by `op: token` was not valid; the old one stays in force.
    TokenInvalid = "token_invalid", "the token is not valid";
    /// A held message was turned away, or nobody looked at it in time.
    Rejected = "rejected", "your message was not let through";
    /// `moderate` by somebody who is no moderator.
    NotModerator = "not_moderator", "only moderators may do that";
    /// There is nothing to take back, or somebody else was faster.
    NotFound = "not_found", "there was none";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_close_code_is_unique_and_its_reason_fits_a_close_frame() {
        let codes: HashSet<u16> = CloseCode::ALL.iter().map(|c| c.code()).collect();
        assert_eq!(codes.len(), CloseCode::ALL.len());
        for code in CloseCode::ALL {
            assert!(code.reason().len() <= 123, "{code:?}");
        }
    }

    #[test]
    fn the_range_of_a_code_says_whether_to_come_back() {
        for code in CloseCode::ALL.iter().filter(|c| c.code() >= 4000) {
            assert_eq!(code.reconnect(), code.code() < 4500, "{code:?}");
        }
        assert!(CloseCode::GoingAway.reconnect());
        assert!(!CloseCode::Normal.reconnect());
        assert!(!CloseCode::Protocol.reconnect());
    }

    #[test]
    fn refusal_codes_are_written_as_the_table_says() {
        for code in RefusalCode::ALL {
            assert_eq!(serde_json::to_string(code).unwrap(), format!("\"{}\"", code.code()));
        }
    }
}
