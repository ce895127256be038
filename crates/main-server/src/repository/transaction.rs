//! The statements, by transaction.

use std::collections::{BTreeMap, HashMap};

use edge_mirror_protocol::package::{PackageId, percent_encoded};
use sqlx::{Any, AnyConnection, Connection, Row};

use super::document::{
    DocumentEntry, DocumentIndex, DocumentKey, DocumentKind, IndexChange, InitialChanges,
    SavedDocument, SavedMeeting, SavedState, SavedText, WriteFault, json, parse,
};
use super::{
    history,
    log::{self, LogTopic, NewEntry},
    schema,
};
use crate::{
    error::StateError,
    state::{
        figures::SavedFigures,
        fleet::NodeChange,
        master_state::{MasterState, StateChanges},
        meetings::{Meeting, MeetingChange},
    },
};

const SELECT_DOCUMENTS: &str = "SELECT kind, id, revision, json FROM edge_mirror_doc";
const INSERT_DOCUMENT: &str =
    "INSERT INTO edge_mirror_doc (kind, id, revision, json) VALUES ($1, $2, 1, $3)";
const UPDATE_DOCUMENT: &str = "UPDATE edge_mirror_doc SET revision = revision + 1, json = $1 WHERE kind = $2 AND id = $3 AND revision = $4";
const DELETE_DOCUMENT: &str =
    "DELETE FROM edge_mirror_doc WHERE kind = $1 AND id = $2 AND revision = $3";
const DELETE_KIND: &str = "DELETE FROM edge_mirror_doc WHERE kind = $1";
const DELETE_ALL: &str = "DELETE FROM edge_mirror_doc WHERE kind <> 'holder'";
/// With the entries of logs and the history among them, of one moment.
const SELECT_ALL: &str = "SELECT kind, id, revision, json FROM edge_mirror_doc UNION ALL SELECT 'log ' || topic, CAST(seq AS TEXT), at, body FROM edge_mirror_log UNION ALL SELECT 'history ' || step, CAST(at AS TEXT), 1, figures FROM edge_mirror_history";
/// Changes nothing: waits for the transaction of whoever is the holder, and keeps its next
/// one waiting, so that what is read afterwards is what it has saved.
const LOCK_ANY_HOLDER: &str =
    "UPDATE edge_mirror_doc SET json = json WHERE kind = 'holder' AND id = ''";
/// The same if that is ours still, and counts it.
const LOCK_HOLDER: &str =
    "UPDATE edge_mirror_doc SET json = json WHERE kind = 'holder' AND id = '' AND revision = $1";
const SELECT_HOLDER: &str =
    "SELECT revision FROM edge_mirror_doc WHERE kind = 'holder' AND id = ''";

/// Contents of a database that was opened.
#[derive(Debug)]
pub(super) struct OpenedDocuments {
    pub(super) known: DocumentIndex,
    pub(super) state: MasterState,
    pub(super) figures: SavedFigures,
}

/// Creates what is missing, saves what `initial` makes of what is there (None: nothing),
/// and becomes the holder, all in one transaction.
pub(super) async fn open(
    connection: &mut AnyConnection,
    begin: &'static str,
    initial: impl FnOnce(Option<SavedState>) -> Result<InitialChanges, StateError>,
) -> Result<OpenedDocuments, WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    let (mut known, mut saved) = parse(&read_locked(&mut transaction, SELECT_DOCUMENTS).await?)?;
    let mut state = saved.as_ref().map(|saved| saved.state.clone()).unwrap_or_default();
    let figures = saved.as_mut().map(|saved| std::mem::take(&mut saved.figures));
    let InitialChanges { changes, imported } = initial(saved).map_err(WriteFault::State)?;
    state.merge(&changes);

    let mut writer = DocumentWriter::new(&mut transaction, &known);
    writer.write_all(&changes).await?;
    if let Some(digest) = imported {
        writer.put(DocumentKind::Import, "", 0, json(&SavedText { value: digest })).await?;
    }
    writer.put(DocumentKind::Holder, "", 0, "{}".to_owned()).await?;
    let written = writer.written;
    transaction.commit().await?;
    known.extend(written);
    Ok(OpenedDocuments { known, state, figures: figures.unwrap_or_default() })
}

