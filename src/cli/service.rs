//! `edge-mirror install` and `uninstall`.

use std::{path::PathBuf, str::FromStr};

use clap::Args;
use edge_mirror_settings::{authority, schema};

use super::units::{self, told};

#[derive(Clone, Debug, Args)]
#[command(after_help = INSTALL_EXAMPLES)]
pub struct InstallArgs {
    /// The main server to mirror; asked for if not given.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "master")]
    pub main_server: Option<MainServerAddress>,
    /// The port to serve on; asked for if not given, by default 8001, or 8000
    /// for a main server.
    #[arg(long, value_name = "N", value_parser = units::fixed_port)]
    pub port: Option<u16>,
    /// Ask nothing; what is not given keeps its value or takes the default.
    #[arg(long)]
    pub yes: bool,
    /// Put all files below this folder and run no system commands: for images,
    /// or to see what would be installed.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Install the embedded main server instead of a node.
    #[arg(long)]
    pub master: bool,
    /// Take over the folder of a Python node: its node_config.json and its
    /// packages are copied, the folder itself is left alone.
    #[arg(long, value_name = "DIR", conflicts_with = "master")]
    pub adopt: Option<PathBuf>,
}

const INSTALL_EXAMPLES: &str = "\
Examples:
  edge-mirror install                                  asks what it has to know
  edge-mirror install --main-server 10.0.0.5:80 --yes  asks nothing
  edge-mirror install --adopt /opt/tongbuhouduan       instead of a Python node
  edge-mirror install --master --port 8000             a main server

Run it again with another version to upgrade in place.";

#[derive(Clone, Debug, Args)]
pub struct UninstallArgs {
    /// Also remove configuration, packages, logs and the user edge-mirror.
    #[arg(long)]
    pub purge: bool,
    /// Remove the embedded main server instead of the node.
    #[arg(long)]
    pub master: bool,
    /// Remove what was installed below this folder.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// The main server's host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MainServerAddress {
    pub host: String,
    pub port: u16,
}

impl FromStr for MainServerAddress {
    type Err = String;

    /// `host:port`, or `host` alone for port 80; IPv6 addresses in brackets.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            told(
                "请写成 主机:端口，例如 192.168.110.10:80 或 [fd00::1]:80；HTTPS 另设 mainServerTls",
                "HOST:PORT is needed, such as 192.168.110.10:80 or [fd00::1]:80; for HTTPS set \
                 mainServerTls",
            )
        };
        let text = text.trim();
        let text = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
            Some(_) if !text.ends_with(']') => return Err(wrong()),
            _ => (text, "80"),
        };
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        let known = schema::find("mainServerIp").is_some_and(|s| s.accepts(&host.into()));
        if known { Ok(Self { host: host.to_owned(), port }) } else { Err(wrong()) }
    }
}

impl std::fmt::Display for MainServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&authority(&self.host, self.port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_servers_are_a_host_and_a_port() {
        for (text, host, port) in [
            ("10.0.0.5:8000", "10.0.0.5", 8000),
            (" main.local ", "main.local", 80),
            ("[fd00::1]:81", "[fd00::1]", 81),
            ("[fd00::1]", "[fd00::1]", 80),
            ("http://10.0.0.5:8000/", "10.0.0.5", 8000),
        ] {
            let read: MainServerAddress = text.parse().unwrap();
            assert_eq!((read.host.as_str(), read.port), (host, port), "{text}");
        }
        for bad in ["", ":80", "a:0", "a:70000", "a:b", "https://a:80", "a/b", "fd00::1", "[a]:1"] {
            assert!(bad.parse::<MainServerAddress>().is_err(), "{bad}");
        }
        assert_eq!("[::1]:80".parse::<MainServerAddress>().unwrap().to_string(), "[::1]:80");
    }
}
