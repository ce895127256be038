//! The changes of known nodes as data, and what each of them does. What a heartbeat
//! changes is none of them: only who comes, goes or is decided upon is saved at once.

use std::{collections::BTreeMap, sync::Arc};

use edge_mirror_base::clock::UnixMillis;

use super::{
    known_node::{
        AvailabilityChange, FleetRecord, KnownNode, LearnedNode, NodeProfile, RefusedNode,
    },
    known_nodes::{KnownNodes, NodeChange},
};
use crate::{refusal::RequestError, state::MAX_NODES};

/// Beyond it, the oldest refusals are forgotten.
const MAX_REFUSED: usize = 1000;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NodeCommand {
    /// Nodes that proved themselves, or have other addresses now.
    Learn(Vec<LearnedNode>),
    /// Nodes that fell silent or came back.
    NotePresence(Vec<(String, AvailabilityChange)>),
    /// The times at which nodes were last heard.
    RecordSightings(BTreeMap<String, UnixMillis>),
    /// An operator takes this client for the node.
    Approve(LearnedNode),
    Refuse(RefusedNode),
    Edit {
        id: String,
        profile: NodeProfile,
    },
    /// Forgets the node, and refusals of its id.
    Remove(String),
}

/// Returns what `command` changes.
pub(crate) fn apply(
    known: &KnownNodes,
    command: &NodeCommand,
) -> Result<Vec<NodeChange>, RequestError> {
    match command {
        NodeCommand::Learn(nodes) => Ok(learn(known, nodes)),
        NodeCommand::NotePresence(notes) => Ok(note_presence(known, notes)),
        NodeCommand::RecordSightings(sightings) => Ok(record(known, sightings)),
        NodeCommand::Approve(node) => approve(known, node),
        NodeCommand::Refuse(node) => Ok(refuse(known, node)),
        NodeCommand::Edit { id, profile } => edit(known, id, profile),
        NodeCommand::Remove(id) => remove(known, id),
    }
}

/// Beyond the limit, nodes stay unknown and are used while they are there.
fn learn(known: &KnownNodes, nodes: &[LearnedNode]) -> Vec<NodeChange> {
    let mut room = MAX_NODES.saturating_sub(known.len());
    let changes = nodes.iter().filter_map(|learned| {
        let node = match known.get(&learned.id) {
            Some(node) => with_address_of(node, learned)?,
            None => {
                room = room.checked_sub(1)?;
                KnownNode::from(learned.clone())
            }
        };
        Some(NodeChange::Put(Arc::new(node)))
    });
    changes.collect()
}

/// None if it is as it was.
fn with_address_of(node: &KnownNode, learned: &LearnedNode) -> Option<KnownNode> {
    let is_same = node.address == learned.address && node.client == learned.client;
    let moved = || KnownNode {
        address: learned.address.clone(),
        client: learned.client,
        ..KnownNode::clone(node)
    };
    (!is_same).then(moved)
}

fn note_presence(known: &KnownNodes, notes: &[(String, AvailabilityChange)]) -> Vec<NodeChange> {
    let changes = notes.iter().filter_map(|(id, change)| {
        let node = known.get(id).filter(|node| node.was_present() != change.present)?;
        let mut node = KnownNode::clone(node);
        node.note(*change);
        Some(NodeChange::Put(Arc::new(node)))
    });
    changes.collect()
}

fn record(known: &KnownNodes, sightings: &BTreeMap<String, UnixMillis>) -> Vec<NodeChange> {
    let mut record = FleetRecord::clone(known.record());
    record.last_seen.extend(sightings.iter().map(|(id, at)| (id.clone(), at.as_secs())));
    record.last_seen.retain(|id, _| known.get(id).is_some());
    match record == **known.record() {
        true => Vec::new(),
        false => vec![NodeChange::Record(Arc::new(record))],
    }
}

fn approve(known: &KnownNodes, learned: &LearnedNode) -> Result<Vec<NodeChange>, RequestError> {
    if known.get(&learned.id).is_none() && known.len() >= MAX_NODES {
        return Err(RequestError::TooManyNodes(MAX_NODES));
    }
    let mut changes = learn(known, std::slice::from_ref(learned));
    if known.is_refused(&learned.id, learned.client) {
        changes.push(NodeChange::Pardon(learned.id.clone(), learned.client));
    }
    Ok(changes)
}

fn refuse(known: &KnownNodes, refused: &RefusedNode) -> Vec<NodeChange> {
    let mut changes = vec![NodeChange::Refuse(refused.clone())];
    if known.get(&refused.id).is_some_and(|node| node.client == refused.client) {
        changes.push(NodeChange::Remove(refused.id.clone()));
    }
    if known.refused().count() >= MAX_REFUSED && !known.is_refused(&refused.id, refused.client) {
        let oldest = known.refused().min_by_key(|other| other.at);
        changes.extend(oldest.map(|other| NodeChange::Pardon(other.id.clone(), other.client)));
    }
    changes
}

fn edit(
    known: &KnownNodes,
    id: &str,
    profile: &NodeProfile,
) -> Result<Vec<NodeChange>, RequestError> {
    let node = known.get(id).ok_or_else(|| RequestError::UnknownNode(id.to_owned()))?;
    if node.profile == *profile {
        return Ok(Vec::new());
    }
    let node = KnownNode { profile: profile.clone(), ..KnownNode::clone(node) };
    Ok(vec![NodeChange::Put(Arc::new(node))])
}

