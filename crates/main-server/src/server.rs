//! State shared by the main server's handlers and workers.
//!
//! Readers take a snapshot of the meetings and never wait. Changes are commands that one
//! worker, the writer, carries out: apply, save, publish; what a reader sees is on disk.
//! Locks are taken in the order `uplinks`, `registry`, `claims`, `download_log`, `limited`,
//! those of the shared packages, the store's own, `others`, `listening_since`, and never held
//! across an `.await`. The sessions of remote tasks come last, and before their bells.
//! `starts_seen` is taken alone.

mod announcements;
mod cast_outbox;
mod cast_subscribers;
mod casts;
mod changes;
mod demand;
mod dispatch;
mod figures;
mod fleet;
mod gofd;
mod options;
mod packages;
mod pieces;
mod relay;
mod remote_tasks;
mod sharing;
mod virtual_nodes;

pub(crate) use cast_outbox::{CastOutbox, NamedPlace};
pub(crate) use cast_subscribers::{CastSubscribers, StreamedCast};
pub(crate) use casts::{AddedCasts, CastQueue, PendingCasts};
pub(crate) use changes::{ChangeQueue, PendingChange, PublishedState};
pub(crate) use demand::FleetDemand;
pub use dispatch::DispatchOptions;
pub(crate) use dispatch::{DispatchService, RequestedTask, blob_key};
pub use gofd::GofdOptions;
pub(crate) use gofd::{GofdCallRefusal, GofdGateway, TaskSeed};
pub(crate) use options::OptionsInForce;
pub use options::{LiveOptions, OptionSource, ShownOption, ShownOptions};
pub(crate) use packages::SharedPackages;
pub(crate) use remote_tasks::RemoteTaskService;

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use edge_mirror_base::{
    clock::{SteadyClock, UnixMillis},
    live::LiveValue,
};
use edge_mirror_http::{
    access::AccessControl,
    delivery::Traffic,
    limits::Limit,
    listen::{Connections, MAX_CONNECTIONS},
    tls::CertificateHealth,
    wire::{
        feed::{Feed, History},
        health::StorageHealth,
    },
};
use edge_mirror_protocol::{
    package::{PackageId, PackageRoute, PackageSource, Sha256, Validators, VerifyLevel},
    relay::RelayKey,
};
use edge_mirror_store::{Provenance, Store, verify::VerifyError};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    counts::{MasterCheckOccasion, MasterCounters},
    error::StateError,
    large_bodies::LargeBodies,
    node_status::NodeStatus,
    packages::package_of,
    refusal::RequestError,
    repository::StateReader,
    server::{pieces::PieceDigests, sharing::OtherServers},
    state::{
        download_log::DownloadLog,
        fleet::{KnownNodes, KnownVersions, NodeClaims},
        groups::NodeGroups,
        held_packages::CurrentPackage,
        index::IndexedMeetings,
        master_state::MasterState,
        meetings::{Meeting, MeetingTable, PackageBlob},
        registry::NodeRegistry,
        relay::{RelayPlan, uplink::UplinkMemory},
        routing::RoutingRules,
        shared_calls::UnsharedCalls,
        virtual_nodes::VirtualNodes,
    },
};

/// Polls held back at a time; several times a main server's nodes. Each keeps a
/// connection, and anybody may poll; further ones are answered immediately and poll
/// again at their interval. As many requests for casts are held besides.
pub(crate) const MAX_WAITING: usize = 16_384;

