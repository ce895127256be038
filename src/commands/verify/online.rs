//! Verifies through the node, which goes on serving.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use edge_mirror_protocol::package::PackageId;
use reqwest::Method;
use serde_json::Value;

use super::report::{CheckedPackage, PackageVerdict, VerifyReport};
use crate::{
    commands::{
        client::{ApiClient, CallError},
        sync,
    },
    terminal::live::{TransferProgress, TransferView},
};

/// For a package of tens of gigabytes on a slow disk.
const READING: Duration = Duration::from_secs(3600);
/// For pulling one again.
const PULLING: Duration = Duration::from_secs(600);

pub(super) async fn verify(
    api: &ApiClient,
    repair: bool,
    view: &mut TransferView,
) -> Result<VerifyReport> {
    let status = api.get("/api/status").await?;
    let meetings =
        status["meetings"].as_array().ok_or_else(|| api.unexpected_answer("GET /api/status"))?;
    let held: Vec<_> = meetings.iter().filter_map(held).collect();
    let counter = Arc::new(TransferProgress::of_total(held.iter().map(|(_, size, _)| size).sum()));
    let mut found = Vec::with_capacity(held.len());
    for (id, size_bytes, title) in held {
        let verdict = view.show_while(&counter, one(api, &id, repair)).await?;
        counter.add(size_bytes);
        let verdict = match verdict {
            // Ended or evicted since it was listed.
            None => continue,
            Some(PendingVerdict::Known(verdict)) => verdict,
            Some(PendingVerdict::Pulling) => {
                match sync::wait_until_synced(api, &id, &Value::Null, PULLING, view).await {
                    Ok(_) => PackageVerdict::Repaired,
                    Err(error) => PackageVerdict::Lost(format!("{error:#}")),
                }
            }
        };
        found.push(CheckedPackage { id: id.to_string(), title, size_bytes, verdict });
    }
    Ok(VerifyReport { of: api.server.to_string(), found })
}

fn held(meeting: &Value) -> Option<(PackageId, u64, String)> {
    let title = meeting["title"].as_str().unwrap_or_default();
    let id = meeting["id"].as_str()?.parse().ok()?;
    Some((id, meeting["size"].as_u64()?, title.to_owned()))
}

enum PendingVerdict {
    Known(PackageVerdict),
    Pulling,
}

async fn one(
    api: &ApiClient,
    id: &PackageId,
    repair: bool,
) -> Result<Option<PendingVerdict>, CallError> {
    let path = format!("/api/meetings/{}/verify?repair={repair}", id.segment());
    let answer = api.call_with(Method::POST, &path, |request| request.timeout(READING)).await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(CallError::Refused { status, said, .. }) if status.is_server_error() => {
            return Ok(Some(PendingVerdict::Known(PackageVerdict::Unreadable(said))));
        }
        Err(error) if error.is_not_found() => {
            // Or a node without this call.
            let still = api.get("/api/status").await?;
            let here = still["meetings"].as_array().into_iter().flatten();
            let is_here = here.filter_map(held).any(|(other, ..)| other == *id);
            return if is_here { Err(error) } else { Ok(None) };
        }
        Err(error) => return Err(error),
    };
    let is = |key: &str| answer[key] == true;
    Ok(Some(match (is("good"), is("removed"), is("pulling")) {
        (true, ..) => PendingVerdict::Known(PackageVerdict::Good),
        (false, false, _) => PendingVerdict::Known(PackageVerdict::Damaged),
        (false, true, true) => PendingVerdict::Pulling,
        (false, true, false) => PendingVerdict::Known(PackageVerdict::Removed),
    }))
}
