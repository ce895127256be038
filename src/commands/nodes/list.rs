//! `edge-mirror nodes`: a main server's nodes, those that are online first.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde_json::Value;

use super::{FLEET, shown};
use crate::{
    cli::ListArgs,
    commands::{
        client::{self, ApiClient, CallError},
        place,
    },
    terminal::{
        self, Language,
        table::{Table, clipped},
        words,
    },
};

/// Columns of a reason; the rest of the row has to fit.
const TEXT_COLUMNS: usize = 40;

pub(super) async fn run(args: &ListArgs, language: Language) -> Result<()> {
    let (master, trust) = place::main_server(&args.at).await;
    let token = client::token(&args.login);
    let api = ApiClient::new(master, &trust, client::ServerKind::MainServer, token)?;
    let list = api.get(client::NODES).await?;
    let nodes = list.as_array().ok_or_else(|| api.unexpected_answer(client::NODES))?;
    if args.json {
        terminal::print(format!("{list:#}\n"))?;
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64());
    let text = nodes_table(nodes, now, language);
    let none = language.of("没有在线的节点", "no nodes are online");
    let others = others(&api, language).await?;
    Ok(terminal::print(or_none(nodes, text, none) + &others)?)
}

fn or_none(list: &[Value], table: String, none: &str) -> String {
    if list.is_empty() { format!("{none}\n") } else { table }
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

/// Nodes that a list of those online does not have, as far as this operator may see them.
async fn others(api: &ApiClient, language: Language) -> Result<String> {
    match api.get(FLEET).await {
        Ok(fleet) => Ok(other_lines(&fleet, language)),
        // Who gave a token expects the whole list.
        Err(error @ CallError::WrongToken { .. }) => Err(error.into()),
        // Other main servers keep no such list.
        Err(_) => Ok(String::new()),
    }
}

fn other_lines(fleet: &Value, language: Language) -> String {
    let nodes = |list: &str| fleet[list].as_array().cloned().unwrap_or_default();
    let silent = nodes("nodes").into_iter().filter(|node| node["state"] == "silent");
    let silent = silent.map(|node| {
        let (id, address) = (shown(&node["id"]), shown(&node["address"]));
        language.of(format!("没有响应：{id}（{address}）"), format!("silent: {id} at {address}"))
    });
    let pending = nodes("pending").into_iter().map(|node| {
        let (id, address) = (shown(&node["id"]), shown(&node["address"]));
        let approve = approve_command(&id);
        match node["moves_from"].as_str().map(words::plain) {
            Some(from) => language.of(
                format!("等待接受：{id} 从 {from} 换到 {address}；{approve}"),
                format!("pending: {id} moves from {from} to {address}; {approve}"),
            ),
            None => language.of(
                format!("等待接受：{id}（{address}）；{approve}"),
                format!("pending: {id} at {address}; {approve}"),
            ),
        }
    });
    let refused = nodes("refused").into_iter().map(|node| {
        let (id, address) = (shown(&node["id"]), shown(&node["address"]));
        let approve = approve_command(&id);
        language.of(
            format!("已拒绝：{id}（{address}）；{approve}"),
            format!("refused: {id} at {address}; {approve}"),
        )
    });
    silent.chain(pending).chain(refused).map(|line| line + "\n").collect()
}

/// Quotes an id that anybody may have chosen: the command is copied.
fn approve_command(id: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let word = match id.starts_with('-') || !id.chars().all(is_plain) {
        true => format!("-- '{}'", id.replace('\'', r"'\''")),
        false => id.to_owned(),
    };
    format!("edge-mirror nodes approve {word}")
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
    fn those_that_are_silent_wait_or_were_refused_are_told() {
        let fleet = json!({
            "nodes": [
                {"id": "hall", "address": "10.0.0.7:8001", "state": "present"},
                {"id": "大厅", "address": "10.0.0.8:8001", "state": "silent"},
            ],
            "pending": [
                {"id": "new", "address": "10.0.0.9:8001", "moves_from": null},
                {"id": "hall", "address": "10.0.0.6:8001", "moves_from": "10.0.0.7:8001"},
            ],
            "refused": [{"id": "no", "address": "10.0.0.5:8001"}],
        });
        assert_eq!(
            other_lines(&fleet, Language::English),
            "silent: 大厅 at 10.0.0.8:8001\n\
             pending: new at 10.0.0.9:8001; edge-mirror nodes approve new\n\
             pending: hall moves from 10.0.0.7:8001 to 10.0.0.6:8001; edge-mirror nodes approve hall\n\
             refused: no at 10.0.0.5:8001; edge-mirror nodes approve no\n"
        );
        assert!(other_lines(&fleet, Language::Chinese).contains("等待接受：new（10.0.0.9:8001）"));
        assert_eq!(other_lines(&json!([]), Language::English), "");
        let quoted = approve_command("a'; reboot");
        assert_eq!(quoted, r"edge-mirror nodes approve -- 'a'\''; reboot'");
    }
}
