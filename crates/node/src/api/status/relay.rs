//! The status page's figures of what goes from node to node.

use edge_mirror_http::delivery::Traffic;
use edge_mirror_settings::Config;
use serde::Serialize;

use crate::{board::StatusBoard, siblings::SiblingDirectory};

/// Packages from and to other nodes; figures are bytes.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Relay"))]
pub(super) struct RelayView {
    enabled: bool,
    site: String,
    /// `host:port` for other nodes; null while it is not known.
    address: Option<String>,
    /// The main server names the parents.
    planned: bool,
    /// Nodes that pull from this one now.
    children: u64,
    sent_bytes: u64,
    received_bytes: u64,
    /// Nodes found in the main server's list; null if it names the parents.
    siblings: Option<usize>,
    /// The main server gives its nodes no key, and `relay.key` is not set.
    key_missing: bool,
}

impl RelayView {
    pub(super) fn new(
        config: &Config,
        board: &StatusBoard,
        directory: &SiblingDirectory,
        traffic: &Traffic,
    ) -> Self {
        let origin = config.main_server();
        let (has_answered, planned) = {
            let plan = board.relay.borrow();
            let is_current = plan.origin == origin;
            (is_current, is_current && plan.section.is_some())
        };
        let enabled = config.relay.enabled;
        let found = directory.discovered.borrow();
        Self {
            enabled,
            site: config.site.clone(),
            address: directory.own_address(),
            planned,
            children: traffic.under_way(),
            sent_bytes: traffic.served_bytes(),
            received_bytes: board.counts.relayed_bytes.get(),
            siblings: (!planned)
                .then(|| if found.origin == origin { found.by_id.len() } else { 0 }),
            key_missing: enabled && has_answered && !planned && config.relay_key().is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use edge_mirror_protocol::extension::RelaySection;
    use edge_mirror_settings::Settings;
    use edge_mirror_store::Store;

    use super::*;
    use crate::board::MainServerPlan;

    #[test]
    fn a_key_is_missing_only_where_the_main_server_has_answered_and_gives_none() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Arc::new(Settings::load_or_create(&folder.path().join("c.json")).unwrap());
        let (store, _) = Store::open(&folder.path().join("storage")).unwrap();
        let board = Arc::new(StatusBoard::new(store, 1));
        let directory = SiblingDirectory::new(settings.clone(), board.clone());
        let config = Config::clone(&settings.current());
        let view = |config: &Config| {
            RelayView::new(config, &board, &directory, &Arc::<Traffic>::default())
        };
        let missing = |config: &Config| view(config).key_missing;
        assert!(!missing(&config), "nothing is known yet");
        let origin = config.main_server().to_owned();
        let plan = |origin: &str, section| {
            let plan = MainServerPlan { origin: origin.to_owned(), section };
            board.relay.send_replace(Arc::new(plan));
        };
        plan(&origin, None);
        assert!(missing(&config));
        let mut other = config.clone();
        other.relay.enabled = false;
        assert!(!missing(&other), "nothing is relayed");
        plan("http://elsewhere:1", None);
        assert!(!missing(&config), "another one's answer");
        plan(&origin, Some(RelaySection::default()));
        assert!(!missing(&config) && view(&config).planned);
        assert_eq!(view(&config).siblings, None);
    }
}
