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
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once(':') {
            Some((kind, name)) if ["node", "site", "label", "group"].contains(&kind) => {
                (kind, name)
            }
            // An id may have a colon itself.
            _ => ("", text),
        };
        if name.trim().is_empty() {
            return Err(told(
                "请填写 all、节点 ID、site:站点、label:标签 或 group:分组",
                "all, a node's ID, site:NAME, label:NAME or group:NAME is needed",
            ));
        }
        let name = name.to_owned();
        Ok(match kind {
            "site" => Self::Site(name),
            "label" => Self::Label(name),
            "group" => Self::Group(name),
            "" if name == "all" => Self::All,
            _ => Self::Node(name),
        })
    }
}

impl Destination {
    /// Returns several as the main server reads them.
    pub(crate) fn to_json(destinations: &[Self]) -> Value {
        let mut names = BTreeMap::<&str, Vec<&str>>::new();
        for destination in destinations {
            let (list, name) = match destination {
                Self::All => continue,
                Self::Node(name) => ("nodes", name),
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
        for empty in ["", " ", "site:", "label: ", "group:"] {
            assert!(parsed(empty).is_err(), "{empty:?}");
        }
        let named =
            ["hall", "site:east", "label:screen", "label:4k"].map(|text| parsed(text).unwrap());
        let expected = json!({"nodes": ["hall"], "sites": ["east"], "labels": ["screen", "4k"]});
        assert_eq!(Destination::to_json(&named), expected);
        assert_eq!(Destination::to_json(&[Destination::All]), json!({"all": true}));
    }
}
