//! The embedded main server: meetings, their packages, and the redirection of
//! clients to nodes. It speaks the newer shapes of the real one, so nodes of either
//! kind work with it.
//!
//! This file is the wiring. Decisions are pure and lie in `state`, which
//! `repository` saves; the handlers of `api` and the `workers` share `server`. Meetings
//! change by commands, which one worker carries out.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::unwrap_used,
        reason = "tests make the mess that the code has to live with"
    )
)]

mod address;
mod api;
mod castray;
mod counts;
mod error;
mod gofd;
mod large_bodies;
mod node_status;
mod options;
mod packages;
mod refusal;
mod repository;
mod server;
mod state;
mod workers;

#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use edge_mirror_base::{
    atomic,
    live::LiveValue,
    liveness::Liveness,
    tasks::{self, Tasks},
};
use edge_mirror_http::{
    access::{self, AccessControl, Vault},
    listen::{self, Handlers, HttpsRedirect, Listener, redirect},
    tls::LiveServerConfig,
};
use edge_mirror_settings::{authority, scheme};
use edge_mirror_store::Store;
use futures_util::future::OptionFuture;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use castray::CastRayListener;
pub use castray::CastRayOptions;
pub use error::{MasterError, StateError, UnusablePackages};
use gofd::BoundGofd;
pub use options::{MasterOptions, PackageStoreOptions};
use packages::{BlobError, BlobStore, is_copy_current};
pub use packages::{PackagesLocation, S3Environment};
use repository::{OpenedRepository, StateRepository};
pub use repository::{StateLocation, UnusableLocation, back_up, move_state, restore};
use server::{
    CastQueue, ChangeQueue, PendingCasts, PendingChange, Server, ServerOptions, SharedPackages,
};
pub use server::{
    DispatchOptions, GofdOptions, LiveOptions, OptionSource, ShownOption, ShownOptions,
};
use state::meetings::MeetingTable;
pub use state::{
    casts::CastLimits,
    demand::DemandLimits,
    fleet::{NodePolicy, UnknownPolicy},
};
use workers::{certificates::CertificateFollower, probe::Prober};

/// Longest wait at the end for a database that may be away.
const SAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// A running main server.
pub struct Master {
    server: Arc<Server>,
    address: SocketAddr,
    castray_address: Option<SocketAddr>,
    workers: Tasks,
    connections: Tasks,
    /// Stops accepting.
    stop: CancellationToken,
    first_code: Option<String>,
    liveness: Liveness,
}

