//! The statements, by transaction.

use sqlx::{Any, AnyConnection, Connection, Row, Transaction};

use super::{
    casts::{self, CastHeadPosition},
    document::{
        DocumentIndex, DocumentKind, InitialChanges, SavedDocument, SavedState, SavedText,
        WriteFault, json, parse,
    },
    document_writer::{DocumentWriter, INSERT_DOCUMENT, WrittenDocuments},
    history,
    log::{self, LogTopic},
    schema,
    wake::WakeSignal,
};
use crate::{
    error::StateError,
    state::{
        figures::SavedFigures,
        master_state::{MasterState, StateChanges},
    },
};

const SELECT_DOCUMENTS: &str = "SELECT kind, id, revision, json FROM edge_mirror_doc";
const DELETE_KIND: &str = "DELETE FROM edge_mirror_doc WHERE kind = $1";
const DELETE_ALL: &str = "DELETE FROM edge_mirror_doc WHERE kind <> 'holder'";
/// With the entries of logs and the history among them, of one moment.
const SELECT_ALL: &str = "SELECT kind, id, revision, json FROM edge_mirror_doc UNION ALL SELECT 'log ' || topic, CAST(seq AS TEXT), at, body FROM edge_mirror_log WHERE topic <> 'state' UNION ALL SELECT 'history ' || step, CAST(at AS TEXT), 1, figures FROM edge_mirror_history";
/// Changes nothing: waits for the transaction that another main server is in, and keeps its
/// next one waiting, so that what is read afterwards is what it has saved.
const LOCK_ANY_GENERATION: &str =
    "UPDATE edge_mirror_doc SET json = json WHERE kind = 'holder' AND id = ''";
/// The same, but only of the generation that is known; else it updates no row.
const LOCK_GENERATION: &str =
    "UPDATE edge_mirror_doc SET json = json WHERE kind = 'holder' AND id = '' AND revision = $1";
const BEGIN_GENERATION: &str =
    "UPDATE edge_mirror_doc SET revision = revision + 1 WHERE kind = 'holder' AND id = ''";
const SELECT_GENERATION: &str =
    "SELECT revision FROM edge_mirror_doc WHERE kind = 'holder' AND id = ''";
/// The generation's document where several main servers may use the state. Versions that
/// use it alone write another one, and begin a generation each time they open it.
const SHARED: &str = r#"{"shared":true}"#;

/// Contents of a database that was opened.
#[derive(Debug)]
pub(super) struct OpenedDocuments {
    pub(super) known: DocumentIndex,
    pub(super) state: MasterState,
    pub(super) figures: SavedFigures,
}

/// Creates what is missing, and saves what `initial` makes of what is there (None:
/// nothing), all in one transaction.
pub(super) async fn open(
    connection: &mut AnyConnection,
    begin: &'static str,
    server: &str,
    initial: impl FnOnce(Option<SavedState>) -> Result<InitialChanges, StateError>,
) -> Result<OpenedDocuments, WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    let documents = read_locked(&mut transaction, SELECT_DOCUMENTS).await?;
    let generation = DocumentKind::Generation.name();
    let is_shared = documents.iter().any(|found| found.kind == generation && found.json == SHARED);
    let (mut known, mut saved) = parse(&documents)?;
    known.set_seq(log::head(&mut transaction, LogTopic::State).await?);
    let mut state = saved.as_ref().map(|saved| saved.state.clone()).unwrap_or_default();
    server.clone_into(&mut known.server);
    let figures = saved.as_mut().and_then(|saved| {
        // The only ones may be of before there were several.
        let is_first = saved.figures.len() == 1;
        let mut take = |name: &str| saved.figures.remove(name);
        take(server).or_else(|| is_first.then(|| take("")).flatten())
    });
    let InitialChanges { changes, imported } = initial(saved).map_err(WriteFault::State)?;
    state.merge(&changes);

    let mut writer = DocumentWriter::new(&mut transaction, &known);
    writer.write_all(&changes).await?;
    if let Some(digest) = imported {
        writer.put(DocumentKind::Import, "", 0, json(&SavedText { value: digest }));
    }
    if !is_shared {
        writer.put(DocumentKind::Generation, "", 0, SHARED.to_owned());
    }
    let written = writer.finish().await?;
    transaction.commit().await?;
    known.extend(written);
    Ok(OpenedDocuments { known, state, figures: figures.unwrap_or_default() })
}

/// Saves changes in one transaction, all or none, if nobody has saved any since `known` was
/// read.
pub(super) async fn save(
    connection: &mut AnyConnection,
    begin: &'static str,
    wake: Option<&WakeSignal>,
    known: &DocumentIndex,
    changes: &StateChanges,
) -> Result<WrittenDocuments, WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    lock_generation(&mut transaction, known.generation()).await?;
    if log::head(&mut transaction, LogTopic::State).await? != known.seq() {
        transaction.rollback().await?;
        return Err(WriteFault::Outdated);
    }
    save_locked(transaction, wake, known, changes).await
}

