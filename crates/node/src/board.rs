//! The workers' last reports, for the status page, and the on/off switch. Each
//! channel has one writer; a reader never waits.

mod counts;
mod remote_tasks;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    ops::Deref,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use edge_mirror_base::{clock::UnixMillis, live::LiveValue};
use edge_mirror_http::{
    listen::{Connections, MAX_CONNECTIONS},
    tls::CertificateHealth,
    wire::{feed::History, health::StorageHealth},
};
use edge_mirror_protocol::{
    ActiveMeeting, Fault, HeartbeatNotice, UnservedMeeting,
    extension::RelaySection,
    fleet::FleetOrigins,
    package::{PackageId, Sha256},
};
use edge_mirror_store::{Store, StoredPackage};
use tokio::sync::{Notify, watch};

use crate::machine::Machine;
pub(crate) use counts::AgentCallRefusal;
pub use counts::{
    CallResult, CheckOccasion, GofdAgentCounters, NodeCounters, ParentLoss, PullEnd, RelayRefusal,
    RemovalCause,
};
pub(crate) use remote_tasks::{PastRun, RemoteTaskStatus, RunEnding};

/// Shared by the workers that write and the pages that read.
#[derive(Debug)]
pub struct StatusBoard {
    pub started_at: UnixMillis,
    /// True while the service runs; written by `switch`.
    pub running: watch::Sender<bool>,
    /// The same, for reads with every request.
    is_running: AtomicBool,
    /// Written by `presence`.
    pub presence: watch::Sender<Presence>,
    /// Written by `sync`.
    pub sync: watch::Sender<Arc<SyncState>>,
    /// Written by `presence`: the number of the heartbeat that is about to
    /// go out; `SyncState::checked` says which of them may.
    pub(crate) heartbeat_number: watch::Sender<u64>,
    /// Written by `sync`: what the main server says of relaying.
    pub relay: watch::Sender<Arc<MainServerPlan>>,
    /// Written by `sync`: the version of this node's list of tasks; None if there is none.
    pub(crate) dispatch: watch::Sender<Option<String>>,
    pub(crate) remote_tasks: watch::Sender<RemoteTaskStatus>,
    /// Written by `presence`: the address for other nodes.
    pub(crate) relay_address: watch::Sender<Option<String>>,
    /// Written by the gauge worker.
    pub machine: watch::Sender<Machine>,
    /// Written by `upkeep/storage`: the folder in use, and the error of another one
    /// that the configuration names.
    pub store: LiveValue<Store>,
    pub(crate) store_fault: watch::Sender<Option<String>>,
    /// Written by `listeners/serving`: the port listened to, and the error of another
    /// one that the configuration names.
    pub port: watch::Sender<u16>,
    pub(crate) port_fault: watch::Sender<Option<String>>,
    /// Written by `listeners/certificates`: true if new connections have to speak TLS,
    /// and the error of a certificate that the configuration names.
    pub https: watch::Sender<bool>,
    /// Digest of the certificate in use.
    pub(crate) certificate: watch::Sender<Option<Sha256>>,
    pub(crate) certificate_health: CertificateHealth,
    /// Written by `listeners/https_redirect`: why HTTP is not redirected to HTTPS.
    pub(crate) redirect_fault: watch::Sender<Option<String>>,
    /// Written by the gauge worker, too: why logins fail.
    pub login_fault: watch::Sender<Option<String>>,
    /// Written by the traffic's recorder: bytes served and pulled, downloads
    /// under way.
    pub history: watch::Sender<History>,
    /// The connections of all listeners.
    pub connections: Arc<Connections>,
    pub(crate) sync_requests: SyncRequests,
    /// The main server should be asked now: a client asks for the package of a meeting
    /// that has not been started.
    pub(crate) poll_now: Notify,
    pub health: StorageHealth,
    pub counts: NodeCounters,
    /// Calls and connections for the agent of GoFD that were refused.
    pub(crate) gofd: GofdAgentCounters,
}

