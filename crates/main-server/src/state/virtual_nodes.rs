//! Virtual nodes: names to which casts go as to nodes. No machine answers by them; a program
//! gets their casts from the main server. Pure.

use std::{collections::BTreeMap, sync::Arc};

use edge_mirror_base::clock::{UnixMillis, fractional_seconds};
use serde::{Deserialize, Serialize};

use crate::{
    refusal::RequestError,
    state::{
        fleet::{KnownNodes, commands::NodeCommand},
        groups::AddressedNode,
    },
};

/// The length of a node's.
const MAX_ID: usize = 256;
const MAX_TEXT: usize = 200;
const MAX_LABELS: usize = 16;

/// A virtual node without its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "VirtualNodeProfile"))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct VirtualNodeProfile {
    /// The same as a node's: casts to the site are for it, too.
    #[cfg_attr(test, schemars(length(max = 200)))]
    pub(crate) site: String,
    #[cfg_attr(test, schemars(length(max = 16)))]
    pub(crate) labels: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VirtualNode {
    pub(crate) id: String,
    pub(crate) profile: VirtualNodeProfile,
    #[serde(with = "fractional_seconds")]
    pub(crate) created_at: UnixMillis,
}

/// All of them, by id. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct VirtualNodes(Arc<BTreeMap<String, Arc<VirtualNode>>>);

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum VirtualNodeCommand {
    /// Creates one, or changes it; `most` may be there.
    Put {
        node: VirtualNode,
        most: u64,
    },
    Remove(String),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum VirtualNodeChange {
    Put(Arc<VirtualNode>),
    Remove(String),
}

impl VirtualNode {
    pub(crate) fn addressed(&self) -> AddressedNode<'_> {
        let VirtualNodeProfile { site, labels } = &self.profile;
        AddressedNode { id: &self.id, site, labels }
    }

    fn check(&self) -> Result<(), String> {
        let is_text = |text: &str, most| text.len() <= most && !text.chars().any(char::is_control);
        if self.id.is_empty() || !is_text(&self.id, MAX_ID) {
            return Err(format!(
                "虚拟节点 ID 应为 1 到 {MAX_ID} 字节，不含控制字符 / the id of a virtual node has 1 to {MAX_ID} bytes and no control characters"
            ));
        }
        let VirtualNodeProfile { site, labels } = &self.profile;
        let are_labels = labels.len() <= MAX_LABELS
            && labels.iter().all(|label| !label.is_empty() && is_text(label, MAX_TEXT));
        match is_text(site, MAX_TEXT) && are_labels {
            true => Ok(()),
            false => Err(format!(
                "site 和每个标签最长 {MAX_TEXT} 字节，不含控制字符，标签最多 {MAX_LABELS} 个 / a site and labels have at most {MAX_TEXT} bytes each and no control characters, and there are at most {MAX_LABELS} labels"
            )),
        }
    }
}

impl VirtualNodes {
    pub(crate) fn new(nodes: impl IntoIterator<Item = VirtualNode>) -> Self {
        let nodes = nodes.into_iter().map(|node| (node.id.clone(), Arc::new(node)));
        Self(Arc::new(nodes.collect()))
    }

