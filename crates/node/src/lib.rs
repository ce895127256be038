//! A node: wiring of its workers; their work is documented there.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::unwrap_used,
        reason = "tests make the mess that the code has to live with"
    )
)]

pub mod address;
/// The node's HTTP interface.
pub mod api;
/// The workers' last reports, for the status page, and the on/off switch.
pub mod board;
/// Messages from operators at the main server.
pub mod casts;
/// Files that operators send from the main server.
mod dispatch;
/// One package onto disk: single flight, retries, resume, verification, commit.
pub mod fetch;
/// The node as an agent of a GoFD server.
mod gofd;
mod limits;
mod listeners;
/// CPU, memory and disk of the machine.
pub mod machine;
mod presence;
mod remote_tasks;
/// The other nodes of the fleet.
pub mod siblings;
mod sync;
mod upkeep;
/// Client of a main server.
pub mod upstream;

/// For `benches/flat.rs`, which sees only what is public, and nobody else.
#[doc(hidden)]
pub mod bench {
    pub use super::sync::{main_server_view::MainServerView, plan::plan};
}

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

use edge_mirror_base::{
    liveness::Liveness,
    log::Journal,
    tasks::{self, Tasks},
};
use edge_mirror_http::{
    access::{AccessControl, Vault},
    delivery::Traffic,
    listen::{BindError, Handlers, Listener},
    tls::{FileError, LiveServerConfig},
    wire::feed,
};
use edge_mirror_protocol::object::ObjectKey;
use edge_mirror_settings::{Settings, watch};
use edge_mirror_store::{Store, StoreError};
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    api::{AppState, ListenOptions, RelayTraffic},
    board::StatusBoard,
    casts::{CastHistory, CastSender},
    fetch::Fetch,
    machine::MachineSampler,
    siblings::discovery,
    upstream::Connector,
};

/// Interval of reading CPU, memory and disk.
const GAUGE_EVERY: Duration = Duration::from_secs(5);
/// Unregistering must not use up the grace time of the downloads.
const GOODBYE: Duration = Duration::from_secs(5);
/// Workers end within this time once they are cancelled.
const WIND_DOWN: Duration = Duration::from_secs(5);

#[derive(Debug, Error)]
pub enum NodeError {
    #[error("the storage folder can't be used: {0}; see storage.path in the configuration")]
    Storage(StoreError),
    #[error("{0}; see nodePort in the configuration, or --port")]
    Listen(BindError),
    #[error("{0}; see tls.redirectPort in the configuration")]
    Redirect(BindError),
    #[error(transparent)]
    Certificate(FileError),
}

/// Options of a node besides its configuration.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    pub host: IpAddr,
    /// Replaces `nodePort` for this run; 0 takes a free one.
    pub port: Option<u16>,
    /// The panel's log lines.
    pub journal: Journal,
}

/// A running node.
pub struct Node {
    settings: Arc<Settings>,
    board: Arc<StatusBoard>,
    all: Tasks,
    presence: Tasks,
    workers: Tasks,
    runs: Tasks,
    pulls: Tasks,
    serving: Tasks,
    connections: Tasks,
    host: IpAddr,
    traffic: Arc<Traffic>,
    /// Ends the panel's event streams.
    closing: CancellationToken,
    first_code: Option<String>,
    liveness: Liveness,
}

impl Node {
    /// Serving when it returns; everything else runs in the background.
    pub async fn start(settings: Arc<Settings>, options: NodeOptions) -> Result<Self, NodeError> {
        let config = settings.current();
        // First what may fail without a log line: an operator then reads one line
        // that says why it did not start.
        let port = options.port.unwrap_or(config.node_port);
        let listener = Listener::bind(SocketAddr::new(options.host, port));
        let listener = listener.map_err(NodeError::Listen)?;
        let https_redirect = config.redirect_port().map(|port| SocketAddr::new(options.host, port));
        let https_redirect =
            https_redirect.map(Listener::bind).transpose().map_err(NodeError::Redirect)?;
        let opened = upkeep::storage::open(config.storage_path()).await;
        let (store, found) = opened.map_err(NodeError::Storage)?;
        settings.log_warnings();
        let (vault, first_code) = opened_vault(&settings).await;
        let address = listener.address();
        info!(
            "node {} is listening on {address}, main server {}",
            config.node_id,
            config.main_server()
        );
        let folder = casts_folder(&settings);
        let casts = Arc::new(tasks::blocking(move || CastHistory::open(folder)).await);
        let journal = options.journal.clone();
        let node = Self::new(settings, store, address.port(), &options, first_code);
        let (connector, server_config) =
            (Arc::<Connector>::default(), Arc::<LiveServerConfig>::default());
        let certificates = listeners::certificates::CertificateWorker::begin(
            node.settings.clone(),
            node.board.clone(),
            server_config.clone(),
            connector.clone(),
        );
        let certificates = certificates.await.map_err(NodeError::Certificate)?;
        // Before the first request; changes are followed by a worker.
        node.traffic.apply(&config.serve);
        node.board.connections.apply(config.serve.max_connections_per_client);
        let state =
            AppState { casts, ..node.app_state(&connector, vault.clone(), options.port, journal) };
        node.spawn_followers(&state, vault);
        let agent = gofd::AgentWorker {
            settings: node.settings.clone(),
            board: node.board.clone(),
            connections: node.connections.clone(),
            shown: server_config.clone(),
        };
        let end = node.workers.token().clone();
        node.workers.spawn("GoFD agent", agent.run(end));
        node.spawn_listeners(&state, server_config, listener, https_redirect);
        node.spawn_until_end("certificates", certificates.run());
        let found_siblings = discovery::run(state.fetch.siblings().clone(), connector.clone());
        node.spawn_until_end("sibling discovery", found_siblings);
        let recheck = upstream::recheck::run(node.settings.clone(), connector.clone());
        node.spawn_until_end("main server check", recheck);
        node.spawn_workers(connector, &state, found.unverified);
        Ok(node)
    }

