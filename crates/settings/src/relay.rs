//! Settings of what nodes pass on to each other.

use edge_mirror_protocol::relay::RelayKey;
use serde::{Deserialize, Serialize};

use super::{BandwidthSchedule, Config, Secret, authority, setting::parse_address};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayConfig {
    pub enabled: bool,
    /// Other nodes that pull from this one at a time.
    pub max_children: u32,
    /// Bytes per second to other nodes; 0: no limit.
    pub upload_limit: u64,
    pub key: Option<Secret>,
    /// A host, with a port or without.
    pub address: Option<String>,
    /// Limits of what other nodes pull before a meeting is started.
    pub schedule: BandwidthSchedule,
}

impl Config {
    /// The key that the nodes of a fleet share, where operators set one.
    pub fn relay_key(&self) -> Option<RelayKey> {
        self.relay.key.as_ref()?.reveal().parse().ok()
    }

    /// `host:port` at which operators say that other nodes reach this one; none if it is
    /// to be detected.
    pub fn relay_address(&self) -> Option<String> {
        let (host, port) = parse_address(self.relay.address.as_deref()?)?;
        Some(authority(host, port.unwrap_or(self.node_port)))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use crate::{Config, check::parse_config};

    fn relay(relay: Value) -> Option<Config> {
        let document = json!({"nodeId": "n", "nodePort": 8005, "relay": relay});
        parse_config(document.as_object().unwrap(), Path::new("/")).ok()
    }

    #[test]
    fn an_address_without_a_port_has_the_nodes() {
        let address = |text: &str| relay(json!({"address": text})).map(|c| c.relay_address());
        for (written, read) in [
            ("10.0.0.5", "10.0.0.5:8005"),
            ("10.0.0.5:81", "10.0.0.5:81"),
            ("node-5.lan:8001", "node-5.lan:8001"),
            ("fd00::5", "[fd00::5]:8005"),
            ("[fd00::5]", "[fd00::5]:8005"),
            ("[fd00::5]:81", "[fd00::5]:81"),
        ] {
            assert_eq!(address(written), Some(Some(read.to_owned())), "{written}");
        }
        for wrong in [
            "http://10.0.0.5",
            "10.0.0.5:",
            "10.0.0.5:0",
            "10.0.0.5:65536",
            "10.0.0.5:x",
            ":81",
            "10.0.0:81",
            "[10.0.0.5]:81",
            "[fd00::5]81",
            "[fd00::5",
            "a b",
            "a/b",
            "a:81:82",
        ] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
        assert_eq!(address(""), Some(None));
    }

    #[test]
    fn every_key_that_is_accepted_is_a_key_of_the_protocol() {
        for (length, good) in [(15, false), (16, true), (256, true), (257, false)] {
            let config = relay(json!({"key": "k".repeat(length)}));
            assert_eq!(config.is_some(), good, "{length}");
            assert_eq!(config.and_then(|config| config.relay_key()).is_some(), good, "{length}");
        }
        assert!(relay(json!({"key": "sixteen letters!"})).is_none(), "it has a space");
        assert_eq!(relay(json!({})).unwrap().relay_key(), None);
    }
}
