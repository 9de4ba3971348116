//! Word lists, matched on folded text so that width, case, accents and traditional characters hide nothing.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use ferrous_opencc::OpenCC;
use ferrous_opencc::config::BuiltinConfig;
use unicode_normalization::UnicodeNormalization;

use super::text::is_invisible;

/// Builds the table that words are folded with: tens of milliseconds, once.
pub fn prepare() {
    LazyLock::force(&SIMPLIFIED);
}

/// A compiled list of words. Words of ASCII letters match as whole words ("ass" is not in "class"),
/// all others anywhere.
#[derive(Debug, Default)]
pub struct Words {
    automaton: Option<AhoCorasick>,
    /// As they were given, for who asks why; in the automaton's order.
    given: Vec<Box<str>>,
}

impl Words {
    /// Compiles the list; words of which nothing is left when folded are ignored. A long list takes long:
    /// not for a thread that others wait for.
    pub fn compile<S: AsRef<str>>(words: &[S]) -> Self {
        // Now, and not while the first message that needs the table waits.
        if !words.is_empty() {
            prepare();
        }
        let folded = words.iter().map(|word| word.as_ref().trim()).map(|word| (word, Folded::new(word).text));
        let (given, folded): (Vec<Box<str>>, Vec<String>) = folded
            .filter(|(_, folded)| !folded.is_empty())
            .map(|(word, folded)| (word.into(), folded))
            .unzip();
        // Building fails only past 2^31 states: gigabytes of words, which no manifest can carry.
        let automaton = if folded.is_empty() { None } else { AhoCorasick::new(&folded).ok() };
        Self { automaton, given }
    }

    /// Whether there is no word in it.
    pub fn is_empty(&self) -> bool {
        self.automaton.is_none()
    }

    /// Whether the text has one of the words.
    #[cfg(test)]
    fn found_in(&self, text: &str) -> bool {
        self.found_in_folded(&Folded::new(text))
    }

    /// Whether the text has one of the words.
    pub(super) fn found_in_folded(&self, folded: &Folded) -> bool {
        self.automaton.as_ref().is_some_and(|automaton| matches(automaton, &folded.text).next().is_some())
    }

    /// The words of the list that the text has, as they were given.
    pub(super) fn all_in(&self, folded: &Folded) -> Vec<&str> {
        let Some(automaton) = &self.automaton else { return Vec::new() };
        let mut found: Vec<usize> = matches(automaton, &folded.text).map(|(word, _)| word).collect();
        found.sort_unstable();
        found.dedup();
        found.into_iter().filter_map(|word| self.given.get(word)).map(|word| &**word).collect()
    }

    #[cfg(test)]
    fn mask(&self, text: &str) -> String {
        mask(&[self], &Folded::new(text), text)
    }
}

/// The text with a `*` for each character of each word found. `folded` is the text's.
pub(super) fn mask<W: std::borrow::Borrow<Words>>(lists: &[W], folded: &Folded, text: &str) -> String {
    let mut hidden: Vec<bool> = Vec::new();
    for automaton in lists.iter().filter_map(|words| words.borrow().automaton.as_ref()) {
        for (_, found) in matches(automaton, &folded.text) {
            hidden.resize(folded.characters, false);
            for &character in &folded.character[found] {
                hidden[character] = true;
            }
        }
    }
    if hidden.is_empty() {
        return text.to_owned();
    }
    let mut after = false;
    let masked = text.chars().enumerate().filter_map(|(i, c)| {
        // Accents go with the letter they stand on: none may hang on a star.
        let bare = is_stripped(c);
        after = if bare { after } else { hidden[i] };
        match (after, bare) {
            (true, true) => None,
            (true, false) => Some('*'),
            (false, _) => Some(c),
        }
    });
    masked.collect()
}

/// Every match that stands as a word, overlapping ones too: a longer match that fails at its boundary
/// must not hide a shorter one.
fn matches<'a>(
    automaton: &'a AhoCorasick,
    text: &'a str,
) -> impl Iterator<Item = (usize, Range<usize>)> + 'a {
    let bytes = text.as_bytes();
    let is_letter = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphanumeric);
    let all = automaton.find_overlapping_iter(text).map(|found| (found.pattern().as_usize(), found.range()));
    all.filter(move |(_, found)| {
        let runs_on_before = found.start > 0 && is_letter(found.start - 1) && is_letter(found.start);
        let runs_on_after = found.end > 0 && is_letter(found.end - 1) && is_letter(found.end);
        !runs_on_before && !runs_on_after
    })
}

