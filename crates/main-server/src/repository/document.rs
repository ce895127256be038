//! The statements. Documents are JSON texts, times are numbers in them: neither engine
//! has a type that the other lacks.

use std::collections::{HashMap, HashSet};

use edge_mirror_protocol::package::PackageId;
use serde::{Deserialize, Serialize};
use sqlx::{Any, AnyConnection, Connection, Row, any::AnyRow};

use crate::{
    error::StateError,
    state::meetings::{FORM, Meeting, MeetingChange, MeetingChanges, MeetingTable},
};

/// The schema that this version writes; a newer one is refused.
const SCHEMA: i64 = 1;

const CREATE_SCHEMA: &str =
    "CREATE TABLE IF NOT EXISTS edge_mirror_schema (version BIGINT NOT NULL)";
const CREATE_DOCUMENTS: &str = "CREATE TABLE edge_mirror_doc (kind TEXT NOT NULL, id TEXT NOT NULL, revision BIGINT NOT NULL, json TEXT NOT NULL, PRIMARY KEY (kind, id))";
const SELECT_SCHEMA: &str = "SELECT version FROM edge_mirror_schema";
const INSERT_SCHEMA: &str = "INSERT INTO edge_mirror_schema (version) VALUES ($1)";
const SELECT_DOCUMENTS: &str = "SELECT kind, id, revision, json FROM edge_mirror_doc";
const INSERT_DOCUMENT: &str =
    "INSERT INTO edge_mirror_doc (kind, id, revision, json) VALUES ($1, $2, 1, $3)";
const UPDATE_DOCUMENT: &str = "UPDATE edge_mirror_doc SET revision = revision + 1, json = $1 WHERE kind = $2 AND id = $3 AND revision = $4";
const DELETE_DOCUMENT: &str =
    "DELETE FROM edge_mirror_doc WHERE kind = $1 AND id = $2 AND revision = $3";
/// Changes nothing: locks the row, and counts it if it is ours still.
const LOCK_HOLDER: &str =
    "UPDATE edge_mirror_doc SET json = json WHERE kind = 'holder' AND id = '' AND revision = $1";
const SELECT_HOLDER: &str =
    "SELECT revision FROM edge_mirror_doc WHERE kind = 'holder' AND id = ''";

/// The kinds of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum DocumentKind {
    Meeting,
    /// One, without an id, like the following.
    Token,
    /// The one whose changes are taken: its revision is that of the last who opened the database.
    Holder,
    /// The digest of the file that the first documents came from.
    Import,
}

impl DocumentKind {
    const ALL: [Self; 4] = [Self::Meeting, Self::Token, Self::Holder, Self::Import];

    const fn name(self) -> &'static str {
        match self {
            Self::Meeting => "meeting",
            Self::Token => "token",
            Self::Holder => "holder",
            Self::Import => "import",
        }
    }
}

pub(super) type DocumentKey = (DocumentKind, String);

/// The revision of a saved document, and its place among meetings.
#[derive(Clone, Copy, Debug)]
pub(super) struct DocumentEntry {
    revision: i64,
    position: u64,
}

/// The documents as they were last read or saved, without their contents.
#[derive(Debug, Default)]
pub(super) struct DocumentIndex {
    entries: HashMap<DocumentKey, DocumentEntry>,
}

/// A document after a transaction; None: it is gone.
pub(super) type IndexChange = (DocumentKey, Option<DocumentEntry>);

/// A transaction that was not carried out, or nobody knows.
#[derive(Debug)]
pub(super) enum WriteFault {
    Sql(sqlx::Error),
    State(StateError),
    TakenOver,
    Conflict,
    Newer { found: i64, known: i64 },
    Damaged(String),
}

impl From<sqlx::Error> for WriteFault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

/// A meeting and its place in the order of creation, which is the contract's.
#[derive(Deserialize, Serialize)]
struct SavedMeeting {
    position: u64,
    #[serde(flatten)]
    meeting: Meeting,
}

