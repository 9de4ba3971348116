//! Lists of words out of the manifests: a ConfigMap's entries, or a folder's files, with a word a line.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use super::folder::{Fingerprint, fingerprint};

/// Most words of one source, and of one room from all of its sources.
pub const MAX_WORDS: usize = 200_000;
/// Longest word, in characters: as in the manifest.
pub const MAX_WORD: usize = 100;
/// Most files of a source.
const MAX_FILES: usize = 100;
/// Most bytes of a source's file.
const MAX_BYTES: u64 = 8 << 20;

/// The words of one source, in order.
pub type WordSet = Vec<Box<str>>;

/// Why a source is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WordsFault {
    #[error("{0} has more than {MAX_WORDS} words; a list is for words, not for books: split it among rooms")]
    TooMany(String),
    #[error("{0}: line {1} has {2} characters; a word has at most {MAX_WORD}")]
    TooLong(String, usize, usize),
    #[error("{0}: {1}")]
    Unreadable(String, String),
}

/// The words of texts, each with its name; a word a line, empty lines and those that start with `# ` left out.
pub(super) fn read<'a>(
    place: &str,
    texts: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<WordSet, WordsFault> {
    let mut words = WordSet::new();
    for (name, text) in texts {
        for (number, line) in text.lines().enumerate() {
            let word = line.trim();
            if word.is_empty() || line.starts_with("# ") {
                continue;
            }
            let characters = word.chars().count();
            if characters > MAX_WORD {
                return Err(WordsFault::TooLong(format!("{place}/{name}"), number + 1, characters));
            }
            if words.len() >= MAX_WORDS {
                return Err(WordsFault::TooMany(place.to_owned()));
            }
            words.push(word.into());
        }
    }
    Ok(words)
}

/// A folder of word files, as far as it was read.
#[derive(Default)]
pub(super) struct KnownWords {
    seen: Vec<(String, Fingerprint)>,
    /// What it held when it was last without faults.
    pub(super) good: Option<Arc<WordSet>>,
    pub(super) fault: Option<String>,
}

impl KnownWords {
    /// Reads the folder again if a file of it changed.
    pub(super) fn refresh(&mut self, dir: &Path) {
        let seen = files(dir);
        if let Ok(seen) = &seen
            && *seen == self.seen
            && self.good.is_some() != self.fault.is_some()
        {
            return;
        }
        let place = dir.display().to_string();
        let unreadable = |error: io::Error| {
            WordsFault::Unreadable(
                place.clone(),
                format!("{error}; make it a folder of text files with a word a line"),
            )
        };
        let words = seen.map_err(unreadable).and_then(|seen| {
            let mut texts = Vec::new();
            for (name, _) in &seen {
                texts.push((name.clone(), text(&dir.join(name)).map_err(unreadable)?));
            }
            self.seen = seen;
            read(&place, texts.iter().map(|(name, text)| (name.as_str(), text.as_str())))
        });
        match words {
            Ok(words) => {
                let same = self.good.take().filter(|good| **good == words);
                (self.good, self.fault) = (Some(same.unwrap_or_else(|| Arc::new(words))), None);
            }
            Err(fault) => {
                self.seen.clear();
                self.fault = Some(fault.to_string());
            }
        }
    }
}

fn files(dir: &Path) -> io::Result<Vec<(String, Fingerprint)>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') {
            continue;
        }
        if files.len() >= MAX_FILES {
            return Err(io::Error::other(format!("has more than {MAX_FILES} files")));
        }
        files.insert(name, fingerprint(&entry.path())?);
    }
    Ok(files.into_iter().collect())
}

fn text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("{} is over {MAX_BYTES} bytes", path.display())));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other(format!("{} is not UTF-8 text", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<WordSet, WordsFault> {
        read("list", [("a", text)].into_iter())
    }

    #[test]
    fn a_word_a_line_and_nothing_else() {
        let read = words("one\r\n\n  two words \n# a remark\n#tag\n").unwrap();
        assert_eq!(read, [Box::from("one"), "two words".into(), "#tag".into()]);
        assert_eq!(words("").unwrap(), WordSet::new());
    }

    #[test]
    fn a_list_with_a_million_lines_is_refused_in_words() {
        let many = "word\n".repeat(1_000_000);
        assert!(words(&many).unwrap_err().to_string().contains("more than 200000 words"));
        let empty = "\n".repeat(1_000_000);
        assert_eq!(words(&empty).unwrap().len(), 0, "lines without a word are none");
        let long = format!("ok\n{}", "x".repeat(101));
        assert!(words(&long).unwrap_err().to_string().contains("list/a: line 2 has 101 characters"));
    }

    #[test]
    fn a_folder_is_read_again_only_when_a_file_changed_and_a_bad_edit_keeps_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut known = KnownWords::default();
        known.refresh(&dir.path().join("gone"));
        assert!(known.good.is_none() && known.fault.as_ref().is_some_and(|fault| fault.contains("gone")));
        for (name, text) in [("2.txt", "b"), ("1.txt", "a"), (".hidden", "c")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        known.refresh(dir.path());
        let first = known.good.clone().unwrap();
        assert_eq!(*first, [Box::from("a"), "b".into()], "files in the order of their names");
        known.refresh(dir.path());
        assert!(Arc::ptr_eq(&first, known.good.as_ref().unwrap()));
        std::fs::write(dir.path().join("1.txt"), [0xff, 0xfe, 0xff]).unwrap();
        known.refresh(dir.path());
        assert!(known.fault.as_ref().unwrap().contains("UTF-8") && known.good.as_ref() == Some(&first));
        std::fs::write(dir.path().join("1.txt"), "changed").unwrap();
        known.refresh(dir.path());
        assert!(known.fault.is_none() && known.good.as_ref().unwrap().len() == 2);
    }
}