/// The same at the end of a transaction that has kept others from saving since `known` was
/// read.
pub(super) async fn save_locked(
    mut transaction: Transaction<'_, Any>,
    wake: Option<&WakeSignal>,
    known: &DocumentIndex,
    changes: &StateChanges,
) -> Result<WrittenDocuments, WriteFault> {
    let mut writer = DocumentWriter::new(&mut transaction, known);
    writer.write_all(changes).await?;
    let written = writer.finish().await?;
    if let (Some(wake), false) = (wake, changes.is_empty()) {
        wake.send(&mut transaction).await?;
    }
    transaction.commit().await?;
    Ok(written)
}

/// Makes sure that the state is the one that is known, and was not replaced.
pub(super) async fn check_generation(
    connection: &mut AnyConnection,
    known: i64,
) -> Result<(), WriteFault> {
    let row = sqlx::query::<Any>(SELECT_GENERATION).fetch_optional(connection).await?;
    match row.map(|row| row.try_get::<i64, _>(0)).transpose()? {
        Some(generation) if generation == known => Ok(()),
        _ => Err(WriteFault::Replaced),
    }
}

/// Makes sure that changes could be saved now.
pub(super) async fn try_lock(
    connection: &mut AnyConnection,
    begin: &'static str,
    generation: i64,
) -> Result<(), WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    lock_generation(&mut transaction, generation).await?;
    Ok(transaction.rollback().await?)
}

/// Reads all there is, and saves what `repair` makes of it. It writes in any case, so where
/// it succeeds, changes can be saved; and it waits for a transaction of before that seemed
/// to fail and may go on.
pub(super) async fn read_locking(
    connection: &mut AnyConnection,
    begin: &'static str,
    wake: Option<&WakeSignal>,
    generation: i64,
    repair: impl FnOnce(&MasterState) -> StateChanges,
) -> Result<(DocumentIndex, MasterState), WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    lock_generation(&mut transaction, generation).await?;
    let (mut known, mut state) = read_state(&mut transaction).await?;
    let changes = repair(&state);
    known.extend(save_locked(transaction, wake, &known, &changes).await?);
    state.merge(&changes);
    Ok((known, state))
}

/// Reads all there is, in a transaction that sees no others.
pub(super) async fn read_state(
    connection: &mut AnyConnection,
) -> Result<(DocumentIndex, MasterState), WriteFault> {
    let documents = select(connection, SELECT_DOCUMENTS).await?;
    let seq = log::head(connection, LogTopic::State).await?;
    match parse(&documents)? {
        (mut known, Some(saved)) => {
            known.set_seq(seq);
            Ok((known, saved.state))
        }
        (_, None) => Err(WriteFault::Damaged("it has no token".to_owned())),
    }
}

/// Reads the documents, logs and history as they are at one moment, and then the casts.
pub(super) async fn read_all(
    connection: &mut AnyConnection,
    begin_reading: &'static str,
) -> Result<Vec<SavedDocument>, WriteFault> {
    let documents = match select(connection, SELECT_ALL).await {
        // One of a version that kept no logs.
        Err(WriteFault::Sql(sqlx::Error::Database(error))) if schema::is_missing_table(&*error) => {
            return select(connection, SELECT_DOCUMENTS).await;
        }
        outcome => outcome?,
    };
    let mut transaction = connection.begin_with(begin_reading).await?;
    match casts::schema::with_casts(&mut transaction, documents).await {
        // One of a version that kept no casts.
        Err((documents, WriteFault::Sql(sqlx::Error::Database(error))))
            if schema::is_missing_table(&*error) =>
        {
            Ok(documents)
        }
        Err((_, fault)) => Err(fault),
        Ok(documents) => Ok(documents),
    }
}

/// Reads what is in the table of documents, or in it and others.
async fn select(
    connection: &mut AnyConnection,
    statement: &'static str,
) -> Result<Vec<SavedDocument>, WriteFault> {
    let rows = sqlx::query::<Any>(statement).fetch_all(connection).await?;
    let documents = rows.iter().map(|row| {
        Ok(SavedDocument {
            kind: row.try_get(0)?,
            id: row.try_get(1)?,
            revision: row.try_get(2)?,
            json: row.try_get(3)?,
        })
    });
    documents.collect()
}

/// The same, and none where nobody has kept a state yet.
pub(super) async fn read_if_any(
    connection: &mut AnyConnection,
    begin_reading: &'static str,
) -> Result<Vec<SavedDocument>, WriteFault> {
    match schema::check(connection).await {
        Ok(()) => read_all(connection, begin_reading).await,
        Err(WriteFault::NoState) => Ok(Vec::new()),
        Err(fault) => Err(fault),
    }
}

