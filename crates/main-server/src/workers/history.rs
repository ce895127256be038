//! Keeps the history: a period each minute, and the hours that are made of them.

use std::{sync::Arc, time::Duration};

use edge_mirror_base::clock::UnixMillis;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    refusal::RequestError,
    server::Server,
    state::{
        fleet::NodePresence,
        history::{HistoryChange, HistoryPeriod, HistoryStep, PeriodFigures, hours_of},
        master_state::MasterCommand,
    },
};

pub(crate) async fn keep_history(server: Arc<Server>, stop: CancellationToken) {
    let work = async {
        let mut before = server.period_figures();
        loop {
            let begun = HistoryStep::Minute.start_of(server.clock.now());
            let next = begun + HistoryStep::Minute.length();
            // A little later: the clock may have been set back.
            let left = next.saturating_since(server.clock.now()) + Duration::from_millis(10);
            tokio::time::sleep(left).await;
            let now = server.period_figures();
            let minute = HistoryPeriod { at: begun, figures: now.since(before) };
            before = now;
            if let Err(cause) = save(&server, minute).await {
                // The writer says so, and that it can save again.
                debug!("a minute of the history can't be saved: {cause}");
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Saves a minute, and the hour that it is in.
async fn save(server: &Server, minute: HistoryPeriod) -> Result<(), RequestError> {
    keep(server, HistoryStep::Minute, vec![minute]).await?;
    let from = HistoryStep::Hour.start_of(minute.at);
    let minutes = server.records.own_history(HistoryStep::Minute, from).await;
    let minutes = minutes.map_err(|error| RequestError::from(&error))?;
    keep(server, HistoryStep::Hour, hours_of(&minutes)).await
}

async fn keep(
    server: &Server,
    step: HistoryStep,
    periods: Vec<HistoryPeriod>,
) -> Result<(), RequestError> {
    let now = server.clock.now();
    let kept_s = now.as_secs().saturating_sub(step.kept_for().as_secs());
    let kept_from = step.start_of(UnixMillis::from_secs(kept_s));
    let change = HistoryChange { step, periods, kept_from };
    server.change(MasterCommand::SaveHistory(change)).await
}

impl Server {
    /// The counters as they are, and what is there now.
    fn period_figures(&self) -> PeriodFigures {
        let (now, known) = (self.clock.now(), self.known());
        let running = self.book().running().count();
        let registry = self.registry();
        let presences = registry.presences(&known, self.started_at, now);
        let silent = presences.filter(|(node, presence)| {
            !node.profile.drained && matches!(presence, NodePresence::Silent(_))
        });
        let silent_nodes = silent.count();
        let nodes = registry.live(now).count();
        drop(registry);
        let log = self.download_log();
        PeriodFigures {
            redirects: log.redirects(),
            own_downloads: log.own_downloads(),
            refused_downloads: log.refused_downloads(),
            bytes_served: self.traffic.served_bytes(),
            nodes: nodes as u64,
            silent_nodes: silent_nodes as u64,
            running_meetings: running as u64,
        }
    }
}
