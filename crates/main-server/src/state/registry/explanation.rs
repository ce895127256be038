//! The reasons for which a client is sent to a node and not to another.

use std::net::IpAddr;

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::package::{PackageId, Sha256};

use super::{NodeReachability, NodeRegistry, RegisteredNode};
use crate::state::routing::{RoutingRule, Tier};

/// The nodes that come into question for a client, and those that don't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChoiceExplanation<'a> {
    /// The client's rule, and its number from 1 on.
    pub rule: Option<(usize, &'a RoutingRule)>,
    /// The first comes first; within one, load decides.
    pub tiers: Vec<CandidateTier<'a>>,
    /// Live nodes that clients are not sent to.
    pub excluded: Vec<(&'a str, Exclusion)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CandidateTier<'a> {
    pub tier: Tier,
    pub candidates: Vec<Candidate<'a>>,
}

/// A node, and the figures by which it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate<'a> {
    pub node_id: &'a str,
    pub address: &'a str,
    /// Under way by its last heartbeat.
    pub downloads: u64,
    /// Clients sent there since then.
    pub redirects: u64,
    pub percent: u8,
    pub weight: u32,
    /// The lower one of two is chosen.
    pub cost: u64,
}

/// The reason that a node gets no clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exclusion {
    /// Our probe does not reach it.
    Unreachable,
    /// It was not probed yet.
    Unprobed,
    /// It gets no new clients.
    Drained,
    /// It has sent no heartbeat since it registered.
    Unreported,
    /// It does not have the current package.
    NoPackage,
    /// It says that it has it, and gives other bytes.
    WrongContent,
    /// The client's rule names others only.
    Rule,
}

impl NodeRegistry {
    pub(crate) fn explain(
        &self,
        id: &PackageId,
        current: Option<Sha256>,
        client: IpAddr,
        now: UnixMillis,
    ) -> ChoiceExplanation<'_> {
        let rules = self.nodes.rules();
        let rule = self.nodes.rule_of(client);
        let mut tiers = Vec::<CandidateTier<'_>>::new();
        let mut excluded = Vec::new();
        for (node_id, node) in self.live(now) {
            let tier = rules.tier(rule, node_id, &node.placement, node.percent);
            match exclusion(node, id, current, tier) {
                Ok(tier) => {
                    let candidate = candidate(node_id, node);
                    match tiers.iter_mut().find(|other| other.tier == tier) {
                        Some(known) => known.candidates.push(candidate),
                        None => tiers.push(CandidateTier { tier, candidates: vec![candidate] }),
                    }
                }
                Err(exclusion) => excluded.push((node_id, exclusion)),
            }
        }
        tiers.sort_by_key(|tier| tier.tier);
        let rule = rule.and_then(|place| Some((place + 1, rules.rules.get(place)?)));
        ChoiceExplanation { rule, tiers, excluded }
    }
}

fn exclusion(
    node: &RegisteredNode,
    id: &PackageId,
    current: Option<Sha256>,
    tier: Option<Tier>,
) -> Result<Tier, Exclusion> {
    match node.reach {
        NodeReachability::Unreachable(_) => return Err(Exclusion::Unreachable),
        NodeReachability::Unknown => return Err(Exclusion::Unprobed),
        NodeReachability::Reachable { .. } => {}
    }
    if !node.takes_clients() {
        return Err(Exclusion::Drained);
    }
    if !node.reported {
        return Err(Exclusion::Unreported);
    }
    match current {
        Some(current) if node.has(id, current) => {}
        Some(current) if node.contents.is_wrong(id, current) => {
            return Err(Exclusion::WrongContent);
        }
        Some(_) | None => return Err(Exclusion::NoPackage),
    }
    tier.ok_or(Exclusion::Rule)
}

