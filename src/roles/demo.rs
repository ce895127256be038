//! A main server, a few nodes and a sample meeting on loopback, to try everything out. It
//! uses the public ways: the meeting is created and its package uploaded by the main
//! server's API, the nodes find out by polling.

mod cluster;
mod sample;
mod spread;
mod tablets;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use edge_mirror_base::{
    atomic,
    log::Journal,
    quantity,
    tasks::{self, Interrupt, Tasks},
};
use edge_mirror_http::{listen::Listener, tls};
use edge_mirror_main_server::{Master, MasterOptions};
use edge_mirror_node::{Node, NodeOptions};
use edge_mirror_settings::Settings;
use reqwest::{Body, Response};
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

use crate::{
    cli::DemoArgs,
    telemetry::Telemetry,
    terminal::{Language, say, table::padded},
};
use spread::SpreadResult;

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const MAIN_SERVER_PORT: u16 = 8000;
const MEETING: &str = "sample";
/// The node's number follows.
const NODE_ID_PREFIX: &str = "demo-";
/// Duration of a pull, so that it can be watched, unless the main server's speed is limited.
const PULL_S: u64 = 10;
/// Duration of a tablet's download.
const DOWNLOAD_S: u64 = 15;
/// For the rest, and for the upload on the slowest machine.
const SYNC_PATIENCE: Duration = Duration::from_secs(60);
const SLOWEST_UPLOAD: u64 = 20_000_000;
/// Read at a time for the upload.
const CHUNK_BYTES: usize = 256 << 10;
const LOOK_EVERY: Duration = Duration::from_millis(50);
const GRACE: Duration = Duration::from_secs(5);

/// Runs until interrupted; `print` shows the user what to do.
pub async fn run(
    args: &DemoArgs,
    telemetry: &Telemetry,
    interrupt: &mut Interrupt,
    print: impl Fn(&str),
) -> Result<()> {
    if args.masters > 1 {
        return cluster::run(args, interrupt, print).await;
    }
    let folder = TempFolder::create()?;
    telemetry.keep_audit(Some(folder.0.join("audit.log")));
    let main_server = start_main_server(&folder.0, args.limit).await?;
    let mut nodes = Vec::new();
    for number in 1..=args.nodes {
        nodes.push(start_node(&folder.0, number, main_server.address(), args).await?);
    }
    print(&instructions(&main_server, &nodes, &folder.0, args));
    let tablets = Tasks::new();
    let shown = async {
        let addresses: Vec<_> = nodes.iter().map(Node::address).collect();
        let spread = begin_meeting(main_server.address(), &addresses, &folder.0, args).await?;
        for _ in 0..args.clients {
            let urls = vec![package_url(main_server.address())];
            let tablet = tablets::download_for_ever(urls, args.size / DOWNLOAD_S);
            tablets.spawn("tablet", tablet);
        }
        print(&outcome_of(&spread, args));
        std::future::pending().await
    };
    let outcome = tokio::select! {
        failed = shown => failed,
        () = interrupt.recv() => Ok(()),
        failed = main_server.failed() => Err(anyhow!("the main server failed: {failed}")),
        failed = any_failed(&nodes) => Err(anyhow!("a node failed: {failed}")),
    };
    tablets.shut_down(Duration::ZERO).await;
    for node in nodes {
        node.shut_down().await;
    }
    main_server.shut_down(GRACE).await;
    telemetry.keep_audit(None);
    drop(folder);
    print(&end_message());
    outcome
}

fn end_message() -> String {
    say("演示已结束，临时文件夹已删除。", "The demo has ended, and its folder is removed.")
}

async fn start_main_server(folder: &Path, limit: Option<u64>) -> Result<Master> {
    let options = MasterOptions {
        data: folder.join("main-server"),
        listen: SocketAddr::new(HOST, usual_or_free(MAIN_SERVER_PORT)),
        upload_limit: limit.unwrap_or(0),
        ..MasterOptions::default()
    };
    Ok(Master::start(options).await?)
}

