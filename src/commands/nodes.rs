//! `edge-mirror nodes approve`, `refuse` and `remove`: which nodes a main server accepts.

use anyhow::{Result, bail};
use edge_mirror_protocol::package::percent_encoded;
use reqwest::Method;
use serde_json::Value;

use super::client::{self, ApiClient};
use crate::{
    cli::{NodeDecisionArgs, NodesCommand},
    terminal::{self, Language, words},
};

const FLEET: &str = "/api/v1/fleet/nodes";

pub(super) async fn run(command: &NodesCommand, language: Language) -> Result<()> {
    let told = match command {
        NodesCommand::Approve(args) => approve(args, language).await?,
        NodesCommand::Refuse(args) => {
            decide(args, Method::POST, "/refuse").await?;
            let id = words::plain(&args.id);
            language.of(format!("已拒绝节点 {id}"), format!("node {id} is refused"))
        }
        NodesCommand::Remove(args) => {
            decide(args, Method::DELETE, "").await?;
            let id = words::plain(&args.id);
            language.of(format!("已移除节点 {id}"), format!("node {id} was removed"))
        }
    };
    Ok(terminal::print(format!("{told}\n"))?)
}

async fn approve(args: &NodeDecisionArgs, language: Language) -> Result<String> {
    let node = decide(args, Method::POST, "/approve").await?;
    let (id, address) = (words::plain(&args.id), shown(&node["address"]));
    Ok(language
        .of(format!("已接受节点 {id}（{address}）"), format!("node {id} at {address} is accepted")))
}

async fn decide(args: &NodeDecisionArgs, method: Method, what: &str) -> Result<Value> {
    if args.id.is_empty() {
        bail!(terminal::say("请填写节点 ID", "a node's ID is needed"));
    }
    let trust = args.authority.trust();
    let token = client::token(&args.login);
    let kind = client::ServerKind::MainServer;
    let api = ApiClient::new(args.master.clone(), &trust, kind, token)?;
    let path = format!("{FLEET}/{}{what}", percent_encoded(&args.id));
    Ok(api.call(method, &path, None).await?)
}

/// Nodes that a list of those online does not have, as far as this operator may see them.
pub(super) async fn absent(api: &ApiClient, language: Language) -> String {
    // Other main servers keep no such list.
    let Ok(fleet) = api.get(FLEET).await else { return String::new() };
    absent_lines(&fleet, language)
}

fn absent_lines(fleet: &Value, language: Language) -> String {
    let nodes = |list: &str| fleet[list].as_array().cloned().unwrap_or_default();
    let silent = nodes("nodes").into_iter().filter(|node| node["state"] == "silent");
    let silent = silent.map(|node| {
        let (id, address) = (shown(&node["id"]), shown(&node["address"]));
        language.of(format!("没有响应：{id}（{address}）"), format!("silent: {id} at {address}"))
    });
    let pending = nodes("pending").into_iter().map(|node| {
        let (id, address) = (shown(&node["id"]), shown(&node["address"]));
        let word = shell_word(&id);
        match node["moves_from"].as_str().map(words::plain) {
            Some(from) => language.of(
                format!(
                    "等待接受：{id} 从 {from} 换到 {address}；edge-mirror nodes approve {word}"
                ),
                format!(
                    "pending: {id} moves from {from} to {address}; edge-mirror nodes approve {word}"
                ),
            ),
            None => language.of(
                format!("等待接受：{id}（{address}）；edge-mirror nodes approve {word}"),
                format!("pending: {id} at {address}; edge-mirror nodes approve {word}"),
            ),
        }
    });
    let lines: Vec<_> = silent.chain(pending).collect();
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Quotes an id that anybody may have chosen, for a command that is copied.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match text.starts_with('-') || !text.chars().all(is_plain) {
        true => format!("-- '{}'", text.replace('\'', r"'\''")),
        false => text.to_owned(),
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map(words::plain).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn those_that_are_missing_and_those_that_wait_are_told() {
        let fleet = json!({
            "nodes": [
                {"id": "hall", "address": "10.0.0.7:8001", "state": "present"},
                {"id": "大厅", "address": "10.0.0.8:8001", "state": "silent"},
            ],
            "pending": [
                {"id": "new", "address": "10.0.0.9:8001", "moves_from": null},
                {"id": "hall", "address": "10.0.0.6:8001", "moves_from": "10.0.0.7:8001"},
            ],
        });
        assert_eq!(
            absent_lines(&fleet, Language::English),
            "silent: 大厅 at 10.0.0.8:8001\n\
             pending: new at 10.0.0.9:8001; edge-mirror nodes approve new\n\
             pending: hall moves from 10.0.0.7:8001 to 10.0.0.6:8001; edge-mirror nodes approve hall\n"
        );
        assert!(absent_lines(&fleet, Language::Chinese).contains("等待接受：new（10.0.0.9:8001）"));
        assert_eq!(absent_lines(&json!([]), Language::English), "");
        assert_eq!(shell_word("a'; reboot"), r"-- 'a'\''; reboot'");
    }
}