/// Saves changes in one transaction, all or none.
pub(super) async fn save(
    connection: &mut AnyConnection,
    begin: &'static str,
    known: &DocumentIndex,
    changes: &StateChanges,
) -> Result<Vec<IndexChange>, WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    lock_as_holder(&mut transaction, known.epoch()).await?;
    let mut writer = DocumentWriter::new(&mut transaction, known);
    writer.write_all(changes).await?;
    let written = writer.written;
    transaction.commit().await?;
    Ok(written)
}

/// Makes sure that the database answers and is ours.
pub(super) async fn check_holder(
    connection: &mut AnyConnection,
    known: &DocumentIndex,
) -> Result<(), WriteFault> {
    let row = sqlx::query::<Any>(SELECT_HOLDER).fetch_optional(connection).await?;
    match row.map(|row| row.try_get::<i64, _>(0)).transpose()? {
        Some(epoch) if epoch == known.epoch() => Ok(()),
        _ => Err(WriteFault::TakenOver),
    }
}

/// Makes sure that changes could be saved now.
pub(super) async fn try_lock(
    connection: &mut AnyConnection,
    begin: &'static str,
    epoch: i64,
) -> Result<(), WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    lock_as_holder(&mut transaction, epoch).await?;
    Ok(transaction.rollback().await?)
}

/// Reads all there is, as its holder. It writes, too, so where it succeeds, changes can be
/// saved; and it waits for a transaction of before that seemed to fail and may go on.
pub(super) async fn read_as_holder(
    connection: &mut AnyConnection,
    begin: &'static str,
    epoch: i64,
) -> Result<(DocumentIndex, MasterState), WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    lock_as_holder(&mut transaction, epoch).await?;
    let documents = select(&mut transaction, SELECT_DOCUMENTS).await?;
    transaction.commit().await?;
    match parse(&documents)? {
        (known, Some(saved)) => Ok((known, saved.state)),
        (_, None) => Err(WriteFault::Damaged("it has no token".to_owned())),
    }
}

/// Reads the documents, logs and history as they are at one moment.
pub(super) async fn read_all(
    connection: &mut AnyConnection,
) -> Result<Vec<SavedDocument>, WriteFault> {
    match select(connection, SELECT_ALL).await {
        // One of a version that kept no logs.
        Err(WriteFault::Sql(sqlx::Error::Database(error))) if schema::is_missing_table(&*error) => {
            select(connection, SELECT_DOCUMENTS).await
        }
        outcome => outcome,
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
) -> Result<Vec<SavedDocument>, WriteFault> {
    match schema::check(connection).await {
        Ok(()) => read_all(connection).await,
        Err(WriteFault::NoState) => Ok(Vec::new()),
        Err(fault) => Err(fault),
    }
}

/// The documents of a database that was taken over, and the epoch of its new holder.
pub(super) struct TakenState {
    pub(super) documents: Vec<SavedDocument>,
    pub(super) epoch: i64,
}

/// Becomes the holder if `check` accepts what is there; else nothing is changed.
pub(super) async fn take_over(
    connection: &mut AnyConnection,
    begin: &'static str,
    check: impl FnOnce(&[SavedDocument]) -> Result<(), StateError>,
) -> Result<TakenState, WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    let documents = read_locked(&mut transaction, SELECT_ALL).await?;
    if let Err(refusal) = check(&documents) {
        transaction.rollback().await?;
        return Err(WriteFault::State(refusal));
    }
    let (mut known, _) = parse(&documents)?;
    let mut writer = DocumentWriter::new(&mut transaction, &known);
    writer.put(DocumentKind::Holder, "", 0, "{}".to_owned()).await?;
    let written = writer.written;
    transaction.commit().await?;
    known.extend(written);
    Ok(TakenState { documents, epoch: known.epoch() })
}