fn candidate<'a>(node_id: &'a str, node: &'a RegisteredNode) -> Candidate<'a> {
    let weight = node.placement.weight;
    Candidate {
        node_id,
        address: &node.address,
        downloads: node.downloads,
        redirects: node.redirects,
        percent: node.percent,
        weight,
        cost: node.load().cost(weight),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::state::{held_packages::HeldPackagesReport, registry::HeartbeatReport};

    fn at(seconds: u64) -> UnixMillis {
        UnixMillis::from_secs(seconds)
    }

    fn m() -> PackageId {
        "m".parse().unwrap()
    }

    fn digest() -> Sha256 {
        Sha256::new([1; 32])
    }

    fn heard(registry: &mut NodeRegistry, node_id: &str, has_it: bool, percent: u8) {
        let packages = if has_it { vec![(m(), digest())] } else { vec![] };
        let beat = HeartbeatReport {
            address: "1.1.1.1:1".into(),
            client: [10, 0, 0, 1].into(),
            status: "online".into(),
            active: vec![],
            report: HeldPackagesReport::Digests(packages),
            downloads: 3,
            ended: None,
            version: None,
            takes_files: false,
            percent,
            work_percent: 0,
            memory_percent: None,
            relay: None,
            pulls: vec![],
            failed_pulls: vec![],
        };
        registry.heartbeat(node_id, beat, at(0)).unwrap();
    }

    /// A node that was reached, at a site.
    fn add(registry: &mut NodeRegistry, node_id: &str, site: &str, has_it: bool, percent: u8) {
        heard(registry, node_id, has_it, percent);
        let reach = NodeReachability::Reachable { https: false };
        registry.record_probe(node_id, "1.1.1.1:1", &reach, at(0));
        registry.nodes.change(node_id, |node| node.placement.site = site.into());
    }

    fn fleet(only: bool) -> NodeRegistry {
        let mut registry = NodeRegistry::default();
        let rules = json!({"overflow": 80, "rules": [
            {"clients": ["10.3.0.0/16"], "sites": ["3"], "only": only},
        ]});
        registry.set_rules(Arc::new(serde_json::from_value(rules).unwrap()));
        add(&mut registry, "a3", "3", true, 10);
        add(&mut registry, "b3", "3", true, 50);
        add(&mut registry, "c4", "4", true, 0);
        add(&mut registry, "d3", "3", false, 0);
        let gone = NodeReachability::Unreachable("refused".into());
        add(&mut registry, "e3", "3", true, 0);
        registry.record_probe("e3", "1.1.1.1:1", &gone, at(0));
        registry
            .register("f3", "1.1.1.1:1".into(), [10, 0, 0, 1].into(), "o".into(), at(0))
            .unwrap();
        registry
    }

    fn client(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_live_node_is_a_candidate_or_has_a_reason() {
        let registry = fleet(true);
        let explained = registry.explain(&m(), Some(digest()), client("10.3.0.9"), at(1));
        assert_eq!(explained.rule.map(|(number, _)| number), Some(1));
        let tiers = explained.tiers.iter();
        let ids: Vec<Vec<_>> =
            tiers.map(|tier| tier.candidates.iter().map(|node| node.node_id).collect()).collect();
        assert_eq!(ids, [["a3", "b3"]]);
        assert_eq!(
            explained.excluded,
            [
                ("c4", Exclusion::Rule),
                ("d3", Exclusion::NoPackage),
                ("e3", Exclusion::Unreachable),
                ("f3", Exclusion::Unprobed),
            ]
        );
        let [a, b] = &explained.tiers[0].candidates[..] else { panic!() };
        assert!(a.cost < b.cost && (a.downloads, a.percent, b.percent) == (3, 10, 50));
        let other = registry.explain(&m(), Some(digest()), client("10.9.0.9"), at(1));
        assert_eq!((other.rule, other.tiers.len()), (None, 1));
        assert_eq!(other.tiers[0].candidates.len(), 3);
        assert!(registry.explain(&m(), None, client("10.3.0.9"), at(1)).tiers.is_empty());
    }

    /// Where a hundred clients are sent.
    fn sent(registry: &mut NodeRegistry, from: &str) -> Vec<String> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut draw = |below| random.usize(..below);
        let sent = (0..100).filter_map(|_| {
            let sent = registry.send_client(&m(), digest(), client(from), at(1), &mut draw)?;
            Some(sent.node_id)
        });
        let mut sent: Vec<_> = sent.collect();
        sent.sort();
        sent.dedup();
        sent
    }

    #[test]
    fn clients_go_where_the_rule_says_and_overflow_when_all_there_are_busy() {
        let mut registry = fleet(false);
        assert_eq!(sent(&mut registry, "10.3.0.9"), ["a3", "b3"]);
        assert_eq!(sent(&mut registry, "10.9.0.9"), ["a3", "b3", "c4"]);
        add(&mut registry, "a3", "3", true, 81);
        add(&mut registry, "b3", "3", true, 99);
        assert_eq!(sent(&mut registry, "10.3.0.9"), ["c4"]);
        add(&mut registry, "c4", "4", true, 95);
        assert!(sent(&mut registry, "10.3.0.9").contains(&"a3".to_owned()), "all are busy");
        let mut only = fleet(true);
        add(&mut only, "a3", "3", true, 81);
        add(&mut only, "b3", "3", true, 81);
        assert_eq!(sent(&mut only, "10.3.0.9"), ["a3", "b3"]);
    }

    #[test]
    fn within_a_tier_nobody_is_sent_to_busy_nodes_while_others_are_not() {
        let mut two = NodeRegistry::default();
        add(&mut two, "busy", "", true, 95);
        add(&mut two, "free", "", true, 10);
        for _ in 0..20 {
            // It has so many downloads that it costs more.
            two.nodes.touch("free", |node| node.downloads += 1000);
            assert_eq!(sent(&mut two, "10.9.0.9"), ["free"]);
        }
        let mut ten = NodeRegistry::default();
        for n in 0..10 {
            add(&mut ten, &format!("n{n}"), "", true, if n < 8 { 95 } else { 10 });
        }
        assert_eq!(sent(&mut ten, "10.9.0.9"), ["n8", "n9"]);
        // It crosses the limit with a heartbeat, and nothing else changes.
        heard(&mut ten, "n8", true, 95);
        assert_eq!(sent(&mut ten, "10.9.0.9"), ["n9"]);
        heard(&mut ten, "n0", true, 10);
        heard(&mut ten, "n9", true, 10);
        assert_eq!(sent(&mut ten, "10.9.0.9"), ["n0", "n9"]);
    }

    #[test]
    fn a_lower_priority_number_comes_first_and_weights_share_the_clients() {
        let mut registry = fleet(false);
        registry.nodes.change("c4", |node| node.placement.priority = 1);
        assert_eq!(sent(&mut registry, "10.9.0.9"), ["a3", "b3"]);
        let mut registry = NodeRegistry::default();
        add(&mut registry, "one", "", true, 0);
        add(&mut registry, "three", "", true, 0);
        registry.nodes.change("three", |node| node.placement.weight = 3);
        let mut random = fastrand::Rng::with_seed(7);
        let mut draw = |below| random.usize(..below);
        for _ in 0..400 {
            registry.send_client(&m(), digest(), client("10.9.0.9"), at(1), &mut draw).unwrap();
        }
        let redirects = |id: &str| registry.nodes.get(id).unwrap().redirects;
        assert!((95..=105).contains(&redirects("one")), "{}", redirects("one"));
        assert_eq!(redirects("one") + redirects("three"), 400);
    }
}
