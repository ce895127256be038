//! Verifies through the node, which goes on serving.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use edge_mirror_protocol::package::PackageId;
use reqwest::Method;
use serde_json::Value;

use super::report::{Found, Report, Verdict};
use crate::{
    commands::{
        client::{Api, CallError},
        sync,
    },
    terminal::live::{Counter, Transfer},
};

/// For a package of tens of gigabytes on a slow disk.
const READING: Duration = Duration::from_secs(3600);
/// For pulling one again.
const PULLING: Duration = Duration::from_secs(600);

pub(super) async fn verify(api: &Api, repair: bool, view: &mut Transfer) -> Result<Report> {
    let status = api.get("/api/status").await?;
    let meetings = status["meetings"].as_array().ok_or_else(|| api.stranger("GET /api/status"))?;
    let held: Vec<_> = meetings.iter().filter_map(held).collect();
    let counter = Arc::new(Counter::of_total(held.iter().map(|(_, size, _)| size).sum()));
    let mut found = Vec::with_capacity(held.len());
    for (id, size_bytes, title) in held {
        let verdict = view.beside(&counter, one(api, &id, repair)).await?;
        counter.add(size_bytes);
        let verdict = match verdict {
            // Ended or evicted since it was listed.
            None => continue,
            Some(Pending::Known(verdict)) => verdict,
            Some(Pending::Pulling) => {
                match sync::settled(api, &id, &Value::Null, PULLING, view).await {
                    Ok(_) => Verdict::Repaired,
                    Err(error) => Verdict::Lost(format!("{error:#}")),
                }
            }
        };
        found.push(Found { id: id.to_string(), title, size_bytes, verdict });
    }
    Ok(Report { of: api.server.to_string(), found })
}

fn held(meeting: &Value) -> Option<(PackageId, u64, String)> {
    let title = meeting["title"].as_str().unwrap_or_default();
    let id = meeting["id"].as_str()?.parse().ok()?;
    Some((id, meeting["size"].as_u64()?, title.to_owned()))
}

enum Pending {
    Known(Verdict),
    Pulling,
}

async fn one(api: &Api, id: &PackageId, repair: bool) -> Result<Option<Pending>, CallError> {
    let path = format!("/api/meetings/{}/verify?repair={repair}", id.segment());
    let answer = api.shaped(Method::POST, &path, |request| request.timeout(READING)).await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(CallError::Refused { status, said, .. }) if status.is_server_error() => {
            return Ok(Some(Pending::Known(Verdict::Unreadable(said))));
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
        (true, ..) => Pending::Known(Verdict::Good),
        (false, false, _) => Pending::Known(Verdict::Damaged),
        (false, true, true) => Pending::Pulling,
        (false, true, false) => Pending::Known(Verdict::Removed),
    }))
}
