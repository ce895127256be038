//! The wait for all nodes.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use reqwest::Method;
use serde_json::Value;

use super::{ApiClient, DISPATCH};
use crate::{
    commands::CheckFailed,
    terminal::{self, Language, words},
};

const ASK_EVERY: Duration = Duration::from_secs(1);
/// Nodes in one answer.
const PAGE: usize = 1000;

/// Prints a line for each node that has the files or has failed, until all have. An error if
/// one has failed.
pub(super) async fn wait(
    api: &ApiClient,
    task: &Value,
    is_json: bool,
    language: Language,
) -> Result<()> {
    let path = format!("{DISPATCH}/{}", task["id"].as_str().unwrap_or_default());
    let mut told = BTreeSet::new();
    let finished = loop {
        let found = match nodes(api, &path).await {
            Ok(found) => found,
            // A main server that restarts goes on where it was.
            Err(error) if error.is_passing() => {
                tokio::time::sleep(ASK_EVERY).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if !is_json {
            tell(&found, &mut told, language);
        }
        if !found["finished_at"].is_null() {
            break found;
        }
        tokio::time::sleep(ASK_EVERY).await;
    };
    if is_json {
        terminal::print(format!("{finished:#}\n"))?;
    }
    match finished["status"] == "completed" {
        true => Ok(()),
        false => Err(CheckFailed.into()),
    }
}

/// The task with all its nodes.
async fn nodes(api: &ApiClient, path: &str) -> Result<Value, super::client::CallError> {
    let mut task = api.call(Method::GET, &format!("{path}?limit={PAGE}"), None).await?;
    while let Some(after) = task["next"].as_str().map(str::to_owned) {
        let after = edge_mirror_protocol::package::percent_encoded(&after).into_owned();
        let more = format!("{path}?limit={PAGE}&after={after}");
        let mut more = api.call(Method::GET, &more, None).await?;
        if let (Some(all), Some(more)) =
            (task["node_states"].as_array_mut(), more["node_states"].as_array_mut())
        {
            all.append(more);
        }
        task["next"] = more["next"].take();
    }
    Ok(task)
}

fn tell(task: &Value, told: &mut BTreeSet<String>, language: Language) {
    for node in task["node_states"].as_array().into_iter().flatten() {
        let id = node["node_id"].as_str().unwrap_or_default();
        if let Some(line) = line(node, language)
            && told.insert(id.to_owned())
        {
            terminal::print_line(&format!("{}: {line}", words::plain(id)));
        }
    }
}

/// None before there is an outcome.
fn line(node: &Value, language: Language) -> Option<String> {
    let line = match node["state"].as_str()? {
        "done" => language.of("已收到", "has the files").to_owned(),
        "failed" => {
            let first = &node["failed"][0];
            let text =
                |name: &str| words::plain(first[name].as_str().unwrap_or_default()).to_string();
            let reason = words::localized(&text("reason"), language);
            let (count, name) = (&node["failed_count"], text("name"));
            language.of(
                format!("失败，{count} 个文件；{name}：{reason}"),
                format!("failed for {count} files; {name}: {reason}"),
            )
        }
        "missed" => language.of("在期限内没有收到", "did not get the files in time").to_owned(),
        "unsupported" => language.of("不接收文件", "takes no files").to_owned(),
        _ => return None,
    };
    Some(line)
}
