//! The documents that changes come to. Pure.

use std::collections::{BTreeMap, HashMap};

use edge_mirror_protocol::{
    dispatch::TaskId,
    package::{PackageId, percent_encoded},
    remote_tasks::RemoteTaskId,
};

use super::document::{DocumentKey, DocumentKind, json};
use crate::state::{
    dispatch::DispatchChange,
    fleet::NodeChange,
    meetings::{Meeting, MeetingChange},
    remote_tasks::RemoteChange,
    virtual_nodes::VirtualNodeChange,
};

/// The documents of nodes after all changes; None: it is gone.
pub(super) fn node_documents(changes: &[NodeChange]) -> BTreeMap<DocumentKey, Option<String>> {
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

/// The documents of virtual nodes after all changes; None: it is gone.
pub(super) fn virtual_node_documents(
    changes: &[VirtualNodeChange],
) -> BTreeMap<DocumentKey, Option<String>> {
    let key = |id: &str| (DocumentKind::VirtualNode, percent_encoded(id).into_owned());
    let documents = changes.iter().map(|change| match change {
        VirtualNodeChange::Put(node) => (key(&node.id), Some(json(&**node))),
        VirtualNodeChange::Remove(id) => (key(id), None),
    });
    documents.collect()
}

/// The documents of tasks and their files after all changes; None: it is gone.
pub(super) fn dispatch_documents(
    changes: &[DispatchChange],
) -> BTreeMap<DocumentKey, Option<String>> {
    // Only the last change of each is written out.
    let mut last: BTreeMap<DocumentKey, Option<&DispatchChange>> = BTreeMap::new();
    for change in changes {
        let task = |id: &TaskId| (DocumentKind::Dispatch, id.to_string());
        let files = |id: &TaskId| (DocumentKind::DispatchFiles, id.to_string());
        match change {
            DispatchChange::Put(put) => drop(last.insert(task(&put.id), Some(change))),
            DispatchChange::PutFiles(id, _) => drop(last.insert(files(id), Some(change))),
            DispatchChange::Remove(id) => last.extend([(task(id), None), (files(id), None)]),
        }
    }
    let text = |change: &DispatchChange| match change {
        DispatchChange::Put(task) => Some(json(&**task)),
        DispatchChange::PutFiles(_, files) => Some(json(&**files)),
        DispatchChange::Remove(_) => None,
    };
    last.into_iter().map(|(key, change)| (key, change.and_then(text))).collect()
}

/// The documents of remote tasks and their parts after all changes; None: it is gone.
pub(super) fn remote_task_documents(
    changes: &[RemoteChange],
) -> BTreeMap<DocumentKey, Option<String>> {
    // Only the last change of each is written out.
    let mut last: BTreeMap<DocumentKey, Option<&RemoteChange>> = BTreeMap::new();
    let task = |id: &RemoteTaskId| (DocumentKind::RemoteTask, id.to_string());
    let part =
        |id: &RemoteTaskId, number: u32| (DocumentKind::RemotePart, format!("{id}.{number}"));
    for change in changes {
        match change {
            RemoteChange::Put(put) => drop(last.insert(task(&put.id), Some(change))),
            RemoteChange::PutPart(put) => {
                last.insert(part(&put.task, put.number), Some(change));
            }
            RemoteChange::Remove(id, numbers) => {
                last.insert(task(id), None);
                last.extend(numbers.iter().map(|number| (part(id, *number), None)));
            }
        }
    }
    let text = |change: &RemoteChange| match change {
        RemoteChange::Put(task) => Some(json(&**task)),
        RemoteChange::PutPart(part) => Some(json(&**part)),
        RemoteChange::Remove(..) => None,
    };
    last.into_iter().map(|(key, change)| (key, change.and_then(text))).collect()
}

/// The outcome of all changes of a meeting together.
pub(super) struct NetChange<'a> {
    pub(super) id: &'a PackageId,
    pub(super) meeting: Option<&'a Meeting>,
    /// Deleted and created again: it comes after all others.
    pub(super) is_new: bool,
}

/// Returns a change for each meeting, in the order in which they come into the list.
pub(super) fn net_changes(changes: &[MeetingChange]) -> Vec<NetChange<'_>> {
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
