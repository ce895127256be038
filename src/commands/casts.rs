//! `edge-mirror cast` and `edge-mirror casts`: sends messages to nodes, lists them, and tells
//! how far they are on their way.

mod text;

use std::{collections::HashMap, io::Read, time::Duration};

use anyhow::{Context, Result};
use edge_mirror_base::tasks::{self, Interrupt};
use edge_mirror_protocol::package::percent_encoded;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    CheckFailed,
    client::{self, ApiClient, CallError},
    place, until,
};
use crate::{
    cli::{CastCommandArgs, CastsCommandArgs, Destination},
    terminal::{
        self, Language,
        live::{self, LiveBlock, ProgressStyle},
        watch,
    },
};

const CASTS: &str = "/api/v1/casts";
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// More than any main server takes.
const MAX_INPUT: u64 = 1 << 20;

/// Sends a message and, if asked to, waits until its nodes have it.
pub(super) async fn send(args: &CastCommandArgs, language: Language) -> Result<()> {
    let body = body(args).await?;
    let mut cast = json!({
        "topic": args.topic, "body": body, "to": Destination::to_json(&args.to),
        "priority": args.priority.name(), "expires_in_s": args.expires.as_secs().max(1),
    });
    if let Some(key) = &args.key {
        cast["key"] = json!(key);
    }
    let (master, trust) = place::main_server(&args.master, &args.authority).await;
    let token = client::token(&args.login);
    let api = ApiClient::new(master, &trust, client::ServerKind::MainServer, token)?;
    let sent = api.call(Method::POST, CASTS, Some(&cast)).await?;
    let id = sent["id"].as_str().ok_or_else(|| api.unexpected_answer(CASTS))?;
    let last = match args.wait {
        Some(wait) => look_until_delivered(&api, id, wait, language).await?,
        None => look(&api, id).await?,
    };
    terminal::print(match args.json {
        true => format!("{last:#}\n"),
        false => format!("{}\n", text::sentence(&last, language)),
    })?;
    match args.wait.is_some() && !text::is_delivered(&last) {
        true => Err(CheckFailed.into()),
        false => Ok(()),
    }
}

async fn body(args: &CastCommandArgs) -> Result<Value> {
    let text = match args.text.as_str() {
        "-" => tasks::blocking(|| {
            let mut text = String::new();
            std::io::stdin().take(MAX_INPUT).read_to_string(&mut text).map(|_| text)
        })
        .await
        .with_context(|| terminal::say("标准输入读不出文本", "cannot read text from the input"))?,
        text => text.to_owned(),
    };
    if !args.body_json {
        return Ok(text.into());
    }
    let body = serde_json::from_str(&text);
    body.with_context(|| terminal::say("TEXT 不是 JSON", "TEXT is no JSON"))
}

async fn look(api: &ApiClient, id: &str) -> Result<Value, CallError> {
    let path = format!("{CASTS}/{}", percent_encoded(id));
    let cast = api.get(&path).await?;
    if cast["delivery"].is_object() { Ok(cast) } else { Err(api.unexpected_answer(CASTS)) }
}

/// Returns the last answer: the first one that leaves nothing to wait for, or the one when
/// time is up.
async fn look_until_delivered(
    api: &ApiClient,
    id: &str,
    wait: Duration,
    language: Language,
) -> Result<Value> {
    let ends = Instant::now() + wait;
    let draws = ProgressStyle::of_stderr(true) == ProgressStyle::Block;
    let mut block = LiveBlock::default();
    let last = loop {
        let answer = look(api, id).await;
        let left = ends.saturating_duration_since(Instant::now());
        let wait_on = match &answer {
            Ok(cast) => !text::is_settled(cast),
            Err(error) => error.is_passing(),
        };
        if !wait_on || left.is_zero() {
            break answer;
        }
        if draws && let Ok(cast) = &answer {
            block.draw(&format!("{}\n", text::sentence(cast, language)));
        }
        tokio::time::sleep(LOOK_EVERY.min(left)).await;
    };
    if draws {
        block.draw("");
    }
    last.map_err(Into::into)
}

/// Lists messages, the newest last, and goes on with new ones if asked to.
pub(super) async fn list(
    args: &CastsCommandArgs,
    language: Language,
    interrupt: &mut Interrupt,
) -> Result<()> {
    let (master, trust) = place::main_server(&args.master, &args.authority).await;
    let token = client::token(&args.login);
    let api = ApiClient::new(master, &trust, client::ServerKind::MainServer, token)?;
    if args.follow {
        tokio::select! {
            gone = follow(&api, args, language) => return gone,
            // The usual end of following.
            () = interrupt.recv() => return Ok(()),
        }
    }
    until(interrupt, async {
        let mut casts = Vec::new();
        for cast in latest(&api, args).await? {
            casts.push(look(&api, cast["id"].as_str().unwrap_or_default()).await?);
        }
        Ok(terminal::print(match args.json {
            true => casts.iter().map(|cast| format!("{cast}\n")).collect(),
            false => text::table(&casts, language),
        })?)
    })
    .await
}

/// The oldest of them first.
async fn latest(api: &ApiClient, args: &CastsCommandArgs) -> Result<Vec<Value>, CallError> {
    let (topic, search) = (percent_encoded(&args.topic), percent_encoded(&args.search));
    let path = format!("{CASTS}?limit={}&topic={topic}&search={search}", args.limit);
    match api.get(&path).await?["casts"].take() {
        Value::Array(mut casts) => {
            casts.reverse();
            Ok(casts)
        }
        _ => Err(api.unexpected_answer(CASTS)),
    }
}

/// Ends when the output is closed.
async fn follow(api: &ApiClient, args: &CastsCommandArgs, language: Language) -> Result<()> {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut seen = HashMap::new();
    let mut is_first = true;
    loop {
        looks.tick().await;
        match changed(api, args, &mut seen).await {
            Ok(casts) => {
                for cast in casts {
                    let line = match args.json {
                        true => cast.to_string(),
                        false => text::line(&cast, language),
                    };
                    if !watch::print(&format!("{line}\n")) {
                        return Ok(());
                    }
                }
            }
            Err(error) if is_first || !error.is_passing() => return Err(error.into()),
            // A main server that restarts comes back.
            Err(error) => live::put(&format!("edge-mirror: {error}\n")),
        }
        is_first = false;
    }
}

/// The messages that are new, or further on their way than when they were `seen`.
async fn changed(
    api: &ApiClient,
    args: &CastsCommandArgs,
    seen: &mut HashMap<String, Value>,
) -> Result<Vec<Value>, CallError> {
    let casts = latest(api, args).await?;
    let ids: Vec<_> = casts.iter().filter_map(|cast| cast["id"].as_str()).collect();
    seen.retain(|id, _| ids.contains(&id.as_str()));
    let mut changed = Vec::new();
    for id in ids {
        if seen.get(id).is_some_and(text::is_settled) {
            continue;
        }
        let cast = match look(api, id).await {
            Ok(cast) => cast,
            // It was removed meanwhile.
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error),
        };
        if seen.get(id).is_none_or(|before| text::progress(before) != text::progress(&cast)) {
            changed.push(cast.clone());
        }
        seen.insert(id.to_owned(), cast);
    }
    Ok(changed)
}
