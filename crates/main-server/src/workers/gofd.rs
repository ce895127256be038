//! Carries tasks of GoFD's clients out: has our nodes get the files by dispatch, and GoFD's
//! agents by their own protocol.

mod agents;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use edge_mirror_gofd::GofdStatus;
use edge_mirror_http::access::{AuthMethod, Operator};
use edge_mirror_protocol::dispatch::{TaskFile, TaskId};
use futures_util::{StreamExt, stream::FuturesUnordered};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::agents::AgentDelivery;
use crate::{
    refusal::RequestError,
    server::{GofdGateway, Server},
    state::{
        dispatch::{DispatchRequest, DispatchTask, NodeOutcome},
        gofd::{GofdJob, GofdPlaceKind, PlaceReport},
    },
};

/// Interval of looking how far nodes are, and for silent agents.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Tasks under way at a time: the queue of nodes is that of dispatch, and agents have
/// their own.
const MAX_RUNS: usize = 20;
/// Nodes can get a task for this time.
const NODE_LIFETIME_S: u64 = 24 * 3600;

/// Runs tasks as they are posted.
pub(crate) async fn keep_gofd(
    server: Arc<Server>,
    gateway: Arc<GofdGateway>,
    stop: CancellationToken,
) {
    let work = async {
        let mut runs = FuturesUnordered::new();
        loop {
            let room = MAX_RUNS - runs.len();
            let due = gateway.look(|table, _| table.take_due(room));
            runs.extend(due.into_iter().map(|job| run_task(&server, &gateway, job)));
            tokio::select! {
                () = gateway.posted.notified() => {}
                Some(()) = runs.next() => {}
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

async fn run_task(server: &Arc<Server>, gateway: &Arc<GofdGateway>, job: GofdJob) {
    let id = job.request.id.clone();
    info!("task {id:?} of a client of GoFD begins for {} addresses", job.places.len());
    gateway.change(|table, _| table.begin(&id, job.run));
    let mut run = GofdRun { server, gateway, job, core: None };
    if let Err((status, cause)) = run.deliver().await {
        warn!("task {id:?} of a client of GoFD has failed: {cause}");
        gateway.change(|table, now| table.fail(&id, run.job.run, status, now));
    }
    gateway.look(|table, _| table.release(&id));
    let status = gateway.look(|table, now| table.shown(&id, now)).map(|shown| shown.status);
    info!("task {id:?} of a client of GoFD is over: {status:?}");
}

/// One run of a task.
struct GofdRun<'a> {
    server: &'a Arc<Server>,
    gateway: &'a Arc<GofdGateway>,
    job: GofdJob,
    /// The nodes' part of it.
    core: Option<TaskId>,
}

impl GofdRun<'_> {
    /// Delivers until all destinations have an outcome, or it was cancelled.
    async fn deliver(&mut self) -> Result<(), (GofdStatus, String)> {
        let failed = |cause: String| (GofdStatus::Failed, cause);
        let paths = self.server.gofd_paths(&self.job.request);
        let (_, paths) = paths.map_err(|error| failed(error.to_string()))?;
        let files = match self.server.take_paths(paths).await {
            Ok(files) => files,
            Err(error) => {
                // It was there a moment ago.
                let are_there = self.server.has_gofd_files(&self.job.request).await;
                let status = match are_there {
                    Ok(false) => GofdStatus::FileNotExisted,
                    Ok(true) | Err(_) => GofdStatus::Failed,
                };
                return Err((status, error.to_string()));
            }
        };
        let agents = AgentDelivery::prepare(self.server, self.gateway, &self.job, &files);
        let agents = agents.await.map_err(failed)?;
        let created = match self.is_current() {
            true => self.create_core_task(&files).await,
            false => Ok(()),
        };
        if created.is_ok() {
            self.follow(agents.as_ref()).await;
        }
        if let Some(agents) = agents {
            agents.end().await;
        }
        self.cancel_core_task().await;
        created.map_err(|error| failed(error.to_string()))
    }

    /// Has agents begin, and follows all destinations until each has an outcome.
    async fn follow(&self, agents: Option<&AgentDelivery>) {
        if let Some(agents) = agents {
            agents.begin().await;
        }
        let mut changed = self.gateway.subscribe();
        while self.is_current() {
            self.follow_nodes();
            if let Some(agents) = agents {
                agents.wake_silent().await;
            }
            let _ = tokio::time::timeout(LOOK_EVERY, changed.changed()).await;
        }
    }

    fn is_current(&self) -> bool {
        let (id, run) = (&self.job.request.id, self.job.run);
        self.gateway.look(|table, _| table.places(id, run).is_some())
    }

    fn nodes(&self) -> impl Iterator<Item = (&String, &BTreeSet<String>)> {
        self.job.places.iter().filter_map(|(ip, kind)| match kind {
            GofdPlaceKind::Nodes(nodes) => Some((ip, nodes)),
            GofdPlaceKind::Agent => None,
        })
    }

    /// Creates a task of dispatch for the nodes, if there are any.
    async fn create_core_task(&mut self, files: &[TaskFile]) -> Result<(), RequestError> {
        let nodes: BTreeSet<_> = self.nodes().flat_map(|(_, nodes)| nodes).collect();
        if nodes.is_empty() {
            return Ok(());
        }
        let file = |file: &TaskFile| json!({"name": file.name, "sha256": file.sha256});
        let fields = json!({
            "title": format!("GoFD {}", self.job.request.id),
            "files": files.iter().map(file).collect::<Vec<_>>(),
            "to": {"nodes": nodes},
            // GoFD waits for nobody.
            "absent": "skip",
            "expires_in_s": NODE_LIFETIME_S,
        });
        let fields: Map<String, Value> = serde_json::from_value(fields).unwrap_or_default();
        let request = DispatchRequest::read(fields).map_err(RequestError::Invalid)?;
        let created = self.server.create_task(request, &self.operator()).await?;
        self.core = Some(created.task().id.clone());
        Ok(())
    }

    /// The client that posted the task has proved that it knows the password.
    fn operator(&self) -> Operator {
        Operator { address: self.job.by, how: AuthMethod::Gofd }
    }

    /// Notes how far the nodes are.
    fn follow_nodes(&self) {
        let Some(id) = &self.core else { return };
        let table = self.server.dispatch.table();
        let task = table.find(id);
        let progress = self.server.dispatch.progress().of_task(id);
        let done = |node: &String| progress.get(node).map_or(0, |progress| progress.done_bytes);
        let report = |nodes| match task {
            Some(task) => report_of(task, nodes, done),
            // It made room for others.
            None => Some(PlaceReport::Failed),
        };
        let reports = self.nodes().filter_map(|(ip, nodes)| Some((ip, report(nodes)?)));
        let reports: BTreeMap<_, _> = reports.collect();
        let (id, run) = (&self.job.request.id, self.job.run);
        let is_news = self.gateway.look(|table, now| {
            reports
                .iter()
                .fold(false, |any, (ip, report)| table.note(id, run, ip, *report, now) || any)
        });
        if is_news {
            self.gateway.change(|_, _| ());
        }
    }

    /// Ends the nodes' part of a task that was cancelled. One that is over stays as it is.
    async fn cancel_core_task(&self) {
        let Some(id) = &self.core else { return };
        let table = self.server.dispatch.table();
        if table.find(id).is_none_or(|task| task.phase.is_finished()) {
            return;
        }
        // Each node has an outcome, and the task ends by itself in a moment.
        let is_done =
            |node: &String| table.find(id).is_some_and(|task| task.outcome(node).is_some());
        if self.nodes().flat_map(|(_, nodes)| nodes).all(is_done) {
            return;
        }
        if let Err(error) = self.server.cancel_task(id, &self.operator()).await {
            warn!("task {id}, the nodes' part of a cancelled one of GoFD, goes on: {error}");
        }
    }
}

/// The state of the nodes at one address together; None before the task has begun.
fn report_of(
    task: &DispatchTask,
    nodes: &BTreeSet<String>,
    done_bytes: impl Fn(&String) -> u64,
) -> Option<PlaceReport> {
    let outcomes: Vec<_> = nodes.iter().map(|node| task.outcome(node)).collect();
    if outcomes.iter().all(|outcome| *outcome == Some(NodeOutcome::Done)) {
        return Some(PlaceReport::Completed);
    }
    if outcomes.iter().all(Option::is_some) {
        return Some(PlaceReport::Failed);
    }
    task.started_at?;
    let bytes = |node: &String| match task.outcome(node) {
        Some(_) => task.bytes,
        None => done_bytes(node),
    };
    let done = nodes.iter().map(bytes).min().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    let percent = done as f32 * 100.0 / task.bytes.max(1) as f32;
    // 100 means that all is verified, which an outcome says.
    Some(PlaceReport::Progress(percent.clamp(0.0, 99.9)))
}
