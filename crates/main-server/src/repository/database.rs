//! The database in use, and the way to it. Passwords in its address are shown nowhere.

use std::{
    error::Error,
    fmt, fs,
    future::Future,
    io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use edge_mirror_base::{atomic, tasks};
use reqwest::Url;
use sqlx::{
    Any, AnyConnection, ConnectOptions, Row,
    any::{AnyConnectOptions, install_default_drivers},
};
use thiserror::Error;

use super::{ANSWER_TIMEOUT, CONNECT_TIMEOUT, document::WriteFault};
use crate::{error::StateError, state::meetings::fresh_token};

/// The database's file in the data folder.
pub(super) const FILE: &str = "state.sqlite";
/// With these, what was acknowledged survives a power cut.
const SQLITE_SETTINGS: &[&str] = &["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"];
/// A main server that is gone without a goodbye, in the middle of a transaction, must not
/// keep the others from saving.
const POSTGRES_SETTINGS: &[&str] = &[
    "SET idle_in_transaction_session_timeout = '10s'",
    "SET client_connection_check_interval = '2s'",
    "SET tcp_keepalives_idle = 5",
    "SET tcp_keepalives_interval = 2",
    "SET tcp_keepalives_count = 3",
];
/// The first PostgreSQL that is tested.
const OLDEST_POSTGRESQL: i64 = 150_000;

/// The place for the main server's state.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum StateLocation {
    /// A SQLite database in the data folder.
    #[default]
    DataFolder,
    Postgres(Box<Url>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "需要 sqlite（数据文件夹中的文件）或 postgres://用户@主机/数据库 / sqlite (a file in the data folder) or postgres://USER@HOST/DATABASE is needed"
)]
pub struct UnusableLocation;

impl FromStr for StateLocation {
    type Err = UnusableLocation;

    fn from_str(text: &str) -> Result<Self, UnusableLocation> {
        if text == "sqlite" {
            return Ok(Self::DataFolder);
        }
        let url = Url::parse(text).map_err(|_| UnusableLocation)?;
        match url.scheme() {
            "postgres" | "postgresql" => Ok(Self::Postgres(Box::new(url))),
            _ => Err(UnusableLocation),
        }
    }
}

impl fmt::Display for StateLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataFolder => f.write_str("sqlite"),
            Self::Postgres(url) => f.write_str(&without_secrets(url)),
        }
    }
}

impl fmt::Debug for StateLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Parameters can hold a password, too.
fn without_secrets(url: &Url) -> String {
    let mut url = url.clone();
    // Only addresses without a host refuse one.
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// A database and its name in messages.
#[derive(Clone, Debug)]
pub(super) enum StateDatabase {
    Sqlite(PathBuf),
    Postgres(StateLocation, Box<Url>),
}

impl fmt::Display for StateDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(location, _) => location.fmt(f),
        }
    }
}

impl StateDatabase {
    pub(super) fn new(location: &StateLocation, data: &Path) -> Self {
        match location {
            StateLocation::DataFolder => Self::Sqlite(data.join(FILE)),
            StateLocation::Postgres(url) => Self::Postgres(location.clone(), url.clone()),
        }
    }

    pub(super) fn is_remote(&self) -> bool {
        matches!(self, Self::Postgres(..))
    }

    /// True if nobody has made it yet, as far as a look at files can tell.
    pub(super) async fn is_missing(&self) -> bool {
        match self {
            Self::Sqlite(path) => {
                let path = path.clone();
                tasks::blocking(move || !path.exists()).await
            }
            Self::Postgres(..) => false,
        }
    }

