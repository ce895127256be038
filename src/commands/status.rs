//! `edge-mirror status`: a node's status, once or until Ctrl-C.

mod problems;
mod screen;
mod sources;

use std::time::Duration;

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
    terminal::{
        self, Language, live,
        watch::{self, WatchOutput},
    },
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
            gone = follow(&api, args, language) => return gone,
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
async fn follow(api: &ApiClient, args: &StatusArgs, language: Language) -> Result<()> {
    let mut looks = tokio::time::interval(EVERY);
    let (server, mut output) = (api.server.to_string(), WatchOutput::to_stdout(args.json));
    loop {
        looks.tick().await;
        let text = match (look(api).await, output.rows()) {
            (Ok(status), _) if args.json => {
                if !watch::print(&format!("{status}\n")) {
                    return Ok(());
                }
                continue;
            }
            (Ok(status), Some(rows)) => {
                screen::brief(&status, &server, args.verbose, language, rows)
            }
            (Ok(status), None) => screen::text(&status, &server, args.verbose, language),
            // A node that restarts comes back; other servers don't become one.
            (Err(error @ (CallError::Stranger { .. } | CallError::OtherKind { .. })), _) => {
                return Err(error.into());
            }
            (Err(error), _) if args.json => {
                live::put(&format!("edge-mirror: {error}\n"));
                continue;
            }
            (Err(error), _) => format!("{error}\n"),
        };
        // Uptime alone is no change.
        if !output.show(&text, body(&text)) {
            return Ok(());
        }
    }
}

fn body(text: &str) -> &str {
    text.split_once('\n').map_or(text, |(_, body)| body)
}
