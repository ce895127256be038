//! `GET /metrics` and the health of the node. Public like the status, and without
//! meeting ids and addresses.

use axum::{extract::State, response::Response};
use edge_mirror_base::{
    clock::UnixMillis,
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
use edge_mirror_settings::Settings;

use super::AppState;
use crate::board::StatusBoard;

impl AppState {
    /// Everything that keeps the node from being ready.
    async fn unready(&self) -> Vec<Unready> {
        let serving = match (self.closing.is_cancelled(), self.board.is_running()) {
            (true, _) => Some(Unready::stopping()),
            (false, false) => Some(Unready::stopped()),
            (false, true) => None,
        };
        self.board.health.check(serving).await
    }
}

pub(super) async fn ready(State(state): State<AppState>) -> Response {
    health::ready(&state.unready().await)
}

pub(super) async fn metrics(State(state): State<AppState>) -> Response {
    let ready = state.unready().await.is_empty();
    // Counting open files takes a while where there are thousands.
    let page = tasks::blocking(move || {
        let mut page = Exposition::default();
        page.gauge("edge_mirror_ready", "1 where GET /api/health/ready says so.")
            .put(&[], u8::from(ready));
        state.traffic.encode(&mut page);
        state.traffic.encode_limits(&mut page);
        pulls(&mut page, &state);
        relay(&mut page, &state);
        presence(&mut page, &state.board);
        main_servers(&mut page, &state);
        storage(&mut page, &state.board, &state.settings);
        casts(&mut page, &state.board);
        remote_tasks(&mut page, &state.board);
        gofd(&mut page, &state.board);
        settings(&mut page, &state.settings);
        state.board.connections.encode(&mut page);
        limits::encode(&mut page, &state.board.counts.limits);
        metrics::encode_process(&mut page, "node");
        page
    })
    .await;
    wire::exposition(page)
}

fn pulls(page: &mut Exposition, state: &AppState) {
    let counts = &state.board.counts;
    page.tally(
        "edge_mirror_pulls_total",
        "Packages asked of the main server, retries included, by how it ended.",
        "outcome",
        &counts.pulls,
    );
    page.histogram(
        "edge_mirror_pull_duration_seconds",
        "Time until a package was here and verified, waiting and retries included.",
    )
    .put_histogram(&[], &counts.pull_duration);
    page.gauge("edge_mirror_pulls_in_progress", "Pulls under way or waiting for their turn.")
        .put(&[], state.fetch.under_way().len());
    page.counter("edge_mirror_pulled_bytes_total", "Bytes of packages received.")
        .put(&[], state.fetch.pulled_bytes());
    page.tally(
        "edge_mirror_pull_attempt_failures_total",
        "Single attempts at a package that failed, by cause.",
        "cause",
        &counts.failed_attempts,
    );
    page.count(
        "edge_mirror_pull_retries_total",
        "Attempts begun after a failed one.",
        &counts.retries,
    );
    page.tally(
        "edge_mirror_verification_failures_total",
        "Packages that were not what they should be, by what was read.",
        "source",
        &counts.bad_packages,
    );
}

/// Packages from and to other nodes.
fn relay(page: &mut Exposition, state: &AppState) {
    let counts = &state.board.counts;
    page.count(
        "edge_mirror_relay_received_bytes_total",
        "Bytes of packages that came from other nodes.",
        &counts.relayed_bytes,
    );
    page.counter("edge_mirror_relay_sent_bytes_total", "Bytes of packages sent to other nodes.")
        .put(&[], state.relay_traffic.served_bytes());
    page.gauge("edge_mirror_relay_children", "Nodes that pull from this one now.")
        .put(&[], state.relay_traffic.under_way());
    let depth = state.fetch.under_way().values().map(|pull| pull.source.path.len()).max();
    page.gauge(
        "edge_mirror_relay_depth",
        "Most nodes that a pull under way comes through; 0 straight from the main server.",
    )
    .put(&[], depth.unwrap_or(0));
    page.tally(
        "edge_mirror_relay_parent_changes_total",
        "Pulls that left another node for the next one or the main server, by reason.",
        "reason",
        &counts.parent_changes,
    );
    page.tally(
        "edge_mirror_relay_refused_children_total",
        "Other nodes' requests that were refused, by reason.",
        "reason",
        &counts.relay_refusals,
    );
}

/// Figures of the connection to the main server.
fn presence(page: &mut Exposition, board: &StatusBoard) {
    let (presence, sync) = (board.presence.borrow().clone(), board.sync.borrow().clone());
    page.gauge("edge_mirror_service_running", "0 where an operator has stopped the service.")
        .put(&[], u8::from(board.is_running()));
    page.gauge("edge_mirror_registered", "1 where the main server has this node on its list.")
        .put(&[], u8::from(presence.registered));
    page.gauge(
        "edge_mirror_unreachable",
        "1 where the main server says that it can't reach this node.",
    )
    .put(&[], u8::from(presence.notice.unreachable.is_some()));
    page.tally(
        "edge_mirror_heartbeats_total",
        "Heartbeats, by what became of them.",
        "outcome",
        &board.counts.heartbeats,
    );
    page.gauge(
        "edge_mirror_heartbeat_last_success_timestamp_seconds",
        "When the main server last took a heartbeat, since 1970; 0 before the first.",
    )
    .put(&[], presence.last_ok.map_or(0, UnixMillis::as_secs));
    page.tally(
        "edge_mirror_polls_total",
        "Polls of the active meetings, by what became of them.",
        "outcome",
        &board.counts.polls,
    );
    page.gauge(
        "edge_mirror_poll_last_success_timestamp_seconds",
        "When the main server last said which meetings are active, since 1970; 0 before the first.",
    )
    .put(&[], sync.polled_ok.map_or(0, UnixMillis::as_secs));
    page.gauge("edge_mirror_active_meetings", "Meetings that are active by the last good poll.")
        .put(&[], sync.active.len());
    page.gauge(
        "edge_mirror_synced_meetings",
        "Active meetings whose current package is here and verified.",
    )
    .put(&[], sync.confirmed.len());
    page.gauge(
        "edge_mirror_failing_meetings",
        "Active meetings whose package could not be pulled at the last try.",
    )
    .put(&[], sync.failing.len());
    let here = sync.prestaged.values().filter(|meeting| meeting.is_here).count();
    let mut prestaged = page.gauge(
        "edge_mirror_prestaged_packages",
        "Packages of meetings that have not been started, which are to be here by then.",
    );
    prestaged.put(&[("state", "here")], here);
    prestaged.put(&[("state", "missing")], sync.prestaged.len() - here);
}

/// The main server in use, of those that are listed.
fn main_servers(page: &mut Exposition, state: &AppState) {
    let (config, in_use) = (state.settings.current(), state.fetch.main_server_in_use());
    let place = config.fleet().position(&in_use.base_url).unwrap_or_default() + 1;
    page.gauge("edge_mirror_main_servers", "Main servers that the configuration lists.")
        .put(&[], config.main_servers().len());
    page.gauge(
        "edge_mirror_main_server_in_use",
        "Place in the list of the main server that is asked now; 1 for the first.",
    )
    .put(&[], place);
    page.gauge("edge_mirror_main_servers_failing", "Listed main servers that do not answer.")
        .put(&[], in_use.failing.len());
    page.counter(
        "edge_mirror_main_server_failovers_total",
        "Changes of the main server in use because one did not answer.",
    )
    .put(&[], state.fetch.failovers());
}

fn storage(page: &mut Exposition, board: &StatusBoard, settings: &Settings) {
    let (store, machine) = (board.store(), board.machine.borrow().clone());
    page.gauge("edge_mirror_stored_packages", "Verified packages here.").put(&[], store.count());
    page.gauge("edge_mirror_stored_bytes", "Bytes of the verified packages here.")
        .put(&[], store.used_bytes());
    page.gauge("edge_mirror_storage_limit_bytes", "storage.maxSize of the configuration.")
        .put(&[], settings.current().storage.max_size);
    page.gauge("edge_mirror_disk_free_bytes", "Free on the disk that holds the packages.")
        .put(&[], machine.disk_free);
    page.gauge("edge_mirror_disk_size_bytes", "Size of the disk that holds the packages.")
        .put(&[], machine.disk_total);
    page.tally(
        "edge_mirror_evictions_total",
        "Packages taken off the disk, by reason.",
        "reason",
        &board.counts.evictions,
    );
}

fn casts(page: &mut Exposition, board: &StatusBoard) {
    page.tally(
        "edge_mirror_cast_socket_refusals_total",
        "WebSockets of programs that follow casts, and messages on them, that were refused or given up, by reason.",
        "reason",
        &board.counts.socket_refusals,
    );
}

fn remote_tasks(page: &mut Exposition, board: &StatusBoard) {
    page.tally(
        "edge_mirror_remote_runs_total",
        "Runs of remote tasks that have ended, by how.",
        "outcome",
        &board.counts.remote_runs,
    );
    page.gauge("edge_mirror_remote_runs_in_progress", "Remote tasks that run now.")
        .put(&[], board.remote_tasks.borrow().running);
}

fn gofd(page: &mut Exposition, board: &StatusBoard) {
    page.tally(
        "edge_mirror_gofd_calls_refused_total",
        "Calls of a GoFD server that this node, as its agent, refused, by reason.",
        "reason",
        &board.gofd.calls,
    );
    page.tally(
        "edge_mirror_gofd_data_faults_total",
        "Connections of GoFD's agents that were refused or closed, by reason.",
        "reason",
        &board.gofd.data,
    );
}

fn settings(page: &mut Exposition, settings: &Settings) {
    page.tally(
        "edge_mirror_config_reloads_total",
        "Edits of the configuration file, by whether they were taken in.",
        "outcome",
        &settings.reloads,
    );
    page.gauge(
        "edge_mirror_config_last_reload_successful",
        "0 where the configuration file is invalid and the last good one stays in force.",
    )
    .put(&[], u8::from(settings.fault().is_none()));
}
