//! The changes that other main servers saved since the state was last read.

use std::{collections::BTreeSet, sync::Arc};

use edge_mirror_protocol::package::percent_decoded;
use sqlx::{Any, AnyConnection, Connection, Row, Transaction};

use super::{
    document::{
        DocumentEntry, DocumentIndex, DocumentKey, DocumentKind, SavedMeeting, SavedText,
        WriteFault,
    },
    document_writer::WrittenDocuments,
    log::{self, LogEntry, LogTopic},
    transaction,
};
use crate::state::{
    dispatch::DispatchChange,
    fleet::NodeChange,
    master_state::{MasterState, StateChanges},
    meetings::MeetingChange,
    remote_tasks::RemoteChange,
    routing::RoutingRules,
    virtual_nodes::VirtualNodeChange,
};

/// Transactions that are followed one by one; who is further behind reads everything.
const MAX_ENTRIES: i64 = 200;
const MAX_DOCUMENTS: usize = 500;
const SELECT_ONE: &str = "SELECT revision, json FROM edge_mirror_doc WHERE kind = $1 AND id = $2";

/// The way from the state that is known to the one that is saved.
#[derive(Debug)]
pub(super) enum SavedByOthers {
    Nothing,
    Changes(StateChanges, WrittenDocuments),
    All(MasterState, DocumentIndex),
}

/// Reads what was saved since `known` was read, as it is at one moment.
pub(super) async fn follow(
    connection: &mut AnyConnection,
    begin: &'static str,
    known: &DocumentIndex,
) -> Result<SavedByOthers, WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    transaction::check_generation(&mut transaction, known.generation()).await?;
    let found = read_since(&mut transaction, known).await?;
    transaction.commit().await?;
    Ok(found)
}

/// The same, and nobody saves anything more before the end of the transaction.
pub(super) async fn follow_locking<'a>(
    connection: &'a mut AnyConnection,
    begin: &'static str,
    known: &DocumentIndex,
) -> Result<(Transaction<'a, Any>, SavedByOthers), WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    transaction::lock_generation(&mut transaction, known.generation()).await?;
    let found = read_since(&mut transaction, known).await?;
    Ok((transaction, found))
}

async fn read_since(
    connection: &mut AnyConnection,
    known: &DocumentIndex,
) -> Result<SavedByOthers, WriteFault> {
    let head = log::head(connection, LogTopic::State).await?;
    if head == known.seq() {
        return Ok(SavedByOthers::Nothing);
    }
    let entries = log::read_after(connection, LogTopic::State, known.seq(), MAX_ENTRIES).await?;
    match names(&entries, known.seq(), head)? {
        Some(names) => read_documents(connection, known, names, head).await,
        None => {
            let (known, state) = transaction::read_state(connection).await?;
            Ok(SavedByOthers::All(state, known))
        }
    }
}

/// The documents that entries name; None if entries are missing, or name many.
fn names(
    entries: &[LogEntry],
    after: i64,
    head: i64,
) -> Result<Option<BTreeSet<(String, String)>>, WriteFault> {
    let numbers = entries.iter().map(|entry| entry.seq);
    if head < after || !numbers.eq(after + 1..=head) {
        return Ok(None);
    }
    let mut names = BTreeSet::new();
    for entry in entries {
        let named: Vec<(String, String)> = serde_json::from_str(&entry.body).map_err(|error| {
            WriteFault::Damaged(format!("entry {} of its log is malformed: {error}", entry.seq))
        })?;
        names.extend(named);
    }
    // One statement for each is slower then.
    if names.len() > MAX_DOCUMENTS {
        return Ok(None);
    }
    Ok(Some(names))
}

async fn read_documents(
    connection: &mut AnyConnection,
    known: &DocumentIndex,
    names: BTreeSet<(String, String)>,
    seq: i64,
) -> Result<SavedByOthers, WriteFault> {
    let mut reading = ChangeReader::new(known);
    for (kind, id) in names {
        // Whatever a later version keeps there besides is its own.
        let Some(found) = DocumentKind::named(&kind) else { continue };
        let select = sqlx::query::<Any>(SELECT_ONE).bind(kind).bind(id.clone());
        match select.fetch_optional(&mut *connection).await? {
            Some(row) => reading.put((found, id), row.try_get(0)?, row.try_get(1)?)?,
            None => reading.remove((found, id))?,
        }
    }
    let (changes, written) = reading.finish(seq);
    Ok(SavedByOthers::Changes(changes, written))
}

/// Makes changes of documents.
struct ChangeReader<'a> {
    known: &'a DocumentIndex,
    changes: StateChanges,
    /// In the order of their creation later on.
    meetings: Vec<SavedMeeting>,
    written: WrittenDocuments,
}

impl<'a> ChangeReader<'a> {
    fn new(known: &'a DocumentIndex) -> Self {
        let written = WrittenDocuments { changes: Vec::new(), seq: known.seq() };
        Self { known, changes: StateChanges::default(), meetings: Vec::new(), written }
    }