/// Meetings that an operator wants synced now: `api` adds, `sync` takes.
#[derive(Debug, Default)]
pub struct SyncRequests {
    /// Active meetings only, which bounds their number.
    ids: Mutex<BTreeSet<PackageId>>,
    added: Notify,
}

impl SyncRequests {
    pub fn add(&self, id: PackageId) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        self.added.notify_one();
    }

    pub async fn take(&self) -> BTreeSet<PackageId> {
        self.added.notified().await;
        std::mem::take(&mut self.ids.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Relaying as the current main server arranges it; others than ours say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MainServerPlan {
    /// The fleet's identity.
    pub origin: String,
    pub section: Option<RelaySection>,
}

/// State of the connection to the main server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    pub(crate) registered: bool,
    /// Base URL of the main server that knows the node.
    pub(crate) registered_at: Option<String>,
    /// `ip:port` as reported to the main server.
    pub address: Option<String>,
    pub(crate) last_ok: Option<UnixMillis>,
    /// Time of the first failure since the last answer, and its cause.
    pub(crate) failing_since: Option<UnixMillis>,
    pub error: Option<Fault>,
    /// Our main server's notice to the node's operators.
    pub notice: HeartbeatNotice,
    /// Warnings about the address.
    pub(crate) address_warnings: Vec<AddressWarning>,
}

/// A warning about the address reported to the main server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressWarning {
    /// A private address; the main server's is public.
    Private { address: String, main_server: String },
    /// `advertiseInterface` names none that is up and has an address; these are.
    Interface { name: String, there: Vec<String> },
}

impl fmt::Display for AddressWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private { address, main_server } => write!(
                f,
                "{address} is a private address, but the main server {main_server} is public: \
                 clients may not reach this node; see publicIp and usePublicAddress"
            ),
            Self::Interface { name, there } => write!(
                f,
                "advertiseInterface: no interface {name} is up and has an address; these are: {}",
                there.join(", ")
            ),
        }
    }
}

/// The main server's last word on its meetings, and their state here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncState {
    /// Counts well-formed, complete answers: deletion needs them.
    pub answers: u64,
    /// The fleet whose main server answered; another one's answers do not count for this
    /// one's meetings.
    pub fleet: FleetOrigins,
    pub token: String,
    pub(crate) polled_ok: Option<UnixMillis>,
    pub(crate) poll_error: Option<Fault>,
    /// Time since which polls fail.
    pub(crate) poll_failing_since: Option<UnixMillis>,
    /// Shared, like the next ones: a report goes out after each poll, and most say
    /// the same as before.
    pub active: Arc<ActiveMeetings>,
    /// True if that is known to be all of them.
    pub complete: bool,
    /// Active ones that the main server can't provide.
    pub unserved: Arc<[UnservedMeeting]>,
    /// Number of active ones beyond the limit of a node.
    pub left_out: usize,
    /// Active meetings with the digest of their stored package, if it is current as
    /// far as is known; other bytes under the same id are not.
    pub confirmed: Arc<HashMap<PackageId, Sha256>>,
    /// Those of them that a heartbeat lists as synced: their versions were checked
    /// just now, if that is possible.
    pub listed: Arc<HashMap<PackageId, Sha256>>,
    /// True if there are versions to check before a heartbeat,
    pub(crate) has_versions_to_check: bool,
    /// and the last heartbeat before which that was done.
    pub checked: u64,
    pub failing: Arc<BTreeMap<PackageId, PullFailure>>,
    /// Meetings that have not been started, whose packages are to be here by then.
    pub prestaged: Arc<BTreeMap<PackageId, PrestagedMeeting>>,
    /// The main server says which those are.
    pub(crate) is_prestage_known: bool,
    pub(crate) last_pull: Option<UnixMillis>,
}

impl SyncState {
    /// True if the package is to be here when its meeting starts, as far as is known: a main
    /// server that has just started does not say yet which ones are.
    pub(crate) fn is_kept_for_start(&self, stored: &StoredPackage) -> bool {
        let Some(id) = stored.manifest.key.package() else { return false };
        if self.active.contains(id) || !stored.is_of_fleet(&self.fleet) {
            return false;
        }
        match self.is_prestage_known {
            true => self.prestaged.contains_key(id),
            false => stored.manifest.withheld,
        }
    }
}

