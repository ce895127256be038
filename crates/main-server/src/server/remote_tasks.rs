//! Remote tasks as handlers and the scheduler see them.

mod exchange;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use arc_swap::ArcSwap;
use edge_mirror_base::{clock::UnixMillis, tasks};
use edge_mirror_http::access::Operator;
use edge_mirror_protocol::{
    package::PackageId,
    remote_tasks::{LEASE, ParameterSummary, RemoteTaskId, TaskTypeSummary},
};
use tokio::sync::{Semaphore, watch};

use crate::{
    refusal::RequestError,
    server::Server,
    state::{
        destinations::Audience,
        remote_tasks::{
            LOCAL_NODE, RemoteTaskRequest, RemoteTaskTable, Schedule, SessionTable, TaskEntry,
            WorkSpeeds, WorkerNode, commands::RemoteTaskCommand, schedule, with_runs,
        },
    },
};

/// Programs and pages that follow tasks at a time.
const MAX_FOLLOWERS: usize = 256;
/// Runs on this machine at a time.
const MAX_LOCAL_RUNS: u32 = 4;
/// Types that a refusal lists.
const MAX_LISTED: usize = 20;

#[derive(Debug)]
pub(crate) struct RemoteTaskService {
    table: ArcSwap<RemoteTaskTable>,
    /// Tells those who follow tasks that some have changed.
    changed: watch::Sender<()>,
    sessions: Mutex<SessionTable>,
    /// Rung when a node may have something else to do, by node.
    bells: Mutex<HashMap<Arc<str>, watch::Sender<()>>>,
    speeds: Mutex<WorkSpeeds>,
    /// The start of this program, and the types that it runs itself, where it may.
    local: OnceLock<LocalOffer>,
    /// Permits of those who follow tasks.
    pub(crate) following: Arc<Semaphore>,
}

/// The remote tasks that the main server itself runs.
#[derive(Debug)]
struct LocalOffer {
    boot: Arc<str>,
    types: Arc<[TaskTypeSummary]>,
}

impl RemoteTaskService {
    pub(crate) fn new(table: Arc<RemoteTaskTable>) -> Self {
        Self {
            table: ArcSwap::new(table),
            changed: watch::Sender::new(()),
            sessions: Mutex::default(),
            bells: Mutex::default(),
            speeds: Mutex::default(),
            local: OnceLock::new(),
            following: Arc::new(Semaphore::new(MAX_FOLLOWERS)),
        }
    }

