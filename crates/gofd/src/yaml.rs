//! The part of YAML that GoFD's configuration is written in: mappings within mappings, and
//! texts, with and without quotes. Anything else is an error with its line.
//!
//! By hand, as a whole YAML reader is a large dependency for a dozen lines, and the usual
//! one is no longer maintained.

use thiserror::Error;

/// Lines of a file, and mappings within each other.
const MAX_LINES: usize = 10_000;
const MAX_DEPTH: usize = 8;

/// A value, with the keys that lead to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct YamlEntry {
    /// Joined by dots.
    pub(super) path: String,
    pub(super) value: String,
    pub(super) line: usize,
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("第 {line} 行：{zh} / line {line}: {en}")]
pub struct YamlError {
    line: usize,
    zh: &'static str,
    en: &'static str,
}

/// A mapping that is open where the reader is.
struct OpenMapping {
    indent: usize,
    key: String,
}

pub(super) fn parse(text: &str) -> Result<Vec<YamlEntry>, YamlError> {
    let (mut open, mut entries) = (Vec::<OpenMapping>::new(), Vec::<YamlEntry>::new());
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, whole) in text.lines().enumerate() {
        let line = number + 1;
        let error = |zh, en| YamlError { line, zh, en };
        if number >= MAX_LINES {
            return Err(error("行数过多", "there are too many lines"));
        }
        let content = without_comment(whole).trim_end();
        let indent = content.len() - content.trim_start_matches(' ').len();
        let content = &content[indent..];
        if content.is_empty() || (content == "---" && open.is_empty() && entries.is_empty()) {
            continue;
        }
        if content.starts_with('\t') {
            return Err(error("缩进不能用制表符", "tabs can't indent"));
        }
        let (key, value) = key_and_value(content)
            .ok_or_else(|| error("应为“键: 值”", "\"key: value\" is needed"))?;
        let value = scalar(value).ok_or_else(|| {
            error("不支持这种写法，请写成普通文本", "only plain and quoted texts are read")
        })?;
        let closed = open.iter().position(|mapping| mapping.indent >= indent);
        if let Some(same) = closed {
            if open[same].indent != indent {
                return Err(error("缩进与上文不一致", "the indentation fits no line above"));
            }
            open.truncate(same);
        } else if entries.last().is_some_and(|parent| !parent.value.is_empty()) {
            return Err(error("缩进与上文不一致", "the indentation fits no line above"));
        }
        if open.len() >= MAX_DEPTH {
            return Err(error("嵌套过深", "it is nested too deeply"));
        }
        open.push(OpenMapping { indent, key: key.to_owned() });
        let path = open.iter().map(|mapping| &*mapping.key).collect::<Vec<_>>().join(".");
        if entries.iter().any(|entry| entry.path == path) {
            return Err(error("键重复", "the key is there twice"));
        }
        entries.push(YamlEntry { path, value, line });
    }
    Ok(entries)
}

fn key_and_value(content: &str) -> Option<(&str, &str)> {
    let (key, value) = match content.strip_suffix(':').filter(|key| !key.contains(": ")) {
        Some(key) => (key, ""),
        None => content.split_once(": ")?,
    };
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    (!key.is_empty() && key.chars().all(is_plain) && !key.starts_with('-'))
        .then(|| (key, value.trim()))
}

/// A text without its quotes; None for what is no text.
fn scalar(text: &str) -> Option<String> {
    let quoted = |quote: char| {
        let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
        (text.len() > 1).then_some(inner)
    };
    match text.chars().next() {
        None => Some(String::new()),
        Some('\'') => {
            let inner = quoted('\'')?;
            (!inner.replace("''", "").contains('\'')).then(|| inner.replace("''", "'"))
        }
        Some('"') => unescaped(quoted('"')?),
        Some('{' | '[' | '&' | '*' | '!' | '|' | '>' | '%' | '@' | '`' | ',' | ']' | '}') => None,
        Some('-' | '?') if text.len() == 1 || text[1..].starts_with(' ') => None,
        Some(_) => (!text.contains(": ")).then(|| match text {
            "~" | "null" => String::new(),
            text => text.to_owned(),
        }),
    }
}

fn unescaped(inner: &str) -> Option<String> {
    let (mut text, mut chars) = (String::new(), inner.chars());
    while let Some(c) = chars.next() {
        text.push(match c {
            '"' => return None,
            '\\' => match chars.next()? {
                'n' => '\n',
                't' => '\t',
                c @ ('"' | '\\' | '/') => c,
                _ => return None,
            },
            c => c,
        });
    }
    Some(text)
}

/// A `#` begins a comment at the start of a line or behind a space, but not in quotes.
fn without_comment(line: &str) -> &str {
    let (mut quote, mut before) = (None, ' ');
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') if before.is_whitespace() => return &line[..at],
            (None, '\'' | '"') if before.is_whitespace() => quote = Some(c),
            (Some(open), c) if c == open && before != '\\' => quote = None,
            _ => {}
        }
        before = c;
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let entries = parse(text).unwrap();
        entries.into_iter().map(|entry| (entry.path, entry.value)).collect()
    }

    fn own(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn mappings_texts_and_comments_are_read() {
        let text = "\u{feff}---\nname: server #名称\n\n# all of it\nnet:\n    ip: 127.0.0.1\n    tls:  #x\n        \
                    cert: '/a #b'\n        key: \"c\\\"d\"\n    port: 1\r\nlast: a#b \nnone: ~\nit: 'isn''t'";
        let expected = [
            ("name", "server"),
            ("net", ""),
            ("net.ip", "127.0.0.1"),
            ("net.tls", ""),
            ("net.tls.cert", "/a #b"),
            ("net.tls.key", "c\"d"),
            ("net.port", "1"),
            ("last", "a#b"),
            ("none", ""),
            ("it", "isn't"),
        ];
        assert_eq!(pairs(text), own(&expected));
    }

    #[test]
    fn the_rest_of_yaml_is_refused_with_its_line() {
        for (text, line) in [
            ("a: 1\nb", 2),
            ("a: [1]", 1),
            ("a: {b: 1}", 1),
            ("- a", 1),
            ("a: |\n  text", 1),
            ("a: &x 1", 1),
            ("a: 'b", 1),
            ("a: \"b", 1),
            ("a: b: c", 1),
            ("a:\n    b: 1\n  c: 2", 3),
            ("a:\n\tb: 1", 2),
            ("a: 1\n  b: 2", 2),
            ("a: 1\na: 2", 2),
            ("a: 1\n---\nb: 2", 2),
        ] {
            assert_eq!(parse(text).map_err(|error| error.line), Err(line), "{text:?}");
        }
        let deep: String = (0..20).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        assert!(parse(&deep).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ a:#'\"\\-\n\t字]{0,40}") {
            let _ = parse(&text);
        }
    }
}
