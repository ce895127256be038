//! Does what the main server's list says, one task after the other.

use std::{path::PathBuf, sync::Arc, time::Duration};

use edge_mirror_base::{backoff::backoff, pacer::Pacer, tasks};
use edge_mirror_protocol::dispatch::{
    DispatchReport, NodeTask, NodeTaskState, TaskOrder, TaskReport,
};
use edge_mirror_settings::{Config, Settings};
use edge_mirror_store::Store;
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    partial::PartialTaskFile,
    progress::SharedProgress,
    pull::{TaskEnd, TaskPull},
    removal::{remove_expired, remove_task},
    source::FileParents,
    waits::TaskWaits,
};
use crate::{
    board::StatusBoard,
    fetch::Fetch,
    upstream::{Connector, Upstream, UpstreamError},
};

/// Pause where the main server lists what it was told is over, and the longest after an error.
const PAUSE: Duration = Duration::from_secs(5);
/// Pause after the first error: a node may be refused in the second in which it is accepted,
/// and a later one in the tree would get from the main server what it would have got from it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Interval of reports while files come.
const REPORT_EVERY: Duration = Duration::from_secs(2);
/// The same while none comes.
const REPEAT_EVERY: Duration = Duration::from_secs(30);
/// Interval of looks for files whose time is over.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

pub(crate) struct DispatchWorker {
    pub(crate) settings: Arc<Settings>,
    pub(crate) board: Arc<StatusBoard>,
    pub(crate) connector: Arc<Connector>,
    pub(crate) fetch: Fetch,
}

/// The state of the worker from one task to the next.
#[derive(Default)]
struct WorkerState {
    partial: PartialTaskFile,
    progress: SharedProgress,
    /// The order that was reported last.
    settled: Option<NodeTask>,
    waits: TaskWaits,
    commits: Arc<Mutex<()>>,
    /// Calls in a row that the main server has not answered, or not with what was asked for.
    failures: u32,
}

/// Runs until `end`.
pub(crate) async fn run(worker: DispatchWorker, end: CancellationToken) {
    let expiring = async {
        let mut tick = tokio::time::interval(EXPIRE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let store = worker.board.store();
            tasks::blocking(move || remove_expired(&store)).await;
        }
    };
    let following = async {
        let mut state = WorkerState::default();
        loop {
            worker.round(&mut state).await;
        }
    };
    let work = async { tokio::join!(expiring, following) };
    end.run_until_cancelled(work).await;
}

impl DispatchWorker {
    /// Waits until there is something to do, and does the first thing.
    async fn round(&self, state: &mut WorkerState) {
        let version = self.wait_for_work().await;
        let config = self.settings.current();
        let upstream = self.connector.upstream(&config);
        let list = match upstream.task_list(&config.node_id, request_limit(&config)).await {
            Ok(list) => list,
            Err(error) => {
                debug!("the list of tasks can't be asked for: {error}");
                return self.pause_after_failure(state, &version).await;
            }
        };
        state.waits.retain_listed(&list);
        let is_empty = list.tasks.is_empty();
        let Some(task) = state.waits.choose(list, Instant::now()) else {
            if !is_empty {
                return self.pause(&version).await;
            }
            state.partial.clear(&self.fetch);
            state.failures = 0;
            // Nothing more until there is another list.
            return self.wait_for_news(&version).await;
        };
        if state.settled.as_ref() == Some(&task) {
            self.pause(&version).await;
        }
        let report = match task.order {
            TaskOrder::Remove => self.remove(&task, state).await,
            TaskOrder::Deliver => self.deliver(&task, &config, &upstream, state).await,
        };
        // Others need not wait with it.
        if state.waits.is_waiting(&task, Instant::now()) {
            return;
        }
        // Where there is another list already, this is no pause.
        let Some(report) = report else { return self.pause(&version).await };
        if self.report(report, &config, &upstream).await.is_ok() {
            state.settled = Some(task);
            state.failures = 0;
        } else {
            self.pause_after_failure(state, &version).await;
        }
    }

    /// Waits until files are taken and the main server has a list for this node.
    async fn wait_for_work(&self) -> Option<String> {
        let (mut settings, mut running) =
            (self.settings.subscribe(), self.board.running.subscribe());
        let mut dispatch = self.board.dispatch.subscribe();
        loop {
            let is_enabled = settings.borrow_and_update().dispatch.enabled;
            let is_running = *running.borrow_and_update();
            let version = dispatch.borrow_and_update().clone();
            if is_enabled && is_running && version.is_some() {
                return version;
            }
            tokio::select! {
                _ = settings.changed() => {}
                _ = running.changed() => {}
                _ = dispatch.changed() => {}
            }
        }
    }

    /// Waits until the list is another one, or nothing is to be done any more.
    async fn wait_for_news(&self, version: &Option<String>) {
        let (mut settings, mut running) =
            (self.settings.subscribe(), self.board.running.subscribe());
        let mut dispatch = self.board.dispatch.subscribe();
        tokio::select! {
            _ = dispatch.wait_for(|now| now != version) => {}
            _ = settings.wait_for(|now| !now.dispatch.enabled) => {}
            _ = running.wait_for(|running| !running) => {}
        }
    }

    async fn pause(&self, version: &Option<String>) {
        let _ = tokio::time::timeout(PAUSE, self.wait_for_news(version)).await;
    }

    /// Pauses for longer with each failure, or until there is another list.
    async fn pause_after_failure(&self, state: &mut WorkerState, version: &Option<String>) {
        state.failures = state.failures.saturating_add(1);
        let pause = backoff(state.failures, FIRST_PAUSE, PAUSE, fastrand::f64());
        let _ = tokio::time::timeout(pause, self.wait_for_news(version)).await;
    }

