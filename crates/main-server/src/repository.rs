//! The meetings, the known nodes and the routing rules in a database: SQLite in the data
//! folder, or PostgreSQL. Packages are the store's and are not repeated here.
//!
//! Nothing else speaks SQL, and both engines get the same statements. Each document has a
//! revision, and is changed only where that is the one last read. Transactions are numbered
//! by a log that names the documents that each of them wrote: several main servers share a
//! PostgreSQL, and whoever is not up to date reads what others saved before it saves
//! anything. A state that is restored or moved begins a new generation, and nobody's changes
//! to the one before are taken.
//!
//! `casts` has tables and a connection of its own. `schema` has the other tables,
//! `transaction` and `document_writer` the statements, `document` is what they are about;
//! `following` and `wake` are about other main servers; `log` and `history` are what
//! is added and read by `reader`; `database` is the way to either engine, `legacy` and
//! `import` are about the first start, `dump` and `transfer` about whole states.

mod casts;
mod database;
mod document;
mod document_writer;
mod dump;
mod following;
mod history;
mod import;
mod legacy;
mod log;
mod net_changes;
mod presence;
mod reader;
mod schema;
mod statements;
mod transaction;
mod transfer;
mod wake;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::{path::Path, time::Duration};

use edge_mirror_base::{clock::UnixMillis, tasks};
use sqlx::{AnyConnection, Connection};
use tracing::info;

pub(crate) use casts::{CastFilter, CastNews, CastRemoval, CastRepository, SavedCasts};
pub use database::{StateLocation, UnusableLocation};
pub(crate) use log::{LogEntry, LogTopic};
pub(crate) use presence::{ReceivedCalls, StatePresence};
pub(crate) use reader::StateReader;
pub use transfer::{back_up, move_state, restore};
pub(crate) use wake::{StateWake, WakeTopic};

use casts::WriteLock;
use database::StateDatabase;
use document::{DocumentIndex, WriteFault};
use following::SavedByOthers;
use import::FoundFiles;
use legacy::LegacyState;
use transaction::OpenedDocuments;
use wake::WakeSignal;

use crate::{
    error::StateError,
    state::{
        figures::SavedFigures,
        master_state::{MasterState, StateChanges},
        meetings::fresh_token,
    },
};

/// Longest wait for PostgreSQL to take a connection. A node of a cluster that hangs is
/// left, and found again, within two seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1000);
/// Longest wait for it to save or read something.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for it to take or hand over a whole state.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(60);

/// The database that keeps the state.
#[derive(Debug)]
pub(crate) struct StateRepository {
    database: StateDatabase,
    /// None after an error, when nobody knows what was saved.
    connection: Option<AnyConnection>,
    known: DocumentIndex,
    /// None where no other main server can be.
    signal: Option<WakeSignal>,
    /// Shared with who writes casts.
    write_lock: WriteLock,
}

/// The end of a transaction that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum CommitOutcome {
    Saved,
    /// Nothing was: another main server came first, and has to be followed.
    Outdated,
}

/// The way to what other main servers saved.
#[derive(Debug)]
pub(crate) enum FollowedState {
    Changes(StateChanges),
    All(MasterState),
}

/// A database that was opened, and its contents.
#[derive(Debug)]
pub(crate) struct OpenedRepository {
    pub(crate) repository: StateRepository,
    pub(crate) state: MasterState,
    pub(crate) figures: SavedFigures,
}

impl StateRepository {
    /// Opens the database and returns what is in it. At first, that is what versions
    /// without a database left in `data`.
    pub(crate) async fn open(
        location: &StateLocation,
        data: &Path,
    ) -> Result<OpenedRepository, StateError> {
        let database = StateDatabase::new(location, data);
        let other = data.join(database::FILE);
        let is_other = database.is_remote();
        let other = tasks::blocking(move || (is_other && other.exists()).then_some(other)).await;
        let mut connection = database.connect().await?;
        database.check_engine(&mut connection).await?;
        let found = FoundFiles { legacy: LegacyState::find(data).await?, other };
        let now = UnixMillis::now();
        let server = match database.is_remote() {
            true => database::server_id(data).await?,
            false => String::new(),
        };
        let opening = transaction::open(&mut connection, database.begin(), &server, |saved| {
            import::initial_changes(saved, &found, &database.to_string(), now)
        });
        let opened = database.within(TRANSFER_TIMEOUT, opening).await?;
        if let Some(file) = found.legacy {
            let kept = file.set_aside().await?;
            info!("the meetings are in {} now; the old file is {}", database, kept.display());
        }
        let OpenedDocuments { known, state, figures } = opened;
        let signal = database.is_remote().then(|| WakeSignal::new(fresh_token()));
        let write_lock = WriteLock::new(&database);
        let repository = Self { database, connection: Some(connection), known, signal, write_lock };
        Ok(OpenedRepository { repository, state, figures })
    }