    pub(crate) fn get(&self, id: &str) -> Result<&Arc<VirtualNode>, RequestError> {
        self.0.get(id).ok_or_else(|| RequestError::UnknownVirtualNode(id.to_owned()))
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<VirtualNode>> {
        self.0.values()
    }

    /// Those after an id, by id.
    pub(crate) fn after(&self, id: &str) -> impl Iterator<Item = &Arc<VirtualNode>> {
        let bounds = (std::ops::Bound::Excluded(id), std::ops::Bound::Unbounded);
        self.0.range::<str, _>(bounds).map(|(_, node)| node)
    }

    /// Returns what `command` changes.
    pub(crate) fn apply(
        &self,
        known: &KnownNodes,
        command: &VirtualNodeCommand,
    ) -> Result<Option<VirtualNodeChange>, RequestError> {
        match command {
            VirtualNodeCommand::Put { node, most } => {
                node.check().map_err(RequestError::Invalid)?;
                if known.get(&node.id).is_some() {
                    return Err(RequestError::NodeIdTaken(node.id.clone()));
                }
                let Some(before) = self.0.get(&node.id) else {
                    if self.0.len() as u64 >= *most {
                        return Err(RequestError::TooManyVirtualNodes(*most));
                    }
                    return Ok(Some(VirtualNodeChange::Put(Arc::new(node.clone()))));
                };
                let created_at = before.created_at;
                let changed = VirtualNode { created_at, ..node.clone() };
                Ok((changed != **before).then(|| VirtualNodeChange::Put(Arc::new(changed))))
            }
            VirtualNodeCommand::Remove(id) => {
                self.get(id)?;
                Ok(Some(VirtualNodeChange::Remove(id.clone())))
            }
        }
    }

    pub(crate) fn merge(&mut self, changes: &[VirtualNodeChange]) {
        for change in changes {
            let nodes = Arc::make_mut(&mut self.0);
            match change {
                VirtualNodeChange::Put(node) => {
                    drop(nodes.insert(node.id.clone(), node.clone()));
                }
                VirtualNodeChange::Remove(id) => drop(nodes.remove(id)),
            }
        }
    }

    /// The command without nodes that have the name of a virtual one: they came before that
    /// was known where they were accepted.
    pub(crate) fn without_theirs(
        &self,
        command: &NodeCommand,
    ) -> Result<NodeCommand, RequestError> {
        match command {
            NodeCommand::Approve(node) if self.has(&node.id) => {
                Err(RequestError::NodeIdTaken(node.id.clone()))
            }
            NodeCommand::Learn(nodes) => {
                let others = nodes.iter().filter(|node| !self.has(&node.id));
                Ok(NodeCommand::Learn(others.cloned().collect()))
            }
            other => Ok(other.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fleet::{FleetRecord, KnownNode, LearnedNode};

    const MOST: u64 = 2;

    fn learned(id: &str) -> LearnedNode {
        LearnedNode::new(id.into(), "x:1".into(), [10, 0, 0, 1].into(), UnixMillis::from_secs(1))
    }

    fn put(id: &str, site: &str, second: u64) -> VirtualNodeCommand {
        let profile = VirtualNodeProfile { site: site.to_owned(), labels: Vec::new() };
        let created_at = UnixMillis::from_secs(second);
        VirtualNodeCommand::Put {
            node: VirtualNode { id: id.to_owned(), profile, created_at },
            most: MOST,
        }
    }

    fn execute(nodes: &mut VirtualNodes, command: &VirtualNodeCommand) -> Result<bool, String> {
        let known = KnownNodes::new([KnownNode::from(learned("real"))], [], FleetRecord::default());
        let change = nodes.apply(&known, command).map_err(|error| error.to_string())?;
        nodes.merge(change.as_slice());
        Ok(change.is_some())
    }

    #[test]
    fn virtual_nodes_come_change_go_and_are_bounded() {
        let mut nodes = VirtualNodes::default();
        assert_eq!(execute(&mut nodes, &put("a", "", 1)), Ok(true));
        assert_eq!(execute(&mut nodes, &put("a", "", 2)), Ok(false), "the same");
        assert_eq!(execute(&mut nodes, &put("a", "3F", 3)), Ok(true));
        let a = nodes.get("a").unwrap();
        assert_eq!((&*a.profile.site, a.created_at), ("3F", UnixMillis::from_secs(1)));
        assert_eq!(execute(&mut nodes, &put("b", "", 4)), Ok(true));
        let ids: Vec<_> = nodes.after("a").map(|node| node.id.clone()).collect();
        assert_eq!(ids, ["b"]);
        assert!(execute(&mut nodes, &put("c", "", 5)).unwrap_err().contains("2 virtual nodes"));
        let remove = VirtualNodeCommand::Remove("b".to_owned());
        assert_eq!(execute(&mut nodes, &remove), Ok(true));
        assert!(execute(&mut nodes, &remove).unwrap_err().contains("no virtual node b"));
        assert_eq!(execute(&mut nodes, &put("c", "", 6)), Ok(true));
    }

    #[test]
    fn a_name_is_either_a_nodes_or_a_virtual_ones() {
        let mut nodes = VirtualNodes::default();
        assert!(execute(&mut nodes, &put("real", "", 1)).unwrap_err().contains("is taken"));
        execute(&mut nodes, &put("a", "", 1)).unwrap();
        let both = NodeCommand::Learn(vec![learned("a"), learned("b")]);
        assert_eq!(nodes.without_theirs(&both).unwrap(), NodeCommand::Learn(vec![learned("b")]));
        assert!(nodes.without_theirs(&NodeCommand::Approve(learned("a"))).is_err());
        assert!(nodes.without_theirs(&NodeCommand::Approve(learned("b"))).is_ok());
    }

    #[test]
    fn what_is_no_name_site_or_label_is_refused() {
        let mut nodes = VirtualNodes::default();
        let long = "x".repeat(257);
        for (id, site) in [("", ""), ("a\n", ""), (&*long, ""), ("a", &long), ("a", "\u{7}")] {
            let refusal = execute(&mut nodes, &put(id, site, 1)).unwrap_err();
            assert!(refusal.contains("control characters"), "{refusal}");
        }
    }
}
