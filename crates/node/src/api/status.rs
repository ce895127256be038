//! `GET /api/status`: the contract's fields with their meanings, and more for
//! operators. It only reads what the workers have reported, so it answers quickly
//! whatever the main server and the disks do.

mod meetings;
mod problems;
mod relay;

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use edge_mirror_base::clock::UnixMillis;
use edge_mirror_http::{
    delivery::Traffic,
    wire::{
        problem::Problem,
        snapshot::{ItemWriter, Snapshot},
    },
};
use edge_mirror_protocol::package::PackageId;
use edge_mirror_settings::{Config, Settings};
use serde::Serialize;
use serde_json::json;

use super::RelayTraffic;
use crate::{
    board::{Presence, StatusBoard, SyncState},
    fetch::{Fetch, PullProgress},
    machine::Machine,
    upstream::MainServerInUse,
};
use meetings::MeetingRows;
use relay::RelayView;

/// Clients can invent ids; a handful shows what is going on.
const SHOWN_REFUSALS: usize = 20;

pub(super) async fn status(
    State(settings): State<Arc<Settings>>,
    State(board): State<Arc<StatusBoard>>,
    State(fetch): State<Fetch>,
    State(traffic): State<Arc<Traffic>>,
    State(relay): State<RelayTraffic>,
) -> Response {
    snapshot(&settings, &board, &fetch, &traffic, &relay, StatusAudience::Anybody).into_response()
}

/// The status's reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusAudience {
    Anybody,
    /// Our own pages have no use for the contract's list of meetings.
    Pages,
}

/// Times are seconds since 1970.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Status<'a> {
    node_id: &'a str,
    /// The service was not stopped by an operator.
    running: bool,
    connected: bool,
    /// Base URL of the first one, which is the fleet's identity.
    main_server: &'a str,
    /// Base URL of the one that is asked now.
    main_server_in_use: &'a str,
    /// All of them, in their order.
    main_servers: Vec<MainServerRow<'a>>,
    /// Reported to the main server.
    node_ip: Option<&'a str>,
    node_port: u16,
    start_time: u64,
    last_sync: Option<u64>,
    /// 未同步, 同步中, 同步成功, or begins with 同步失败:  or 同步出错: .
    sync_status: String,
    /// Filled in by `Snapshot`, like `meetings`.
    #[cfg_attr(
        test,
        schemars(with = "Vec<meetings::PackageRow<'_>>", description = "Packages that are here.")
    )]
    active_meetings: (),
    /// Packages that are here.
    meeting_count: usize,
    /// Their bytes.
    storage_usage: u64,

    now: u64,
    /// Problems, worst first.
    problems: Vec<Problem>,
    version: &'static str,
    /// Seconds.
    uptime: u64,
    registered: bool,
    advertised_address: Option<&'a str>,
    last_heartbeat: Option<u64>,
    unreachable_since: Option<u64>,
    heartbeat_error: Option<&'a str>,
    last_poll: Option<u64>,
    poll_error: Option<&'a str>,
    #[cfg_attr(
        test,
        schemars(
            with = "Vec<meetings::MeetingRow<'_>>",
            description = "Active ones and those whose packages are here."
        )
    )]
    meetings: (),
    /// Meetings that can't be had, asked for by clients; some of them.
    refused: Vec<RefusedMeeting>,
    downloads_under_way: u64,
    bytes_served: u64,
    bytes_pulled: u64,
    relay: RelayView,
    remote_tasks: TaskStatusView<'a>,
    storage: StorageUsage<'a>,
    config_file: &'a Path,
    /// The error of a rejected configuration file.
    config_error: Option<&'a str>,
    warnings: Vec<String>,
    port_error: Option<&'a str>,
    machine: &'a Machine,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "MainServer"))]
struct MainServerRow<'a> {
    base_url: &'a str,
    in_use: bool,
    /// The reason that it does not answer; null while nothing of that is known.
    error: Option<&'a str>,
    unreachable_since: Option<u64>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RefusedMeeting {
    id: PackageId,
    error: String,
}

/// The storage folder; figures are bytes.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct StorageUsage<'a> {
    path: &'a Path,
    used: u64,
    limit: u64,
    /// Bytes at which eviction begins.
    cleanup_at: u64,
    error: Option<&'a str>,
}

/// Work that operators at the main server have this node do.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct TaskStatusView<'a> {
    enabled: bool,
    /// Runs at a time; 0 while none are taken.
    places: u32,
    running: usize,
    /// Titles of the declared types, by name.
    types: &'a BTreeMap<String, String>,
    /// Programs run in systemd's unit; null before the first.
    unit: Option<bool>,
    /// Limits that the last program ran without, in both languages.
    missing_limits: Vec<String>,
}

