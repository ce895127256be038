//! Messages in words, with how far they are on their way.

use chrono::{DateTime, Local};
use serde_json::Value;

use crate::terminal::{
    Language,
    table::{Table, clipped},
    words,
};

/// Names of nodes in a sentence; the others are counted.
pub(super) const NAMED: usize = 5;
/// Columns of a message; the rest of the row has to fit.
const BODY_COLUMNS: usize = 40;

fn count(cast: &Value, state: &str) -> u64 {
    cast["delivery"][state].as_u64().unwrap_or(0)
}

/// Returns all that changes while it is on its way.
pub(super) fn progress(cast: &Value) -> (&Value, &Value) {
    (&cast["status"], &cast["delivery"])
}

/// True if all nodes have it.
pub(super) fn is_delivered(cast: &Value) -> bool {
    ["pending", "sent", "missed"].iter().all(|state| count(cast, state) == 0)
}

/// True if nothing of it will change any more, as far as that is known.
pub(super) fn is_settled(cast: &Value) -> bool {
    let on_its_way = count(cast, "pending") + count(cast, "sent");
    cast["delivery"].is_object() && (on_its_way == 0 || cast["status"] != "active")
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| words::plain(&value.to_string()), words::plain)
}

fn clock(cast: &Value) -> String {
    let at = cast["at"].as_f64().and_then(|at| DateTime::from_timestamp(at as i64, 0));
    let at = at.map(|at| at.with_timezone(&Local));
    let today = Local::now().date_naive();
    at.map_or_else(String::new, |at| match at.date_naive() == today {
        true => at.format("%H:%M:%S").to_string(),
        false => at.format("%m-%d %H:%M").to_string(),
    })
}

fn received(cast: &Value, language: Language) -> String {
    let have = count(cast, "received");
    let all: u64 = ["pending", "sent", "missed"].iter().map(|state| count(cast, state)).sum();
    language.of(format!("{have}/{}", have + all), format!("{have} of {}", have + all))
}

fn status(cast: &Value, language: Language) -> String {
    match cast["status"].as_str() {
        Some("cancelled") => language.of("已取消", "cancelled").to_owned(),
        Some("expired") => language.of("已过期", "expired").to_owned(),
        _ if is_delivered(cast) => language.of("已送达", "delivered").to_owned(),
        _ => language.of("发送中", "under way").to_owned(),
    }
}

/// Formats `7 of 8 nodes have it; not yet: 3-East`.
pub(super) fn sentence(cast: &Value, language: Language) -> String {
    let received = received(cast, language);
    let mut text =
        language.of(format!("已收到的节点 {received}"), format!("{received} nodes have it"));
    let nodes = cast["delivery"]["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let named = |states: &[&str]| {
        let is_in = |node: &&Value| node["state"].as_str().is_some_and(|s| states.contains(&s));
        let names = nodes.iter().filter(is_in).take(NAMED).map(|node| shown(&node["node_id"]));
        let names: Vec<_> = names.collect();
        let all = states.iter().map(|state| count(cast, state)).sum::<u64>();
        let list = names.join(language.of("、", ", "));
        match (all, all.saturating_sub(names.len() as u64)) {
            (0, _) => None,
            (_, 0) => Some(list),
            (all, more) => {
                Some(list + &language.of(format!(" 等 {all} 个"), format!(" and {more} more")))
            }
        }
    };
    if let Some(names) = named(&["pending", "sent"]) {
        text += &language.of(format!("；未收到：{names}"), format!("; not yet: {names}"));
    }
    if let Some(names) = named(&["missed"]) {
        text += &language.of(format!("；错过：{names}"), format!("; missed it: {names}"));
    }
    if cast["status"] == "cancelled" {
        text += language.of("；已取消", "; it was cancelled");
    }
    text
}

/// Formats a line of the feed.
pub(super) fn line(cast: &Value, language: Language) -> String {
    let body = clipped(&shown(&cast["body"]), BODY_COLUMNS);
    let (at, topic) = (clock(cast), shown(&cast["topic"]));
    let colon = language.of("：", ": ");
    format!("{at}  {topic}  {body}{colon}{}", sentence(cast, language))
}

/// Formats a row for each.
pub(super) fn table(casts: &[Value], language: Language) -> String {
    if casts.is_empty() {
        return format!("{}\n", language.of("没有消息", "there are no messages"));
    }
    let mut table = Table::new(language.of(
        ["时间", "主题", "内容", "状态", "已收到"],
        ["TIME", "TOPIC", "MESSAGE", "STATE", "RECEIVED"],
    ));
    for cast in casts {
        table.add([
            clock(cast),
            shown(&cast["topic"]),
            clipped(&shown(&cast["body"]), BODY_COLUMNS),
            status(cast, language),
            received(cast, language),
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cast(status: &str, states: &[&str]) -> Value {
        let count = |wanted: &str| states.iter().filter(|state| **state == wanted).count();
        let numbered = states.iter().enumerate();
        let nodes: Vec<_> = numbered
            .map(|(n, state)| json!({"node_id": format!("n{n}"), "state": state}))
            .collect();
        json!({
            "id": "s-1", "topic": "notice", "body": "moved to 10:30", "status": status,
            "at": Local::now().timestamp(), "delivery": {
                "pending": count("pending"), "sent": count("sent"),
                "received": count("received"), "missed": count("missed"), "nodes": nodes,
            },
        })
    }

    #[test]
    fn one_sentence_says_who_has_it_and_who_does_not() {
        let some = cast("active", &["received", "pending", "received", "sent"]);
        assert_eq!(sentence(&some, Language::English), "2 of 4 nodes have it; not yet: n1, n3");
        assert_eq!(sentence(&some, Language::Chinese), "已收到的节点 2/4；未收到：n1、n3");
        assert!(!is_delivered(&some) && !is_settled(&some));
        let all = cast("active", &["received"]);
        assert_eq!(sentence(&all, Language::English), "1 of 1 nodes have it");
        assert!(is_delivered(&all) && is_settled(&all));
        let missed = cast("expired", &["missed"; 7]);
        let expected = "0 of 7 nodes have it; missed it: n0, n1, n2, n3, n4 and 2 more";
        assert_eq!(sentence(&missed, Language::English), expected);
        assert!(!is_delivered(&missed) && is_settled(&missed));
        let cancelled = cast("cancelled", &["pending"]);
        assert!(sentence(&cancelled, Language::English).ends_with("not yet: n0; it was cancelled"));
        assert!(is_settled(&cancelled));
    }

    #[test]
    fn messages_are_one_line_each_and_obey_nothing() {
        let mut cast = cast("active", &["received", "pending"]);
        cast["body"] = json!("a\u{1b}[2Jb\nc");
        let line = line(&cast, Language::English);
        assert!(line.ends_with("  notice  a [2Jb c: 1 of 2 nodes have it; not yet: n1"), "{line}");
        cast["body"] = json!({"volume": 3});
        let table = table(&[cast], Language::Chinese);
        assert!(table.contains(r#"{"volume":3}"#) && table.contains("发送中"), "{table}");
        assert_eq!(super::table(&[], Language::English), "there are no messages\n");
    }
}
