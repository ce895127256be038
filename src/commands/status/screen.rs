//! Formats a node's status.

use serde_json::Value;

use super::{problems, sources};
use crate::terminal::{
    Language,
    live::bar,
    table::{Table, clipped, padded},
    words,
};

/// Columns of a title; the rest of the row has to fit.
const TITLE_COLUMNS: usize = 30;
const NAME_COLUMNS: usize = 14;

/// Formats everything, problems last: they end up next to the prompt.
pub(super) fn text(status: &Value, server: &str, verbose: bool, language: Language) -> String {
    let mut text = head(status, server, language);
    let meetings = meetings(status);
    if !meetings.is_empty() {
        text += &format!("\n{}", table(&meetings, language));
        text += &sources::table(status, &meetings, usize::MAX, language);
    }
    let mut found = problems::of(status).peekable();
    if found.peek().is_some() {
        text.push('\n');
    }
    text + &found.map(|problem| problems::told(problem, verbose, language)).collect::<String>()
}

/// Formats as much as fits into so many lines, most urgent first; the rest is counted.
pub(super) fn brief(
    status: &Value,
    server: &str,
    verbose: bool,
    language: Language,
    rows: usize,
) -> String {
    let mut text = head(status, server, language);
    let meetings = meetings(status);
    let room = |text: &str| rows.saturating_sub(text.lines().count());
    let found: Vec<_> =
        problems::of(status).map(|problem| problems::told(problem, verbose, language)).collect();
    if !found.is_empty() {
        text.push('\n');
        // Meetings get half of what is left, or all that they need.
        let for_meetings = (meetings.len() + 2).min(room(&text) / 2);
        let (shown, left) = fitting(&found, room(&text).saturating_sub(for_meetings));
        text += &shown;
        if left > 0 {
            text += &language
                .of(format!("另有 {left} 个问题\n"), format!("problems not shown: {left}\n"));
        }
    }
    // An empty line, the headings, and one for the rest.
    let places = room(&text).saturating_sub(3);
    if meetings.is_empty() || places == 0 {
        return text;
    }
    let shown = if meetings.len() <= places + 1 { meetings.len() } else { places };
    text += &format!("\n{}", table(&meetings[..shown], language));
    text += &rest(&meetings[shown..], language);
    let places = room(&text);
    text + &sources::table(status, &meetings, places, language)
}

/// Returns the entries that fit, with a line left for the rest, and the rest's count.
fn fitting(entries: &[String], rows: usize) -> (String, usize) {
    let lines = |entries: &[String]| entries.iter().map(|e| e.lines().count()).sum::<usize>();
    let all = entries.len();
    let shown = match lines(entries) <= rows {
        true => all,
        false => (0..all).rev().find(|n| lines(&entries[..*n]) < rows).unwrap_or(0),
    };
    (entries[..shown].concat(), all - shown)
}

/// Formats `43 more: 41 ready, 2 waiting`.
fn rest(meetings: &[&Value], language: Language) -> String {
    if meetings.is_empty() {
        return String::new();
    }
    let mut counts: Vec<(String, usize)> = Vec::new();
    for meeting in meetings {
        let state = named(state(meeting), language);
        match counts.iter_mut().find(|(known, _)| *known == state) {
            Some((_, count)) => *count += 1,
            None => counts.push((state, 1)),
        }
    }
    let all = meetings.len();
    let counts: Vec<_> = counts
        .into_iter()
        .map(|(state, count)| {
            language.of(format!("{state} {count} 个"), format!("{count} {state}"))
        })
        .collect();
    language.of(
        format!("另有 {all} 个会议：{}\n", counts.join("，")),
        format!("{all} more: {}\n", counts.join(", ")),
    )
}

fn head(status: &Value, server: &str, language: Language) -> String {
    let shown = |value: &Value| words::plain(value.as_str().unwrap_or("?"));
    let (id, version) = (shown(&status["node_id"]), shown(&status["version"]));
    let age = language.age(status["uptime"].as_u64().unwrap_or(0));
    let mut text = language.of(
        format!("{id}  {server}  已运行 {age}，版本 {version}\n"),
        format!("{id}  {server}  up {age}, version {version}\n"),
    );
    for (name, value) in facts(status, language) {
        text += &format!("  {}{value}\n", padded(name, NAME_COLUMNS));
    }
    text
}

