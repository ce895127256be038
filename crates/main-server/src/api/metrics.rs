//! `GET /metrics` and the health of the main server. Public like the calls of nodes
//! and clients, and without meeting ids and addresses.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use edge_mirror_base::{
    metrics::{self, Exposition},
    tasks,
};
use edge_mirror_http::{
    limits,
    wire::{
        self,
        health::{self, Unready},
    },
};

use crate::{
    packages::is_copy_current,
    server::{MAX_WAITING, Server},
    state::{
        dispatch::TaskPhase,
        fleet::NodePresence,
        meetings::{MeetingPhase, MeetingTable},
        registry::NodeReachability,
        relay::plan::PackageTree,
        remote_tasks::RemoteTaskPhase,
    },
};

pub(crate) async fn ready(State(server): State<Arc<Server>>) -> Response {
    let unready = unready(&server).await;
    let can_save = server.state_fault.borrow().is_none();
    match can_save || !unready.is_empty() {
        true => health::ready(&unready),
        // Whoever asks sends clients here, and they are served. The cause, which names the
        // database, is for operators.
        false => {
            let text = "暂时无法保存更改 / changes can't be saved now".to_owned();
            health::ready_in_part(&[Unready { code: "state_unavailable", text }])
        }
    }
}

async fn unready(server: &Server) -> Vec<Unready> {
    let serving = server.closing.is_cancelled().then(Unready::stopping);
    server.health.check(serving).await
}

pub(crate) async fn metrics(State(server): State<Arc<Server>>) -> Response {
    let ready = unready(&server).await.is_empty();
    // Counting open files takes a while where there are thousands.
    let page = tasks::blocking(move || {
        let mut page = Exposition::default();
        page.gauge("edge_mirror_ready", "1 where GET /api/health/ready says so.")
            .put(&[], u8::from(ready));
        server.traffic.encode(&mut page);
        downloads(&mut page, &server);
        nodes(&mut page, &server);
        relays(&mut page, &server);
        casts(&mut page, &server);
        gofd(&mut page, &server);
        dispatch(&mut page, &server);
        remote_tasks(&mut page, &server);
        meetings(&mut page, &server.book());
        packages(&mut page, &server);
        package_store(&mut page, &server);
        let can_save = server.state_fault.borrow().is_none();
        page.gauge("edge_mirror_master_state_available", "1 while changes can be saved.")
            .put(&[], u8::from(can_save));
        page.gauge(
            "edge_mirror_master_servers",
            "Main servers that use the same database, with this one.",
        )
        .put(&[], 1 + server.others().0);
        server.connections.encode(&mut page);
        limits::encode(&mut page, &server.counts.limits);
        metrics::encode_process(&mut page, "main_server");
        page
    })
    .await;
    wire::exposition(page)
}

fn downloads(page: &mut Exposition, server: &Server) {
    let (redirected, served, refused) = {
        let log = server.download_log();
        (log.redirects(), log.own_downloads(), log.refused_downloads())
    };
    let mut family = page.counter(
        "edge_mirror_master_redirects_total",
        "Downloads that clients asked for: sent to a node, answered from here for want of one, or refused.",
    );
    for (outcome, count) in [("node", redirected), ("own", served), ("refused", refused)] {
        family.put(&[("outcome", outcome)], count);
    }
}

fn nodes(page: &mut Exposition, server: &Server) {
    let mut family = page.gauge(
        "edge_mirror_master_nodes",
        "Nodes by state: those heard from within 30 s by whether clients can reach them, drained ones, known ones that are silent, and those that wait to be approved.",
    );
    for (state, count) in nodes_by_state(server) {
        family.put(&[("state", state)], count);
    }
    let counts = &server.counts;
    page.count(
        "edge_mirror_master_nodes_lost_total",
        "Nodes that fell silent without a goodbye.",
        &counts.lost_nodes,
    );
    page.tally(
        "edge_mirror_master_registrations_total",
        "Registrations of nodes received.",
        "outcome",
        &counts.registrations,
    );
    page.tally(
        "edge_mirror_master_heartbeats_total",
        "Heartbeats received.",
        "outcome",
        &counts.heartbeats,
    );
    page.tally(
        "edge_mirror_master_content_probes_total",
        "Parts of packages that were compared with those at nodes, by outcome.",
        "outcome",
        &counts.content_probes,
    );
    let wrong: usize = {
        let registry = server.registry();
        let live = registry.live(server.clock.now());
        live.map(|(_, node)| node.contents.all_wrong(|id| server.digest(id)).count()).sum()
    };
    page.gauge(
        "edge_mirror_master_wrong_packages",
        "Packages at nodes whose bytes are not this main server's.",
    )
    .put(&[], wrong);
    page.gauge(
        "edge_mirror_master_nodes_wanted",
        "Nodes that the present load wants, within the limits that were set.",
    )
    .put(&[], server.demand.borrow().wanted);
    page.gauge(
        "edge_mirror_master_held_polls",
        "Polls of nodes that are held back until there is news.",
    )
    .put(&[], MAX_WAITING - server.waiting.available_permits());
}

