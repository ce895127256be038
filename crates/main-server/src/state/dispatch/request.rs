//! Reads what operators send, and refuses what can't be dispatched.

use std::{sync::Arc, time::Duration};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::{
    dispatch::{
        MAX_FILES, MAX_LIST_BYTES, TaskFile, TaskFiles, TaskId, check_file_name, check_file_names,
    },
    package::Sha256,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    AbsentNodes, DispatchPriority, DispatchTask, FileAccess, FileRetention, SenderKey, TaskPhase,
};
use crate::state::{
    audit::AuditedOperator,
    destinations::{Audience, Destinations},
    fingerprint::fingerprint,
};

const MAX_TITLE: usize = 200;
const MAX_KEY: usize = 200;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Nodes that are away can get a task for this time if its sender does not say how long.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
const MAX_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// Nodes keep files for this time after the deadline if their sender does not say.
const DEFAULT_RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// A slower task would hardly end.
const MIN_RATE: u64 = 1 << 10;
/// Bytes of a file in a list beside its name, at most.
const FILE_BYTES: usize = 160;

/// A task as its sender writes it.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NewDispatch"))]
#[serde(deny_unknown_fields)]
pub(crate) struct DispatchRequest {
    /// For people; the first file's name if absent.
    #[serde(default)]
    #[cfg_attr(test, schemars(length(max = 200)))]
    title: Option<String>,
    #[cfg_attr(test, schemars(length(min = 1, max = 20000)))]
    pub(crate) files: Vec<RequestedFile>,
    pub(crate) to: Destinations,
    #[serde(default)]
    priority: DispatchPriority,
    #[serde(default)]
    absent: AbsentNodes,
    /// Seconds for which nodes can still get it; seven days if absent.
    #[serde(default)]
    #[cfg_attr(test, schemars(range(min = 1)))]
    expires_in_s: Option<u64>,
    /// The same as a time, in seconds since 1970.
    #[serde(default)]
    expires_at: Option<f64>,
    /// Until 30 days after the deadline if absent.
    #[serde(default)]
    retention: Option<FileRetention>,
    #[serde(default)]
    access: FileAccess,
    /// Bytes per second that each node pulls at most; no limit if absent.
    #[serde(default)]
    #[cfg_attr(test, schemars(range(min = 1024)))]
    rate_limit: Option<u64>,
    /// The same task with the same key is created once, however often it is posted, as long
    /// as that task is kept.
    #[serde(default)]
    #[cfg_attr(test, schemars(length(min = 1, max = 200)))]
    key: Option<String>,
}

/// A file that was uploaded, or a file or folder below the folder that the main server was
/// started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestedFile {
    /// Relative to `--dispatch-root`. A folder stands for all files below it.
    #[serde(default)]
    path: Option<String>,
    /// An `http` or `https` URL below one that the main server was started with.
    #[serde(default)]
    url: Option<String>,
    /// The digest that an upload was answered with; beside `path` or `url`, the digest that
    /// the file must have.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    sha256: Option<Sha256>,
    /// The name at the nodes, a relative path; `path` or the end of `url` if absent. For a
    /// folder, the folder.
    #[serde(default)]
    name: Option<String>,
    /// The size that an upload was answered with may stand here; it is not looked at.
    #[serde(default)]
    size: Option<u64>,
}

/// The place of a requested file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileSource {
    Uploaded { name: String, sha256: Sha256 },
    Path { path: String, name: String, sha256: Option<Sha256> },
    Url { url: String, name: String, sha256: Option<Sha256> },
}

/// A task that is about to be saved.
#[derive(Debug)]
pub(crate) struct NewTask {
    pub(crate) task: DispatchTask,
    pub(crate) files: Arc<TaskFiles>,
}

impl RequestedFile {
    /// The file that a path names, under that name.
    pub(crate) fn at_path(path: String) -> Self {
        Self { path: Some(path), url: None, sha256: None, name: None, size: None }
    }

    /// The place that is meant. Names are checked once it is known whether it is a folder.
    pub(crate) fn source(&self) -> Result<FileSource, String> {
        let Self { path, url, sha256, name, .. } = self.clone();
        if let Some(url) = url {
            if path.is_some() {
                return Err("path 和 url 只能填写一个 / name a path or a url, not both".to_owned());
            }
            let end = || url.split(['?', '#']).next()?.rsplit('/').next();
            let name = name.unwrap_or_else(|| end().unwrap_or_default().to_owned());
            return Ok(FileSource::Url { url, name, sha256 });
        }
        match (path, sha256, name) {
            (Some(path), sha256, name) => {
                let name = name.unwrap_or_else(|| path.trim_end_matches('/').to_owned());
                Ok(FileSource::Path { path, name, sha256 })
            }
            (None, Some(sha256), Some(name)) => Ok(FileSource::Uploaded { name, sha256 }),
            (None, Some(_), None) => {
                Err("上传的文件需要 name / an uploaded file needs a name".to_owned())
            }
            (None, None, _) => Err(
                "每个文件需要 path、url，或上传后得到的 sha256 / each file needs a path, a url, or the sha256 of an upload"
                    .to_owned(),
            ),
        }
    }
}

