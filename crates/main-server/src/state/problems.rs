//! Problems, worst first: codes that the page puts into words, with the parameters
//! of the words. Empty if nothing is wrong. Pure.

use std::{path::Path, sync::Arc};

use edge_mirror_base::{clock::UnixMillis, metrics::Label};
use edge_mirror_http::{limits::Limit, wire::problem::Problem};
use edge_mirror_store::LOW_DISK_BYTES;
use serde_json::json;

use crate::state::{
    contents::WrongContent,
    fleet::KnownNode,
    meetings::Meeting,
    registry::{NodeReachability, RegisteredNode},
};

/// A page that lists more of one kind helps nobody.
const MAX_OF_A_KIND: usize = 20;
/// Nodes that one problem names.
const MAX_NAMED: usize = 5;

/// A meeting whose package some nodes can't pull.
#[derive(Debug)]
pub(crate) struct FailingMeeting<'a> {
    pub meeting: &'a Meeting,
    pub nodes: Vec<&'a str>,
}

/// A package of which a node gives other bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WrongPackage<'a> {
    pub node_id: &'a str,
    pub meeting: &'a Meeting,
    pub wrong: &'a WrongContent,
}

pub(crate) struct MasterSnapshot<'a> {
    /// Running meetings without a package.
    pub(crate) without_package: &'a [&'a Meeting],
    pub(crate) failing: &'a [FailingMeeting<'a>],
    pub(crate) wrong: &'a [WrongPackage<'a>],
    pub(crate) any_running: bool,
    /// The reason that no change can be saved.
    pub(crate) state_fault: Option<&'a str>,
    pub(crate) packages: PackagesSnapshot<'a>,
    /// Other main servers of the same database that have fallen silent.
    pub(crate) silent_servers: &'a [UnixMillis],
    pub nodes: &'a [(&'a str, &'a RegisteredNode)],
    pub(crate) fleet: FleetSnapshot,
    /// Reached recently.
    pub limited: Option<Limit>,
    /// Problems of the certificate and its files.
    pub(crate) certificate: Vec<Problem>,
    /// Problems of connections.
    pub connections: Vec<Problem>,
    /// Problems of the options' file.
    pub(crate) options: Vec<Problem>,
    pub open: bool,
    pub login_error: Option<&'a str>,
    /// None before the first reading.
    pub free: Option<u64>,
    pub path: &'a Path,
}

/// The shared package store, and the packages of which no copy is here.
#[derive(Debug, Default)]
pub(crate) struct PackagesSnapshot<'a> {
    /// The store's place, and the reason that it can't be used.
    pub(crate) fault: Option<(String, String)>,
    /// Meetings that run or are to start, and the reason that their packages are not here.
    pub(crate) not_fetched: Vec<(&'a Meeting, String)>,
    /// Number of packages in a store that was not named at the start.
    pub(crate) elsewhere: usize,
    /// Other main servers use the database, and packages are not shared with them.
    pub(crate) is_unshared: bool,
}

/// Another main server that has fallen silent, and when it was last heard.
fn silent_server(heard_at: &UnixMillis) -> Problem {
    Problem::error("main_server_silent", json!({"since": heard_at.as_secs_f64()}))
}

/// The known nodes, and those that wait for an operator.
#[derive(Debug, Default)]
pub(crate) struct FleetSnapshot {
    /// Known nodes that are not heard, and since when; without those that are drained.
    pub(crate) silent: Vec<(Arc<KnownNode>, UnixMillis)>,
    /// Known nodes that call from another address, and that one.
    pub(crate) moving: Vec<(Arc<KnownNode>, String)>,
    /// Nodes that go on with runs that they were told to stop, and how many.
    pub(crate) stubborn: Vec<(String, usize)>,
    /// Nodes that wait, those that move included.
    pub(crate) pending: usize,
    /// Nodes are accepted until then, after an upgrade.
    pub(crate) accepting_until: Option<UnixMillis>,
    /// Whoever registers is accepted.
    pub(crate) is_open: bool,
}

