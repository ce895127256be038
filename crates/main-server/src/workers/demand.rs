//! Follows the number of nodes that the load wants, and tells a webhook of each change.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use edge_mirror_base::backoff::backoff;
use edge_mirror_http::tls;
use reqwest::Url;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    server::{FleetDemand, Server},
    state::demand::{DemandTracker, FleetLoad},
};

const TICK: Duration = Duration::from_secs(1);
/// Redirects are counted over so many ticks.
const MINUTE: usize = 60;
/// Time limit of one request to the webhook.
const TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

pub(crate) async fn follow_demand(server: Arc<Server>, stop: CancellationToken) {
    let work = async {
        let limits = server.options.live.peek().demand;
        let mut tracker = DemandTracker::new(limits, server.clock.now());
        let mut redirects = VecDeque::with_capacity(MINUTE);
        let mut tick = tokio::time::interval(TICK);
        loop {
            tick.tick().await;
            let limits = server.options.live.peek().demand;
            tracker.set_limits(limits);
            let (load, drained) = fleet_load(&server);
            let total = server.download_log().redirects();
            let minute_ago = redirects.front().copied().unwrap_or(total);
            redirects.push_back(total);
            if redirects.len() > MINUTE {
                redirects.pop_front();
            }
            let (wanted, needed) = tracker.update(&load, server.clock.now());
            let demand = FleetDemand {
                wanted,
                needed,
                present: load.nodes,
                drained,
                downloads: load.downloads,
                work_percent: load.work_percent,
                redirects_per_minute: total.saturating_sub(minute_ago),
                limits,
            };
            note(&server, demand);
        }
    };
    stop.run_until_cancelled(work).await;
}

fn note(server: &Server, demand: FleetDemand) {
    server.demand.send_if_modified(|known| {
        if known.wanted != demand.wanted {
            info!("the load wants {} nodes; {} are there", demand.wanted, demand.present);
        }
        let changed = *known != demand;
        *known = demand;
        changed
    });
}

/// The load of the nodes that take clients, and the number of drained ones.
fn fleet_load(server: &Server) -> (FleetLoad, u32) {
    let own = server.traffic.under_way();
    let (now, registry) = (server.clock.now(), server.registry());
    let mut load = FleetLoad { downloads: own, ..FleetLoad::default() };
    let mut live = 0;
    for (_, node) in registry.live(now) {
        live += u32::from(node.is_drained());
        if let Some(part) = node.work() {
            load.nodes += 1;
            load.downloads = load.downloads.saturating_add(part.downloads);
            load.work_percent += u64::from(part.percent);
        }
    }
    (load, live)
}

/// Posts each new number; while that fails, the newest one is tried again.
pub(crate) async fn tell_webhook(server: Arc<Server>, url: Url, stop: CancellationToken) {
    let client = tls::http(tls::client())
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client that is given its TLS has nothing to load that could fail");
    let work = async {
        let mut demand = server.demand.subscribe();
        let (mut told, mut failures) = (None, 0);
        // The sender is the server's, which is alive. Nothing was measured before the first.
        while demand.changed().await.is_ok() {
            loop {
                let now = *demand.borrow_and_update();
                if told == Some(now.wanted) {
                    break;
                }
                let body = json!({"wanted": now.wanted, "before": told, "demand": now});
                let sent = client.post(url.clone()).json(&body).send().await;
                match sent.and_then(reqwest::Response::error_for_status) {
                    Ok(_) => (told, failures) = (Some(now.wanted), 0),
                    Err(error) => {
                        failures += 1;
                        // Without the URL, which may have a secret in it.
                        let error = error.without_url();
                        match failures {
                            1 => warn!("the demand webhook was not told: {error}"),
                            _ => debug!("the demand webhook was not told: {error}"),
                        }
                        let pause = backoff(failures, FIRST_PAUSE, LONGEST_PAUSE, fastrand::f64());
                        tokio::time::sleep(pause).await;
                    }
                }
            }
        }
    };
    stop.run_until_cancelled(work).await;
}
