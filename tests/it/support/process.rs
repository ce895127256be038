//! The binary itself as a process of its own, in a folder of its own.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, PipeReader, PipeWriter, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, atomic::AtomicBool, atomic::AtomicU64, atomic::Ordering},
    time::Duration,
};

use edge_mirror_protocol::package::percent_encoded;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use super::{client, until};

/// The binary, as if started by somebody whose environment is empty. It is the
/// one built with the tests, unless EDGE_MIRROR_BINARY names another.
pub(crate) fn binary() -> Command {
    let built = || env!("CARGO_BIN_EXE_edge-mirror").into();
    let mut command = Command::new(std::env::var_os("EDGE_MIRROR_BINARY").unwrap_or_else(built));
    plain_environment(&mut command);
    command
}

/// No proxy, no backtraces, nothing of the machine that the tests run on.
pub(crate) fn plain_environment(command: &mut Command) {
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
}

/// Everything that a process wrote so far.
#[derive(Clone, Default)]
pub(crate) struct Text(Arc<Mutex<String>>);

impl Text {
    fn gather(source: impl Read + Send + 'static) -> Self {
        let text = Self::default();
        let gathered = text.clone();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(source);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                gathered.0.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        text
    }

    pub(crate) fn get(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

pub(crate) struct Process {
    child: Child,
    /// What it logs to the console.
    pub errors: Text,
    pub output: Text,
}

impl Process {
    pub(crate) fn spawn(command: Command) -> Self {
        let (console, stderr) = std::io::pipe().unwrap();
        Self::with_console(command, console, stderr)
    }

    /// Its console is a pipe that the caller made.
    pub(crate) fn with_console(
        mut command: Command,
        console: PipeReader,
        stderr: PipeWriter,
    ) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        // The command holds an end of the pipe, too.
        drop(command);
        let errors = Text::gather(console);
        let output = Text::gather(child.stdout.take().unwrap());
        Self { child, errors, output }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The address in its line about listening.
    pub(crate) async fn until_listening(&mut self) -> SocketAddr {
        until("the process listens", async || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("ended with {status} instead of listening:\n{}", self.errors.get());
            }
            let log = self.errors.get();
            let line = log.lines().find(|line| listens(line))?;
            let address = line.split(" on ").nth(1)?.split([',', ' ']).next()?;
            Some(address.parse().unwrap())
        })
        .await
    }

    pub(crate) fn signal(&self, name: &str) {
        let script = format!("kill -{name} {}", self.id());
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    }

    /// As kill -9 does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) async fn until_ended(&mut self) -> ExitStatus {
        until("the process ends", async || self.child.try_wait().unwrap()).await
    }
}

fn listens(line: &str) -> bool {
    line.contains("is listening on ") || line.contains("main server listens on ")
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- its output ---\n{}", self.output.get());
            println!("--- its log ---\n{}", self.errors.get());
        }
    }
}