fn remove(known: &KnownNodes, id: &str) -> Result<Vec<NodeChange>, RequestError> {
    let refusals = known.refused().filter(|node| node.id == id);
    let pardons = refusals.map(|node| NodeChange::Pardon(node.id.clone(), node.client));
    let mut changes: Vec<_> = pardons.collect();
    if known.get(id).is_some() {
        changes.push(NodeChange::Remove(id.to_owned()));
    }
    match changes.is_empty() {
        true => Err(RequestError::UnknownNode(id.to_owned())),
        false => Ok(changes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixMillis {
        UnixMillis::from_secs(seconds)
    }

    fn learned(id: &str, of: u8) -> LearnedNode {
        let client = [10, 0, 0, of].into();
        LearnedNode { id: id.into(), address: format!("10.0.0.{of}:8001"), client, at: at(1) }
    }

    fn refused(id: &str, of: u8, seconds: u64) -> RefusedNode {
        let LearnedNode { id, address, client, .. } = learned(id, of);
        RefusedNode { id, address, client, at: at(seconds) }
    }

    /// The number of changes.
    fn change(known: &mut KnownNodes, command: NodeCommand) -> usize {
        let changes = apply(known, &command).unwrap();
        known.merge(&changes);
        changes.len()
    }

    #[test]
    fn a_node_that_moves_keeps_what_operators_wrote() {
        let mut known = KnownNodes::default();
        assert_eq!(change(&mut known, NodeCommand::Learn(vec![learned("a", 1)])), 1);
        assert_eq!(change(&mut known, NodeCommand::Learn(vec![learned("a", 1)])), 0, "no news");
        let profile =
            NodeProfile { name: "大厅".into(), drained: true, ..NodeProfile::default() };
        let edit = NodeCommand::Edit { id: "a".into(), profile: profile.clone() };
        assert_eq!(change(&mut known, edit.clone()), 1);
        assert_eq!(change(&mut known, edit), 0, "no news");
        assert_eq!(change(&mut known, NodeCommand::Approve(learned("a", 2))), 1);
        let node = known.get("a").unwrap();
        assert_eq!((&*node.address, &node.profile), ("10.0.0.2:8001", &profile));
        assert_eq!(node.first_seen, at(1));
    }

    #[test]
    fn a_refusal_stays_until_it_is_approved_or_removed() {
        let mut known = KnownNodes::default();
        change(&mut known, NodeCommand::Learn(vec![learned("a", 1)]));
        assert_eq!(change(&mut known, NodeCommand::Refuse(refused("a", 6, 2))), 1);
        assert!(known.get("a").is_some(), "it was another client");
        assert_eq!(change(&mut known, NodeCommand::Refuse(refused("a", 1, 3))), 2);
        assert!(known.get("a").is_none() && known.refused().count() == 2);
        assert_eq!(change(&mut known, NodeCommand::Approve(learned("a", 6))), 2);
        let client = |of| learned("a", of).client;
        assert!(!known.is_refused("a", client(6)) && known.is_refused("a", client(1)));
        assert_eq!(change(&mut known, NodeCommand::Remove("a".into())), 2);
        assert_eq!((known.len(), known.refused().count()), (0, 0));
        let again = apply(&known, &NodeCommand::Remove("a".into()));
        assert!(matches!(again, Err(RequestError::UnknownNode(_))));
    }

    #[test]
    fn what_is_known_and_refused_is_bounded() {
        let mut known = KnownNodes::default();
        let many = (0..=MAX_NODES).map(|n| learned(&n.to_string(), 1)).collect();
        assert_eq!(change(&mut known, NodeCommand::Learn(many)), MAX_NODES);
        let more = apply(&known, &NodeCommand::Approve(learned("x", 1)));
        assert!(matches!(more, Err(RequestError::TooManyNodes(_))));
        change(&mut known, NodeCommand::Approve(learned("0", 2)));
        for n in 0..=MAX_REFUSED {
            change(&mut known, NodeCommand::Refuse(refused(&format!("r{n}"), 6, n as u64)));
        }
        assert_eq!(known.refused().count(), MAX_REFUSED);
        let client = refused("", 6, 0).client;
        assert!(!known.is_refused("r0", client) && known.is_refused("r1", client));
    }

    #[test]
    fn only_changes_between_present_and_silent_are_kept() {
        let mut known = KnownNodes::default();
        change(&mut known, NodeCommand::Learn(vec![learned("a", 1)]));
        let mut note = |present, seconds| {
            let change_at = AvailabilityChange { at: at(seconds), present };
            let notes = vec![("a".to_owned(), change_at), ("unknown".to_owned(), change_at)];
            change(&mut known, NodeCommand::NotePresence(notes))
        };
        let counts = [(true, 2), (false, 3), (false, 4), (true, 5)].map(|(is, s)| note(is, s));
        assert_eq!(counts, [0, 1, 0, 1]);
        let kept = &known.get("a").unwrap().availability;
        let kept: Vec<_> = kept.iter().map(|kept| (kept.at.as_secs(), kept.present)).collect();
        assert_eq!(kept, [(1, true), (3, false), (5, true)]);
    }

    #[test]
    fn sightings_are_of_known_nodes_and_one_change() {
        let mut known = KnownNodes::default();
        change(&mut known, NodeCommand::Learn(vec![learned("a", 1), learned("b", 1)]));
        let seen = |seconds| {
            let ids = ["a", "b", "stranger"].map(str::to_owned);
            NodeCommand::RecordSightings(ids.into_iter().map(|id| (id, at(seconds))).collect())
        };
        assert_eq!((change(&mut known, seen(9)), change(&mut known, seen(9))), (1, 0));
        assert_eq!(known.record().last_seen.len(), 2);
        assert_eq!(known.last_seen(known.get("a").unwrap()), at(9));
        change(&mut known, NodeCommand::Remove("a".into()));
        change(&mut known, seen(10));
        assert_eq!(known.record().last_seen.keys().collect::<Vec<_>>(), ["b"]);
    }
}