/// Everything about the node, as it is now.
pub fn snapshot(
    settings: &Settings,
    board: &StatusBoard,
    fetch: &Fetch,
    traffic: &Traffic,
    relay_traffic: &RelayTraffic,
    reader: StatusAudience,
) -> Snapshot {
    let (config, store) = (settings.current(), board.store());
    let (presence, sync) = (board.presence.borrow().clone(), board.sync.borrow().clone());
    let (port, now, running) = (*board.port.borrow(), UnixMillis::now(), board.is_running());
    let under_way = fetch.under_way();
    let stored = store.list();
    let meetings = MeetingRows::of(&sync, &stored, &under_way);
    let refused = fetch.refused().into_iter().map(|(id, error)| RefusedMeeting { id, error });
    let refused: Vec<_> = refused.take(SHOWN_REFUSALS).collect();
    let node_ip = presence.address.as_deref().and_then(|address| address.rsplit_once(':'));
    let (used, machine) = (store.used_bytes(), board.machine.borrow().clone());
    let remote_tasks = board.remote_tasks.borrow().clone();
    let storage_error = board.store_fault.borrow().clone();
    let port_error = board.port_fault.borrow().clone();
    let redirect_error = board.redirect_fault.borrow().clone();
    let login_error = board.login_fault.borrow().clone();
    let in_use = fetch.main_server_in_use();
    let snapshot = problems::NodeSnapshot {
        running,
        config: &config,
        in_use: &in_use,
        config_file: settings.path(),
        config_error: settings.fault(),
        presence: &presence,
        sync: &sync,
        failing: meetings.failing().take(problems::MAX_MEETINGS).collect(),
        storage: store.root(),
        storage_error,
        port_error,
        tls_error: board.certificate_health.fault(),
        tls_warning: board.certificate_health.warning(),
        redirect_error,
        login_error,
        connections: &board.connections,
        used,
        machine: &machine,
        remote_tasks: &remote_tasks,
    };
    let status = Status {
        node_id: &config.node_id,
        running,
        connected: running && connected(&presence, &config, now),
        main_server: config.main_server(),
        main_server_in_use: main_server_in_use(&config, &in_use),
        main_servers: main_servers(&config, &in_use),
        node_ip: node_ip.map(|(host, _)| host.trim_matches(['[', ']'])),
        node_port: port,
        start_time: board.started_at.as_secs(),
        last_sync: sync.last_pull.map(UnixMillis::as_secs),
        sync_status: sync_status(&sync, &under_way),
        active_meetings: (),
        meeting_count: stored
            .iter()
            .filter(|stored| stored.manifest.key.package().is_some())
            .count(),
        storage_usage: used,

        now: now.as_secs(),
        problems: problems::find_problems(&snapshot),
        version: env!("CARGO_PKG_VERSION"),
        uptime: now.saturating_since(board.started_at).as_secs(),
        registered: presence.registered,
        advertised_address: presence.address.as_deref(),
        last_heartbeat: presence.last_ok.map(UnixMillis::as_secs),
        unreachable_since: presence.failing_since.map(UnixMillis::as_secs),
        heartbeat_error: presence.error.as_ref().map(|fault| &*fault.text),
        last_poll: sync.polled_ok.map(UnixMillis::as_secs),
        poll_error: sync.poll_error.as_ref().map(|fault| &*fault.text),
        meetings: (),
        refused,
        downloads_under_way: traffic.under_way(),
        bytes_served: traffic.served_bytes(),
        bytes_pulled: fetch.pulled_bytes(),
        relay: RelayView::new(&config, board, fetch.siblings(), relay_traffic),
        remote_tasks: TaskStatusView {
            enabled: config.tasks.enabled,
            places: remote_tasks.places,
            running: remote_tasks.running,
            types: &remote_tasks.types,
            unit: remote_tasks.is_unit,
            missing_limits: remote_tasks.missing.iter().map(ToString::to_string).collect(),
        },
        storage: StorageUsage {
            path: store.root(),
            used,
            limit: config.storage.max_size,
            cleanup_at: cleanup_at(&config),
            error: snapshot.storage_error.as_deref(),
        },
        config_file: settings.path(),
        config_error: snapshot.config_error.as_deref(),
        warnings: config.warnings(),
        port_error: snapshot.port_error.as_deref(),
        machine: &machine,
    };
    let mut fields = json!(status);
    if reader == StatusAudience::Pages
        && let Some(fields) = fields.as_object_mut()
    {
        fields.shift_remove("active_meetings");
    }
    let here = |items: &mut ItemWriter<'_>| meetings.write_stored(items);
    let all = |items: &mut ItemWriter<'_>| meetings.write_all(items);
    Snapshot::new(&fields, &[("active_meetings", &here), ("meetings", &all)])
}

