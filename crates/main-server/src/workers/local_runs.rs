//! Runs remote tasks of a few built-in types on the main server's own machine, where its
//! operator allows that and no node offers them.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use edge_mirror_base::{clock::UnixMillis, tasks};
use edge_mirror_protocol::{
    package::PackageId,
    remote_tasks::{
        ParameterKind, ParameterSummary, RunKey, RunOrder, RunReport, RunState, TaskTypeSummary,
    },
};
use edge_mirror_store::reread;
use futures_util::{StreamExt, stream::FuturesUnordered};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::probe::Prober;
use crate::{
    server::Server,
    state::{
        registry::NodeReachability,
        remote_tasks::{
            LOCAL_NODE,
            commands::{ReleaseCause, ReleasedRun, RemoteTaskCommand},
            order_for,
        },
    },
};

/// Pause after each chunk that is read to verify it: downloads come first.
const VERIFY_REST: Duration = Duration::from_millis(4);
/// Pause before what could not be saved is tried again.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_SLEEP_S: f64 = 86_400.0;

/// The types that are run here.
pub(crate) fn local_types() -> Vec<TaskTypeSummary> {
    let parameter = |name: &str, kind, required| ParameterSummary {
        name: name.to_owned(),
        kind,
        required,
        values: Vec::new(),
    };
    let offered = |name: &str, title: &str, parameter, places| TaskTypeSummary {
        name: name.parse().expect("a plain word"),
        title: title.to_owned(),
        parameters: vec![parameter],
        repeatable: true,
        places,
        network: name == "probe",
    };
    let (meeting, address, seconds) = (
        parameter("meeting", ParameterKind::Package, false),
        parameter("address", ParameterKind::Url, true),
        parameter("seconds", ParameterKind::Number, true),
    );
    vec![
        // Several would only wait for the same disk.
        offered("verify", "校验会议包 / Verify packages", meeting, 1),
        offered("probe", "测试连接 / Probe an address", address, 4),
        offered("sleep", "演练 / Rehearse", seconds, 4),
    ]
}

