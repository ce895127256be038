//! The documents of a state, and what is read from them. They are JSON texts, times are
//! numbers in them: neither engine has a type that the other lacks.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use edge_mirror_base::clock::UnixMillis;
use serde::{Deserialize, Serialize};

use super::document_writer::WrittenDocuments;
use crate::{
    error::StateError,
    state::{
        dispatch::{DispatchTable, DispatchTask},
        figures::SavedFigures,
        fleet::{FleetRecord, KnownNode, KnownNodes, RefusedNode},
        groups::NodeGroups,
        master_state::{MasterState, StateChanges},
        meetings::{Meeting, MeetingTable},
        remote_tasks::{RemotePart, RemoteTask, RemoteTaskTable},
        routing::RoutingRules,
        virtual_nodes::VirtualNodes,
    },
};

/// The schema that this version writes; a newer one is refused.
pub(super) const SCHEMA: i64 = 1;

/// The kinds of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum DocumentKind {
    Meeting,
    /// A known node; its name is its id, percent-encoded: PostgreSQL keeps no NUL in a text.
    Node,
    /// A client that may not be a node: its address and the node's id.
    RefusedNode,
    /// The rest that is saved of nodes, of all together: one, without an id.
    Fleet,
    /// The rules by which clients are sent to nodes: one, like the following.
    Routing,
    /// The groups of nodes.
    Groups,
    /// A virtual node, named as a known node is.
    VirtualNode,
    /// Counters and the last minutes: one for each main server.
    Figures,
    Token,
    /// The credentials of operators and nodes, for main servers that share the state.
    Access,
    /// A task of dispatch.
    Dispatch,
    /// The files of one.
    DispatchFiles,
    /// A remote task.
    RemoteTask,
    /// A part of one: the task's id, a dot, its number.
    RemotePart,
    /// Its revision grows when the state is replaced or moved: changes of what was there
    /// before are not taken any more.
    Generation,
    /// The digest of the file that the first documents came from.
    Import,
    /// The place that the state was moved to.
    Moved,
}

impl DocumentKind {
    const ALL: [Self; 17] = [
        Self::Meeting,
        Self::Node,
        Self::RefusedNode,
        Self::Fleet,
        Self::Routing,
        Self::Groups,
        Self::VirtualNode,
        Self::Figures,
        Self::Token,
        Self::Access,
        Self::Dispatch,
        Self::DispatchFiles,
        Self::RemoteTask,
        Self::RemotePart,
        Self::Generation,
        Self::Import,
        Self::Moved,
    ];

    /// None: a later version's.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Meeting => "meeting",
            Self::Node => "node",
            Self::RefusedNode => "refused_node",
            Self::Fleet => "fleet",
            Self::Routing => "routing",
            Self::Groups => "groups",
            Self::VirtualNode => "virtual_node",
            Self::Figures => "figures",
            Self::Token => "token",
            Self::Access => "access",
            Self::Dispatch => "dispatch",
            Self::DispatchFiles => "dispatch_files",
            Self::RemoteTask => "remote_task",
            Self::RemotePart => "remote_part",
            Self::Generation => "holder",
            Self::Import => "import",
            Self::Moved => "moved",
        }
    }
}

pub(super) type DocumentKey = (DocumentKind, String);

/// A document as the database has it.
#[derive(Clone, Debug)]
pub(super) struct SavedDocument {
    pub(super) kind: String,
    pub(super) id: String,
    pub(super) revision: i64,
    pub(super) json: String,
}

/// The revision of a saved document, and its place among meetings.
#[derive(Clone, Copy, Debug)]
pub(super) struct DocumentEntry {
    pub(super) revision: i64,
    pub(super) position: u64,
}

/// The documents as they were last read or saved, without their contents.
#[derive(Debug, Default)]
pub(super) struct DocumentIndex {
    entries: HashMap<DocumentKey, DocumentEntry>,
    /// Number of the last transaction that is in it.
    seq: i64,
    /// The main server that writes to it, where there may be several.
    pub(super) server: String,
}

/// A document after a transaction; None: it is gone.
pub(super) type IndexChange = (DocumentKey, Option<DocumentEntry>);

/// A transaction that was not carried out, or nobody knows.
#[derive(Debug)]
pub(super) enum WriteFault {
    Sql(sqlx::Error),
    State(StateError),
    Replaced,
    Conflict,
    /// Another main server has saved something since this one last read.
    Outdated,
    Newer {
        found: i64,
        known: i64,
    },
    Damaged(String),
    NoState,
}

impl From<sqlx::Error> for WriteFault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

/// A meeting and its place in the order of creation, which is the contract's.
#[derive(Deserialize, Serialize)]
pub(super) struct SavedMeeting {
    pub(super) position: u64,
    #[serde(flatten)]
    pub(super) meeting: Meeting,
}

/// A document that is one text.
#[derive(Deserialize, Serialize)]
pub(super) struct SavedText {
    pub(super) value: String,
}

/// All that is in a database.
#[derive(Debug)]
pub(super) struct SavedState {
    pub(super) state: MasterState,
    /// False where no version has been that keeps nodes.
    pub(super) has_fleet: bool,
    pub(super) imported: Option<String>,
    pub(super) moved: Option<String>,
    /// By main server.
    pub(super) figures: BTreeMap<String, SavedFigures>,
}

/// The documents to save in a database that is opened.
pub(super) struct InitialChanges {
    pub(super) changes: StateChanges,
    pub(super) imported: Option<String>,
}

impl DocumentIndex {
    pub(super) fn generation(&self) -> i64 {
        self.get(DocumentKind::Generation, "").map_or(0, |entry| entry.revision)
    }

