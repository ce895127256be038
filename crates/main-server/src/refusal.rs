//! Reasons to refuse a call. The texts without a slash are the contract's.

use std::net::IpAddr;

use edge_mirror_http::limits::Limit;
use edge_mirror_protocol::package::{PackageId, Sha256};
use edge_mirror_store::{StoreError, verify::VerifyError};
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use crate::error::StateError;

#[derive(Debug, Error)]
pub(crate) enum RequestError {
    #[error("会议 {0} 不存在")]
    UnknownMeeting(PackageId),
    /// For clients that download.
    #[error("会议未找到")]
    NothingToDownload,
    #[error("会议 {0} 不是进行中状态")]
    NotRunning(PackageId),
    #[error("会议包不存在")]
    NoPackage,
    #[error("会议包正在校验，请稍后再试 / the package is being verified, try again in a moment")]
    Verifying,
    #[error(
        "会议包正在从共享存储取回，请稍后再试 / the package is being fetched from the package store, try again in a moment"
    )]
    Fetching,
    #[error(
        "会议包暂时无法从共享存储取回，请稍后再试 / the package can't be fetched from the package store now, try again later"
    )]
    NotFetched,
    #[error(
        "会议包在共享存储中，但主控服务器启动时没有 --packages / the package is in the package store, but the main server was started without --packages"
    )]
    PackageElsewhere,
    #[error(
        "会议包在另一台主控服务器上，请向它下载；所有主控服务器须使用同一个 --packages / the package is at another main server, ask there; all of them need the same --packages"
    )]
    PackageAtAnother,
    #[error(
        "暂时无法写入会议包共享存储，未作任何更改，请稍后再试 / the package store can't be used now, nothing was changed, try again later: {0}"
    )]
    PackagesUnavailable(String),
    #[error("会议 {0} 已存在 / there is a meeting with this id already")]
    Exists(PackageId),
    #[error("会议已达上限 {0} 个，请先删除 / there are {0} meetings, delete some first")]
    TooManyMeetings(usize),
    #[error("会议 {0} 还没有会议包，请先上传 / meeting {0} has no package yet, upload it first")]
    NothingToDistribute(PackageId),
    #[error(
        "提前分发的会议包已达上限 {0} 个，请先收回一些或开始会议 / {0} packages are being distributed already, take some back or start their meetings first"
    )]
    TooManyPrestaged(usize),
    #[error("Node {0} not found")]
    UnknownNode(String),
    #[error("只对已接受的节点开放 / for nodes that were accepted only")]
    NoNode,
    #[error(
        "主控服务器不接受节点发送的消息（--no-casts-from-nodes） / this main server takes no casts from nodes (--no-casts-from-nodes)"
    )]
    NoCastsFromNodes,
    #[error(
        "任何机器都可以成为节点（--nodes open），因此只接受带有节点密钥的消息 / anybody may be a node (--nodes open), so only nodes that send a node key can send casts"
    )]
    NoCastsFromStrangers,
    #[error("节点已达上限 {0} 个 / there are {0} nodes, no more are taken")]
    TooManyNodes(usize),
    #[error(
        "同一地址每分钟最多新增 {0} 个节点，请稍后再试 / at most {0} new nodes a minute from one address, try again later"
    )]
    TooManyNewNodes(u32),
    #[error(
        "同一地址的节点已达上限 {0} 个 / there are {0} nodes from this address, no more are taken"
    )]
    TooManyNodesOfClient(usize),
    #[error(
        "等待接受的节点过多，同一地址最多 {0} 个 / too many nodes wait to be approved, at most {0} from one address"
    )]
    TooManyPending(usize),
    #[error("没有等待接受的节点 {0} / no node {0} waits to be approved")]
    NotPending(String),
    #[error("节点 {id} 现在由 {client} 申请 / node {id} is claimed by {client} now")]
    OtherClaim { id: String, client: IpAddr },
    #[error(
        "节点上报的会议过多，内存上限 {0} 字节，未保存该节点的会议 / nodes list more meetings than fit in {0} bytes, those of this node are not kept"
    )]
    NodesBytes(usize),
    #[error("同时收到的大请求过多，请稍后再试 / too many large requests at once, try again later")]
    TooManyLargeBodies,
    #[error("消息 {0} 不存在 / there is no cast {0}")]
    UnknownCast(String),
    #[error("分组 {0} 不存在 / there is no group {0}")]
    UnknownGroup(String),
    #[error("虚拟节点 {0} 不存在 / there is no virtual node {0}")]
    UnknownVirtualNode(String),
    #[error(
        "ID {0} 已被使用：节点和虚拟节点不能同名 / the id {0} is taken: a node and a virtual node can't have the same"
    )]
    NodeIdTaken(String),
    #[error(
        "虚拟节点已达上限 {0} 个（--virtual-nodes） / there are {0} virtual nodes already (--virtual-nodes)"
    )]
    TooManyVirtualNodes(u64),
    #[error("key “{0}” 已用于另一条消息 / the key “{0}” is another cast's")]
    OtherCast(String),
    #[error(
        "保留的消息已达上限（{0} 条或 {1} 字节），请等待消息过期，或取消一些 / {0} casts or {1} bytes of them are kept already; wait until some have expired, or cancel some"
    )]
    TooManyCasts(u64, u64),
    #[error("任务 {0} 不存在 / there is no task {0}")]
    UnknownTask(String),
    #[error("节点的程序已重新启动 / the node's program was started again since")]
    PastBoot,
    #[error("key “{0}” 已用于另一个任务 / the key “{0}” is another task's")]
    OtherTask(String),
    #[error("任务 {0} 已取消 / task {0} was cancelled")]
    TaskCancelled(String),
    #[error("任务 {0} 没有失败的节点 / no node of task {0} has failed")]
    NothingToRetry(String),
    #[error(
        "任务已达上限（{0} 个，或文件共 {1} 个），请先等待或取消一些，或收回一直保留的文件 / there are {0} tasks, or {1} files in all, that are not finished or whose files nodes keep; wait for some, or cancel some"
    )]
    TooManyTasks(usize, u64),
    #[error(
        "任务 {0} 尚未结束，或没有失败的部分 / task {0} is not finished, or nothing of it has failed"
    )]
    NothingFailed(String),
    #[error("key “{0}” 已用于另一个任务 / the key “{0}” is another task's")]
    OtherRemoteTask(String),
    #[error(
        "未结束的远程任务过多（上限 {0} 个，所有任务共 {1} 字节），请等待或取消一些 / too many remote tasks are not finished (at most {0}, and {1} bytes of all); wait for some, or cancel some"
    )]
    TooManyRemoteTasks(usize, usize),
    #[error(
        "同时查看的任务进度过多，请稍后再试 / too many programs follow tasks already, try again later"
    )]
    TooManyFollowers,
    #[error("没有上传过 SHA-256 为 {0} 的文件 / no file with the SHA-256 {0} was uploaded")]
    UnknownUpload(Sha256),
    #[error(
        "文件在另一台主控服务器上，或暂时无法取回，请稍后再试；所有主控服务器须使用同一个 --packages / the file is at another main server, or can't be fetched now; try again later. All main servers need the same --packages"
    )]
    FileAtAnother,
    #[error(
        "文件正在从共享存储取回，请稍后再试 / the file is being fetched from the package store, try again in a moment"
    )]
    FileComing,
    #[error(
        "同时发送的文件过多，请稍后再试 / too many files are being sent at once, try again in a moment"
    )]
    TooManyBundles,
    #[error(
        "任务 {0} 的文件已不在主控服务器上，请重新发送 / the files of task {0} are not at the main server any more, send them again"
    )]
    FilesGone(String),
    #[error(
        "主控服务器启动时没有 --dispatch-root，请上传文件 / the main server was started without --dispatch-root; upload the files"
    )]
    NoDispatchRoot,
    #[error("SHA-256 不符，未作任何更改 / the SHA-256 is another one, nothing was changed: {0}")]
    WrongDigest(String),
    #[error("请求中的值过多，上限 {0} 个 / the request has more than {0} values")]
    TooManyValues(usize),
    #[error("{0}")]
    Invalid(String),
    #[error("上传的文件不是有效的会议包 / the upload is no good package: {0}")]
    BadPackage(VerifyError),
    #[error("上传中断，未作任何更改 / the upload was cut off, nothing was changed: {0}")]
    Cut(String),
    #[error("上传停滞，未作任何更改 / the upload stalled, nothing was changed")]
    Stalled,
    #[error("会议 {0} 正在上传另一个会议包 / another package is being uploaded for meeting {0}")]
    UploadUnderWay(PackageId),
    #[error("同时上传过多，请稍后再试 / too many uploads at once, try again later")]
    TooManyUploads,
    #[error("磁盘空间不足 / no room on the disk: {0}")]
    NoRoom(String),
    #[error("暂时无法保存更改，请稍后再试 / changes can't be saved now, try again later: {0}")]
    StateUnavailable(String),
    #[error("暂时无法读取记录，请稍后再试 / the records can't be read now, try again later: {0}")]
    RecordsUnavailable(String),
    #[error("服务器存储出错 / the server's storage failed")]
    Storage(String),
    #[error(
        "请求需要 Content-Type: application/json / send it with Content-Type: application/json"
    )]
    NotJson,
    #[error("malformed request")]
    Malformed(Vec<Flaw>),
    #[error("请求过大，上限 {0} 字节 / the request is larger than {0} bytes")]
    TooLarge(usize),
}

