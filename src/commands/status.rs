//! `edge-mirror status`: a node's status, once or until Ctrl-C.

mod problems;
mod screen;
mod sources;

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use anyhow::Result;
use edge_mirror_base::tasks::Interrupt;
use serde_json::Value;

use super::{
    CheckFailed,
    client::{self, ApiClient, CallError},
    place,
};
use crate::{
    cli::StatusArgs,
    terminal::{self, Language, live},
};

/// Interval of `--watch`.
const EVERY: Duration = Duration::from_secs(1);
const STATUS: &str = "/api/status";

pub(super) async fn run(
    args: &StatusArgs,
    language: Language,
    interrupt: &mut Interrupt,
) -> Result<()> {
    let (node, trust) = place::node(&args.at)?;
    let api = ApiClient::new(node, &trust, client::ServerKind::Node, None)?;
    if args.watch {
        tokio::select! {
            gone = watch(&api, args, language) => return gone,
            // The usual end of watching.
            () = interrupt.recv() => return Ok(()),
        }
    }
    let status = look(&api).await?;
    terminal::print(match args.json {
        true => format!("{status:#}\n"),
        false => screen::text(&status, &api.server.to_string(), args.verbose, language),
    })?;
    if problems::of(&status).any(problems::is_error) { Err(CheckFailed.into()) } else { Ok(()) }
}

async fn look(api: &ApiClient) -> Result<Value, CallError> {
    let status = api.get(STATUS).await?;
    // A main server, or anything else, may have a page there, too.
    if status["node_id"].is_string() { Ok(status) } else { Err(api.unexpected_answer(STATUS)) }
}

/// Ends when the output is closed.
async fn watch(api: &ApiClient, args: &StatusArgs, language: Language) -> Result<()> {
    let mut looks = tokio::time::interval(EVERY);
    let (server, mut before) = (api.server.to_string(), String::new());
    let redraw = std::io::stdout().is_terminal() && !args.json;
    loop {
        looks.tick().await;
        let text = match (look(api).await, args.json) {
            (Ok(status), true) => format!("{status}\n"),
            (Ok(status), false) if redraw => {
                // The last line is the cursor's.
                let rows = screen::size().0.saturating_sub(1);
                screen::brief(&status, &server, args.verbose, language, rows)
            }
            (Ok(status), false) => screen::text(&status, &server, args.verbose, language),
            // A node that restarts comes back; other servers don't become one.
            (Err(error @ (CallError::Stranger { .. } | CallError::OtherKind { .. })), _) => {
                return Err(error.into());
            }
            (Err(error), true) => {
                live::put(&format!("edge-mirror: {error}\n"));
                continue;
            }
            (Err(error), false) => format!("{error}\n"),
        };
        let written = match redraw {
            true => std::io::stdout().write_all(screen::drawn(&text).as_bytes()),
            // Uptime alone is no change.
            false if !args.json && body(&text) == body(&before) => continue,
            false => std::io::stdout().write_all(text.as_bytes()),
        };
        if written.and_then(|()| std::io::stdout().flush()).is_err() {
            return Ok(());
        }
        before = text;
    }
}

fn body(text: &str) -> &str {
    text.split_once('\n').map_or(text, |(_, body)| body)
}