/// Runs what is given to the main server itself, until `stop`.
pub(crate) async fn run_locally(server: Arc<Server>, prober: Prober, stop: CancellationToken) {
    let Some(boot) = server.remote_tasks.local_boot() else { return };
    let work = async {
        let mut bell = server.remote_tasks.take_bell(LOCAL_NODE);
        let (mut runs, mut active) = (FuturesUnordered::new(), HashMap::new());
        loop {
            bell.borrow_and_update();
            let begun = begin_runs(&server, &boot, &mut active).await;
            runs.extend(
                begun
                    .into_iter()
                    .map(|(order, cancel)| run(server.clone(), prober.clone(), order, cancel)),
            );
            tokio::select! {
                _ = bell.changed() => {}
                Some(report) = runs.next() => {
                    let key = report.key.clone();
                    save(&server, report).await;
                    active.remove(&key);
                }
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Returns the runs to begin, and stops those whose tasks end. What was given to an earlier
/// start of the program has ended with it.
async fn begin_runs(
    server: &Server,
    boot: &str,
    active: &mut HashMap<RunKey, CancellationToken>,
) -> Vec<(RunOrder, CancellationToken)> {
    let table = server.remote_tasks.table();
    let (mut begun, mut gone) = (Vec::new(), Vec::new());
    let runs = table.runs_of(LOCAL_NODE).into_iter().flat_map(|runs| runs.iter());
    for (id, number) in runs {
        let Some(entry) = table.find(id) else { continue };
        let Some(part) = entry.part(number) else { continue };
        let Some(to) = &part.assignment else { continue };
        let key = part.run_key();
        if *to.boot != *boot {
            gone.push(ReleasedRun { key, cause: ReleaseCause::NodeRestarted });
            continue;
        }
        match active.get(&key) {
            Some(cancel) if entry.task.ending.is_some() => cancel.cancel(),
            Some(_) => {}
            None => {
                let cancel = CancellationToken::new();
                if entry.task.ending.is_some() {
                    cancel.cancel();
                }
                active.insert(key, cancel.clone());
                begun.push((order_for(entry, part, UnixMillis::now()), cancel));
            }
        }
    }
    if !gone.is_empty() {
        let command = RemoteTaskCommand::Release { runs: gone, at: UnixMillis::now() };
        if let Err(cause) = server.change(command).await {
            debug!("runs of before can't be given up: {cause}");
        }
    }
    begun
}

/// Keeps the end of a run, as soon as that can be.
async fn save(server: &Server, report: RunReport) {
    let command = RemoteTaskCommand::Report {
        node: LOCAL_NODE.to_owned(),
        reports: vec![report],
        at: UnixMillis::now(),
    };
    while let Err(cause) = server.change(command.clone()).await {
        debug!("the end of a run can't be saved: {cause}");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn run(
    server: Arc<Server>,
    prober: Prober,
    order: RunOrder,
    cancel: CancellationToken,
) -> RunReport {
    let began = Instant::now();
    let started_at = UnixMillis::now().as_secs();
    let limit = Duration::from_secs(order.timeout_seconds);
    let performing = tokio::time::timeout(limit, perform(&server, &prober, &order));
    let outcome = cancel.run_until_cancelled(performing).await;
    let mut report = RunReport::new(order.key, RunState::Succeeded);
    match outcome {
        Some(Ok(Ok(result))) => report.result = Some(result),
        Some(Ok(Err(error))) => {
            (report.state, report.error) = (RunState::Failed, Some(error));
        }
        Some(Err(_)) => {
            let text = "超过了时间限制 / it took longer than it may".to_owned();
            (report.state, report.error) = (RunState::Failed, Some(text));
        }
        None => report.state = RunState::Stopped,
    }
    report.started_at = Some(started_at);
    report.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    report
}

async fn perform(server: &Server, prober: &Prober, order: &RunOrder) -> Result<Value, String> {
    let text = |name: &str| order.parameters.get(name).and_then(Value::as_str);
    match order.task_type.as_str() {
        "sleep" => {
            let seconds = order.parameters.get("seconds").and_then(Value::as_f64);
            let seconds = seconds.filter(|seconds| (0.0..=LONGEST_SLEEP_S).contains(seconds));
            let seconds =
                seconds.ok_or("seconds 应在 0 到 86400 之间 / seconds must be from 0 to 86400")?;
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            Ok(json!({"slept_seconds": seconds}))
        }
        "verify" => verify(server, text("meeting")).await,
        "probe" => probe(server, prober, text("address").unwrap_or_default()).await,
        other => Err(format!("主控服务器没有类型 {other} / the main server has no type {other}")),
    }
}

/// Reads packages again, and compares them with their digests. What is damaged is left to the
/// node or operator that finds it: here is only said so.
async fn verify(server: &Server, meeting: Option<&str>) -> Result<Value, String> {
    let stored = server.store.list().into_iter();
    let mut ids: Vec<PackageId> =
        stored.filter_map(|stored| stored.manifest.key.package().cloned()).collect();
    if let Some(meeting) = meeting {
        ids.retain(|id| id.as_str() == meeting);
        if ids.is_empty() {
            return Err(format!(
                "会议 {meeting} 的会议包不在这里 / the package of meeting {meeting} is not here"
            ));
        }
    }
    ids.sort();
    let (mut good, mut damaged, mut unreadable) = (0_u64, Vec::new(), Vec::new());
    for id in ids {
        // One that was removed meanwhile is nobody's loss.
        let Ok(Some(package)) = server.store.package_to_reread(&id).await else {
            unreadable.push(id);
            continue;
        };
        match reread::is_good(&server.store, &package, VERIFY_REST, |_| ()).await {
            Ok(true) => good += 1,
            Ok(false) => damaged.push(id),
            Err(_) => unreadable.push(id),
        }
        tasks::block_in_place(|| drop(package));
    }
    Ok(json!({"good": good, "damaged": damaged, "unreadable": unreadable}))
}

/// Reaches a node of the fleet, and nothing else.
async fn probe(server: &Server, prober: &Prober, address: &str) -> Result<Value, String> {
    let known = server.known();
    let node = known
        .iter()
        .find(|node| node.address == address)
        .ok_or("不是已接受节点的地址 / it is not the address of a node that was accepted")?;
    let began = Instant::now();
    let reach = prober.ask(&node.id, address).await;
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let error = match reach {
        NodeReachability::Unreachable(reason) => Some(reason),
        NodeReachability::Reachable { .. } | NodeReachability::Unknown => None,
    };
    Ok(json!([{"address": address, "reached": error.is_none(), "ms": ms, "error": error}]))
}
