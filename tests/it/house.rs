//! The house rules that no compiler checks.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Rooms of each crate from the top down: each may use those below its own line.
/// Between crates, the compiler keeps the arrows.
const FLOORS: &[(&str, &[&[&str]])] = &[
    (
        "src",
        &[
            &["install", "roles"],
            &["token", "bench"],
            &["manual", "commands"],
            &["cli", "telemetry"],
            &["terminal"],
        ],
    ),
    (
        "crates/node/src",
        &[
            &["gofd"],
            &[
                "address",
                "dispatch",
                "limits",
                "listeners",
                "presence",
                "remote_tasks",
                "sync",
                "upkeep",
            ],
            &["api"],
            &["casts"],
            &["fetch"],
            &["siblings"],
            &["upstream"],
            &["board"],
            &["machine"],
        ],
    ),
    (
        "crates/main-server/src",
        &[
            &["options", "gofd"],
            &["workers"],
            &["api", "castray"],
            &["server"],
            &["node_status", "repository"],
            &["packages"],
            &["state"],
            &["refusal"],
            &["address", "counts", "error", "large_bodies"],
        ],
    ),
    (
        "crates/http/src",
        &[&["access"], &["delivery", "wire"], &["listen", "requests"], &["limits", "tls"]],
    ),
    (
        "crates/base/src",
        &[
            &["log", "systemd", "atomic"],
            &["backoff", "clock", "tasks", "live", "metrics", "pacer", "liveness", "quantity"],
        ],
    ),
];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["src", "crates"] {
        walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    }
    found
}

/// Whole files that are compiled for tests alone.
fn is_test(path: &Path) -> bool {
    let is_named =
        |name: &std::ffi::OsStr| ["tests", "testing", "openapi"].iter().any(|of| name == *of);
    path.file_stem().is_some_and(is_named) || path.parent().is_some_and(|at| at.ends_with("tests"))
}

/// `src/fetch/gate.rs` and `src/fetch.rs` are both in the room `fetch`.
fn room_of(path: &Path, source: &str) -> Option<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let first = path.strip_prefix(source).ok()?.iter().next()?.to_str()?;
    let room = first.trim_end_matches(".rs");
    (!["main", "lib", "tests", "testing"].contains(&room)).then(|| room.to_owned())
}

/// The rooms that a file's product code (not its tests) names by `crate::`.
fn used_rooms(text: &str) -> Vec<String> {
    let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let mut rooms = Vec::new();
    for (_, after) in
        product.match_indices("crate::").map(|(at, word)| product.split_at(at + word.len()))
    {
        if let Some(group) = after.strip_prefix('{') {
            rooms.extend(top_level_names(group));
        } else {
            rooms.push(name_at(after));
        }
    }
    rooms
}

fn name_at(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

/// `a::{b, c}, d` has the names a and d on its top level.
fn top_level_names(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut begins) = (0, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            c if begins && !c.is_whitespace() => {
                names.push(name_at(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    names
}

#[test]
fn rooms_know_only_the_rooms_below_them() {
    let sources = sources();
    let mut wrong = Vec::new();
    for (source, floors) in FLOORS {
        let floor_of: BTreeMap<&str, usize> = floors
            .iter()
            .enumerate()
            .flat_map(|(floor, rooms)| rooms.iter().map(move |room| (*room, floor)))
            .collect();
        for (path, text) in sources.iter().filter(|(path, _)| !is_test(path)) {
            let Some(room) = room_of(path, source) else { continue };
            let floor = floor_of.get(room.as_str());
            let floor = floor.unwrap_or_else(|| panic!("{room} has no place in the house"));
            for used in used_rooms(text).into_iter().filter(|used| *used != room) {
                if floor_of.get(used.as_str()).is_none_or(|below| below <= floor) {
                    wrong.push(format!("{} uses {used}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn product_code_has_no_gaps_and_no_panicking_shortcuts() {
    let marks = ["todo!", "unimplemented!", "dbg!", ".unwrap()", "#[ignore"];
    let mut found = Vec::new();
    for (path, text) in sources() {
        let product = text.split("#[cfg(test)]").next().unwrap();
        for (number, line) in product.lines().enumerate().filter(|_| !is_test(&path)) {
            if marks.iter().any(|mark| line.contains(mark)) {
                found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// Lines of product code, with the file's path.
fn product_lines() -> impl Iterator<Item = (PathBuf, String)> {
    sources().into_iter().filter(|(path, _)| !is_test(path)).flat_map(|(path, text)| {
        let product = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let lines: Vec<_> = product.lines().map(|line| (path.clone(), line.to_owned())).collect();
        lines
    })
}

#[test]
fn a_type_name_is_a_noun_and_stands_for_one_type() {
    const NOUNS: &[&str] = &["Feed", "Meeting", "Setting", "Sibling"];
    let mut defined: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for (path, line) in product_lines() {
        let item = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        let item = item.trim_start_matches("pub(super) ");
        let kinds = ["struct ", "enum ", "trait ", "union "];
        if let Some(after) = kinds.iter().find_map(|kind| item.strip_prefix(kind)) {
            defined.entry(name_at(after)).or_default().push(path);
        }
    }
    assert!(defined.len() > 300);
    let twice: Vec<_> = defined.iter().filter(|(_, paths)| paths.len() > 1).collect();
    assert!(twice.is_empty(), "names of several types: {twice:#?}");
    let is_participle = |name: &str| {
        let one_word = !name[1..].contains(|c: char| c.is_ascii_uppercase());
        let ending = ["ing", "ed", "own", "een"].iter().any(|ending| name.ends_with(ending));
        one_word && ending && !NOUNS.contains(&name)
    };
    let participles: Vec<_> = defined.keys().filter(|name| is_participle(name)).collect();
    assert!(participles.is_empty(), "participles as names: {participles:?}");
}

/// `cli` has the texts of `--help`.
#[test]
fn documentation_opens_with_a_verb_or_a_noun() {
    const QUESTIONS: &[&str] = &["What", "Whether", "How", "Why", "Who", "Whose", "Which"];
    let mut found = Vec::new();
    let mut before = String::new();
    for (path, line) in product_lines() {
        let line = line.trim().to_owned();
        let is_doc = |line: &str| line.starts_with("///") || line.starts_with("//!");
        let first = line.get(3..).unwrap_or_default().split_whitespace().next();
        let is_cli =
            path.components().any(|part| part.as_os_str() == "cli" || part.as_os_str() == "cli.rs");
        let asks = first.is_some_and(|word| QUESTIONS.contains(&word));
        if is_doc(&line) && !is_doc(&before) && asks && !is_cli {
            found.push(format!("{}: {line}", path.display()));
        }
        before = line;
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// A `watch` that is borrowed for a field stays locked until the whole is made; borrowed once
/// more for another field, it waits for ever where somebody wants to change it in between.
#[test]
fn nothing_is_borrowed_within_a_struct_expression() {
    let is_field = |line: &str| {
        let name = line.trim_start().split_once(": ").map(|(name, _)| name);
        name.is_some_and(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    let found: Vec<_> = product_lines()
        .filter(|(_, line)| is_field(line) && line.contains(".borrow()"))
        .map(|(path, line)| format!("{}: {}", path.display(), line.trim()))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_committed_configuration_is_the_defaults_without_an_id() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("node_config.json");
    let committed: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut defaults = edge_mirror_settings::schema::defaults();
    defaults.shift_remove("nodeId");
    assert_eq!(committed, serde_json::Value::Object(defaults));
}
