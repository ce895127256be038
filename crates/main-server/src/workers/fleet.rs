//! Keeps what is saved of nodes up to date. Heartbeats save nothing: who came or went is
//! saved within a second, and when all were last heard once a minute.

use std::{sync::Arc, time::Duration};

use edge_mirror_base::tasks;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::server::Server;

const LOOK_EVERY: Duration = Duration::from_secs(1);
const SAVE_SIGHTINGS_EVERY: Duration = Duration::from_secs(60);

pub(crate) async fn keep_fleet(server: Arc<Server>, stop: CancellationToken) {
    if let Some(until) = server.known().open_until(server.clock.now()) {
        let left = until.saturating_since(server.clock.now()).as_secs();
        info!("after the upgrade, nodes that register within {left} s are accepted");
    }
    let work = async {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sightings_due_at = Instant::now() + SAVE_SIGHTINGS_EVERY;
        loop {
            tick.tick().await;
            server.claims().expire(server.clock.now());
            let following = server.clone();
            tasks::blocking(move || following.follow_meetings()).await;
            let mut outcome = server.save_comings_and_goings().await;
            if outcome.is_ok() && sightings_due_at <= Instant::now() {
                outcome = server.save_sightings().await;
                sightings_due_at = Instant::now() + SAVE_SIGHTINGS_EVERY;
            }
            if let Err(cause) = outcome {
                // The writer says so, and that it can save again; until then the nodes
                // are used all the same.
                debug!("nodes can't be saved: {cause}");
            }
        }
    };
    stop.run_until_cancelled(work).await;
}
