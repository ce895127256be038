//! Registration, heartbeats and lists of nodes: `/api/v1/nodes/…`.

pub(crate) mod list;

use std::{
    collections::HashSet,
    sync::{Arc, MutexGuard},
    time::Duration,
};

use axum::{Json, extract::State};
use edge_mirror_base::clock::UnixMillis;
use edge_mirror_http::wire::{Done, Success, done};
use edge_mirror_protocol::{
    AdmissionNotice, FailedPull, HeartbeatNotice, HeldPackage, MAX_FAILED_PULLS, MAX_HELD_PACKAGES,
    NodeReport,
    package::PackageId,
    relay::{MAX_REPORTED_PULLS, MAX_SLOW_PARENTS, PullReport, RelayReport},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::{debug, info, warn};

use crate::{
    address::plain,
    api::json::{FieldReader, JsonBody},
    counts::IntakeResult,
    refusal::RequestError,
    server::{CastOutbox, Server},
    state::{
        fleet::{Admission, NodeCaller, NodeClaim},
        held_packages::{HeldPackagesReport, hash_id},
        registry::{HeartbeatReport, NodeReachability, NodeRegistry},
        shared_calls::{NodeCall, ProbedNode, SharedCall},
    },
};

pub(crate) use list::{NodeView, available, described, list};

type Shared = State<Arc<Server>>;

/// Names and addresses are kept and shown; none is longer.
const MAX_TEXT: usize = 256;

pub(crate) async fn register(
    State(server): Shared,
    caller: NodeCaller,
    body: JsonBody,
) -> Result<Json<Done>, RequestError> {
    let outcome = record_registration(&server, caller, &body, None);
    server.counts.registrations.inc(IntakeResult::of(&outcome));
    server.note_limit(&outcome);
    if outcome.is_ok() {
        server.share(SharedCall::Register, caller, &body.0);
    }
    outcome
}

/// `via` is the main server that the node called, and how long ago, if that is another one.
fn record_registration(
    server: &Server,
    caller: NodeCaller,
    body: &JsonBody,
    via: Option<(&Arc<str>, Duration)>,
) -> Result<Json<Done>, RequestError> {
    let mut reader = FieldReader::new(body);
    let (node_id, address) = (reader.text("node_id"), plain(reader.text("address")));
    let status = reader.text("status");
    reader.finish()?;
    check_identity(&node_id, &address)?;
    server.check_no_virtual_node(&node_id)?;
    let (now, status) = (at(server, via), truncate(status));
    let via = via.map(|(via, _)| via);
    let mut registry = server.registry();
    match registry.admission(server.node_policy(), &node_id, caller, now) {
        Admission::Accepted => {
            let client = caller.client;
            let registered = registry.register(&node_id, address.clone(), client, status, now);
            registry.set_via(&node_id, via);
            drop(registry);
            server.wake.prober.notify_one();
            server.wake.planner.notify_one();
            if registered? {
                info!("node {node_id} registered at {address}");
            }
        }
        Admission::Pending => {
            note_claim(server, registry, &node_id, claim(address, caller, status, now))?;
        }
        Admission::Refused => {}
    }
    // One that has to wait is told the same: the contract knows no other answer, and nodes
    // of the old kind would give up.
    Ok(done(format!("Node {node_id} registered")))
}

pub(crate) async fn heartbeat(
    State(server): Shared,
    caller: NodeCaller,
    body: JsonBody,
) -> Result<Json<HeartbeatAnswer>, RequestError> {
    let outcome = record_heartbeat(&server, caller, &body, None);
    server.counts.heartbeats.inc(IntakeResult::of(&outcome));
    server.note_limit(&outcome);
    if outcome.is_ok() {
        server.share(SharedCall::Heartbeat, caller, &body.0);
    }
    outcome
}

fn record_heartbeat(
    server: &Server,
    caller: NodeCaller,
    body: &JsonBody,
    via: Option<(&Arc<str>, Duration)>,
) -> Result<Json<HeartbeatAnswer>, RequestError> {
    let (node_id, mut report) = read_heartbeat(server, caller, body)?;
    server.check_no_virtual_node(&node_id)?;
    if via.is_some() {
        // Another main server tells it whom to pull from.
        report.relay = None;
    }
    let (now, is_ours) = (at(server, via), report.version.is_some());
    let via = via.map(|(via, _)| via);
    let mut registry = server.registry();
    let notice = match registry.admission(server.node_policy(), &node_id, caller, now) {
        Admission::Accepted => {
            let address = report.address.clone();
            let new = registry.heartbeat(&node_id, report, now);
            registry.set_via(&node_id, via);
            let new = new?;
            let unreachable = registry.unreachable_reason(&node_id);
            drop(registry);
            server.wake.announcer.notify_one();
            server.wake.planner.notify_one();
            if new {
                server.wake.prober.notify_one();
                info!("node {node_id} at {address} is known by its heartbeat");
            }
            // A request that is held costs memory: a fleet without casts pays nothing.
            let has_any = |outbox: &CastOutbox| outbox.head().is_none_or(|(_, head)| head > 0);
            let casts = has_any(&server.cast_outbox) || has_any(&server.live_casts);
            HeartbeatNotice { unreachable, admission: None, casts }
        }
        Admission::Pending => {
            let version = report.version;
            let waiting = claim(report.address, caller, report.status, now);
            note_claim(server, registry, &node_id, NodeClaim { version, ..waiting })?;
            HeartbeatNotice {
                admission: Some(AdmissionNotice::Pending),
                ..HeartbeatNotice::default()
            }
        }
        Admission::Refused => HeartbeatNotice {
            admission: Some(AdmissionNotice::Refused),
            ..HeartbeatNotice::default()
        },
    };
    let mirror = (is_ours && notice != HeartbeatNotice::default()).then_some(notice);
    Ok(Json(HeartbeatAnswer { status: Success::Success, timestamp: now.as_secs_f64(), mirror }))
}

fn read_heartbeat(
    server: &Server,
    caller: NodeCaller,
    body: &JsonBody,
) -> Result<(String, HeartbeatReport), RequestError> {
    let mut reader = FieldReader::new(body);
    let (node_id, address) = (reader.text("node_id"), plain(reader.text("address")));
    let status = reader.text("status");
    // A title that is missing breaks the real main server for everyone; here
    // the heartbeat is refused.
    let active = reader.objects("active_meetings", |item| {
        item.text("title");
        item.text("id")
    });
    let synced = reader.optional_texts("synced_meetings");
    reader.finish()?;
    check_identity(&node_id, &address)?;
    let mut mirror = body.0.get("mirror").and_then(|mirror| NodeReport::deserialize(mirror).ok());
    let relay = mirror.as_mut().and_then(|mirror| mirror.relay.take()).and_then(readable_relay);
    let load = mirror.as_ref().and_then(|mirror| mirror.load);
    let pulls = mirror.as_mut().map(|mirror| std::mem::take(&mut mirror.pulls));
    let failed_pulls = mirror.as_mut().map(|mirror| std::mem::take(&mut mirror.failed_pulls));
    let report = HeartbeatReport {
        address,
        client: caller.client,
        status: truncate(status),
        downloads: mirror.as_ref().map_or(0, |mirror| mirror.downloads),
        ended: mirror.as_ref().and_then(|mirror| mirror.ended),
        version: mirror.as_ref().map(|mirror| truncate(mirror.version.clone())),
        takes_files: mirror.as_ref().is_some_and(|mirror| mirror.takes_files),
        percent: load.map_or(0, |load| load.busiest()),
        work_percent: load.map_or(0, |load| load.work()),
        memory_percent: load.map(|load| load.memory),
        relay,
        pulls: known_pulls(server, pulls.unwrap_or_default()),
        failed_pulls: known_failed_pulls(server, failed_pulls.unwrap_or_default()),
        active: known(server, &active),
        // Older nodes don't list synced meetings: what they call active, they have.
        report: report(server, &synced.unwrap_or(active), mirror),
    };
    Ok((node_id, report))
}

fn claim(address: String, caller: NodeCaller, status: String, now: UnixMillis) -> NodeClaim {
    let client = caller.client;
    NodeClaim { address, client, status, version: None, first_seen: now, heard_at: now }
}

/// The registry is let go when the claim is noted: a decision of operators that comes
/// between would not see it.
fn note_claim(
    server: &Server,
    registry: MutexGuard<'_, NodeRegistry>,
    node_id: &str,
    claim: NodeClaim,
) -> Result<(), RequestError> {
    let (address, client) = (claim.address.clone(), claim.client);
    let noted = server.claims().note(node_id, claim);
    drop(registry);
    if noted? {
        let known = server.known();
        match known.get(node_id) {
            Some(node) => warn!(
                "node {node_id} asks to move from {} to {address}; it waits for an operator",
                node.address
            ),
            None => info!("node {node_id} at {address} ({client}) waits for an operator"),
        }
    }
    Ok(())
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct HeartbeatAnswer {
    status: Success,
    timestamp: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    mirror: Option<HeartbeatNotice>,
}

/// The listed meetings that this main server has, each once, up to `MAX_HELD_PACKAGES`.
fn known(server: &Server, ids: &[String]) -> Vec<PackageId> {
    let (book, mut seen) = (server.book(), HashSet::new());
    let listed = ids.iter().filter_map(|id| book.find(id)).map(|meeting| meeting.id.clone());
    let mut known: Vec<_> =
        listed.filter(|id| seen.insert(id.clone())).take(MAX_HELD_PACKAGES).collect();
    known.shrink_to_fit();
    known
}

/// A node that says no address at which others reach it passes nothing on.
fn readable_relay(relay: RelayReport) -> Option<RelayReport> {
    let is_address = (1..=MAX_TEXT).contains(&relay.address.len());
    is_address.then(|| RelayReport { site: truncate(relay.site), ..relay })
}

/// The pulls of meetings that this main server has, each once, sorted, and of texts that
/// are kept no more than a few short ones.
fn known_pulls(server: &Server, pulls: Vec<PullReport>) -> Vec<PullReport> {
    let book = server.book();
    let known = pulls.into_iter().take(MAX_REPORTED_PULLS).filter_map(|pull| {
        let id = book.find(pull.id.as_str())?.id.clone();
        let short = |text: &String| text.len() <= MAX_TEXT;
        let slow = pull.slow_parents.into_iter().take(MAX_SLOW_PARENTS).filter(short);
        let parent = pull.parent.map(truncate);
        Some(PullReport { id, parent, slow_parents: slow.collect(), ..pull })
    });
    sorted_by_id(known, |pull| &pull.id)
}

/// Likewise.
fn known_failed_pulls(server: &Server, failed: Vec<FailedPull>) -> Vec<FailedPull> {
    let book = server.book();
    let known = failed.into_iter().take(MAX_FAILED_PULLS).filter_map(|pull| {
        let id = book.find(pull.id.as_str())?.id.clone();
        Some(FailedPull { id, ..pull }.truncated())
    });
    sorted_by_id(known, |pull| &pull.id)
}

/// The items in the order of their ids, of each id the first.
fn sorted_by_id<T>(items: impl Iterator<Item = T>, id: impl Fn(&T) -> &PackageId) -> Vec<T> {
    let mut sorted: Vec<_> = items.collect();
    sorted.sort_by(|a, b| id(a).cmp(id(b)));
    sorted.dedup_by(|a, b| id(a) == id(b));
    sorted.shrink_to_fit();
    sorted
}

fn report(server: &Server, synced: &[String], mirror: Option<NodeReport>) -> HeldPackagesReport {
    let offered = server.offered_packages();
    if let Some(mirror) = mirror {
        let ours = |held: HeldPackage| Some((offered(held.id.as_str())?.id, held.sha256));
        return HeldPackagesReport::Digests(mirror.packages.into_iter().filter_map(ours).collect());
    }
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for id in synced {
        match offered(id) {
            Some(meeting) => known.push(meeting),
            None => unknown.push(hash_id(id)),
        }
    }
    HeldPackagesReport::Meetings { known, unknown }
}

pub(crate) async fn unregister(
    State(server): Shared,
    caller: NodeCaller,
    body: JsonBody,
) -> Result<Json<Done>, RequestError> {
    let mut reader = FieldReader::new(&body);
    let node_id = reader.text("node_id");
    reader.finish()?;
    let now = server.clock.now();
    if !take_leave(&server, caller, &node_id, now) {
        return Err(RequestError::UnknownNode(truncate(node_id)));
    }
    server.share(SharedCall::Unregister, caller, &body.0);
    server.wake.announcer.notify_one();
    server.wake.planner.notify_one();
    info!("node {node_id} unregistered");
    Ok(done(format!("Node {node_id} unregistered")))
}

/// False if there is no such node of the caller's.
fn take_leave(server: &Server, caller: NodeCaller, node_id: &str, now: UnixMillis) -> bool {
    let mut registry = server.registry();
    let has_waited = server.claims().withdraw(node_id, caller.client);
    // Nobody sends another's node away.
    let admission = registry.admission(server.node_policy(), node_id, caller, now);
    let has_left = admission == Admission::Accepted && registry.unregister(node_id, now);
    has_left || has_waited
}

/// Does what a call at another main server, `via`, comes to.
pub(crate) fn receive(server: &Server, via: &Arc<str>, call: SharedCall, age: Duration) {
    let from = Some((via, age));
    let outcome = match call {
        SharedCall::Probed(ProbedNode { node_id, address, https, reason }) => {
            let reach = match https {
                Some(https) => NodeReachability::Reachable { https },
                None => NodeReachability::Unreachable(reason),
            };
            let mut registry = server.registry();
            if registry.is_via(&node_id, via) {
                registry.record_probe(&node_id, &address, &reach, server.clock.now());
            }
            Ok(())
        }
        SharedCall::Register(call) if is_theirs(server, via, &call, age) => {
            let caller = call.caller();
            record_registration(server, caller, &JsonBody(call.body), from).map(drop)
        }
        SharedCall::Heartbeat(call) if is_theirs(server, via, &call, age) => {
            let caller = call.caller();
            record_heartbeat(server, caller, &JsonBody(call.body), from).map(drop)
        }
        SharedCall::Unregister(call) if is_theirs(server, via, &call, age) => {
            take_leave(server, call.caller(), node_of(&call), server.clock.now());
            Ok(())
        }
        SharedCall::Register(_)
        | SharedCall::Heartbeat(_)
        | SharedCall::Unregister(_)
        | SharedCall::Stop => Ok(()),
    };
    if let Err(refusal) = outcome {
        debug!("a node's call at another main server is refused here: {refusal}");
    }
}

/// The time of a call: now, or so long ago at another main server.
fn at(server: &Server, via: Option<(&Arc<str>, Duration)>) -> UnixMillis {
    server.clock.now().saturating_sub(via.map_or(Duration::ZERO, |(_, age)| age))
}

fn node_of(call: &NodeCall) -> &str {
    call.body.get("node_id").and_then(Value::as_str).unwrap_or_default()
}

/// False for a node that calls here, or has called elsewhere since: it was there before.
fn is_theirs(server: &Server, via: &Arc<str>, call: &NodeCall, age: Duration) -> bool {
    let (registry, node_id) = (server.registry(), node_of(call));
    !registry.calls_here(node_id, server.clock.now())
        && !registry.has_left(node_id, via, at(server, Some((via, age))))
}

fn check_identity(node_id: &str, address: &str) -> Result<(), RequestError> {
    if node_id.is_empty() || address.is_empty() {
        return Err(RequestError::invalid("node_id and address are required"));
    }
    if node_id.len() > MAX_TEXT || address.len() > MAX_TEXT {
        return Err(RequestError::invalid("node_id and address are at most 256 bytes each"));
    }
    Ok(())
}

fn truncate(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text.shrink_to_fit();
    text
}