async fn start_node(
    folder: &Path,
    number: u16,
    main_server: SocketAddr,
    args: &DemoArgs,
) -> Result<Node> {
    let folder = folder.join(format!("node-{number}"));
    atomic::create_folder(&folder)?;
    let path = folder.join("node_config.json");
    let port = usual_or_free(MAIN_SERVER_PORT + number);
    write_config(&path, number, port, &[main_server], args)?;
    let settings = Arc::new(Settings::load_or_create(&path)?);
    Ok(Node::start(settings, NodeOptions { host: HOST, port: None, journal: Journal::default() })
        .await?)
}

fn write_config(
    path: &Path,
    number: u16,
    port: u16,
    main_servers: &[SocketAddr],
    args: &DemoArgs,
) -> Result<()> {
    let bandwidth = if args.limit.is_some() { 0 } else { args.size / PULL_S };
    let config = json!({
        "mainServers": main_servers,
        "nodeId": format!("{NODE_ID_PREFIX}{number}"),
        "nodePort": port,
        "syncInterval": 1,
        "network": {"bandwidth": bandwidth},
        "heartbeat": {"interval": 5, "timeout": 15},
        "shutdownGrace": GRACE.as_secs(),
        "logging": {"fileEnabled": false},
    });
    Ok(atomic::write(path, &serde_json::to_vec_pretty(&config)?)?)
}

/// Returns the usual port, or a free one.
fn usual_or_free(port: u16) -> u16 {
    let free = |port| Listener::bind(SocketAddr::new(HOST, port)).map(|l| l.address().port());
    free(port).or_else(|_| free(0)).unwrap_or(port)
}

async fn any_failed(nodes: &[Node]) -> String {
    let failures = nodes.iter().map(|node| Box::pin(node.failed()));
    futures_util::future::select_all(failures).await.0
}

fn package_url(main_server: SocketAddr) -> String {
    format!("http://{main_server}/api/v1/meetings/{MEETING}/download-package")
}

