//! Problems of a node, which come as codes, in the panel's words.

use serde_json::Value;

use crate::{
    commands::panel::panel_text,
    terminal::{Language, words},
};

/// Causes for which the panel, too, refers to the details.
const VAGUE: [&str; 3] = ["http_status", "damaged", "other"];

pub(super) fn of(status: &Value) -> impl Iterator<Item = &Value> {
    status["problems"].as_array().into_iter().flatten()
}

/// True unless it is only a warning.
pub(super) fn is_error(problem: &Value) -> bool {
    problem["severity"] != "warning"
}

/// Formats one line, another for what to do about it, and one for technical details if
/// they say more.
pub(super) fn told(problem: &Value, verbose: bool, language: Language) -> String {
    let kind = match is_error(problem) {
        true => language.of("错误：", "error: "),
        false => language.of("警告：", "warning: "),
    };
    let mut text = format!("{kind}{}\n", what(problem, language));
    let cause = problem["cause"].as_str();
    let advice = cause.and_then(|cause| panel_text("cause", &format!("{cause}.do"), language));
    let is_clear = advice.is_some() && !cause.is_some_and(|cause| VAGUE.contains(&cause));
    if let Some(line) = advice {
        text += &format!("  → {line}\n");
    }
    if let Some(details) = problem["text"].as_str().filter(|_| verbose || !is_clear) {
        text += &format!("  → {}\n", words::plain(details));
    }
    text
}

fn what(problem: &Value, language: Language) -> String {
    let field = |key: &str| match &problem[key] {
        Value::String(text) => words::plain(text),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let cause = problem["cause"].as_str().map(|cause| {
        let known = panel_text("cause", cause, language);
        known.or_else(|| panel_text("cause", "other", language)).unwrap_or_default()
    });
    let cause = cause.map(|cause| language.of(format!("（{cause}）"), format!(": {cause}")));
    let cause = cause.unwrap_or_default();
    let title = Some(field("title")).filter(|title| !title.is_empty());
    let meeting = title.unwrap_or_else(|| field("meeting"));
    let (at, id) = (field("main_server"), field("meeting"));
    // The panel has functions for these.
    match field("code").as_str() {
        "main_server_unreachable" => language.of(
            format!("连接不上主控服务器 {at}{cause}。"),
            format!("The main server {at} can't be reached{cause}."),
        ),
        "main_servers_unreachable" => language.of(
            format!("列出的主控服务器都没有应答：{}。", field("main_servers")),
            format!("None of the main servers answers: {}.", field("main_servers")),
        ),
        "poll_failed" => language.of(
            format!("不能从主控服务器 {at} 读取会议列表{cause}。"),
            format!("The list of meetings can't be read from {at}{cause}."),
        ),
        "meeting_failing" => language.of(
            format!("会议“{meeting}”的会议包没有拉取成功{cause}。"),
            format!("The package of “{meeting}” could not be pulled{cause}."),
        ),
        "meeting_unserved" => language.of(
            format!("会议“{meeting}”不能同步，会议室会一直等待：它的 ID “{id}” 不能使用。"),
            format!(
                "The meeting “{meeting}” can't be synced, and its room waits: its ID “{id}” \
                 can't be used."
            ),
        ),
        code => match panel_text("problem", code, language) {
            Some(text) => filled(&text, problem, field),
            // From a newer node.
            None => code.to_owned(),
        },
    }
}

/// Replaces each `{name}` with that value of the problem.
fn filled(text: &str, problem: &Value, field: impl Fn(&str) -> String) -> String {
    let has_used = problem["used"].is_number();
    let mut parts = text.split('{');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').unwrap_or((part, ""));
        // A `limit` without `used` is a number of meetings.
        let is_size = matches!(name, "used" | "free") || name == "limit" && has_used;
        let size = problem[name].as_f64().filter(|_| is_size);
        filled += &size.map_or_else(|| field(name), words::format_bytes);
        filled += rest;
    }
    filled
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BOTH: [Language; 2] = [Language::Chinese, Language::English];

    #[test]
    fn every_code_that_a_node_has_is_put_into_words() {
        let source = include_str!("../../../crates/node/src/api/status/problems.rs");
        let made = source.split("Problem::").skip(1).filter_map(|rest| rest.split_once('('));
        let codes = made.filter_map(|(_, given)| given.trim_start().strip_prefix('"'));
        let codes: Vec<_> = codes.filter_map(|rest| rest.split('"').next()).collect();
        assert!(codes.len() >= 10, "{codes:?}");
        for code in codes {
            let problem = json!({"code": code});
            for language in BOTH {
                assert_ne!(what(&problem, language), code);
            }
        }
    }

    #[test]
    fn every_cause_has_the_panels_words_and_advice() {
        let causes = [
            "refused",
            "unreachable",
            "timeout",
            "http_status",
            "unreadable",
            "not_found",
            "no_package",
            "interrupted",
            "stalled",
            "too_slow",
            "damaged",
            "no_room",
            "disk",
            "busy",
            "other",
        ];
        for name in causes.into_iter().flat_map(|cause| [cause.to_owned(), format!("{cause}.do")]) {
            for language in BOTH {
                assert!(panel_text("cause", &name, language).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn a_failing_meeting_says_what_to_do_and_its_request_only_if_asked() {
        let failing = json!({
            "code": "meeting_failing", "severity": "error", "meeting": "m1", "title": "Board",
            "cause": "no_package", "text": "GET http://a/m1 answered 500",
        });
        let brief = told(&failing, false, Language::English);
        assert_eq!(
            brief,
            "error: The package of “Board” could not be pulled: the main server has no package \
             for it yet.\n  → Upload its package on the main server; the node then pulls it by \
             itself.\n"
        );
        let verbose = told(&failing, true, Language::Chinese);
        assert!(verbose.starts_with("错误：会议“Board”的会议包没有拉取成功（主控服务器上还没有"));
        assert!(verbose.ends_with("  → GET http://a/m1 answered 500\n"), "{verbose}");
    }

    #[test]
    fn sizes_have_units_and_counts_have_none() {
        let full = json!({"code": "storage_nearly_full", "used": 1 << 30, "limit": 2_u64 << 30});
        assert_eq!(
            what(&full, Language::English),
            "Storage is nearly full: 1 GiB of 2 GiB are used."
        );
        let many = json!({"code": "too_many_meetings", "limit": 10_000, "left_out": 7});
        assert!(what(&many, Language::English).contains("10000 are synced, 7 are not"));
        let disk = json!({"code": "disk_nearly_full", "path": "/data", "free": 5 << 20});
        assert!(what(&disk, Language::Chinese).contains("/data 所在的磁盘只剩 5 MiB"));
    }

    #[test]
    fn a_problem_has_its_details_below_and_unknown_ones_are_shown_as_they_are() {
        let rejected = json!({
            "code": "config_rejected", "severity": "error",
            "file": "/etc/a.json", "text": "not valid\nJSON",
        });
        let told_of = told(&rejected, false, Language::English);
        assert!(told_of.ends_with("\n  → not valid JSON\n"), "{told_of}");
        let newer = json!({"code": "moon_full", "severity": "warning"});
        assert_eq!(told(&newer, false, Language::Chinese), "警告：moon_full\n");
        assert!(is_error(&rejected) && !is_error(&newer));
    }
}
