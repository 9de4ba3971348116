//! What is taken out of a text before anything else looks at it.

use unicode_normalization::char::is_combining_mark;

/// Marks in a row that real writing needs (Vietnamese 2, vocalised Hebrew 3); more only smear the picture.
const MARKS_IN_A_ROW: usize = 3;
const ZERO_WIDTH_JOINER: char = '\u{200d}';
const EMOJI_STYLE: char = '\u{fe0f}';
const KEYCAP: char = '\u{20e3}';

/// The text as it may be shown: one line, no control characters, no direction overrides, nothing invisible
/// but the joiners inside of emoji, at most three combining marks in a row, no space at the ends.
/// Cleaning twice changes nothing.
pub fn clean(text: &str) -> String {
    let visible: Vec<char> = text
        .chars()
        .map(|c| if is_break(c) { ' ' } else { c })
        .filter(|c| !c.is_control() && !is_invisible(*c))
        .collect();
    let mut out = String::with_capacity(text.len());
    let (mut marks, mut last) = (0, ' ');
    for (i, &c) in visible.iter().enumerate() {
        let keep = match c {
            EMOJI_STYLE => takes_emoji_style(last),
            ZERO_WIDTH_JOINER => {
                (is_emoji(last) || last == EMOJI_STYLE) && visible.get(i + 1).is_some_and(|c| is_emoji(*c))
            }
            _ => true,
        };
        if !keep {
            continue;
        }
        marks = match c {
            EMOJI_STYLE | KEYCAP => marks,
            c if is_combining_mark(c) => marks + 1,
            _ => 0,
        };
        if marks <= MARKS_IN_A_ROW {
            out.push(c);
            last = c;
        }
    }
    let trimmed = out.trim();
    if trimmed.len() == out.len() { out } else { trimmed.to_owned() }
}

fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\t' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Format characters that show nothing, or turn the text around (CVE-2021-42574 "Trojan Source").
pub(super) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}' | '\u{200c}' | '\u{200e}' | '\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0e}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

fn is_emoji(c: char) -> bool {
    matches!(c, '\u{2190}'..='\u{21ff}' | '\u{2300}'..='\u{27bf}' | '\u{2900}'..='\u{297f}'
        | '\u{2b00}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}')
}

fn takes_emoji_style(c: char) -> bool {
    is_emoji(c)
        || matches!(c, '#' | '*' | '0'..='9' | '©' | '®' | '‼' | '⁉' | '™' | 'ℹ' | '〰' | '〽' | '㊗' | '㊙')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn controls_and_direction_overrides_are_gone_and_line_breaks_are_spaces() {
        assert_eq!(clean(" a\u{7}\u{202e}b\u{2066}c\u{200b}\r\nd\t"), "abc  d");
    }

    #[test]
    fn joiners_stay_inside_of_emoji_only() {
        let family = "👨\u{200d}👩\u{200d}👧 ❤\u{fe0f}\u{200d}🔥 1\u{fe0f}\u{20e3} 👍🏽";
        assert_eq!(clean(family), family);
        assert_eq!(clean("a\u{200d}b\u{fe0f}👨\u{200d}"), "ab👨");
    }

    #[test]
    fn stacked_marks_are_cut_to_three() {
        assert_eq!(clean(&format!("e{}x", "\u{301}".repeat(50))), format!("e{}x", "\u{301}".repeat(3)));
        assert_eq!(clean("tiếng Việt 弹幕 がぎ नमस्ते"), "tiếng Việt 弹幕 がぎ नमस्ते");
    }

    #[test]
    fn nothing_visible_leaves_nothing() {
        assert_eq!(clean("\u{200b}\u{3164} \u{2060}\n"), "");
    }

    proptest! {
        #[test]
        fn cleaning_twice_changes_nothing(text in "(\\PC|[\u{200d}\u{fe0f}\u{301}\u{20e3}👨❤1\n\u{202e} ]){0,40}") {
            let once = clean(&text);
            prop_assert_eq!(clean(&once), once);
        }
    }
}
