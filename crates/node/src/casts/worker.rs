//! Asks the main server for casts, in a request that it holds back while there are none.

use std::{sync::Arc, time::Duration};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::casts::{CastReadReport, MAX_READ_TOPICS};
use edge_mirror_settings::{Config, Settings};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::CastHistory;
use crate::{board::StatusBoard, upstream::Connector};

/// Longest wait for a cast: shorter than what proxies allow.
const WAIT: Duration = Duration::from_secs(25);
/// Pause after an error, or where the main server has no room for another request that
/// waits.
const PAUSE: Duration = Duration::from_secs(5);
/// Pause where a main server that said that it has casts has not.
const MISSING_PAUSE: Duration = Duration::from_secs(60);

/// Runs until `end`.
pub(crate) async fn run(
    settings: Arc<Settings>,
    board: Arc<StatusBoard>,
    connector: Arc<Connector>,
    history: Arc<CastHistory>,
    end: CancellationToken,
) {
    let (mut changes, mut running) = (settings.subscribe(), board.running.subscribe());
    let (mut presence, mut in_use) = (board.presence.subscribe(), connector.in_use());
    let mut worker = CastWorker { connector, history, live: String::new() };
    loop {
        let config = changes.borrow_and_update().clone();
        // Our main server says with each heartbeat that it has casts; others never do.
        let is_offered = presence.borrow().notice.casts;
        let is_running = *running.borrow_and_update();
        in_use.borrow_and_update();
        let asking = async {
            if is_offered && is_running && config.casts.enabled {
                let pause = worker.ask(&config).await;
                tokio::time::sleep(pause).await;
            } else {
                // What is kept may change, and `enabled` stays.
                let _ = presence.wait_for(|now| now.notice.casts != is_offered).await;
            }
        };
        tokio::select! {
            () = asking => {}
            _ = changes.changed() => {}
            _ = running.changed() => {}
            _ = in_use.changed() => {}
            () = end.cancelled() => return,
        }
    }
}

/// Tells the main server what consumers have read, until `end`.
pub(crate) async fn report_reads(
    settings: Arc<Settings>,
    connector: Arc<Connector>,
    history: Arc<CastHistory>,
    end: CancellationToken,
) {
    let mut marks = history.unreported();
    loop {
        let next: Vec<_> = {
            let marks = marks.borrow_and_update();
            let next = marks.iter().take(MAX_READ_TOPICS);
            next.map(|(topic, mark)| (topic.clone(), mark.clone())).collect()
        };
        let telling = async {
            if next.is_empty() {
                // The sender is as long-lived as this.
                let _ = marks.changed().await;
                return;
            }
            let config = settings.current();
            let limit = Duration::from_secs(config.network.connection_timeout);
            let read = next.iter().map(|(topic, mark)| (topic.clone(), mark.id.clone()));
            let report = CastReadReport { read: read.collect() };
            let upstream = connector.upstream(&config);
            match upstream.report_read_casts(&config.node_id, &report, limit).await {
                Ok(()) => history.note_reported(&next),
                Err(error) => {
                    debug!("what was read of casts is not told yet: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        tokio::select! {
            () = telling => {}
            () = end.cancelled() => return,
        }
    }
}

struct CastWorker {
    connector: Arc<Connector>,
    history: Arc<CastHistory>,
    /// The place among live casts, as the last answer named it.
    live: String,
}

impl CastWorker {
    /// Asks once, keeps the answer, and returns the pause before the next request.
    async fn ask(&mut self, config: &Config) -> Duration {
        let upstream = self.connector.upstream(config);
        let limit = Duration::from_secs(config.network.connection_timeout);
        let place = self.history.place();
        let asked = (&*place.stream, place.after);
        let asked = upstream.casts(&config.node_id, asked, &self.live, limit, WAIT);
        let (answer, waits) = match asked.await {
            Ok(answer) => answer,
            Err(error) if error.is_not_found() => return MISSING_PAUSE,
            // Whether the main server is there at all is for polls and heartbeats to find out:
            // all else may work, and another one has the same database.
            Err(error) => {
                debug!("casts can't be asked for: {error}");
                return PAUSE;
            }
        };
        let mut answer = answer;
        let live = std::mem::take(&mut answer.live_casts);
        let has_live = !live.is_empty();
        self.live = std::mem::take(&mut answer.live);
        self.history.pass_on(live);
        let (count, is_news) = (answer.casts.len(), answer.after != place.after);
        if count > 0 {
            info!("{count} casts from the main server");
        }
        if is_news || answer.stream != place.stream {
            let kept = self.history.add(answer, config.casts.clone(), UnixMillis::now());
            if let Err(error) = kept.await {
                warn!("casts can't be kept, and are asked for again: {error}");
                return PAUSE;
            }
        }
        if waits || count > 0 || has_live { Duration::ZERO } else { PAUSE }
    }
}
