//! Viewer → server: every text message is one operation.

use serde::{Deserialize, Serialize};

use crate::{Action, Position, event::Style};

/// Longest `ref` in bytes: it is echoed, so it is bounded.
pub(crate) const MAX_REFERENCE: usize = 64;

/// What a viewer asks for. The tag is `op`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// Say something in the room.
    Say(Say),
    /// Enter a room, or change to another one on the same connection.
    Join(Join),
    /// Renew the token in place.
    Token {
        /// The new token.
        token: String,
    },
    /// Keep order in the room: for moderators.
    Moderate(Moderate),
    /// For clients that cannot send WebSocket pings (browsers); answered by `pong`.
    Ping {},
}

/// Say something in the room.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Say {
    /// Plain text.
    pub text: String,
    /// The client's own mark, echoed in `ack` and `refused`.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Where in the video, in milliseconds from its beginning; counts only where chat is fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// How it should look.
    #[serde(flatten)]
    pub style: Style,
}

/// Keep order in the room.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moderate {
    /// The client's own mark, echoed in `done` and `refused`.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// What to do.
    #[serde(flatten)]
    pub action: Action,
}

/// Enter a room.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Join {
    /// The room's id.
    pub room: String,
    /// `<epoch>.<offset>` seen before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The sub-room, by number: that of a friend, or the one that `joined` told. One that the room does not have counts as
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<u32>,
}

/// A message that is no operation.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOp {
    /// Not JSON, an unknown `op`, or a field of the wrong kind.
    #[error("not an operation of danmu.v1: {0}")]
    Unreadable(String),
    /// `ref` is longer than 64 bytes.
    #[error("`ref` is longer than {MAX_REFERENCE} bytes")]
    LongReference,
    /// A field of `moderate` is out of bounds.
    #[error("{0}")]
    Action(&'static str),
    /// `color` is not `#rrggbb`.
    #[error("`color` is written #rrggbb")]
    Color,
}

impl Op {
    /// Reads one operation.
    ///
    /// # Errors
    /// [`BadOp`] for anything else; the text in it is safe to show and bounded.
    pub fn parse(text: &str) -> Result<Op, BadOp> {
        let op: Op = serde_json::from_str(text).map_err(|error| {
            // serde_json quotes what it met; a hostile message must not come back whole.
            BadOp::Unreadable(error.to_string().chars().filter(|c| !c.is_control()).take(120).collect())
        })?;
        if let Op::Say(say) = &op {
            if say.reference.as_ref().is_some_and(|r| r.len() > MAX_REFERENCE) {
                return Err(BadOp::LongReference);
            }
            if say.style.color.as_ref().is_some_and(|c| !is_color(c)) {
                return Err(BadOp::Color);
            }
        }
        if let Op::Moderate(Moderate { reference, action }) = &op {
            if reference.as_ref().is_some_and(|r| r.len() > MAX_REFERENCE) {
                return Err(BadOp::LongReference);
            }
            action.check().map_err(BadOp::Action)?;
        }
        Ok(op)
    }
}

impl Join {
    /// The position in `since`; one that cannot be read counts as none: the viewer then learns
    /// `recovered: false` instead of being turned away.
    pub fn position(&self) -> Option<Position> {
        self.since.as_ref().and_then(|s| s.parse().ok())
    }
}