pub(crate) fn find_problems(seen: &MasterSnapshot) -> Vec<Problem> {
    let mut found = Vec::new();
    found.extend(
        seen.state_fault.map(|text| Problem::error("state_unavailable", json!({"text": text}))),
    );
    found.extend(seen.silent_servers.iter().map(silent_server));
    found.extend(packages(&seen.packages));
    found.extend(seen.certificate.iter().cloned());
    found.extend(seen.without_package.iter().take(MAX_OF_A_KIND).map(|meeting| {
        let since = meeting.started_at.map(UnixMillis::as_secs_f64);
        Problem::error(
            "meeting_without_package",
            json!({"since": since, "meeting": meeting.id, "title": meeting.title}),
        )
    }));
    found.extend(seen.failing.iter().take(MAX_OF_A_KIND).map(failing));
    found.extend(seen.wrong.iter().take(MAX_OF_A_KIND).map(wrong_content));
    found.extend(silent(&seen.fleet));
    found.extend(seen.fleet.stubborn.iter().take(MAX_OF_A_KIND).map(|(node, count)| {
        Problem::error("node_keeps_running", json!({"node": node, "n": count}))
    }));
    if seen.any_running && seen.nodes.is_empty() {
        found.push(Problem::warning("no_nodes", json!({})));
    }
    found.extend(seen.nodes.iter().filter_map(unreachable).take(MAX_OF_A_KIND));
    found.extend(
        seen.limited.map(|limit| Problem::warning("limit_reached", json!({"limit": limit.text()}))),
    );
    found.extend(seen.connections.iter().cloned());
    found.extend(seen.options.iter().cloned());
    found.extend(seen.free.filter(|free| *free < LOW_DISK_BYTES).map(|free| {
        Problem::warning("disk_nearly_full", json!({"free": free, "path": seen.path}))
    }));
    found.extend(
        seen.login_error.map(|text| Problem::warning("login_broken", json!({"text": text}))),
    );
    if seen.open {
        found.push(Problem::warning("open_access", json!({})));
    }
    found.extend(decisions(&seen.fleet));
    found.sort_by_key(|problem| problem.severity);
    found
}

fn packages(seen: &PackagesSnapshot<'_>) -> Vec<Problem> {
    let mut found = Vec::new();
    found.extend(seen.fault.as_ref().map(|(place, text)| {
        let about = json!({"place": place, "text": text});
        Problem::error("package_store_unavailable", about)
    }));
    if seen.is_unshared {
        found.push(Problem::error("packages_not_shared", json!({})));
    }
    if seen.elsewhere > 0 {
        found.push(Problem::error("packages_elsewhere", json!({"n": seen.elsewhere})));
    }
    found.extend(seen.not_fetched.iter().take(MAX_OF_A_KIND).map(|(meeting, text)| {
        let about = json!({"meeting": meeting.id, "title": meeting.title, "text": text});
        Problem::error("package_not_fetched", about)
    }));
    found
}

fn silent(fleet: &FleetSnapshot) -> impl Iterator<Item = Problem> {
    fleet.silent.iter().take(MAX_OF_A_KIND).map(|(node, since)| {
        let about = json!({
            "node": node.id, "name": node.profile.name, "address": node.address,
            "since": since.as_secs_f64(),
        });
        Problem::error("node_silent", about)
    })
}

/// The part about who may be a node: what is too open, and what somebody has to decide.
fn decisions(fleet: &FleetSnapshot) -> Vec<Problem> {
    let mut found = Vec::new();
    if fleet.is_open {
        found.push(Problem::warning("open_nodes", json!({})));
    }
    found.extend(fleet.moving.iter().take(MAX_OF_A_KIND).map(|(node, to)| {
        let about = json!({"node": node.id, "from": node.address, "to": to});
        Problem::info("node_moves", about)
    }));
    let new = fleet.pending.saturating_sub(fleet.moving.len());
    if new > 0 {
        found.push(Problem::info("nodes_pending", json!({"n": new})));
    }
    found.extend(
        fleet
            .accepting_until
            .map(|until| Problem::info("nodes_accepted", json!({"until": until.as_secs_f64()}))),
    );
    found
}