fn facts(status: &Value, language: Language) -> Vec<(&'static str, String)> {
    let count = |key: &str| status[key].as_u64().unwrap_or(0);
    let bytes = |value: &Value| words::format_bytes(value.as_f64().unwrap_or(0.0));
    let is = |key: &str| status[key] == true;
    let found = problems::of(status).count();
    let health = match (is("running"), found) {
        (false, _) => language.of("服务已停止".to_owned(), "the service is stopped".to_owned()),
        (true, 0) => language.of("正常".to_owned(), "well".to_owned()),
        (true, 1) => language.of("1 个问题，见下".to_owned(), "1 problem, see below".to_owned()),
        (true, n) => language.of(format!("{n} 个问题，见下"), format!("{n} problems, see below")),
    };
    // An older node names only one.
    let main_server = status.get("main_server_in_use").unwrap_or(&status["main_server"]);
    let main_server = words::plain(main_server.as_str().unwrap_or("?"));
    let connected = match is("connected") {
        true => language.of("已连接", "connected"),
        false => language.of("未连接", "not connected"),
    };
    let (used, packages) = (bytes(&status["storage_usage"]), count("meeting_count"));
    let limit = status["storage"]["limit"].as_f64().map(words::format_bytes);
    let limit = limit.map(|limit| language.of(format!(" / {limit}"), format!(" of {limit}")));
    let limit = limit.unwrap_or_default();
    let (under_way, served) = (count("downloads_under_way"), bytes(&status["bytes_served"]));
    let pulled = bytes(&status["bytes_pulled"]);
    let mut facts = vec![
        (language.of("状态", "health"), health),
        (
            language.of("主控服务器", "main server"),
            format!("{main_server}{}{connected}", language.of("，", ", ")),
        ),
        (
            language.of("存储", "storage"),
            language.of(
                format!("{used}{limit}，{packages} 个会议包"),
                format!("{used}{limit}, packages: {packages}"),
            ),
        ),
        (
            language.of("下载", "downloads"),
            language.of(
                format!("进行中 {under_way}，已提供 {served}，已拉取 {pulled}"),
                format!("{under_way} under way, {served} served, {pulled} pulled"),
            ),
        ),
    ];
    facts.extend(sources::relayed(&status["relay"], language));
    facts
}

/// Returns the meetings, failing ones first and settled ones last; of a Python node,
/// those that it has.
fn meetings(status: &Value) -> Vec<&Value> {
    let all = status["meetings"].as_array().or_else(|| status["active_meetings"].as_array());
    let mut all: Vec<_> = all.into_iter().flatten().collect();
    let by_urgency = ["failing", "pulling", "verifying", "waiting", "unconfirmed", "unknown"];
    all.sort_by_key(|meeting| {
        let state = state(meeting);
        by_urgency.iter().position(|known| *known == state).unwrap_or(by_urgency.len())
    });
    all
}

fn state(meeting: &Value) -> &str {
    meeting["state"].as_str().or_else(|| meeting["status"].as_str()).unwrap_or("?")
}

fn table(meetings: &[&Value], language: Language) -> String {
    let mut table = Table::new(language.of(
        ["会议", "标题", "状态", "大小", "进度"],
        ["MEETING", "TITLE", "STATE", "SIZE", "PROGRESS"],
    ));
    for meeting in meetings {
        let shown = |key: &str| words::plain(meeting[key].as_str().unwrap_or_default());
        let size = meeting["size"].as_f64().or_else(|| meeting["total"].as_f64());
        table.add([
            shown("id"),
            clipped(&shown("title"), TITLE_COLUMNS),
            named(state(meeting), language),
            size.map(words::format_bytes).unwrap_or_default(),
            progress(meeting),
        ]);
    }
    table.text()
}

fn progress(meeting: &Value) -> String {
    let Some(received) = meeting["received"].as_f64() else { return String::new() };
    match meeting["total"].as_f64() {
        Some(total) if total > 0.0 => bar(received / total),
        _ => words::format_bytes(received),
    }
}

/// The states of a meeting, in the panel's words.
const STATES: &[(&str, &str, &str)] = &[
    ("waiting", "等待拉取", "waiting"),
    ("pulling", "拉取中", "pulling"),
    ("verifying", "校验中", "verifying"),
    ("failing", "拉取失败", "failing"),
    ("synced", "就绪", "ready"),
    ("unconfirmed", "可用，待核对", "ready, unconfirmed"),
    ("prestaged", "等待会议开始", "waiting for its start"),
    ("inactive", "会议已结束", "meeting ended"),
    ("unknown", "状态未知", "not known"),
];

