//! The changes of known nodes as data, and the effect of each. A heartbeat makes none of
//! them: who comes, goes or is decided upon is saved at once, and the times at which nodes
//! were heard together, now and then.

use std::{cell::LazyCell, cmp::Reverse, collections::BTreeMap, iter, sync::Arc};

use edge_mirror_base::clock::UnixMillis;

use super::{
    known_node::{
        AvailabilityChange, FleetRecord, KnownNode, LearnedNode, NodeProfile, ProfileEdit,
        RefusedNode,
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
        edit: ProfileEdit,
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
        NodeCommand::Edit { id, edit } => change_profile(known, id, edit),
        NodeCommand::Remove(id) => remove(known, id),
    }
}

/// Operators may have decided otherwise since the nodes were read: of a node that was
/// refused, removed or handed over meanwhile, nothing is learned.
fn learn(known: &KnownNodes, nodes: &[LearnedNode]) -> Vec<NodeChange> {
    let is_current = |node: &&LearnedNode| {
        !known.is_refused(&node.id, node.client)
            && known.get(&node.id).map(|known| known.client) == node.known_client
    };
    put_all(known, nodes.iter().filter(is_current))
}

/// Beyond the limit, new nodes take the places of those that nobody would miss; if there
/// are none, they stay unknown and are used while they are there.
fn put_all<'a>(
    known: &KnownNodes,
    nodes: impl Iterator<Item = &'a LearnedNode>,
) -> Vec<NodeChange> {
    let mut room = MAX_NODES.saturating_sub(known.len());
    let mut dispensable = LazyCell::new(|| dispensable(known));
    let mut changes = Vec::new();
    for learned in nodes {
        let node = match known.get(&learned.id) {
            Some(node) => with_address_of(node, learned),
            None => {
                let has_room = room > 0;
                room = room.saturating_sub(1);
                let freed = if has_room { None } else { dispensable.pop() };
                let has_place = has_room || freed.is_some();
                changes.extend(freed.map(|node| NodeChange::Remove(node.id.clone())));
                has_place.then(|| KnownNode::from(learned.clone()))
            }
        };
        changes.extend(node.map(|node| NodeChange::Put(Arc::new(node))));
    }
    changes
}

/// Known nodes that are silent and of which no operator ever wrote anything; the one that
/// has been silent for the longest is last.
fn dispensable(known: &KnownNodes) -> Vec<&Arc<KnownNode>> {
    let untouched = NodeProfile::default();
    let silent = known.iter().filter(|node| !node.was_present() && node.profile == untouched);
    let mut silent: Vec<_> = silent.collect();
    silent.sort_by_key(|node| Reverse(known.last_seen(node)));
    silent
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
    let mut changes = put_all(known, iter::once(learned));
    if known.get(&learned.id).is_none() && changes.is_empty() {
        return Err(RequestError::TooManyNodes(MAX_NODES));
    }
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

fn change_profile(
    known: &KnownNodes,
    id: &str,
    edit: &ProfileEdit,
) -> Result<Vec<NodeChange>, RequestError> {
    let node = known.get(id).ok_or_else(|| RequestError::UnknownNode(id.to_owned()))?;
    let profile = node.profile.with(edit);
    if node.profile == profile {
        return Ok(Vec::new());
    }
    let node = KnownNode { profile, ..KnownNode::clone(node) };
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
        LearnedNode::new(id.into(), format!("10.0.0.{of}:8001"), client, at(1))
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
        let again = LearnedNode { known_client: Some(learned("a", 1).client), ..learned("a", 1) };
        assert_eq!(change(&mut known, NodeCommand::Learn(vec![again.clone()])), 0, "no news");
        let edit = |name: Option<&str>, drained| {
            let edit =
                ProfileEdit { name: name.map(Into::into), drained, ..ProfileEdit::default() };
            NodeCommand::Edit { id: "a".into(), edit }
        };
        // Of two operators, each changes what they wrote.
        assert_eq!(change(&mut known, edit(Some("大厅"), None)), 1);
        assert_eq!(change(&mut known, edit(None, Some(true))), 1);
        assert_eq!(change(&mut known, edit(None, Some(true))), 0, "no news");
        let moved = LearnedNode { address: "10.0.0.1:9".into(), ..again };
        assert_eq!(change(&mut known, NodeCommand::Learn(vec![moved])), 1);
        assert_eq!(known.get("a").unwrap().address, "10.0.0.1:9");
        assert_eq!(change(&mut known, NodeCommand::Approve(learned("a", 2))), 1);
        let node = known.get("a").unwrap();
        assert_eq!(node.address, "10.0.0.2:8001");
        assert_eq!((&*node.profile.name, node.profile.drained), ("大厅", true));
        assert_eq!(node.first_seen, at(1));
    }

    #[test]
    fn what_operators_decided_meanwhile_is_not_undone() {
        let mut known = KnownNodes::default();
        let read = |id: &str, of, known_as: Option<u8>| LearnedNode {
            known_client: known_as.map(|of| learned("", of).client),
            ..learned(id, of)
        };
        let learn = |known: &mut KnownNodes, node| change(known, NodeCommand::Learn(vec![node]));
        learn(&mut known, read("a", 1, None));
        change(&mut known, NodeCommand::Remove("a".into()));
        assert_eq!(learn(&mut known, read("a", 2, Some(1))), 0, "it was removed");
        change(&mut known, NodeCommand::Refuse(refused("a", 6, 2)));
        assert_eq!(learn(&mut known, read("a", 6, None)), 0, "it was refused");
        change(&mut known, NodeCommand::Approve(learned("a", 3)));
        assert_eq!(learn(&mut known, read("a", 1, None)), 0, "it is another client's");
        assert_eq!(learn(&mut known, read("a", 2, Some(3))), 1);
    }

    #[test]
    fn a_node_that_waited_was_present_when_it_was_last_heard() {
        let mut known = KnownNodes::default();
        change(
            &mut known,
            NodeCommand::Approve(LearnedNode { heard_at: at(9), ..learned("a", 1) }),
        );
        let node = known.get("a").unwrap();
        assert_eq!((node.first_seen, known.last_seen(node)), (at(1), at(9)));
    }

    #[test]
    fn where_all_places_are_taken_the_node_that_was_silent_for_the_longest_makes_room() {
        let mut known = KnownNodes::default();
        let many = (0..MAX_NODES).map(|n| learned(&n.to_string(), 1)).collect();
        change(&mut known, NodeCommand::Learn(many));
        assert_eq!(change(&mut known, NodeCommand::Learn(vec![learned("x", 1)])), 0);
        let silent = |id: &str, seconds| {
            (id.to_owned(), AvailabilityChange { at: at(seconds), present: false })
        };
        let notes = vec![silent("1", 30), silent("2", 20), silent("3", 10)];
        change(&mut known, NodeCommand::NotePresence(notes));
        let edit = ProfileEdit { name: Some("3 号厅".into()), ..ProfileEdit::default() };
        change(&mut known, NodeCommand::Edit { id: "3".into(), edit });
        let new = vec![learned("x", 1), learned("y", 1), learned("z", 1)];
        assert_eq!(change(&mut known, NodeCommand::Learn(new[..1].to_vec())), 2);
        assert!(known.get("2").is_none() && known.get("1").is_some());
        assert_eq!(change(&mut known, NodeCommand::Approve(new[1].clone())), 2);
        assert!(known.get("1").is_none() && known.get("3").is_some(), "somebody named it");
        assert_eq!(change(&mut known, NodeCommand::Learn(new)), 0);
        assert_eq!(known.len(), MAX_NODES);
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
