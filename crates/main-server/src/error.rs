//! Errors of starting the main server.

use std::{io, path::PathBuf};

use edge_mirror_http::{access::VaultError, listen::BindError};
use edge_mirror_store::StoreError;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum MasterError {
    #[error(
        "cannot use the data folder {path}: {cause}; make it writable or choose another --data"
    )]
    Data { path: PathBuf, cause: io::Error },
    #[error("cannot read {path}: {cause}; make it readable or choose another --data")]
    ReadState { path: PathBuf, cause: io::Error },
    #[error(
        "{path} is damaged ({cause}) and was left as it is; restore it from a backup, or move it away to begin without meetings"
    )]
    BrokenState { path: PathBuf, cause: String },
    #[error("the packages can't be used: {0}; mend that or choose another --data")]
    Packages(StoreError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(
        "cannot set up the client that probes nodes: {0}; check the system's TLS and network set-up"
    )]
    Prober(reqwest::Error),
    #[error("cannot make the key by which nodes know each other: {0}")]
    RelayKey(VaultError),
}

/// A change that could not be saved.
#[derive(Debug, Error)]
pub(crate) enum StateError {
    #[error("cannot write {path}: {cause}")]
    Write { path: PathBuf, cause: io::Error },
}
