//! Types that need no process and no declaration.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use edge_mirror_base::tasks;
use edge_mirror_protocol::{
    package::PackageId,
    remote_tasks::{ParameterKind, ParameterSummary, TaskTypeName, TaskTypeSummary},
};
use edge_mirror_store::reread;
use edge_mirror_tasks::BilingualText;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use tracing::error;

use crate::{
    api::{AppState, StatusAudience, snapshot},
    board::CheckOccasion,
    fetch::PullReason,
    upstream::Connector,
};

/// Pause after each chunk that is read to verify it: downloads come first.
const VERIFY_REST: Duration = Duration::from_millis(4);
/// A probe gets an answer within this time, or none.
const PROBE_LIMIT: Duration = Duration::from_secs(10);
/// Lines of the log in a report.
const LOG_LINES: usize = 300;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BuiltInType {
    Verify,
    Fetch,
    Probe,
    Report,
    Sleep,
}

/// The progress of a run: thousandths, and more than that if it does not say.
#[derive(Debug)]
pub(super) struct ProgressGauge(AtomicU32);

impl Default for ProgressGauge {
    fn default() -> Self {
        Self(AtomicU32::new(u32::MAX))
    }
}

impl ProgressGauge {
    fn set(&self, done: u64, all: u64) {
        let thousandths = done.saturating_mul(1000).checked_div(all).unwrap_or(1000);
        self.0.store(u32::try_from(thousandths).unwrap_or(1000).min(1000), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Option<f32> {
        let thousandths = self.0.load(Ordering::Relaxed);
        u16::try_from(thousandths).ok().map(|thousandths| f32::from(thousandths) / 1000.0)
    }
}

/// A call whose parameters are checked.
#[derive(Debug, PartialEq)]
pub(super) enum BuiltInCall {
    Verify(VerifyCall),
    Fetch(FetchCall),
    Probe(ProbeCall),
    Report(NoParameters),
    Sleep(SleepCall),
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VerifyCall {
    meeting: Option<PackageId>,
    /// False leaves a damaged package in place.
    #[serde(default = "yes")]
    repair: bool,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FetchCall {
    meeting: PackageId,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProbeCall {
    /// A main server's base URL, or `host:port` of a node; none: all main servers.
    address: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoParameters {}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SleepCall {
    seconds: f64,
    #[serde(default)]
    fail: bool,
    #[serde(default)]
    result: Option<Value>,
}

fn yes() -> bool {
    true
}

impl BuiltInType {
    pub(super) const ALL: [Self; 5] =
        [Self::Verify, Self::Fetch, Self::Probe, Self::Report, Self::Sleep];

    fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Fetch => "fetch",
            Self::Probe => "probe",
            Self::Report => "report",
            Self::Sleep => "sleep",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|built_in| built_in.name() == name)
    }

    /// One verifies at a time, since all use the same disk.
    pub(super) fn places(self, places: u32) -> u32 {
        match self {
            Self::Verify => places.min(1),
            Self::Fetch | Self::Probe | Self::Report | Self::Sleep => places,
        }
    }

    pub(super) fn summary(self, places: u32) -> TaskTypeSummary {
        let parameter = |name: &str, kind, required| ParameterSummary {
            name: name.to_owned(),
            kind,
            required,
            values: Vec::new(),
        };
        let (title, parameters) = match self {
            Self::Verify => (
                "校验会议包 / Verify packages",
                vec![
                    parameter("meeting", ParameterKind::Package, false),
                    parameter("repair", ParameterKind::Boolean, false),
                ],
            ),
            Self::Fetch => (
                "提前拉取会议包 / Fetch a package",
                vec![parameter("meeting", ParameterKind::Package, true)],
            ),
            Self::Probe => (
                "测试连接 / Probe an address",
                vec![parameter("address", ParameterKind::Url, false)],
            ),
            Self::Report => ("收集诊断信息 / Collect diagnostics", Vec::new()),
            Self::Sleep => (
                "演练 / Rehearse",
                vec![
                    parameter("seconds", ParameterKind::Number, true),
                    parameter("fail", ParameterKind::Boolean, false),
                    parameter("result", ParameterKind::Other, false),
                ],
            ),
        };
        let name: Result<TaskTypeName, _> = self.name().parse();
        TaskTypeSummary {
            name: name.unwrap_or_else(|_| unreachable!("each of them is a name")),
            title: title.to_owned(),
            parameters,
            repeatable: true,
            places: self.places(places),
            network: matches!(self, Self::Fetch | Self::Probe),
        }
    }

    /// Checks the parameters.
    pub(super) fn call(
        self,
        parameters: &Map<String, Value>,
        input: Option<&Value>,
    ) -> Result<BuiltInCall, BilingualText> {
        if input.is_some() {
            return Err(BilingualText::new("这种任务没有 input", "this type takes no input"));
        }
        let call = match self {
            Self::Verify => BuiltInCall::Verify(read(parameters)?),
            Self::Fetch => BuiltInCall::Fetch(read(parameters)?),
            Self::Probe => BuiltInCall::Probe(read(parameters)?),
            Self::Report => BuiltInCall::Report(read(parameters)?),
            Self::Sleep => BuiltInCall::Sleep(read(parameters)?),
        };
        match &call {
            BuiltInCall::Sleep(sleep) if !(0.0..=86_400.0).contains(&sleep.seconds) => {
                let text = ("seconds 应在 0 到 86400 之间", "seconds must be from 0 to 86400");
                Err(BilingualText::new(text.0, text.1))
            }
            _ => Ok(call),
        }
    }
}

fn read<T: DeserializeOwned>(parameters: &Map<String, Value>) -> Result<T, BilingualText> {
    T::deserialize(Value::Object(parameters.clone())).map_err(|error| {
        BilingualText::new(
            format!("参数有误：{error}"),
            format!("the parameters are wrong: {error}"),
        )
    })
}

/// Does what was called for. It ends early where it is dropped.
pub(super) async fn perform(
    call: BuiltInCall,
    state: &AppState,
    connector: &Connector,
    progress: &ProgressGauge,
) -> Result<Value, BilingualText> {
    match call {
        BuiltInCall::Verify(call) => verify(call, state, progress).await,
        BuiltInCall::Fetch(call) => fetch(call.meeting, state, progress).await,
        BuiltInCall::Probe(call) => probe(call.address, state, connector).await,
        BuiltInCall::Report(_) => Ok(report(state)),
        BuiltInCall::Sleep(call) => sleep(call, progress).await,
    }
}

async fn verify(
    call: VerifyCall,
    state: &AppState,
    progress: &ProgressGauge,
) -> Result<Value, BilingualText> {
    let store = state.board.store();
    let stored = store.list().into_iter();
    let mut ids: Vec<PackageId> =
        stored.filter_map(|stored| stored.manifest.key.package().cloned()).collect();
    if let Some(id) = call.meeting {
        ids.retain(|stored| *stored == id);
        if ids.is_empty() {
            return Err(BilingualText::new(
                format!("会议 {id} 的会议包不在本节点"),
                format!("the package of meeting {id} is not here"),
            ));
        }
    }
    ids.sort();
    let all = u64::try_from(ids.len()).unwrap_or(u64::MAX);
    let (mut good, mut done) = (0_u64, 0);
    let (mut damaged, mut unreadable) = (Vec::new(), Vec::new());
    for id in ids {
        progress.set(done, all);
        done += 1;
        // One that was removed meanwhile is nobody's loss.
        let Ok(Some(package)) = store.package_to_reread(&id).await else {
            unreadable.push(id);
            continue;
        };
        match reread::is_good(&store, &package, VERIFY_REST, |_| ()).await {
            Ok(is_good) => {
                let (noting, stored) = (store.clone(), package.0);
                if is_good || call.repair {
                    let noted =
                        tasks::blocking(move || noting.record_reread(&stored, is_good)).await;
                    if let Err(failed) = noted {
                        error!("package of meeting {id}: {failed}");
                    }
                }
                if is_good {
                    good += 1;
                    continue;
                }
                error!("package of meeting {id} is damaged on disk");
                state.board.counts.bad_packages.inc(CheckOccasion::ReadAgain);
                if call.repair && state.board.sync.borrow().active.contains(&id) {
                    state.board.sync_requests.add(id.clone());
                }
                damaged.push(id);
            }
            Err(_) => unreadable.push(id),
        }
    }
    Ok(json!({"good": good, "damaged": damaged, "unreadable": unreadable, "repaired": call.repair}))
}

/// Pulls the package of a meeting that runs or is about to start.
async fn fetch(
    id: PackageId,
    state: &AppState,
    progress: &ProgressGauge,
) -> Result<Value, BilingualText> {
    let is_active = state.board.sync.borrow().active.contains(&id);
    let is_prestaged = state.board.prestaged_bytes(&id).is_some();
    let reason = match (is_active, is_prestaged) {
        (true, _) => PullReason::Missing,
        (false, true) => PullReason::Prestage,
        (false, false) => {
            return Err(BilingualText::new(
                format!("会议 {id} 既未开始，也不在即将开始的会议之中"),
                format!("meeting {id} neither runs nor is about to start"),
            ));
        }
    };
    let flight = state.fetch.pull(&id, reason);
    let watching = async {
        loop {
            let now = flight.progress();
            if let Some(total) = now.total_bytes {
                progress.set(now.received_bytes, total);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let outcome = tokio::select! {
        outcome = flight.outcome() => outcome,
        () = watching => unreachable!("it does not end"),
    };
    match outcome {
        Ok(pulled) => {
            let manifest = &pulled.stored.manifest;
            let (sha256, bytes) = (manifest.sha256, manifest.size_bytes);
            let changed = pulled.changed;
            Ok(json!({"meeting": id, "sha256": sha256, "size_bytes": bytes, "changed": changed}))
        }
        Err(error) => Err(BilingualText::new(
            format!("会议 {id} 的会议包没有拉取成功：{error}"),
            format!("the package of meeting {id} was not pulled: {error}"),
        )),
    }
}

/// Reaches main servers or a node of the fleet, and nothing else.
async fn probe(
    address: Option<String>,
    state: &AppState,
    connector: &Connector,
) -> Result<Value, BilingualText> {
    let config = state.settings.current();
    let upstream = connector.upstream(&config);
    let main_servers = config.fleet().base_urls();
    let asked: Vec<String> = match &address {
        None => main_servers.to_vec(),
        Some(address) => {
            let is_same =
                |url: &&String| url.trim_end_matches('/') == address.trim_end_matches('/');
            main_servers.iter().filter(is_same).cloned().collect()
        }
    };
    if let (Some(address), true) = (&address, asked.is_empty()) {
        let listed = upstream.nodes(PROBE_LIMIT).await.unwrap_or_default();
        if !listed.iter().any(|(_, known)| known == address) {
            return Err(BilingualText::new(
                "不是主控服务器或其他节点的地址",
                "it is not the address of a main server or another node",
            ));
        }
        return Ok(probe_node(address, state).await);
    }
    let mut rows = Vec::new();
    for base_url in asked {
        let began = Instant::now();
        let answer = upstream.at(&base_url).token(PROBE_LIMIT).await;
        let error = answer.err().map(|error| error.to_string());
        rows.push(row(&base_url, began, error));
    }
    Ok(json!(rows))
}

async fn probe_node(address: &str, state: &AppState) -> Value {
    let (client, began) = (state.fetch.siblings().client(), Instant::now());
    let mut error = None;
    for scheme in ["http", "https"] {
        let asked =
            client.get(format!("{scheme}://{address}/api/health/live")).timeout(PROBE_LIMIT);
        error = match asked.send().await.and_then(reqwest::Response::error_for_status) {
            Ok(_) => return json!([row(address, began, None)]),
            Err(failed) => Some(crate::upstream::root_cause(&failed)),
        };
    }
    json!([row(address, began, error)])
}

fn row(address: &str, began: Instant, error: Option<String>) -> Value {
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    json!({"address": address, "reached": error.is_none(), "ms": ms, "error": error})
}

/// Collects what helps to find out why a node does not do what it should. It has no secrets: the
/// configuration is redacted, and no token or key is logged.
fn report(state: &AppState) -> Value {
    let AppState { settings, board, fetch, traffic, relay_traffic, journal, .. } = state;
    let status = snapshot(settings, board, fetch, traffic, relay_traffic, StatusAudience::Pages);
    let status: Value = serde_json::from_slice(status.json()).unwrap_or_default();
    let log = journal.lines(None, tracing::Level::INFO, LOG_LINES);
    json!({"config": settings.current().redacted(), "status": status, "log": log})
}

async fn sleep(call: SleepCall, progress: &ProgressGauge) -> Result<Value, BilingualText> {
    let (began, limit) = (Instant::now(), Duration::from_secs_f64(call.seconds));
    loop {
        let done = began.elapsed().min(limit);
        progress.set(
            u64::try_from(done.as_millis()).unwrap_or(u64::MAX),
            u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        );
        match limit.saturating_sub(done) {
            Duration::ZERO => break,
            left => tokio::time::sleep(left.min(Duration::from_secs(1))).await,
        }
    }
    match call.fail {
        true => Err(BilingualText::new("演练的失败", "a rehearsed failure")),
        false => Ok(call.result.unwrap_or(json!({"slept_seconds": call.seconds}))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_checked_before_anything_is_done() {
        let call = |name: &str, parameters: Value| {
            let built_in = BuiltInType::named(name).unwrap();
            built_in.call(parameters.as_object().unwrap(), None)
        };
        for (name, parameters) in [
            ("verify", json!({})),
            ("verify", json!({"meeting": "m1", "repair": false})),
            ("fetch", json!({"meeting": "m1"})),
            ("probe", json!({})),
            ("report", json!({})),
            ("sleep", json!({"seconds": 0.5, "fail": true})),
        ] {
            assert!(call(name, parameters.clone()).is_ok(), "{name} {parameters}");
        }
        for (name, parameters) in [
            ("verify", json!({"meeting": "../x"})),
            ("verify", json!({"repair": "yes"})),
            ("verify", json!({"path": "/etc"})),
            ("fetch", json!({})),
            ("fetch", json!({"meeting": 7})),
            ("report", json!({"secrets": true})),
            ("sleep", json!({"seconds": -1})),
            ("sleep", json!({"seconds": 1e9})),
            ("sleep", json!({"seconds": "1"})),
        ] {
            assert!(call(name, parameters.clone()).is_err(), "{name} {parameters}");
        }
        let none = Map::new();
        assert!(BuiltInType::Report.call(&none, Some(&json!(1))).is_err());
        assert!(BuiltInType::named("shell").is_none());
    }

    #[test]
    fn progress_is_a_fraction_or_nothing() {
        let progress = ProgressGauge::default();
        assert_eq!(progress.get(), None);
        for (done, all, shown) in [(0, 4, 0.0), (1, 4, 0.25), (9, 4, 1.0), (0, 0, 1.0)] {
            progress.set(done, all);
            assert_eq!(progress.get(), Some(shown));
        }
    }

    #[test]
    fn every_built_in_type_is_reserved_for_declarations() {
        let names: Vec<&str> = BuiltInType::ALL.iter().map(|built_in| built_in.name()).collect();
        assert_eq!(names, edge_mirror_tasks::declaration::BUILT_IN);
    }
}