/// The active meetings in the main server's order, indexed: there may be thousands,
/// and as many look-ups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActiveMeetings {
    list: Vec<ActiveMeeting>,
    places: HashMap<PackageId, usize>,
}

impl ActiveMeetings {
    pub fn contains(&self, id: &PackageId) -> bool {
        self.places.contains_key(id)
    }

    /// Its position in the list.
    pub fn position(&self, id: &PackageId) -> Option<usize> {
        self.places.get(id).copied()
    }
}

impl From<Vec<ActiveMeeting>> for ActiveMeetings {
    fn from(list: Vec<ActiveMeeting>) -> Self {
        let places = list.iter().enumerate().map(|(index, meeting)| (meeting.id.clone(), index));
        Self { places: places.collect(), list }
    }
}

impl Deref for ActiveMeetings {
    type Target = [ActiveMeeting];

    fn deref(&self) -> &[ActiveMeeting] {
        &self.list
    }
}

/// A meeting that has not been started, and its package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrestagedMeeting {
    pub title: String,
    pub sha256: Sha256,
    pub size_bytes: u64,
    /// This very package is here.
    pub is_here: bool,
    pub failing: Option<PullFailure>,
}

/// A meeting whose package could not be pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullFailure {
    /// Rounds of `retryCount` attempts that ended without the package.
    pub rounds: u32,
    pub error: Fault,
    pub(crate) next_try: UnixMillis,
}

impl StatusBoard {
    pub fn new(store: Store, port: u16) -> Self {
        let counts = NodeCounters::default();
        Self {
            started_at: UnixMillis::now(),
            running: watch::Sender::new(true),
            is_running: AtomicBool::new(true),
            presence: watch::Sender::default(),
            sync: watch::Sender::default(),
            heartbeat_number: watch::Sender::default(),
            relay: watch::Sender::default(),
            dispatch: watch::Sender::default(),
            remote_tasks: watch::Sender::default(),
            relay_address: watch::Sender::default(),
            machine: watch::Sender::default(),
            store: LiveValue::new(store),
            store_fault: watch::Sender::new(None),
            port: watch::Sender::new(port),
            port_fault: watch::Sender::new(None),
            https: watch::Sender::new(false),
            certificate: watch::Sender::new(None),
            certificate_health: CertificateHealth::default(),
            redirect_fault: watch::Sender::new(None),
            login_fault: watch::Sender::new(None),
            history: watch::Sender::default(),
            sync_requests: SyncRequests::default(),
            poll_now: Notify::new(),
            health: StorageHealth::default(),
            connections: Arc::new(Connections::new(MAX_CONNECTIONS, counts.limits.clone())),
            counts,
            gofd: GofdAgentCounters::default(),
        }
    }

    pub fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Relaxed)
    }

    /// Starts or stops the service, with the changes that `change` makes in the
    /// same moment. Returns true if that was a change.
    pub(crate) fn switch(&self, on: bool, change: impl FnOnce()) -> bool {
        self.running.send_if_modified(|running| {
            change();
            self.is_running.store(on, Ordering::Relaxed);
            std::mem::replace(running, on) != on
        })
    }

    pub fn store(&self) -> Store {
        Store::clone(&self.store.peek())
    }

    /// The size of the package, if its meeting is to start and has not been started yet.
    pub(crate) fn prestaged_bytes(&self, id: &PackageId) -> Option<u64> {
        self.sync.borrow().prestaged.get(id).map(|meeting| meeting.size_bytes)
    }

    /// False only if the main server's last answer was complete and did not name
    /// the meeting. Before the first one, any may be active.
    pub(crate) fn may_be_active(&self, id: &PackageId) -> bool {
        let sync = self.sync.borrow();
        !sync.complete || sync.active.contains(id)
    }
}
