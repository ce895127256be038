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
mod certificates;
mod check;
mod cleaning;
/// One package onto disk: single flight, retries, resume, verification, commit.
pub mod fetch;
mod main_server_view;
mod limits;
/// CPU, memory and disk of the machine.
pub mod machine;
mod meeting;
mod https_redirect;
mod plan;
mod poll;
mod presence;
mod scrub;
mod serving;
mod storage;
mod sync;
/// Client of a main server.
pub mod upstream;

/// For `benches/flat.rs`, which sees only what is public, and nobody else.
#[doc(hidden)]
pub mod bench {
    pub use super::{main_server_view::MainServerView, plan::plan};
}

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::AtomicBool},
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
use edge_mirror_settings::{Settings, watch};
use edge_mirror_store::StoreError;
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    api::{AppState, ListenOptions},
    board::StatusBoard,
    fetch::Fetch,
    machine::MachineSampler,
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
        let opened = storage::open(config.storage_path()).await;
        let (store, found) = opened.map_err(NodeError::Storage)?;
        settings.log_warnings();
        let (vault, first_code) = opened_vault(&settings).await;
        let address = listener.address();
        info!(
            "node {} is listening on {address}, main server {}",
            config.node_id,
            config.main_server()
        );
        let all = Tasks::new();
        let node = Self {
            settings: settings.clone(),
            board: Arc::new(StatusBoard::new(store, address.port())),
            presence: all.child(),
            workers: all.child(),
            pulls: all.child(),
            serving: all.child(),
            connections: all.child(),
            host: options.host,
            traffic: Arc::default(),
            closing: CancellationToken::new(),
            first_code,
            liveness: Liveness::default(),
            all,
        };
        let (board, connector) = (node.board.clone(), Arc::<Connector>::default());
        let shown = Arc::<LiveServerConfig>::default();
        let certificates = certificates::CertificateWorker::begin(
            settings.clone(),
            board.clone(),
            shown.clone(),
            connector.clone(),
        );
        let certificates = certificates.await.map_err(NodeError::Certificate)?;
        let traffic = node.traffic.clone();
        let fetch =
            Fetch::new(settings.clone(), board.clone(), connector.clone(), node.pulls.clone());
        // Before the first request; changes are followed below.
        traffic.apply(&config.serve);
        board.connections.apply(config.serve.max_connections_per_client);
        let face = AppState {
            settings: settings.clone(),
            board: board.clone(),
            fetch: fetch.clone(),
            traffic: traffic.clone(),
            listening: ListenOptions { host: options.host, fixed_port: options.port },
            access: {
                let settings = settings.clone();
                AccessControl::new("node", vault.clone(), move || {
                    settings.current().security.clone()
                })
            },
            feed: Arc::default(),
            journal: options.journal,
            closing: node.closing.clone(),
        };
        node.spawn_until_end("events", api::follow(face.clone()));
        let end = node.workers.token().clone();
        node.workers.spawn("refusals", face.access.clone().log_refusal_summaries(end));
        node.spawn_until_end(
            "limits",
            limits::run(
                settings.clone(),
                traffic.clone(),
                fetch.clone(),
                board.connections.clone(),
            ),
        );
        node.spawn_until_end(
            "traffic history",
            record(board.clone(), traffic.clone(), fetch.clone()),
        );

        let worker = serving::ListenerWorker {
            settings: settings.clone(),
            board: board.clone(),
            host: options.host,
            fixed_port: options.port,
            answers: Handlers {
                liveness: node.liveness.clone(),
                shown,
                connections: board.connections.clone(),
                ..face.answers()
            },
            connections: node.connections.clone(),
        };
        node.serving.spawn("serving", worker.run(listener, node.serving.token().clone()));
        let worker = https_redirect::RedirectWorker {
            settings: settings.clone(),
            board: board.clone(),
            host: options.host,
            connections: node.connections.clone(),
        };
        node.serving.spawn("onward", worker.run(https_redirect, node.serving.token().clone()));
        node.spawn_until_end("certificates", certificates.run());
        let worker = presence::PresenceWorker {
            settings: settings.clone(),
            board: board.clone(),
            connector: connector.clone(),
            traffic,
            host: options.host,
            was_truncated: AtomicBool::default(),
        };
        node.presence.spawn("presence", worker.run(node.presence.token().clone()));
        let end = node.workers.token();
        let worker =
            sync::SyncWorker::new(settings.clone(), board.clone(), connector, fetch.clone());
        node.workers.spawn("sync", worker.run(end.clone()));
        let worker = cleaning::CleanupWorker { settings: settings.clone(), board: board.clone() };
        node.workers.spawn("cleaning", worker.run(end.clone()));
        let worker =
            storage::StorageWorker { settings: settings.clone(), board: board.clone(), fetch };
        node.workers.spawn("storage", worker.run(found.unverified, end.clone()));
        node.spawn_until_end("scrub", scrub::run(board.clone()));
        let tried = board.clone();
        node.spawn_until_end("health", async move { tried.health.run(|| tried.store()).await });
        node.spawn_until_end("gauge", gauge(board, vault));
        node.spawn_until_end("config watch", watch::run(settings));

        Ok(node)
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

async fn opened_vault(settings: &Settings) -> (Vault, Option<String>) {
    let path = Vault::path_beside(settings.path());
    tasks::blocking(move || Vault::open(path)).await
}

async fn record(board: Arc<StatusBoard>, traffic: Arc<Traffic>, fetch: Fetch) {
    let read = || [traffic.served_bytes(), fetch.pulled_bytes(), traffic.under_way()];
    feed::record(&board.history, read).await;
}

async fn gauge(board: Arc<StatusBoard>, vault: Vault) {
    let mut gauge = MachineSampler::default();
    loop {
        let (store, looked_at) = (board.store(), vault.clone());
        let (machine, login_fault, back) = tasks::blocking(move || {
            store.close_idle();
            let machine = gauge.read(store.root());
            (machine, looked_at.fault(), gauge)
        })
        .await;
        gauge = back;
        board.login_fault.send_replace(login_fault);
        board.machine.send_replace(machine);
        tokio::time::sleep(GAUGE_EVERY).await;
    }
}
