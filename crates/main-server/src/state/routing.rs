//! The nodes that a client may be sent to, and their order: the operator's rules, and each
//! node's place in them. Pure.
//!
//! As with DNS SRV records (RFC 2782), of nodes with different priorities those with the
//! lower number are preferred, and weights share clients among those of one priority.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use edge_mirror_settings::Subnet;
use serde::{Deserialize, Serialize};

use crate::{refusal::RequestError, state::fleet::NodeProfile};

/// More than a venue has subnets.
const MAX_RULES: usize = 1000;
/// Of all rules together.
const MAX_SUBNETS: usize = 1000;
/// Subnets, nodes, sites or labels of a rule.
const MAX_ENTRIES: usize = 200;
const MAX_TEXT: usize = 256;
/// A node busier than this gets nobody while others are not.
const DEFAULT_OVERFLOW: u8 = 90;

/// The profile of a node as far as it counts here; its own site, where its operator says
/// none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodePlacement {
    pub site: String,
    pub labels: Vec<String>,
    pub priority: u32,
    pub weight: u32,
    /// It gets no more clients.
    pub drained: bool,
}

impl Default for NodePlacement {
    fn default() -> Self {
        Self::of(None, "")
    }
}

impl NodePlacement {
    pub(crate) fn of(profile: Option<&NodeProfile>, reported_site: &str) -> Self {
        let unknown = NodeProfile::default();
        let profile = profile.unwrap_or(&unknown);
        let site = if profile.site.is_empty() { reported_site } else { &profile.site };
        Self {
            site: site.to_owned(),
            labels: profile.labels.clone(),
            priority: profile.priority,
            weight: profile.weight,
            drained: profile.drained,
        }
    }
}

/// Sends the clients of some subnets to some nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct RoutingRule {
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub clients: Vec<Subnet>,
    /// Their ids.
    #[serde(default)]
    pub nodes: Vec<String>,
    #[serde(default)]
    pub sites: Vec<String>,
    #[serde(default)]
    pub labels: Vec<String>,
    /// These nodes only: if none of them can be used, the main server serves the package itself.
    #[serde(default)]
    pub only: bool,
}

/// All that an operator says of the choice of nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct RoutingRules {
    #[serde(default)]
    pub rules: Vec<RoutingRule>,
    /// Percentage of a node's CPU, memory or uplink: nodes above it get clients only where
    /// all others are above it, too.
    #[serde(default = "default_overflow")]
    pub overflow: u8,
}

/// The nodes among which load decides; those of a lower tier come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tier {
    /// Above the limit.
    pub is_busy: bool,
    /// Not named by the client's rule.
    pub beyond_rule: bool,
    pub priority: u32,
}

/// The load of a node, by its last heartbeat and the clients sent there since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeLoad {
    pub downloads: u64,
    /// The busiest of CPU, memory and uplink in percent; 0 if the node does not say.
    pub percent: u8,
}

impl NodeLoad {
    /// The figure that is compared: downloads for each unit of weight, the more the less of
    /// the machine is left.
    pub(crate) fn cost(self, weight: u32) -> u64 {
        let left = 100 - u64::from(self.percent.min(99));
        let downloads = self.downloads.saturating_add(1).saturating_mul(100_000);
        downloads / u64::from(weight.max(1)) / left
    }
}

impl Default for RoutingRules {
    fn default() -> Self {
        Self { rules: Vec::new(), overflow: DEFAULT_OVERFLOW }
    }
}

impl RoutingRules {
    /// The tier of a node for the clients of a rule; None if they may not be sent there.
    /// `percent` is the node's load.
    pub(crate) fn tier(
        &self,
        rule: Option<usize>,
        node_id: &str,
        placement: &NodePlacement,
        percent: u8,
    ) -> Option<Tier> {
        let rule = rule.and_then(|place| self.rules.get(place));
        let beyond_rule = rule.is_some_and(|rule| !rule.names(node_id, placement));
        let is_allowed = !(beyond_rule && rule.is_some_and(|rule| rule.only));
        let (is_busy, priority) = (self.is_busy(percent), placement.priority);
        is_allowed.then_some(Tier { is_busy, beyond_rule, priority })
    }

    /// True if a node of this load gets nobody while others are not busy.
    pub(crate) fn is_busy(&self, percent: u8) -> bool {
        percent > self.overflow
    }