/// A document that is one text.
#[derive(Deserialize, Serialize)]
struct SavedText {
    value: String,
}

/// All that is in a database.
#[derive(Debug)]
pub(super) struct SavedState {
    pub(super) table: MeetingTable,
    pub(super) imported: Option<String>,
}

/// The documents to save in a database that is opened.
pub(super) struct InitialChanges {
    pub(super) changes: MeetingChanges,
    pub(super) imported: Option<String>,
}

impl DocumentIndex {
    pub(super) fn epoch(&self) -> i64 {
        self.get(DocumentKind::Holder, "").map_or(0, |entry| entry.revision)
    }

    pub(super) fn extend(&mut self, changes: Vec<IndexChange>) {
        for (key, entry) in changes {
            match entry {
                Some(entry) => drop(self.entries.insert(key, entry)),
                None => drop(self.entries.remove(&key)),
            }
        }
    }

    fn get(&self, kind: DocumentKind, id: &str) -> Option<DocumentEntry> {
        self.entries.get(&(kind, id.to_owned())).copied()
    }

    fn next_position(&self) -> u64 {
        self.entries.values().map(|entry| entry.position).max().map_or(0, |last| last + 1)
    }
}

/// Creates what is missing, saves what `initial` makes of what is there (None: nothing),
/// and becomes the holder, all in one transaction.
pub(super) async fn open(
    connection: &mut AnyConnection,
    begin: &'static str,
    initial: impl FnOnce(Option<SavedState>) -> Result<InitialChanges, StateError>,
) -> Result<(DocumentIndex, MeetingTable), WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    sqlx::query::<Any>(CREATE_SCHEMA).execute(&mut *transaction).await?;
    let version = sqlx::query::<Any>(SELECT_SCHEMA).fetch_optional(&mut *transaction).await?;
    match version.map(|row| row.try_get::<i64, _>(0)).transpose()? {
        Some(SCHEMA) => {}
        Some(found) => return Err(WriteFault::Newer { found, known: SCHEMA }),
        None => {
            sqlx::query::<Any>(CREATE_DOCUMENTS).execute(&mut *transaction).await?;
            let insert = sqlx::query::<Any>(INSERT_SCHEMA).bind(SCHEMA);
            insert.execute(&mut *transaction).await?;
        }
    }
    let rows = sqlx::query::<Any>(SELECT_DOCUMENTS).fetch_all(&mut *transaction).await?;
    let (mut known, saved) = parse(&rows)?;
    let mut table = saved.as_ref().map(|saved| saved.table.clone()).unwrap_or_default();
    let InitialChanges { changes, imported } = initial(saved).map_err(WriteFault::State)?;
    table.merge(&changes);

    let mut writer = DocumentWriter::new(&mut transaction, &known);
    writer.write_all(&changes).await?;
    if let Some(digest) = imported {
        writer.put(DocumentKind::Import, "", 0, json(&SavedText { value: digest })).await?;
    }
    writer.put(DocumentKind::Holder, "", 0, "{}".to_owned()).await?;
    let written = writer.written;
    transaction.commit().await?;
    known.extend(written);
    Ok((known, table))
}

/// Saves changes in one transaction, all or none.
pub(super) async fn save(
    connection: &mut AnyConnection,
    begin: &'static str,
    known: &DocumentIndex,
    changes: &MeetingChanges,
) -> Result<Vec<IndexChange>, WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    let lock = sqlx::query::<Any>(LOCK_HOLDER).bind(known.epoch());
    if lock.execute(&mut *transaction).await?.rows_affected() != 1 {
        return Err(WriteFault::TakenOver);
    }
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