    /// SQLite has one writer: it takes its turn at the start rather than fail later.
    pub(super) fn begin(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "BEGIN IMMEDIATE",
            Self::Postgres(..) => "BEGIN",
        }
    }

    /// All that is read in it is of one moment.
    pub(super) fn begin_reading(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "BEGIN",
            Self::Postgres(..) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }

    /// The address of a database that several main servers may share.
    pub(super) fn shared_url(&self) -> Option<&Url> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(_, url) => Some(url),
        }
    }

    pub(super) async fn connect(&self) -> Result<AnyConnection, StateError> {
        install_default_drivers();
        let url = match self {
            Self::Sqlite(path) => sqlite_url(path).ok_or_else(|| {
                self.unavailable("its path is not valid UTF-8; choose another --data")
            })?,
            Self::Postgres(_, url) => Url::clone(url),
        };
        if let Self::Sqlite(path) = self {
            self.create_file(path.clone()).await?;
        }
        let options = AnyConnectOptions::from_url(&url).map_err(|error| self.failed(&error))?;
        // Its own log would be one line for each change.
        let options = options.disable_statement_logging();
        let connecting = async { Ok(options.connect().await?) };
        let mut connection = self.within(CONNECT_TIMEOUT, connecting).await?;
        let settings = match self {
            Self::Sqlite(_) => SQLITE_SETTINGS,
            Self::Postgres(..) => POSTGRES_SETTINGS,
        };
        let setting = async {
            for setting in settings {
                sqlx::query::<Any>(*setting).execute(&mut connection).await?;
            }
            Ok(())
        };
        self.within(ANSWER_TIMEOUT, setting).await?;
        Ok(connection)
    }

    /// An empty file is a new database. It belongs to the folder's owner: root may open it
    /// first, and then a service.
    async fn create_file(&self, path: PathBuf) -> Result<(), StateError> {
        let created = tasks::blocking(move || match path.try_exists()? {
            true => Ok(()),
            false => atomic::write_private(&path, b""),
        });
        created.await.map_err(|error: io::Error| self.unavailable(&error.to_string()))
    }

    /// Makes sure that PostgreSQL is new enough.
    pub(super) async fn check_engine(
        &self,
        connection: &mut AnyConnection,
    ) -> Result<(), StateError> {
        if !self.is_remote() {
            return Ok(());
        }
        let asking = async {
            let row = sqlx::query::<Any>(
                "SELECT CAST(current_setting('server_version_num') AS BIGINT), current_setting('server_version')",
            )
            .fetch_one(connection)
            .await?;
            Ok((row.try_get::<i64, _>(0)?, row.try_get::<String, _>(1)?))
        };
        let (number, found) = self.within(ANSWER_TIMEOUT, asking).await?;
        match number >= OLDEST_POSTGRESQL {
            true => Ok(()),
            false => Err(StateError::OldServer { place: self.to_string(), found }),
        }
    }

    /// Waits for the work; not for ever where the database is elsewhere. A file's disk is
    /// waited for, as its work can't be taken back.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, WriteFault>>,
    ) -> Result<T, StateError> {
        let outcome = match self.is_remote() {
            true => tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
                Err(WriteFault::State(
                    self.unavailable(&format!("no answer within {} s", limit.as_secs())),
                ))
            }),
            false => work.await,
        };
        outcome.map_err(|fault| match fault {
            WriteFault::Sql(error) => self.failed(&error),
            WriteFault::State(error) => error,
            WriteFault::Replaced => StateError::Replaced { place: self.to_string() },
            WriteFault::Outdated | WriteFault::Conflict => {
                StateError::Conflict { place: self.to_string() }
            }
            WriteFault::Newer { found, known } => {
                StateError::Newer { place: self.to_string(), found, known }
            }
            WriteFault::NoState => StateError::NoState { place: self.to_string() },
            WriteFault::Damaged(cause) => StateError::Damaged { place: self.to_string(), cause },
        })
    }

    pub(super) fn unavailable(&self, cause: &str) -> StateError {
        StateError::Unavailable { place: self.to_string(), cause: cause.to_owned() }
    }

    fn failed(&self, error: &sqlx::Error) -> StateError {
        /// SQLITE_FULL, and ENOSPC or EDQUOT as SQLite reports them.
        const DISK_FULL: &str = "13";
        if let (sqlx::Error::Database(error), false) = (error, self.is_remote()) {
            let place = self.to_string();
            match error.code().as_deref() {
                Some(DISK_FULL) => return StateError::DiskFull { place },
                // SQLITE_CORRUPT, SQLITE_NOTADB
                Some("11" | "26") => {
                    return StateError::Damaged { place, cause: error.message().to_owned() };
                }
                _ => {}
            }
        }
        self.unavailable(&one_line(error))
    }
}

/// The innermost reason: the others say only that it is a database's.
fn one_line(error: &sqlx::Error) -> String {
    let mut deepest: &dyn Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string().lines().collect::<Vec<_>>().join("; ")
}

/// The name by which a main server's own figures are found again; it is made with the data
/// folder.
pub(super) async fn server_id(data: &Path) -> Result<String, StateError> {
    let path = data.join("server-id");
    tasks::blocking(move || match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = fresh_token();
            match atomic::write_private(&path, id.as_bytes()) {
                Ok(()) => Ok(id),
                Err(cause) => Err(StateError::WriteFile { path, cause }),
            }
        }
        Err(cause) => Err(StateError::ReadFile { path, cause }),
    })
    .await
}

fn sqlite_url(path: &Path) -> Option<Url> {
    let absolute = std::path::absolute(path).ok()?;
    absolute.to_str()?;
    let file = Url::from_file_path(absolute).ok()?;
    format!("sqlite://{}?mode=rwc", file.path()).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_shown_nowhere() {
        for given in [
            "postgres://fleet:secret@db.example:5433/mirror",
            "postgresql://fleet@db/mirror?password=secret&sslmode=require",
        ] {
            let location: StateLocation = given.parse().unwrap();
            let database = StateDatabase::new(&location, Path::new("/data"));
            let error = database.unavailable("refused").to_string();
            for shown in
                [location.to_string(), format!("{location:?}"), database.to_string(), error]
            {
                assert!(!shown.contains("secret") && shown.contains("fleet@db"), "{shown}");
            }
        }
    }

    #[test]
    fn a_location_is_a_file_in_the_data_folder_or_a_postgresql() {
        assert_eq!("sqlite".parse(), Ok(StateLocation::DataFolder));
        for bad in ["", "state.sqlite", "sqlite:///x", "mysql://db/x", "db:5432"] {
            assert_eq!(bad.parse::<StateLocation>(), Err(UnusableLocation), "{bad}");
        }
    }

    #[test]
    fn a_files_path_may_have_any_characters() {
        let url = sqlite_url(Path::new("/a b/会议?#%/state.sqlite")).unwrap();
        assert_eq!(
            url.as_str(),
            "sqlite:///a%20b/%E4%BC%9A%E8%AE%AE%3F%23%25/state.sqlite?mode=rwc"
        );
    }
}
