//! Saves the figures that outlive a restart once a minute, where they changed. The last
//! ones are the writer's, when it ends.

use std::{sync::Arc, time::Duration};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{server::Server, state::master_state::MasterCommand};

const SAVE_EVERY: Duration = Duration::from_secs(60);

pub(crate) async fn save_figures(server: Arc<Server>, stop: CancellationToken) {
    let work = async {
        let mut tick = tokio::time::interval(SAVE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.tick().await;
        let mut saved = Arc::new(server.figures());
        loop {
            tick.tick().await;
            let figures = Arc::new(server.figures());
            if !figures.is_news_after(&saved) {
                continue;
            }
            match server.change(MasterCommand::SaveFigures(figures.clone())).await {
                Ok(()) => saved = figures,
                // The writer says so.
                Err(cause) => debug!("figures can't be saved: {cause}"),
            }
        }
    };
    stop.run_until_cancelled(work).await;
}