    /// Saves changes, all or none.
    pub(crate) async fn commit(
        &mut self,
        changes: &StateChanges,
    ) -> Result<CommitOutcome, StateError> {
        let Self { database, connection, known, signal, write_lock } = self;
        let _writing = write_lock.acquire().await;
        let mut connected =
            connection.take().ok_or_else(|| database.unavailable("not connected"))?;
        let saving = async {
            let (begin, wake) = (database.begin(), signal.as_ref());
            match transaction::save(&mut connected, begin, wake, known, changes).await {
                Ok(written) => Ok(Some(written)),
                Err(WriteFault::Outdated) => Ok(None),
                Err(fault) => Err(fault),
            }
        };
        let saved = database.within(ANSWER_TIMEOUT, saving).await?;
        *connection = Some(connected);
        Ok(match saved {
            Some(written) => {
                known.extend(written);
                CommitOutcome::Saved
            }
            None => CommitOutcome::Outdated,
        })
    }

    /// Saves what `change` makes of the state as other main servers left it, and tells it
    /// what they saved since. None of them saves anything in between, so it takes one
    /// transaction, however much they save.
    pub(crate) async fn commit_after_others(
        &mut self,
        change: impl AsyncFnOnce(Option<FollowedState>) -> StateChanges,
    ) -> Result<(), StateError> {
        let Self { database, connection, known, signal, write_lock } = self;
        let _writing = write_lock.acquire().await;
        let mut connected =
            connection.take().ok_or_else(|| database.unavailable("not connected"))?;
        let following = following::follow_locking(&mut connected, database.begin(), known);
        let (transaction, found) = database.within(ANSWER_TIMEOUT, following).await?;
        let changes = change(taken_in(known, found)).await;
        let saving = transaction::save_locked(transaction, signal.as_ref(), known, &changes);
        let written = database.within(ANSWER_TIMEOUT, saving).await?;
        known.extend(written);
        *connection = Some(connected);
        Ok(())
    }

    /// Reads what other main servers saved since; an error where changes can't be saved.
    pub(crate) async fn follow(&mut self) -> Result<Option<FollowedState>, StateError> {
        let Self { database, connection, known, .. } = self;
        let mut connected =
            connection.take().ok_or_else(|| database.unavailable("not connected"))?;
        let following = following::follow(&mut connected, database.begin_reading(), known);
        let found = database.within(ANSWER_TIMEOUT, following).await?;
        *connection = Some(connected);
        Ok(taken_in(known, found))
    }

    /// Connects again after an error, saves what `repair` makes of what was saved, and
    /// returns all: a change that seemed to fail may have been.
    pub(crate) async fn reconnect(
        &mut self,
        repair: impl FnOnce(&MasterState) -> StateChanges,
    ) -> Result<MasterState, StateError> {
        self.connection = None;
        let _writing = self.write_lock.acquire().await;
        let mut connection = self.database.connect().await?;
        let (begin, generation) = (self.database.begin(), self.known.generation());
        // One that hangs, or is locked by another, is noticed soon; a state takes its time.
        let trying = transaction::try_lock(&mut connection, begin, generation);
        self.database.within(ANSWER_TIMEOUT, trying).await?;
        let wake = self.signal.as_ref();
        let reading = transaction::read_locking(&mut connection, begin, wake, generation, repair);
        let (known, state) = self.database.within(TRANSFER_TIMEOUT, reading).await?;
        self.known.replace(known);
        self.connection = Some(connection);
        Ok(state)
    }

    /// The way to the casts of this state.
    pub(crate) fn casts(&self) -> CastRepository {
        let (write_lock, signal) = (self.write_lock.clone(), self.signal.clone());
        CastRepository::new(self.database.clone(), self.known.generation(), write_lock, signal)
    }

    pub(crate) fn reader(&self) -> StateReader {
        StateReader::new(self.database.clone(), self.known.server.clone())
    }

    /// None where no other main server can be.
    pub(crate) fn wake(&self) -> Option<StateWake> {
        Some(StateWake::new(self.database.clone(), self.signal.clone()?))
    }

    /// The same.
    pub(crate) fn presence(&self) -> Option<StatePresence> {
        let start = self.signal.as_ref()?.sender();
        Some(StatePresence::new(self.database.clone(), &self.known.server, start))
    }

    /// True if the database is elsewhere, and may go away by itself.
    pub(crate) fn is_remote(&self) -> bool {
        self.database.is_remote()
    }

    pub(crate) async fn close(self) {
        if let Some(connection) = self.connection {
            // Everything is saved already.
            let _ = tokio::time::timeout(ANSWER_TIMEOUT, connection.close()).await;
        }
    }
}

/// Notes in `known` what others saved.
fn taken_in(known: &mut DocumentIndex, found: SavedByOthers) -> Option<FollowedState> {
    match found {
        SavedByOthers::Nothing => None,
        SavedByOthers::Changes(changes, written) => {
            known.extend(written);
            Some(FollowedState::Changes(changes))
        }
        SavedByOthers::All(state, read) => {
            known.replace(read);
            Some(FollowedState::All(state))
        }
    }
}
