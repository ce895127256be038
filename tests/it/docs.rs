//! README and docs/: the same in both languages, with links that lead
//! somewhere, and with tables that are written from the product's own.

mod commands;
mod messages;
mod pages;
mod problems;
mod settings;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use crate::benchmarks::markers::replaced;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    English,
    Chinese,
}

use Language::{Chinese, English};

impl Language {
    fn of<T>(self, zh: T, en: T) -> T {
        match self {
            Chinese => zh,
            English => en,
        }
    }

    fn folder(self) -> &'static str {
        self.of("docs/zh", "docs/en")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The product's, without its tests, and with texts over several lines as one.
fn sources() -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(path).unwrap();
                let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                let lines = product.split("\\\n").map(str::trim_start);
                found.push(lines.collect());
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["src", "crates"].map(|folder| root().join(folder)) {
        if folder.is_dir() {
            walk(&folder, &mut found);
        }
    }
    found
}

/// The pages of one language, by their names.
fn pages_of(language: Language) -> BTreeMap<String, String> {
    let folder = root().join(language.folder());
    let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let pages = names.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    let named = pages.map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    });
    named.collect()
}

/// All documents that link to each other, by their paths.
fn documents() -> BTreeMap<PathBuf, String> {
    let mut documents = BTreeMap::new();
    for folder in ["", "docs/en", "docs/zh"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "md") {
                documents.insert(path.clone(), fs::read_to_string(path).unwrap());
            }
        }
    }
    documents
}

/// Compares what stands between the markers of this name with `text`. With
/// RECORD_DOCS=1 in the environment it is written there instead.
fn compare(language: Language, page: &str, name: &str, text: &str) {
    let path = format!("{}/{page}", language.folder());
    let kept = read(&path);
    let begin = format!("<!-- {name}:begin -->");
    assert!(kept.contains(&begin), "{path} has no {begin}");
    let made = replaced(&kept, name, text).unwrap();
    if env::var_os("RECORD_DOCS").is_some() {
        fs::write(root().join(&path), made).unwrap();
        return;
    }
    assert!(kept == made, "{path} is stale between the markers of {name}; write it: just docs");
}

/// A text as a table's cell holds it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
