//! `GET /api/v1/overview`: all that the page shows, from memory, independent of the disk.

mod fleet;
mod packages;
mod relay;

use std::{collections::HashSet, path::Path, sync::Arc};

use axum::extract::State;
use edge_mirror_http::wire::{
    problem::{Problem, certificate_problems, connection_limits},
    snapshot::{ItemWriter, ListField, Snapshot},
};
use edge_mirror_protocol::{DownloadTotals, package::PackageId};
use serde::Serialize;
use serde_json::json;

use crate::{
    api::{
        manage::{self, MeetingView},
        nodes,
        readiness::{BoardReadiness, ReadinessReader},
    },
    server::{Server, ShownOptions},
    state::{
        download_log::{DownloadLog, DownloadRecord, RefusedDownload},
        fleet::NodePolicy,
        index::IndexedMeetings,
        meetings::Meeting,
        problems::{self, FailingMeeting, FleetSnapshot, MasterSnapshot, WrongPackage},
        registry::{NodeHoldings, RegisteredNode},
        routing::RoutingRules,
    },
};

pub(crate) async fn overview(State(server): State<Arc<Server>>) -> Snapshot {
    snapshot(&server, &Snapshot::default())
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ShownMeeting<'a> {
    #[serde(flatten)]
    meeting: MeetingView<'a>,
    announced: bool,
    uploading: bool,
    /// Null if its package is not to be at the nodes; also beyond 100,000 nodes of all
    /// meetings together, running ones being looked at first, the newest of them first.
    readiness: Option<&'a BoardReadiness<'a>>,
}

#[derive(Serialize, Hash)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ShownNode<'a> {
    #[serde(flatten)]
    node: nodes::NodeView<'a>,
    packages: &'a [&'a PackageId],
    /// It has other bytes than this main server, and gets no tablets for them.
    wrong_packages: Vec<&'a PackageId>,
    redirects: u64,
    /// Of its downloads; null if it does not say.
    ended: Option<DownloadTotals>,
    /// Where it is, as an operator says, or else the node; may be empty.
    site: &'a str,
}

/// Times are seconds since 1970.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Overview<'a> {
    role: &'static str,
    version: &'static str,
    started: u64,
    now: f64,
    /// The folder that everything is in.
    data: &'a Path,
    /// Main servers that use the same database, with this one.
    main_servers: usize,
    /// Changes whenever something changed.
    token: &'a str,
    /// Nodes have to send a key.
    node_key: bool,
    /// The policy for nodes that do not prove themselves.
    policy: NodePolicy,
    /// The rules by which clients are sent to nodes.
    routing: &'a RoutingRules,
    /// The options of the command line, the environment and the file.
    options: &'a ShownOptions,
    /// Problems, worst first.
    problems: Vec<Problem>,
    /// Filled in by `Snapshot`, like `nodes`.
    #[cfg_attr(
        test,
        schemars(with = "Vec<ShownMeeting<'_>>", description = "In the order of their making.")
    )]
    meetings: (),
    #[cfg_attr(
        test,
        schemars(with = "Vec<ShownNode<'_>>", description = "Those that were heard from lately.")
    )]
    nodes: (),
    #[cfg_attr(
        test,
        schemars(
            with = "Vec<relay::ShownRelay<'_>>",
            description = "Packages that spread from node to node; not all where there are many."
        )
    )]
    relays: (),
    #[cfg_attr(
        test,
        schemars(
            with = "Vec<crate::api::fleet::KnownView<'_>>",
            description = "All known nodes, whether they are there or not."
        )
    )]
    fleet: (),
    #[cfg_attr(
        test,
        schemars(
            with = "Vec<crate::api::fleet::PendingNode<'_>>",
            description = "Nodes that wait for an operator."
        )
    )]
    pending: (),
    traffic: Downloads,
    storage: FolderUsage<'a>,
    /// Downloads that clients asked for, newest first.
    recent: Vec<&'a DownloadRecord>,
    /// Downloads that clients asked for and did not get, newest first.
    refused_downloads: Vec<&'a RefusedDownload>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Downloads {
    under_way: u64,
    bytes_served: u64,
    redirects: u64,
    own_downloads: u64,
    refused_downloads: u64,
}

/// The packages' folder; figures are bytes.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct FolderUsage<'a> {
    path: &'a Path,
    used: u64,
    free: Option<u64>,
}

