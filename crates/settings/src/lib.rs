//! The node's settings: `node_config.json`, live.
//!
//! `table` lists the settings, a row each; `check` turns a document into a typed `Config` or a
//! list of problems; `lenient` reads what the Python node wrote; `Settings` owns the
//! file and notifies subscribers of changes; `watch` notices edits made by hand.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::unwrap_used,
        reason = "tests make the mess that the code has to live with"
    )
)]

mod casts;
mod dispatch;
pub mod check;
mod document;
mod environment;
mod error;
pub mod file;
mod gofd;
pub mod lenient;
mod logging;
mod main_server;
pub mod meaning;
pub mod merge;
mod relay;
mod schedule;
pub mod schema;
mod security;
mod setting;
mod table;
mod tasks;
pub mod watch;

use std::{
    ffi::OsString,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use edge_mirror_protocol::{fleet::FleetOrigins, package::VerifyLevel};
use serde::{Deserialize, Serialize};

pub use casts::CastConfig;
pub use check::SettingProblem;
pub use dispatch::DispatchConfig;
pub use document::FileDocument;
pub use environment::Environment;
pub use error::{ConfigError, PatchError};
pub use file::Settings;
pub use gofd::GofdAgentConfig;
pub use main_server::{MainServer, first_main_server, put_main_server};
pub use relay::RelayConfig;
pub use schedule::{BandwidthSchedule, ScheduleError, ScheduledLimit};
pub use security::{Secret, SecurityConfig, Subnet};
pub use tasks::RemoteTaskConfig;

/// A valid configuration. Names and units are those of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    pub main_server_ip: String,
    pub main_server_port: u16,
    pub main_server_tls: bool,
    /// As written; empty where there is only the one above, which else is the first of these.
    pub main_servers: Vec<String>,
    pub main_server_ca: Option<String>,
    pub main_server_cert: Option<String>,
    pub main_server_cert_key: Option<String>,
    pub sync_interval: u64,
    pub node_id: String,
    pub site: String,
    pub node_port: u16,
    pub public_ip: Option<String>,
    pub public_port: Option<u16>,
    pub use_public_address: bool,
    pub advertise_interface: Option<String>,
    pub shutdown_grace: u64,
    pub tls: TlsConfig,
    pub storage: StorageConfig,
    pub network: NetworkConfig,
    pub serve: ServeConfig,
    pub relay: RelayConfig,
    pub casts: CastConfig,
    pub dispatch: DispatchConfig,
    pub gofd: GofdAgentConfig,
    pub tasks: RemoteTaskConfig,
    pub logging: LoggingConfig,
    pub heartbeat: HeartbeatConfig,
    pub cleanup: CleanupConfig,
    pub security: SecurityConfig,
    /// Folder that relative paths in the file start from.
    #[serde(skip)]
    pub folder: PathBuf,
    #[serde(skip)]
    servers: Vec<MainServer>,
    /// Their base URLs, as every request needs one.
    #[serde(skip)]
    fleet: FleetOrigins,
}