/// Replaces all documents but the holder's, all logs and the history by others, all or
/// none, as the holder.
pub(super) async fn replace(
    connection: &mut AnyConnection,
    begin: &'static str,
    epoch: i64,
    documents: Vec<SavedDocument>,
) -> Result<(), WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    lock_as_holder(&mut transaction, epoch).await?;
    sqlx::query::<Any>(DELETE_ALL).execute(&mut *transaction).await?;
    let documents = log::replace(&mut transaction, documents).await?;
    let documents = history::replace(&mut transaction, documents).await?;
    for SavedDocument { kind, id, json, .. } in documents {
        let insert = sqlx::query::<Any>(INSERT_DOCUMENT).bind(kind).bind(id).bind(json);
        insert.execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Notes that all is elsewhere now, as the holder.
pub(super) async fn mark_moved(
    connection: &mut AnyConnection,
    begin: &'static str,
    epoch: i64,
    to: String,
) -> Result<(), WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    lock_as_holder(&mut transaction, epoch).await?;
    let kind = DocumentKind::Moved.name();
    sqlx::query::<Any>(DELETE_KIND).bind(kind).execute(&mut *transaction).await?;
    let insert = sqlx::query::<Any>(INSERT_DOCUMENT).bind(kind).bind("");
    insert.bind(json(&SavedText { value: to })).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}

/// Fails if another has become the holder; else nobody does before the end of the
/// transaction.
async fn lock_as_holder(connection: &mut AnyConnection, epoch: i64) -> Result<(), WriteFault> {
    let lock = sqlx::query::<Any>(LOCK_HOLDER).bind(epoch);
    match lock.execute(connection).await?.rows_affected() {
        1 => Ok(()),
        _ => Err(WriteFault::TakenOver),
    }
}

/// Creates what is missing and reads what is there, for whoever becomes the holder in this
/// transaction.
async fn read_locked(
    connection: &mut AnyConnection,
    statement: &'static str,
) -> Result<Vec<SavedDocument>, WriteFault> {
    schema::ensure(connection).await?;
    sqlx::query::<Any>(LOCK_ANY_HOLDER).execute(&mut *connection).await?;
    select(connection, statement).await
}

/// Writes documents within a transaction, and notes what became of them.
struct DocumentWriter<'a> {
    connection: &'a mut AnyConnection,
    known: &'a DocumentIndex,
    next_position: u64,
    written: Vec<IndexChange>,
}

impl<'a> DocumentWriter<'a> {
    fn new(connection: &'a mut AnyConnection, known: &'a DocumentIndex) -> Self {
        Self { connection, known, next_position: known.next_position(), written: Vec::new() }
    }

    async fn write_all(&mut self, changes: &StateChanges) -> Result<(), WriteFault> {
        let StateChanges { meetings: changes, nodes, routing, audit, figures, history } = changes;
        if let Some(rules) = routing {
            self.put(DocumentKind::Routing, "", 0, json(&**rules)).await?;
        }
        for ((kind, id), document) in node_documents(nodes) {
            match document {
                Some(document) => self.put(kind, &id, 0, document).await?,
                None => self.remove(kind, &id).await?,
            }
        }
        for NetChange { id, meeting, is_new } in net_changes(&changes.meetings) {
            match meeting {
                Some(meeting) => self.put_meeting(meeting, is_new).await?,
                None => self.remove(DocumentKind::Meeting, id.as_str()).await?,
            }
        }
        if let Some(token) = &changes.token {
            let text = json(&SavedText { value: token.clone() });
            self.put(DocumentKind::Token, "", 0, text).await?;
        }
        if let Some(figures) = figures {
            self.put(DocumentKind::Figures, "", 0, json(&**figures)).await?;
        }
        for change in history {
            history::save(self.connection, change).await?;
        }
        let entries = audit.iter().map(|record| NewEntry { at: record.at, body: json(record) });
        log::append(self.connection, LogTopic::Audit, entries.collect()).await
    }

