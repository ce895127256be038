//! Arguments of GoFD: the main server's gateway for its clients and agents, and its passwords.

use std::{fs, net::SocketAddr, path::PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use edge_mirror_gofd::{ConfigReading, GofdConfig};
use edge_mirror_http::listen;
use edge_mirror_main_server::GofdOptions;
use tracing::warn;

use super::units;

#[derive(Clone, Debug, Args)]
pub struct GofdArgs {
    /// Serve clients and agents of GoFD as its server did with this configuration, a
    /// YAML file. It needs --dispatch-root. By default they are not served.
    #[arg(long, value_name = "FILE", requires = "dispatch_root")]
    pub gofd_config: Option<PathBuf>,
    /// The port for clients of GoFD, instead of the file's net.mgntPort; 0 takes any
    /// free port.
    #[arg(long, value_name = "N", value_parser = units::port, requires = "gofd_config")]
    pub gofd_port: Option<u16>,
    /// The port from which agents of GoFD pull, instead of the file's net.dataPort; 0
    /// takes any free port.
    #[arg(long, value_name = "N", value_parser = units::port, requires = "gofd_config")]
    pub gofd_data_port: Option<u16>,
}

/// Largest configuration of GoFD.
const MAX_BYTES: u64 = 1 << 20;

impl GofdArgs {
    /// Reads the configuration, if there is one. `host` is the main server's own address.
    pub fn options(&self, host: Option<std::net::IpAddr>) -> Result<Option<GofdOptions>> {
        let Some(path) = &self.gofd_config else { return Ok(None) };
        let shown = format!("--gofd-config {}", path.display());
        let size = fs::metadata(path).with_context(|| shown.clone())?.len();
        if size > MAX_BYTES {
            bail!("{shown}: 文件过大 / the file is too large");
        }
        let text = fs::read_to_string(path).with_context(|| shown.clone())?;
        let ConfigReading { config, unknown } = GofdConfig::parse(&text).context(shown)?;
        for key in unknown {
            warn!("{key} in {} means nothing and is ignored", path.display());
        }
        let host = config.ip.unwrap_or_else(|| listen::host(host));
        let port = |given: Option<u16>, of_file: Option<u16>, key| {
            let port = given.or(of_file);
            port.with_context(|| format!("缺少 {key} / {key} is missing"))
        };
        let listen = port(self.gofd_port, config.mgnt_port, "net.mgntPort / --gofd-port")?;
        let data = port(self.gofd_data_port, config.data_port, "net.dataPort / --gofd-data-port")?;
        let (listen, data) = (SocketAddr::new(host, listen), SocketAddr::new(host, data));
        let silence = GofdOptions::DEFAULT_SILENCE;
        Ok(Some(GofdOptions { listen, data, config, silence }))
    }
}

#[derive(Clone, Debug, Args)]
#[command(after_help = concat!(
    "Examples:\n",
    "  edge-mirror gofd-password < password.txt\n",
    "  edge-mirror gofd-password --factor 9427e80d --decrypt yrsK+2iiwPqecImH7obTUm1vhnvvQzFmYYiOz5oqaoc=\n",
    "\nExit codes: 0 done, 1 failed, 2 wrong arguments.",
))]
pub struct GofdPasswordArgs {
    /// The password; by default the first line of standard input, as other users of
    /// this machine can see arguments.
    #[arg(value_name = "PASSWORD", conflicts_with = "decrypt")]
    pub password: Option<String>,
    /// Print the password of this encrypted text instead, to check it.
    #[arg(long, value_name = "TEXT", requires = "factor")]
    pub decrypt: Option<String>,
    /// The factor with which it was encrypted.
    #[arg(long, value_name = "FACTOR", requires = "decrypt")]
    pub factor: Option<String>,
}
