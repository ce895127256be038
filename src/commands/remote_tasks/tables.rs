//! Remote tasks as tables and lines.

use serde_json::Value;

use super::shown;
use crate::terminal::{Language, table::Table, words};

/// Columns of a reason; the rest of the row has to fit.
const TEXT_COLUMNS: usize = 60;

/// The line for a task that was created.
pub(super) fn created(task: &Value, language: Language) -> String {
    let (id, title) = (shown(&task["id"]), shown(&task["title"]));
    language.of(format!("任务 {id}：{title}"), format!("task {id}: {title}"))
}

/// The line for how far a task is.
pub(super) fn state_line(task: &Value, language: Language) -> String {
    let (id, state) = (shown(&task["id"]), state(&task["status"], language));
    let parts = parts(task);
    language.of(format!("任务 {id}：{state}，{parts}\n"), format!("task {id}: {state}, {parts}\n"))
}

pub(super) fn tasks(page: &Value, language: Language) -> String {
    let tasks = page["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
    if tasks.is_empty() {
        return language.of("没有远程任务\n", "no remote tasks\n").to_owned();
    }
    let mut table =
        Table::new(language.of(
            ["任务", "类型", "标题", "状态", "完成"],
            ["TASK", "TYPE", "TITLE", "STATE", "DONE"],
        ));
    for task in tasks {
        table.add([
            shown(&task["id"]),
            shown(&task["type"]),
            clipped(&task["title"]),
            state(&task["status"], language),
            parts(task),
        ]);
    }
    table.text()
}

pub(super) fn details(task: &Value, language: Language) -> String {
    let mut table = Table::new(
        language.of(["部分", "节点", "状态", "原因"], ["PART", "NODE", "STATE", "REASON"]),
    );
    for run in task["runs"].as_array().into_iter().flatten() {
        let errors = [&run["outcome"]["error"], &run["last_error"]];
        let error = errors.into_iter().map(shown).find(|error| !error.is_empty());
        let error = words::localized(&error.unwrap_or_default(), language);
        table.add([
            run["part"].to_string(),
            shown(&run["node"]),
            state(&run["state"], language),
            crate::terminal::table::clipped(&error, TEXT_COLUMNS),
        ]);
    }
    let result = &task["result"];
    let result = if result.is_null() { String::new() } else { format!("{result:#}\n") };
    state_line(task, language) + &table.text() + &result
}

pub(super) fn choices(choices: &Value, language: Language) -> String {
    let nodes = choices["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if nodes.is_empty() {
        let none = language.of("没有节点请求任务\n", "no node asks for tasks\n");
        return none.to_owned();
    }
    let mut table = Table::new(language.of(["节点", "分数", "原因"], ["NODE", "SCORE", "REASONS"]));
    for node in nodes {
        let reasons = node["reasons"].as_array().into_iter().flatten();
        let reasons: Vec<_> = reasons.map(|reason| part_of(&shown(reason), language)).collect();
        let score =
            node["score"].as_i64().map_or_else(|| "–".to_owned(), |score| score.to_string());
        table.add([shown(&node["node_id"]), score, reasons.join(", ")]);
    }
    table.text()
}

/// A reason in one language, with its points.
fn part_of(reason: &str, language: Language) -> String {
    match reason.rsplit_once(": ") {
        Some((text, points)) => format!("{} {points}", words::localized(text, language)),
        None => words::localized(reason, language),
    }
}

pub(super) fn types(types: &Value, language: Language) -> String {
    let types = types["types"].as_array().map(Vec::as_slice).unwrap_or_default();
    if types.is_empty() {
        let none = language.of("没有节点提供任务类型\n", "no node offers a type of task\n");
        return none.to_owned();
    }
    let mut table = Table::new(language.of(
        ["类型", "标题", "参数", "可重复", "节点"],
        ["TYPE", "TITLE", "PARAMETERS", "REPEATABLE", "NODES"],
    ));
    for offered in types {
        let parameters = offered["parameters"].as_array().into_iter().flatten();
        let parameters: Vec<_> = parameters.map(parameter).collect();
        let repeatable = match offered["repeatable"] == true {
            true => language.of("是", "yes"),
            false => language.of("否", "no"),
        };
        let nodes = offered["nodes"].as_array().map_or(0, Vec::len).to_string();
        table.add([
            shown(&offered["name"]),
            clipped(&offered["title"]),
            parameters.join(" "),
            repeatable.to_owned(),
            nodes,
        ]);
    }
    table.text()
}

fn parameter(known: &Value) -> String {
    let (name, kind) = (shown(&known["name"]), shown(&known["kind"]));
    let text = format!("{name}={kind}");
    if known["required"] == true { text } else { format!("[{text}]") }
}

pub(super) fn state(word: &Value, language: Language) -> String {
    let word = shown(word);
    let chinese = match &*word {
        "queued" => "排队中",
        "waiting" => "等待中",
        "given" => "已分配",
        "running" => "运行中",
        "cancelling" => "正在取消",
        "succeeded" => "成功",
        "partial" => "部分成功",
        "failed" => "失败",
        "lost" => "失联",
        "missed" => "未按时完成",
        "cancelled" => "已取消",
        other => other,
    };
    language.of(chinese, &word).to_owned()
}

fn clipped(value: &Value) -> String {
    crate::terminal::table::clipped(&shown(value), TEXT_COLUMNS)
}

/// Parts that were done, of all.
fn parts(task: &Value) -> String {
    format!("{}/{}", task["parts"]["succeeded"], task["parts"]["total"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tasks_types_and_choices_are_told_in_both_languages() {
        let task = json!({
            "id": "t1", "type": "sleep", "title": "Sleep", "status": "partial",
            "parts": {"succeeded": 1, "total": 2}, "result": null,
            "runs": [{"part": 0, "node": "a", "state": "lost", "outcome": {"error": "走了 / it went"}}],
        });
        let page = json!({"tasks": [task]});
        assert_eq!(
            tasks(&page, Language::English),
            "TASK  TYPE   TITLE  STATE    DONE\nt1    sleep  Sleep  partial  1/2\n"
        );
        assert!(tasks(&page, Language::Chinese).contains("部分成功"));
        assert_eq!(
            details(&task, Language::English),
            "task t1: partial, 1/2\nPART  NODE  STATE  REASON\n0     a     lost   it went\n"
        );
        let offered = json!({"types": [{"name": "sleep", "title": "Sleep", "repeatable": true,
        "nodes": ["a"], "parameters": [
            {"name": "seconds", "kind": "integer", "required": true},
            {"name": "note", "kind": "string", "required": false},
        ]}]});
        assert!(types(&offered, Language::English).contains("seconds=integer [note=string]  yes"));
        let nodes = json!({"nodes": [
            {"node_id": "a", "score": 90, "reasons": ["CPU: -10", "内存 / memory: -5"]},
            {"node_id": "b", "score": null, "reasons": ["没有空位 / it has no free place"]},
        ]});
        assert_eq!(
            choices(&nodes, Language::English),
            "NODE  SCORE  REASONS\na     90     CPU -10, memory -5\nb     –      it has no free place\n"
        );
        assert!(choices(&nodes, Language::Chinese).contains("内存 -5"));
    }
}
