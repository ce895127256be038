//! Tasks as handlers and nodes see them, and the bytes of their files.

mod blobs;
mod ingest;
mod pulls;
mod root;
mod trees;
mod urls;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use edge_mirror_base::clock::UnixMillis;
use edge_mirror_http::{access::Operator, delivery::Traffic};
use edge_mirror_protocol::dispatch::{DispatchReport, NodeTaskState, TaskFile, TaskId};
use reqwest::Url;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

pub(crate) use blobs::blob_key;
use pulls::BlobPulls;
pub(super) use root::find_files;
use trees::DeliveryTrees;

use crate::{
    refusal::RequestError,
    server::Server,
    state::dispatch::{
        DeliveryProgress, DispatchNotice, DispatchProgress, DispatchRequest, DispatchTable,
        DispatchTask, RequestedFile, commands::DispatchCommand,
    },
};

/// Requests whose files are read at a time: each keeps a disk busy.
const MAX_INGESTING: usize = 2;
/// Uploads at a time; more than a browser sends together.
const MAX_UPLOADING: usize = 16;

/// Answers with many small files that are sent at a time. Each takes about half a megabyte
/// of memory.
const MAX_BUNDLES: usize = 128;

/// Options of dispatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DispatchOptions {
    /// The folder whose files can be sent by their paths.
    pub root: Option<PathBuf>,
    /// Files of URLs below these can be sent.
    pub urls: Vec<Url>,
    /// Tasks that keep nodes busy at a time.
    pub max_active: usize,
    /// Bytes of files per second to all nodes; 0: no limit.
    pub limit: u64,
}

impl Default for DispatchOptions {
    fn default() -> Self {
        Self { root: None, urls: Vec::new(), max_active: 5, limit: 0 }
    }
}

/// The task that a request for one has come to.
#[derive(Debug)]
pub(crate) enum RequestedTask {
    Created(Arc<DispatchTask>),
    /// A request with the same key and content came before.
    Repeated(Arc<DispatchTask>),
}

impl RequestedTask {
    pub(crate) fn task(&self) -> &Arc<DispatchTask> {
        let (Self::Created(task) | Self::Repeated(task)) = self;
        task
    }
}

#[derive(Debug)]
pub(crate) struct DispatchService {
    table: ArcSwap<DispatchTable>,
    /// Changes with what nodes are told.
    notice: watch::Sender<Arc<DispatchNotice>>,
    progress: Mutex<DispatchProgress>,
    pub(crate) options: DispatchOptions,
    ingesting: Semaphore,
    /// Permits of uploads.
    pub(crate) uploading: Semaphore,
    pub(crate) pulls: BlobPulls,
    bundling: Arc<Semaphore>,
    trees: DeliveryTrees,
    /// The files that are sent to nodes, counted and limited apart from packages.
    pub(crate) traffic: Arc<Traffic>,
}

impl DispatchService {
    pub(crate) fn new(table: Arc<DispatchTable>) -> Self {
        Self {
            notice: watch::Sender::new(Arc::new(DispatchNotice::new(&table, None))),
            table: ArcSwap::new(table),
            progress: Mutex::default(),
            options: DispatchOptions::default(),
            ingesting: Semaphore::new(MAX_INGESTING),
            uploading: Semaphore::new(MAX_UPLOADING),
            pulls: BlobPulls::default(),
            bundling: Arc::new(Semaphore::new(MAX_BUNDLES)),
            trees: DeliveryTrees::default(),
            traffic: Arc::new(Traffic::for_nodes()),
        }
    }

