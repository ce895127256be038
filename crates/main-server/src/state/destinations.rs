//! The nodes that operators send something to: what they name, and which nodes that is.
//! Pure.

use std::collections::{BTreeSet, HashMap, HashSet};

use edge_mirror_protocol::package::{Sha256, percent_encoded};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256 as Hasher};
use thiserror::Error;

use crate::state::groups::{AddressedNode, NodeGroups};

/// Names of one kind: more than a venue has.
const MAX_NAMES: usize = 1000;
const MAX_NAME: usize = 256;
/// Unknown names that an error lists.
const MAX_LISTED: usize = 5;

/// Nodes as an operator names them: each that is in any of these lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Destinations {
    /// All nodes of the fleet, also those that join it later.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) all: bool,
    /// Their ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) nodes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) sites: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) labels: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<String>,
}

/// The nodes that something is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Whoever is a node when it asks.
    All,
    /// Those that were meant when it was sent, by id.
    Nodes(BTreeSet<String>),
}

/// The reasons that nothing can be sent to some destinations.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum UnusableDestinations {
    #[error(
        "没有指定目标，请填写 all、nodes、sites、labels 或 groups / no destination: name all, nodes, sites, labels or groups"
    )]
    Nothing,
    #[error("没有节点可以发送 / there is no node to send it to")]
    NoNodes,
    #[error("没有这样的{chinese}：{names} / there is no such {english}: {names}")]
    Unknown { chinese: &'static str, english: &'static str, names: String },
    #[error("分组中没有节点：{0} / there are no nodes in: {0}")]
    EmptyGroup(String),
    #[error(
        "目标最多 {MAX_NAMES} 个，每个最长 {MAX_NAME} 字节 / at most {MAX_NAMES} destinations of a kind, of at most {MAX_NAME} bytes each"
    )]
    TooMany,
}

impl Audience {
    /// A short name, which two audiences share only if they are the same.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::All => "all".to_owned(),
            Self::Nodes(ids) => Sha256::new(Hasher::digest(json_list(ids)).into()).to_string(),
        }
    }

    /// The ids as a JSON list; None for all nodes. They are percent-encoded, so that each
    /// stands in it as [`listed`](Self::listed) says, and nowhere else.
    pub(crate) fn to_json(&self) -> Option<String> {
        match self {
            Self::All => None,
            Self::Nodes(ids) => Some(json_list(ids)),
        }
    }

    /// The text by which a list has a node.
    pub(crate) fn listed(node_id: &str) -> String {
        format!("\"{}\"", percent_encoded(node_id))
    }

    /// The nodes of a list. What is no list is nobody's.
    pub(crate) fn of_json(list: &str) -> Self {
        let ids: Vec<String> = serde_json::from_str(list).unwrap_or_default();
        let decoded = |id: &String| percent_decode_str(id).decode_utf8_lossy().into_owned();
        Self::Nodes(ids.iter().map(decoded).collect())
    }

    /// The memory that it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::All => 0,
            // A text has its own allocation, and a place in the set's.
            Self::Nodes(ids) => ids.iter().map(|id| id.len() + 64).sum(),
        }
    }

    pub(crate) fn has(&self, node_id: &str) -> bool {
        match self {
            Self::All => true,
            Self::Nodes(ids) => ids.contains(node_id),
        }
    }
}

fn json_list(ids: &BTreeSet<String>) -> String {
    let listed: Vec<_> = ids.iter().map(|id| Audience::listed(id)).collect();
    format!("[{}]", listed.join(","))
}

impl Destinations {
    /// The nodes that are named. An error if a name fits none: it may be a mistake, and
    /// nobody would notice that somebody got nothing.
    pub(crate) fn resolve<'a>(
        &self,
        groups: &NodeGroups,
        nodes: impl Iterator<Item = AddressedNode<'a>>,
    ) -> Result<Audience, UnusableDestinations> {
        let Self { all, nodes: ids, sites, labels, groups: named_groups } = self;
        let names = [ids, sites, labels, named_groups];
        if !all && names.iter().all(|names| names.is_empty()) {
            return Err(UnusableDestinations::Nothing);
        }
        let is_long = |names: &&Vec<String>| {
            names.len() > MAX_NAMES || names.iter().any(|name| name.len() > MAX_NAME)
        };
        if names.iter().any(is_long) {
            return Err(UnusableDestinations::TooMany);
        }
        let [mut ids, mut sites, mut labels, mut unknown_groups] =
            names.map(|names| NamedSet::new(names));
        let mut empty_groups = NamedSet::new(named_groups);
        let named_groups = named_groups.iter().filter_map(|name| {
            let group = groups.get(name)?;
            unknown_groups.take(name);
            Some((name.as_str(), group))
        });
        let named_groups: Vec<_> = named_groups.collect();
        let (mut found, mut is_empty) = (BTreeSet::new(), true);
        for node in nodes {
            is_empty = false;
            let is_named = [ids.take(node.id), sites.take(node.site)].contains(&true);
            // All of them, as each may be the only one that fits.
            let named_labels = node.labels.iter().filter(|label| labels.take(label)).count();
            let its_groups = named_groups.iter().filter(|(name, group)| {
                let is_in = group.has(node);
                is_in && empty_groups.take(name)
            });
            if is_named || named_labels + its_groups.count() > 0 {
                found.insert(node.id.to_owned());
            }
        }
        for (set, chinese, english) in [
            (ids, "节点", "node"),
            (sites, "站点", "site"),
            (labels, "标签", "label"),
            (unknown_groups, "分组", "group"),
        ] {
            if let Some(names) = set.unused() {
                return Err(UnusableDestinations::Unknown { chinese, english, names });
            }
        }
        if let Some(names) = empty_groups.unused().filter(|_| !is_empty) {
            return Err(UnusableDestinations::EmptyGroup(names));
        }
        match (is_empty, all) {
            (true, _) => Err(UnusableDestinations::NoNodes),
            (false, true) => Ok(Audience::All),
            (false, false) => Ok(Audience::Nodes(found)),
        }
    }
}

