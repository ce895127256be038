//! A node in a process and a folder of its own, and what it costs.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use edge_mirror::config::merge::merge;
use serde_json::{Value, json};
use tempfile::TempDir;

/// As `/proc/PID/stat` counts time; the same on all of Linux.
const TICKS_PER_S: f64 = 100.0;

pub struct Node {
    process: Child,
    _folder: TempDir,
}

pub struct Cost {
    pub core: f64,
    pub wakes_per_s: f64,
    pub anonymous_bytes: u64,
}

impl Node {
    /// Of the main server at `authority`, with these settings.
    pub fn start(authority: &str, settings: Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the node");
        let (host, port) = authority.rsplit_once(':').expect("host and port");
        let mut config = json!({
            "mainServerIp": host,
            "mainServerPort": port.parse::<u16>().expect("a port"),
            "nodeId": "bench",
            "logging": {"fileEnabled": false, "level": "WARNING"},
        });
        let both = config.as_object_mut().zip(settings.as_object());
        both.map(|(config, settings)| merge(config, settings)).expect("they are objects");
        let path = folder.path().join("node_config.json");
        fs::write(&path, config.to_string()).expect("the folder is writable");
        let binary = std::env::var("EDGE_MIRROR_BIN");
        let binary = binary.unwrap_or_else(|_| env!("CARGO_BIN_EXE_edge-mirror").to_owned());
        let process = Command::new(binary)
            .args(["--host", "127.0.0.1", "--port", "0", "--config"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary was built");
        Self { process, _folder: folder }
    }

    pub async fn cost_over(&self, time: Duration) -> Cost {
        // What it does at a start is over by then.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (began, cpu_s, wakes) = (Instant::now(), self.cpu_s(), self.wakes());
        tokio::time::sleep(time).await;
        let passed_s = began.elapsed().as_secs_f64();
        Cost {
            core: (self.cpu_s() - cpu_s) / passed_s,
            wakes_per_s: (self.wakes() - wakes) as f64 / passed_s,
            anonymous_bytes: 1024 * figure(&self.read("status"), "RssAnon:"),
        }
    }

    fn read(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.process.id());
        fs::read_to_string(path).expect("the node lives")
    }

    fn cpu_s(&self) -> f64 {
        let stat = self.read("stat");
        // Behind the name, which is in brackets: user and system time.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: f64 = fields.skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
        ticks / TICKS_PER_S
    }

    fn wakes(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id()));
        let tasks = tasks.expect("the node lives").flatten();
        let status = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
        status.map(|status| figure(&status, "voluntary_ctxt_switches:")).sum()
    }
}

fn figure(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.unwrap_or_default()
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