fn failing(FailingMeeting { meeting, nodes }: &FailingMeeting<'_>) -> Problem {
    let named = nodes[..nodes.len().min(MAX_NAMED)].join(", ");
    let rest = if nodes.len() > MAX_NAMED { ", …" } else { "" };
    let named = format!("{named}{rest}");
    Problem::warning(
        "nodes_failing",
        json!({"meeting": meeting.id, "title": meeting.title, "count": nodes.len(), "nodes": named}),
    )
}

fn wrong_content(WrongPackage { node_id, meeting, wrong }: &WrongPackage<'_>) -> Problem {
    let about = json!({
        "node": node_id, "meeting": meeting.id, "title": meeting.title,
        "since": wrong.since.as_secs_f64(), "text": wrong.text,
    });
    Problem::error("node_wrong_content", about)
}

fn unreachable((node_id, node): &(&str, &RegisteredNode)) -> Option<Problem> {
    let NodeReachability::Unreachable(reason) = &node.reach else { return None };
    Some(Problem::warning(
        "node_unreachable",
        json!({"node": node_id, "address": node.address, "text": reason}),
    ))
}

#[cfg(test)]
mod tests {
    use crate::{
        refusal::RequestError,
        state::{fleet::LearnedNode, registry::NodeRegistry},
    };

    use super::*;

    fn at(seconds: f64) -> UnixMillis {
        UnixMillis::from_secs_f64(seconds)
    }

    /// Problems of a running meeting and a node, after `change`.
    fn codes(
        without_package: &[&Meeting],
        reach: Option<NodeReachability>,
        change: impl FnOnce(&mut MasterSnapshot),
    ) -> Vec<String> {
        let mut registry = NodeRegistry::default();
        if let Some(reach) = reach {
            let client = [10, 0, 0, 1].into();
            registry.register("a", "1.1.1.1:1".into(), client, "online".into(), at(0.0)).unwrap();
            registry.record_probe("a", "1.1.1.1:1", &reach, at(0.0));
        }
        let nodes: Vec<_> = registry.live(at(1.0)).collect();
        let mut seen = MasterSnapshot {
            without_package,
            failing: &[],
            wrong: &[],
            any_running: true,
            state_fault: None,
            packages: PackagesSnapshot::default(),
            silent_servers: &[],
            nodes: &nodes,
            fleet: FleetSnapshot::default(),
            limited: None,
            certificate: Vec::new(),
            connections: Vec::new(),
            options: Vec::new(),
            open: false,
            login_error: None,
            free: Some(1 << 40),
            path: Path::new("/data"),
        };
        change(&mut seen);
        find_problems(&seen).iter().map(|problem| problem.code.to_owned()).collect()
    }