impl RequestError {
    pub(crate) fn stopping() -> Self {
        Self::StateUnavailable("the main server is stopping".to_owned())
    }

    pub(crate) fn invalid(text: &str) -> Self {
        Self::Invalid(text.to_owned())
    }

    /// The limit that was reached, if it was one.
    pub(crate) fn limit(&self) -> Option<Limit> {
        match self {
            Self::TooLarge(_) | Self::TooManyValues(_) => Some(Limit::HeartbeatBytes),
            Self::NodesBytes(_) => Some(Limit::NodesBytes),
            Self::TooManyNodes(_) => Some(Limit::Nodes),
            Self::TooManyNewNodes(_) | Self::TooManyNodesOfClient(_) => {
                Some(Limit::NewNodesPerClient)
            }
            Self::TooManyPending(_) => Some(Limit::PendingNodes),
            Self::TooManyLargeBodies => Some(Limit::LargeBodies),
            Self::TooManyCasts(..) => Some(Limit::Casts),
            _ => None,
        }
    }
}

impl From<&StateError> for RequestError {
    fn from(error: &StateError) -> Self {
        match error {
            StateError::DiskFull { .. } => Self::NoRoom(error.to_string()),
            _ => Self::StateUnavailable(error.to_string()),
        }
    }
}

impl From<StoreError> for RequestError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoRoom(text) => Self::NoRoom(text),
            StoreError::Io { .. }
            | StoreError::InUse(_)
            | StoreError::Unwanted
            | StoreError::Bad(
                VerifyError::Io(_) | VerifyError::Changed | VerifyError::Unannounced,
            ) => Self::Storage(error.to_string()),
            StoreError::Bad(
                error @ (VerifyError::Structure(_)
                | VerifyError::Entry { .. }
                | VerifyError::Uncheckable { .. }
                | VerifyError::Bomb { .. }
                | VerifyError::Directory { .. }
                | VerifyError::Digest { .. }),
            ) => Self::BadPackage(error),
        }
    }
}

/// The answer to a malformed body.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MalformedBody {
    pub detail: Vec<Flaw>,
}

/// An error in a body, in the real main server's format.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Flaw {
    #[serde(rename = "type")]
    pub kind: String,
    /// `body`, and then names and numbers that lead to it.
    pub(crate) loc: Vec<Value>,
    pub(crate) msg: String,
    /// The value sent; shortened to a text if it is long.
    pub input: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ctx: Option<Context>,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Context {
    pub error: String,
}
