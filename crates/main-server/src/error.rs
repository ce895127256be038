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
    #[error(transparent)]
    State(#[from] StateError),
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

/// The database can't be used, or not now.
#[derive(Debug, Error)]
pub enum StateError {
    #[error("the state in {place} can't be used: {cause}")]
    Unavailable { place: String, cause: String },
    #[error("the disk that holds {place} is full; delete files there that nobody needs")]
    DiskFull { place: String },
    #[error(
        "another main server took over the state in {place}; stop one of the two, then restart the other"
    )]
    TakenOver { place: String },
    #[error(
        "the state in {place} was changed by something else than this main server; what it has now is shown, try again"
    )]
    Conflict { place: String },
    #[error(
        "the state in {place} was written by a newer version (schema {found}, this version knows {known}); install that version, or restore a backup made with this one"
    )]
    Newer { place: String, found: i64, known: i64 },
    #[error("{place} is PostgreSQL {found}; version 15 or newer is required")]
    OldServer { place: String, found: String },
    #[error(
        "the state in {place} is damaged ({cause}) and was left as it is; restore it from a backup, or move it away to begin without meetings"
    )]
    Damaged { place: String, cause: String },
    #[error("cannot read {path}: {cause}; make it readable or choose another --data")]
    ReadFile { path: PathBuf, cause: io::Error },
    #[error("cannot rename {path}: {cause}; make its folder writable or choose another --data")]
    RenameFile { path: PathBuf, cause: io::Error },
    #[error(
        "{path} is damaged ({cause}) and was left as it is; restore it from a backup, or move it away to begin without meetings"
    )]
    DamagedFile { path: PathBuf, cause: String },
    #[error(
        "there are meetings in {path}, and others in {place}; an older version may have written the file meanwhile. Move away the one that is out of date"
    )]
    TwoStates { path: PathBuf, place: String },
    #[error(
        "{path} holds meetings, and {place} holds none; start without --state to use the file, or move it away to begin without meetings"
    )]
    OtherEngine { path: PathBuf, place: String },
}
