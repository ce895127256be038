//! `edge-mirror sync`: pulls one meeting's package now.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use edge_mirror_protocol::package::PackageId;
use reqwest::Method;
use serde_json::Value;

use super::{
    client::{self, ApiClient},
    place,
};
use crate::{
    cli::SyncArgs,
    terminal::{
        self, Language,
        live::{TransferProgress, TransferView},
        words,
    },
};

const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) async fn run(args: &SyncArgs, language: Language) -> Result<()> {
    let id: PackageId = args.id.parse().with_context(|| format!("'{}'", args.id))?;
    let (node, trust) = place::node(&args.at)?;
    let api = ApiClient::new(node, &trust, client::ServerKind::Node, client::token(&args.login))?;
    let before = look(&api, &id).await?.unwrap_or_default();
    api.call(Method::POST, &format!("/api/meetings/{}/sync", id.segment()), None).await?;
    let mut view = TransferView::new(language, false);
    let meeting = wait_until_synced(&api, &id, &before, args.patience, &mut view).await?;
    let size = words::format_bytes(meeting["size"].as_f64().unwrap_or(0.0));
    let sha256 = meeting["sha256"].as_str().unwrap_or("?");
    Ok(terminal::print(language.of(
        format!("会议 {id} 已就绪：{size}，SHA-256 {sha256}\n"),
        format!("meeting {id} is ready: {size}, SHA-256 {sha256}\n"),
    ))?)
}

/// Returns the meeting once its package is here and current. `before` is its state at the
/// request: an earlier failure does not count.
pub(super) async fn wait_until_synced(
    api: &ApiClient,
    id: &PackageId,
    before: &Value,
    patience: Duration,
    view: &mut TransferView,
) -> Result<Value> {
    let counter = Arc::new(TransferProgress::default());
    let waiting = tokio::time::timeout(patience, poll_until_synced(api, id, before, &counter));
    let language = view.language();
    match view.show_while(&counter, waiting).await {
        Ok(settled) => settled,
        Err(_) => {
            let waited = language.time(patience.as_secs_f64());
            bail!(language.of(
                format!("{waited} 后会议 {id} 的会议包仍未就绪；可用 edge-mirror status 查看进度"),
                format!(
                    "the package of meeting {id} is still not ready after {waited}; `edge-mirror \
                     status` shows its progress"
                ),
            ))
        }
    }
}

async fn poll_until_synced(
    api: &ApiClient,
    id: &PackageId,
    before: &Value,
    counter: &TransferProgress,
) -> Result<Value> {
    let failure = |meeting: &Value| [meeting["failed_rounds"].clone(), meeting["next_try"].clone()];
    let mut still_as_before = before["state"] == "failing";
    loop {
        // First, so that the requested pull has begun.
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(meeting) = look(api, id).await? else {
            bail!(over(id));
        };
        counter.set(meeting["received"].as_u64().unwrap_or(0), meeting["total"].as_u64());
        let state = meeting["state"].as_str().unwrap_or_default();
        still_as_before &= state == "failing" && failure(&meeting) == failure(before);
        match state {
            "synced" => return Ok(meeting),
            "failing" if !still_as_before => {
                let cause = meeting["last_error"].as_str().unwrap_or("?");
                let cause = words::plain(cause);
                bail!(terminal::say(
                    format!("会议 {id} 的会议包暂时无法拉取：{cause}"),
                    format!("the package of meeting {id} can't be pulled now: {cause}"),
                ));
            }
            "inactive" => bail!(over(id)),
            _ => {}
        }
    }
}

fn over(id: &PackageId) -> String {
    terminal::say(format!("会议 {id} 已不在进行中"), format!("meeting {id} is no longer active"))
}

async fn look(api: &ApiClient, id: &PackageId) -> Result<Option<Value>> {
    let status = api.get("/api/status").await?;
    let meetings =
        status["meetings"].as_array().ok_or_else(|| api.unexpected_answer("GET /api/status"))?;
    Ok(meetings.iter().find(|meeting| meeting["id"] == id.as_str()).cloned())
}
