//! The words of the protocol, read off the types: what SDKs in other languages are checked against.

use std::fmt;

use serde::{Deserialize, de};

use crate::{Action, Event, Op};

/// Every `ev` of an event, in the order of the type.
pub fn event_names() -> &'static [&'static str] {
    names::<Event>("ev")
}

/// Every `op` of an operation.
pub fn op_names() -> &'static [&'static str] {
    names::<Op>("op")
}

/// Every `do` of what a moderator does.
pub fn action_names() -> &'static [&'static str] {
    names::<Action>("do")
}

/// Serde tells all tags of an enum to whoever offers one that is none of them.
fn names<'de, T: Deserialize<'de>>(tag: &'static str) -> &'static [&'static str] {
    let none = de::value::MapDeserializer::<_, Names>::new([(tag, "")].into_iter());
    T::deserialize(none).err().map_or(&[], |Names(names)| names)
}

#[derive(Debug)]
struct Names(&'static [&'static str]);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

impl std::error::Error for Names {}

impl de::Error for Names {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Names(&[])
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Names(expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_on_the_wire() {
        assert_eq!(event_names().first(), Some(&"chat"));
        assert_eq!(event_names().last(), Some(&"pong"));
        assert!(op_names().contains(&"moderate") && action_names().contains(&"reset_slow_mode"));
    }
}