/// The documents of a database that was taken over.
pub(super) struct TakenState {
    pub(super) documents: Vec<SavedDocument>,
    pub(super) position: StatePosition,
}

/// A state of a database: nothing was saved in it since if the two are still the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StatePosition {
    generation: i64,
    seq: i64,
    casts: Option<CastHeadPosition>,
}

/// Begins a new generation if `check` accepts what is there; else nothing is changed.
pub(super) async fn take_over(
    connection: &mut AnyConnection,
    begin: &'static str,
    check: impl FnOnce(&[SavedDocument]) -> Result<(), StateError>,
) -> Result<TakenState, WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    let documents = read_locked(&mut transaction, SELECT_ALL).await?;
    let with_casts = casts::schema::with_casts(&mut transaction, documents).await;
    let documents = with_casts.map_err(|(_, fault)| fault)?;
    let casts = casts::read_locked_head(&mut transaction).await?;
    let casts = casts.map(|head| head.position());
    if let Err(refusal) = check(&documents) {
        transaction.rollback().await?;
        return Err(WriteFault::State(refusal));
    }
    let (mut known, _) = parse(&documents)?;
    let mut writer = DocumentWriter::new(&mut transaction, &known);
    writer.put(DocumentKind::Generation, "", 0, SHARED.to_owned());
    let written = writer.finish().await?;
    transaction.commit().await?;
    known.extend(written);
    let position = StatePosition { generation: known.generation(), seq: known.seq(), casts };
    Ok(TakenState { documents, position })
}

/// Replaces all documents but the generation's, all logs and the history by others, all or
/// none, and begins a new generation.
pub(super) async fn replace(
    connection: &mut AnyConnection,
    begin: &'static str,
    position: StatePosition,
    documents: Vec<SavedDocument>,
) -> Result<(), WriteFault> {
    let mut transaction = begin_generation(connection, begin, position).await?;
    sqlx::query::<Any>(DELETE_ALL).execute(&mut *transaction).await?;
    let documents = log::replace(&mut transaction, documents).await?;
    let documents = history::replace(&mut transaction, documents).await?;
    let documents = casts::schema::replace(&mut transaction, documents).await?;
    for SavedDocument { kind, id, json, .. } in documents {
        let insert = sqlx::query::<Any>(INSERT_DOCUMENT).bind(kind).bind(id).bind(json);
        insert.execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Notes that all is elsewhere now, and begins a new generation.
pub(super) async fn mark_moved(
    connection: &mut AnyConnection,
    begin: &'static str,
    position: StatePosition,
    to: String,
) -> Result<(), WriteFault> {
    let mut transaction = begin_generation(connection, begin, position).await?;
    let kind = DocumentKind::Moved.name();
    sqlx::query::<Any>(DELETE_KIND).bind(kind).execute(&mut *transaction).await?;
    let insert = sqlx::query::<Any>(INSERT_DOCUMENT).bind(kind).bind("");
    insert.bind(json(&SavedText { value: to })).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}

/// Begins a transaction and a new generation: what others still want to save is refused.
/// Fails if one of them has saved something since `position`.
async fn begin_generation<'a>(
    connection: &'a mut AnyConnection,
    begin: &'static str,
    position: StatePosition,
) -> Result<Transaction<'a, Any>, WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    lock_generation(&mut transaction, position.generation).await?;
    if log::head(&mut transaction, LogTopic::State).await? != position.seq {
        transaction.rollback().await?;
        return Err(WriteFault::Outdated);
    }
    // Also of casts, which the state's log does not have.
    let casts = casts::read_locked_head(&mut transaction).await?;
    if casts.map(|head| head.position()) != position.casts {
        transaction.rollback().await?;
        return Err(WriteFault::Outdated);
    }
    sqlx::query::<Any>(BEGIN_GENERATION).execute(&mut *transaction).await?;
    Ok(transaction)
}

/// Fails if another generation has begun; else nobody changes anything before the end of
/// the transaction.
pub(super) async fn lock_generation(
    connection: &mut AnyConnection,
    known: i64,
) -> Result<(), WriteFault> {
    let lock = sqlx::query::<Any>(LOCK_GENERATION).bind(known);
    match lock.execute(connection).await?.rows_affected() {
        1 => Ok(()),
        _ => Err(WriteFault::Replaced),
    }
}

/// Creates what is missing and reads what is there; nobody changes it, or adds casts, before
/// the end of the transaction.
async fn read_locked(
    connection: &mut AnyConnection,
    statement: &'static str,
) -> Result<Vec<SavedDocument>, WriteFault> {
    schema::ensure(connection).await?;
    sqlx::query::<Any>(LOCK_ANY_GENERATION).execute(&mut *connection).await?;
    casts::schema::ensure(connection).await?;
    select(connection, statement).await
}
