//! Content probes of nodes: those that are due, and their outcomes.

use std::{collections::HashMap, time::Duration};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::package::{PackageId, Sha256};

use super::{HeldPackages, NodeReachability, NodeRegistry, RegisteredNode};
use crate::state::{
    MAX_NODES,
    contents::{ContentDue, ContentNews, ContentOutcome, ContentRecords},
};

/// Packages of nodes that one look goes through; the next one goes on there.
const MAX_LOOKED_AT: usize = 20_000;
/// Time between two probes of packages whose bytes were equal before, of all nodes.
const REPEAT_PAUSE: Duration = Duration::from_secs(10);

/// A part of a package is to be compared at this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContentProbe {
    pub node_id: String,
    pub address: String,
    pub https: bool,
    pub id: PackageId,
    pub sha256: Sha256,
}

/// State of going round.
#[derive(Debug, Default)]
pub(super) struct ContentRounds {
    /// The node that was looked at last; None to begin with the first.
    after: Option<String>,
    repeat_at: UnixMillis,
    /// Wrong packages of nodes that are gone, which would else come back as good ones.
    gone: HashMap<String, ContentRecords>,
}

impl ContentRounds {
    pub(super) fn note_gone(&mut self, node_id: &str, contents: ContentRecords) {
        let wrong = contents.into_wrong();
        if !wrong.is_empty() && self.gone.len() < MAX_NODES {
            self.gone.insert(node_id.to_owned(), wrong);
        }
    }

    pub(super) fn take_gone(&mut self, node_id: &str) -> ContentRecords {
        self.gone.remove(node_id).unwrap_or_default()
    }
}

impl NodeRegistry {
    /// Begins up to `room` content probes of the current packages of running meetings; they
    /// are under way until [`record_content`](Self::record_content).
    pub(crate) fn take_content_probes(
        &mut self,
        current: &HashMap<PackageId, Sha256>,
        room: usize,
        now: UnixMillis,
    ) -> Vec<ContentProbe> {
        if room == 0 {
            return Vec::new();
        }
        let (mut begun, mut sometime, mut looked_at) = (Vec::new(), Vec::new(), 0);
        let (after, mut last, mut is_through) = (self.contents.after.take(), None, true);
        for (node_id, node) in self.nodes.after(after.as_deref()) {
            is_through = begun.len() < room && looked_at < MAX_LOOKED_AT;
            if !is_through {
                break;
            }
            last = Some(node_id);
            let is_busy = self.nodes.rules().is_busy(node.percent);
            if !node.is_alive(now) || !node.takes_clients() || node.contents.is_probing || is_busy {
                continue;
            }
            let NodeReachability::Reachable { https } = node.reach else { continue };
            for (id, sha256) in current_of(node, current) {
                looked_at += 1;
                let probe = move || ContentProbe {
                    node_id: node_id.to_owned(),
                    address: node.address.clone(),
                    https,
                    id: id.clone(),
                    sha256,
                };
                match node.contents.due(id, sha256, now) {
                    ContentDue::Now => {
                        begun.push(probe());
                        break;
                    }
                    ContentDue::Sometime => sometime.push(probe),
                    ContentDue::Later => {}
                }
            }
        }
        if now >= self.contents.repeat_at && begun.len() < room {
            let others = sometime.len().checked_sub(1).map(|last| fastrand::usize(0..=last));
            let chosen = others.map(|place| sometime[place]());
            // A node that is asked for something new anyway is left alone.
            let is_new = |probe: &ContentProbe| begun.iter().all(|b| b.node_id != probe.node_id);
            if let Some(chosen) = chosen.filter(is_new) {
                begun.push(chosen);
                self.contents.repeat_at = now + REPEAT_PAUSE;
            }
        }
        self.contents.after = last.filter(|_| !is_through).map(ToOwned::to_owned);
        for probe in &begun {
            self.nodes.touch(&probe.node_id, |node| node.contents.is_probing = true);
        }
        begun
    }

    /// Returns what changes for clients. An outcome for an address that the node has left
    /// meanwhile is dropped.
    pub(crate) fn record_content(
        &mut self,
        probe: &ContentProbe,
        outcome: ContentOutcome,
        now: UnixMillis,
    ) -> Option<ContentNews> {
        let record = |node: &mut RegisteredNode| {
            node.contents.is_probing = false;
            if node.address != probe.address {
                return None;
            }
            node.contents.record(&probe.id, probe.sha256, outcome, now)
        };
        self.nodes.change(&probe.node_id, record).flatten()
    }
}

