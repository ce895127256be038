//! Errors of the storage folder.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::verify;

#[derive(Debug, Error)]
pub enum StoreError {
    #[error("cannot {action} {path}: {cause}")]
    Io { action: &'static str, path: PathBuf, cause: io::Error },
    #[error("{0} is in use by another edge-mirror; stop that one or choose another folder")]
    InUse(PathBuf),
    #[error("no room: {0}")]
    NoRoom(String),
    #[error("{0}")]
    Bad(#[from] verify::VerifyError),
    #[error("it is no longer wanted")]
    Unwanted,
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path, cause: io::Error) -> Self {
        if matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Self::NoRoom(format!("the disk of {} is full", path.display()));
        }
        Self::Io { action, path: path.to_owned(), cause }
    }
}
