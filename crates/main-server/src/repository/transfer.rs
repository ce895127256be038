//! Copying a whole state: to a file, from a file, to another database.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use edge_mirror_base::{
    atomic::{self, FolderLock},
    tasks,
};
use sqlx::{AnyConnection, Connection};

use super::{
    ANSWER_TIMEOUT, TRANSFER_TIMEOUT,
    database::{StateDatabase, StateLocation},
    document::{self, SavedDocument, WriteFault},
    dump::StateDump,
    legacy::LegacyState,
    schema, transaction,
};
use crate::error::StateError;

/// Writes all meetings, known nodes and routing rules to `file`, as they are at one moment,
/// and returns how many meetings there are. A main server may run meanwhile.
pub async fn back_up(
    location: &StateLocation,
    data: &Path,
    file: &Path,
) -> Result<usize, StateError> {
    let database = StateDatabase::new(location, data);
    let mut connection = connect_existing(&database, data).await?;
    let reading = transaction::read_all(&mut connection, database.begin_reading());
    let documents = database.within(TRANSFER_TIMEOUT, reading).await?;
    close(connection).await;
    let dump = parsed(&database, &documents)?;
    write(file, &dump).await?;
    Ok(dump.meetings())
}

/// Replaces what is in the database by what is in `file`; returns how many meetings that
/// is, and where the ones before were written to, if there were any.
pub async fn restore(
    location: &StateLocation,
    data: &Path,
    file: &Path,
) -> Result<(usize, Option<PathBuf>), StateError> {
    let _lock = lock(data).await?;
    let dump = read_file(file).await?;
    let legacy = LegacyState::find(data).await?;
    let database = StateDatabase::new(location, data);
    let mut connection = database.connect().await?;
    database.check_engine(&mut connection).await?;
    let taking = transaction::take_over(&mut connection, database.begin(), |_| Ok(()));
    let before = database.within(TRANSFER_TIMEOUT, taking).await?;
    let kept = match StateDump::new(&before.documents) {
        Ok(before) if before.has_content() => {
            let at = chrono::Local::now().format("%Y%m%d-%H%M%S");
            let kept = data.join(format!("state-before-restore-{at}.jsonl"));
            write(&kept, &before).await?;
            Some(kept)
        }
        Ok(_) | Err(_) => None,
    };
    let (begin, documents) = (database.begin(), dump.documents());
    let replacing = transaction::replace(&mut connection, begin, before.position, documents);
    database.within(TRANSFER_TIMEOUT, replacing).await?;
    close(connection).await;
    // It would be another state beside the restored one.
    if let Some(legacy) = legacy {
        legacy.set_aside().await?;
    }
    Ok((dump.meetings(), kept))
}

/// Moves all that is in one database to another one, which must be empty, and marks the
/// first one, so that no main server starts with it by mistake. Returns how many meetings
/// that is.
pub async fn move_state(
    from: &StateLocation,
    to: &StateLocation,
    data: &Path,
) -> Result<usize, StateError> {
    if from == to {
        return Err(StateError::SamePlace { place: to.to_string() });
    }
    let _lock = lock(data).await?;
    let (source, target) = (StateDatabase::new(from, data), StateDatabase::new(to, data));
    let mut leaving = connect_existing(&source, data).await?;
    let mut entering = target.connect().await?;
    target.check_engine(&mut entering).await?;

    // Refused before any main server that uses one of the two is put out of service.
    let reading = transaction::read_all(&mut leaving, source.begin_reading());
    let dump = parsed(&source, &source.within(TRANSFER_TIMEOUT, reading).await?)?;
    let reading = transaction::read_if_any(&mut entering, target.begin_reading());
    check_free(&target, &target.within(TRANSFER_TIMEOUT, reading).await?, &dump)?;

    // From here on, a main server that runs elsewhere can't change what is left behind.
    let check = |found: &[SavedDocument]| parsed(&source, found).map(drop);
    let taking = transaction::take_over(&mut leaving, source.begin(), check);
    let left = source.within(TRANSFER_TIMEOUT, taking).await?;
    let dump = parsed(&source, &left.documents)?;
    let check = |found: &[SavedDocument]| check_free(&target, found, &dump);
    let taking = transaction::take_over(&mut entering, target.begin(), check);
    let position = target.within(TRANSFER_TIMEOUT, taking).await?.position;
    let (begin, documents) = (target.begin(), dump.documents());
    let replacing = transaction::replace(&mut entering, begin, position, documents);
    target.within(TRANSFER_TIMEOUT, replacing).await?;
    let reading = transaction::read_all(&mut entering, target.begin_reading());
    let moved = target.within(TRANSFER_TIMEOUT, reading).await?;
    if StateDump::new(&moved).as_ref() != Ok(&dump) {
        return Err(target.unavailable("what was written is not what is read"));
    }
    let (begin, place) = (source.begin(), to.to_string());
    let marking = transaction::mark_moved(&mut leaving, begin, left.position, place);
    source.within(ANSWER_TIMEOUT, marking).await?;
    close(leaving).await;
    close(entering).await;
    Ok(dump.meetings())
}

