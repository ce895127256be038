//! Settings of the node as an agent of somebody's GoFD server.

use serde::{Deserialize, Serialize};

use crate::Secret;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GofdAgentConfig {
    /// The node is an agent.
    pub agent: bool,
    /// The address by which the server knows it.
    pub ip: Option<String>,
    pub mgnt_port: u16,
    pub data_port: u16,
    pub username: String,
    /// Encrypted, as in GoFD's own configuration.
    pub password: Option<Secret>,
    pub factor: String,
    pub down_dir: Option<String>,
    /// The server and its agents speak HTTPS to each other.
    pub tls: bool,
}

impl GofdAgentConfig {
    /// True if it is turned on, and something is missing that has no default.
    pub fn is_incomplete(&self) -> bool {
        let has_texts = self.ip.is_some() && !self.factor.is_empty() && self.down_dir.is_some();
        self.agent && !(has_texts && self.password.is_some())
    }
}
