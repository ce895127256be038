//! Finds the node or configuration for a command.

use std::path::{Path, PathBuf};

use anyhow::Result;
use edge_mirror_http::tls::{TrustPolicy, certificates};
use edge_mirror_settings::{Config, Settings};

use super::client;
use crate::cli::{AuthorityArgs, MasterTargetArgs, NodeTargetArgs, ServerUrl};

/// The configuration of an installed node.
const INSTALLED: &str = "/etc/edge-mirror/node_config.json";
const HERE: &str = "node_config.json";
const DEFAULT_PORT: u16 = 8001;

/// Returns the configuration of this machine's node.
pub(super) fn config_file(given: Option<&Path>) -> PathBuf {
    let here = Path::new(HERE);
    match given {
        Some(given) => given.to_owned(),
        None if here.exists() || !Path::new(INSTALLED).exists() => here.to_owned(),
        None => INSTALLED.into(),
    }
}

/// Returns the named node, or this machine's, and its trust.
pub(super) fn node(at: &NodeTargetArgs) -> Result<(ServerUrl, TrustPolicy)> {
    if let Some(node) = &at.node {
        return Ok((node.clone(), at.authority.trust()));
    }
    match (Settings::read(&config_file(at.config.as_deref())), &at.config) {
        (Ok(config), _) => Ok(local(&config, &at.authority)),
        (Err(error), Some(_)) => Err(error.into()),
        // It may not be readable for everybody.
        (Err(_), None) => Ok((ServerUrl::local(DEFAULT_PORT, false), at.authority.trust())),
    }
}

/// Returns the main server, and its trust. One on this machine that speaks HTTPS is found by
/// its plain address, too, and is trusted as plain HTTP would: whoever has its port.
pub(super) async fn main_server(at: &MasterTargetArgs) -> (ServerUrl, TrustPolicy) {
    let MasterTargetArgs { master: named, authority } = at;
    let port = match named.is_local_http() {
        true => client::https_port(named).await,
        false => None,
    };
    let Some(port) = port else { return (named.clone(), authority.trust()) };
    let trust = match authority.cacert {
        Some(_) => authority.trust(),
        None => TrustPolicy::Anybody,
    };
    (named.over_https(port), trust)
}

/// Returns this configuration's node. Its certificate is for the name that others use;
/// here it is trusted by being the same.
pub(super) fn local(config: &Config, authority: &AuthorityArgs) -> (ServerUrl, TrustPolicy) {
    let server = ServerUrl::local(config.node_port, config.tls_files().is_some());
    let own = config.tls_files().filter(|_| authority.cacert.is_none());
    let own = own.and_then(|(cert, _)| certificates("tls.cert", &cert).ok());
    (server, own.map_or_else(|| authority.trust(), TrustPolicy::Own))
}
