//! One known node, as it is saved.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use edge_mirror_base::clock::{UnixMillis, fractional_seconds};
use serde::{Deserialize, Serialize};

/// Changes between present and silent that are kept of a node.
const MAX_CHANGES: usize = 100;
/// Older changes are dropped.
const HISTORY: Duration = Duration::from_secs(30 * 24 * 3600);

/// A node that was accepted. When it was last heard is in [`FleetRecord`]: that changes
/// with every heartbeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct KnownNode {
    pub id: String,
    /// The address that it registered.
    pub address: String,
    /// The address that it calls from.
    pub client: IpAddr,
    #[serde(with = "fractional_seconds")]
    pub(crate) first_seen: UnixMillis,
    #[serde(default)]
    pub(crate) profile: NodeProfile,
    /// Oldest first.
    #[serde(default)]
    pub(crate) availability: Vec<AvailabilityChange>,
}

/// The part of a known node that operators write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub(crate) struct NodeProfile {
    /// Empty: its id is shown.
    pub(crate) name: String,
    pub(crate) location: String,
    /// Empty: the site that it reports is shown.
    pub site: String,
    pub(crate) labels: Vec<String>,
    pub(crate) weight: u32,
    pub(crate) priority: u32,
    /// It gets no more clients, and keeps pulling and serving.
    pub(crate) drained: bool,
}

impl Default for NodeProfile {
    fn default() -> Self {
        Self {
            name: String::new(),
            location: String::new(),
            site: String::new(),
            labels: Vec::new(),
            weight: 1,
            priority: 0,
            drained: false,
        }
    }
}

/// The fields of a profile that an operator changes; None stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProfileEdit {
    pub(crate) name: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) site: Option<String>,
    pub(crate) labels: Option<Vec<String>>,
    pub(crate) weight: Option<u32>,
    pub(crate) priority: Option<u32>,
    pub(crate) drained: Option<bool>,
}

/// A node fell silent or came back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct AvailabilityChange {
    #[serde(with = "fractional_seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub(crate) at: UnixMillis,
    pub(crate) present: bool,
}

/// A node that was accepted, by itself or by an operator.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LearnedNode {
    pub id: String,
    pub address: String,
    pub client: IpAddr,
    pub(crate) first_seen: UnixMillis,
    pub(crate) heard_at: UnixMillis,
    /// The client that it was known by when this was read; None: it was not known.
    pub(crate) known_client: Option<IpAddr>,
}

/// A client that may not be this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RefusedNode {
    pub id: String,
    pub address: String,
    pub client: IpAddr,
    #[serde(with = "fractional_seconds")]
    pub at: UnixMillis,
}

/// The rest that is saved of nodes, of all together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct FleetRecord {
    /// The first start after an upgrade accepts nodes until then.
    #[serde(default, with = "fractional_seconds::option")]
    pub(crate) open_until: Option<UnixMillis>,
    /// Seconds since 1970; up to a minute old.
    #[serde(default)]
    pub(crate) last_seen: BTreeMap<String, u64>,
}

impl LearnedNode {
    /// One that was not known before, and first heard just then.
    pub(crate) fn new(id: String, address: String, client: IpAddr, heard_at: UnixMillis) -> Self {
        Self { id, address, client, first_seen: heard_at, heard_at, known_client: None }
    }
}

impl From<LearnedNode> for KnownNode {
    fn from(learned: LearnedNode) -> Self {
        let LearnedNode { id, address, client, first_seen, heard_at, known_client: _ } = learned;
        let availability = vec![AvailabilityChange { at: heard_at, present: true }];
        let profile = NodeProfile::default();
        Self { id, address, client, first_seen, profile, availability }
    }
}

impl NodeProfile {
    /// The profile after an edit.
    pub(super) fn with(&self, edit: &ProfileEdit) -> Self {
        let text = |new: &Option<String>, old: &String| new.as_ref().unwrap_or(old).clone();
        Self {
            name: text(&edit.name, &self.name),
            location: text(&edit.location, &self.location),
            site: text(&edit.site, &self.site),
            labels: edit.labels.as_ref().unwrap_or(&self.labels).clone(),
            weight: edit.weight.unwrap_or(self.weight),
            priority: edit.priority.unwrap_or(self.priority),
            drained: edit.drained.unwrap_or(self.drained),
        }
    }
}

impl KnownNode {
    /// True if it was there when that last changed.
    pub(crate) fn was_present(&self) -> bool {
        self.availability.last().is_none_or(|last| last.present)
    }

    /// Adds a change, and drops those that are old or too many.
    pub(crate) fn note(&mut self, change: AvailabilityChange) {
        self.availability.push(change);
        let beyond = self.availability.len().saturating_sub(MAX_CHANGES);
        self.availability.drain(..beyond);
        self.availability.retain(|kept| change.at.saturating_since(kept.at) < HISTORY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_is_bounded_in_number_and_time() {
        let (client, at) = ([10, 0, 0, 1].into(), UnixMillis::from_secs(0));
        let learned = LearnedNode::new("a".into(), "10.0.0.1:8001".into(), client, at);
        let mut node = KnownNode::from(learned);
        for n in 1..=300 {
            let at = UnixMillis::from_secs(n);
            node.note(AvailabilityChange { at, present: n % 2 == 0 });
        }
        assert_eq!(node.availability.len(), MAX_CHANGES);
        assert_eq!(node.availability[0].at, UnixMillis::from_secs(201));
        let at = UnixMillis::from_secs(250) + HISTORY;
        node.note(AvailabilityChange { at, present: false });
        assert_eq!(node.availability[0].at, UnixMillis::from_secs(251));
        assert!(!node.was_present());
    }

    #[test]
    fn what_a_later_version_adds_is_no_error_and_what_is_missing_has_defaults() {
        let text = r#"{"id":"a","address":"h:1","client":"::1","first_seen":1.5,"later":[1]}"#;
        let node: KnownNode = serde_json::from_str(text).unwrap();
        assert_eq!((node.profile.weight, node.profile.drained), (1, false));
        assert!(node.was_present());
        assert_eq!(serde_json::from_str::<FleetRecord>("{}").unwrap(), FleetRecord::default());
    }
}
