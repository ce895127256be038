//! `edge-mirror nodes` and `edge-mirror meetings`: a main server's lists.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde_json::Value;

use super::client::{self, ApiClient};
use crate::{
    cli::ListArgs,
    terminal::{
        self, Language,
        table::{Table, clipped},
        words,
    },
};

/// Columns of a title or reason; the rest of the row has to fit.
const TEXT_COLUMNS: usize = 40;
const NODES: &str = "/api/v1/nodes/list";
const MEETINGS: &str = "/api/v1/meetings";

pub(super) async fn nodes(args: &ListArgs, language: Language) -> Result<()> {
    let api = ApiClient::new(
        args.master.clone(),
        &args.authority.trust(),
        client::ServerKind::MainServer,
        None,
    )?;
    let list = api.get(NODES).await?;
    let nodes = list.as_array().ok_or_else(|| api.unexpected_answer(NODES))?;
    if args.json {
        terminal::print(format!("{list:#}\n"))?;
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64());
    let text = nodes_table(nodes, now, language);
    let none = language.of("没有在线的节点", "no nodes are online");
    Ok(terminal::print(or_none(nodes, text, none))?)
}

pub(super) async fn meetings(args: &ListArgs, language: Language) -> Result<()> {
    let api = ApiClient::new(
        args.master.clone(),
        &args.authority.trust(),
        client::ServerKind::MainServer,
        None,
    )?;
    let list = match api.get(MEETINGS).await {
        Ok(list) => list,
        // Only our main server has this list.
        Err(error) if error.is_not_found() => {
            api.get(client::OF_MAIN_SERVERS).await?["meetings"].take()
        }
        Err(error) => return Err(error.into()),
    };
    let meetings = list.as_array().ok_or_else(|| api.unexpected_answer(MEETINGS))?;
    if args.json {
        terminal::print(format!("{list:#}\n"))?;
        return Ok(());
    }
    // Other main servers don't list them, or not all.
    let nodes = api.get(NODES).await.ok().and_then(|list| Some(list.as_array()?.len()));
    let text = meetings_table(meetings, nodes, language);
    let none = language.of("没有会议", "there are no meetings");
    Ok(terminal::print(or_none(meetings, text, none))?)
}

fn or_none(list: &[Value], table: String, none: &str) -> String {
    if list.is_empty() { format!("{none}\n") } else { table }
}

fn shown(value: &Value) -> String {
    value.as_str().map(words::plain).unwrap_or_default()
}

fn nodes_table(nodes: &[Value], now: f64, language: Language) -> String {
    let mut table = Table::new(language.of(
        ["节点", "地址", "状态", "最近心跳", "已有会议包", "正在下载"],
        ["NODE", "ADDRESS", "STATE", "LAST HEARD", "PACKAGES", "LOAD"],
    ));
    for node in nodes {
        let state = match &node["reachable"] {
            Value::Bool(true) => language.of("可用", "in use").to_owned(),
            Value::Bool(false) => {
                let why = clipped(&shown(&node["unreachable_reason"]), TEXT_COLUMNS);
                language.of(format!("连接不上：{why}"), format!("can't be reached: {why}"))
            }
            Value::Null if node.get("reachable").is_some() => {
                language.of("正在检测", "checking").to_owned()
            }
            // Other main servers don't check.
            _ => shown(&node["status"]),
        };
        let heard = node["last_seen"].as_f64().map(|at| language.age((now - at).max(0.0) as u64));
        let heard = heard.map(|age| language.of(format!("{age}前"), format!("{age} ago")));
        let count = |key: &str| node[key].as_array().map(|list| list.len().to_string());
        let meetings = count("synced_meetings").or_else(|| count("active_meetings"));
        table.add([
            shown(&node["node_id"]),
            shown(&node["address"]),
            state,
            heard.unwrap_or_default(),
            meetings.unwrap_or_default(),
            node["downloads"].as_u64().map(|count| count.to_string()).unwrap_or_default(),
        ]);
    }
    table.text()
}

/// `all` is the number of nodes, if it is known.
fn meetings_table(meetings: &[Value], all: Option<usize>, language: Language) -> String {
    let mut table = Table::new(language.of(
        ["会议", "标题", "时间", "状态", "大小", "已有节点"],
        ["MEETING", "TITLE", "TIME", "STATE", "SIZE", "ON NODES"],
    ));
    for meeting in meetings {
        let state = shown(&meeting["status"]);
        let state = match state.as_str() {
            "进行中" if meeting.get("size").is_some_and(Value::is_null) => {
                language.of("进行中，缺会议包", "running, no package").to_owned()
            }
            "进行中" => language.of("进行中", "running").to_owned(),
            "未开始" => language.of("未开始", "not started").to_owned(),
            "已结束" => language.of("已结束", "ended").to_owned(),
            _ => state,
        };
        let have = meeting["nodes"].as_array().map(Vec::len);
        let nodes = have.map(|have| match all {
            Some(all) => language.of(format!("{have} / {all}"), format!("{have} of {all}")),
            None => have.to_string(),
        });
        table.add([
            shown(&meeting["id"]),
            clipped(&shown(&meeting["title"]), TEXT_COLUMNS),
            shown(&meeting["time"]),
            state,
            meeting["size"].as_f64().map(words::format_bytes).unwrap_or_default(),
            nodes.unwrap_or_default(),
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_are_told_with_what_keeps_clients_from_them() {
        let nodes = [
            json!({
                "node_id": "hall", "address": "10.0.0.7:8001", "last_seen": 95.0, "reachable": true,
                "synced_meetings": ["m1"], "downloads": 3,
            }),
            json!({
                "node_id": "大厅", "address": "10.0.0.8:8001", "last_seen": 90.0, "reachable": false,
                "unreachable_reason": "connection refused", "active_meetings": [],
            }),
            json!({"node_id": "old", "address": "10.0.0.9:8001", "status": "online"}),
        ];
        assert_eq!(
            nodes_table(&nodes, 100.0, Language::English),
            "NODE  ADDRESS        STATE                                 LAST HEARD  PACKAGES  LOAD\n\
             hall  10.0.0.7:8001  in use                                5 s ago     1         3\n\
             大厅  10.0.0.8:8001  can't be reached: connection refused  10 s ago    0\n\
             old   10.0.0.9:8001  online\n"
        );
        assert!(nodes_table(&nodes, 100.0, Language::Chinese).contains("连接不上：connection"));
    }

    #[test]
    fn meetings_are_told_in_the_readers_language() {
        let meetings = [
            json!({"id": "m1", "title": "董事会", "time": "9:00", "status": "进行中",
                "size": 30_000_000, "nodes": ["a", "b"]}),
            json!({"id": "m2", "title": "Board", "time": "", "status": "未开始"}),
            json!({"id": "m3", "title": "Council", "time": "", "status": "进行中", "size": null}),
        ];
        assert_eq!(
            meetings_table(&meetings, Some(3), Language::English),
            "MEETING  TITLE    TIME  STATE                SIZE      ON NODES\n\
             m1       董事会   9:00  running              28.6 MiB  2 of 3\n\
             m2       Board          not started\n\
             m3       Council        running, no package\n"
        );
        assert!(meetings_table(&meetings, None, Language::Chinese).contains("未开始"));
    }
}
