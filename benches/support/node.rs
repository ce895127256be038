//! The release binary: a node, and its main server.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use edge_mirror_settings::merge::merge;
use serde_json::{Value, json};

use super::{Places, Server, Stage, http, paths, server::free_port};

/// Returns `EDGE_MIRROR_BIN`, or the binary of `cargo build --release`. (`cargo bench`
/// builds one, too, but with the tests' features of its dependencies.)
pub(crate) fn program() -> Result<PathBuf> {
    let made = || paths::target().join("release/edge-mirror");
    let program = std::env::var_os("EDGE_MIRROR_BIN").map_or_else(made, PathBuf::from);
    if !program.is_file() {
        bail!("there is no {}; run cargo build --release", program.display());
    }
    Ok(program)
}

/// Starts an empty embedded main server.
pub(crate) fn main_server(stage: &Stage) -> Result<Server> {
    main_server_with(stage, &[])
}

/// Starts one with further options.
pub(crate) fn main_server_with(stage: &Stage, options: &[&str]) -> Result<Server> {
    let (data, port) = (stage.make_new("main-server")?, free_port()?);
    let mut command = Command::new(program()?);
    command.args(["master", "--host", "127.0.0.1", "--port", &port.to_string()]);
    command.arg("--data").arg(data).args(options);
    Server::start(stage, "main-server", port, None, command)
}

/// Starts a node that mirrors `main_server` and keeps the packages in `storage`; `patch`
/// has further settings.
pub(crate) fn start(
    stage: &Stage,
    main_server: SocketAddr,
    storage: &Path,
    places: Places,
    patch: &Value,
) -> Result<Server> {
    let (folder, port) = (stage.make_new("node")?, free_port()?);
    let path = folder.join("node_config.json");
    fs::write(&path, configuration(main_server, storage, port, patch)?)?;
    let mut command = Command::new(program()?);
    command.args(["node", "--host", "127.0.0.1", "--config"]).arg(&path);
    command.envs(places.workers.map(|n| ("TOKIO_WORKER_THREADS", n.to_string())));
    Server::start(stage, "edge-mirror", port, places.core, command)
}

/// Returns the configuration of a node that keeps everything it has.
pub(crate) fn configuration(
    main_server: SocketAddr,
    storage: &Path,
    port: u16,
    patch: &Value,
) -> Result<Vec<u8>> {
    let mut config = json!({
        "mainServerIp": main_server.ip(),
        "mainServerPort": main_server.port(),
        "nodeId": "bench",
        "nodePort": port,
        "shutdownGrace": 0,
        "storage": {"path": storage, "maxSize": 1_u64 << 40, "autoCleanup": false},
        "cleanup": {"enabled": false, "cleanOnStartup": false, "cleanEndedMeetings": false},
        "logging": {"fileEnabled": false},
    });
    let both = config.as_object_mut().zip(patch.as_object());
    both.map(|(config, patch)| merge(config, patch)).context("settings are an object")?;
    Ok(serde_json::to_vec_pretty(&config)?)
}

/// Uses the scheme that it serves.
fn status(node: SocketAddr) -> Result<String> {
    if let Ok(status) = http::get(node, "/api/status") {
        return Ok(status);
    }
    let url = format!("https://{node}/api/status");
    let output = Command::new("curl").args(["-sk", &url]).output()?;
    Ok(String::from_utf8(output.stdout)?)
}

/// Waits until the node has verified, or trusts, this many packages.
pub(crate) fn until_packages(node: &mut Server, count: u64) -> Result<()> {
    node.until("it has verified its packages", |node| {
        let status: Value = serde_json::from_str(&status(node.address)?)?;
        Ok(status["meeting_count"].as_u64() >= Some(count))
    })
}