/// The lists are long: what is as it was `before` is copied from there.
pub(crate) fn snapshot(server: &Server, before: &Snapshot) -> Snapshot {
    let (now, book, known) = (server.clock.now(), server.book(), server.known());
    let (uploading, plan) = (server.uploads_under_way(), server.relay.borrow().clone());
    let (registry, claims) = (server.registry(), server.claims());
    let holdings = registry.holdings(now, |id| server.digest(id));
    let holders = holdings.holders();
    let presences: Vec<_> = registry.presences(&known, server.started_at, now).collect();
    let download_log = server.download_log();
    let reader = ReadinessReader::new(server, holdings.nodes(), presences.iter().copied());
    let readiness = reader.read_all(&book.meetings);

    let meetings = |items: &mut ItemWriter<'_>| {
        for (meeting, readiness) in book.meetings.iter().zip(&readiness) {
            let nodes = holders.get(&meeting.id);
            let shown = shown_meeting(server, meeting, nodes, &uploading, readiness.as_ref());
            items.add(meeting.id.as_str(), &shown);
        }
    };
    let nodes = |items: &mut ItemWriter<'_>| {
        for held in holdings.iter() {
            items.add_hashed(held.node_id, &shown_node(server, held, &download_log));
        }
    };
    let relays = |items: &mut ItemWriter<'_>| relay::add_all(server, &plan, &registry, items);
    let version = server.known_versions.number(&known);
    let fleet =
        |items: &mut ItemWriter<'_>| fleet::add_known(version, &presences, &registry, items);
    let pending = |items: &mut ItemWriter<'_>| fleet::add_pending(&known, &claims, items);
    let lists: [ListField<'_>; 5] = [
        ("meetings", &meetings),
        ("nodes", &nodes),
        ("relays", &relays),
        ("fleet", &fleet),
        ("pending", &pending),
    ];
    let failing = failing_meetings(&book, &readiness);
    let of_fleet = fleet::snapshot(server, &known, &presences, &claims, now);
    let live: Vec<_> = holdings.nodes().collect();
    let found = find_problems(server, &book, &live, &failing, of_fleet);
    let (rules, node_key) = (server.rules(), server.outside.borrow().node_key);
    let options = server.options.shown.get();
    let overview = Overview {
        role: "main_server",
        version: env!("CARGO_PKG_VERSION"),
        started: server.started_at.as_secs(),
        now: now.as_secs_f64(),
        data: server.data(),
        main_servers: 1 + server.others().0,
        token: &book.token,
        node_key,
        policy: server.node_policy(),
        routing: &rules,
        options: &options,
        problems: found,
        meetings: (),
        nodes: (),
        relays: (),
        fleet: (),
        pending: (),
        traffic: downloads(server, &download_log),
        storage: folder_usage(server),
        recent: download_log.recent().collect(),
        refused_downloads: download_log.refused().collect(),
    };
    Snapshot::after(before, &json!(overview), &lists)
}

fn failing_meetings<'a>(
    book: &'a IndexedMeetings,
    readiness: &'a [Option<BoardReadiness<'a>>],
) -> Vec<FailingMeeting<'a>> {
    let meetings = book.meetings.iter().zip(readiness);
    meetings.filter_map(|(meeting, found)| found.as_ref()?.failing(meeting)).collect()
}

fn shown_meeting<'a>(
    server: &Server,
    meeting: &'a Meeting,
    nodes: Option<&'a Vec<&'a str>>,
    uploading: &HashSet<PackageId>,
    readiness: Option<&'a BoardReadiness<'a>>,
) -> ShownMeeting<'a> {
    ShownMeeting {
        meeting: manage::described(server, meeting, nodes),
        announced: meeting.is_running() && !meeting.unannounced,
        uploading: uploading.contains(&meeting.id),
        readiness,
    }
}

fn shown_node<'a>(server: &Server, held: NodeHoldings<'a>, log: &DownloadLog) -> ShownNode<'a> {
    let NodeHoldings { node_id, node, packages } = held;
    let wrong = node.contents.all_wrong(|id| server.digest(id));
    ShownNode {
        // As of its last heartbeat: a figure that grows by itself would be a change every
        // second.
        node: nodes::described(node_id, node, node.heard_at),
        packages,
        wrong_packages: wrong.map(|(id, _)| id).collect(),
        redirects: log.redirects_to(node_id),
        ended: node.ended,
        site: node.site(),
    }
}

fn find_problems(
    server: &Server,
    book: &IndexedMeetings,
    live: &[(&str, &RegisteredNode)],
    failing: &[FailingMeeting<'_>],
    fleet: FleetSnapshot,
) -> Vec<Problem> {
    let outside = server.outside.borrow().clone();
    let bare = book.running().filter(|meeting| server.digest(&meeting.id).is_none());
    let state_fault = server.state_fault.borrow().as_ref().map(|cause| cause.to_string());
    let health = &server.certificate_health;
    let (fault, warning) = (health.fault(), health.warning());
    let wrong = live.iter().flat_map(|(node_id, node)| {
        let wrong = node.contents.all_wrong(|id| server.digest(id));
        let titled = wrong.filter_map(|(id, wrong)| Some((book.find(id.as_str())?, wrong)));
        titled.map(move |(meeting, wrong)| WrongPackage { node_id, meeting, wrong })
    });
    let wrong: Vec<_> = wrong.collect();
    problems::find_problems(&MasterSnapshot {
        wrong: &wrong,
        state_fault: state_fault.as_deref(),
        packages: packages::snapshot(server, book),
        silent_servers: &server.others().1,
        without_package: &bare.collect::<Vec<_>>(),
        failing,
        any_running: book.running().next().is_some(),
        nodes: live,
        fleet,
        limited: server.recent_limit(server.clock.now()),
        certificate: certificate_problems(fault.as_ref(), warning.as_ref()),
        connections: connection_limits(&server.connections),
        options: server.options.shown.peek().problems(),
        open: server.access.is_open(),
        login_error: outside.login_fault.as_deref(),
        free: outside.free,
        path: server.store.root(),
    })
}

fn downloads(server: &Server, log: &DownloadLog) -> Downloads {
    Downloads {
        under_way: server.traffic.under_way(),
        bytes_served: server.traffic.served_bytes(),
        redirects: log.redirects(),
        own_downloads: log.own_downloads(),
        refused_downloads: log.refused_downloads(),
    }
}

fn folder_usage(server: &Server) -> FolderUsage<'_> {
    let free = server.outside.borrow().free;
    FolderUsage { path: server.store.root(), used: server.store.used_bytes(), free }
}
