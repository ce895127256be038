//! `edge-mirror cast` and `edge-mirror casts`: sends messages to nodes, lists them, and tells
//! how far they are on their way.

mod text;

use std::{io::Read, time::Duration};

use anyhow::{Context, Result};
use edge_mirror_base::tasks::{self, Interrupt};
use edge_mirror_protocol::package::percent_encoded;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior};

use text::NAMED;

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
/// Messages that are looked after at a time.
const MAX_FOLLOWED: usize = 500;
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
    let (master, trust) = place::main_server(&args.at).await;
    let token = client::token(&args.login);
    let api = ApiClient::new(master, &trust, client::ServerKind::MainServer, token)?;
    let sent = api.call(Method::POST, CASTS, Some(&cast)).await?;
    let id = sent["id"].as_str().ok_or_else(|| api.unexpected_answer(CASTS))?;
    let looked = match args.wait {
        Some(wait) => look_until_delivered(&api, id, args.json, wait, language).await,
        None => look(&api, id, args.json).await,
    };
    let last = match looked {
        Ok(last) => last,
        // It is sent all the same.
        Err(error) => {
            let sent = language.of("消息已发送，ID", "the message is sent, its ID is");
            live::put(&format!("edge-mirror: {sent} {id}\nedge-mirror: {error}\n"));
            return args.wait.map_or(Ok(()), |_| Err(CheckFailed.into()));
        }
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

/// Returns a message with its delivery; of each state, the first nodes unless `all` are asked
/// for.
async fn look(api: &ApiClient, id: &str, all: bool) -> Result<Value, CallError> {
    let query = if all { String::new() } else { format!("?nodes={NAMED}") };
    let path = format!("{CASTS}/{}{query}", percent_encoded(id));
    let cast = api.get(&path).await?;
    if cast["delivery"].is_object() { Ok(cast) } else { Err(api.unexpected_answer(CASTS)) }
}

/// Returns the last answer: the first one that leaves nothing to wait for, or the one when
/// time is up.
async fn look_until_delivered(
    api: &ApiClient,
    id: &str,
    all: bool,
    wait: Duration,
    language: Language,
) -> Result<Value, CallError> {
    let ends = Instant::now() + wait;
    let draws = ProgressStyle::of_stderr(true) == ProgressStyle::Block;
    let mut block = LiveBlock::default();
    let last = loop {
        let answer = look(api, id, all).await;
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
    last
}

/// Lists messages, the newest last, and goes on with new ones if asked to.
pub(super) async fn list(
    args: &CastsCommandArgs,
    language: Language,
    interrupt: &mut Interrupt,
) -> Result<()> {
    let (master, trust) = place::main_server(&args.at).await;
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
        for cast in latest(&api, args, None).await?.casts {
            match look(&api, id_of(&cast), args.json).await {
                Ok(cast) => casts.push(cast),
                // It was removed meanwhile.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(terminal::print(match args.json {
            true => casts.iter().map(|cast| format!("{cast}\n")).collect(),
            false => text::table(&casts, language),
        })?)
    })
    .await
}

/// A page of messages, the oldest first.
struct MessagePage {
    casts: Vec<Value>,
    /// The place of the page before it.
    next: Option<String>,
}

async fn latest(
    api: &ApiClient,
    args: &CastsCommandArgs,
    before: Option<&str>,
) -> Result<MessagePage, CallError> {
    let (topic, search) = (percent_encoded(&args.topic), percent_encoded(&args.search));
    let mut path = format!("{CASTS}?limit={}&topic={topic}&search={search}", args.limit);
    if let Some(before) = before {
        path += &format!("&before={}", percent_encoded(before));
    }
    let mut page = api.get(&path).await?;
    match page["casts"].take() {
        Value::Array(mut casts) => {
            casts.reverse();
            Ok(MessagePage { casts, next: page["next"].as_str().map(str::to_owned) })
        }
        _ => Err(api.unexpected_answer(CASTS)),
    }
}

/// Ends when the output is closed.
async fn follow(api: &ApiClient, args: &CastsCommandArgs, language: Language) -> Result<()> {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut followed = MessageFeed::default();
    let mut is_first = true;
    loop {
        looks.tick().await;
        match followed.changed(api, args).await {
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

/// The messages that were told, the oldest first: those that may still change, and the last
/// ones.
#[derive(Default)]
struct MessageFeed(Vec<Value>);

impl MessageFeed {
    /// Returns those that are new, or further on their way than when they were told.
    async fn changed(
        &mut self,
        api: &ApiClient,
        args: &CastsCommandArgs,
    ) -> Result<Vec<Value>, CallError> {
        let new = self.new_ones(api, args).await?;
        self.0.extend(new);
        let mut changed = Vec::new();
        for place in (0..self.0.len()).rev() {
            let told = &self.0[place];
            if text::is_settled(told) {
                continue;
            }
            match look(api, id_of(told), args.json).await {
                Ok(cast) if text::progress(told) != text::progress(&cast) => {
                    changed.push(cast.clone());
                    self.0[place] = cast;
                }
                Ok(_) => {}
                // It was removed meanwhile.
                Err(error) if error.is_not_found() => drop(self.0.remove(place)),
                Err(error) => return Err(error),
            }
        }
        changed.reverse();
        let older = self.0.len().saturating_sub(MAX_FOLLOWED);
        self.0.drain(..older);
        Ok(changed)
    }

    /// Those after the last one that was told, however many they are; at first a page.
    async fn new_ones(
        &self,
        api: &ApiClient,
        args: &CastsCommandArgs,
    ) -> Result<Vec<Value>, CallError> {
        let (mut new, mut before) = (Vec::new(), None);
        let is_told = |cast: &Value| self.0.iter().any(|told| id_of(told) == id_of(cast));
        loop {
            let page = latest(api, args, before.as_deref()).await?;
            let from = page.casts.iter().rposition(is_told).map_or(0, |place| place + 1);
            new.splice(..0, page.casts[from..].iter().cloned());
            before = page.next.filter(|_| from == 0 && !self.0.is_empty());
            if before.is_none() || new.len() >= MAX_FOLLOWED {
                return Ok(new);
            }
        }
    }
}

fn id_of(cast: &Value) -> &str {
    cast["id"].as_str().unwrap_or_default()
}