    async fn put_meeting(&mut self, meeting: &Meeting, is_new: bool) -> Result<(), WriteFault> {
        let known = self.known.get(DocumentKind::Meeting, meeting.id.as_str());
        let position = match known {
            Some(entry) if !is_new => entry.position,
            Some(_) | None => {
                self.next_position += 1;
                self.next_position - 1
            }
        };
        let text = json(&SavedMeeting { position, meeting: meeting.clone() });
        self.put(DocumentKind::Meeting, meeting.id.as_str(), position, text).await
    }

    async fn put(
        &mut self,
        kind: DocumentKind,
        id: &str,
        position: u64,
        json: String,
    ) -> Result<(), WriteFault> {
        let known = self.known.get(kind, id);
        let query = match known {
            None => {
                sqlx::query::<Any>(INSERT_DOCUMENT).bind(kind.name()).bind(id.to_owned()).bind(json)
            }
            Some(entry) => sqlx::query::<Any>(UPDATE_DOCUMENT)
                .bind(json)
                .bind(kind.name())
                .bind(id.to_owned())
                .bind(entry.revision),
        };
        if query.execute(&mut *self.connection).await?.rows_affected() != 1 {
            return Err(WriteFault::Conflict);
        }
        let revision = known.map_or(0, |entry| entry.revision) + 1;
        self.written.push(((kind, id.to_owned()), Some(DocumentEntry { revision, position })));
        Ok(())
    }

    /// A document that came and went within the same transaction was never saved.
    async fn remove(&mut self, kind: DocumentKind, id: &str) -> Result<(), WriteFault> {
        let Some(entry) = self.known.get(kind, id) else { return Ok(()) };
        let query = sqlx::query::<Any>(DELETE_DOCUMENT)
            .bind(kind.name())
            .bind(id.to_owned())
            .bind(entry.revision);
        if query.execute(&mut *self.connection).await?.rows_affected() != 1 {
            return Err(WriteFault::Conflict);
        }
        self.written.push(((kind, id.to_owned()), None));
        Ok(())
    }
}

/// The documents of nodes after all changes; None: it is gone.
fn node_documents(changes: &[NodeChange]) -> BTreeMap<DocumentKey, Option<String>> {
    let name = |id: &str| percent_encoded(id).into_owned();
    let refusal = |id: &str, client| (DocumentKind::RefusedNode, format!("{client} {}", name(id)));
    let documents = changes.iter().map(|change| match change {
        NodeChange::Put(node) => ((DocumentKind::Node, name(&node.id)), Some(json(&**node))),
        NodeChange::Remove(id) => ((DocumentKind::Node, name(id)), None),
        NodeChange::Refuse(node) => (refusal(&node.id, node.client), Some(json(node))),
        NodeChange::Pardon(id, client) => (refusal(id, *client), None),
        NodeChange::Record(record) => ((DocumentKind::Fleet, String::new()), Some(json(&**record))),
    });
    documents.collect()
}

/// The outcome of all changes of a meeting together.
struct NetChange<'a> {
    id: &'a PackageId,
    meeting: Option<&'a Meeting>,
    /// Deleted and created again: it comes after all others.
    is_new: bool,
}

/// Returns a change for each meeting, in the order in which they come into the list.
fn net_changes(changes: &[MeetingChange]) -> Vec<NetChange<'_>> {
    let mut places: HashMap<&PackageId, usize> = HashMap::new();
    let mut net: Vec<Option<NetChange<'_>>> = Vec::with_capacity(changes.len());
    for change in changes {
        let (id, meeting) = match change {
            MeetingChange::Put(meeting) => (&meeting.id, Some(meeting)),
            MeetingChange::Remove(id) => (id, None),
        };
        let before = places.get(id).copied();
        let last = before.and_then(|place| net[place].take());
        let is_new = last.as_ref().is_some_and(|last| last.is_new || last.meeting.is_none());
        let change = Some(NetChange { id, meeting, is_new });
        match before {
            Some(place) if last.is_some_and(|last| last.meeting.is_some()) => {
                net[place] = change;
            }
            _ => {
                places.insert(id, net.len());
                net.push(change);
            }
        }
    }
    net.into_iter().flatten().collect()
}
