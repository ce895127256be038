//! The gateway for clients and agents of GoFD: what its routes and its worker share.

mod seed;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use edge_mirror_base::{
    clock::UnixMillis,
    metrics::{CounterFamily, labels},
    tasks,
};
use edge_mirror_gofd::{DataPortEvent, GofdConfig, GofdCredentials, OfferedSeed, SeedDirectory};
use edge_mirror_http::tls;
use tokio::sync::{Notify, watch};

pub(crate) use seed::TaskSeed;

use crate::{
    server::Server,
    state::gofd::{GofdPlaceKind, GofdPosting, GofdRefusal, GofdRequest, GofdTable},
};

/// Time of a call to an agent, as at GoFD's server.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Refused calls are logged so often at most.
const LOG_PAUSE: Duration = Duration::from_secs(1);

/// Options of the gateway.
#[derive(Clone, Debug)]
pub struct GofdOptions {
    /// Management port, for clients and agents.
    pub listen: SocketAddr,
    /// Data port, for agents.
    pub data: SocketAddr,
    pub config: GofdConfig,
    /// An agent's silence that means nothing, however small the task is.
    pub silence: Duration,
}

impl GofdOptions {
    pub const DEFAULT_SILENCE: Duration = Duration::from_secs(60);
}

labels! {
    /// A call to the management port that was refused.
    GofdCallRefusal {
        Password => "password",
        Body => "body",
        Request => "request",
    }
}

#[derive(Debug)]
pub(crate) struct GofdGateway {
    pub(crate) config: GofdConfig,
    pub(crate) silence: Duration,
    /// The management port and the data port.
    pub(crate) ports: (u16, u16),
    pub(crate) client: reqwest::Client,
    table: Mutex<GofdTable>,
    /// Tells the worker that there may be a run to begin.
    pub(crate) posted: Notify,
    /// Changes with the table.
    changed: watch::Sender<()>,
    seeds: Mutex<HashMap<String, Arc<TaskSeed>>>,
    logged_at: Mutex<UnixMillis>,
    pub(crate) refusals: CounterFamily<GofdCallRefusal>,
    pub(crate) data_events: CounterFamily<DataPortEvent>,
}

impl GofdGateway {
    /// `ports`: the management port and the data port.
    pub(crate) fn new(options: GofdOptions, ports: (u16, u16)) -> reqwest::Result<Self> {
        // Agents have certificates that nobody signed, as GoFD does not look at them.
        let client = tls::http(tls::unverified_client())
            .timeout(CALL_TIMEOUT)
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            config: options.config,
            silence: options.silence,
            ports,
            client,
            table: Mutex::default(),
            posted: Notify::new(),
            changed: watch::Sender::default(),
            seeds: Mutex::default(),
            logged_at: Mutex::new(UnixMillis::from_secs(0)),
            refusals: CounterFamily::default(),
            data_events: CounterFamily::default(),
        })
    }

    /// Reads the table.
    pub(crate) fn look<T>(&self, work: impl FnOnce(&mut GofdTable, UnixMillis) -> T) -> T {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut table, UnixMillis::now())
    }

    /// Changes the table.
    pub(crate) fn change<T>(&self, work: impl FnOnce(&mut GofdTable, UnixMillis) -> T) -> T {
        let done = self.look(work);
        self.changed.send_replace(());
        done
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn seeds(&self) -> MutexGuard<'_, HashMap<String, Arc<TaskSeed>>> {
        self.seeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has agents get the pieces of a task.
    pub(crate) fn offer(&self, id: &str, seed: Arc<TaskSeed>) {
        self.seeds().insert(id.to_owned(), seed);
    }

    /// Takes an offer back, unless there is another one by now.
    pub(crate) fn withdraw(&self, id: &str, seed: &Arc<TaskSeed>) {
        seed.end.cancel();
        let mut seeds = self.seeds();
        if seeds.get(id).is_some_and(|offered| Arc::ptr_eq(offered, seed)) {
            seeds.remove(id);
        }
    }

    /// Counts a refused call. True if it should be logged, too: a client that never stops
    /// should not fill the log.
    pub(crate) fn note_refusal(&self, refusal: GofdCallRefusal) -> bool {
        self.refusals.inc(refusal);
        let now = UnixMillis::now();
        let mut logged_at = self.logged_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = now.saturating_since(*logged_at) >= LOG_PAUSE;
        if is_due {
            *logged_at = now;
        }
        is_due
    }
}