fn nodes_by_state(server: &Server) -> [(&'static str, usize); 6] {
    let (now, known) = (server.clock.now(), server.known());
    let registry = server.registry();
    let (mut reachable, mut unreachable, mut unknown) = (0, 0, 0);
    for (_, node) in registry.live(now).filter(|(node_id, _)| !known.is_drained(node_id)) {
        match node.reach {
            NodeReachability::Reachable { .. } => reachable += 1,
            NodeReachability::Unreachable(_) => unreachable += 1,
            NodeReachability::Unknown => unknown += 1,
        }
    }
    let (mut drained, mut silent) = (0, 0);
    for (node, presence) in registry.presences(&known, server.started_at, now) {
        match presence {
            _ if node.profile.drained => drained += 1,
            NodePresence::Silent(_) => silent += 1,
            NodePresence::Present | NodePresence::Awaited => {}
        }
    }
    drop(registry);
    [
        ("reachable", reachable),
        ("unreachable", unreachable),
        ("unknown", unknown),
        ("drained", drained),
        ("silent", silent),
        ("pending", server.claims().len()),
    ]
}

/// Nothing where GoFD's clients are not served.
fn gofd(page: &mut Exposition, server: &Server) {
    let Some(gateway) = &server.gofd else { return };
    page.tally(
        "edge_mirror_master_gofd_calls_refused_total",
        "Calls of GoFD's clients and agents that were refused, by reason.",
        "reason",
        &gateway.refusals,
    );
    page.tally(
        "edge_mirror_master_gofd_data_faults_total",
        "Connections to the data port for GoFD's agents that were refused or closed, by reason.",
        "reason",
        &gateway.data_events,
    );
}

fn dispatch(page: &mut Exposition, server: &Server) {
    let table = server.dispatch.table();
    let mut family = page.gauge(
        "edge_mirror_master_dispatch_tasks",
        "Tasks that send files to nodes, by status; finished ones are kept until others need their room.",
    );
    for phase in TaskPhase::ALL {
        let count = table.iter().filter(|task| task.phase == phase).count();
        family.put(&[("status", phase.name())], count);
    }
    page.counter("edge_mirror_master_dispatch_sent_bytes_total", "Bytes of files sent to nodes.")
        .put(&[], server.dispatch.traffic.served_bytes());
}

fn remote_tasks(page: &mut Exposition, server: &Server) {
    let table = server.remote_tasks.table();
    let mut counts = [0_usize; RemoteTaskPhase::ALL.len()];
    let (mut waiting, mut running) = (0, 0);
    for entry in table.newest(None) {
        counts[entry.phase() as usize] += 1;
        if entry.task.finished.is_none() {
            waiting += entry.waiting_parts();
            running += entry.progress().running;
        }
    }
    let mut family = page.gauge(
        "edge_mirror_master_remote_tasks",
        "Remote tasks by status; finished ones are kept until others need their room.",
    );
    for phase in RemoteTaskPhase::ALL {
        family.put(&[("status", phase.name())], counts[phase as usize]);
    }
    let mut family = page.gauge(
        "edge_mirror_master_remote_task_runs",
        "Runs of remote tasks that wait for a node, and those that are given to one.",
    );
    family.put(&[("state", "waiting")], waiting);
    family.put(&[("state", "given")], running);
    let mut workers = server.worker_nodes();
    workers.retain(|node| node.asks);
    let places: u32 = workers.iter().map(|node| node.places).fold(0, u32::saturating_add);
    page.gauge("edge_mirror_master_remote_task_nodes", "Nodes that ask for remote tasks.")
        .put(&[], workers.len());
    page.gauge(
        "edge_mirror_master_remote_task_places",
        "Runs of remote tasks that those nodes do at a time.",
    )
    .put(&[], places);
    page.tally(
        "edge_mirror_master_remote_task_runs_total",
        "Runs of remote tasks that have ended, by how; lost ones were not heard of again.",
        "end",
        &server.counts.runs,
    );
}

fn casts(page: &mut Exposition, server: &Server) {
    let counts = &server.counts;
    page.tally(
        "edge_mirror_master_casts_total",
        "Casts that operators sent here.",
        "kind",
        &counts.casts,
    );
    page.tally(
        "edge_mirror_master_casts_dropped_total",
        "Casts that a reader was too slow for: of subscribers, live ones of nodes, and events of CastRay's clients.",
        "reader",
        &counts.dropped_casts,
    );
    page.tally(
        "edge_mirror_master_castray_socket_refusals_total",
        "WebSockets of CastRay's clients, and messages on them, that were refused or given up, by reason.",
        "reason",
        &counts.castray_sockets,
    );
    page.gauge(
        "edge_mirror_master_casts_kept",
        "Casts in the database, as of the last one saved here or the last sweep.",
    )
    .put(&[], server.casts.kept());
    page.gauge("edge_mirror_master_cast_subscribers", "Programs that follow all casts here.")
        .put(&[], server.live_casts.subscribers().count());
    page.gauge(
        "edge_mirror_master_cast_nodes_behind",
        "Nodes that were sent casts here and have not said yet that they have them.",
    )
    .put(&[], server.cast_outbox.cursors().behind());
    page.gauge(
        "edge_mirror_master_held_cast_requests",
        "Requests of nodes for casts that are held back until there is one.",
    )
    .put(&[], MAX_WAITING - server.cast_outbox.waiting.available_permits());
}

fn relays(page: &mut Exposition, server: &Server) {
    let (mut from_main_server, mut from_nodes) = (0_u64, 0_u64);
    for (_, node) in server.registry().live(server.clock.now()) {
        for pull in &node.pulls {
            match pull.parent {
                Some(_) => from_nodes += 1,
                None => from_main_server += 1,
            }
        }
    }
    let mut family = page
        .gauge("edge_mirror_master_relay_pulls", "Pulls of packages by nodes, by their source.");
    for (source, count) in [("main_server", from_main_server), ("node", from_nodes)] {
        family.put(&[("source", source)], count);
    }
    let plan = server.relay.borrow().clone();
    page.gauge(
        "edge_mirror_master_relay_depth",
        "Most nodes that a package passes through on its way to one that lacks it.",
    )
    .put(&[], plan.trees().iter().map(PackageTree::depth).max().unwrap_or(0));
}

fn meetings(page: &mut Exposition, book: &MeetingTable) {
    let mut family = page.gauge("edge_mirror_master_meetings", "Meetings by state.");
    let states = [
        ("waiting", MeetingPhase::Waiting),
        ("running", MeetingPhase::Running),
        ("ended", MeetingPhase::Ended),
    ];
    for (text, status) in states {
        let count = book.meetings.iter().filter(|meeting| meeting.status == status).count();
        family.put(&[("state", text)], count);
    }
}

/// All there where there is no such store, too: an alert on what is missing is silent.
fn package_store(page: &mut Exposition, server: &Server) {
    let counts = &server.counts;
    let is_away = server.shared.as_ref().is_some_and(|shared| shared.fault().is_some());
    page.gauge(
        "edge_mirror_master_package_store_unavailable",
        "1 while the shared package store can't be used.",
    )
    .put(&[], u8::from(is_away));
    let book = server.book();
    let missing = book.meetings.iter().filter(|meeting| !is_copy_current(meeting, &server.store));
    page.gauge(
        "edge_mirror_master_packages_not_here",
        "Packages in the shared package store of which no copy is here.",
    )
    .put(&[], missing.count());
    page.tally(
        "edge_mirror_master_package_store_puts_total",
        "Packages put into the shared package store, by what became of them.",
        "outcome",
        &counts.package_puts,
    );
    page.tally(
        "edge_mirror_master_package_store_pulls_total",
        "Packages pulled from the shared package store, by what became of them.",
        "outcome",
        &counts.package_pulls,
    );
    page.count(
        "edge_mirror_master_package_store_swept_total",
        "Packages that no meeting had any more, removed from the shared package store.",
        &counts.swept_packages,
    );
    page.count(
        "edge_mirror_master_package_copies_evicted_total",
        "Copies of packages removed here to keep within --package-cache.",
        &counts.evicted_copies,
    );
}

fn packages(page: &mut Exposition, server: &Server) {
    let counts = &server.counts;
    page.tally(
        "edge_mirror_master_uploads_total",
        "Packages uploaded, by what became of them.",
        "outcome",
        &counts.uploads,
    );
    page.gauge("edge_mirror_master_uploads_in_progress", "Uploads under way.")
        .put(&[], server.uploads_under_way().len());
    page.count(
        "edge_mirror_master_uploaded_bytes_total",
        "Bytes of uploads received, refused ones included.",
        &counts.uploaded_bytes,
    );
    page.tally(
        "edge_mirror_verification_failures_total",
        "Packages that were not what they should be, by what was read.",
        "source",
        &counts.bad_packages,
    );
    let running = server.book();
    let bare = running.running().filter(|meeting| server.digest(&meeting.id).is_none()).count();
    page.gauge(
        "edge_mirror_master_meetings_without_package",
        "Running meetings that have no package yet.",
    )
    .put(&[], bare);
    page.gauge("edge_mirror_stored_packages", "Verified packages here.")
        .put(&[], server.store.count());
    page.gauge("edge_mirror_stored_bytes", "Bytes of the verified packages here.")
        .put(&[], server.store.used_bytes());
    if let Some(free) = server.outside.borrow().free {
        page.gauge("edge_mirror_disk_free_bytes", "Free on the disk that holds the packages.")
            .put(&[], free);
    }
}
