//! What documents quote: messages that the program prints, metrics that it
//! counts, names that the code has.

use super::{Language::*, read, sources};

/// Less than that occurs everywhere.
const MIN_CHARS: usize = 4;
const PREFIX: &str = "edge_mirror_";
/// No metric, but called like one.
const COOKIE: &str = "edge_mirror_session";

#[test]
fn quoted_messages_are_in_the_sources() {
    let sources = sources();
    let mut unknown = Vec::new();
    for language in [English, Chinese] {
        let path = format!("{}/troubleshooting.md", language.folder());
        let text = read(&path);
        let messages = text.split("<!-- node-problems:begin -->").next().unwrap();
        for row in messages.lines().filter(|line| line.starts_with("| ")) {
            let first = row.trim_start_matches("| ").split(" | ").next().unwrap();
            for quoted in first.split('`').skip(1).step_by(2) {
                let said = |part: &str| sources.iter().any(|source| source.contains(part));
                let parts = quoted.split('…').map(str::trim);
                let parts = parts.filter(|part| part.chars().count() >= MIN_CHARS);
                unknown.extend(parts.filter(|part| !said(part)).map(|p| format!("{path}: {p}")));
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn metrics_that_are_described_are_counted_and_none_is_missing() {
    let sources = sources();
    let known = |name: &str| sources.iter().any(|source| source.contains(&format!("\"{name}\"")));
    for language in [English, Chinese] {
        let path = format!("{}/monitoring.md", language.folder());
        let text = read(&path);
        let described: Vec<_> = names(&text).collect();
        for name in &described {
            assert!(known(name), "{path}: no source has {name}");
        }
        for source in &sources {
            for quoted in source.split('"').filter(|quoted| quoted.starts_with(PREFIX)) {
                let is_described = names(quoted).all(|name| described.contains(&name));
                assert!(is_described || quoted == COOKIE, "{path} lacks {quoted}");
            }
        }
    }
}

/// What follows it in a name is lower-case.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let begins = text.match_indices(PREFIX).map(|(begin, _)| &text[begin..]);
    let names = begins.map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    });
    // A pattern that matches them all.
    names.filter(|name| *name != PREFIX)
}

#[test]
fn walkthroughs_name_what_the_code_has() {
    let sources = sources();
    let mut unknown = Vec::new();
    for language in [English, Chinese] {
        let path = format!("{}/walkthroughs.md", language.folder());
        for quoted in read(&path).split('`').skip(1).step_by(2) {
            let words = quoted.split(|c: char| !c.is_alphanumeric() && c != '_');
            let is_known = |word: &str| sources.iter().any(|source| source.contains(word));
            unknown.extend(words.filter(|word| !is_known(word)).map(|w| format!("{path}: {w}")));
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}