    pub(crate) fn table(&self) -> Arc<DispatchTable> {
        self.table.load_full()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<DispatchNotice>> {
        self.notice.subscribe()
    }

    /// Permit to send many small files, for as long as that takes.
    pub(crate) fn bundle_permit(&self) -> Result<OwnedSemaphorePermit, RequestError> {
        let permit = self.bundling.clone().try_acquire_owned();
        permit.map_err(|_| RequestError::TooManyBundles)
    }

    pub(crate) fn progress(&self) -> MutexGuard<'_, DispatchProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Shows saved tasks.
    pub(super) fn apply_dispatch(&self, table: Arc<DispatchTable>) {
        let service = &self.dispatch;
        if Arc::ptr_eq(&table, &service.table.load()) {
            return;
        }
        let notice = DispatchNotice::new(&table, Some(&service.notice.borrow()));
        service.progress().retain_open(&table);
        service.table.store(table);
        service.notice.send_if_modified(|told| {
            let changed = **told != notice;
            if changed {
                *told = Arc::new(notice);
            }
            changed
        });
        self.wake.dispatch.notify_one();
    }

    /// Creates a task, unless its sender has done so before; it is on disk when this returns.
    pub(crate) async fn create_task(
        self: &Arc<Self>,
        request: DispatchRequest,
        by: &Operator,
    ) -> Result<RequestedTask, RequestError> {
        let key = request.sender_key();
        let with_key = || match &key {
            Some(key) => self.dispatch.table().with_key(key).map(Option::<&Arc<_>>::cloned),
            None => Ok(None),
        };
        if let Some(task) = with_key()? {
            return Ok(RequestedTask::Repeated(task));
        }
        let resolve = || {
            let audience = self.resolve_nodes(&request.to);
            audience.map_err(|error| RequestError::Invalid(error.to_string()))
        };
        request.deadline(UnixMillis::now()).map_err(RequestError::Invalid)?;
        resolve()?;
        let files = self.ingest(&request.files).await?;
        // Large files take a while: time and nodes are those of now.
        let now = UnixMillis::now();
        let deadline = request.deadline(now).map_err(RequestError::Invalid)?;
        let audience = resolve()?;
        let new = request
            .into_task(fresh_id(now), files, audience, by.into(), (now, deadline))
            .map_err(RequestError::Invalid)?;
        let (task, files) = (Arc::new(new.task), new.files);
        let command = DispatchCommand::Create { task: task.clone(), files };
        self.change_by(by, command).await?;
        // A request with its key may have been faster.
        Ok(match with_key()?.filter(|first| first.id != task.id) {
            Some(first) => RequestedTask::Repeated(first),
            None => RequestedTask::Created(task),
        })
    }

    /// Takes files below the root in, which keeps them for a day at least, and returns them
    /// with the paths as names.
    pub(crate) async fn take_paths(
        self: &Arc<Self>,
        paths: Vec<String>,
    ) -> Result<Vec<TaskFile>, RequestError> {
        let files: Vec<_> = paths.into_iter().map(RequestedFile::at_path).collect();
        self.ingest(&files).await
    }

    /// Cancels a task, or has the files of a finished one removed.
    pub(crate) async fn cancel_task(
        &self,
        id: &TaskId,
        by: &Operator,
    ) -> Result<Arc<DispatchTask>, RequestError> {
        let command = DispatchCommand::Cancel { id: id.clone(), at: UnixMillis::now() };
        self.change_by(by, command).await?;
        self.dispatch.table().get(id).cloned()
    }

    /// Has nodes that failed try again, and returns the task in which they do.
    pub(crate) async fn retry_task(
        &self,
        id: &TaskId,
        by: &Operator,
    ) -> Result<Arc<DispatchTask>, RequestError> {
        let table = self.dispatch.table();
        let task = table.get(id)?;
        if task.phase.is_finished() && task.removal.is_none() {
            self.check_blobs_for_retry(id).await?;
        }
        let at = UnixMillis::now();
        let (id, new_id) = (id.clone(), fresh_id(at));
        let command =
            DispatchCommand::Retry { id: id.clone(), new_id: new_id.clone(), by: by.into(), at };
        self.change_by(by, command).await?;
        let table = self.dispatch.table();
        table.find(&new_id).map_or_else(|| table.get(&id), Ok).cloned()
    }

    /// Takes a node's report. Outcomes are on disk when this returns.
    pub(crate) async fn note_report(
        &self,
        node_id: &str,
        report: DispatchReport,
    ) -> Result<(), RequestError> {
        let at = UnixMillis::now();
        let table = self.dispatch.table();
        let mut reports = report.tasks;
        reports.retain(|report| table.find(&report.id).is_some_and(|task| task.is_for(node_id)));
        {
            let mut progress = self.dispatch.progress();
            for report in reports.iter().filter(|report| report.state == NodeTaskState::Pulling) {
                let now = DeliveryProgress {
                    attempt: report.attempt,
                    done_files: report.done_files,
                    done_bytes: report.done_bytes,
                    // Nodes of earlier versions don't say it.
                    received_bytes: report.received_bytes.max(report.done_bytes),
                    at,
                };
                progress.note(&report.id, node_id, now);
            }
        }
        reports.retain(|report| report.state != NodeTaskState::Pulling);
        if reports.is_empty() {
            return Ok(());
        }
        self.change(DispatchCommand::Report { node_id: node_id.to_owned(), reports, at }).await
    }
}

/// Ids sort by the time of their creation.
fn fresh_id(now: UnixMillis) -> TaskId {
    let text = format!("{:011x}-{:06x}", now.as_millis(), fastrand::u32(..1 << 24));
    text.parse().expect("hexadecimal digits and a hyphen")
}
