//! `/api/v1/nodes/dispatch`: the calls of nodes for files that operators send. They are for
//! accepted nodes that name themselves, as those for casts.

use std::{io, os::unix::fs::FileExt, sync::Arc};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{FromRequestParts, Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, header, request::Parts},
    response::{IntoResponse, Response},
};
use edge_mirror_base::tasks;
use edge_mirror_http::{
    delivery,
    listen::Transport,
    wire::{ApiQuery, Done, body, done},
};
use edge_mirror_protocol::{
    dispatch::{
        DispatchReport, MAX_BUNDLE_BYTES, MAX_BUNDLE_FILES, MAX_BUNDLED_BYTES, MAX_FAILED_FILES,
        MAX_REPORTED_TASKS, NodeFiles, TaskFile, TaskFiles, TaskId, TaskList,
    },
    package::Manifest,
};
use edge_mirror_store::OpenedPackage;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;

use super::node_casts::addressed_node;
use crate::{
    api::{
        json::{BODY_TIMEOUT, WrittenJson},
        path::PathTask,
    },
    refusal::RequestError,
    server::{Server, blob_key},
    state::dispatch::orders,
};

type Shared = State<Arc<Server>>;

/// A report names a hundred tasks with twenty files each at most.
const MAX_REPORT_BYTES: usize = 4 << 20;
/// Bytes that are read from the disk at a time, and so are in memory: a file, or several
/// smaller ones.
const READ_BYTES: u64 = MAX_BUNDLED_BYTES;
/// Bytes of small files that are sent at a time.
const SLICE_BYTES: usize = 16 << 10;

/// The accepted node that a request names, if it comes from there.
pub(crate) struct AcceptedNode(String);

impl AcceptedNode {
    pub(super) fn id(&self) -> &str {
        &self.0
    }
}

impl FromRequestParts<Arc<Server>> for AcceptedNode {
    type Rejection = RequestError;

    async fn from_request_parts(
        parts: &mut Parts,
        server: &Arc<Server>,
    ) -> Result<Self, RequestError> {
        // What becomes of a task at each is saved.
        addressed_node(server, parts).await.map(Self)
    }
}

#[derive(Deserialize)]
pub(crate) struct BundleQuery {
    first: usize,
    count: usize,
}

pub(crate) async fn list(State(server): Shared, AcceptedNode(node): AcceptedNode) -> WrittenJson {
    let table = server.dispatch.table();
    let version = server.dispatch.subscribe().borrow().version(&node).unwrap_or_default();
    WrittenJson::new(&TaskList { version, tasks: orders(&table, &node) })
}

pub(crate) async fn files(
    State(server): Shared,
    AcceptedNode(node): AcceptedNode,
    PathTask(id): PathTask<TaskId>,
) -> Result<WrittenJson, RequestError> {
    let files = files_for(&server, &node, &id)?.files.clone();
    let parents = server.file_parents(&id, &node);
    Ok(WrittenJson::new(&NodeFiles { files, parents }))
}

/// The bytes of one file, with ranges, as those of a package.
pub(crate) async fn file(
    State(server): Shared,
    AcceptedNode(node): AcceptedNode,
    PathTask(id): PathTask<TaskId>,
    number: Result<Path<(String, usize)>, PathRejection>,
    request: Request,
) -> Result<Response, RequestError> {
    let (asked, _) = request.into_parts();
    let files = files_for(&server, &node, &id)?;
    let file = number.ok().and_then(|Path((_, number))| files.files.get(number));
    let file = file.ok_or_else(|| RequestError::UnknownTask(id.to_string()))?;
    let opened = server.blob(file.sha256, file.size).await?;
    let name = |manifest: &Manifest| (manifest.sha256.to_string(), HeaderMap::new());
    let permit = || Ok(server.dispatch.traffic.acquire_unlimited());
    let transport = Transport::of(&asked.extensions);
    delivery::respond(&asked.method, &asked.headers, opened, name, permit, &transport)
}

/// The SHA-256 digests of a file's pieces, one after the other.
pub(crate) async fn pieces(
    State(server): Shared,
    AcceptedNode(node): AcceptedNode,
    PathTask(id): PathTask<TaskId>,
    number: Result<Path<(String, usize)>, PathRejection>,
) -> Result<Response, RequestError> {
    let files = files_for(&server, &node, &id)?;
    let file = number.ok().and_then(|Path((_, number))| files.files.get(number));
    let file = file.ok_or_else(|| RequestError::UnknownTask(id.to_string()))?;
    let opened = server.blob(file.sha256, file.size).await?;
    let digests = server.digests_of(opened).await?;
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, digests).into_response())
}