/// A process that has ended: exit code, standard output, standard error.
pub(crate) fn run(
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> (Option<i32>, String, String) {
    let ended = binary().args(args).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (ended.status.code(), text(ended.stdout), text(ended.stderr))
}

/// A node's folder, in which one process after the other may run.
pub(crate) struct NodeFolder {
    folder: tempfile::TempDir,
}

impl NodeFolder {
    /// A node of the main server at `authority` (`host:port`), quick where the
    /// defaults are slow.
    pub(crate) fn of(authority: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (host, port) = authority.rsplit_once(':').unwrap();
        let this = Self { folder };
        this.write(&json!({
            "mainServerIp": host,
            "mainServerPort": port.parse::<u16>().unwrap(),
            "nodeId": "node-test",
            "syncInterval": 1,
            "network": {"retryDelay": 0, "connectionTimeout": 5},
            "heartbeat": {"interval": 1, "timeout": 3},
            "logging": {"fileEnabled": false},
        }));
        this
    }

    pub(crate) fn with(self, patch: Value) -> Self {
        let mut config = self.config();
        let base = config.as_object_mut().unwrap();
        edge_mirror_settings::merge::merge(base, patch.as_object().unwrap());
        self.write(&config);
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.path().join("node_config.json")
    }

    pub(crate) fn storage(&self) -> PathBuf {
        self.path().join("storage")
    }

    pub(crate) fn config_bytes(&self) -> Vec<u8> {
        std::fs::read(self.config_path()).unwrap()
    }

    /// Panics where the file does not hold one whole JSON object.
    pub(crate) fn config(&self) -> Value {
        let bytes = self.config_bytes();
        let config: Option<Value> = serde_json::from_slice(&bytes).ok();
        config
            .filter(Value::is_object)
            .unwrap_or_else(|| panic!("no JSON object: {:?}", String::from_utf8_lossy(&bytes)))
    }

    fn write(&self, config: &Value) {
        std::fs::write(self.config_path(), serde_json::to_vec_pretty(config).unwrap()).unwrap();
    }

    /// `edge-mirror node …` on a free port of loopback, not yet run.
    pub(crate) fn command(&self) -> Command {
        let mut command = binary();
        command.args(["node", "--host", "127.0.0.1", "--port", "0", "--config"]);
        command.arg(self.config_path());
        command
    }

    pub(crate) async fn start(&self) -> NodeProcess {
        NodeProcess::of(self.command()).await
    }
}

/// A node that listens.
pub(crate) struct NodeProcess {
    pub process: Process,
    address: SocketAddr,
}

impl NodeProcess {
    pub(crate) async fn of(command: Command) -> Self {
        Self::listening(Process::spawn(command)).await
    }

    pub(crate) async fn listening(mut process: Process) -> Self {
        let address = process.until_listening().await;
        Self { process, address }
    }

    /// One that says nothing of where it listens.
    pub(crate) fn at(process: Process, address: SocketAddr) -> Self {
        Self { process, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn package_url(&self, id: &str) -> String {
        self.url(&format!("/api/v1/meetings/{}/download-package", percent_encoded(id)))
    }

    pub(crate) async fn status(&self) -> Value {
        client().get(self.url("/api/status")).send().await.unwrap().json().await.unwrap()
    }

    pub(crate) async fn meeting(&self, id: &str) -> Value {
        super::meeting_in(&self.status().await, id)
    }

    pub(crate) async fn until_synced(&self, id: &str) -> Value {
        super::until_synced(id, async || self.meeting(id).await).await
    }

    pub(crate) async fn get_package(&self, id: &str) -> Response {
        client().get(self.package_url(id)).send().await.unwrap()
    }

    /// The package as a tablet gets it.
    pub(crate) async fn download(&self, id: &str) -> (StatusCode, Vec<u8>) {
        let response = self.get_package(id).await;
        (response.status(), response.bytes().await.unwrap().to_vec())
    }

    pub(crate) async fn configure(&self, patch: Value) {
        let url = self.url("/api/config");
        let response = client().post(url).json(&patch).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{:?}", response.text().await);
    }
}

/// The most anonymous memory that a process was seen with; looks every 20 ms
/// until it is asked.
pub(crate) struct MemoryPeak {
    peak_kib: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
}

impl MemoryPeak {
    pub(crate) fn watch(pid: u32) -> Self {
        let (peak_kib, end) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (peak, ended) = (peak_kib.clone(), end.clone());
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                if let Some(now) = anonymous_kib(pid) {
                    peak.fetch_max(now, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { peak_kib, end }
    }

    pub(crate) fn mebibytes(&self) -> f64 {
        let kib = self.peak_kib.load(Ordering::Relaxed);
        assert!(kib > 0, "it was never looked at");
        kib as f64 / 1024.0
    }
}

impl Drop for MemoryPeak {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

fn anonymous_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