fn is_color(text: &str) -> bool {
    text.len() == 7
        && text.starts_with('#')
        && text.bytes().skip(1).all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Placing;

    #[test]
    fn the_operations_of_viewers_are_read() {
        let say =
            Op::parse(r##"{"op":"say","text":"hi","ref":"1","mode":"top","color":"#ff00aa"}"##).unwrap();
        let Op::Say(say) = say else { panic!("{say:?}") };
        assert_eq!(
            (say.text.as_str(), say.reference.as_deref(), say.style.mode),
            ("hi", Some("1"), Placing::Top)
        );
        assert_eq!(Op::parse(r#"{"op":"ping"}"#).unwrap(), Op::Ping {});
        assert_eq!(Op::parse(r#"{"op":"token","token":"x"}"#).unwrap(), Op::Token { token: "x".into() });
        let Op::Join(join) = Op::parse(r#"{"op":"join","room":"a","since":"E.4"}"#).unwrap() else {
            panic!()
        };
        assert_eq!(join.position(), Some("E.4".parse().unwrap()));
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for op in [
            r##"{"op":"say","text":"hi","ref":"1","at":7,"mode":"top","color":"#ff00aa","size":"large"}"##,
            r#"{"op":"say","text":"hi"}"#,
            r#"{"op":"join","room":"a"}"#,
            r#"{"op":"join","room":"a","since":"E.4"}"#,
            r#"{"op":"moderate","ref":"7","do":"mute","user":"u1","seconds":60}"#,
            r#"{"op":"token","token":"x"}"#,
            r#"{"op":"ping"}"#,
        ] {
            assert_eq!(serde_json::to_string(&Op::parse(op).unwrap()).unwrap(), op);
        }
    }

    #[test]
    fn what_a_moderator_does_is_read_and_bounded() {
        let read = |fields: &str| Op::parse(&format!(r#"{{"op":"moderate",{fields}}}"#));
        let Ok(Op::Moderate(mute)) = read(r#""do":"mute","user":"u1","seconds":60,"ref":"7""#) else {
            panic!()
        };
        assert_eq!(mute.reference.as_deref(), Some("7"));
        assert_eq!(mute.action, Action::Mute { user: "u1".into(), seconds: Some(60) });
        for good in [
            r#""do":"clear""#,
            r#""do":"held""#,
            r#""do":"show","id":"A""#,
            r#""do":"remove","ids":["A"]"#,
            r#""do":"slow_mode","seconds":0"#,
            r#""do":"reset_slow_mode""#,
        ] {
            assert!(read(good).is_ok(), "{good}");
        }
        let long = format!(r#""do":"remove","ids":["{}"]"#, "x".repeat(65));
        for bad in [
            r#""do":"fly""#,
            r#""do":"mute""#,
            r#""do":"mute","user":"""#,
            r#""do":"mute","user":"a","seconds":0"#,
            r#""do":"remove""#,
            r#""do":"slow_mode","seconds":86401"#,
            r#""do":"show","id":"""#,
            &long,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unreadable_position_is_no_position() {
        let join = Join { room: "a".into(), since: Some("nonsense".into()), sub: None };
        assert_eq!(join.position(), None);
    }

    #[test]
    fn a_sub_room_is_a_number_and_nothing_else() {
        let join = |sub: &str| Op::parse(&format!(r#"{{"op":"join","room":"a","sub":{sub}}}"#));
        let Ok(Op::Join(joined)) = join("7") else { panic!() };
        assert_eq!(joined.sub, Some(7));
        for bad in ["-1", "1.5", "\"7\"", "4294967296", "[]", "true"] {
            assert!(matches!(join(bad), Err(BadOp::Unreadable(_))), "{bad}");
        }
    }

    #[test]
    fn everything_else_is_refused_without_echoing_it_whole() {
        let long = format!(r#"{{"op":"{}"}}"#, "x".repeat(4000));
        for bad in
            ["", "null", "[]", "{}", r#"{"op":"fly"}"#, r#"{"op":"say"}"#, r#"{"op":"say","text":1}"#, &long]
        {
            let Err(BadOp::Unreadable(told)) = Op::parse(bad) else { panic!("{bad}") };
            assert!(told.len() <= 480);
        }
        assert_eq!(Op::parse(r#"{"op":"say","text":"x","color":"red"}"#), Err(BadOp::Color));
        let long_reference = format!(r#"{{"op":"say","text":"x","ref":"{}"}}"#, "r".repeat(65));
        assert_eq!(Op::parse(&long_reference), Err(BadOp::LongReference));
    }

    #[test]
    fn a_position_in_the_video_is_a_number_of_milliseconds_and_nothing_else() {
        let say = |at: &str| Op::parse(&format!(r#"{{"op":"say","text":"x","at":{at}}}"#));
        let Ok(Op::Say(said)) = say("61500") else { panic!() };
        assert_eq!(said.at, Some(61_500));
        for bad in ["-1", "1.5", "NaN", "1e400", "\"7\"", "18446744073709551616", "[]", "true"] {
            assert!(matches!(say(bad), Err(BadOp::Unreadable(_))), "{bad}");
        }
    }

    #[test]
    fn json_nested_without_end_is_refused() {
        let nested = format!(r#"{{"op":"say","text":{}"#, "[".repeat(4000));
        assert!(matches!(Op::parse(&nested), Err(BadOp::Unreadable(_))));
    }
}