pub(crate) struct Server {
    pub access: AccessControl,
    pub clock: SteadyClock,
    pub store: Store,
    /// The shared package store, with `--packages`.
    pub(crate) shared: Option<Arc<SharedPackages>>,
    pub traffic: Arc<Traffic>,
    pub wake: WorkerSignals,
    pub(crate) uploading: Arc<Mutex<HashSet<PackageId>>>,
    pub started_at: UnixMillis,
    pub outside: watch::Sender<SystemReadings>,
    pub history: watch::Sender<History>,
    pub feed: Feed,
    pub health: StorageHealth,
    pub(crate) certificate_health: CertificateHealth,
    /// The reason that no change can be saved, while that is so.
    pub state_fault: watch::Sender<Option<Arc<StateError>>>,
    pub counts: MasterCounters,
    /// The answer to nodes' polls, rebuilt with each change.
    pub status: watch::Sender<Arc<NodeStatus>>,
    /// The parents of all nodes. Published before a status that names new packages.
    pub relay: watch::Sender<Arc<RelayPlan>>,
    /// The key by which this main server's nodes know each other. A new one with each
    /// start, which nodes get with the next answer.
    pub relay_key: RelayKey,
    /// For the page.
    pub(crate) known_versions: KnownVersions,
    pieces: Arc<PieceDigests>,
    /// Permits of polls that wait for a change.
    pub waiting: Semaphore,
    pub(crate) large_bodies: LargeBodies,
    pub connections: Arc<Connections>,
    /// Ends event streams and waiting polls.
    pub closing: CancellationToken,
    download_log: Mutex<DownloadLog>,
    book: ArcSwap<IndexedMeetings>,
    changes: ChangeQueue,
    pub(crate) casts: CastQueue,
    pub(crate) cast_outbox: CastOutbox,
    /// Casts that are in memory alone.
    pub(crate) live_casts: CastOutbox,
    pub(crate) dispatch: DispatchService,
    pub(crate) remote_tasks: RemoteTaskService,
    /// The gateway for clients and agents of GoFD, where that is turned on.
    pub(crate) gofd: Option<Arc<GofdGateway>>,
    /// The kept casts, for operators; and for nodes, which wait for no search.
    pub(crate) cast_records: StateReader,
    pub(crate) node_casts: StateReader,
    data: PathBuf,
    known: ArcSwap<KnownNodes>,
    rules: ArcSwap<RoutingRules>,
    groups: ArcSwap<NodeGroups>,
    virtual_nodes: ArcSwap<VirtualNodes>,
    registry: Mutex<NodeRegistry>,
    /// Nodes that wait for an operator.
    claims: Mutex<NodeClaims>,
    pub(crate) options: OptionsInForce,
    /// The log of operators' changes, and the history.
    pub(crate) records: StateReader,
    /// None where no other main server can be.
    pub(crate) unshared: Option<UnsharedCalls>,
    /// True while this main server is the leader, who alone announces starts, records which
    /// nodes are silent and sweeps the package store.
    pub(crate) leads: watch::Sender<bool>,
    others: Mutex<OtherServers>,
    listening_since: Mutex<UnixMillis>,
    /// The meetings that wait to be announced, and when that was first seen.
    starts_seen: Mutex<HashMap<PackageId, UnixMillis>>,
    /// The credentials that all main servers have.
    shared_access: ArcSwap<Option<Arc<str>>>,
    uplinks: Mutex<UplinkMemory>,
    /// Written by a worker.
    pub(crate) demand: watch::Sender<FleetDemand>,
    limited: Mutex<Option<(Limit, UnixMillis)>>,
    announce_timeout: Duration,
}

/// All that does not change while it runs.
pub(crate) struct ServerOptions {
    pub(crate) data: PathBuf,
    pub(crate) announce_timeout: Duration,
    pub(crate) live: Arc<LiveValue<LiveOptions>>,
    pub(crate) records: StateReader,
    pub(crate) casts: CastQueue,
    pub(crate) cast_records: StateReader,
    pub(crate) node_casts: StateReader,
    pub relay_key: RelayKey,
    /// Other main servers may use the same database.
    pub(crate) is_shared: bool,
}

/// Seconds for which a reached limit is a problem.
const LIMIT_SHOWN_FOR: Duration = Duration::from_secs(300);

/// Figures of the system and the disk; read by a worker, so that no page waits for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SystemReadings {
    /// None before the first reading, and if it failed.
    pub free: Option<u64>,
    pub node_key: bool,
    /// The reason that logins fail.
    pub login_fault: Option<String>,
}