    fn put(&mut self, key: DocumentKey, revision: i64, json: &str) -> Result<(), WriteFault> {
        let (kind, id) = &key;
        let malformed = |error: serde_json::Error| {
            WriteFault::Damaged(format!("document {} '{id}' is malformed: {error}", kind.name()))
        };
        let mut position = 0;
        match kind {
            DocumentKind::Meeting => {
                let saved: SavedMeeting = serde_json::from_str(json).map_err(malformed)?;
                position = saved.position;
                // Deleted and created again: it comes after all others.
                if self.known.get(*kind, id).is_some_and(|before| before.position != position) {
                    let id = saved.meeting.id.clone();
                    self.changes.meetings.meetings.push(MeetingChange::Remove(id));
                }
                self.meetings.push(saved);
            }
            DocumentKind::Node => {
                let node = serde_json::from_str(json).map_err(malformed)?;
                self.changes.nodes.push(NodeChange::Put(Arc::new(node)));
            }
            DocumentKind::RefusedNode => {
                let refused = serde_json::from_str(json).map_err(malformed)?;
                self.changes.nodes.push(NodeChange::Refuse(refused));
            }
            DocumentKind::Fleet => {
                let record = serde_json::from_str(json).map_err(malformed)?;
                self.changes.nodes.push(NodeChange::Record(Arc::new(record)));
            }
            DocumentKind::Routing => {
                self.changes.routing =
                    Some(Arc::new(serde_json::from_str(json).map_err(malformed)?));
            }
            DocumentKind::Groups => {
                self.changes.groups =
                    Some(Arc::new(serde_json::from_str(json).map_err(malformed)?));
            }
            DocumentKind::VirtualNode => {
                let node = serde_json::from_str(json).map_err(malformed)?;
                self.changes.virtual_nodes.push(VirtualNodeChange::Put(Arc::new(node)));
            }
            DocumentKind::Token => {
                let token: SavedText = serde_json::from_str(json).map_err(malformed)?;
                self.changes.meetings.token = Some(token.value);
            }
            DocumentKind::Access => {
                let access: SavedText = serde_json::from_str(json).map_err(malformed)?;
                self.changes.access = Some(access.value.into());
            }
            DocumentKind::Dispatch => {
                let task = serde_json::from_str(json).map_err(malformed)?;
                self.changes.dispatch.push(DispatchChange::Put(Arc::new(task)));
            }
            DocumentKind::DispatchFiles => {
                let task = id
                    .parse()
                    .map_err(|_| WriteFault::Damaged(format!("'{id}' is no id of a task")))?;
                let files = serde_json::from_str(json).map_err(malformed)?;
                self.changes.dispatch.push(DispatchChange::PutFiles(task, Arc::new(files)));
            }
            DocumentKind::RemoteTask => {
                let task = serde_json::from_str(json).map_err(malformed)?;
                self.changes.remote_tasks.push(RemoteChange::Put(Arc::new(task)));
            }
            DocumentKind::RemotePart => {
                let part = serde_json::from_str(json).map_err(malformed)?;
                self.changes.remote_tasks.push(RemoteChange::PutPart(Arc::new(part)));
            }
            // Of the database itself, or of another main server.
            DocumentKind::Figures
            | DocumentKind::Generation
            | DocumentKind::Import
            | DocumentKind::Moved => {}
        }
        self.written.changes.push((key, Some(DocumentEntry { revision, position })));
        Ok(())
    }

    fn remove(&mut self, key: DocumentKey) -> Result<(), WriteFault> {
        let (kind, id) = &key;
        let unreadable =
            || WriteFault::Damaged(format!("'{id}' is no id of a {} document", kind.name()));
        match kind {
            DocumentKind::Meeting => {
                let id = id.parse().map_err(|_| unreadable())?;
                self.changes.meetings.meetings.push(MeetingChange::Remove(id));
            }
            DocumentKind::Node => {
                let node = percent_decoded(id).ok_or_else(unreadable)?;
                self.changes.nodes.push(NodeChange::Remove(node.into()));
            }
            DocumentKind::RefusedNode => {
                let (client, node) = id.split_once(' ').ok_or_else(unreadable)?;
                let client = client.parse().map_err(|_| unreadable())?;
                let node = percent_decoded(node).ok_or_else(unreadable)?;
                self.changes.nodes.push(NodeChange::Pardon(node.into(), client));
            }
            DocumentKind::Routing => {
                self.changes.routing = Some(Arc::new(RoutingRules::default()));
            }
            DocumentKind::Groups => self.changes.groups = Some(Arc::default()),
            DocumentKind::VirtualNode => {
                let node = percent_decoded(id).ok_or_else(unreadable)?;
                self.changes.virtual_nodes.push(VirtualNodeChange::Remove(node.into()));
            }
            DocumentKind::Dispatch => {
                let task = id.parse().map_err(|_| unreadable())?;
                self.changes.dispatch.push(DispatchChange::Remove(task));
            }
            DocumentKind::RemoteTask => {
                let task = id.parse().map_err(|_| unreadable())?;
                self.changes.remote_tasks.push(RemoteChange::Remove(task, Arc::default()));
            }
            // They go with their task.
            DocumentKind::DispatchFiles
            | DocumentKind::RemotePart
            | DocumentKind::Access
            | DocumentKind::Fleet
            | DocumentKind::Token
            | DocumentKind::Figures
            | DocumentKind::Generation
            | DocumentKind::Import
            | DocumentKind::Moved => {}
        }
        self.written.changes.push((key, None));
        Ok(())
    }

    fn finish(mut self, seq: i64) -> (StateChanges, WrittenDocuments) {
        self.meetings.sort_by_key(|saved| saved.position);
        let meetings = self.meetings.into_iter().map(|saved| MeetingChange::Put(saved.meeting));
        self.changes.meetings.meetings.extend(meetings);
        self.written.seq = seq;
        (self.changes, self.written)
    }
}
