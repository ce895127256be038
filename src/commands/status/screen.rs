//! A node's status in words.

use serde_json::Value;

use super::problems;
use crate::terminal::{
    Language,
    live::bar,
    table::{Table, clipped, padded},
    words,
};

/// Of a title; the rest of the row has to fit beside it.
const TITLE_COLUMNS: usize = 30;
const NAME_COLUMNS: usize = 14;

pub(super) fn text(status: &Value, server: &str, language: Language) -> String {
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
    let meetings = meetings(status);
    if !meetings.is_empty() {
        text += &format!("\n{}", table(meetings, language));
    }
    let mut found = problems::of(status).peekable();
    if found.peek().is_some() {
        text.push('\n');
    }
    for problem in found {
        text += &problems::told(problem, language);
    }
    text
}

fn facts(status: &Value, language: Language) -> Vec<(&'static str, String)> {
    let count = |key: &str| status[key].as_u64().unwrap_or(0);
    let bytes = |value: &Value| words::bytes(value.as_f64().unwrap_or(0.0));
    let is = |key: &str| status[key] == true;
    let found = problems::of(status).count();
    let health = match (is("running"), found) {
        (false, _) => language.of("服务已停止".to_owned(), "the service is stopped".to_owned()),
        (true, 0) => language.of("正常".to_owned(), "well".to_owned()),
        (true, 1) => language.of("1 个问题，见下".to_owned(), "1 problem, see below".to_owned()),
        (true, n) => language.of(format!("{n} 个问题，见下"), format!("{n} problems, see below")),
    };
    let main_server = words::plain(status["main_server"].as_str().unwrap_or("?"));
    let connected = match is("connected") {
        true => language.of("已连接", "connected"),
        false => language.of("未连接", "not connected"),
    };
    let (used, packages) = (bytes(&status["storage_usage"]), count("meeting_count"));
    let limit = status["storage"]["limit"].as_f64().map(words::bytes);
    let limit = limit.map(|limit| language.of(format!(" / {limit}"), format!(" of {limit}")));
    let limit = limit.unwrap_or_default();
    let (under_way, served) = (count("downloads_under_way"), bytes(&status["bytes_served"]));
    let pulled = bytes(&status["bytes_pulled"]);
    vec![
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
    ]
}

/// Of a node as it was before ours, those that it has.
fn meetings(status: &Value) -> &[Value] {
    let all = status["meetings"].as_array().or_else(|| status["active_meetings"].as_array());
    all.map(Vec::as_slice).unwrap_or_default()
}

fn table(meetings: &[Value], language: Language) -> String {
    let mut table = Table::new(language.of(
        ["会议", "标题", "状态", "大小", "进度"],
        ["MEETING", "TITLE", "STATE", "SIZE", "PROGRESS"],
    ));
    for meeting in meetings {
        let shown = |key: &str| words::plain(meeting[key].as_str().unwrap_or_default());
        let state = meeting["state"].as_str().or_else(|| meeting["status"].as_str());
        let size = meeting["size"].as_f64().or_else(|| meeting["total"].as_f64());
        table.add([
            shown("id"),
            clipped(&shown("title"), TITLE_COLUMNS),
            named(state.unwrap_or("?"), language),
            size.map(words::bytes).unwrap_or_default(),
            progress(meeting),
        ]);
    }
    table.text()
}

fn progress(meeting: &Value) -> String {
    let Some(received) = meeting["received"].as_f64() else { return String::new() };
    match meeting["total"].as_f64() {
        Some(total) if total > 0.0 => bar(received / total),
        _ => words::bytes(received),
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
    ("inactive", "会议已结束", "meeting ended"),
    ("unknown", "状态未知", "not known"),
];

fn named(state: &str, language: Language) -> String {
    match STATES.iter().find(|(code, ..)| *code == state) {
        Some((_, chinese, english)) => language.of(*chinese, *english).to_owned(),
        // Of the node before ours, or of a newer one.
        None => words::plain(state),
    }
}

/// In the place of what is on the terminal: from its upper left corner, each
/// line cleared, as much as it has room for.
pub(super) fn drawn(text: &str) -> String {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    let (rows, columns) = size.map_or((0, 0), |size| (size.ws_row, size.ws_col));
    // Some terminals don't know how large they are.
    let known = |n: u16, usual: usize| if n > 0 { usize::from(n) } else { usual };
    fitted(text, known(rows, 24), known(columns, 80))
}

fn fitted(text: &str, rows: usize, columns: usize) -> String {
    let lines = text.lines().take(rows.saturating_sub(1));
    let lines = lines.map(|line| format!("{}\x1b[K\n", clipped(line, columns)));
    format!("\x1b[H{}\x1b[J", lines.collect::<String>())
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
                {"id": "m2", "title": "Board", "state": "pulling", "received": 25, "total": 100},
            ],
        });
        let text = text(&status, "http://10.0.0.7:8001", Language::English);
        assert_eq!(
            text,
            "hall-3  http://10.0.0.7:8001  up 3 d 4 h, version 1.2.0\n\
             \x20 health        well\n\
             \x20 main server   http://10.0.0.1:80, connected\n\
             \x20 storage       1.12 GiB of 9.31 GiB, packages: 2\n\
             \x20 downloads     3 under way, 0 B served, 0 B pulled\n\
             \n\
             MEETING  TITLE   STATE    SIZE      PROGRESS\n\
             m1       董事会  ready    28.6 MiB\n\
             m2       Board   pulling  100 B     [##########------------------------------]  25 %\n"
        );
        let text = super::text(&status, "http://10.0.0.7:8001", Language::Chinese);
        for part in ["已运行 3 天 4 小时", "  状态          正常", "会议  标题    状态", "拉取中"]
        {
            assert!(text.contains(part), "{part}: {text}");
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
    fn what_is_drawn_again_fits_on_the_terminal() {
        let drawn = fitted("a long line\n会议会议\nthird\n", 3, 6);
        assert_eq!(drawn, "\x1b[Ha lon…\x1b[K\n会议…\x1b[K\n\x1b[J");
    }

    #[test]
    fn the_node_before_ours_and_what_nobody_expects_are_shown_as_far_as_they_go() {
        let old = json!({
            "node_id": "n\u{1b}[2J", "running": false,
            "active_meetings": [{"id": "m", "title": 7, "size": 10, "status": "active"}],
        });
        let text = text(&old, "http://a", Language::English);
        assert!(text.contains("the service is stopped") && text.contains("active"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
