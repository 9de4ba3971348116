//! The README's protocol chapter against the one table of codes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fs};

use danmu_wire::{CloseCode, RefusalCode};

fn readme() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).unwrap()
}

/// The cells of the table between `<!-- name -->` and `<!-- end -->`, without its two head lines.
fn rows(readme: &str, name: &str) -> Vec<Vec<String>> {
    let (_, rest) = readme.split_once(&format!("<!-- {name} -->")).unwrap_or_else(|| panic!("no {name}"));
    let (table, _) = rest.split_once("<!-- end -->").unwrap_or_else(|| panic!("{name} has no end"));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    table.lines().map(str::trim).filter(|line| !line.is_empty()).skip(2).map(cells).collect()
}

#[test]
fn the_close_codes_are_those_of_the_table() {
    let come_back = |code: &CloseCode| if code.reconnect() { "yes" } else { "no" };
    let expected: Vec<Vec<String>> = CloseCode::ALL
        .iter()
        .map(|code| vec![code.code().to_string(), code.reason().to_owned(), come_back(code).to_owned()])
        .collect();
    assert_eq!(rows(&readme(), "close codes"), expected);
}

#[test]
fn the_refusal_codes_are_those_of_the_table() {
    let expected: Vec<Vec<String>> = RefusalCode::ALL
        .iter()
        .map(|code| vec![format!("`{}`", code.code()), code.text().to_owned()])
        .collect();
    // The third column explains and is free.
    let told: Vec<Vec<String>> =
        rows(&readme(), "refusal codes").into_iter().map(|row| row.into_iter().take(2).collect()).collect();
    assert_eq!(told, expected);
}

/// Every bare number from 4000 to 4999 in the text is a close code or a bound of the two ranges; other
/// numbers of that size are written with a comma. What follows a colon is a port.
#[test]
fn no_close_code_is_named_that_does_not_exist() {
    let known: BTreeSet<u16> =
        CloseCode::ALL.iter().map(|code| code.code()).chain([4000, 4499, 4500, 4999]).collect();
    let readme = readme();
    let unknown: Vec<&str> = readme
        .split(|c: char| !c.is_alphanumeric() && c != ':')
        .map(|word| word.trim_end_matches(':'))
        .filter(|word| {
            word.parse::<u16>().is_ok_and(|code| (4000..5000).contains(&code) && !known.contains(&code))
        })
        .collect();
    assert_eq!(unknown, [""; 0]);
}