    fn new(
        settings: Arc<Settings>,
        store: Store,
        port: u16,
        options: &NodeOptions,
        first_code: Option<String>,
    ) -> Self {
        let all = Tasks::new();
        Self {
            settings,
            board: Arc::new(StatusBoard::new(store, port)),
            presence: all.child(),
            workers: all.child(),
            runs: all.child(),
            pulls: all.child(),
            serving: all.child(),
            connections: all.child(),
            host: options.host,
            traffic: Arc::default(),
            closing: CancellationToken::new(),
            first_code,
            liveness: Liveness::default(),
            all,
        }
    }

    fn app_state(
        &self,
        connector: &Arc<Connector>,
        vault: Vault,
        fixed_port: Option<u16>,
        journal: Journal,
    ) -> AppState {
        let (settings, board) = (self.settings.clone(), self.board.clone());
        let security = {
            let settings = settings.clone();
            move || settings.current().security.clone()
        };
        AppState {
            fetch: Fetch::new(
                settings.clone(),
                board.clone(),
                connector.clone(),
                self.pulls.clone(),
            ),
            relay_traffic: RelayTraffic::default(),
            cast_sender: Arc::new(CastSender::new(settings.clone(), connector.clone())),
            settings,
            board,
            traffic: self.traffic.clone(),
            listening: ListenOptions { host: self.host, fixed_port },
            access: AccessControl::new("node", vault, security),
            feed: Arc::default(),
            journal,
            closing: self.closing.clone(),
            casts: Arc::default(),
        }
    }

    /// Starts what follows the state of the node for pages, limits and metrics.
    fn spawn_followers(&self, state: &AppState, vault: Vault) {
        let (board, traffic, fetch) =
            (self.board.clone(), self.traffic.clone(), state.fetch.clone());
        self.spawn_until_end("events", api::follow(state.clone()));
        let end = self.workers.token().clone();
        self.workers.spawn("refusals", state.access.clone().log_refusal_summaries(end));
        let connections = board.connections.clone();
        let limits = limits::run(
            self.settings.clone(),
            traffic.clone(),
            state.relay_traffic.clone(),
            fetch.clone(),
            connections,
        );
        self.spawn_until_end("limits", limits);
        self.spawn_until_end("traffic history", record(board.clone(), traffic, fetch));
        let probed = board.clone();
        self.spawn_until_end("health", async move { probed.health.run(|| probed.store()).await });
        self.spawn_until_end("gauge", gauge(board, vault));
        self.spawn_until_end("config watch", watch::run(self.settings.clone()));
    }

    fn spawn_listeners(
        &self,
        state: &AppState,
        server_config: Arc<LiveServerConfig>,
        listener: Listener,
        https_redirect: Option<Listener>,
    ) {
        let worker = listeners::serving::ListenerWorker {
            settings: self.settings.clone(),
            board: self.board.clone(),
            host: self.host,
            fixed_port: state.listening.fixed_port,
            answers: Handlers {
                liveness: self.liveness.clone(),
                shown: server_config,
                connections: self.board.connections.clone(),
                ..state.clone().answers()
            },
            connections: self.connections.clone(),
        };
        let end = self.serving.token();
        self.serving.spawn("serving", worker.run(listener, end.clone()));
        let worker = listeners::https_redirect::RedirectWorker {
            settings: self.settings.clone(),
            board: self.board.clone(),
            host: self.host,
            connections: self.connections.clone(),
        };
        self.serving.spawn("HTTPS redirect", worker.run(https_redirect, end.clone()));
    }

