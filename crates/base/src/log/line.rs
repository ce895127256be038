//! Format of one log line.

use std::{borrow::Cow, fmt::Write as _, os::fd::AsFd};

use chrono::{DateTime, Local, SecondsFormat};
use serde_json::json;
use tracing::Level;

use super::level_text;

/// A log message before it is formatted.
pub struct LogRecord<'a> {
    /// Name of the program's role, part of every line.
    pub name: &'static str,
    pub at: DateTime<Local>,
    pub level: Level,
    /// Without line breaks, see [`sanitize`].
    pub text: &'a str,
}

impl LogRecord<'_> {
    /// Formats as `2023-05-15 10:15:30 - file_node - INFO - text`: tools that read the
    /// Python node's logs read these, too.
    pub fn text(&self) -> String {
        let at = self.at.format("%Y-%m-%d %H:%M:%S");
        format!("{at} - {} - {} - {}\n", self.name, level_text(self.level), self.text)
    }

    /// Formats as one JSON object per line, for log collectors.
    pub fn json(&self) -> String {
        let at = self.at.to_rfc3339_opts(SecondsFormat::Millis, false);
        let (name, level) = (self.name, level_text(self.level));
        let mut line =
            json!({"time": at, "level": level, "name": name, "message": self.text}).to_string();
        line.push('\n');
        line
    }

    /// Formats for systemd's journal, which adds time and program itself: only the
    /// priority before the text (sd-daemon(3)).
    pub fn journal(&self, line: Option<String>) -> String {
        let priority = match self.level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        let mut marked = format!("<{priority}>");
        match line {
            Some(line) => marked.push_str(&line),
            // Writing to a string can't fail.
            None => drop(writeln!(marked, "{}", self.text)),
        }
        marked
    }
}

/// Names in logs of ours; the Python node used the first one, too.
const NAMES: [&str; 2] = ["file_node", "main_server"];
/// Enough for a line up to its text.
pub(super) const HEAD_BYTES: usize = 128;

/// True if a file that begins so is a log of ours, or of the Python node, which wrote the
/// same lines. An empty file counts as a log: a power cut leaves ours so, and a new file
/// may be made there anyway.
pub(super) fn is_log_head(head: &[u8]) -> bool {
    head.is_empty() || is_text_head(head) || is_json_head(head)
}

/// Matches `2023-05-15 10:15:30 - file_node - INFO - `; Python may add milliseconds.
fn is_text_head(head: &[u8]) -> bool {
    let Some((at, rest)) = head.split_at_checked("2023-05-15 10:15:30".len()) else { return false };
    let same = |(byte, model): (&u8, &u8)| match model {
        b'0' => byte.is_ascii_digit(),
        _ => byte == model,
    };
    let rest = rest.strip_prefix(b",").and_then(|ms| ms.get(3..)).unwrap_or(rest);
    let named = || NAMES.iter().any(|name| rest.starts_with(format!(" - {name} - ").as_bytes()));
    at.iter().zip(b"0000-00-00 00:00:00").all(same) && named()
}

fn is_json_head(head: &[u8]) -> bool {
    let has = |part: String| head.windows(part.len()).any(|window| window == part.as_bytes());
    let named = |name| has(format!("\",\"name\":\"{name}\",\"message\":\""));
    head.starts_with(b"{\"time\":\"") && NAMES.iter().any(named)
}

/// True if output to `stream` arrives in systemd's journal: `JOURNAL_STREAM` names the
/// device and inode of the stream that it gave us, and stays set when somebody has
/// redirected it since (systemd.exec(5)).
pub fn is_journal(stream: impl AsFd, journal_stream: Option<&str>) -> bool {
    let named = journal_stream.and_then(|named| named.split_once(':'));
    let named: Option<(u64, u64)> =
        named.and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    let Some((device, inode)) = named else { return false };
    // The types of these differ from system to system.
    #[allow(clippy::useless_conversion)]
    rustix::fs::fstat(stream)
        .is_ok_and(|is| u64::from(is.st_dev) == device && u64::from(is.st_ino) == inode)
}

/// Escapes characters that could make the text look like another.
pub fn sanitize(text: &str) -> Cow<'_, str> {
    // Marks of text direction are not control characters.
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}'..='\u{2029}')
    };
    if !text.contains(odd) {
        return Cow::Borrowed(text);
    }
    text.chars()
        .fold(String::new(), |mut line, c| {
            if odd(c) {
                line.extend(c.escape_default())
            } else {
                line.push(c)
            }
            line
        })
        .into()
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::MetadataExt};

    use super::*;

    #[test]
    fn a_title_can_not_forge_a_line() {
        assert_eq!(sanitize("会议 a-b \"c\""), "会议 a-b \"c\"");
        assert_eq!(sanitize("a\nb\0c\u{202e}d"), "a\\nb\\u{0}c\\u{202e}d");
    }

    #[test]
    fn each_shape_has_what_its_readers_expect() {
        let at = DateTime::parse_from_rfc3339("2023-05-15T10:15:30.5+08:00").unwrap();
        let at = at.with_timezone(&Local);
        let said = |level| LogRecord { name: "file_node", at, level, text: "会议 \"a\"" };
        let here = at.format("%Y-%m-%d %H:%M:%S");
        let line = said(Level::WARN).text();
        assert_eq!(line, format!("{here} - file_node - WARNING - 会议 \"a\"\n"));

        let line = said(Level::WARN).json();
        let read: serde_json::Value =
            serde_json::from_str(line.strip_suffix('\n').unwrap()).unwrap();
        assert_eq!(DateTime::parse_from_rfc3339(read["time"].as_str().unwrap()).unwrap(), at);
        assert_eq!(read["level"], "WARNING");
        assert_eq!(read["message"], "会议 \"a\"");

        assert_eq!(said(Level::ERROR).journal(None), "<3>会议 \"a\"\n");
        assert_eq!(said(Level::TRACE).journal(Some("{}\n".to_owned())), "<7>{}\n");
    }

    #[test]
    fn a_log_is_known_by_its_first_line() {
        let said = |name| LogRecord { name, at: Local::now(), level: Level::WARN, text: "x" };
        for name in NAMES {
            let lines = [said(name).text(), said(name).json()];
            for line in lines {
                assert!(is_log_head(&line.as_bytes()[..line.len().min(HEAD_BYTES)]), "{line}");
            }
        }
        assert!(is_log_head(b""));
        assert!(is_log_head(b"2023-05-15 10:15:30,123 - file_node - INFO - x"));
        for other in [
            "-----BEGIN PRIVATE KEY-----",
            "{\"nodeId\": \"a\"}",
            "{\"time\":\"x\"}",
            "PK\u{3}\u{4}",
            "#!/bin/sh",
            "2023-05-15 10:15:30 - other - INFO - x",
            "2023-05-15 10:15:30,",
            "2023-05-15 10:15",
            "2023-05-15T10:15:30 - file_node - INFO - x",
            "x2023-05-15 10:15:30 - file_node - INFO - x",
            "\n",
        ] {
            assert!(!is_log_head(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn the_journal_is_known_by_the_stream_that_it_gave() {
        let file = tempfile::tempfile().unwrap();
        let is = file.metadata().unwrap();
        let named = format!("{}:{}", is.dev(), is.ino());
        assert!(is_journal(&file, Some(&named)));
        assert!(!is_journal(File::open("/dev/null").unwrap(), Some(&named)));
        for odd in [None, Some(""), Some("1"), Some("a:b"), Some("1:2")] {
            assert!(!is_journal(&file, odd), "{odd:?}");
        }
    }
}
