//! Asks main servers that did not answer whether they are back, so that nobody is warned of
//! them any longer. It changes nothing of which one is in use.

use std::{sync::Arc, time::Duration};

use edge_mirror_settings::Settings;

use super::{Connector, Upstream};

const INTERVAL: Duration = Duration::from_secs(10);

/// Runs until it is dropped.
pub(crate) async fn run(settings: Arc<Settings>, connector: Arc<Connector>) {
    let mut in_use = connector.in_use();
    loop {
        // The sender is the connector's, which is alive.
        let _ = in_use.wait_for(|in_use| !in_use.failing.is_empty()).await;
        tokio::time::sleep(INTERVAL).await;
        let (config, now) = (settings.current(), in_use.borrow_and_update().clone());
        let limit = Duration::from_secs(config.network.connection_timeout);
        for failing in now.failing {
            let upstream = connector.upstream(&config);
            if failing.base_url == now.base_url || !config.fleet().contains(&failing.base_url) {
                continue;
            }
            let upstream = Upstream { base_url: failing.base_url, ..upstream };
            if upstream.is_there(limit).await {
                connector.note_return(&upstream);
            }
        }
    }
}