    /// Starts what talks to the main server and keeps the storage in order.
    fn spawn_workers(
        &self,
        connector: Arc<Connector>,
        state: &AppState,
        unverified: Vec<ObjectKey>,
    ) {
        let (settings, board, fetch, end) =
            (self.settings.clone(), self.board.clone(), state.fetch.clone(), self.workers.token());
        let worker = presence::PresenceWorker {
            settings: settings.clone(),
            board: board.clone(),
            connector: connector.clone(),
            traffic: self.traffic.clone(),
            fetch: fetch.clone(),
            host: self.host,
            was_truncated: AtomicBool::default(),
            load: Mutex::default(),
        };
        self.presence.spawn("presence", worker.run(self.presence.token().clone()));
        let (asking, history) = (settings.clone(), state.casts.clone());
        let reports =
            casts::report_reads(settings.clone(), connector.clone(), history.clone(), end.clone());
        self.workers.spawn("read casts", reports);
        let worker = casts::run(asking, board.clone(), connector.clone(), history, end.clone());
        self.workers.spawn("casts", worker);
        let worker = dispatch::DispatchWorker {
            settings: settings.clone(),
            board: board.clone(),
            connector: connector.clone(),
            fetch: fetch.clone(),
        };
        self.workers.spawn("dispatch", dispatch::run(worker, end.clone()));
        let worker = remote_tasks::RemoteTaskWorker {
            state: state.clone(),
            connector: connector.clone(),
            tasks: self.runs.clone(),
            folder: self.settings.path().with_extension("tasks"),
        };
        self.workers.spawn("remote tasks", remote_tasks::run(worker, end.clone()));
        let worker =
            sync::SyncWorker::new(settings.clone(), board.clone(), connector, fetch.clone());
        self.workers.spawn("sync", worker.run(end.clone()));
        let worker =
            upkeep::cleaning::CleanupWorker { settings: settings.clone(), board: board.clone() };
        self.workers.spawn("cleaning", worker.run(end.clone()));
        let worker = upkeep::storage::StorageWorker { settings, board: board.clone(), fetch };
        self.workers.spawn("storage", worker.run(unverified, end.clone()));
        self.spawn_until_end("scrub", upkeep::scrub::run(board));
    }

    fn spawn_until_end(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let end = self.workers.token().clone();
        self.workers.spawn(name, async move {
            end.run_until_cancelled(work).await;
        });
    }

    /// The current listening address.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, *self.board.port.borrow())
    }

    /// A code that logs in once, if nobody could have logged in before this start.
    pub fn first_code(&self) -> Option<&str> {
        self.first_code.as_deref()
    }

    /// Liveness of the loop that accepts connections.
    pub fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    /// The panel's URL, for a browser on another machine.
    pub async fn panel(&self) -> String {
        let config = self.settings.current();
        address::panel(&config, self.host, *self.board.port.borrow()).await
    }

    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// Resolves with a description when a worker has failed.
    pub async fn failed(&self) -> String {
        self.all.wait_for_failure().await
    }

    /// Unregisters, so that the main server sends no more clients; stops accepting;
    /// lets downloads finish within `shutdownGrace`; ends the workers. Returns
    /// false if downloads had to be cut off.
    pub async fn shut_down(self) -> bool {
        let grace = Duration::from_secs(self.settings.current().shutdown_grace);
        let deadline = Instant::now() + grace;
        // If this is dropped, they end nevertheless: each stays on a thread, which
        // the runtime can't take away.
        let _pulls = self.pulls.token().clone().drop_guard();
        match self.traffic.under_way() {
            0 => info!("stopping"),
            left => info!("stopping: up to {} s for {left} downloads under way", grace.as_secs()),
        }
        // No longer ready, before anything else ends.
        self.closing.cancel();
        self.workers.token().cancel();
        self.presence.shut_down(GOODBYE).await;
        self.serving.shut_down(WIND_DOWN).await;
        let left = deadline.saturating_duration_since(Instant::now());
        let drained = self.connections.drain(left).await;
        if !drained {
            warn!("downloads still under way after {} s are cut off", grace.as_secs());
        }
        self.connections.shut_down(WIND_DOWN).await;
        self.pulls.shut_down(WIND_DOWN).await;
        self.workers.shut_down(WIND_DOWN).await;
        info!("node stopped");
        drained
    }
}

/// The folder of casts, beside the configuration.
fn casts_folder(settings: &Settings) -> PathBuf {
    settings.path().with_extension("casts")
}

async fn opened_vault(settings: &Settings) -> (Vault, Option<String>) {
    let path = Vault::path_beside(settings.path());
    tasks::blocking(move || Vault::open(path)).await
}

async fn record(board: Arc<StatusBoard>, traffic: Arc<Traffic>, fetch: Fetch) {
    let read = || [traffic.served_bytes(), fetch.pulled_bytes(), traffic.under_way()];
    feed::record(&board.history, read).await;
}

async fn gauge(board: Arc<StatusBoard>, vault: Vault) {
    let mut sampler = MachineSampler::default();
    loop {
        let (store, looked_at) = (board.store(), vault.clone());
        let (machine, login_fault, back) = tasks::blocking(move || {
            store.close_idle();
            let machine = sampler.read(store.root());
            (machine, looked_at.fault(), sampler)
        })
        .await;
        sampler = back;
        board.login_fault.send_replace(login_fault);
        board.machine.send_replace(machine);
        tokio::time::sleep(GAUGE_EVERY).await;
    }
}
