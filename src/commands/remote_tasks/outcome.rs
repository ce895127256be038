//! The wait for the end of a task.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use reqwest::Method;
use serde_json::Value;

use super::{ApiClient, TASKS, shown, tables};
use crate::{
    commands::{CheckFailed, client::CallError},
    terminal::{self, Language, words},
};

const ASK_EVERY: Duration = Duration::from_millis(500);
/// Runs in one answer.
const PAGE: usize = 1000;

/// Prints a line for each run that begins or ends, until all have ended, and then the result.
/// An error if not all of it was done.
pub(super) async fn wait(
    api: &ApiClient,
    task: &Value,
    is_json: bool,
    language: Language,
) -> Result<()> {
    let path = format!("{TASKS}/{}", task["id"].as_str().unwrap_or_default());
    let mut told = BTreeMap::new();
    let finished = loop {
        let found = match runs(api, &path).await {
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
    match is_json {
        true => terminal::print(format!("{finished:#}\n"))?,
        false => {
            let result = &finished["result"];
            let result = if result.is_null() { String::new() } else { format!("{result:#}\n") };
            terminal::print(tables::state_line(&finished, language) + &result)?;
        }
    }
    match finished["status"] == "succeeded" {
        true => Ok(()),
        false => Err(CheckFailed.into()),
    }
}

/// The task with all its runs.
async fn runs(api: &ApiClient, path: &str) -> Result<Value, CallError> {
    let mut task = api.call(Method::GET, &format!("{path}?limit={PAGE}"), None).await?;
    while let Some(after) = task["next"].as_u64() {
        let more = format!("{path}?limit={PAGE}&after={after}");
        let mut more = api.call(Method::GET, &more, None).await?;
        if let (Some(all), Some(more)) = (task["runs"].as_array_mut(), more["runs"].as_array_mut())
        {
            all.append(more);
        }
        task["next"] = more["next"].take();
    }
    Ok(task)
}

fn tell(task: &Value, told: &mut BTreeMap<u64, String>, language: Language) {
    for run in task["runs"].as_array().into_iter().flatten() {
        let Some(part) = run["part"].as_u64() else { continue };
        // Where it waits and is given to a node is soon over.
        if ["waiting", "given"].iter().any(|state| run["state"] == *state) {
            continue;
        }
        let line = line(run, language);
        if told.insert(part, line.clone()).is_none_or(|before| before != line) {
            terminal::print_line(&line);
        }
    }
}

fn line(run: &Value, language: Language) -> String {
    let (node, state) = (shown(&run["node"]), tables::state(&run["state"], language));
    let items = &run["items"];
    let items = match (items["first"].as_u64(), items["count"].as_u64()) {
        (Some(first), Some(count)) => format!(" [{}–{}]", first + 1, first + count),
        _ => String::new(),
    };
    let error = words::localized(&shown(&run["outcome"]["error"]), language);
    let error = if error.is_empty() { error } else { format!(": {error}") };
    format!("{node}{items}: {state}{error}")
}