impl Master {
    /// Opens the data, binds, and begins to serve.
    pub async fn start(options: MasterOptions) -> Result<Self, MasterError> {
        let MasterOptions {
            data,
            state,
            packages,
            listen,
            announce_timeout,
            live,
            upload_limit,
            tls,
            redirect_port,
            demand_webhook,
            casts,
            dispatch,
            local_tasks,
            castray,
            gofd,
            shown: shown_options,
        } = options;
        // Absolute, as the page shows it without context.
        let data = std::path::absolute(&data).unwrap_or(data);
        // First of all: a second main server on the same port must not touch
        // the data of the first one.
        let listener = Listener::bind(listen)?;
        let plain = redirect_port.map(|port| Listener::bind(SocketAddr::new(listen.ip(), port)));
        let plain = plain.transpose().map_err(MasterError::Redirect)?;
        let castray = CastRayListener::bind(listen.ip(), castray)?;
        let gofd = match gofd {
            Some(options) => Some(BoundGofd::bind(options).await?),
            None => None,
        };
        let shown = Arc::<LiveServerConfig>::default();
        let certificate = match tls {
            Some(files) => Some(CertificateFollower::begin(files, shown.clone()).await?),
            None => None,
        };
        live.warn_of_open_access();
        let shared = match packages {
            Some(packages) => Some(Arc::new(open_packages(packages).await?)),
            None => None,
        };
        let opened = open(&data, &state, announce_timeout, live).await?;
        let OpenedState { mut server, repository, queue, cast_queue, first_code } = opened;
        server.shared = shared;
        server.options.shown.set(shown_options);
        server.casts.limits = casts;
        server.dispatch.traffic.apply_limits(0, dispatch.limit);
        server.dispatch.options = dispatch;
        let is_shared = server.unshared.is_some();
        if local_tasks && is_shared {
            warn!("--tasks-local has no effect: several main servers may use the database");
        } else if local_tasks {
            server.remote_tasks.run_here(workers::local_types());
        }
        server.gofd = gofd.as_ref().map(|gofd| gofd.gateway.clone());
        warn_of_missing_option(&server);
        let server = Arc::new(server);
        server.connections.apply(server.options.live.peek().max_connections_per_client);
        server.traffic.apply_limits(0, upload_limit);
        let prober = Prober::new().map_err(MasterError::Prober)?;

        let cast_repository = repository.casts();
        let workers = spawn_workers(&server, repository, queue, prober.clone());
        let end = || workers.token().clone();
        workers.spawn("local runs", workers::run_locally(server.clone(), prober, end()));
        let saving = workers::save_casts(server.clone(), cast_repository, cast_queue, end());
        workers.spawn("casts", saving);
        workers.spawn("demand", workers::follow_demand(server.clone(), end()));
        if let Some(url) = demand_webhook {
            workers.spawn("demand webhook", workers::tell_webhook(server.clone(), url, end()));
        }
        if let Some(certificate) = certificate {
            let end = workers.token().clone();
            workers.spawn("certificate", certificate.run(server.clone(), end));
        }
        let (connections, stop) = (workers.child(), CancellationToken::new());
        let address = listener.address();
        if let Some(plain) = plain {
            info!("plain HTTP on {} is sent on to HTTPS", plain.address());
            let router = redirect(HttpsRedirect::To(Arc::new(move |_| address.port())));
            let shared = server.connections.clone();
            let answers = Handlers { connections: shared, ..router.into() };
            let serving = plain.serve(answers, connections.clone(), stop.clone());
            connections.spawn("HTTPS redirect", serving);
        }
        let castray = castray.map(|castray| castray.serve(&server, &workers, &connections, &stop));
        let castray_address = OptionFuture::from(castray).await.transpose()?;
        if let Some(gofd) = gofd {
            gofd.serve(&server, &workers, &connections, &stop);
        }
        let shared = server.connections.clone();
        let answers = Handlers { connections: shared, shown, ..api::router(server.clone()).into() };
        let liveness = answers.liveness.clone();
        connections.spawn("listener", listener.serve(answers, connections.clone(), stop.clone()));
        info!("main server listens on {address}");
        Ok(Self {
            server,
            address,
            castray_address,
            workers,
            connections,
            stop,
            first_code,
            liveness,
        })
    }

    /// The listening address, with the port chosen by the system.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the listener for CastRay's clients, if there is one.
    pub fn castray_address(&self) -> Option<SocketAddr> {
        self.castray_address
    }

    /// A code that logs in once, if nobody could have logged in before this start.
    pub fn first_code(&self) -> Option<&str> {
        self.first_code.as_deref()
    }

    /// The management port and the data port for GoFD, with those chosen by the system.
    pub fn gofd_ports(&self) -> Option<(u16, u16)> {
        self.server.gofd.as_ref().map(|gateway| gateway.ports)
    }

    /// Liveness of the loop that accepts connections.
    pub fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    /// Has options take effect while it runs. False if they are those that are in force.
    pub fn apply(&self, options: LiveOptions) -> bool {
        self.server.apply_options(options)
    }

    /// Has the page show options.
    pub fn show_options(&self, options: ShownOptions) {
        self.server.options.shown.set(options);
    }

    /// Resolves with a description once a worker has panicked.
    pub async fn failed(&self) -> String {
        self.workers.wait_for_failure().await
    }

