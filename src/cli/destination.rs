//! Destinations: the nodes that a command sends something to.

use std::{collections::BTreeMap, str::FromStr};

use serde_json::{Value, json};

use super::units::told;

/// One of those that `--to` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    All,
    Node(String),
    Site(String),
    Label(String),
    Group(String),
    Virtual(String),
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once(':') {
            Some((kind, name)) if Self::KINDS.contains(&kind) => (kind, name),
            // An id may have a colon itself.
            _ => ("", text),
        };
        if name.trim().is_empty() {
            return Err(told(
                "请填写 all、节点 ID、site:站点、label:标签、group:分组 或 virtual:虚拟节点",
                "all, a node's ID, site:NAME, label:NAME, group:NAME or virtual:NAME is needed",
            ));
        }
        let name = name.to_owned();
        Ok(match kind {
            "site" => Self::Site(name),
            "label" => Self::Label(name),
            "group" => Self::Group(name),
            "virtual" => Self::Virtual(name),
            "" if name == "all" => Self::All,
            _ => Self::Node(name),
        })
    }
}

impl Destination {
    const KINDS: [&str; 5] = ["node", "site", "label", "group", "virtual"];

    /// Returns several as the main server reads them.
    pub(crate) fn to_json(destinations: &[Self]) -> Value {
        let mut names = BTreeMap::<&str, Vec<&str>>::new();
        for destination in destinations {
            let (list, name) = match destination {
                Self::All => continue,
                // No two have the same name.
                Self::Node(name) | Self::Virtual(name) => ("nodes", name),
                Self::Site(name) => ("sites", name),
                Self::Label(name) => ("labels", name),
                Self::Group(name) => ("groups", name),
            };
            names.entry(list).or_default().push(name);
        }
        let mut json = json!(names);
        if destinations.contains(&Self::All) {
            json["all"] = true.into();
        }
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_named_by_kind() {
        let parsed = |text: &str| text.parse::<Destination>();
        assert_eq!(parsed("all"), Ok(Destination::All));
        assert_eq!(parsed("node:all"), Ok(Destination::Node("all".into())));
        assert_eq!(parsed("hall-3F"), Ok(Destination::Node("hall-3F".into())));
        assert_eq!(parsed("a:b"), Ok(Destination::Node("a:b".into())));
        assert_eq!(parsed("site:east: 3"), Ok(Destination::Site("east: 3".into())));
        assert_eq!(parsed("group:3F"), Ok(Destination::Group("3F".into())));
        assert_eq!(parsed("virtual:alice"), Ok(Destination::Virtual("alice".into())));
        for empty in ["", " ", "site:", "label: ", "group:", "virtual:"] {
            assert!(parsed(empty).is_err(), "{empty:?}");
        }
        let named = ["hall", "site:east", "label:screen", "label:4k", "virtual:alice"]
            .map(|text| parsed(text).unwrap());
        let expected =
            json!({"nodes": ["hall", "alice"], "sites": ["east"], "labels": ["screen", "4k"]});
        assert_eq!(Destination::to_json(&named), expected);
        assert_eq!(Destination::to_json(&[Destination::All]), json!({"all": true}));
    }
}