/// Reads all there is.
pub(super) async fn read(
    connection: &mut AnyConnection,
) -> Result<(DocumentIndex, MeetingTable), WriteFault> {
    let rows = sqlx::query::<Any>(SELECT_DOCUMENTS).fetch_all(connection).await?;
    match parse(&rows)? {
        (known, Some(saved)) => Ok((known, saved.table)),
        (_, None) => Err(WriteFault::Damaged("it has no token".to_owned())),
    }
}

/// None of a state where nothing was saved yet.
fn parse(rows: &[AnyRow]) -> Result<(DocumentIndex, Option<SavedState>), WriteFault> {
    let mut known = DocumentIndex::default();
    let (mut meetings, mut token, mut imported) = (Vec::new(), None, None);
    for row in rows {
        let (kind, id): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let (revision, json): (i64, String) = (row.try_get(2)?, row.try_get(3)?);
        let malformed =
            |error| WriteFault::Damaged(format!("document {kind} '{id}' is malformed: {error}"));
        let text = || serde_json::from_str::<SavedText>(&json).map_err(malformed);
        let found = DocumentKind::ALL.into_iter().find(|known| known.name() == kind);
        // Whatever a later version with the same schema keeps there besides is its own.
        let Some(found) = found else { continue };
        let mut position = 0;
        match found {
            DocumentKind::Meeting => {
                let saved: SavedMeeting = serde_json::from_str(&json).map_err(malformed)?;
                position = saved.position;
                meetings.push(saved);
            }
            DocumentKind::Token => token = Some(text()?.value),
            DocumentKind::Import => imported = Some(text()?.value),
            DocumentKind::Holder => {}
        }
        known.entries.insert((found, id), DocumentEntry { revision, position });
    }
    let Some(token) = token else { return Ok((known, None)) };
    meetings.sort_by_key(|saved| saved.position);
    let meetings = meetings.into_iter().map(|saved| saved.meeting).collect();
    let table = MeetingTable { form: FORM, token, meetings };
    Ok((known, Some(SavedState { table, imported })))
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

    async fn write_all(&mut self, changes: &MeetingChanges) -> Result<(), WriteFault> {
        for change in last_changes(&changes.meetings) {
            match change {
                MeetingChange::Put(meeting) => self.put_meeting(meeting).await?,
                MeetingChange::Remove(id) => self.remove(id).await?,
            }
        }
        if let Some(token) = &changes.token {
            let text = json(&SavedText { value: token.clone() });
            self.put(DocumentKind::Token, "", 0, text).await?;
        }
        Ok(())
    }

    async fn put_meeting(&mut self, meeting: &Meeting) -> Result<(), WriteFault> {
        let known = self.known.get(DocumentKind::Meeting, meeting.id.as_str());
        let position = match known {
            Some(entry) => entry.position,
            None => {
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

    /// A meeting that came and went within the same transaction was never saved.
    async fn remove(&mut self, id: &PackageId) -> Result<(), WriteFault> {
        let kind = DocumentKind::Meeting;
        let Some(entry) = self.known.get(kind, id.as_str()) else { return Ok(()) };
        let query = sqlx::query::<Any>(DELETE_DOCUMENT)
            .bind(kind.name())
            .bind(id.to_string())
            .bind(entry.revision);
        if query.execute(&mut *self.connection).await?.rows_affected() != 1 {
            return Err(WriteFault::Conflict);
        }
        self.written.push(((kind, id.to_string()), None));
        Ok(())
    }
}

/// The last change of each meeting, in the order of changes.
fn last_changes(changes: &[MeetingChange]) -> Vec<&MeetingChange> {
    let mut seen = HashSet::new();
    let id = |change: &'_ MeetingChange| match change {
        MeetingChange::Put(meeting) => meeting.id.clone(),
        MeetingChange::Remove(id) => id.clone(),
    };
    let mut last: Vec<_> = changes.iter().rev().filter(|change| seen.insert(id(change))).collect();
    last.reverse();
    last
}

fn json(document: &impl Serialize) -> String {
    serde_json::to_string(document).expect("documents have text keys alone")
}