/// Names, and which of them fit nothing so far.
struct NamedSet<'a> {
    names: HashSet<&'a str>,
    unused: HashMap<&'a str, usize>,
}

impl<'a> NamedSet<'a> {
    fn new(names: &'a [String]) -> Self {
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let unused = names.iter().enumerate().map(|(place, name)| (*name, place));
        Self { unused: unused.collect(), names: names.into_iter().collect() }
    }

    fn take(&mut self, name: &str) -> bool {
        let is_named = self.names.contains(name);
        if is_named {
            self.unused.remove(name);
        }
        is_named
    }

    /// The first of those that fit nothing, in the order given.
    fn unused(&self) -> Option<String> {
        let mut unused: Vec<_> = self.unused.iter().map(|(name, place)| (*place, *name)).collect();
        unused.sort_unstable();
        let listed: Vec<_> = unused.iter().take(MAX_LISTED).map(|(_, name)| *name).collect();
        (!listed.is_empty()).then(|| listed.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn resolve(to: &Value) -> Result<Audience, UnusableDestinations> {
        let labels =
            [vec![], vec!["screen".to_owned()], vec!["screen".to_owned(), "5g".to_owned()]];
        let nodes = [("a", "north"), ("b", "north"), ("c", "")].into_iter().zip(&labels);
        let nodes = nodes.map(|((id, site), labels)| AddressedNode { id, site, labels });
        let groups = json!({
            "screens": {"labels": "screen"}, "north and c": {"nodes": ["c"], "sites": ["north"]},
            "nobody": {"labels": "screen & !screen"},
        });
        let groups = serde_json::from_value(groups).unwrap();
        serde_json::from_value::<Destinations>(to.clone()).unwrap().resolve(&groups, nodes)
    }

    #[test]
    fn each_kind_names_nodes_and_together_they_name_more() {
        for (to, ids) in [
            (json!({"nodes": ["b"]}), vec!["b"]),
            (json!({"nodes": ["c", "a", "c"]}), vec!["a", "c"]),
            (json!({"sites": ["north"]}), vec!["a", "b"]),
            (json!({"labels": ["5g"]}), vec!["c"]),
            (json!({"labels": ["screen", "5g"]}), vec!["b", "c"]),
            (json!({"nodes": ["b"], "sites": ["north"], "labels": ["5g"]}), vec!["a", "b", "c"]),
            (json!({"sites": [""]}), vec!["c"]),
            (json!({"groups": ["screens"]}), vec!["b", "c"]),
            (json!({"groups": ["north and c", "screens"]}), vec!["a", "b", "c"]),
            (json!({"groups": ["screens"], "nodes": ["a"]}), vec!["a", "b", "c"]),
        ] {
            let ids = ids.into_iter().map(str::to_owned).collect();
            assert_eq!(resolve(&to), Ok(Audience::Nodes(ids)), "{to}");
        }
        assert_eq!(resolve(&json!({"all": true})), Ok(Audience::All));
        assert_eq!(resolve(&json!({"all": true, "nodes": ["a"]})), Ok(Audience::All));
    }

    #[test]
    fn who_names_nobody_or_someone_unknown_is_told_so() {
        for nothing in [json!({}), json!({"all": false, "nodes": [], "sites": []})] {
            assert_eq!(resolve(&nothing), Err(UnusableDestinations::Nothing), "{nothing}");
        }
        for (to, told) in [
            (json!({"nodes": ["a", "x", "y"]}), "no such node: x, y"),
            (json!({"sites": ["north", "South"]}), "no such site: South"),
            (json!({"all": true, "labels": ["x"]}), "no such label: x"),
            (json!({"groups": ["screens", "x"]}), "no such group: x"),
            (json!({"groups": ["screens", "nobody"]}), "no nodes in: nobody"),
        ] {
            let refusal = resolve(&to).unwrap_err().to_string();
            assert!(refusal.ends_with(told), "{refusal}");
        }
        let nobody = Destinations { all: true, ..Destinations::default() };
        assert_eq!(
            nobody.resolve(&NodeGroups::default(), [].into_iter()),
            Err(UnusableDestinations::NoNodes)
        );
        let many = vec!["a"; MAX_NAMES + 1];
        assert_eq!(resolve(&json!({"nodes": many})), Err(UnusableDestinations::TooMany));
        let long = "x".repeat(MAX_NAME + 1);
        assert_eq!(resolve(&json!({"sites": [long]})), Err(UnusableDestinations::TooMany));
    }

    #[test]
    fn a_list_that_is_kept_has_the_nodes_that_were_meant() {
        let strange = ["a", "A", "节点\0", "x\",\"a", "\\", "%41"];
        let ids = strange.map(str::to_owned).into_iter().collect::<BTreeSet<_>>();
        let audience = Audience::Nodes(ids.clone());
        let list = audience.to_json().unwrap();
        assert_eq!(Audience::of_json(&list), audience);
        assert!(ids.iter().all(|id| list.contains(&Audience::listed(id))));
        let without = Audience::Nodes(ids.into_iter().filter(|id| id != "a").collect());
        assert!(!without.to_json().unwrap().contains(&Audience::listed("a")));
        assert_ne!(without.name(), audience.name());
        assert!(!audience.has("b") && audience.has("a") && Audience::All.has("b"));
    }
}
