//! What the text of a message says about itself: `<run>.<speaker>.<sequence>.<sent>`, then padding.
//!
//! `sent` is nanoseconds of the machine's monotonic clock, so latency needs no memory of what was sent.

use std::fmt::Write;

/// Letters that fill a text up to its size. Words, because a run of one letter would make
/// compression look better than it is.
const PADDING: &str = "what a goal well played gg that was close lets go no way he did it again encore \
    first time here greetings from the back row clap clap turn it up legendary so good take my money ";

/// Who sent which message when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The speaker's number; `None` is the publisher of priority messages, written `p`.
    pub(crate) speaker: Option<u32>,
    /// How many messages this speaker had sent before.
    pub(crate) sequence: u32,
    /// When, in nanoseconds of the monotonic clock.
    pub(crate) sent_ns: u64,
}

impl Stamp {
    /// The text of the message, padded to `bytes` (never cut).
    pub(crate) fn text(&self, run: &str, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes.max(64));
        text.push_str(run);
        // Writing to a String cannot fail.
        let _ = match self.speaker {
            Some(speaker) => write!(text, ".{speaker}.{}.{}", self.sequence, self.sent_ns),
            None => write!(text, ".p.{}.{}", self.sequence, self.sent_ns),
        };
        pad(&mut text, bytes, self.sequence as usize);
        text
    }

    /// The text of the message with `line` behind the stamp.
    pub(crate) fn line(&self, run: &str, line: &str) -> String {
        format!("{} {line}", self.text(run, 0))
    }

    /// Reads the stamp of a text; `None` when the text is not of this run.
    pub(crate) fn parse(run: &str, text: &str) -> Option<Stamp> {
        let stamp = text.split_ascii_whitespace().next()?.strip_prefix(run)?.strip_prefix('.')?;
        let mut parts = stamp.split('.');
        let speaker = match parts.next()? {
            "p" => None,
            number => Some(number.parse().ok()?),
        };
        let sequence = parts.next()?.parse().ok()?;
        let sent_ns = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some(Stamp { speaker, sequence, sent_ns })
    }
}

/// Fills `text` up to `bytes` with a blank and words, beginning at another place for each `turn`.
pub(crate) fn pad(text: &mut String, bytes: usize, turn: usize) {
    if text.len() < bytes {
        text.push(' ');
        let missing = bytes - text.len();
        text.extend(PADDING.chars().cycle().skip(turn * 7 % PADDING.len()).take(missing));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_its_text() {
        for stamp in [
            Stamp { speaker: Some(12), sequence: 3, sent_ns: 987_654_321 },
            Stamp { speaker: None, sequence: 0, sent_ns: u64::MAX },
        ] {
            let text = stamp.text("ab12", 90);
            assert_eq!(text.len(), 90, "{text}");
            assert_eq!(Stamp::parse("ab12", &text), Some(stamp));
        }
    }

    #[test]
    fn what_others_say_is_not_of_this_run() {
        for text in
            ["", "hello", "other.1.2.3", "ab12", "ab12.1.2", "ab12.1.2.3.4", "ab12.x.2.3", "ab123.1.2.3"]
        {
            assert_eq!(Stamp::parse("ab12", text), None, "{text}");
        }
    }
}
