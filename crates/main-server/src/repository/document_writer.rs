//! Writes documents within a transaction.

use edge_mirror_base::clock::UnixMillis;
use sqlx::{Any, AnyConnection};

use super::{
    document::{
        DocumentEntry, DocumentIndex, DocumentKind, IndexChange, SavedMeeting, SavedText,
        WriteFault, json,
    },
    history,
    log::{self, LogTopic, NewEntry},
    net_changes::{
        NetChange, dispatch_documents, net_changes, node_documents, remote_task_documents,
        virtual_node_documents,
    },
    statements::{RowsStatement, chunks},
};
use crate::state::{master_state::StateChanges, meetings::Meeting};

pub(super) const INSERT_DOCUMENT: &str =
    "INSERT INTO edge_mirror_doc (kind, id, revision, json) VALUES ($1, $2, 1, $3)";
static INSERT_DOCUMENTS: RowsStatement =
    RowsStatement::new("INSERT INTO edge_mirror_doc (kind, id, revision, json) VALUES ", 4, "");
/// Updates those that still have the revision.
static UPDATE_DOCUMENTS: RowsStatement = RowsStatement::new(
    "WITH written (kind, id, revision, json) AS (VALUES ",
    4,
    ") UPDATE edge_mirror_doc SET revision = edge_mirror_doc.revision + 1, json = written.json FROM written WHERE edge_mirror_doc.kind = written.kind AND edge_mirror_doc.id = written.id AND edge_mirror_doc.revision = written.revision",
);
const DELETE_DOCUMENT: &str =
    "DELETE FROM edge_mirror_doc WHERE kind = $1 AND id = $2 AND revision = $3";

/// The fate of documents, and the number of the transaction that wrote them.
#[derive(Debug)]
pub(super) struct WrittenDocuments {
    pub(super) changes: Vec<IndexChange>,
    pub(super) seq: i64,
}

/// Writes documents within a transaction, and notes what became of them.
pub(super) struct DocumentWriter<'a> {
    connection: &'a mut AnyConnection,
    known: &'a DocumentIndex,
    next_position: u64,
    written: Vec<IndexChange>,
    /// Those that `finish` writes, many with one statement.
    inserts: Vec<DocumentRow>,
    updates: Vec<DocumentRow>,
}

/// A document's new text. An update names the revision before.
struct DocumentRow {
    kind: DocumentKind,
    id: String,
    revision: i64,
    json: String,
}

impl<'a> DocumentWriter<'a> {
    pub(super) fn new(connection: &'a mut AnyConnection, known: &'a DocumentIndex) -> Self {
        Self {
            connection,
            known,
            next_position: known.next_position(),
            written: Vec::new(),
            inserts: Vec::new(),
            updates: Vec::new(),
        }
    }

    pub(super) async fn write_all(&mut self, all: &StateChanges) -> Result<(), WriteFault> {
        let StateChanges { meetings: changes, nodes, routing, groups, access, dispatch, .. } = all;
        let StateChanges { audit, figures, history, .. } = all;
        if let Some(rules) = routing {
            self.put(DocumentKind::Routing, "", 0, json(&**rules));
        }
        if let Some(groups) = groups {
            self.put(DocumentKind::Groups, "", 0, json(&**groups));
        }
        let documents = node_documents(nodes)
            .into_iter()
            .chain(virtual_node_documents(&all.virtual_nodes))
            .chain(dispatch_documents(dispatch))
            .chain(remote_task_documents(&all.remote_tasks));
        for ((kind, id), document) in documents {
            match document {
                Some(document) => self.put(kind, &id, 0, document),
                None => self.remove(kind, &id).await?,
            }
        }
        for NetChange { id, meeting, is_new } in net_changes(&changes.meetings) {
            match meeting {
                Some(meeting) => self.put_meeting(meeting, is_new),
                None => self.remove(DocumentKind::Meeting, id.as_str()).await?,
            }
        }
        if let Some(token) = &changes.token {
            let text = json(&SavedText { value: token.clone() });
            self.put(DocumentKind::Token, "", 0, text);
        }
        if let Some(access) = access {
            let text = json(&SavedText { value: access.to_string() });
            self.put(DocumentKind::Access, "", 0, text);
        }
        if let Some(figures) = figures {
            self.put(DocumentKind::Figures, &self.known.server, 0, json(&**figures));
        }
        for change in history {
            history::save(self.connection, &self.known.server, change).await?;
        }
        let entries = audit.iter().map(|record| NewEntry { at: record.at, body: json(record) });
        log::append(self.connection, LogTopic::Audit, entries.collect()).await?;
        Ok(())
    }

    /// Writes what is left to write, and notes for other main servers which documents were
    /// written.
    pub(super) async fn finish(self) -> Result<WrittenDocuments, WriteFault> {
        let Self { connection, known, written: changes, inserts, updates, .. } = self;
        write_rows(connection, &INSERT_DOCUMENTS, &inserts).await?;
        write_rows(connection, &UPDATE_DOCUMENTS, &updates).await?;
        let names = changes.iter().map(|((kind, id), _)| (kind.name(), id)).collect::<Vec<_>>();
        let entry = NewEntry { at: UnixMillis::now(), body: json(&names) };
        let entries = if names.is_empty() { vec![] } else { vec![entry] };
        let seq = log::append(connection, LogTopic::State, entries).await?;
        Ok(WrittenDocuments { changes, seq: seq.unwrap_or(known.seq()) })
    }

    fn put_meeting(&mut self, meeting: &Meeting, is_new: bool) {
        let known = self.known.get(DocumentKind::Meeting, meeting.id.as_str());
        let position = match known {
            Some(entry) if !is_new => entry.position,
            Some(_) | None => {
                self.next_position += 1;
                self.next_position - 1
            }
        };
        let text = json(&SavedMeeting { position, meeting: meeting.clone() });
        self.put(DocumentKind::Meeting, meeting.id.as_str(), position, text);
    }

    /// A document is put or removed once in a transaction.
    pub(super) fn put(&mut self, kind: DocumentKind, id: &str, position: u64, json: String) {
        let id = id.to_owned();
        let before = self.known.get(kind, &id).map(|entry| entry.revision);
        let revision = before.map_or(1, |before| before + 1);
        self.written.push(((kind, id.clone()), Some(DocumentEntry { revision, position })));
        match before {
            None => self.inserts.push(DocumentRow { kind, id, revision, json }),
            Some(before) => self.updates.push(DocumentRow { kind, id, revision: before, json }),
        }
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

async fn write_rows(
    connection: &mut AnyConnection,
    statement: &'static RowsStatement,
    documents: &[DocumentRow],
) -> Result<(), WriteFault> {
    for rows in chunks(documents) {
        let mut query = sqlx::query::<Any>(statement.of(rows.len()));
        for DocumentRow { kind, id, revision, json } in rows {
            query = query.bind(kind.name()).bind(id.clone()).bind(*revision).bind(json.clone());
        }
        if query.execute(&mut *connection).await?.rows_affected() != rows.len() as u64 {
            return Err(WriteFault::Conflict);
        }
    }
    Ok(())
}