/// Creates the meeting, uploads its package, starts it, and waits until every node has
/// it.
async fn begin_meeting(
    main_server: SocketAddr,
    nodes: &[SocketAddr],
    folder: &Path,
    args: &DemoArgs,
) -> Result<SpreadResult> {
    let client = tls::http(tls::client()).build()?;
    let meetings = format!("http://{main_server}/api/v1/meetings");
    let meeting = format!("{meetings}/{MEETING}");
    let title = say("示例会议", "Sample meeting");
    let made = json!({"id": MEETING, "title": title});
    accepted(client.post(&meetings).json(&made).send().await?).await?;
    let (folder, size_bytes) = (folder.to_owned(), args.size);
    let package = tasks::blocking(move || sample::package(&folder, size_bytes)).await?;
    let package = tokio::fs::File::from_std(package);
    let body = Body::wrap_stream(ReaderStream::with_capacity(package, CHUNK_BYTES));
    accepted(client.put(format!("{meeting}/package")).body(body).send().await?).await?;
    accepted(client.post(format!("{meeting}/start")).send().await?).await?;
    let spread = async {
        let spread = spread::show(&client, main_server, nodes, Language::from_env()).await?;
        // Tablets are sent to a node once the main server knows that it has the package.
        loop {
            let shown = accepted(client.get(&meeting).send().await?).await?;
            if shown["nodes"].as_array().is_some_and(|known| known.len() == nodes.len()) {
                return Ok(spread);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let slowest = args.limit.unwrap_or(SLOWEST_UPLOAD).min(SLOWEST_UPLOAD);
    // As long as it takes if no node passes anything on.
    let transfer = Duration::from_secs(args.size * u64::from(args.nodes) / slowest);
    let patience = SYNC_PATIENCE + transfer;
    match tokio::time::timeout(patience, spread).await {
        Ok(outcome) => outcome,
        Err(_) => bail!("the nodes did not get the sample package within {patience:?}"),
    }
}

fn outcome_of(spread: &SpreadResult, args: &DemoArgs) -> String {
    let (nodes, took) = (args.nodes, spread.took.as_secs_f64());
    let all =
        if nodes == 1 { "The node has".to_owned() } else { format!("All {nodes} nodes have") };
    let copies = spread.sent_bytes as f64 / args.size as f64;
    let told = say(
        format!("{took:.1} 秒后，{nodes} 个节点都有了会议包，主控服务器发送了 {copies:.2} 份。"),
        format!(
            "{all} the package after {took:.1} s, and the main server sent it {copies:.2} times."
        ),
    );
    match args.clients {
        0 => told,
        _ => told + &say("平板正在下载。", " Tablets are downloading it."),
    }
}

async fn accepted(response: Response) -> Result<Value> {
    let (url, status) = (response.url().clone(), response.status());
    let answer: Value = response.json().await.with_context(|| format!("answer of {url}"))?;
    if !status.is_success() {
        bail!("{url} answered {status}: {}", answer["detail"]);
    }
    Ok(answer)
}

fn instructions(main_server: &Master, nodes: &[Node], folder: &Path, args: &DemoArgs) -> String {
    let address = main_server.address();
    let mut pages = vec![(say("主控服务器", "main server"), format!("http://{address}/"))];
    let mut taken = Vec::new();
    let mut note_port = |usual: u16, got: u16| {
        if usual != got {
            taken.push(say(
                format!("端口 {usual} 已被其他程序占用，改用 {got}。"),
                format!("Port {usual} is used by another program, so {got} is used."),
            ));
        }
    };
    note_port(MAIN_SERVER_PORT, address.port());
    for (number, node) in (1..).zip(nodes) {
        let panel = node.address();
        note_port(MAIN_SERVER_PORT + number, panel.port());
        let name = say(format!("节点 {number}"), format!("node {number}"));
        pages.push((name, format!("http://{panel}/static/index.html")));
    }
    let pages = pages.into_iter().map(|(name, url)| format!("  {} {url}\n", padded(&name, 14)));
    let (pages, taken) = (pages.collect::<String>(), taken.join("\n"));
    let taken = if taken.is_empty() { taken } else { format!("\n{taken}\n") };
    let size = quantity::format_bytes(args.size as f64);
    let tablets = match args.clients {
        0 => say("。", "."),
        1 => say("，之后有 1 台模拟平板下载它。", ", then\na simulated tablet downloads it."),
        clients => say(
            format!("，之后有 {clients} 台模拟平板下载它。"),
            format!(", then\n{clients} simulated tablets download it."),
        ),
    };
    let (count, nodes) = match args.nodes {
        1 => (1, "The node is".to_owned()),
        count => (count, format!("{count} nodes are")),
    };
    let (curl, folder) =
        (format!("curl -L {} -o sample.zip", package_url(address)), folder.display());
    say(
        format!(
            "\n演示已启动\n\n{pages}{taken}\n\
             请打开这些页面：{count} 个节点正在拉取示例会议包（{size}）{tablets}\n\
             也可以像平板一样下载，主控服务器会重定向到有会议包的节点：\n\n  {curl}\n\n\
             文件都在 {folder} 中，结束时自动删除。\n按 Ctrl-C 结束。\n"
        ),
        format!(
            "\nThe demo is running.\n\n{pages}{taken}\n\
             Open these pages. {nodes} pulling a sample package ({size}){tablets}\n\
             To download it as a tablet does (the main server redirects to a node that has it):\n\n  {curl}\n\n\
             All files are in {folder} and are removed at the end.\n\
             Press Ctrl-C to stop.\n"
        ),
    )
}

/// A temporary folder, removed on drop.
struct TempFolder(PathBuf);

impl TempFolder {
    fn create() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("edge-mirror-demo-{:08x}", fastrand::u32(..)));
        atomic::create_private_folder(&path).with_context(|| {
            format!("cannot create {}; set TMPDIR to another folder", path.display())
        })?;
        Ok(Self(path))
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        if let Err(error) = atomic::remove_folder(&self.0) {
            tracing::warn!("{} could not be removed: {error}", self.0.display());
        }
    }
}