/// A text folded for comparison, and where each of its bytes came from.
pub(super) struct Folded {
    text: String,
    /// For each byte of `text`, the index of the raw character it stems from.
    character: Vec<usize>,
    /// Raw characters in all.
    characters: usize,
}

impl Folded {
    pub(super) fn new(raw: &str) -> Self {
        let mut folded = Self { text: String::new(), character: Vec::new(), characters: 0 };
        for c in raw.chars() {
            if !is_stripped(c) {
                for c in std::iter::once(c).nfkc().flat_map(char::to_lowercase) {
                    folded.push(c);
                }
            }
            folded.characters += 1;
        }
        folded
    }

    fn push(&mut self, c: char) {
        // Only alphabets in which an accent is decoration: a taken-apart がor 가 is another letter.
        let base = if matches!(c, '\u{c0}'..='\u{52f}' | '\u{1e00}'..='\u{1fff}') {
            std::iter::once(c).nfd().find(|c| !is_stripped(*c)).unwrap_or(c)
        } else {
            simplified(c)
        };
        if !is_stripped(base) {
            self.text.push(base);
            self.character.resize(self.text.len(), self.characters);
        }
    }
}

/// Characters that fold to nothing: invisible ones, joiners and accents.
fn is_stripped(c: char) -> bool {
    is_invisible(c)
        || matches!(c, '\u{200d}' | '\u{fe0f}' | '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}'
            | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

/// Traditional characters that have a simplified form, with it.
static SIMPLIFIED: LazyLock<HashMap<char, char>> = LazyLock::new(|| {
    // The dictionary is compiled into the crate; without it the lists still match what they spell.
    let Ok(converter) = OpenCC::from_config(BuiltinConfig::T2s) else { return HashMap::new() };
    let ideographs = ('\u{3400}'..='\u{9fff}').chain('\u{20000}'..='\u{2ffff}');
    let pairs = ideographs.filter_map(|c| {
        let simple = converter.convert(c.encode_utf8(&mut [0; 4])).chars().next()?;
        (simple != c).then_some((c, simple))
    });
    pairs.collect()
});

/// The simplified form of a traditional character. One by one, not by phrases: that keeps the way back
/// to the raw text exact, and both sides of the comparison are folded alike.
fn simplified(c: char) -> char {
    if c < '\u{3400}' { c } else { SIMPLIFIED.get(&c).copied().unwrap_or(c) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ascii_words_match_whole_words_only() {
        let words = Words::compile(&["ass"]);
        assert!(words.found_in("what an ASS!"));
        assert!(words.found_in("你ass好"));
        assert!(!words.found_in("first class, assembly"));
    }

    #[test]
    fn chinese_words_match_anywhere_in_either_script() {
        let words = Words::compile(&["笨蛋", "壞人"]);
        assert!(words.found_in("你是个笨蛋啊"));
        assert!(words.found_in("坏人") && words.found_in("那個壞人"));
        assert_eq!(Words::compile(&["台湾"]).mask("在臺灣"), "在**");
    }

    #[test]
    fn width_accents_and_invisible_characters_hide_nothing() {
        let words = Words::compile(&["spoiler"]);
        for text in ["ＳＰＯＩＬＥＲ", "spóilér", "spo\u{200b}iler", "s\u{301}poiler", "𝓼poiler"]
        {
            assert!(words.found_in(text), "{text}");
        }
    }

    #[test]
    fn masking_replaces_the_raw_characters_of_the_match_and_no_others() {
        let words = Words::compile(&["spoiler", "kg", "结局"]);
        assert_eq!(words.mask("é Ｓpo\u{301}iler, 5 ㎏; 結局是"), "é *******, 5 *; **是");
        assert_eq!(words.mask("nothing here"), "nothing here");
    }

    #[test]
    fn a_longer_word_refused_at_its_boundary_hides_no_shorter_one() {
        assert_eq!(Words::compile(&["bad word", "bad"]).mask("bad words"), "*** words");
    }

    #[test]
    fn empty_lists_and_empty_words_match_nothing() {
        assert!(!Words::compile::<&str>(&[]).found_in("a"));
        assert!(!Words::compile(&["", " ", "\u{200b}"]).found_in("a"));
    }

    proptest! {
        #[test]
        fn a_masked_text_has_none_of_the_words_and_no_more_characters(text in "[aà 笨蛋ＡbB\u{301}]{0,20}") {
            let words = Words::compile(&["a", "笨", "ab"]);
            let masked = words.mask(&text);
            prop_assert!(!words.found_in(&masked));
            prop_assert!(masked.chars().count() <= text.chars().count());
            if !words.found_in(&text) { prop_assert_eq!(masked, text); }
        }
    }
}
