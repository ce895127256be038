//! Which node or configuration a command is about.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::{
    cli::{At, Server},
    config::Settings,
};

/// Where an installed node has its configuration.
const INSTALLED: &str = "/etc/edge-mirror/node_config.json";
const HERE: &str = "node_config.json";
const DEFAULT_PORT: u16 = 8001;

/// The configuration of the node on this machine.
pub(super) fn config_file(given: Option<&Path>) -> PathBuf {
    let here = Path::new(HERE);
    match given {
        Some(given) => given.to_owned(),
        None if here.exists() || !Path::new(INSTALLED).exists() => here.to_owned(),
        None => INSTALLED.into(),
    }
}

/// The node that is named, or that of this machine.
pub(super) fn node(at: &At) -> Result<Server> {
    if let Some(node) = &at.node {
        return Ok(node.clone());
    }
    match (Settings::read(&config_file(at.config.as_deref())), &at.config) {
        (Ok(config), _) => Ok(Server::local(config.node_port)),
        (Err(error), Some(_)) => Err(error.into()),
        // It may not be for everybody to read.
        (Err(_), None) => Ok(Server::local(DEFAULT_PORT)),
    }
}