/// Tells a worker that there may be something to do.
#[derive(Debug, Default)]
pub(crate) struct WorkerSignals {
    /// Another main server has saved something.
    pub(crate) writer: Notify,
    /// Another main server has written casts.
    pub(crate) casts: Notify,
    /// Tasks may have come to their end, or their turn.
    pub(crate) dispatch: Notify,
    /// Remote tasks, or places for them, may have come.
    pub(crate) remote_tasks: Notify,
    pub(crate) announcer: Notify,
    pub(crate) prober: Notify,
    pub verifier: Notify,
    pub gauge: Notify,
    pub planner: Notify,
}

impl Server {
    pub(crate) fn new(
        access: AccessControl,
        store: Store,
        state: MasterState,
        changes: ChangeQueue,
        options: ServerOptions,
    ) -> Self {
        let ServerOptions { data, announce_timeout, live, relay_key, is_shared, .. } = options;
        let ServerOptions { records, casts, cast_records, node_casts, .. } = options;
        let (clock, counts) = (SteadyClock::start(), MasterCounters::default());
        let subscribers = CastSubscribers::new(casts.limits.max_behind);
        let mut registry = NodeRegistry::default();
        registry.set_rules(state.routing.clone());
        registry.apply_known_nodes(state.nodes.clone(), &mut NodeClaims::default(), clock.now());
        Self {
            access,
            clock,
            connections: Arc::new(Connections::new(
                MAX_CONNECTIONS + 2 * MAX_WAITING,
                counts.limits.clone(),
            )),
            status: watch::Sender::new(Arc::new(NodeStatus::of(&state.meetings, &store))),
            relay: watch::Sender::default(),
            known_versions: KnownVersions::default(),
            relay_key,
            pieces: Arc::default(),
            waiting: Semaphore::new(MAX_WAITING),
            large_bodies: LargeBodies::default(),
            store,
            shared: None,
            traffic: Arc::default(),
            wake: WorkerSignals::default(),
            uploading: Arc::default(),
            started_at: clock.now(),
            outside: watch::Sender::default(),
            history: watch::Sender::default(),
            feed: Feed::default(),
            health: StorageHealth::default(),
            certificate_health: CertificateHealth::default(),
            state_fault: watch::Sender::default(),
            counts,
            closing: CancellationToken::new(),
            download_log: Mutex::default(),
            book: ArcSwap::from_pointee(state.meetings.into()),
            changes,
            casts,
            cast_outbox: CastOutbox::new(subscribers.clone()),
            live_casts: CastOutbox::live(subscribers),
            dispatch: DispatchService::new(state.dispatch),
            remote_tasks: RemoteTaskService::new(state.remote_tasks),
            gofd: None,
            cast_records,
            node_casts,
            data,
            known: ArcSwap::from_pointee(state.nodes),
            rules: ArcSwap::new(state.routing),
            groups: ArcSwap::new(state.groups),
            virtual_nodes: ArcSwap::from_pointee(state.virtual_nodes),
            registry: Mutex::new(registry),
            claims: Mutex::default(),
            options: OptionsInForce { live, shown: LiveValue::new(ShownOptions::default()) },
            records,
            unshared: is_shared.then(UnsharedCalls::default),
            leads: watch::Sender::new(!is_shared),
            others: Mutex::default(),
            listening_since: Mutex::new(clock.now()),
            starts_seen: Mutex::default(),
            shared_access: ArcSwap::from_pointee(state.access),
            uplinks: Mutex::default(),
            demand: watch::Sender::default(),
            limited: Mutex::default(),
            announce_timeout,
        }
    }

    pub(crate) fn book(&self) -> Arc<IndexedMeetings> {
        self.book.load_full()
    }

