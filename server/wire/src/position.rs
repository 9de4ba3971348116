//! Where a viewer is in a room's priority lane.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A place in a room's priority lane: events up to and including `offset` of `epoch` were seen.
///
/// Written `<epoch>.<offset>`. Offsets start at 1 and grow by one; an epoch is a run of offsets
/// without a break (a new one begins when the log behind it is lost).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// `[0-9A-Za-z]{1,32}`.
    pub epoch: String,
    /// 0 before the first event.
    pub offset: u64,
}

/// A position that is not `<epoch>.<offset>`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a position is written <epoch>.<offset>, for example 01KAQ.42")]
pub struct BadPosition;

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let (epoch, offset) = text.split_once('.').ok_or(BadPosition)?;
        let epoch_fits = (1..=32).contains(&epoch.len()) && epoch.bytes().all(|b| b.is_ascii_alphanumeric());
        let offset_fits = (1..=20).contains(&offset.len()) && offset.bytes().all(|b| b.is_ascii_digit());
        if !epoch_fits || !offset_fits {
            return Err(BadPosition);
        }
        Ok(Position { epoch: epoch.to_owned(), offset: offset.parse().map_err(|_| BadPosition)? })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_the_trip() {
        let position: Position = "01KAQ3.42".parse().unwrap();
        assert_eq!(position, Position { epoch: "01KAQ3".into(), offset: 42 });
        assert_eq!(position.to_string(), "01KAQ3.42");
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in ["", ".", "a.", ".1", "a.-1", "a.1.2", "a b.1", "a.99999999999999999999", "é.1"] {
            assert_eq!(bad.parse::<Position>(), Err(BadPosition), "{bad}");
        }
    }
}