impl DispatchRequest {
    /// Reads a request, without a look at its files.
    pub(crate) fn read(fields: Map<String, Value>) -> Result<Self, String> {
        let request: Self = serde_json::from_value(Value::Object(fields))
            .map_err(|error| format!("任务格式错误 / the task is malformed: {error}"))?;
        if request.files.is_empty() || request.files.len() > MAX_FILES {
            return Err(too_many_files());
        }
        if request
            .title
            .as_ref()
            .is_some_and(|title| title.len() > MAX_TITLE || title.chars().any(char::is_control))
        {
            return Err(format!(
                "title 最长 {MAX_TITLE} 字节，不含控制字符 / title must have at most {MAX_TITLE} bytes and no control characters"
            ));
        }
        let is_key =
            |key: &String| (1..=MAX_KEY).contains(&key.len()) && !key.chars().any(char::is_control);
        if !request.key.as_ref().is_none_or(is_key) {
            return Err(format!(
                "key 应为 1 到 {MAX_KEY} 字节，不含控制字符 / key must have 1 to {MAX_KEY} bytes and no control characters"
            ));
        }
        if request.rate_limit.is_some_and(|rate| rate < MIN_RATE) {
            return Err(format!(
                "rate_limit 至少为每秒 {MIN_RATE} 字节 / rate_limit must be at least {MIN_RATE} bytes per second"
            ));
        }
        Ok(request)
    }

    pub(crate) fn sender_key(&self) -> Option<SenderKey> {
        let key = self.key.clone()?;
        Some(SenderKey { key, fingerprint: fingerprint(self) })
    }

    /// Times are checked before files are read, which may take long.
    pub(crate) fn deadline(&self, now: UnixMillis) -> Result<UnixMillis, String> {
        let deadline = match (self.expires_in_s, self.expires_at) {
            (Some(_), Some(_)) => {
                return Err(
                    "expires_in_s 和 expires_at 只能填写一个 / expires_in_s and expires_at \
                            are the same, name one of them"
                        .to_owned(),
                );
            }
            (Some(seconds), None) => now + Duration::from_secs(seconds.min(u64::from(u32::MAX))),
            (None, Some(at)) => UnixMillis::from_secs_f64(at),
            (None, None) => now + DEFAULT_LIFETIME,
        };
        if deadline <= now {
            return Err("期限已过 / the deadline has passed already".to_owned());
        }
        if deadline.saturating_since(now) > MAX_LIFETIME {
            let days = MAX_LIFETIME.as_secs() / DAY.as_secs();
            return Err(format!(
                "期限最长 {days} 天 / the deadline is at most {days} days from now"
            ));
        }
        match self.retention {
            Some(FileRetention::Until(until)) if until <= now => {
                Err("retention 的时间已过 / the time of retention has passed already".to_owned())
            }
            _ => Ok(deadline),
        }
    }

    /// Makes a task of files that are there.
    pub(crate) fn into_task(
        self,
        id: TaskId,
        files: Vec<TaskFile>,
        audience: Audience,
        by: AuditedOperator,
        (now, deadline): (UnixMillis, UnixMillis),
    ) -> Result<NewTask, String> {
        check_files(&files)?;
        let files = TaskFiles { files };
        let first = files.files.first().map_or("", |file| &file.name);
        let nodes = match audience {
            Audience::All => None,
            Audience::Nodes(nodes) => Some(nodes),
        };
        let retention = || FileRetention::Until(deadline + DEFAULT_RETENTION);
        let key = self.sender_key();
        let task = DispatchTask {
            id,
            title: self.title.unwrap_or_else(|| first.chars().take(MAX_TITLE / 4).collect()),
            key,
            by,
            to: self.to,
            nodes,
            priority: self.priority,
            absent: self.absent,
            retention: self.retention.unwrap_or_else(retention),
            access: self.access,
            rate_limit: self.rate_limit,
            files: files.files.len() as u64,
            bytes: files.bytes(),
            phase: TaskPhase::Queued,
            attempt: 1,
            created_at: now,
            deadline,
            started_at: None,
            finished_at: None,
            retry_of: None,
            removal: None,
            results: std::collections::BTreeMap::new(),
        };
        Ok(NewTask { task, files: Arc::new(files) })
    }
}

fn too_many_files() -> String {
    format!("一个任务应有 1 到 {MAX_FILES} 个文件 / a task has from 1 to {MAX_FILES} files")
}

fn check_files(files: &[TaskFile]) -> Result<(), String> {
    if files.is_empty() || files.len() > MAX_FILES {
        return Err(too_many_files());
    }
    for file in files {
        check_file_name(&file.name)
            .map_err(|error| format!("文件名 / file name {:?}: {error}", file.name))?;
    }
    check_file_names(files.iter().map(|file| &*file.name)).map_err(|error| error.to_string())?;
    let bytes: usize = files.iter().map(|file| file.name.len() + FILE_BYTES).sum();
    if bytes > MAX_LIST_BYTES {
        return Err(format!(
            "文件名合计过长，请分为几个任务 / the names of the files are too long for one task, make several (at most {MAX_LIST_BYTES} bytes)"
        ));
    }
    Ok(())
}
