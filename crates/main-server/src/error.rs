//! Errors of the main server's start, and of its database.

use std::{io, net::SocketAddr, path::PathBuf};

use edge_mirror_http::{access::VaultError, listen::BindError, tls::FileError};
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
    #[error("the packages can't be used: {0}; fix that or choose another --data")]
    Packages(StoreError),
    #[error("--packages: {0}")]
    PackageStore(#[from] UnusablePackages),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("{0}; see --redirect-port")]
    Redirect(BindError),
    #[error("{0}; see --castray-port")]
    CastRay(BindError),
    #[error("{0}; see --gofd-port")]
    Gofd(BindError),
    #[error("cannot listen on {address} for GoFD's agents: {cause}; see --gofd-data-port")]
    GofdData { address: SocketAddr, cause: io::Error },
    #[error(transparent)]
    Certificate(#[from] FileError),
    #[error(
        "cannot set up the client that probes nodes: {0}; check the system's TLS and network set-up"
    )]
    Prober(reqwest::Error),
    #[error("the credentials of the other main servers can't be used: {0}")]
    Credentials(VaultError),
    #[error("cannot make the key by which nodes know each other: {0}")]
    RelayKey(VaultError),
}

/// The package store can't be used as it was given; a person has to change something.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnusablePackages {
    #[error(
        "需要 s3://存储桶/前缀，或文件夹的绝对路径 / s3://BUCKET/PREFIX or the absolute path of a folder is needed"
    )]
    Url,
    #[error(
        "S3 地址中缺少存储桶，应为 s3://存储桶/前缀 / the bucket is missing: s3://BUCKET/PREFIX is needed"
    )]
    NoBucket,
    #[error(
        "地址中不能有用户名、密码、端口或参数；访问凭据请用环境变量 AWS_ACCESS_KEY_ID 和 AWS_SECRET_ACCESS_KEY，服务器用 AWS_ENDPOINT_URL / a URL must have no user, password, port or parameters; pass credentials in the environment variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and the server in AWS_ENDPOINT_URL"
    )]
    Decorated,
    #[error(
        "没有 S3 的访问凭据，请设置环境变量 AWS_ACCESS_KEY_ID 和 AWS_SECRET_ACCESS_KEY；使用云主机的角色时，请设置 AWS_METADATA_ENDPOINT / there are no credentials for S3: set the environment variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_METADATA_ENDPOINT for the role of a cloud machine"
    )]
    NoCredentials,
    #[error(
        "AWS_ENDPOINT_URL 是 http://，请改用 https://，或设置 AWS_ALLOW_HTTP=true / AWS_ENDPOINT_URL is plain http://: use https://, or set AWS_ALLOW_HTTP=true"
    )]
    PlainHttp,
    #[error("S3 的环境变量 AWS_* 有误 / the environment variables AWS_* for S3 are wrong: {0}")]
    Environment(String),
    #[error(
        "{0} 的存储桶不存在，请检查 --packages 和 AWS_ENDPOINT_URL，或先创建存储桶 / the bucket of {0} does not exist: check --packages and AWS_ENDPOINT_URL, or create it first"
    )]
    NoSuchBucket(String),
    #[error(
        "{place} 拒绝访问，请检查 AWS_ACCESS_KEY_ID、AWS_SECRET_ACCESS_KEY 和权限（列出、读、写、删除） / {place} denies access: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the permissions (list, read, write, delete): {cause}"
    )]
    Denied { place: String, cause: String },
}

/// The database can't be used, or not now.
#[derive(Debug, Error)]
pub enum StateError {
    #[error("the state in {place} can't be used: {cause}")]
    Unavailable { place: String, cause: String },
    #[error("the disk that holds {place} is full; delete files there that nobody needs")]
    DiskFull { place: String },
    #[error(
        "the state in {place} was restored or moved meanwhile, or an older version opened it; restart this main server"
    )]
    Replaced { place: String },
    #[error(
        "something other than this main server changed the state in {place}; the page shows what is there now, try again"
    )]
    Conflict { place: String },
    #[error(
        "the state in {place} was written by a newer version (schema {found}, this version knows {known}); install that version. To go back, move {place} away (with PostgreSQL, use an empty database) and restore a backup with edge-mirror master restore"
    )]
    Newer { place: String, found: i64, known: i64 },
    #[error("{place} is PostgreSQL {found}; version 15 or newer is required")]
    OldServer { place: String, found: String },
    #[error(
        "the state in {place} is damaged ({cause}) and was left as it is; move it away (a file with its -wal and -shm files; with PostgreSQL, use an empty database), then restore a backup with edge-mirror master restore, or start without meetings"
    )]
    Damaged { place: String, cause: String },
    #[error("cannot read {path}: {cause}; make it readable or choose another --data")]
    ReadFile { path: PathBuf, cause: io::Error },
    #[error("cannot rename {path}: {cause}; make its folder writable or choose another --data")]
    RenameFile { path: PathBuf, cause: io::Error },
    #[error(
        "{path} is damaged ({cause}) and was left as it is; replace it by a copy that is not, or move it away to start without meetings"
    )]
    DamagedFile { path: PathBuf, cause: String },
    #[error(
        "there are meetings in {path}, and others in {place}; an older version may have written the file meanwhile. Move away the one that is out of date"
    )]
    TwoStates { path: PathBuf, place: String },
    #[error(
        "{path} holds meetings, and {place} holds none; move them with edge-mirror master move-state, or start without --state"
    )]
    OtherEngine { path: PathBuf, place: String },
    #[error(
        "the state in {place} was moved to {to}; start the main server with that --state, or move it back"
    )]
    MovedAway { place: String, to: String },
    #[error(
        "there is no state in {place}; check --data and --state, or start the main server once"
    )]
    NoState { place: String },
    #[error("there is a state in {place} already; name a database that is empty")]
    NotEmpty { place: String },
    #[error("the state is in {place} already")]
    SamePlace { place: String },
    #[error("a main server uses {path}; stop it first")]
    InUse { path: PathBuf },
    #[error("cannot write {path}: {cause}; name a file in a folder that is writable")]
    WriteFile { path: PathBuf, cause: io::Error },
    #[error("cannot read {path}: {cause}; name a file that edge-mirror master backup wrote")]
    ReadBackup { path: PathBuf, cause: io::Error },
    #[error("{path} can't be restored: {cause}; nothing was changed")]
    DamagedBackup { path: PathBuf, cause: String },
}