    /// Brings subnets into one form, and refuses what makes no sense.
    pub(crate) fn checked(mut self) -> Result<Self, RequestError> {
        let refuse = |text: String| Err(RequestError::Invalid(text));
        if self.rules.len() > MAX_RULES {
            return refuse(format!("规则最多 {MAX_RULES} 条 / at most {MAX_RULES} rules"));
        }
        if !(1..=100).contains(&self.overflow) {
            return refuse("overflow 应为 1 到 100 / overflow has to be from 1 to 100".into());
        }
        let mut known = HashMap::<Subnet, usize>::new();
        for (place, rule) in self.rules.iter_mut().enumerate() {
            let number = place + 1;
            rule.check(number)?;
            for subnet in &mut rule.clients {
                *subnet = subnet.network();
                if let Some(other) = known.insert(*subnet, number) {
                    let text = String::from(*subnet);
                    return refuse(format!(
                        "网段 {text} 同时出现在规则 {other} 和 {number} 中 / the subnet {text} is \
                         in rule {other} and in rule {number}"
                    ));
                }
            }
        }
        if known.len() > MAX_SUBNETS {
            return refuse(format!(
                "所有规则的网段合计最多 {MAX_SUBNETS} 个 / at most {MAX_SUBNETS} subnets in all \
                 rules together"
            ));
        }
        Ok(self)
    }
}

/// The rules by client: each redirect looks one up.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientRules {
    /// The place of each subnet's rule.
    places: HashMap<Subnet, usize>,
    /// The lengths of their prefixes, those of the closest subnets first.
    prefix_lens: Vec<u8>,
}

impl ClientRules {
    pub(crate) fn new(rules: &RoutingRules) -> Self {
        let rules = rules.rules.iter().enumerate();
        let subnets =
            rules.flat_map(|(place, rule)| rule.clients.iter().map(move |net| (*net, place)));
        let places: HashMap<_, _> = subnets.collect();
        let prefix_lens: BTreeSet<_> = places.keys().map(Subnet::prefix_len).collect();
        Self { places, prefix_lens: prefix_lens.into_iter().rev().collect() }
    }

    /// The rule for a client, by its place: the one with the closest subnet.
    pub(crate) fn find(&self, client: IpAddr) -> Option<usize> {
        let around = self.prefix_lens.iter().map(|length| Subnet::around(client, *length));
        around.flatten().find_map(|subnet| self.places.get(&subnet).copied())
    }
}

impl RoutingRule {
    fn names(&self, node_id: &str, placement: &NodePlacement) -> bool {
        self.nodes.iter().any(|named| named == node_id)
            || self.sites.contains(&placement.site)
            || self.labels.iter().any(|label| placement.labels.contains(label))
    }

    fn check(&self, number: usize) -> Result<(), RequestError> {
        let refuse = |text: String| Err(RequestError::Invalid(text));
        if self.clients.is_empty() {
            return refuse(format!(
                "规则 {number} 没有网段，例如 10.3.0.0/16 / rule {number} names no subnet of \
                 clients, such as 10.3.0.0/16"
            ));
        }
        let named = [&self.nodes, &self.sites, &self.labels];
        if named.iter().all(|texts| texts.is_empty()) {
            return refuse(format!(
                "规则 {number} 没有节点、站点或标签 / rule {number} names no node, site or label"
            ));
        }
        let longest = named.iter().map(|texts| texts.len()).chain([self.clients.len()]).max();
        if longest > Some(MAX_ENTRIES) {
            return refuse(format!(
                "规则 {number} 过长，每项最多 {MAX_ENTRIES} 个 / rule {number} is too long, at \
                 most {MAX_ENTRIES} of each kind"
            ));
        }
        let is_text = |text: &String| (1..=MAX_TEXT).contains(&text.len());
        if !named.iter().all(|texts| texts.iter().all(is_text)) {
            return refuse(format!(
                "规则 {number} 中的名称应为 1 到 {MAX_TEXT} 字节 / the names in rule {number} have \
                 to have 1 to {MAX_TEXT} bytes"
            ));
        }
        Ok(())
    }
}