/// The current packages of running meetings that a node has.
fn current_of<'a>(
    node: &'a RegisteredNode,
    current: &'a HashMap<PackageId, Sha256>,
) -> impl Iterator<Item = (&'a PackageId, Sha256)> {
    let held = node.holding.iter().filter(|_| node.reported).flat_map(HeldPackages::iter);
    held.filter_map(|(id, version)| {
        let sha256 = version?;
        (current.get(id) == Some(&sha256)).then_some((id, sha256))
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::state::{held_packages::HeldPackagesReport, registry::HeartbeatReport};

    fn at(seconds: u64) -> UnixMillis {
        UnixMillis::from_secs(seconds)
    }

    fn m() -> PackageId {
        "m".parse().unwrap()
    }

    fn sha256(n: u8) -> Sha256 {
        Sha256::new([n; 32])
    }

    fn client() -> IpAddr {
        [10, 0, 0, 1].into()
    }

    /// A node that was reached, and has this version.
    fn add(registry: &mut NodeRegistry, node_id: &str, version: u8, percent: u8, now: UnixMillis) {
        let beat = HeartbeatReport {
            address: "1.1.1.1:1".into(),
            client: client(),
            status: "online".into(),
            active: vec![],
            report: HeldPackagesReport::Digests(vec![(m(), sha256(version))]),
            downloads: 0,
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
        registry.heartbeat(node_id, beat, now).unwrap();
        let reach = NodeReachability::Reachable { https: false };
        registry.record_probe(node_id, "1.1.1.1:1", &reach, now);
    }

    fn names(probes: &[ContentProbe]) -> Vec<&str> {
        probes.iter().map(|probe| probe.node_id.as_str()).collect()
    }

    #[test]
    fn each_node_that_has_the_current_package_is_probed_once_and_then_a_few_a_minute() {
        let (mut registry, current) = (NodeRegistry::default(), HashMap::from([(m(), sha256(1))]));
        for node_id in ["a", "b", "c", "d"] {
            add(&mut registry, node_id, 1, 0, at(0));
        }
        add(&mut registry, "old", 2, 0, at(0));
        add(&mut registry, "busy", 1, 99, at(0));
        let first = registry.take_content_probes(&current, 3, at(1));
        assert_eq!(names(&first), ["a", "b", "c"], "within the room");
        let second = registry.take_content_probes(&current, 3, at(1));
        assert_eq!(names(&second), ["d"]);
        assert_eq!(registry.take_content_probes(&current, 3, at(1)), [], "all are under way");
        for probe in first.iter().chain(&second) {
            assert_eq!(registry.record_content(probe, ContentOutcome::Same, at(2)), None);
        }
        let mut repeated = 0;
        for second in 2..32 {
            for probe in registry.take_content_probes(&current, 3, at(second)) {
                repeated += 1;
                registry.record_content(&probe, ContentOutcome::Same, at(second));
            }
            for node_id in ["a", "b", "c", "d"] {
                add(&mut registry, node_id, 1, 0, at(second));
            }
        }
        assert_eq!(repeated, 3);
        assert_eq!(registry.take_content_probes(&HashMap::new(), 3, at(60)), [], "none runs");
    }

    #[test]
    fn a_node_with_wrong_bytes_gets_no_clients_for_them_also_after_it_was_gone() {
        let (mut registry, current) = (NodeRegistry::default(), HashMap::from([(m(), sha256(1))]));
        let sent = |registry: &mut NodeRegistry, version, now| {
            let sent = registry.send_client(&m(), sha256(version), client(), now, |_| 0);
            sent.map(|node| node.node_id)
        };
        add(&mut registry, "a", 1, 0, at(0));
        assert_eq!(sent(&mut registry, 1, at(0)), Some("a".to_owned()));
        let [probe] = &registry.take_content_probes(&current, 9, at(1))[..] else { panic!() };
        let wrong = ContentOutcome::Wrong("byte 3".to_owned());
        let news = registry.record_content(probe, wrong, at(1));
        assert_eq!((news, sent(&mut registry, 1, at(1))), (Some(ContentNews::Wrong), None));
        registry.register("a", "1.1.1.1:1".into(), client(), "online".into(), at(2)).unwrap();
        add(&mut registry, "a", 1, 0, at(2));
        assert_eq!(sent(&mut registry, 1, at(2)), None, "registered again");
        assert!(registry.unregister("a", at(3)));
        add(&mut registry, "a", 1, 0, at(4));
        assert_eq!(sent(&mut registry, 1, at(4)), None, "restarted");
        assert_eq!(registry.readiness(&m(), sha256(1), at(4)).count(), 0, "it holds up no start");
        add(&mut registry, "a", 2, 0, at(5));
        assert_eq!(sent(&mut registry, 2, at(5)), Some("a".to_owned()), "another version");
        add(&mut registry, "a", 1, 0, at(6));
        assert_eq!(sent(&mut registry, 1, at(6)), Some("a".to_owned()), "pulled again");
        let [probe] = &registry.take_content_probes(&current, 9, at(7))[..] else { panic!() };
        registry.record_content(probe, ContentOutcome::Wrong("byte 3".to_owned()), at(7));
        let news = registry.record_content(probe, ContentOutcome::Same, at(30));
        assert_eq!(news, Some(ContentNews::Right));
        add(&mut registry, "a", 1, 0, at(30));
        assert_eq!(sent(&mut registry, 1, at(30)), Some("a".to_owned()));
    }
}
