//! A main server, two nodes and a sample meeting on loopback, to try
//! everything out. It goes the ways that users go: the meeting is made and
//! its package uploaded by the main server's API, the nodes find out by polling.

mod sample;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use edge_mirror_base::{atomic, log::Journal, tasks::Interrupt};
use edge_mirror_http::{listen::Listener, tls};
use edge_mirror_main_server::{Master, MasterOptions};
use edge_mirror_node::{Node, NodeOptions};
use edge_mirror_settings::Settings;
use reqwest::Response;
use serde_json::{Value, json};

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const MAIN_SERVER_PORT: u16 = 8000;
const NODES: u16 = 2;
const MEETING: &str = "sample";
/// Nodes poll every second; a machine that needs longer has another problem.
const SYNC_PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const GRACE: Duration = Duration::from_secs(5);

/// Runs until interrupted; `say` shows the user what to do.
pub async fn run(interrupt: &mut Interrupt, say: impl Fn(&str)) -> Result<()> {
    let folder = Folder::create()?;
    let main_server = start_main_server(&folder.0).await?;
    let mut nodes = Vec::new();
    for number in 1..=NODES {
        nodes.push(start_node(&folder.0, number, main_server.address()).await?);
    }
    let shown = async {
        begin_meeting(main_server.address()).await?;
        say(&instructions(&main_server, &nodes, &folder.0));
        std::future::pending().await
    };
    let outcome = tokio::select! {
        failed = shown => failed,
        () = interrupt.received() => Ok(()),
        failed = main_server.failed() => Err(anyhow!("the main server failed: {failed}")),
        failed = any_failed(&nodes) => Err(anyhow!("a node failed: {failed}")),
    };
    for node in nodes {
        node.shut_down().await;
    }
    main_server.shut_down(GRACE).await;
    outcome
}

async fn start_main_server(folder: &Path) -> Result<Master> {
    let options = MasterOptions {
        data: folder.join("main-server"),
        listen: SocketAddr::new(HOST, usual_or_free(MAIN_SERVER_PORT)),
        ..MasterOptions::default()
    };
    Ok(Master::start(options).await?)
}

async fn start_node(folder: &Path, number: u16, main_server: SocketAddr) -> Result<Node> {
    let folder = folder.join(format!("node-{number}"));
    atomic::create_folder(&folder)?;
    let config = json!({
        "mainServerIp": main_server.ip(),
        "mainServerPort": main_server.port(),
        "nodeId": format!("demo-{number}"),
        "nodePort": usual_or_free(MAIN_SERVER_PORT + number),
        "syncInterval": 1,
        "heartbeat": {"interval": 5, "timeout": 15},
        "shutdownGrace": GRACE.as_secs(),
        "logging": {"fileEnabled": false},
    });
    let path = folder.join("node_config.json");
    atomic::write(&path, &serde_json::to_vec_pretty(&config)?)?;
    let settings = Arc::new(Settings::load_or_create(&path)?);
    Ok(Node::start(settings, NodeOptions { host: HOST, port: None, journal: Journal::default() })
        .await?)
}

/// The usual port, or one that the system has to spare.
fn usual_or_free(port: u16) -> u16 {
    let free = |port| Listener::bind(SocketAddr::new(HOST, port)).map(|l| l.address().port());
    free(port).or_else(|_| free(0)).unwrap_or(port)
}

async fn any_failed(nodes: &[Node]) -> String {
    let failures = nodes.iter().map(|node| Box::pin(node.failed()));
    futures_util::future::select_all(failures).await.0
}

/// Makes the meeting, uploads its package, starts it, and waits until every
/// node has it.
async fn begin_meeting(main_server: SocketAddr) -> Result<()> {
    let client = tls::http(tls::client()).build()?;
    let meetings = format!("http://{main_server}/api/v1/meetings");
    let meeting = format!("{meetings}/{MEETING}");
    let made = json!({"id": MEETING, "title": "示例会议 Sample meeting"});
    accepted(client.post(&meetings).json(&made).send().await?).await?;
    let package = sample::package()?;
    accepted(client.put(format!("{meeting}/package")).body(package).send().await?).await?;
    accepted(client.post(format!("{meeting}/start")).send().await?).await?;
    let everywhere = async {
        loop {
            let shown = accepted(client.get(&meeting).send().await?).await?;
            if shown["nodes"].as_array().is_some_and(|nodes| nodes.len() == usize::from(NODES)) {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    match tokio::time::timeout(SYNC_PATIENCE, everywhere).await {
        Ok(outcome) => outcome,
        Err(_) => bail!("the nodes did not get the sample package within {SYNC_PATIENCE:?}"),
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

fn instructions(main_server: &Master, nodes: &[Node], folder: &Path) -> String {
    let address = main_server.address();
    let mut text = format!(
        "\nedge-mirror demo is running / 演示已启动\n\n\
         \x20 main server / 主控服务器   http://{address}/\n"
    );
    for (number, node) in (1..).zip(nodes) {
        let panel = node.address();
        text += &format!(
            "  node {number} / 节点 {number}            http://{panel}/static/index.html\n"
        );
    }
    text += &format!(
        "\nDownload the sample meeting's package as a tablet does; the main server redirects\n\
         to a node that has it / 像平板一样下载示例会议包，主控服务器会重定向到节点:\n\n\
         \x20 curl -L http://{address}/api/v1/meetings/{MEETING}/download-package -o sample.zip\n\n\
         Everything lies in {} and is removed at the end.\n\
         Press Ctrl-C to stop / 按 Ctrl-C 结束\n",
        folder.display()
    );
    text
}

/// A temporary folder that goes when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("edge-mirror-demo-{:08x}", fastrand::u32(..)));
        atomic::create_private_folder(&path).with_context(|| {
            format!("cannot create {}; set TMPDIR to another folder", path.display())
        })?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = atomic::remove_folder(&self.0) {
            tracing::warn!("{} could not be removed: {error}", self.0.display());
        }
    }
}
