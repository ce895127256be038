//! What both languages have in common, and where links lead.

use std::path::Path;

use super::{Language::*, documents, pages_of, read, root};

/// Longer, and a newcomer does not read it.
const README_BYTES: usize = 8 * 1024;

#[test]
fn both_languages_have_the_same_pages_with_the_same_headings() {
    let (english, chinese) = (pages_of(English), pages_of(Chinese));
    let names = |pages: &std::collections::BTreeMap<String, String>| {
        pages.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(names(&english), names(&chinese), "docs/en and docs/zh");
    for (name, text) in &english {
        assert_eq!(outline(text), outline(&chinese[name]), "{name}");
    }
    assert_eq!(outline(&read("README.md")), outline(&read("README.zh-CN.md")), "README");
}

#[test]
fn a_readme_is_read_in_three_minutes() {
    for name in ["README.md", "README.zh-CN.md"] {
        let bytes = read(name).len();
        assert!(bytes <= README_BYTES, "{name} has {bytes} bytes, more than {README_BYTES}");
    }
}

#[test]
fn links_lead_to_what_is_there() {
    let documents = documents();
    let mut broken = Vec::new();
    for (path, text) in &documents {
        for link in links(text) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => normal(&path.parent().unwrap().join(file)),
            };
            let is_found = match documents.get(&target) {
                Some(text) => anchor.is_empty() || anchors(text).iter().any(|a| a == anchor),
                None => anchor.is_empty() && target.exists(),
            };
            if !is_found {
                broken.push(format!("{}: {link}", path.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn each_call_of_the_api_is_in_both_languages() {
    for document in ["node", "main-server"] {
        let document = read(&format!("openapi/{document}.json"));
        let document: serde_json::Value = serde_json::from_str(&document).unwrap();
        for (path, _) in document["paths"].as_object().unwrap() {
            // The files of the pages.
            let path = path.trim_end_matches("{path}").replace("/{name}", "/meeting_{id}_pdfs.zip");
            for language in [English, Chinese] {
                let page = format!("{}/api.md", language.folder());
                assert!(read(&page).contains(&path), "{page} lacks {path}");
            }
        }
    }
}

/// Levels of headings, code blocks and tables' rows, in their order.
fn outline(text: &str) -> Vec<String> {
    let mut outline = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.starts_with("```") {
            in_code = !in_code;
            outline.extend(in_code.then(|| line.to_owned()));
        } else if !in_code && line.starts_with('#') {
            outline.push(line.split(' ').next().unwrap().to_owned());
        } else if !in_code && line.starts_with('|') {
            outline.push(format!("| {} columns", line.replace("\\|", "").matches('|').count() - 1));
        }
    }
    outline
}

/// Targets of Markdown links and images in this repository.
fn links(text: &str) -> Vec<&str> {
    let mut in_code = false;
    let prose = text.lines().filter(|line| {
        in_code ^= line.starts_with("```");
        !in_code
    });
    let after = prose.flat_map(|line| line.split("](").skip(1));
    let targets = after.filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://")).collect()
}

/// As GitHub makes them of headings.
fn anchors(text: &str) -> Vec<String> {
    let headings = text
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|heading| heading.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// Without `..`, which need no asking of the disk here.
fn normal(path: &Path) -> std::path::PathBuf {
    let mut normal = std::path::PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}
