//! The reasons that a file does not come.

use edge_mirror_store::StoreError;
use thiserror::Error;

use crate::upstream::{TransferError, UpstreamError};

#[derive(Debug, Error)]
pub(super) enum FilePullError {
    #[error("{0}")]
    Upstream(#[from] UpstreamError),
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("no byte came for a long time")]
    Stalled,
    #[error("the answer can't be taken for the file: {0}")]
    Unusable(String),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("a package needs the permit")]
    Preempted,
    #[error("the piece at byte {at} is not the file's")]
    BadPiece { at: u64 },
    #[error("the node that sent it is left")]
    ParentLost,
}

impl From<TransferError> for FilePullError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Broken(cause) => Self::Broken(cause),
            TransferError::Stalled | TransferError::TooSlow => Self::Stalled,
        }
    }
}

impl FilePullError {
    /// The reason as operators read it, in Chinese and in English.
    pub(super) fn reason(&self) -> String {
        let chinese = match self {
            Self::Upstream(_) => "主控服务器没有提供这个文件",
            Self::Broken(_) => "传输中断",
            Self::Stalled => "传输停滞",
            Self::Unusable(_) => "收到的内容不是这个文件",
            Self::Store(StoreError::NoRoom(_)) => "空间不足",
            Self::Store(StoreError::Bad(_)) => "收到的文件已损坏",
            Self::Store(StoreError::Io { .. }) => "磁盘读写出错",
            Self::Store(StoreError::InUse(_) | StoreError::Unwanted) => "暂时无法保存",
            Self::Preempted => "等待会议包",
            Self::BadPiece { .. } | Self::ParentLost => "另一个节点发送的内容有误或中断",
        };
        // The technical part in both: on a phone, only one language is shown.
        format!("{chinese}：{self} / {self}")
    }

    /// True if the main server has the task, but not this file.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Upstream(error) if error.is_without_file())
    }

    /// True if the main server answered, but not with the file: others may come meanwhile.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Upstream(error) if error.is_refusal())
    }

    /// True if the file itself, or this node, is at fault: the others may come all the same.
    pub(super) fn is_of_file(&self) -> bool {
        matches!(self, Self::Unusable(_) | Self::Store(_))
    }

    /// True if another try may bring other bytes.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Unusable(_) | Self::Store(StoreError::Bad(_)))
    }
}