    #[test]
    fn each_trouble_has_its_code_and_errors_come_first() {
        let nothing = Vec::<String>::new();
        let cut = || Some(NodeReachability::Unreachable("refused".into()));
        let well = |change: fn(&mut MasterSnapshot)| {
            codes(&[], Some(NodeReachability::Reachable { https: false }), change)
        };
        assert_eq!(well(|_| ()), nothing);
        assert_eq!(
            codes(&[], Some(NodeReachability::Unknown), |_| ()),
            nothing,
            "nobody asked it yet"
        );
        assert_eq!(codes(&[], cut(), |_| ()), ["node_unreachable"]);
        assert_eq!(codes(&[], None, |_| ()), ["no_nodes"]);
        assert_eq!(codes(&[], None, |seen| seen.any_running = false), nothing, "nobody needs one");
        assert_eq!(well(|seen| seen.state_fault = Some("refused")), ["state_unavailable"]);
        let away = |seen: &mut MasterSnapshot| {
            seen.packages.fault = Some(("s3://b".into(), "refused".into()));
        };
        assert_eq!(well(away), ["package_store_unavailable"]);
        assert_eq!(well(|seen| seen.packages.elsewhere = 1), ["packages_elsewhere"]);
        assert_eq!(well(|seen| seen.packages.is_unshared = true), ["packages_not_shared"]);
        const SILENT: &[UnixMillis] = &[UnixMillis::from_secs(1)];
        assert_eq!(well(|seen| seen.silent_servers = SILENT), ["main_server_silent"]);
        let stubborn = |seen: &mut MasterSnapshot| seen.fleet.stubborn = vec![("a".into(), 1)];
        assert_eq!(well(stubborn), ["node_keeps_running"]);
        let unusable = || Problem::error("certificate_unusable", json!({}));
        let bad = codes(&[], None, |seen| seen.certificate = vec![unusable()]);
        assert_eq!(bad, ["certificate_unusable", "no_nodes"]);
        assert_eq!(well(|seen| seen.open = true), ["open_access"]);
        assert_eq!(well(|seen| seen.free = Some(LOW_DISK_BYTES - 1)), ["disk_nearly_full"]);
        assert_eq!(well(|seen| seen.free = None), nothing);
        assert_eq!(well(|seen| seen.limited = Some(Limit::NodesBytes)), ["limit_reached"]);
        assert_eq!(well(|seen| seen.fleet.is_open = true), ["open_nodes"]);
        assert_eq!(well(|seen| seen.fleet.pending = 1), ["nodes_pending"]);
        let accepting = |seen: &mut MasterSnapshot| seen.fleet.accepting_until = Some(at(9.0));
        assert_eq!(codes(&[], Some(NodeReachability::Unknown), accepting), ["nodes_accepted"]);
        let known = |id: &str| {
            let client = [10, 0, 0, 1].into();
            let (id, address) = (id.into(), "1.1.1.1:1".into());
            Arc::new(KnownNode::from(LearnedNode::new(id, address, client, at(0.0))))
        };
        let moves = codes(&[], Some(NodeReachability::Unknown), |seen| {
            seen.fleet.pending = 1;
            seen.fleet.moving = vec![(known("a"), "2.2.2.2:2".to_owned())];
        });
        assert_eq!(moves, ["node_moves"], "it is not counted twice");
        let silent = codes(&[], None, |seen| {
            (seen.any_running, seen.fleet.silent) = (false, vec![(known("b"), at(5.0))]);
        });
        assert_eq!(silent, ["node_silent"], "also while nothing runs");
        let bare = Meeting::new("m".parse().unwrap(), "T".into(), String::new(), at(1.0));
        let not_fetched = vec![(&bare, "refused".to_owned())];
        let missing = packages(&PackagesSnapshot { not_fetched, ..PackagesSnapshot::default() });
        assert_eq!(missing[0].code, "package_not_fetched");
        let all = codes(&[&bare], cut(), |seen| (seen.open, seen.free) = (true, Some(0)));
        let told =
            ["meeting_without_package", "node_unreachable", "disk_nearly_full", "open_access"];
        assert_eq!(all, told);
        let expiring = || Problem::warning("certificate_doubtful", json!({}));
        let worst_first = codes(&[&bare], None, |seen| {
            (seen.fleet.pending, seen.certificate) = (1, vec![expiring()]);
        });
        let told = ["meeting_without_package", "certificate_doubtful", "no_nodes", "nodes_pending"];
        assert_eq!(worst_first, told);
    }

    #[test]
    fn of_nodes_that_fail_a_few_are_named() {
        let meeting = Meeting::new("m".parse().unwrap(), "T".into(), String::new(), at(1.0));
        let told = |count| {
            let problem = failing(&FailingMeeting { meeting: &meeting, nodes: vec!["n"; count] });
            json!(problem)["nodes"].clone()
        };
        assert_eq!((told(1), told(5)), (json!("n"), json!("n, n, n, n, n")));
        assert_eq!(told(6), "n, n, n, n, n, …");
    }

    #[test]
    fn the_page_has_words_for_each_limit() {
        let texts = include_str!("../../../../web/js/texts/master.js");
        for refusal in [
            RequestError::TooLarge(0),
            RequestError::TooManyValues(0),
            RequestError::NodesBytes(0),
            RequestError::TooManyNodes(0),
            RequestError::TooManyNewNodes(0),
            RequestError::TooManyNodesOfClient(0),
            RequestError::TooManyLargeBodies,
            RequestError::TooManyPending(0),
        ] {
            let limit = refusal.limit().unwrap().text();
            for key in [format!("limit_reached.{limit}"), format!("limit_reached.{limit}.do")] {
                assert!(texts.contains(&format!("\"{key}\": [")), "{key}");
            }
        }
    }
}