    /// Takes what was read instead, for the same main server.
    pub(super) fn replace(&mut self, read: Self) {
        let server = std::mem::take(&mut self.server);
        *self = Self { server, ..read };
    }

    pub(super) fn seq(&self) -> i64 {
        self.seq
    }

    pub(super) fn set_seq(&mut self, seq: i64) {
        self.seq = seq;
    }

    pub(super) fn extend(&mut self, written: WrittenDocuments) {
        self.seq = written.seq;
        for (key, entry) in written.changes {
            match entry {
                Some(entry) => drop(self.entries.insert(key, entry)),
                None => drop(self.entries.remove(&key)),
            }
        }
    }

    pub(super) fn get(&self, kind: DocumentKind, id: &str) -> Option<DocumentEntry> {
        self.entries.get(&(kind, id.to_owned())).copied()
    }

    pub(super) fn next_position(&self) -> u64 {
        self.entries.values().map(|entry| entry.position).max().map_or(0, |last| last + 1)
    }
}

/// None of a state where nothing was saved yet.
pub(super) fn parse(
    documents: &[SavedDocument],
) -> Result<(DocumentIndex, Option<SavedState>), WriteFault> {
    let mut known = DocumentIndex::default();
    let (mut meetings, mut token, mut imported, mut moved) = (Vec::new(), None, None, None);
    let (mut nodes, mut refused, mut fleet) = (Vec::new(), Vec::new(), None);
    let (mut routing, mut groups) = (RoutingRules::default(), NodeGroups::default());
    let (mut figures, mut access) = (BTreeMap::new(), None);
    let mut virtual_nodes = Vec::new();
    let (mut tasks, mut task_files) = (Vec::new(), Vec::new());
    let (mut remote_tasks, mut remote_parts) = (Vec::new(), Vec::new());
    for SavedDocument { kind, id, revision, json } in documents {
        let malformed =
            |error| WriteFault::Damaged(format!("document {kind} '{id}' is malformed: {error}"));
        let text = || serde_json::from_str::<SavedText>(json).map_err(malformed);
        let found = DocumentKind::named(kind);
        // Whatever a later version with the same schema keeps there besides is its own.
        let Some(found) = found else { continue };
        let mut position = 0;
        match found {
            DocumentKind::Meeting => {
                let saved: SavedMeeting = serde_json::from_str(json).map_err(malformed)?;
                position = saved.position;
                meetings.push(saved);
            }
            DocumentKind::Node => {
                nodes.push(serde_json::from_str::<KnownNode>(json).map_err(malformed)?);
            }
            DocumentKind::RefusedNode => {
                refused.push(serde_json::from_str::<RefusedNode>(json).map_err(malformed)?);
            }
            DocumentKind::Fleet => {
                fleet = Some(serde_json::from_str::<FleetRecord>(json).map_err(malformed)?);
            }
            DocumentKind::Routing => routing = serde_json::from_str(json).map_err(malformed)?,
            DocumentKind::Groups => groups = serde_json::from_str(json).map_err(malformed)?,
            DocumentKind::VirtualNode => {
                virtual_nodes.push(serde_json::from_str(json).map_err(malformed)?);
            }
            // Not worth a start that fails.
            DocumentKind::Figures => {
                figures.insert(id.clone(), serde_json::from_str(json).unwrap_or_default());
            }
            DocumentKind::Token => token = Some(text()?.value),
            DocumentKind::Access => access = Some(text()?.value.into()),
            DocumentKind::Dispatch => {
                tasks.push(serde_json::from_str::<DispatchTask>(json).map_err(malformed)?);
            }
            DocumentKind::DispatchFiles => {
                let task = id
                    .parse()
                    .map_err(|_| WriteFault::Damaged(format!("'{id}' is no id of a task")))?;
                task_files.push((task, serde_json::from_str(json).map_err(malformed)?));
            }
            DocumentKind::RemoteTask => {
                remote_tasks.push(serde_json::from_str::<RemoteTask>(json).map_err(malformed)?);
            }
            DocumentKind::RemotePart => {
                remote_parts.push(serde_json::from_str::<RemotePart>(json).map_err(malformed)?);
            }
            DocumentKind::Import => imported = Some(text()?.value),
            DocumentKind::Moved => moved = Some(text()?.value),
            DocumentKind::Generation => {}
        }
        let entry = DocumentEntry { revision: *revision, position };
        known.entries.insert((found, id.clone()), entry);
    }
    let Some(token) = token else { return Ok((known, None)) };
    meetings.sort_by_key(|saved| saved.position);
    let meetings = meetings.into_iter().map(|saved| saved.meeting).collect();
    let has_fleet = fleet.is_some();
    let nodes = KnownNodes::new(nodes, refused, fleet.unwrap_or_default());
    let meetings = MeetingTable { token, meetings };
    let (routing, groups) = (Arc::new(routing), Arc::new(groups));
    let dispatch = Arc::new(DispatchTable::new(tasks, task_files));
    let remote_tasks = Arc::new(RemoteTaskTable::new(remote_tasks, remote_parts));
    let virtual_nodes = VirtualNodes::new(virtual_nodes);
    let state = MasterState {
        meetings,
        nodes,
        routing,
        groups,
        virtual_nodes,
        access,
        dispatch,
        remote_tasks,
    };
    Ok((known, Some(SavedState { state, has_fleet, imported, moved, figures })))
}

pub(super) fn json(document: &impl Serialize) -> String {
    serde_json::to_string(document).expect("documents have text keys alone")
}

/// A time as the tables have it.
pub(super) fn millis(at: UnixMillis) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}