fn default_overflow() -> u8 {
    DEFAULT_OVERFLOW
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rules(value: Value) -> RoutingRules {
        serde_json::from_value::<RoutingRules>(value).unwrap().checked().unwrap()
    }

    fn at(site: &str, labels: &[&str], priority: u32) -> NodePlacement {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        NodePlacement { site: site.into(), labels, priority, ..NodePlacement::default() }
    }

    #[test]
    fn a_client_is_subject_to_the_rule_with_the_closest_subnet() {
        let rules = rules(json!({"rules": [
            {"clients": ["10.0.0.0/8"], "sites": ["house"]},
            {"clients": ["10.3.0.9/16", "fd00::/8"], "sites": ["3"]},
            {"clients": ["10.3.7.7"], "nodes": ["a"]},
        ]}));
        for (client, rule) in [
            ("10.9.9.9", Some(0)),
            ("10.3.9.9", Some(1)),
            ("::ffff:10.3.9.9", Some(1)),
            ("fd00::1", Some(1)),
            ("10.3.7.7", Some(2)),
            ("192.168.0.1", None),
        ] {
            assert_eq!(ClientRules::new(&rules).find(client.parse().unwrap()), rule, "{client}");
        }
    }

    #[test]
    fn all_subnets_together_are_bounded() {
        let rule = |n: usize, count: usize| {
            let clients: Vec<_> = (0..count).map(|m| format!("10.{n}.{m}.0/24")).collect();
            json!({"clients": clients, "sites": ["3"]})
        };
        let mut all: Vec<_> = (0..5).map(|n| rule(n, 200)).collect();
        rules(json!({"rules": all}));
        all.push(rule(5, 1));
        let refused = serde_json::from_value::<RoutingRules>(json!({"rules": all}));
        let text = refused.unwrap().checked().unwrap_err().to_string();
        assert!(text.contains("at most 1000 subnets"), "{text}");
    }

    #[test]
    fn named_nodes_come_first_and_within_them_those_with_the_lower_priority() {
        let rules = rules(json!({"rules": [
            {"clients": ["10.0.0.0/8"], "sites": ["3"], "labels": ["fast"], "nodes": ["x"]},
            {"clients": ["11.0.0.0/8"], "sites": ["3"], "only": true},
        ]}));
        let tier = |rule, id: &str, placement: &NodePlacement| {
            let tier = rules.tier(rule, id, placement, 90)?;
            Some((tier.beyond_rule, tier.priority))
        };
        assert_eq!(tier(Some(0), "n", &at("3", &[], 7)), Some((false, 7)));
        assert_eq!(tier(Some(0), "n", &at("4", &["fast"], 0)), Some((false, 0)));
        assert_eq!(tier(Some(0), "x", &at("4", &[], 0)), Some((false, 0)));
        assert_eq!(tier(Some(0), "n", &at("4", &["slow"], 0)), Some((true, 0)));
        assert_eq!(tier(Some(1), "n", &at("4", &[], 0)), None);
        assert_eq!(tier(Some(1), "n", &at("3", &[], 1)), Some((false, 1)));
        assert_eq!(tier(None, "n", &at("4", &[], 2)), Some((false, 2)));
        let is_busy = |percent| rules.tier(None, "n", &at("4", &[], 0), percent).unwrap().is_busy;
        assert!(!is_busy(90) && is_busy(91));
        let before = |a: Tier, b: Tier| a < b;
        let of = |is_busy, beyond_rule, priority| Tier { is_busy, beyond_rule, priority };
        assert!(before(of(false, true, 9), of(true, false, 0)), "any that is not busy");
        assert!(before(of(false, false, 9), of(false, true, 0)));
        assert!(before(of(false, false, 0), of(false, false, 1)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_rule_that_it_is_in() {
        for (bad, named) in [
            (json!({"rules": [{"clients": [], "sites": ["3"]}]}), "rule 1 names no subnet"),
            (
                json!({"rules": [
                    {"clients": ["10.0.0.0/8"], "sites": ["3"]}, {"clients": ["11.0.0.0/8"]},
                ]}),
                "rule 2 names no node",
            ),
            (
                json!({"rules": [
                    {"clients": ["10.0.0.0/8"], "sites": ["3"]},
                    {"clients": ["10.1.2.3/8"], "sites": ["4"]},
                ]}),
                "the subnet 10.0.0.0/8 is in rule 1 and in rule 2",
            ),
            (json!({"rules": [{"clients": ["10.0.0.0/8"], "sites": [""]}]}), "the names in rule 1"),
            (
                json!({"rules": [{"clients": ["10.0.0.0/8"], "sites": vec!["3"; 201]}]}),
                "rule 1 is too long",
            ),
            (json!({"overflow": 0}), "from 1 to 100"),
            (json!({"overflow": 101}), "from 1 to 100"),
        ] {
            let refused = serde_json::from_value::<RoutingRules>(bad).unwrap().checked();
            let text = refused.unwrap_err().to_string();
            assert!(text.contains(named), "{text}");
        }
        let unknown = json!({"rules": [{"client": ["10.0.0.0/8"]}]});
        assert!(serde_json::from_value::<RoutingRules>(unknown).is_err());
    }

    #[test]
    fn a_machine_with_less_left_costs_more_and_one_of_twice_the_weight_half() {
        let load = |downloads, percent| NodeLoad { downloads, percent };
        assert!(load(9, 0).cost(1) < load(10, 0).cost(1));
        assert!(load(5, 95).cost(1) > load(50, 0).cost(1));
        assert_eq!(load(19, 50).cost(2), load(9, 50).cost(1));
        assert!(load(u64::MAX, 255).cost(0) > load(u64::MAX, 0).cost(9));
    }
}
