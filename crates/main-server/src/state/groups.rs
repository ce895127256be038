//! Groups of nodes, by whose names operators send something to all of them. Pure.

mod expression;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::refusal::RequestError;

pub(crate) use expression::LabelExpression;

const MAX_ENTRIES: usize = 1000;
const MAX_TEXT: usize = 256;
const MAX_NAME: usize = 200;
/// Unknown nodes that an error lists.
const MAX_LISTED: usize = 5;

/// A node as far as it counts here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddressedNode<'a> {
    pub(crate) id: &'a str,
    pub(crate) site: &'a str,
    pub(crate) labels: &'a [String],
}

/// The nodes of a group: each that is in a list, or has the labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NodeGroup {
    /// Their ids.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) nodes: BTreeSet<String>,
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) sites: BTreeSet<String>,
    /// Labels with `&`, `|`, `!` and parentheses: `screen & !(old | spare)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) labels: Option<LabelExpression>,
}

/// All groups, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct NodeGroups(BTreeMap<String, NodeGroup>);

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum GroupCommand {
    /// Creates a group, or changes it.
    Put {
        name: String,
        group: NodeGroup,
        /// Groups that there may be.
        most: u64,
    },
    Remove(String),
}

impl NodeGroup {
    pub(crate) fn has(&self, node: AddressedNode<'_>) -> bool {
        let is_listed = self.nodes.contains(node.id) || self.sites.contains(node.site);
        is_listed || self.labels.as_ref().is_some_and(|labels| labels.matches(node.labels))
    }

    fn check(&self, is_node: impl Fn(&str) -> bool) -> Result<(), String> {
        let Self { nodes, sites, labels } = self;
        if nodes.is_empty() && sites.is_empty() && labels.is_none() {
            return Err("分组为空，请填写 nodes、sites 或 labels / the group is empty: name nodes, sites or labels".to_owned());
        }
        let lists = [nodes, sites];
        let is_long = |text: &String| text.len() > MAX_TEXT;
        if lists.iter().any(|list| list.len() > MAX_ENTRIES || list.iter().any(is_long)) {
            return Err(format!(
                "每项最多 {MAX_ENTRIES} 个，每个最长 {MAX_TEXT} 字节 / at most {MAX_ENTRIES} of a kind, of at most {MAX_TEXT} bytes each"
            ));
        }
        let unknown = nodes.iter().filter(|id| !is_node(id)).take(MAX_LISTED);
        let unknown: Vec<_> = unknown.map(String::as_str).collect();
        match unknown.is_empty() {
            true => Ok(()),
            false => {
                let names = unknown.join(", ");
                Err(format!("没有这样的节点：{names} / there is no such node: {names}"))
            }
        }
    }
}

impl NodeGroups {
    pub(crate) fn get(&self, name: &str) -> Option<&NodeGroup> {
        self.0.get(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &NodeGroup)> {
        self.0.iter().map(|(name, group)| (name.as_str(), group))
    }

    /// All groups after `command`; None if it changes none.
    pub(crate) fn apply(
        &self,
        is_node: impl Fn(&str) -> bool,
        command: &GroupCommand,
    ) -> Result<Option<Self>, RequestError> {
        let mut groups = self.clone();
        match command {
            GroupCommand::Put { name, group, most } => {
                if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
                    return Err(RequestError::Invalid(format!(
                        "分组名称应为 1 到 {MAX_NAME} 字节，不含控制字符 / a group's name has 1 to {MAX_NAME} bytes and no control characters"
                    )));
                }
                group.check(is_node).map_err(RequestError::Invalid)?;
                if self.0.len() as u64 >= *most && self.get(name).is_none() {
                    return Err(RequestError::Invalid(format!(
                        "分组已达上限 {most} 个（--casts-groups） / there are {most} groups already (--casts-groups)"
                    )));
                }
                groups.0.insert(name.clone(), group.clone());
            }
            GroupCommand::Remove(name) => {
                groups.0.remove(name).ok_or_else(|| RequestError::UnknownGroup(name.clone()))?;
            }
        }
        Ok((groups != *self).then_some(groups))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const MAX_GROUPS: u64 = 500;

    fn is_node(id: &str) -> bool {
        ["a", "b"].contains(&id)
    }

    fn put(groups: &NodeGroups, name: &str, group: &Value) -> Result<Option<NodeGroups>, String> {
        let group = serde_json::from_value(group.clone()).map_err(|error| error.to_string())?;
        let command = GroupCommand::Put { name: name.to_owned(), group, most: MAX_GROUPS };
        groups.apply(is_node, &command).map_err(|error| error.to_string())
    }

    #[test]
    fn a_group_has_those_it_lists_and_those_with_its_labels() {
        let group = json!({"nodes": ["a"], "sites": ["3F"], "labels": "screen & !old"});
        let groups = put(&NodeGroups::default(), "g", &group).unwrap().unwrap();
        let group = groups.get("g").unwrap();
        for (id, site, labels, is_in) in [
            ("a", "", &[][..], true),
            ("b", "3F", &[], true),
            ("b", "", &["screen"], true),
            ("b", "", &["screen", "old"], false),
            ("b", "4F", &[], false),
        ] {
            let labels: Vec<_> = labels.iter().map(ToString::to_string).collect();
            assert_eq!(
                group.has(AddressedNode { id, site, labels: &labels }),
                is_in,
                "{id} {site}"
            );
        }
    }

    #[test]
    fn groups_are_changed_removed_and_bounded_and_the_same_again_is_no_change() {
        let of_a = json!({"nodes": ["a"]});
        let groups = put(&NodeGroups::default(), "g", &of_a).unwrap().unwrap();
        assert_eq!(put(&groups, "g", &of_a), Ok(None));
        let changed = put(&groups, "g", &json!({"nodes": ["b"]})).unwrap().unwrap();
        assert_eq!(changed.iter().count(), 1);
        let remove = |groups: &NodeGroups, name: &str| {
            groups.apply(is_node, &GroupCommand::Remove(name.to_owned()))
        };
        assert_eq!(remove(&changed, "g").unwrap().unwrap(), NodeGroups::default());
        assert!(matches!(remove(&changed, "x"), Err(RequestError::UnknownGroup(_))));
        let full = (0..MAX_GROUPS).map(|n| (n.to_string(), NodeGroup::default()));
        let full = NodeGroups(full.collect());
        assert!(put(&full, "one more", &of_a).unwrap_err().contains("500 groups"));
        assert!(put(&full, "7", &of_a).unwrap().is_some());
    }

    #[test]
    fn what_is_no_group_is_refused_with_a_reason() {
        for (name, group, told) in [
            ("g", json!({}), "is empty"),
            ("", json!({"nodes": ["a"]}), "1 to 200 bytes"),
            ("a\nb", json!({"nodes": ["a"]}), "no control characters"),
            ("g", json!({"nodes": ["a", "x"]}), "no such node: x"),
            ("g", json!({"sites": ["x".repeat(257)]}), "at most 256 bytes"),
            ("g", json!({"labels": "a &"}), "a label is missing"),
            ("g", json!({"node": ["a"]}), "unknown field"),
        ] {
            let refusal = put(&NodeGroups::default(), name, &group).unwrap_err();
            assert!(refusal.contains(told), "{refusal}");
        }
    }
}