impl SeedDirectory for GofdGateway {
    type Source = TaskSeed;

    fn credentials(&self) -> GofdCredentials {
        self.config.credentials.clone()
    }

    fn find(&self, task: &str) -> Option<OfferedSeed<TaskSeed>> {
        let source = self.seeds().get(task)?.clone();
        let (speed, end) = (self.config.speed, source.end.clone());
        Some(OfferedSeed { source, speed, end })
    }

    fn count(&self, event: DataPortEvent) {
        self.data_events.inc(event);
    }
}

impl Server {
    /// Takes a task of a client in.
    pub(crate) async fn post_gofd_task(
        &self,
        gateway: &GofdGateway,
        request: GofdRequest,
        by: IpAddr,
    ) -> Result<(), GofdRefusal> {
        if gateway.look(|table, now| table.look(&request, now))? == GofdPosting::Known {
            return Ok(());
        }
        self.gofd_paths(&request)?;
        let kinds = self.gofd_places(gateway, &request)?;
        if kinds.values().any(|kind| *kind == GofdPlaceKind::Agent) {
            request.check_base_names()?;
        }
        let are_there = self.has_gofd_files(&request).await?;
        gateway.change(|table, now| table.post(request, kinds, !are_there, by, now))?;
        gateway.posted.notify_one();
        Ok(())
    }

    /// The root and the paths below it.
    pub(crate) fn gofd_paths(
        &self,
        request: &GofdRequest,
    ) -> Result<(PathBuf, Vec<String>), GofdRefusal> {
        let root = self.dispatch.options.root.as_deref().ok_or(GofdRefusal::NoRoot)?;
        let root = std::path::absolute(root).map_err(|_| GofdRefusal::NoRoot)?;
        let paths = request.paths(&root)?;
        Ok((root, paths))
    }

    /// True if all files of a task are there; an error if one must not be sent.
    pub(crate) async fn has_gofd_files(&self, request: &GofdRequest) -> Result<bool, GofdRefusal> {
        let (root, paths) = self.gofd_paths(request)?;
        let looked = tasks::blocking(move || super::dispatch::find_files(&root, &paths)).await;
        looked.map_err(|error| GofdRefusal::Path(error.to_string()))
    }

    /// Finds out what is at each address: nodes that are there, or else an agent.
    fn gofd_places(
        &self,
        gateway: &GofdGateway,
        request: &GofdRequest,
    ) -> Result<BTreeMap<String, GofdPlaceKind>, GofdRefusal> {
        let has_agents =
            gateway.config.agent_mgnt_port.is_some() && gateway.config.agent_data_port.is_some();
        let places = request.ips.iter().map(|ip| {
            let (present, away) = ip.parse().map(|ip| self.nodes_at(ip)).unwrap_or_default();
            let kind = match (present.is_empty(), has_agents, away.is_empty()) {
                (false, _, _) => GofdPlaceKind::Nodes(present),
                (true, true, _) => GofdPlaceKind::Agent,
                (true, false, false) => GofdPlaceKind::Nodes(away),
                (true, false, true) => return Err(GofdRefusal::Nobody(ip.clone())),
            };
            Ok((ip.clone(), kind))
        });
        places.collect()
    }

    /// The nodes at an address that are there and take files, and those that are away.
    fn nodes_at(&self, ip: IpAddr) -> (BTreeSet<String>, BTreeSet<String>) {
        let ip = ip.to_canonical();
        let known = self.known();
        let without: BTreeSet<_> =
            self.registry().without_files(self.clock.now()).map(str::to_owned).collect();
        let is_there = |address: &str| {
            let socket = address.parse().ok().map(|address: SocketAddr| address.ip());
            socket.is_some_and(|address| address.to_canonical() == ip)
        };
        let at = known.iter().filter(|node| {
            (node.client.to_canonical() == ip || is_there(&node.address))
                && !without.contains(&node.id)
        });
        let (present, away): (Vec<_>, Vec<_>) = at.partition(|node| node.was_present());
        let ids = |nodes: Vec<_>| -> BTreeSet<String> {
            nodes
                .into_iter()
                .map(|node: &Arc<crate::state::fleet::KnownNode>| node.id.clone())
                .collect()
        };
        (ids(present), ids(away))
    }
}
