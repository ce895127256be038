//! Our own main server, on a machine with a narrow uplink.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::{
    fleet::{MAIN_PORT, MAIN_SERVER_LOG, MEETING},
    network::Host,
};
use crate::support::{Server, Stage, http, node};

pub(crate) struct Ours {
    server: Server,
    pub host: Host,
}

impl Ours {
    /// Starts it with one meeting, which is not running yet.
    pub(crate) fn start(stage: &Stage, folder: &Path, host: Host, package: &[u8]) -> Result<Self> {
        let mut command = host.command(node::program()?);
        // The network has nobody else, and its nodes are not on this machine.
        command.args(["master", "--open", "--nodes", "open", "--host", "0.0.0.0", "--port"]);
        command.arg(MAIN_PORT.to_string()).arg("--data").arg(folder.join("main-server"));
        let log = folder.join(MAIN_SERVER_LOG);
        let mut server = Server::spawn(stage, "main-server", host.at(MAIN_PORT), log, command)?;
        server.until_it_listens()?;
        let ours = Self { server, host };
        let meeting = json!({"id": MEETING, "title": "Board"}).to_string();
        ours.call("POST", "", ("application/json", meeting.as_bytes()))?;
        ours.call("PUT", &format!("/{MEETING}/package"), ("application/zip", package))?;
        Ok(ours)
    }

    fn call(&self, method: &str, path: &str, body: (&str, &[u8])) -> Result<()> {
        let path = format!("/api/v1/meetings{path}");
        http::send(self.host.at(MAIN_PORT), method, &path, body).map(drop)
    }

    pub(crate) fn start_meeting(&self) -> Result<()> {
        self.call("POST", &format!("/{MEETING}/start"), ("application/json", b""))
    }

    /// Returns the bytes of packages that it has sent so far.
    pub(crate) fn sent_bytes(&self) -> Result<u64> {
        self.metric("edge_mirror_served_bytes_total")
    }

    /// Returns how many nodes wait for news.
    pub(crate) fn waiting_nodes(&self) -> Result<u64> {
        self.metric("edge_mirror_master_held_polls")
    }

    fn metric(&self, name: &str) -> Result<u64> {
        let page = http::get(self.host.at(MAIN_PORT), "/metrics")?;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("no {name}"))?.parse::<f64>()? as u64)
    }

    /// Returns the seconds that one copy takes, to this machine.
    pub(crate) fn curl(&self, to: &Host, bytes: u64) -> Result<f64> {
        let path = format!("/api/v1/meetings/{MEETING}/download-package-direct");
        let mut curl = to.command("curl");
        curl.args(["-sS", "--fail", "-o", "/dev/null", "-w", "%{size_download} %{time_total}"]);
        let output = curl.arg(format!("http://{}{path}", self.host.at(MAIN_PORT))).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        match said.split_once(' ') {
            Some((got, time)) if got == bytes.to_string() => Ok(time.trim().parse()?),
            _ => bail!("curl: {said} {}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    pub(crate) fn kill(&mut self) {
        self.server.kill();
    }
}
