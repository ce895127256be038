//! The listener, and its change to another port: the new one is bound first, then
//! the old one drains.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use edge_mirror_base::tasks::Tasks;
use edge_mirror_http::listen::{BindError, Handlers, Listener};
use edge_mirror_settings::Settings;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::board::StatusBoard;

/// Time in which clients on their way to the old port are still accepted.
const OLD_PORT_STAYS: Duration = Duration::from_millis(500);
/// A port that was taken may become free.
const TRY_AGAIN: Duration = Duration::from_secs(5);

pub(crate) struct ListenerWorker {
    pub settings: Arc<Settings>,
    pub board: Arc<StatusBoard>,
    pub host: IpAddr,
    /// From the command line; overrides the configuration's port.
    pub fixed_port: Option<u16>,
    pub answers: Handlers,
    pub connections: Tasks,
}

impl ListenerWorker {
    /// Ends all listeners when `stop` is cancelled; connections are drained
    /// by the owner of `connections`.
    pub(crate) async fn run(self, first: Listener, stop: CancellationToken) {
        let mut changes = self.settings.subscribe();
        let mut current = self.begin(first, &stop);
        loop {
            let wanted = self.fixed_port.unwrap_or_else(|| self.settings.current().node_port);
            let listening = *self.board.port.borrow();
            let fits = self.fixed_port.is_some() || wanted == listening;
            if fits {
                self.board.port_fault.send_replace(None);
            } else {
                match Listener::bind(SocketAddr::new(self.host, wanted)) {
                    Ok(listener) => {
                        info!("listening on {} instead of port {listening}", listener.address());
                        let new = self.begin(listener, &stop);
                        let old = std::mem::replace(&mut current, new);
                        let stay = stop.clone().run_until_cancelled_owned(sleep(OLD_PORT_STAYS));
                        self.connections.spawn("old port", async move {
                            stay.await;
                            old.cancel();
                        });
                        continue;
                    }
                    Err(error) => self.report_bind_error(&error),
                }
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = sleep(TRY_AGAIN), if !fits => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn begin(&self, listener: Listener, stop: &CancellationToken) -> CancellationToken {
        let stop = stop.child_token();
        self.board.port.send_replace(listener.address().port());
        let serving = listener.serve(self.answers.clone(), self.connections.clone(), stop.clone());
        self.connections.spawn("accept", serving);
        stop
    }

    fn report_bind_error(&self, refused: &BindError) {
        let fault = format!("nodePort can't be used, the old port stays in use: {refused}");
        let before = self.board.port_fault.send_replace(Some(fault.clone()));
        if before.as_ref() != Some(&fault) {
            error!("{fault}");
        }
    }
}