/// An error if something is there that is used, and is not `dump`: that is of a move that
/// was interrupted before its end.
fn check_free(
    database: &StateDatabase,
    documents: &[SavedDocument],
    dump: &StateDump,
) -> Result<(), StateError> {
    let is_free = match document::parse(documents) {
        Ok((_, Some(saved))) => saved.moved.is_some(),
        Ok((_, None)) => true,
        Err(_) => false,
    };
    match is_free || StateDump::new(documents).as_ref() == Ok(dump) {
        true => Ok(()),
        false => Err(StateError::NotEmpty { place: database.to_string() }),
    }
}

/// Connects to a database that a main server has used, and may use still.
async fn connect_existing(
    database: &StateDatabase,
    data: &Path,
) -> Result<AnyConnection, StateError> {
    if LegacyState::find(data).await?.is_some() || database.is_missing().await {
        return Err(StateError::NoState { place: database.to_string() });
    }
    let mut connection = database.connect().await?;
    let checking = schema::check(&mut connection);
    database.within(ANSWER_TIMEOUT, checking).await?;
    Ok(connection)
}

fn parsed(database: &StateDatabase, documents: &[SavedDocument]) -> Result<StateDump, StateError> {
    let damaged = |cause| StateError::Damaged { place: database.to_string(), cause };
    match document::parse(documents) {
        Ok((_, Some(saved))) => match saved.moved {
            Some(to) => Err(StateError::MovedAway { place: database.to_string(), to }),
            None => StateDump::new(documents).map_err(damaged),
        },
        Ok((_, None)) => Err(StateError::NoState { place: database.to_string() }),
        Err(WriteFault::Damaged(cause)) => Err(damaged(cause)),
        Err(_) => Err(damaged("it can't be read".to_owned())),
    }
}

/// Makes sure that no main server uses the folder, nor begins to in a folder that one has
/// used.
async fn lock(data: &Path) -> Result<Option<FolderLock>, StateError> {
    let (path, data) = (data.join("packages/.lock"), data.to_owned());
    tasks::blocking(move || match FolderLock::take(&path) {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => Err(StateError::InUse { path: data }),
        // No main server has begun here yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(StateError::ReadFile { path, cause }),
    })
    .await
}

async fn write(file: &Path, dump: &StateDump) -> Result<(), StateError> {
    let (path, text) = (file.to_owned(), dump.to_text());
    tasks::blocking(move || {
        atomic::write_private(&path, text.as_bytes())
            .map_err(|cause| StateError::WriteFile { path, cause })
    })
    .await
}

async fn read_file(file: &Path) -> Result<StateDump, StateError> {
    let path = file.to_owned();
    tasks::blocking(move || {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(cause) => return Err(StateError::ReadBackup { path, cause }),
        };
        let checked =
            StateDump::parse(&text).and_then(|dump| match document::parse(&dump.documents()) {
                Ok((_, Some(_))) => Ok(dump),
                Ok((_, None)) => Err("it has no token".to_owned()),
                Err(WriteFault::Damaged(cause)) => Err(cause),
                Err(_) => Err("it can't be read".to_owned()),
            });
        checked.map_err(|cause| StateError::DamagedBackup { path, cause })
    })
    .await
}

async fn close(connection: AnyConnection) {
    // All is saved or read already.
    let _ = tokio::time::timeout(ANSWER_TIMEOUT, connection.close()).await;
}