    /// Stops accepting, lets requests under way finish within `grace`, then
    /// ends everything. False when something had to be cut off.
    pub async fn shut_down(self, grace: Duration) -> bool {
        let ends = Instant::now() + grace;
        // No longer ready, before anything else ends.
        self.server.closing.cancel();
        self.stop.cancel();
        let drained = self.connections.drain(grace).await;
        // While the writer is still there. All else was saved before it was answered.
        let saving = tokio::time::timeout(SAVE_TIMEOUT, self.server.save_sightings());
        if !matches!(saving.await, Ok(Ok(()))) {
            warn!("when nodes were last heard was not saved");
        }
        // At least a moment for tasks to notice that they are cancelled.
        let left = ends.saturating_duration_since(Instant::now()).max(Duration::from_millis(500));
        let connections_ended = self.connections.shut_down(left).await;
        let workers_ended = self.workers.shut_down(left).await;
        let store = self.server.store.clone();
        if let Err(error) = tasks::blocking(move || store.save_served()).await {
            warn!("when packages were last served was not saved: {error}");
        }
        info!("main server stopped");
        drained && connections_ended && workers_ended
    }
}

/// The page's URL; its address is the one from which packets to the network leave.
pub async fn page_at(host: IpAddr, port: u16, https: bool) -> String {
    let host = match host.is_unspecified() {
        true => listen::own_address().await.unwrap_or(Ipv4Addr::LOCALHOST.into()),
        false => host,
    };
    format!("{}://{}/", scheme(https), authority(&host.to_string(), port))
}

/// Path of the credentials' file in the data folder.
pub fn vault_path(data: &Path) -> PathBuf {
    data.join("access.json")
}

fn spawn_workers(
    server: &Arc<Server>,
    repository: StateRepository,
    queue: mpsc::Receiver<PendingChange>,
    prober: Prober,
) -> Tasks {
    let workers = Tasks::new();
    let token = || workers.token().clone();
    if let Some(wake) = repository.wake() {
        workers.spawn("database notifications", workers::listen(server.clone(), wake, token()));
    }
    if let Some(presence) = repository.presence() {
        workers.spawn("presence", workers::share_calls(server.clone(), presence, token()));
        workers.spawn("credentials", workers::share_access(server.clone(), token()));
    }
    workers.spawn("writer", workers::write(server.clone(), repository, queue, token()));
    workers.spawn("announcer", workers::announce(server.clone(), token()));
    workers.spawn("relay planner", workers::plan_relays(server.clone(), token()));
    workers.spawn("piece digests", workers::digest_pieces(server.clone(), token()));
    workers.spawn("prober", workers::probe(server.clone(), prober, token()));
    workers.spawn("content prober", workers::probe_contents(server.clone(), token()));
    workers.spawn("fleet", workers::keep_fleet(server.clone(), token()));
    workers.spawn("dispatch", workers::keep_dispatch(server.clone(), token()));
    workers.spawn("remote tasks", workers::keep_remote_tasks(server.clone(), token()));
    workers.spawn("file pulls", workers::pull_blobs(server.clone(), token()));
    workers.spawn("history", workers::keep_history(server.clone(), token()));
    workers.spawn("figures", workers::save_figures(server.clone(), token()));
    workers.spawn("verifier", workers::verify(server.clone(), token()));
    workers.spawn("package pulls", workers::pull_packages(server.clone(), token()));
    workers.spawn("package store", workers::keep_package_store(server.clone(), token()));
    workers.spawn("gauge", workers::gauge(server.clone(), token()));
    workers.spawn("feed", workers::follow(server.clone(), token()));
    workers.spawn("health", workers::try_storage(server.clone(), token()));
    workers.spawn("refusals", server.access.clone().log_refusal_summaries(token()));
    workers.spawn("traffic history", workers::record(server.clone(), token()));
    workers
}

/// What was on disk, ready to be served.
struct OpenedState {
    server: Server,
    repository: StateRepository,
    queue: mpsc::Receiver<PendingChange>,
    cast_queue: mpsc::Receiver<PendingCasts>,
    first_code: Option<String>,
}

