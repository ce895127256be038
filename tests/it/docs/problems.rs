//! The tables of problems and their causes: codes from the sources, words from
//! the pages.

use std::collections::BTreeMap;

use super::{Language, Language::*, cell, compare, read, sources};

/// Chinese and English, by key.
type Texts = BTreeMap<String, [String; 2]>;

/// Whose page has the words, and the table's name.
const ROLES: [(&str, &str); 2] = [("node", "node-problems"), ("master", "main-server-problems")];

#[test]
fn the_tables_of_problems_are_those_of_the_program() {
    let severities = severities();
    let shared = texts("shared", "problem");
    let mut told = Vec::new();
    for (role, name) in ROLES {
        let mut texts = texts(role, "problem");
        texts.extend(shared.clone());
        for language in [English, Chinese] {
            let severity = |key: &str| match severities.get(code_of(key)).copied() {
                Some("error") => language.of("错误", "error"),
                Some("warning") => language.of("警告", "warning"),
                Some("info") => language.of("提示", "info"),
                Some(_) => language.of("警告或错误", "warning or error"),
                None => panic!("no source gives {key}"),
            };
            let columns =
                language.of("代码 | 级别 | 含义 | 处理", "Code | Severity | Meaning | What to do");
            let rows = rows(&texts, language, |key| format!("`{key}` | {}", severity(key)));
            let table = format!("| {columns} |\n|---|---|---|---|\n{rows}");
            compare(language, "troubleshooting.md", name, &table);
        }
        told.extend(keys(&texts).map(|key| code_of(key).to_owned()));
    }
    for code in severities.keys() {
        assert!(told.contains(code), "no page puts {code} into words");
    }
}

#[test]
fn the_table_of_causes_is_that_of_the_panel() {
    let texts = texts("shared", "cause");
    for language in [English, Chinese] {
        let columns = language.of("代码 | 含义 | 处理", "Code | Meaning | What to do");
        let rows = rows(&texts, language, |code| format!("`{code}`"));
        let table = format!("| {columns} |\n|---|---|---|\n{rows}");
        compare(language, "troubleshooting.md", "causes", &table);
    }
}

/// A row for each key, begun by `begin`; what to do is the text `KEY.do`.
fn rows(texts: &Texts, language: Language, begin: impl Fn(&str) -> String) -> String {
    let pick = |words: &[String; 2]| cell(language.of(&words[0], &words[1]));
    let row = |key: &String| {
        let advice = texts.get(&format!("{key}.do")).map(pick).unwrap_or_default();
        format!("| {} | {} | {advice} |\n", begin(key), pick(&texts[key]))
    };
    keys(texts).map(row).collect()
}

/// Codes, or `CODE.LIMIT` for a limit that has words of its own.
fn keys(texts: &Texts) -> impl Iterator<Item = &String> {
    texts.keys().filter(|key| !key.ends_with(".do"))
}

fn code_of(key: &str) -> &str {
    key.split('.').next().unwrap_or(key)
}

/// As the sources give them, by code: `Problem::error("stopped", …)`, or, where
/// it depends, `problem("certificate_doubtful", …)`.
fn severities() -> BTreeMap<String, &'static str> {
    let marks = [
        ("Problem::error(", "error"),
        ("Problem::warning(", "warning"),
        ("Problem::info(", "info"),
        (" problem(", "either"),
        // One of two codes.
        (") => (", "error"),
    ];
    let mut found = BTreeMap::new();
    let gives = |source: &&String| {
        ["error", "warning", "info"].iter().any(|s| source.contains(&format!("Problem::{s}(")))
    };
    for source in sources().iter().filter(gives) {
        for (mark, severity) in marks {
            let given = source.split(mark).skip(1).map(str::trim_start);
            let codes = given.filter_map(|rest| rest.strip_prefix('"')?.split('"').next());
            found.extend(codes.map(|code| (code.to_owned(), severity)));
        }
    }
    assert!(found.len() > 20, "{found:?}");
    found
}

/// What a page has in a section of its texts.
fn texts(page: &str, section: &str) -> Texts {
    let text = read(&format!("web/js/texts/{page}.js"));
    let begin = format!("\n  {section}: {{\n");
    let block = text.split(&begin).nth(1).and_then(|rest| rest.split("\n  },").next());
    let block = block.unwrap_or_else(|| panic!("{page} has no section {section}"));
    // An entry begins with four spaces and its key, and ends with a bracket.
    let mut found = BTreeMap::new();
    for entry in format!("\n{block}").split("],").filter(|entry| !entry.trim().is_empty()) {
        let (key, words) = entry.split_once(": [").unwrap_or_else(|| panic!("{page}: {entry}"));
        let words = strings(words).try_into().unwrap_or_else(|_| panic!("{page}: {entry}"));
        found.insert(key.trim().trim_matches('"').to_owned(), words);
    }
    found
}

/// The texts that a piece of JavaScript quotes: "…" or `…`, where `${…}` may
/// quote others.
fn strings(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut letters = code.chars();
    while let Some(quote) = letters.find(|c| matches!(c, '"' | '`')) {
        let (mut text, mut depth) = (String::new(), 0);
        while let Some(letter) = letters.next() {
            match letter {
                '\\' => text.extend(letters.next()),
                end if end == quote && depth == 0 => break,
                other => {
                    depth += match other {
                        '{' if quote == '`' => 1,
                        '}' if quote == '`' => -1,
                        _ => 0,
                    };
                    text.push(other);
                }
            }
        }
        found.push(if quote == '`' { filled(&text) } else { text });
    }
    found
}

/// With `{name}` where a page puts a value, and without what it says only at
/// times: `${why(p)}`, `${p.since && …}`.
fn filled(text: &str) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let mut depth = 1;
        let end = after.find(|c| {
            depth += match c {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            depth == 0
        });
        let (expression, left) = after.split_at(end.expect("a bracket that ends it"));
        filled += before;
        let is_value = expression.starts_with("p.") && !expression.contains("&&");
        if is_value || expression.starts_with("JSON.stringify(p.") {
            let name = expression.split("p.").nth(1).unwrap();
            let is_of_name = |c: &char| c.is_alphanumeric() || *c == '_';
            filled += &format!("{{{}}}", name.chars().take_while(is_of_name).collect::<String>());
        }
        rest = &left[1..];
    }
    filled + rest
}

#[test]
fn what_pages_fill_in_stands_in_brackets() {
    let code =
        "(p) => `${since(p)}a “${p.title || p.id}”${p.x && ` ${p.x}`}.`, \"b {n}\", \"\\\\\"";
    assert_eq!(strings(code), ["a “{title}”.", "b {n}", "\\"]);
}
