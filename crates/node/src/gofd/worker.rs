//! Follows the settings: listens as an agent while they say so.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use edge_mirror_base::tasks::Tasks;
use edge_mirror_gofd::DataPort;
use edge_mirror_http::{
    listen::{Connections, Handlers, Listener},
    tls::LiveServerConfig,
};
use edge_mirror_settings::Settings;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    agent::{AgentFault, AgentOptions, GofdAgent},
    api,
};
use crate::board::StatusBoard;

/// A port that is taken is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// Time for what is under way when the settings change.
const WIND_DOWN: Duration = Duration::from_secs(2);
/// Connections to the management port: one server calls now and then.
const MAX_CONNECTIONS: usize = 256;

pub(crate) struct AgentWorker {
    pub(crate) settings: Arc<Settings>,
    pub(crate) board: Arc<StatusBoard>,
    /// Its tasks end with these.
    pub(crate) connections: Tasks,
    /// The node's certificate.
    pub(crate) shown: Arc<LiveServerConfig>,
}

impl AgentWorker {
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut changes = self.settings.subscribe();
        let (mut running, mut told) = (None::<(AgentOptions, Tasks)>, None);
        loop {
            let config = changes.borrow_and_update().clone();
            let wanted = AgentOptions::read(&config);
            let is_same =
                matches!((&running, &wanted), (Some((now, _)), Ok(Some(then))) if now == then);
            let mut fault = None;
            if !is_same {
                if let Some((_, tasks)) = running.take() {
                    tasks.shut_down(WIND_DOWN).await;
                    info!("this node is no agent of GoFD any more, or begins as one anew");
                }
                let begun = match wanted {
                    Ok(Some(options)) => self.begin(options).await.map(Some),
                    Ok(None) => Ok(None),
                    Err(fault) => Err(fault),
                };
                match begun {
                    Ok(begun) => running = begun,
                    Err(error) => fault = Some(error.to_string()),
                }
            }
            if let Some(fault) = fault.as_ref().filter(|_| fault != told) {
                warn!("this node can't be an agent of GoFD: {fault}");
            }
            let has_failed = fault.is_some();
            told = fault;
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(TRY_AGAIN), if has_failed => {}
                () = stop.cancelled() => break,
            }
        }
        if let Some((_, tasks)) = running {
            tasks.shut_down(WIND_DOWN).await;
        }
    }

    async fn begin(&self, options: AgentOptions) -> Result<(AgentOptions, Tasks), AgentFault> {
        let listen = |port, cause| AgentFault::Listen { port, cause };
        let mgnt = Listener::bind(SocketAddr::new(options.ip, options.mgnt_port));
        let mgnt = mgnt.map_err(|error| listen("gofd.mgntPort", error.cause))?;
        let data = DataPort::bind(SocketAddr::new(options.ip, options.data_port)).await;
        let data = data.map_err(|cause| listen("gofd.dataPort", cause))?;
        let tasks = self.connections.child();
        let agent = GofdAgent::new(options.clone(), self.board.clone(), tasks.clone())?;
        let agent = Arc::new(agent);
        info!("this node is an agent of GoFD at {} and {}", mgnt.address(), data.address());
        let shown = if options.tls { self.shown.clone() } else { Arc::default() };
        let connections = Arc::new(Connections::new(MAX_CONNECTIONS, Arc::default()));
        let answers = Handlers { shown, connections, ..api::router(agent.clone()).into() };
        let end = tasks.token().clone();
        tasks.spawn("GoFD agent", mgnt.serve(answers, tasks.clone(), end.clone()));
        tasks.spawn("GoFD agent's data port", data.serve(agent, tasks.clone(), end));
        Ok((options, tasks))
    }
}