fn named(state: &str, language: Language) -> String {
    match STATES.iter().find(|(code, ..)| *code == state) {
        Some((_, chinese, english)) => language.of(*chinese, *english).to_owned(),
        // From a Python node, or a newer one.
        None => words::plain(state),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_is_told_in_both_languages() {
        let status = json!({
            "node_id": "hall-3", "version": "1.2.0", "uptime": 273_600, "running": true,
            "connected": true, "main_server": "http://10.0.0.1:80", "storage_usage": 1_200_000_000,
            "storage": {"limit": 10_000_000_000_u64}, "meeting_count": 2,
            "downloads_under_way": 3, "bytes_served": 0, "bytes_pulled": 0, "problems": [],
            "meetings": [
                {"id": "m1", "title": "董事会", "state": "synced", "size": 30_000_000},
                {"id": "m2", "title": "Board", "state": "pulling", "received": 25, "total": 100, "source": {
                    "node": "hall-1", "address": "10.0.0.6:8001", "reason": "assigned", "since": 1000, "rate": 2048,
                }},
            ],
            "now": 1012,
            "relay": {"children": 2, "sent_bytes": 60_000_000, "received_bytes": 25},
        });
        let text = text(&status, "http://10.0.0.7:8001", false, Language::English);
        assert_eq!(
            text,
            "hall-3  http://10.0.0.7:8001  up 3 d 4 h, version 1.2.0\n\
             \x20 health        well\n\
             \x20 main server   http://10.0.0.1:80, connected\n\
             \x20 storage       1.12 GiB of 9.31 GiB, packages: 2\n\
             \x20 downloads     3 under way, 0 B served, 0 B pulled\n\
             \x20 other nodes   2 pull from here, 57.2 MiB sent, 25 B received\n\
             \n\
             MEETING  TITLE   STATE    SIZE      PROGRESS\n\
             m2       Board   pulling  100 B     [##########------------------------------]  25 %\n\
             m1       董事会  ready    28.6 MiB\n\
             \n\
             PULL  FROM                        RATE     FOR   WHY\n\
             m2    node hall-1, 10.0.0.6:8001  2 KiB/s  12 s  named by the main server\n"
        );
        let text = super::text(&status, "http://10.0.0.7:8001", false, Language::Chinese);
        for part in [
            "已运行 3 天 4 小时",
            "  状态          正常",
            "会议  标题    状态",
            "拉取中",
            "由主控服务器指定",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_small_terminal_shows_what_is_wrong_and_counts_the_rest() {
        let meeting = |n: usize| {
            let state = if n == 60 { "failing" } else { "synced" };
            json!({"id": format!("m{n}"), "title": "Board", "state": state, "size": 10})
        };
        let problem = |n| json!({"code": "meeting_failing", "meeting": format!("p{n}"), "cause": "no_package"});
        let status = json!({
            "node_id": "hall-3", "running": true, "connected": true,
            "meetings": (0..65).map(meeting).collect::<Vec<_>>(),
            "problems": [problem(1)],
        });
        let brief =
            |status: &Value, rows| brief(status, "http://a", false, Language::English, rows);
        let text = brief(&status, 23);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 23, "{text}");
        assert!(lines[6].starts_with("error: The package of “p1”"), "{text}");
        assert!(lines[10].starts_with("m60") && lines[10].contains("failing"), "{text}");
        assert_eq!(lines.last(), Some(&"53 more: 53 ready"), "{text}");
        // With more problems than lines, meetings still have some.
        let mut status = status;
        status["problems"] = (0..20).map(problem).collect();
        let text = brief(&status, 23);
        assert!(text.contains("\nproblems not shown: 16\n") && text.contains("m60"), "{text}");
        assert!(text.lines().count() <= 23, "{text}");
        // If all fit, none are counted.
        status["meetings"] = json!([meeting(1), meeting(60)]);
        status["problems"] = json!([]);
        assert_eq!(
            brief(&status, 23).replace("\n\n", "\n"),
            super::text(&status, "http://a", false, Language::English).replace("\n\n", "\n")
        );
        for rows in 0..30 {
            brief(&status, rows);
        }
    }

    #[test]
    fn states_have_the_panels_words() {
        let panel = include_str!("../../../web/js/texts/node.js").to_lowercase();
        for (code, chinese, english) in STATES {
            let line = format!("    {code}: [\"{chinese}\", \"{english}\"],");
            assert!(panel.contains(&line), "{line}");
        }
    }

    #[test]
    fn the_node_before_ours_and_what_nobody_expects_are_shown_as_far_as_they_go() {
        let old = json!({
            "node_id": "n\u{1b}[2J", "running": false,
            "active_meetings": [{"id": "m", "title": 7, "size": 10, "status": "active"}],
        });
        let text = text(&old, "http://a", false, Language::English);
        assert!(text.contains("the service is stopped") && text.contains("active"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
