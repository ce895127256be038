//! Tells where pulls under way get their bytes, and what goes from node to node.

use serde_json::Value;

use crate::terminal::{Language, table::Table, words};

/// Formats the pulls under way with their sources, in so many lines at most.
pub(super) fn table(
    status: &Value,
    meetings: &[&Value],
    lines: usize,
    language: Language,
) -> String {
    let pulls = meetings.iter().filter(|meeting| meeting["source"].is_object());
    // An empty line and the headings come first.
    let pulls: Vec<_> = pulls.take(lines.saturating_sub(2)).collect();
    if pulls.is_empty() {
        return String::new();
    }
    let headings = language
        .of(["拉取", "来源", "速度", "已持续", "原因"], ["PULL", "FROM", "RATE", "FOR", "WHY"]);
    let mut table = Table::new(headings);
    for meeting in pulls {
        let source = &meeting["source"];
        let id = words::plain(meeting["id"].as_str().unwrap_or_default());
        let [since, now] = [&source["since"], &status["now"]].map(Value::as_u64);
        let age = since.zip(now).map(|(since, now)| language.age(now.saturating_sub(since)));
        let (from, why) = (named(source, language), reason(source, language));
        let rate = source["rate"].as_u64().map(|rate| words::format_bytes(rate as f64) + "/s");
        table.add([id, from, rate.unwrap_or_default(), age.unwrap_or_default(), why]);
    }
    format!("\n{}", table.text())
}

fn named(source: &Value, language: Language) -> String {
    let text = |key: &str| source[key].as_str().map(words::plain);
    match (text("node"), text("address")) {
        (Some(node), Some(address)) => {
            language.of(format!("节点 {node}，{address}"), format!("node {node}, {address}"))
        }
        (Some(node), None) => language.of(format!("节点 {node}"), format!("node {node}")),
        (None, _) if source["reason"] == UNDECIDED => String::new(),
        (None, _) => language.of("主控服务器", "main server").to_owned(),
    }
}

const UNDECIDED: &str = "undecided";

/// The reasons of a source, in the panel's words.
const REASONS: &[(&str, &str, &str)] = &[
    ("first", "主控服务器让本节点直接拉取", "it tells this node to pull directly"),
    ("assigned", "由主控服务器指定", "named by the main server"),
    ("ranked", "按节点的排序选定", "chosen by the order of the nodes"),
    (
        "first_ranked",
        "本节点在排序中居首，直接拉取",
        "this node is the first in the order of the nodes",
    ),
    ("off", "节点互传已关闭", "passing packages between nodes is off"),
    ("no_key", "没有设置互传密钥", "the nodes share no key"),
    ("no_sibling", "没有发现其他节点", "no other node was found"),
    (
        "compare",
        "只有主控服务器知道它是否已更新",
        "only the main server can tell whether it has changed",
    ),
    (
        "unidentified",
        "主控服务器没有说明它的版本",
        "the main server does not say which version it has",
    ),
    ("no_parent_left", "其他节点都没能提供", "no other node could give it"),
];

fn reason(source: &Value, language: Language) -> String {
    let code = match source["reason"].as_str().unwrap_or_default() {
        UNDECIDED => return language.of("正在选择", "being chosen").to_owned(),
        "assigned" if source["node"].is_null() => "first",
        "ranked" if source["node"].is_null() => "first_ranked",
        code => code,
    };
    match REASONS.iter().find(|(known, ..)| *known == code) {
        Some((_, chinese, english)) => language.of(*chinese, *english).to_owned(),
        // From a newer node.
        None => words::plain(code),
    }
}

/// A line on the other nodes, if anything went from or to them.
pub(super) fn relayed(relay: &Value, language: Language) -> Option<(&'static str, String)> {
    let count = |key: &str| relay[key].as_u64().unwrap_or(0);
    let [children, sent, received] = ["children", "sent_bytes", "received_bytes"].map(count);
    if [children, sent, received] == [0; 3] {
        return None;
    }
    let [sent, received] = [sent, received].map(|bytes| words::format_bytes(bytes as f64));
    let told = language.of(
        format!("{children} 个正从本节点拉取，已发送 {sent}，已收到 {received}"),
        format!("{children} pull from here, {sent} sent, {received} received"),
    );
    Some((language.of("其他节点", "other nodes"), told))
}

#[cfg(test)]
mod tests {
    use edge_mirror_base::metrics::Label;
    use edge_mirror_node::fetch::SourceReason;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_reason_is_told_in_the_panels_words() {
        let panel = include_str!("../../../web/js/texts/node.js");
        for (code, chinese, english) in REASONS {
            let line = format!("    {code}: [\"{chinese}\", \"{english}\"],");
            assert!(panel.contains(&line), "{line}");
        }
        for reason in SourceReason::ALL.iter().map(|reason| reason.text()) {
            let told = super::reason(&json!({"reason": reason, "node": "n"}), Language::English);
            assert!(told != reason && panel.contains(&format!("    {reason}: [")), "{reason}");
        }
    }

    #[test]
    fn pulls_from_the_main_server_say_why_and_no_more_are_shown_than_fit() {
        let of = |reason: &str| json!({"id": "m", "source": {"node": null, "reason": reason}});
        let pulls = [of("assigned"), of("undecided"), of("new_one"), json!({"id": "none"})];
        let pulls: Vec<_> = pulls.iter().collect();
        let shown =
            |pulls: &[&Value], lines| table(&json!({"now": 1}), pulls, lines, Language::English);
        let text = shown(&pulls, 99);
        let rows: Vec<Vec<_>> =
            text.lines().map(|line| line.split("  ").map(str::trim).collect()).collect();
        let row = |n: usize| rows[n].iter().filter(|cell| !cell.is_empty()).collect::<Vec<_>>();
        assert_eq!(row(2), [&"m", &"main server", &"it tells this node to pull directly"]);
        assert_eq!(row(3), [&"m", &"being chosen"]);
        assert_eq!(row(4), [&"m", &"main server", &"new_one"]);
        assert_eq!(rows.len(), 5, "{text}");
        let fast = json!({"id": "m", "source": {
            "node": "n", "address": "10.0.0.6:8001", "reason": "ranked", "rate": 20_971_520,
            "since": 1,
        }});
        let text = shown(&[&fast], 99);
        let row: Vec<_> =
            text.lines().nth(2).unwrap_or_default().split("  ").map(str::trim).collect();
        let row: Vec<_> = row.into_iter().filter(|cell| !cell.is_empty()).collect();
        assert_eq!(row[..3], ["m", "node n, 10.0.0.6:8001", "20 MiB/s"], "{text}");
        assert_eq!(shown(&pulls, 3).lines().count(), 3);
        assert_eq!(shown(&pulls, 2), "");
        assert_eq!(shown(&pulls[3..], 99), "");
    }
}
