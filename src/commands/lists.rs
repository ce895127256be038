//! `edge-mirror nodes`: a main server's nodes.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde_json::Value;

use super::{
    client::{self, ApiClient},
    nodes, place,
};
use crate::{
    cli::ListArgs,
    terminal::{
        self, Language,
        table::{Table, clipped},
        words,
    },
};

/// Columns of a reason; the rest of the row has to fit.
const TEXT_COLUMNS: usize = 40;
pub(super) const NODES: &str = "/api/v1/nodes/list";

pub(super) async fn nodes(args: &ListArgs, language: Language) -> Result<()> {
    let (master, trust) = place::main_server(&args.master, &args.authority).await;
    let api = ApiClient::new(master, &trust, client::ServerKind::MainServer, None)?;
    let list = api.get(NODES).await?;
    let nodes = list.as_array().ok_or_else(|| api.unexpected_answer(NODES))?;
    if args.json {
        terminal::print(format!("{list:#}\n"))?;
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64());
    let text = nodes_table(nodes, now, language);
    let none = language.of("没有在线的节点", "no nodes are online");
    let absent = nodes::absent(&api, language).await;
    Ok(terminal::print(or_none(nodes, text, none) + &absent)?)
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
}