    async fn remove(&self, task: &NodeTask, state: &WorkerState) -> Option<TaskReport> {
        state.partial.clear(&self.fetch);
        // A commit that is under way would put its file in place again.
        let _no_commit = state.commits.lock().await;
        let (store, id) = (self.board.store(), task.id.clone());
        match tasks::blocking(move || remove_task(&store, &id)).await {
            Ok(count) => {
                info!("task {} was cancelled, {count} of its files removed", task.id);
                state.progress.begin(0, 0);
                Some(state.progress.report(task, NodeTaskState::Removed))
            }
            Err(error) => {
                warn!("files of task {} could not be removed: {error}", task.id);
                tokio::time::sleep(PAUSE).await;
                None
            }
        }
    }

    /// None if something else is to be done first.
    async fn deliver(
        &self,
        task: &NodeTask,
        config: &Config,
        upstream: &Upstream,
        state: &mut WorkerState,
    ) -> Option<TaskReport> {
        let store = self.board.store();
        let began = Instant::now();
        // What one that was broken off has placed counts.
        drop(state.commits.lock().await);
        state.progress.begin(0, 0);
        let pull = TaskPull {
            fetch: &self.fetch,
            upstream,
            node_id: &config.node_id,
            store: &store,
            limit_bytes: config.storage.max_size,
            files_limit: files_limit(config, &store),
            task,
            partial: &state.partial,
            progress: &state.progress,
            drop: drop_folder(config),
            request_limit: request_limit(config),
            pacer: Pacer::with_rate(task.rate_limit.unwrap_or(0)),
            parents: FileParents::default(),
            gives_up: state.waits.has_waited_enough(task, began),
            commits: &state.commits,
        };
        let end = tokio::select! {
            end = pull.run() => end,
            () = self.report_progress(task, config, upstream, state) => return None,
            () = self.wait_for_other_order(task, config, state) => return None,
        };
        let seconds = began.elapsed().as_secs_f64();
        match end {
            TaskEnd::Gone => None,
            TaskEnd::Waiting { absent } => {
                state.waits.note(task, absent, Instant::now());
                None
            }
            TaskEnd::Done => {
                info!("task {}: {} files are here after {seconds:.1} s", task.id, task.files);
                Some(state.progress.report(task, NodeTaskState::Done))
            }
            TaskEnd::Failed => {
                warn!("task {} failed after {seconds:.1} s", task.id);
                Some(state.progress.report(task, NodeTaskState::Failed))
            }
        }
    }

    /// Reports what changes while files come; never ends.
    async fn report_progress(
        &self,
        task: &NodeTask,
        config: &Config,
        upstream: &Upstream,
        state: &WorkerState,
    ) {
        let mut tick = tokio::time::interval(REPORT_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before: Option<(TaskReport, Instant)> = None;
        loop {
            tick.tick().await;
            let (report, now) =
                (state.progress.report(task, NodeTaskState::Pulling), Instant::now());
            let is_news = |(last, at): &(TaskReport, Instant)| {
                *last != report || now.duration_since(*at) >= REPEAT_EVERY
            };
            // The next one says more.
            if before.as_ref().is_none_or(is_news)
                && self.report(report.clone(), config, upstream).await.is_ok()
            {
                before = Some((report, now));
            }
        }
    }

    /// Waits until this task is not the first thing to do any more, or the node is to be
    /// another one or at another main server.
    async fn wait_for_other_order(&self, task: &NodeTask, before: &Config, state: &WorkerState) {
        let (mut settings, mut running) =
            (self.settings.subscribe(), self.board.running.subscribe());
        let (mut dispatch, mut in_use) = (self.board.dispatch.subscribe(), self.connector.in_use());
        let mut store = self.board.store.subscribe();
        dispatch.mark_unchanged();
        in_use.mark_unchanged();
        let relevant = |config: &Config| {
            let Config { node_id, dispatch, .. } = config;
            (config.fleet().clone(), node_id.clone(), dispatch.clone())
        };
        let own = relevant(before);
        let reordered = async {
            while dispatch.changed().await.is_ok() {
                let config = self.settings.current();
                let upstream = self.connector.upstream(&config);
                let asked = upstream.task_list(&config.node_id, request_limit(&config));
                // While nobody answers, what was said before counts.
                let first = |list| state.waits.choose(list, Instant::now());
                if asked.await.is_ok_and(|list| first(list).as_ref() != Some(task)) {
                    return;
                }
            }
        };
        tokio::select! {
            () = reordered => {}
            _ = settings.wait_for(|now| relevant(now) != own) => {}
            _ = running.wait_for(|running| !running) => {}
            _ = in_use.changed() => {}
            _ = store.changed() => {}
        }
    }

    async fn report(
        &self,
        report: TaskReport,
        config: &Config,
        upstream: &Upstream,
    ) -> Result<(), UpstreamError> {
        let report = DispatchReport { tasks: vec![report] };
        let sent = upstream.report_tasks(&config.node_id, &report, request_limit(config)).await;
        if let Err(error) = &sent {
            debug!("the state of a task could not be reported: {error}");
        }
        sent
    }
}

/// Most bytes of all files. By default, as much is left to packages.
fn files_limit(config: &Config, store: &Store) -> u64 {
    config.dispatch.max_size.unwrap_or_else(|| {
        let free = store.free_bytes().unwrap_or(u64::MAX);
        config.storage.max_size.min(store.used_bytes().saturating_add(free)) / 2
    })
}

fn request_limit(config: &Config) -> Duration {
    Duration::from_secs(config.network.connection_timeout)
}

fn drop_folder(config: &Config) -> Option<(PathBuf, u32)> {
    Some((config.drop_folder()?, config.dispatch.drop_mode()))
}
