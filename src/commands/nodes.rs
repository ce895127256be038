//! `edge-mirror nodes`: the list, and which nodes a main server accepts.

mod list;

use anyhow::{Result, bail};
use edge_mirror_protocol::package::percent_encoded;
use reqwest::Method;
use serde_json::Value;

use super::{
    client::{self, ApiClient},
    place,
};
use crate::{
    cli::{NodeDecisionArgs, NodesArgs, NodesCommand},
    terminal::{self, Language, words},
};

const FLEET: &str = "/api/v1/fleet/nodes";

pub(super) async fn run(args: &NodesArgs, language: Language) -> Result<()> {
    let Some(command) = &args.command else { return list::run(&args.list, language).await };
    let told = match command {
        NodesCommand::Approve(args) => approve(args, language).await?,
        NodesCommand::Refuse(args) => {
            refuse(args).await?;
            let id = words::plain(&args.id);
            language.of(format!("已拒绝节点 {id}"), format!("node {id} is refused"))
        }
        NodesCommand::Remove(args) => {
            decide(args, Method::DELETE, "").await?;
            let id = words::plain(&args.id);
            language.of(format!("已移除节点 {id}"), format!("node {id} was removed"))
        }
    };
    Ok(terminal::print(format!("{told}\n"))?)
}

async fn approve(args: &NodeDecisionArgs, language: Language) -> Result<String> {
    let node = decide(args, Method::POST, "/approve").await?;
    let (id, address) = (words::plain(&args.id), shown(&node["address"]));
    Ok(language
        .of(format!("已接受节点 {id}（{address}）"), format!("node {id} at {address} is accepted")))
}

/// Refuses the one that waits with this id, or else the known node: by the address it calls
/// from, so that meanwhile no other takes its place.
async fn refuse(args: &NodeDecisionArgs) -> Result<Value> {
    let api = api(args).await?;
    let fleet = api.get(FLEET).await?;
    let lists = ["pending", "nodes"].map(|list| fleet[list].as_array());
    let mut nodes = lists.into_iter().flatten().flatten();
    let client = nodes.find(|node| node["id"] == *args.id).and_then(|node| node["client"].as_str());
    let query = client.map(|client| format!("?client={}", percent_encoded(client)));
    call(&api, args, Method::POST, &format!("/refuse{}", query.unwrap_or_default())).await
}

async fn decide(args: &NodeDecisionArgs, method: Method, what: &str) -> Result<Value> {
    call(&api(args).await?, args, method, what).await
}

async fn api(args: &NodeDecisionArgs) -> Result<ApiClient> {
    if args.id.is_empty() {
        bail!(terminal::say("请填写节点 ID", "a node's ID is needed"));
    }
    let (master, trust) = place::main_server(&args.at).await;
    let token = client::token(&args.login);
    ApiClient::new(master, &trust, client::ServerKind::MainServer, token)
}

async fn call(
    api: &ApiClient,
    args: &NodeDecisionArgs,
    method: Method,
    what: &str,
) -> Result<Value> {
    let path = format!("{FLEET}/{}{what}", percent_encoded(&args.id));
    Ok(api.call(method, &path, None).await?)
}

fn shown(value: &Value) -> String {
    value.as_str().map(words::plain).unwrap_or_default()
}