async fn open(
    data: &Path,
    state: &StateLocation,
    announce_timeout: Duration,
    live: LiveOptions,
) -> Result<OpenedState, MasterError> {
    let folder = data.to_owned();
    // First of all: its lock keeps a second main server off the state, too.
    let store = tasks::blocking(move || open_folder(&folder)).await?;
    let opening = StateRepository::open(state, data).await?;
    let OpenedRepository { repository, state, figures } = opening;
    let data = data.to_owned();
    tasks::blocking(move || {
        warn_of_strays(&store, &state.meetings);
        let path = vault_path(&data);
        if let (true, Some(shared)) = (repository.is_remote(), &state.access) {
            let taken = Vault::at(path.clone()).take_over_shared(shared);
            taken.map_err(MasterError::Credentials)?;
        }
        let (vault, first_code) = Vault::open(path);
        let relay_key = access::random_text().map_err(MasterError::RelayKey)?;
        let relay_key = relay_key.parse().expect("it is random text of 43 characters");
        let live = Arc::new(LiveValue::new(live));
        let rules = live.clone();
        let rules = move || rules.peek().security.clone();
        let access = AccessControl::new("main_server", vault, rules);
        let (changes, queue) = ChangeQueue::new();
        let (casts, cast_queue) = CastQueue::new();
        let (records, cast_records) = (repository.reader(), repository.reader());
        let node_casts = repository.reader();
        let is_shared = repository.is_remote();
        let options = ServerOptions {
            data,
            announce_timeout,
            live,
            records,
            casts,
            cast_records,
            node_casts,
            relay_key,
            is_shared,
        };
        let server = Server::new(access, store, state, changes, options);
        server.restore_figures(figures);
        Ok(OpenedState { server, repository, queue, cast_queue, first_code })
    })
    .await
}

fn open_folder(data: &Path) -> Result<Store, MasterError> {
    let unusable = |cause| MasterError::Data { path: data.to_owned(), cause };
    atomic::create_folder(data).map_err(unusable)?;
    let (store, _) = Store::open(&data.join("packages")).map_err(MasterError::Packages)?;
    // Leftovers of a kill in the middle of a save.
    atomic::sweep_all(data).map_err(unusable)?;
    Ok(store)
}

/// Longest wait for the package store at the start. Packages that are here are served
/// without it.
const STORE_PATIENCE: Duration = Duration::from_secs(3);

/// Opens the shared package store. One that is away is no reason not to start, one that
/// answers that it can't be used like this is.
async fn open_packages(options: PackageStoreOptions) -> Result<SharedPackages, UnusablePackages> {
    let PackageStoreOptions { location, environment, cache_bytes } = options;
    let shared = SharedPackages::new(BlobStore::new(location, &environment)?, cache_bytes);
    let place = shared.blobs.location().to_string();
    match tokio::time::timeout(STORE_PATIENCE, shared.blobs.check()).await {
        Ok(Err(BlobError::NoBucket)) => return Err(UnusablePackages::NoSuchBucket(place)),
        Ok(Err(BlobError::Denied(cause))) => return Err(UnusablePackages::Denied { place, cause }),
        Ok(checked) => {
            shared.note(&checked);
            info!("packages are kept at {place}");
        }
        Err(_) => warn!("the package store at {place} does not answer yet"),
    }
    Ok(shared)
}

fn warn_of_missing_option(server: &Server) {
    let book = server.book();
    let missing = book.meetings.iter().filter(|meeting| !is_copy_current(meeting, &server.store));
    let count = missing.count();
    if server.shared.is_none() && count > 0 {
        warn!(
            "the packages of {count} meetings are in a shared package store and not here; start \
             the main server with --packages"
        );
    }
}

/// They are not removed: the state may have been lost or replaced by an older one, and
/// then they are all that is left.
fn warn_of_strays(store: &Store, book: &MeetingTable) {
    let known: HashSet<_> = book.meetings.iter().map(|meeting| &meeting.id).collect();
    for id in store.list().iter().filter_map(|stored| stored.manifest.key.package()) {
        if !known.contains(id) {
            warn!("there is a package but no meeting {id}; it is not served");
        }
    }
}