/// The bytes of small files that follow each other in the list, without anything between.
pub(crate) async fn bundle(
    State(server): Shared,
    AcceptedNode(node): AcceptedNode,
    PathTask(id): PathTask<TaskId>,
    ApiQuery(BundleQuery { first, count }): ApiQuery<BundleQuery>,
) -> Result<Response, RequestError> {
    let files = files_for(&server, &node, &id)?;
    let bundled = first.checked_add(count).and_then(|end| files.files.get(first..end));
    let fits = |files: &&[TaskFile]| {
        let bytes: u64 = files.iter().map(|file| file.size).sum();
        let is_small = |file: &TaskFile| file.size <= MAX_BUNDLED_BYTES;
        (1..=MAX_BUNDLE_FILES).contains(&files.len())
            && bytes <= MAX_BUNDLE_BYTES
            && files.iter().all(is_small)
    };
    let bundled = bundled.filter(fits).ok_or_else(|| {
        RequestError::invalid("first 和 count 不对应可以合并的文件 / first and count name no files that can be sent together")
    })?;
    server.fetch_blobs(bundled).await?;
    let permit = server.dispatch.bundle_permit()?;
    let length: u64 = bundled.iter().map(|file| file.size).sum();
    let groups = read_groups(bundled);
    let reading = server.clone();
    let read = stream::iter(groups).then(move |group| read_group(reading.clone(), group));
    let slices = read.flat_map(|bytes| stream::iter(slices(bytes)));
    let paced = slices.and_then(move |bytes| {
        let server = server.clone();
        async move {
            server.dispatch.traffic.throttle(bytes.len()).await;
            Ok(bytes)
        }
    });
    let bytes = paced.inspect_ok(move |_| {
        let _held = &permit;
    });
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((headers, Body::from_stream(bytes)).into_response())
}

/// Divides bytes into what is sent at a time: within a low limit, something has to come now
/// and then.
fn slices(bytes: io::Result<Bytes>) -> Vec<io::Result<Bytes>> {
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(error) => return vec![Err(error)],
    };
    let starts = (0..bytes.len()).step_by(SLICE_BYTES);
    starts.map(|at| Ok(bytes.slice(at..bytes.len().min(at + SLICE_BYTES)))).collect()
}

/// Divides files into those that are read together.
fn read_groups(files: &[TaskFile]) -> Vec<Vec<TaskFile>> {
    let mut groups: Vec<Vec<TaskFile>> = Vec::new();
    let mut room = 0;
    for file in files {
        match groups.last_mut().filter(|_| file.size <= room) {
            Some(group) => group.push(file.clone()),
            None => {
                groups.push(vec![file.clone()]);
                room = READ_BYTES;
            }
        }
        room -= file.size.min(room);
    }
    groups
}

async fn read_group(server: Arc<Server>, files: Vec<TaskFile>) -> io::Result<Bytes> {
    tasks::blocking_limited(move || {
        let size: u64 = files.iter().map(|file| file.size).sum();
        let mut bytes = Vec::with_capacity(usize::try_from(size).map_err(io::Error::other)?);
        for file in files {
            let opened = server.store.open_package(blob_key(file.sha256));
            let opened = opened.map_err(io::Error::other)?;
            let gone = || io::Error::other("a file was removed meanwhile");
            let (stored, opened): OpenedPackage = opened.ok_or_else(gone)?;
            let (at, size) = (bytes.len(), stored.manifest.size_bytes);
            bytes.resize(at + usize::try_from(size).map_err(io::Error::other)?, 0);
            opened.file().read_exact_at(&mut bytes[at..], 0)?;
        }
        Ok(bytes.into())
    })
    .await
}

pub(crate) async fn report(
    State(server): Shared,
    AcceptedNode(node): AcceptedNode,
    body: Body,
) -> Result<Json<Done>, RequestError> {
    let bytes = body::read(body, MAX_REPORT_BYTES, BODY_TIMEOUT).await?;
    let mut report: DispatchReport = serde_json::from_slice(&bytes).map_err(|error| {
        RequestError::Invalid(format!("报告格式错误 / the report is malformed: {error}"))
    })?;
    report.tasks.truncate(MAX_REPORTED_TASKS);
    for task in &mut report.tasks {
        task.failed.truncate(MAX_FAILED_FILES);
        for failed in &mut task.failed {
            *failed = edge_mirror_protocol::dispatch::FailedFile::new(&failed.name, &failed.reason);
        }
    }
    server.note_report(&node, report).await?;
    Ok(done("已记录 / noted"))
}

/// The files of a task that the node is to have.
fn files_for(server: &Server, node: &str, id: &TaskId) -> Result<Arc<TaskFiles>, RequestError> {
    let unknown = || RequestError::UnknownTask(id.to_string());
    let table = server.dispatch.table();
    let task = table.find(id).filter(|task| task.may_have_files(node) && task.removal.is_none());
    task.and_then(|task| table.files(&task.id)).cloned().ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use edge_mirror_protocol::package::Sha256;

    use super::*;

    #[test]
    fn no_more_is_read_at_a_time_than_the_largest_file_has() {
        let file = |size| TaskFile { name: String::new(), size, sha256: Sha256::new([0; 32]) };
        let sizes = |groups: &[Vec<TaskFile>]| -> Vec<u64> {
            groups.iter().map(|group| group.iter().map(|file| file.size).sum()).collect()
        };
        let half = READ_BYTES / 2;
        for (of, expected) in [
            (vec![READ_BYTES; 3], vec![READ_BYTES; 3]),
            (vec![half, half, half, 1, 0], vec![READ_BYTES, half + 1]),
            (vec![half + 1, half, 0], vec![half + 1, half]),
            (vec![0, 0, 1], vec![1]),
        ] {
            let files: Vec<_> = of.into_iter().map(file).collect();
            let groups = read_groups(&files);
            assert_eq!(sizes(&groups), expected);
            assert_eq!(groups.concat(), files);
        }
    }
}