/// Files that make the node speak HTTPS; both or none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsConfig {
    pub cert: Option<String>,
    pub key: Option<String>,
    /// 0: none.
    pub redirect_port: u16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageConfig {
    pub path: String,
    pub max_size: u64,
    pub cleanup_threshold: f64,
    pub auto_cleanup: bool,
    pub verify: VerifyLevel,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkConfig {
    pub max_concurrent_downloads: usize,
    pub download_timeout: u64,
    pub connection_timeout: u64,
    pub retry_count: u32,
    pub retry_delay: u64,
    /// Bytes per second of all pulls; 0: no limit.
    pub bandwidth: u64,
    /// Limits of pulls that no started meeting waits for.
    pub schedule: BandwidthSchedule,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServeConfig {
    pub cut_through: bool,
    /// Downloads under way at a time; 0: no limit, also below.
    pub max_downloads: u64,
    /// From one address.
    pub max_per_client: u64,
    /// Connections from one address; 0: a share of all.
    pub max_connections_per_client: u64,
    /// Bytes per second of all downloads.
    pub bandwidth: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoggingConfig {
    pub level: String,
    pub format: String,
    pub file_enabled: bool,
    pub file_path: String,
    pub max_file_size: u64,
    pub backup_count: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeartbeatConfig {
    pub interval: u64,
    pub timeout: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CleanupConfig {
    pub enabled: bool,
    pub clean_on_startup: bool,
    pub clean_ended_meetings: bool,
    pub grace_seconds: u64,
}

impl Config {
    /// Returns what operators see: [`schema::HIDDEN`] in place of secrets.
    pub fn redacted(&self) -> serde_json::Value {
        let mut document = serde_json::json!(self);
        for setting in schema::settings().filter(|setting| setting.is_secret()) {
            let pointer = format!("/{}", setting.key.replace('.', "/"));
            match document.pointer_mut(&pointer) {
                Some(value) if !value.is_null() => *value = schema::HIDDEN.into(),
                Some(_) | None => {}
            }
        }
        document
    }

    /// Sets the fields that are not in the file.
    fn set_derived(&mut self, folder: &Path) {
        self.folder = folder.to_owned();
        self.set_main_servers();
    }

    /// Base URL of the first main server, without a slash at the end: the identity of the
    /// fleet, whichever of its main servers answers.
    pub fn main_server(&self) -> &str {
        self.fleet.identity()
    }

    pub fn fleet(&self) -> &FleetOrigins {
        &self.fleet
    }

    /// Certificate and key of `nodePort`; none: plain HTTP.
    pub fn tls_files(&self) -> Option<(PathBuf, PathBuf)> {
        self.files(&self.tls.cert, &self.tls.key)
    }

    /// Port of plain HTTP that redirects to HTTPS.
    pub fn redirect_port(&self) -> Option<u16> {
        Some(self.tls.redirect_port).filter(|port| *port > 0)
    }

    /// CA file for the main server.
    pub fn main_server_ca(&self) -> Option<PathBuf> {
        self.main_server_ca.as_deref().map(|path| self.resolve(path))
    }

    /// Client certificate and key, if the main server asks.
    pub fn main_server_pair(&self) -> Option<(PathBuf, PathBuf)> {
        self.files(&self.main_server_cert, &self.main_server_cert_key)
    }

    fn files(&self, cert: &Option<String>, key: &Option<String>) -> Option<(PathBuf, PathBuf)> {
        Some((self.resolve(cert.as_deref()?), self.resolve(key.as_deref()?)))
    }

    pub fn storage_path(&self) -> PathBuf {
        self.resolve(&self.storage.path)
    }

    /// The folder that dispatched files are copied to, too.
    pub fn drop_folder(&self) -> Option<PathBuf> {
        Some(self.folder.join(self.dispatch.drop_folder.as_deref()?))
    }

    /// The folder that the agent of GoFD writes to.
    pub fn gofd_folder(&self) -> Option<PathBuf> {
        Some(self.resolve(self.gofd.down_dir.as_deref()?))
    }

    /// The folder with the declarations of task types.
    pub fn tasks_folder(&self) -> PathBuf {
        self.resolve(&self.tasks.folder)
    }

    pub fn log_path(&self) -> PathBuf {
        self.resolve(&self.logging.file_path)
    }

    /// Log of operators' changes, beside the log. Each log has its own.
    pub fn audit_path(&self) -> PathBuf {
        let log = self.log_path();
        if log.extension().is_some_and(|extension| extension == "log") {
            return log.with_extension("audit.log");
        }
        let mut path = OsString::from(log);
        path.push(".audit");
        path.into()
    }

    /// Configured certificates and keys.
    fn tls_paths(&self) -> impl Iterator<Item = PathBuf> {
        let pairs = [self.tls_files(), self.main_server_pair()].into_iter().flatten();
        pairs.flat_map(|(cert, key)| [cert, key]).chain(self.main_server_ca())
    }

    /// Warnings about valid settings, in Chinese and in English.
    pub fn warnings(&self) -> Vec<String> {
        let slow = "heartbeat.interval 不小于 30 秒：主控服务器 30 秒未收到心跳就会移除节点 / \
                    heartbeat.interval is 30 s or more, but a main server drops a node that is \
                    silent for 30 s";
        let open = "security.open 已开启：能访问本端口的任何人都可以修改配置、停止服务 / \
                    security.open is on: whoever reaches this port can change the configuration \
                    and stop the service";
        let gofd = "gofd.agent 已开启，但缺少 gofd.ip、gofd.password、gofd.factor 或 gofd.downDir / \
                    gofd.agent is on, but gofd.ip, gofd.password, gofd.factor or gofd.downDir \
                    is missing";
        let found = [
            (self.is_heartbeat_slow(), slow),
            (self.security.open, open),
            (self.gofd.is_incomplete(), gofd),
        ];
        found.into_iter().filter(|(is, _)| *is).map(|(_, text)| text.to_owned()).collect()
    }

    /// True if a main server would drop the node between two heartbeats.
    pub fn is_heartbeat_slow(&self) -> bool {
        self.heartbeat.interval >= NODE_TIMEOUT_S
    }

    fn resolve(&self, path: &str) -> PathBuf {
        // Without the "./" that the defaults begin with: it would show up in
        // every message that names the path.
        let path = Path::new(path);
        self.folder.join(path.strip_prefix("./").unwrap_or(path))
    }
}

/// Path of the access file beside a configuration file.
pub fn access_path(config: &Path) -> PathBuf {
    config.with_extension("access.json")
}

/// Silence after which a main server drops a node.
const NODE_TIMEOUT_S: u64 = 30;

pub fn scheme(tls: bool) -> &'static str {
    if tls { "https" } else { "http" }
}

/// `host:port`, with brackets around an IPv6 address, as it may stand behind
/// `http://`.
pub fn authority(host: &str, port: u16) -> String {
    match literal(host) {
        Some(address) => SocketAddr::new(address, port).to_string(),
        None => format!("{host}:{port}"),
    }
}

/// Parses a host that is an address, in brackets or not; none if it is a name.
pub fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::authority;

    #[test]
    fn only_ipv6_addresses_get_brackets() {
        assert_eq!(authority("10.0.0.1", 80), "10.0.0.1:80");
        assert_eq!(authority("main.local", 80), "main.local:80");
        assert_eq!(authority("::1", 80), "[::1]:80");
        assert_eq!(authority("[fe80::2]", 8001), "[fe80::2]:8001");
        assert_eq!(authority("[10.0.0.1]", 80), "10.0.0.1:80");
        assert_eq!(authority("::ffff:10.0.0.1", 80), "10.0.0.1:80");
    }
}

#[cfg(feature = "openapi")]
pub mod openapi;
