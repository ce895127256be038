//! `edge-mirror ready`: whether all nodes are ready for a meeting.

use std::time::Duration;

use anyhow::Result;
use edge_mirror_protocol::package::{PackageId, percent_encoded};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    NotReady, UnknownMeeting,
    client::{self, ApiClient, CallError},
    place, readiness,
};
use crate::{
    cli::ReadyArgs,
    terminal::{
        self, Language,
        live::{LiveBlock, ProgressStyle},
    },
};

const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn run(args: &ReadyArgs, language: Language) -> Result<()> {
    let Ok(id) = args.id.parse::<PackageId>() else {
        return Err(UnknownMeeting(args.id.clone()).into());
    };
    let (master, trust) = place::main_server(&args.at).await;
    let api = ApiClient::new(master, &trust, client::ServerKind::MainServer, None)?;
    let meeting = look_until_ready(&api, &id, args, language).await?;
    terminal::print(match args.json {
        true => format!("{meeting:#}\n"),
        false => text(&meeting, language),
    })?;
    if readiness::is_ready(&meeting) { Ok(()) } else { Err(NotReady.into()) }
}

/// Returns the last answer: the first one that says ready, or the one when time is up.
async fn look_until_ready(
    api: &ApiClient,
    id: &PackageId,
    args: &ReadyArgs,
    language: Language,
) -> Result<Value> {
    let ends = Instant::now() + args.wait.unwrap_or_default();
    let draws = ProgressStyle::of_stderr(true) == ProgressStyle::Block && args.wait.is_some();
    let mut block = LiveBlock::default();
    let last = loop {
        let answer = look(api, id).await;
        let left = ends.saturating_duration_since(Instant::now());
        let wait_on = match &answer {
            Ok(meeting) => !readiness::is_ready(meeting),
            Err(error) => error.downcast_ref::<CallError>().is_some_and(CallError::is_passing),
        };
        if !wait_on || left.is_zero() {
            break answer;
        }
        if draws && let Ok(meeting) = &answer {
            block.draw(&format!("{}\n", readiness::sentence(meeting, language)));
        }
        tokio::time::sleep(LOOK_EVERY.min(left)).await;
    };
    if draws {
        block.draw("");
    }
    last
}

async fn look(api: &ApiClient, id: &PackageId) -> Result<Value> {
    let path = format!("/api/v1/meetings/{}", percent_encoded(id.as_str()));
    match api.get(&format!("{path}/readiness")).await {
        Ok(meeting) if meeting["nodes"].is_array() => Ok(meeting),
        Ok(_) => Err(api.unexpected_answer(&path).into()),
        // Another main server has no such call; that it has the meeting shows it.
        Err(error) if error.is_not_found() => match api.get(&path).await {
            Err(other) if other.is_not_found() => Err(UnknownMeeting(id.to_string()).into()),
            _ => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

fn text(meeting: &Value, language: Language) -> String {
    let nodes = meeting["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let table = readiness::table(nodes, language);
    let gap = if table.is_empty() { "" } else { "\n" };
    format!("{}\n{gap}{table}", readiness::sentence(meeting, language))
}
