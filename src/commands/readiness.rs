//! Readiness of nodes for a meeting, in words and in a table.

use chrono::{DateTime, Local};
use serde_json::Value;

use super::panel::panel_text;
use crate::terminal::{
    Language,
    table::{Table, clipped},
    words,
};

/// Names of nodes in a sentence; the others are counted.
const NAMED: usize = 5;
/// Columns of a reason; the rest of the row has to fit.
const REASON_COLUMNS: usize = 60;
/// Most urgent first.
const LACKING: [&str; 5] = ["failing", "away", "unreachable", "waiting", "pulling"];

fn count(readiness: &Value, key: &str) -> u64 {
    readiness[key].as_u64().unwrap_or(0)
}

pub(super) fn is_ready(readiness: &Value) -> bool {
    readiness["is_ready"] == true
}

/// Formats `09:02`, on another day with the date.
fn clock(seconds: f64, now: DateTime<Local>) -> Option<String> {
    let at = DateTime::from_timestamp(seconds as i64, 0)?.with_timezone(&Local);
    let form = if at.date_naive() == now.date_naive() { "%H:%M" } else { "%m-%d %H:%M" };
    Some(at.format(form).to_string())
}

fn last_ready(readiness: &Value) -> Option<String> {
    clock(readiness["last_ready_at"].as_f64()?, Local::now())
}

fn time_left(readiness: &Value, language: Language) -> Option<String> {
    let left = language.age(readiness["seconds_left"].as_u64()?);
    Some(language.of(format!("约剩 {left}"), format!("about {left} left")))
}

fn lacking(nodes: &[Value]) -> impl Iterator<Item = &Value> {
    nodes.iter().filter(|node| node["state"] != "ready")
}

