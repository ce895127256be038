//! All known nodes, and those that were refused.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use edge_mirror_base::clock::UnixMillis;

use super::known_node::{FleetRecord, KnownNode, RefusedNode};

/// Cheap to clone: each change of a meeting does.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct KnownNodes {
    nodes: Arc<BTreeMap<String, Arc<KnownNode>>>,
    refused: Arc<BTreeMap<(String, IpAddr), RefusedNode>>,
    record: Arc<FleetRecord>,
}

/// Numbers the contents of `KnownNodes`, so that two that differ have different numbers.
#[derive(Debug, Default)]
pub(crate) struct KnownVersions(Mutex<(KnownNodes, u64)>);

impl KnownVersions {
    /// The last ones are kept: two are the same if they share everything.
    pub(crate) fn number(&self, known: &KnownNodes) -> u64 {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !last.0.is_same(known) {
            *last = (known.clone(), last.1 + 1);
        }
        last.1
    }
}

/// A difference of the known nodes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NodeChange {
    Put(Arc<KnownNode>),
    Remove(String),
    Refuse(RefusedNode),
    /// Takes a refusal back.
    Pardon(String, IpAddr),
    Record(Arc<FleetRecord>),
}

impl KnownNodes {
    pub(crate) fn new(
        nodes: impl IntoIterator<Item = KnownNode>,
        refused: impl IntoIterator<Item = RefusedNode>,
        record: FleetRecord,
    ) -> Self {
        let nodes = nodes.into_iter().map(|node| (node.id.clone(), Arc::new(node)));
        let refused = refused.into_iter().map(|node| ((node.id.clone(), node.client), node));
        Self {
            nodes: Arc::new(nodes.collect()),
            refused: Arc::new(refused.collect()),
            record: Arc::new(record),
        }
    }

    /// True if nothing was changed between the two: they share everything.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.nodes, &other.nodes)
            && Arc::ptr_eq(&self.refused, &other.refused)
            && Arc::ptr_eq(&self.record, &other.record)
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Arc<KnownNode>> {
        self.nodes.get(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<KnownNode>> {
        self.nodes.values()
    }

    pub(crate) fn is_drained(&self, id: &str) -> bool {
        self.nodes.get(id).is_some_and(|node| node.profile.drained)
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn is_refused(&self, id: &str, client: IpAddr) -> bool {
        !self.refused.is_empty() && self.refused.contains_key(&(id.to_owned(), client))
    }

    /// By id.
    pub(crate) fn refused(&self) -> impl Iterator<Item = &RefusedNode> {
        self.refused.values()
    }

    pub(crate) fn record(&self) -> &Arc<FleetRecord> {
        &self.record
    }

    /// The time until which nodes are accepted without a question, if that is still so.
    pub(crate) fn open_until(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.record.open_until.filter(|until| now < *until)
    }

    /// The time at which a node that is not there was last heard, as it is saved.
    pub(crate) fn last_seen(&self, node: &KnownNode) -> UnixMillis {
        let saved = self.record.last_seen.get(&node.id).copied().map(UnixMillis::from_secs);
        let changed = node.availability.last().map(|last| last.at);
        saved.max(changed).unwrap_or(node.first_seen)
    }

    pub(crate) fn merge(&mut self, changes: &[NodeChange]) {
        for change in changes {
            match change {
                NodeChange::Put(node) => {
                    Arc::make_mut(&mut self.nodes).insert(node.id.clone(), node.clone());
                }
                NodeChange::Remove(id) => drop(Arc::make_mut(&mut self.nodes).remove(id)),
                NodeChange::Refuse(node) => {
                    let key = (node.id.clone(), node.client);
                    Arc::make_mut(&mut self.refused).insert(key, node.clone());
                }
                NodeChange::Pardon(id, client) => {
                    Arc::make_mut(&mut self.refused).remove(&(id.clone(), *client));
                }
                NodeChange::Record(record) => self.record = record.clone(),
            }
        }
    }

    /// All of it as changes, for a state that has none.
    pub(crate) fn changes(&self) -> Vec<NodeChange> {
        let nodes = self.iter().cloned().map(NodeChange::Put);
        let refused = self.refused().cloned().map(NodeChange::Refuse);
        nodes.chain(refused).chain([NodeChange::Record(self.record.clone())]).collect()
    }
}
