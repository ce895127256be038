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
        NetChange, dispatch_documents, net_changes, node_documents, virtual_node_documents,
    },
};
use crate::state::{master_state::StateChanges, meetings::Meeting};

pub(super) const INSERT_DOCUMENT: &str =
    "INSERT INTO edge_mirror_doc (kind, id, revision, json) VALUES ($1, $2, 1, $3)";
const UPDATE_DOCUMENT: &str = "UPDATE edge_mirror_doc SET revision = revision + 1, json = $1 WHERE kind = $2 AND id = $3 AND revision = $4";
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
}

impl<'a> DocumentWriter<'a> {
    pub(super) fn new(connection: &'a mut AnyConnection, known: &'a DocumentIndex) -> Self {
        Self { connection, known, next_position: known.next_position(), written: Vec::new() }
    }

    pub(super) async fn write_all(&mut self, all: &StateChanges) -> Result<(), WriteFault> {
        let StateChanges { meetings: changes, nodes, routing, groups, access, dispatch, .. } = all;
        let StateChanges { audit, figures, history, .. } = all;
        if let Some(rules) = routing {
            self.put(DocumentKind::Routing, "", 0, json(&**rules)).await?;
        }
        if let Some(groups) = groups {
            self.put(DocumentKind::Groups, "", 0, json(&**groups)).await?;
        }
        for ((kind, id), document) in node_documents(nodes) {
            match document {
                Some(document) => self.put(kind, &id, 0, document).await?,
                None => self.remove(kind, &id).await?,
            }
        }
        for ((kind, id), document) in virtual_node_documents(&all.virtual_nodes) {
            match document {
                Some(document) => self.put(kind, &id, 0, document).await?,
                None => self.remove(kind, &id).await?,
            }
        }
        for ((kind, id), document) in dispatch_documents(dispatch) {
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
        if let Some(access) = access {
            let text = json(&SavedText { value: access.to_string() });
            self.put(DocumentKind::Access, "", 0, text).await?;
        }
        if let Some(figures) = figures {
            self.put(DocumentKind::Figures, &self.known.server, 0, json(&**figures)).await?;
        }
        for change in history {
            history::save(self.connection, &self.known.server, change).await?;
        }
        let entries = audit.iter().map(|record| NewEntry { at: record.at, body: json(record) });
        log::append(self.connection, LogTopic::Audit, entries.collect()).await?;
        Ok(())
    }

    /// Notes for other main servers which documents were written.
    pub(super) async fn finish(self) -> Result<WrittenDocuments, WriteFault> {
        let Self { connection, known, written: changes, .. } = self;
        let names = changes.iter().map(|((kind, id), _)| (kind.name(), id)).collect::<Vec<_>>();
        let entry = NewEntry { at: UnixMillis::now(), body: json(&names) };
        let entries = if names.is_empty() { vec![] } else { vec![entry] };
        let seq = log::append(connection, LogTopic::State, entries).await?;
        Ok(WrittenDocuments { changes, seq: seq.unwrap_or(known.seq()) })
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

    pub(super) async fn put(
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