/// Formats one sentence: `38 of 40 nodes are ready with version 7, the last at 09:02; not
/// ready: …`.
pub(super) fn sentence(meeting: &Value, language: Language) -> String {
    let (all, ready) = (count(meeting, "total"), count(meeting, "ready"));
    if meeting["sha256"].is_null() {
        return language.of("没有会议包", "there is no package").to_owned();
    }
    if all == 0 {
        return language.of("没有节点", "there are no nodes").to_owned();
    }
    let version = count(meeting, "version");
    let mut text = match ready == all {
        true => language.of(
            format!("{all} 个节点全部就绪（第 {version} 版）"),
            match all {
                1 => format!("the one node is ready with version {version}"),
                _ => format!("all {all} nodes are ready with version {version}"),
            },
        ),
        false => language.of(
            format!("{all} 个节点中 {ready} 个已就绪（第 {version} 版）"),
            match (all, ready) {
                (1, _) => format!("0 of 1 node is ready with version {version}"),
                (_, 1) => format!("1 of {all} nodes is ready with version {version}"),
                _ => format!("{ready} of {all} nodes are ready with version {version}"),
            },
        ),
    };
    if let Some(time) = last_ready(meeting) {
        text += &language.of(format!("，最后一个于 {time} 就绪"), format!(", the last at {time}"));
    }
    let nodes = meeting["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<_> = lacking(nodes).map(name).collect();
    if !names.is_empty() {
        text += language.of("；未就绪：", "; not ready: ");
        text += &names[..names.len().min(NAMED)].join(language.of("、", ", "));
        if let more @ 1.. = names.len().saturating_sub(NAMED) {
            text += &language.of(format!(" 等 {} 个", names.len()), format!(" and {more} more"));
        }
    }
    if let Some(left) = time_left(meeting, language) {
        text += &language.of(format!("；{left}"), format!("; {left}"));
    }
    text
}

fn name(node: &Value) -> String {
    words::plain(node["node_id"].as_str().unwrap_or_default())
}

/// Formats the states of the nodes: `1 failing, 3 pulling, about 2 min left`; the time if
/// all are ready.
pub(super) fn states(readiness: &Value, language: Language) -> String {
    if !readiness.is_object() {
        return String::new();
    }
    if is_ready(readiness) {
        let ready = panel_text("readiness", "ready", language).unwrap_or_default();
        return match last_ready(readiness) {
            Some(time) => language
                .of(format!("{ready}，最后一个于 {time}"), format!("{ready}, the last at {time}")),
            None => ready,
        };
    }
    let states = LACKING.iter().filter_map(|state| {
        let count = count(readiness, state);
        let words = panel_text("readiness", state, language)?;
        (count > 0).then(|| language.of(format!("{words} {count} 个"), format!("{count} {words}")))
    });
    let mut parts: Vec<_> = states.collect();
    parts.extend(time_left(readiness, language));
    parts.join(language.of("，", ", "))
}

/// Formats a row for each node that is not ready; empty if there is none.
pub(super) fn table(nodes: &[Value], language: Language) -> String {
    if lacking(nodes).next().is_none() {
        return String::new();
    }
    let mut table = Table::new(language.of(
        ["节点", "站点", "状态", "进度", "剩余", "自", "原因"],
        ["NODE", "SITE", "STATE", "DONE", "LEFT", "SINCE", "WHY"],
    ));
    for node in lacking(nodes) {
        let state = node["state"].as_str().unwrap_or_default();
        let percent = node["percent"].as_u64().map(|percent| format!("{percent} %"));
        let left = node["seconds_left"].as_u64().map(|seconds| language.age(seconds));
        let since = node["since"].as_f64().and_then(|at| clock(at, Local::now()));
        table.add([
            name(node),
            words::plain(node["site"].as_str().unwrap_or_default()),
            panel_text("readiness", state, language).unwrap_or_else(|| words::plain(state)),
            percent.unwrap_or_default(),
            left.unwrap_or_default(),
            since.unwrap_or_default(),
            clipped(&reason(node, language), REASON_COLUMNS),
        ]);
    }
    table.text()
}

/// The panel's words for the reason, and the details.
fn reason(node: &Value, language: Language) -> String {
    let code = node["reason"].as_str();
    let known = code.and_then(|code| {
        panel_text("lacking", code, language).or_else(|| panel_text("cause", code, language))
    });
    let known = known.or_else(|| code.map(words::plain));
    let details = node["text"].as_str().map(words::plain);
    let parts: Vec<_> = known.into_iter().chain(details).collect();
    parts.join(language.of("：", ": "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn meeting() -> Value {
        json!({
            "id": "m1", "version": 7, "sha256": "00", "size": 10, "total": 4, "ready": 1,
            "failing": 1, "pulling": 1, "away": 1, "waiting": 0, "unreachable": 0,
            "is_ready": false, "last_ready_at": null, "seconds_left": 130, "nodes": [
                {"node_id": "3-East", "site": "east", "state": "failing", "percent": null,
                    "seconds_left": null, "reason": "no_room", "text": "disk full", "since": null},
                {"node_id": "4-West", "site": "", "state": "away", "percent": null,
                    "seconds_left": null, "reason": null, "text": null, "since": null},
                {"node_id": "lobby", "site": "", "state": "pulling", "percent": 37,
                    "seconds_left": 130, "reason": null, "text": null, "since": null},
                {"node_id": "hall", "site": "", "state": "ready", "percent": 100,
                    "seconds_left": null, "reason": null, "text": null, "since": null},
            ],
        })
    }

    #[test]
    fn one_sentence_says_who_has_it_and_who_lacks_it() {
        let told = |meeting: &Value| {
            [Language::English, Language::Chinese].map(|language| sentence(meeting, language))
        };
        let [english, chinese] = told(&meeting());
        assert_eq!(
            english,
            "1 of 4 nodes is ready with version 7; not ready: 3-East, 4-West, lobby; about 2 min left"
        );
        let expected =
            "4 个节点中 1 个已就绪（第 7 版）；未就绪：3-East、4-West、lobby；约剩 2 分钟";
        assert_eq!(chinese, expected);
        let mut many = meeting();
        many["nodes"] =
            (0..7).map(|n| json!({"node_id": n.to_string(), "state": "away"})).collect();
        many["seconds_left"] = Value::Null;
        let [english, chinese] = told(&many);
        assert!(english.ends_with("not ready: 0, 1, 2, 3, 4 and 2 more"), "{english}");
        assert!(chinese.ends_with("等 7 个"), "{chinese}");
        let mut all = meeting();
        (all["ready"], all["nodes"], all["seconds_left"]) = (json!(4), json!([]), Value::Null);
        all["last_ready_at"] = json!(Local::now().timestamp());
        let time = Local::now().format("%H:");
        let [english, chinese] = told(&all);
        let expected = format!("all 4 nodes are ready with version 7, the last at {time}");
        assert!(english.starts_with(&expected), "{english}");
        assert!(chinese.starts_with("4 个节点全部就绪（第 7 版），最后一个于 "), "{chinese}");
        let mut none = meeting();
        none["total"] = json!(0);
        assert_eq!(told(&none), ["there are no nodes", "没有节点"]);
        none["sha256"] = Value::Null;
        assert_eq!(told(&none), ["there is no package", "没有会议包"]);
    }

    #[test]
    fn the_table_says_why_a_node_is_not_ready() {
        let nodes = meeting()["nodes"].as_array().unwrap().clone();
        assert_eq!(
            table(&nodes, Language::English),
            "NODE    SITE  STATE    DONE  LEFT   SINCE  WHY\n\
             3-East  east  failing                      there is not enough room: disk full\n\
             4-West        away\n\
             lobby         pulling  37 %  2 min\n"
        );
        assert!(table(&nodes, Language::Chinese).contains("存储空间不够：disk full"));
        assert_eq!(table(&nodes[3..], Language::English), "");
    }

    #[test]
    fn states_are_counted_most_urgent_first_in_the_pages_words() {
        let told = states(&meeting(), Language::English);
        assert_eq!(told, "1 failing, 1 away, 1 pulling, about 2 min left");
        assert_eq!(states(&Value::Null, Language::English), "");
        assert_eq!(states(&json!({"is_ready": true}), Language::Chinese), "已就绪");
    }
}
