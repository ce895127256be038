//! Applies changed limits while downloads and pulls go on.

use std::sync::Arc;

use edge_mirror_http::{delivery::Traffic, listen::Connections};
use edge_mirror_settings::Settings;

use crate::{api::RelayTraffic, fetch::Fetch};

/// Runs until dropped.
pub(super) async fn run(
    settings: Arc<Settings>,
    traffic: Arc<Traffic>,
    relay_traffic: RelayTraffic,
    fetch: Fetch,
    connections: Arc<Connections>,
) {
    let mut changes = settings.subscribe();
    loop {
        let config = changes.borrow_and_update().clone();
        traffic.apply(&config.serve);
        relay_traffic.apply(&config.relay);
        fetch.apply(&config);
        connections.apply(config.serve.max_connections_per_client);
        if changes.changed().await.is_err() {
            return;
        }
    }
}
