//! The units, and what the binary says to the manager that they name.

use std::{
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::json;

use crate::support::{
    PATIENCE,
    process::{NodeFolder, NodeProcess, Process, binary},
    until,
};

const UNITS: [&str; 2] = ["edge-mirror.service", "edge-mirror-master.service"];

/// Below this systemd calls a service well protected.
const EXPOSURE: f64 = 2.0;

/// A service manager: its socket, and all that it was told, line by line.
struct Manager {
    folder: tempfile::TempDir,
    socket: UnixDatagram,
    told: Vec<String>,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { folder, socket, told: Vec::new() }
    }

    /// As systemd starts a service.
    fn start(&self, mut command: Command) -> Process {
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
        command.env("WATCHDOG_USEC", "300000");
        Process::spawn(command)
    }

    fn listen(&mut self) {
        let mut bytes = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut bytes) {
            let text = std::str::from_utf8(&bytes[..length]).unwrap();
            self.told.extend(text.lines().map(ToOwned::to_owned));
        }
    }

    /// Waits for a line after the first `from`; where it is.
    async fn until_told(&mut self, line: &str, from: usize) -> usize {
        until(&format!("the manager is told {line} after {:?}", &self.told[..from]), async || {
            self.listen();
            let at = self.told[from..].iter().position(|told| told.starts_with(line))?;
            Some(from + at)
        })
        .await
    }
}

fn nobody() -> String {
    // Whoever asks for any free port gets a higher one.
    "127.0.0.1:1".to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_when_it_serves_reloads_is_well_and_stops() {
    let (mut manager, folder) = (Manager::new(), NodeFolder::of(&nobody()));
    let mut process = manager.start(folder.command());
    let ready = manager.until_told("READY=1", 0).await;
    // It serves already, whoever asks at this very moment.
    let address = process.until_listening().await;
    let mut node = NodeProcess::at(process, address);
    assert_eq!(node.status().await["running"], true);
    assert!(manager.told[ready + 1].starts_with("STATUS=on "), "{:?}", manager.told);
    let well = manager.until_told("WATCHDOG=1", ready).await;
    manager.until_told("WATCHDOG=1", well + 1).await;

    // Without the watching of files, which may have been quicker: a broken file.
    std::fs::write(folder.config_path(), "{").unwrap();
    node.process.signal("HUP");
    let reloading = manager.until_told("RELOADING=1", 0).await;
    let time = manager.until_told("MONOTONIC_USEC=", reloading).await;
    let us: u64 = manager.told[time].split_once('=').unwrap().1.parse().unwrap();
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let uptime_s: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    let age_s = uptime_s - us as f64 / 1e6;
    assert!(age_s.abs() < PATIENCE.as_secs_f64(), "{us} us is not this machine's time {uptime_s}");
    let again = manager.until_told("READY=1", time).await;
    let fault = manager.until_told("STATUS=", again).await;
    assert!(manager.told[fault].contains("not valid JSON"), "{}", manager.told[fault]);

    node.process.signal("TERM");
    let stopping = manager.until_told("STOPPING=1", again).await;
    manager.until_told("EXTEND_TIMEOUT_USEC=40000000", stopping).await;
    assert_eq!(node.process.until_ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_in_the_configuration() {
    let (mut manager, folder) = (Manager::new(), NodeFolder::of(&nobody()));
    let mut process = manager.start(folder.command());
    let address = process.until_listening().await;
    let ready = manager.until_told("READY=1", 0).await;
    let node = NodeProcess::at(process, address);
    let folder = folder.with(json!({"mainServerIp": "127.0.0.9"}));
    node.process.signal("HUP");
    let again = manager.until_told("READY=1", ready + 1).await;
    let status = manager.until_told("STATUS=", again).await;
    assert!(manager.told[status].contains("127.0.0.9"), "{}", manager.told[status]);
    drop(folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_server_says_when_it_serves_and_outlives_a_hangup() {
    let (mut manager, data) = (Manager::new(), tempfile::tempdir().unwrap());
    let mut command = binary();
    command.args(["master", "--host", "127.0.0.1", "--port", "0", "--data"]).arg(data.path());
    let mut process = manager.start(command);
    let ready = manager.until_told("READY=1", 0).await;
    manager.until_told("WATCHDOG=1", ready).await;
    process.signal("HUP");
    let reloading = manager.until_told("RELOADING=1", ready).await;
    let again = manager.until_told("READY=1", reloading).await;
    process.signal("TERM");
    manager.until_told("STOPPING=1", again).await;
    assert_eq!(process.until_ended().await.code(), Some(0));
}

fn systemd_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")
}

fn analyze(args: &[&str]) -> (bool, String) {
    let mut command = Command::new("systemd-analyze");
    let ended = command.args(args).stdin(Stdio::null()).output().expect("systemd's package");
    let said = [ended.stdout, ended.stderr].concat();
    (ended.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn systemd_has_no_complaint_about_the_units() {
    let folder = tempfile::tempdir().unwrap();
    for unit in UNITS {
        let text = std::fs::read_to_string(systemd_folder().join(unit)).unwrap();
        // The program has to be where the unit says that it is.
        let there = text.replace("/usr/local/bin/edge-mirror", env!("CARGO_BIN_EXE_edge-mirror"));
        assert_ne!(there, text, "{unit}");
        let path = folder.path().join(unit);
        std::fs::write(&path, there).unwrap();
        let low = folder.path().join(format!("{unit}.d"));
        std::fs::create_dir(&low).unwrap();
        std::fs::copy(systemd_folder().join("low-port.conf"), low.join("low-port.conf")).unwrap();
        let (clean, said) = analyze(&["verify", "--man=no", path.to_str().unwrap()]);
        assert_eq!((clean, said.as_str()), (true, ""), "{unit}");
    }
}

#[test]
fn the_services_are_exposed_to_little() {
    for unit in [&UNITS[..], &["edge-mirror-task@.service"]].concat() {
        let path = systemd_folder().join(unit);
        let (_, said) = analyze(&["security", "--offline=true", path.to_str().unwrap()]);
        let overall = said.lines().find(|line| line.contains("Overall exposure level"));
        let level = overall.and_then(|line| line.split(": ").nth(1)?.split(' ').next());
        let level: f64 =
            level.and_then(|level| level.parse().ok()).unwrap_or_else(|| panic!("{said}"));
        assert!(level < EXPOSURE, "{unit}: {level}\n{said}");
    }
}

#[test]
fn systemd_waits_longer_than_downloads_may_take() {
    let grace = edge_mirror_settings::Settings::from_defaults().unwrap().shutdown_grace;
    for unit in UNITS {
        let text = std::fs::read_to_string(systemd_folder().join(unit)).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix("TimeoutStopSec="));
        let seconds: u64 = value.unwrap().parse().unwrap();
        // What a node does besides is bounded by about 20 s.
        assert!(seconds >= grace + 20, "{unit}: {seconds} s");
    }
}
