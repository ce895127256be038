//! The spread of the sample package over the nodes, while it goes on: how much each has,
//! and from whom it comes.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Result;
use futures_util::future::join_all;
use reqwest::Client;
use serde_json::Value;

use super::{MEETING, NODE_ID_PREFIX, accepted};
use crate::terminal::{
    Language,
    live::{self, LiveBlock, ProgressStyle, bar},
    table::padded,
    words,
};

const NAME_COLUMNS: usize = 10;

/// The package at one node.
#[derive(Debug, PartialEq)]
enum NodeProgress {
    Waiting,
    /// `from` is another node; none for the main server.
    Pulling {
        share: f64,
        from: Option<String>,
    },
    Ready,
}

/// The end of the spread.
pub(super) struct SpreadResult {
    pub took: Duration,
    /// Bytes that the main server sent.
    pub sent_bytes: u64,
}

/// Draws on a terminal until every node has the package.
pub(super) async fn show(
    client: &Client,
    main_server: SocketAddr,
    nodes: &[SocketAddr],
    language: Language,
) -> Result<SpreadResult> {
    let (began, style) = (Instant::now(), ProgressStyle::of_stderr(true));
    let (mut block, mut ready_after) = (LiveBlock::default(), vec![None; nodes.len()]);
    let mut looks = tokio::time::interval(live::EVERY);
    loop {
        looks.tick().await;
        let looked = nodes.iter().map(|node| look(client, *node));
        let rows = join_all(looked).await.into_iter().collect::<Result<Vec<_>>>()?;
        for (row, ready_after) in rows.iter().zip(&mut ready_after) {
            if *row == NodeProgress::Ready {
                ready_after.get_or_insert(began.elapsed());
            }
        }
        if style == ProgressStyle::Block {
            block.draw(&text(&rows, &ready_after, language));
        }
        if ready_after.iter().all(Option::is_some) {
            break;
        }
    }
    let overview = format!("http://{main_server}/api/v1/overview");
    let overview = accepted(client.get(overview).send().await?).await?;
    let sent_bytes = overview["traffic"]["bytes_served"].as_u64().unwrap_or(0);
    Ok(SpreadResult { took: began.elapsed(), sent_bytes })
}

async fn look(client: &Client, node: SocketAddr) -> Result<NodeProgress> {
    let status = accepted(client.get(format!("http://{node}/api/status")).send().await?).await?;
    Ok(progress(&status))
}

fn progress(status: &Value) -> NodeProgress {
    let meetings = status["meetings"].as_array().into_iter().flatten();
    let Some(meeting) = meetings.into_iter().find(|meeting| meeting["id"] == MEETING) else {
        return NodeProgress::Waiting;
    };
    if ["synced", "unconfirmed"].iter().any(|state| meeting["state"] == *state) {
        return NodeProgress::Ready;
    }
    let from = meeting["source"]["node"].as_str().map(str::to_owned);
    match (meeting["received"].as_f64(), meeting["total"].as_f64()) {
        (Some(received), Some(total)) if total > 0.0 => {
            NodeProgress::Pulling { share: received / total, from }
        }
        _ => NodeProgress::Waiting,
    }
}

fn text(rows: &[NodeProgress], ready_after: &[Option<Duration>], language: Language) -> String {
    let line = |(number, (row, after)): (u16, (&NodeProgress, &Option<Duration>))| {
        let name = padded(&named(&number.to_string(), language), NAME_COLUMNS);
        match row {
            NodeProgress::Waiting => {
                format!("  {name}{}\n", language.of("等待拉取", "waiting"))
            }
            NodeProgress::Pulling { share, from: None } => {
                let from = language.of("来自主控服务器", "from the main server");
                format!("  {name}{}  {from}\n", bar(*share))
            }
            NodeProgress::Pulling { share, from: Some(node) } => {
                let node = node.strip_prefix(NODE_ID_PREFIX).unwrap_or(node);
                let node = named(&words::plain(node), language);
                let from = language.of(format!("来自{node}"), format!("from {node}"));
                format!("  {name}{}  {from}\n", bar(*share))
            }
            NodeProgress::Ready => {
                let after = language.time(after.unwrap_or_default().as_secs_f64());
                let ready = language.of(format!("{after}后就绪"), format!("ready after {after}"));
                format!("  {name}{}  {ready}\n", bar(1.0))
            }
        }
    };
    (1..).zip(rows.iter().zip(ready_after)).map(line).collect()
}

fn named(number: &str, language: Language) -> String {
    language.of(format!("节点 {number}"), format!("node {number}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_node_has_a_line_with_its_share_and_its_source() {
        let meeting = |state: &str, received: u64, node: Option<&str>| {
            let source = json!({"node": node});
            progress(&json!({"meetings": [
                {"id": "other", "state": "synced"},
                {"id": MEETING, "state": state, "received": received, "total": 100, "source": source},
            ]}))
        };
        let rows = [
            meeting("pulling", 50, None),
            meeting("pulling", 25, Some("demo-1")),
            meeting("synced", 100, None),
            progress(&json!({"meetings": []})),
        ];
        let after = [None, None, Some(Duration::from_millis(7400)), None];
        let half = bar(0.5);
        let quarter = bar(0.25);
        let whole = bar(1.0);
        assert_eq!(
            text(&rows, &after, Language::English),
            format!(
                "  node 1    {half}  from the main server\n  \
                 node 2    {quarter}  from node 1\n  \
                 node 3    {whole}  ready after 7.4 s\n  \
                 node 4    waiting\n"
            )
        );
        let chinese = text(&rows, &after, Language::Chinese);
        assert!(chinese.contains("来自节点 1\n") && chinese.contains("7.4 秒后就绪"), "{chinese}");
    }
}