    pub(crate) fn table(&self) -> Arc<RemoteTaskTable> {
        self.table.load_full()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(crate) fn sessions(&self) -> MutexGuard<'_, SessionTable> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn speeds(&self) -> MutexGuard<'_, WorkSpeeds> {
        self.speeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bells(&self) -> MutexGuard<'_, HashMap<Arc<str>, watch::Sender<()>>> {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has tasks of these types run on this machine, where no node offers them.
    pub(crate) fn run_here(&self, types: Vec<TaskTypeSummary>) {
        let boot = format!("{:016x}", fastrand::u64(..)).into();
        // It is called once.
        let _ = self.local.set(LocalOffer { boot, types: types.into() });
    }

    /// The start of the program; None unless it runs tasks itself.
    pub(crate) fn local_boot(&self) -> Option<Arc<str>> {
        self.local.get().map(|local| local.boot.clone())
    }

    fn local_worker(&self) -> Option<WorkerNode> {
        let LocalOffer { boot, types } = self.local.get()?;
        Some(WorkerNode {
            id: LOCAL_NODE.into(),
            boot: boot.clone(),
            places: MAX_LOCAL_RUNS,
            running: 0,
            type_runs: BTreeMap::new(),
            types: types.clone(),
            cpu: None,
            memory: None,
            asks: true,
            drained: false,
            sick: false,
        })
    }

    /// Ends a call of the node that is held, and returns the bell for the next one.
    pub(crate) fn take_bell(&self, node_id: &str) -> watch::Receiver<()> {
        let mut bells = self.bells();
        let bell = bells.entry(node_id.into()).or_insert_with(|| watch::Sender::new(()));
        bell.send_replace(());
        bell.subscribe()
    }

    /// The nodes that go on with runs that they were told to stop, and with how many.
    pub(crate) fn stubborn_nodes(&self, now: UnixMillis) -> Vec<(String, usize)> {
        let sessions = self.sessions();
        let counts = sessions
            .iter()
            .map(|(node, session)| (node.to_string(), session.stubborn(now).count()));
        let mut stubborn: Vec<_> = counts.filter(|(_, count)| *count > 0).collect();
        stubborn.sort_unstable();
        stubborn
    }

    /// Forgets nodes that stay away.
    pub(crate) fn forget_old_sessions(&self, now: UnixMillis) {
        let mut sessions = self.sessions();
        sessions.retain_recent(now);
        self.bells().retain(|node, _| **node == *LOCAL_NODE || sessions.get(node).is_some());
    }
}

impl Server {
    /// Shows saved tasks, and tells nodes of what is theirs.
    pub(super) fn apply_remote_tasks(&self, table: Arc<RemoteTaskTable>) {
        let service = &self.remote_tasks;
        let before = service.table.load_full();
        if Arc::ptr_eq(&table, &before) {
            return;
        }
        service.table.store(table.clone());
        {
            let bells = service.bells();
            let is_changed = |node: &str| match (before.runs_of(node), table.runs_of(node)) {
                (Some(before), Some(now)) => !Arc::ptr_eq(before, now),
                (before, now) => before.is_some() || now.is_some(),
            };
            for (_, bell) in bells.iter().filter(|(node, _)| is_changed(node)) {
                bell.send_replace(());
            }
        }
        service.changed.send_replace(());
        self.wake.remote_tasks.notify_one();
    }

    /// Creates a task, or finds the one of its key; it is on disk when this returns. True if
    /// it is new.
    pub(crate) async fn create_remote_task(
        &self,
        request: RemoteTaskRequest,
        by: &Operator,
    ) -> Result<(Arc<TaskEntry>, bool), RequestError> {
        let now = UnixMillis::now();
        let (id, key) = (fresh_id(now), request.key.clone());
        if let Some(known) = self.known_task(&request)? {
            return Ok((known, false));
        }
        self.check_offered(&request)?;
        let audience = match &request.to {
            Some(to) => {
                let audience = self.resolve_nodes(to);
                Some(audience.map_err(|error| RequestError::Invalid(error.to_string()))?)
            }
            None => None,
        };
        check_audience(audience.as_ref())?;
        let known = self.known();
        let everybody = || known.iter().map(|node| node.id.clone()).collect();
        let task = request.into_task(id.clone(), audience, everybody, by.into(), now);
        let task = task.map_err(RequestError::Invalid)?;
        self.change_by(by, RemoteTaskCommand::Create(Arc::new(task))).await?;
        let table = self.remote_tasks.table();
        let entry = key.and_then(|key| table.by_key(&key)).map_or_else(|| table.get(&id), Ok)?;
        Ok((entry.clone(), entry.task.id == id))
    }

    /// The task that a request with a key has created before.
    fn known_task(
        &self,
        request: &RemoteTaskRequest,
    ) -> Result<Option<Arc<TaskEntry>>, RequestError> {
        let Some(key) = &request.key else { return Ok(None) };
        let table = self.remote_tasks.table();
        match table.by_key(key) {
            Some(known) if request.is_of(&known.task) => Ok(Some(known.clone())),
            Some(_) => Err(RequestError::OtherRemoteTask(key.clone())),
            None => Ok(None),
        }
    }

    /// Refuses a type that no node offers, and parameters that the type does not have. The
    /// node checks their values.
    fn check_offered(&self, request: &RemoteTaskRequest) -> Result<(), RequestError> {
        let sessions = self.remote_tasks.sessions();
        let local = self.remote_tasks.local.get();
        let here = || local.iter().flat_map(|local| local.types.iter());
        let all = || sessions.iter().flat_map(|(_, session)| session.types()).chain(here());
        let offered: Vec<_> = all().filter(|offered| offered.name == request.task_type).collect();
        if offered.is_empty() {
            // Nodes say what they offer within seconds of a start; or to another main server.
            if !self.remote_tasks_are_settled() || self.unshared.is_some() {
                return Ok(());
            }
            let mut names: Vec<_> = all().map(|offered| offered.name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            names.truncate(MAX_LISTED);
            let (name, names) = (&request.task_type, names.join(", "));
            return Err(RequestError::Invalid(format!(
                "没有节点提供类型 {name}（现有：{names}） / no node offers the type {name} (offered: {names})"
            )));
        }
        let refusals = offered.iter().map(|offered| refused_parameter(request, offered));
        match refusals.collect::<Option<Vec<_>>>().and_then(|refusals| refusals.into_iter().next())
        {
            Some(refusal) => Err(RequestError::Invalid(refusal)),
            None => Ok(()),
        }
    }

    /// True once nodes that are there must have called since the start.
    pub(crate) fn remote_tasks_are_settled(&self) -> bool {
        self.clock.now().saturating_since(self.started_at) >= LEASE
    }

    pub(crate) async fn cancel_remote_task(
        &self,
        id: &RemoteTaskId,
        by: &Operator,
    ) -> Result<Arc<TaskEntry>, RequestError> {
        let command = RemoteTaskCommand::Cancel { id: id.clone(), at: UnixMillis::now() };
        self.change_by(by, command).await?;
        self.remote_tasks.table().get(id).cloned()
    }

    /// Has what failed of a finished task done again, and returns the task that does.
    pub(crate) async fn retry_remote_task(
        &self,
        id: &RemoteTaskId,
        by: &Operator,
    ) -> Result<Arc<TaskEntry>, RequestError> {
        let at = UnixMillis::now();
        let (id, new_id, old_id) = (id.clone(), fresh_id(at), id.clone());
        let command = RemoteTaskCommand::Retry { id, new_id: new_id.clone(), by: by.into(), at };
        self.change_by(by, command).await?;
        let table = self.remote_tasks.table();
        // It may be under way already.
        let again = |entry: &&Arc<TaskEntry>| entry.task.retry_of.as_ref() == Some(&old_id);
        table
            .find(&new_id)
            .or_else(|| table.open().find(again))
            .map_or_else(|| table.get(&new_id), Ok)
            .cloned()
    }

    /// Returns who gets which parts now.
    pub(crate) async fn plan_runs(self: &Arc<Self>) -> Schedule {
        let server = self.clone();
        let plan = move || {
            let table = server.remote_tasks.table();
            let nodes = with_runs(&table, server.worker_nodes());
            let holds = |node: &str, package: &str| server.node_has(node, package);
            let speeds = server.remote_tasks.speeds().clone();
            let may_give_up = server.remote_tasks_are_settled();
            schedule(&table, nodes, (&holds, &speeds), may_give_up, UnixMillis::now())
        };
        tasks::blocking(plan).await
    }

    /// The nodes that ask for work, without what is given to them.
    pub(crate) fn worker_nodes(&self) -> Vec<WorkerNode> {
        let mut workers = self.remote_tasks.sessions().workers(self.clock.now());
        let (known, registry) = (self.known(), self.registry());
        workers.retain(|worker| known.get(&worker.id).is_some());
        for worker in &mut workers {
            let machine = registry.machine(&worker.id);
            worker.cpu = machine.map(|(cpu, _)| cpu);
            worker.memory = machine.map(|(_, memory)| memory);
            worker.drained = known.is_drained(&worker.id);
        }
        workers.extend(self.remote_tasks.local_worker());
        workers
    }

    /// True if a node has the current package of a meeting.
    pub(crate) fn node_has(&self, node_id: &str, package: &str) -> bool {
        let Ok(id) = package.parse::<PackageId>() else { return false };
        let Some(current) = self.digest(&id) else { return false };
        self.registry().has_package(node_id, &id, current)
    }
}

fn check_audience(audience: Option<&Audience>) -> Result<(), RequestError> {
    match audience {
        Some(Audience::Nodes(nodes)) if nodes.is_empty() => {
            Err(RequestError::invalid("没有这样的节点 / no node is meant"))
        }
        _ => Ok(()),
    }
}

/// The parameter that a type does not have or needs; None if all is well.
fn refused_parameter(request: &RemoteTaskRequest, offered: &TaskTypeSummary) -> Option<String> {
    let name = &offered.name;
    let is_known = |given: &str| offered.parameters.iter().any(|known| known.name == given);
    if let Some(given) = request.parameters.keys().find(|given| !is_known(given)) {
        return Some(format!(
            "类型 {name} 没有参数 {given} / the type {name} has no parameter {given}"
        ));
    }
    let is_missing =
        |known: &&ParameterSummary| known.required && !request.parameters.contains_key(&known.name);
    let missing = &offered.parameters.iter().find(is_missing)?.name;
    Some(format!("类型 {name} 需要参数 {missing} / the type {name} needs the parameter {missing}"))
}

/// Ids sort by the time of their creation.
fn fresh_id(now: UnixMillis) -> RemoteTaskId {
    let text = format!("{:011x}-{:08x}", now.as_millis(), fastrand::u32(..));
    text.parse().expect("hexadecimal digits and a hyphen")
}