    /// All that was saved last.
    pub(crate) fn state(&self) -> MasterState {
        let (meetings, nodes) =
            (MeetingTable::clone(&self.book()), KnownNodes::clone(&self.known()));
        let (access, dispatch) = (self.shared_access(), self.dispatch.table());
        let (routing, groups) = (self.rules(), self.groups());
        let virtual_nodes = VirtualNodes::clone(&self.virtual_nodes());
        let remote_tasks = self.remote_tasks.table();
        MasterState {
            meetings,
            nodes,
            routing,
            groups,
            virtual_nodes,
            access,
            dispatch,
            remote_tasks,
        }
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, NodeRegistry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn download_log(&self) -> MutexGuard<'_, DownloadLog> {
        self.download_log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn uploads_under_way(&self) -> HashSet<PackageId> {
        self.uploading.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The folder that everything is in.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn package_blob(&self, id: &PackageId) -> Option<PackageBlob> {
        package_of(self.book().find(id.as_str())?, &self.store)
    }

    /// The digest of a meeting's package, whether or not a copy of it is here.
    pub(crate) fn digest(&self, id: &PackageId) -> Option<Sha256> {
        self.package_blob(id).map(|package| package.sha256)
    }

    /// The digest of what lies in the data folder.
    pub(crate) fn local_digest(&self, id: &PackageId) -> Option<Sha256> {
        self.store.get(id).map(|stored| stored.manifest.sha256)
    }

    /// Looks up a meeting and its current package by the text of an id.
    pub(crate) fn offered_packages(&self) -> impl Fn(&str) -> Option<CurrentPackage> {
        let book = self.book();
        move |id| {
            let meeting = book.find(id)?;
            let sha256 = package_of(meeting, &self.store).map(|package| package.sha256);
            let only_version = meeting.versions <= 1;
            Some(CurrentPackage { id: meeting.id.clone(), sha256, only_version })
        }
    }

    /// Counts a limit that was reached, and logs the first of a series.
    pub(crate) fn note_limit<T>(&self, outcome: &Result<T, RequestError>) {
        let Err(refusal) = outcome else { return };
        let Some(limit) = refusal.limit() else { return };
        self.counts.limits.inc(limit);
        let now = self.clock.now();
        let quiet = self.recent_limit(now).is_none();
        *self.limited.lock().unwrap_or_else(PoisonError::into_inner) = Some((limit, now));
        if quiet {
            warn!("refused, and what follows is counted only: {refusal}");
        }
    }

    /// The last limit reached, if that was recently.
    pub(crate) fn recent_limit(&self, now: UnixMillis) -> Option<Limit> {
        let (limit, at) = (*self.limited.lock().unwrap_or_else(PoisonError::into_inner))?;
        (now.saturating_since(at) < LIMIT_SHOWN_FOR).then_some(limit)
    }

    /// Verifies packages that lie in place unverified: after a kill between
    /// rename and manifest, or changed by somebody else. Blocks.
    pub(crate) fn verify_leftovers(&self) {
        for meeting in self.book().meetings.iter().filter(|m| self.store.has_unverified(&m.id)) {
            let id = &meeting.id;
            if let Some(package) = meeting.package {
                self.adopt_copy(meeting, package);
                continue;
            }
            let adopt =
                || self.store.adopt(id, VerifyLevel::Full, None, upload_provenance(meeting));
            match self.replace_package(id, None, adopt) {
                Ok(()) => info!("package of meeting {id} verified again: it is good"),
                Err(RequestError::BadPackage(cause)) => self.discard(id, &cause),
                Err(error) => warn!(
                    "package of meeting {id} could not be verified, it is not served: {error:?}"
                ),
            }
        }
        // Somebody may wait for what was verified.
        if let Some(shared) = &self.shared {
            shared.end_pull(|_| ());
        }
    }

    fn discard(&self, id: &PackageId, cause: &VerifyError) {
        self.counts.bad_package(MasterCheckOccasion::Found, cause);
        warn!("package of meeting {id} is damaged and was removed, upload it again: {cause}");
        if let Err(error) = self.store.discard_unverified(id) {
            warn!("damaged package of meeting {id} could not be removed: {error}");
        }
    }
}

/// The provenance of uploaded packages.
pub(crate) fn upload_provenance(meeting: &Meeting) -> Provenance {
    let source = PackageSource {
        route: PackageRoute::Upload,
        origin: None,
        validators: Validators::default(),
    };
    Provenance::of_package(meeting.title.clone(), source)
}