/// Before the first request, it will be the first one.
fn main_server_in_use<'a>(config: &'a Config, in_use: &MainServerInUse) -> &'a str {
    let listed = config.fleet().base_urls();
    listed.iter().find(|listed| **listed == in_use.base_url).map_or(config.main_server(), |s| s)
}

fn main_servers<'a>(config: &'a Config, in_use: &'a MainServerInUse) -> Vec<MainServerRow<'a>> {
    let asked = main_server_in_use(config, in_use);
    let rows = config.fleet().base_urls().iter().map(|base_url| {
        let failing = in_use.failing.iter().find(|failing| failing.base_url == *base_url);
        MainServerRow {
            base_url,
            in_use: base_url == asked,
            error: failing.map(|failing| &*failing.fault.text),
            unreachable_since: failing.map(|failing| failing.since.as_secs()),
        }
    });
    rows.collect()
}

/// Bytes at which eviction begins.
fn cleanup_at(config: &Config) -> u64 {
    (config.storage.max_size as f64 * config.storage.cleanup_threshold) as u64
}

/// One missed heartbeat is no loss yet; `heartbeat.timeout` says when it is.
fn connected(presence: &Presence, config: &Config, now: UnixMillis) -> bool {
    // By whole seconds, as they are shown.
    let since = |at: UnixMillis| now.as_secs().saturating_sub(at.as_secs());
    let heard = presence.last_ok.is_some_and(|at| since(at) <= config.heartbeat.timeout);
    presence.registered && heard
}

/// The sync status in the contract's words.
fn sync_status(sync: &SyncState, under_way: &HashMap<PackageId, PullProgress>) -> String {
    let pulling = sync.active.iter().any(|meeting| under_way.contains_key(&meeting.id));
    let all_confirmed = sync.active.iter().all(|meeting| sync.confirmed.contains_key(&meeting.id));
    if let Some(error) = &sync.poll_error {
        format!("同步出错: {error}")
    } else if pulling {
        "同步中".to_owned()
    } else if let Some(failing) = sync.failing.values().next() {
        format!("同步失败: {}", failing.error)
    } else if let Some(meeting) = sync.unserved.first() {
        format!("同步失败: 会议 {:?} 的 ID 不能使用", meeting.id)
    } else if sync.polled_ok.is_none() {
        "未同步".to_owned()
    } else if all_confirmed {
        "同步成功".to_owned()
    } else {
        "同步中".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use edge_mirror_protocol::{ActiveMeeting, Cause, Fault, UnservedMeeting, package::Sha256};

    use super::*;
    use crate::{
        board::PullFailure,
        fetch::{PullPhase, PullReason},
    };

    fn id() -> PackageId {
        "m".parse().unwrap()
    }

    fn fault(text: &str) -> Fault {
        Fault { cause: Cause::Other, text: text.into() }
    }

    fn progress() -> PullProgress {
        PullProgress {
            phase: PullPhase::Pulling,
            reason: PullReason::Missing,
            attempt: 1,
            received_bytes: 0,
            total_bytes: None,
            rate: 0,
            failure: None,
            source: crate::fetch::PullSource::default(),
        }
    }

    fn sync() -> SyncState {
        let meeting = ActiveMeeting { id: id(), title: "T".into(), sha256: None, size_bytes: None };
        SyncState {
            polled_ok: Some(UnixMillis::from_secs(1)),
            active: Arc::new(vec![meeting].into()),
            ..SyncState::default()
        }
    }

    #[test]
    fn the_sync_status_speaks_the_contracts_words() {
        let (idle, failing) = (
            HashMap::new(),
            PullFailure { rounds: 1, error: fault("why"), next_try: UnixMillis::from_secs(2) },
        );
        let busy = HashMap::from([(id(), progress())]);
        let confirmed =
            SyncState { confirmed: Arc::new([(id(), Sha256::new([1; 32]))].into()), ..sync() };
        let failed = SyncState { failing: Arc::new([(id(), failing)].into()), ..sync() };
        let away = SyncState { poll_error: Some(fault("away")), ..confirmed.clone() };
        assert_eq!(sync_status(&SyncState::default(), &idle), "未同步");
        assert_eq!(sync_status(&sync(), &idle), "同步中");
        assert_eq!(sync_status(&confirmed, &busy), "同步中");
        assert_eq!(sync_status(&confirmed, &idle), "同步成功");
        assert_eq!(sync_status(&failed, &idle), "同步失败: why");
        assert_eq!(sync_status(&failed, &busy), "同步中");
        assert_eq!(sync_status(&away, &idle), "同步出错: away");
        let unserved = UnservedMeeting { id: "a/b\n".into(), title: None };
        let unserved = SyncState { unserved: [unserved].into(), ..confirmed };
        assert_eq!(sync_status(&unserved, &idle), "同步失败: 会议 \"a/b\\n\" 的 ID 不能使用");
    }
}
