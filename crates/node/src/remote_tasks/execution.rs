//! One run, from its order to its report.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use edge_mirror_protocol::remote_tasks::{RunOrder, RunReport, RunState};
use edge_mirror_settings::Config;
use edge_mirror_tasks::{
    BilingualText, arguments,
    declaration::{Declaration, ResultFormat, ValueKind},
    launch::{Launcher, OWN_PROGRAM, RunEvent, RunStream, RunnerKind, SOCKET, UNIT_TYPES},
    runner::{RunEnd, RunOutcome, RunRequest},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    built_in::{self, BuiltInCall, ProgressGauge},
    offer::RunnableType,
    output::RunOutput,
};
use crate::{api::AppState, upstream::Connector};

/// A runner ends its program and says so within this time.
const RUNNER_PATIENCE: Duration = Duration::from_secs(15);
/// Asking the main server for its nodes.
const LIST_LIMIT: Duration = Duration::from_secs(5);

/// The parts that runs share.
#[derive(Clone)]
pub(super) struct RunContext {
    pub(super) state: AppState,
    pub(super) connector: Arc<Connector>,
}

/// The worker's hold on a run.
#[derive(Debug, Default)]
pub(super) struct RunControl {
    pub(super) progress: ProgressGauge,
    stop: CancellationToken,
    cause: OnceLock<StopCause>,
}

/// The reason to end a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopCause {
    Told,
    Lease,
    TurnedOff,
    ShutDown,
}

impl RunControl {
    pub(super) fn stop(&self, cause: StopCause) {
        let _ = self.cause.set(cause);
        self.stop.cancel();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    fn stop_reason(&self) -> BilingualText {
        match self.cause.get() {
            Some(StopCause::Told) | None => BilingualText::new("已取消", "cancelled"),
            Some(StopCause::Lease) => BilingualText::new(
                "与主控服务器失去联系，已停止",
                "stopped: the main server was out of reach",
            ),
            Some(StopCause::TurnedOff) => BilingualText::new(
                "节点不再接受远程任务，已停止",
                "stopped: the node takes remote tasks no more",
            ),
            Some(StopCause::ShutDown) => {
                BilingualText::new("节点停止运行，已停止", "stopped: the node was shut down")
            }
        }
    }
}

/// The outcome without times.
type RunResult = Result<(), (RunState, BilingualText)>;

/// Does what an order says, and reports it.
pub(super) async fn execute(
    context: &RunContext,
    order: &RunOrder,
    offered: RunnableType,
    control: &RunControl,
) -> RunReport {
    let mut report = RunReport::new(order.key.clone(), RunState::Succeeded);
    let done = match offered {
        RunnableType::BuiltIn(built_in) => {
            match built_in.call(&order.parameters, order.input.as_ref()) {
                Ok(call) => perform(context, order, call, control, &mut report).await,
                Err(wording) => Err((RunState::Refused, wording)),
            }
        }
        RunnableType::Declared(declared) => {
            run_declared(context, order, &declared, control, &mut report).await
        }
    };
    if let Err((state, wording)) = done {
        report.state = state;
        report.error = Some(wording.to_string());
    }
    report.cut()
}

async fn perform(
    context: &RunContext,
    order: &RunOrder,
    call: BuiltInCall,
    control: &RunControl,
    report: &mut RunReport,
) -> RunResult {
    let limit = Duration::from_secs(order.timeout_seconds);
    let performing = built_in::perform(call, &context.state, &context.connector, &control.progress);
    let result = tokio::select! {
        biased;
        () = control.stop.cancelled() => return Err((RunState::Stopped, control.stop_reason())),
        result = tokio::time::timeout(limit, performing) => result,
    };
    let value = match result {
        Ok(Ok(value)) => value,
        Ok(Err(wording)) => return Err((RunState::Failed, wording)),
        Err(_) => return Err((RunState::Failed, timed_out(limit.as_secs()))),
    };
    let (store, config) = (context.state.board.store(), context.state.settings.current());
    let mut output = RunOutput::new(store, config.storage.max_size, order.key.clone());
    let failed = |wording| (RunState::Failed, wording);
    let added = output.add(value.to_string().into_bytes()).await;
    added.map_err(|error| failed(BilingualText::new(error.to_string(), error.to_string())))?;
    output.finish(ResultFormat::Json, report).await.map_err(failed)
}

fn timed_out(seconds: u64) -> BilingualText {
    BilingualText::new(format!("超过 {seconds} 秒，已终止"), format!("ended after {seconds} s"))
}

async fn run_declared(
    context: &RunContext,
    order: &RunOrder,
    declared: &Declaration,
    control: &RunControl,
    report: &mut RunReport,
) -> RunResult {
    let config = context.state.settings.current();
    let fleet = fleet(context, declared, &config).await;
    // The runner checks it again; what it does not take here is never begun.
    let input = order.input.as_ref();
    arguments::command_line(declared, &order.parameters, input, &fleet)
        .map_err(|wording| (RunState::Refused, wording))?;
    let store = context.state.board.store();
    let launcher = launcher(&config, store.root().join(".runs"));
    let request = RunRequest {
        task_type: declared.name.clone(),
        parameters: order.parameters.clone(),
        input: order.input.clone(),
        fleet,
        timeout_s: Some(order.timeout_seconds),
    };
    let started = launcher.start(&request, declared.network).await;
    let mut stream = started.map_err(|error| {
        (
            RunState::Refused,
            BilingualText::new(format!("无法启动：{error}"), format!("can't be started: {error}")),
        )
    })?;
    let mut output = RunOutput::new(store, config.storage.max_size, order.key.clone());
    let limit_s = order.timeout_seconds.min(declared.limits.time_s);
    let limit = Duration::from_secs(limit_s) + RUNNER_PATIENCE;
    let end = follow(context, &mut stream, (control, limit), &mut output).await;
    stream.close().await;
    let end = end.map_err(|wording| match control.is_stopping() {
        true => (RunState::Stopped, control.stop_reason()),
        false => (RunState::Failed, wording),
    })?;
    report.log_tail = Some(end.error_tail.clone()).filter(|tail| !tail.is_empty());
    if end.left > 0 {
        warn!("{} processes of task {} could not be ended", end.left, order.key.task);
    }
    outcome(&end, control, limit_s)?;
    output.finish(declared.result, report).await.map_err(|wording| (RunState::Failed, wording))
}

/// By systemd's socket, if it is there: its unit reads declarations in one folder only.
fn launcher(config: &Config, work: PathBuf) -> Launcher {
    let (program, types) = (PathBuf::from(OWN_PROGRAM), config.tasks_folder());
    let socket = (types == Path::new(UNIT_TYPES)).then(|| PathBuf::from(SOCKET));
    Launcher { socket, program, types, work }
}

/// Addresses for types that have a parameter of that kind.
async fn fleet(context: &RunContext, declared: &Declaration, config: &Config) -> Vec<String> {
    let is_address = |kind: &ValueKind| matches!(kind, ValueKind::FleetUrl);
    if !declared.parameters.iter().any(|parameter| is_address(&parameter.kind)) {
        return Vec::new();
    }
    let upstream = context.connector.upstream(config);
    let nodes = upstream.nodes(LIST_LIMIT).await.unwrap_or_default();
    let nodes = nodes
        .into_iter()
        .flat_map(|(_, address)| ["http", "https"].map(|scheme| format!("{scheme}://{address}")));
    config.fleet().base_urls().iter().cloned().chain(nodes).collect()
}

/// Reads what the runner tells until the run has ended.
async fn follow(
    context: &RunContext,
    stream: &mut RunStream,
    (control, limit): (&RunControl, Duration),
    output: &mut RunOutput,
) -> Result<RunEnd, BilingualText> {
    let mut not_kept = None;
    let mut ends = tokio::time::Instant::now() + limit;
    loop {
        let event = tokio::select! {
            biased;
            () = control.stop.cancelled(), if !stream.is_stopped() => {
                stream.stop();
                ends = tokio::time::Instant::now() + RUNNER_PATIENCE;
                continue;
            }
            event = stream.next() => event,
            // Its program may have stopped it.
            () = tokio::time::sleep_until(ends) => {
                let is_gone = stream.kill().await;
                warn!("a runner did not answer and was killed; all that it started is gone: {is_gone}");
                return Err(BilingualText::new("运行器没有响应，已终止", "the runner did not respond and was killed"));
            }
        };
        let event = event.map_err(|error| {
            BilingualText::new(
                format!("运行器意外结束：{error}"),
                format!("the runner ended unexpectedly: {error}"),
            )
        });
        match event? {
            RunEvent::Started(missing) => {
                let mut told: Vec<_> = missing.into_iter().map(|limit| limit.wording()).collect();
                let is_unit = stream.kind == RunnerKind::Unit;
                context.state.board.remote_tasks.send_if_modified(|status| {
                    let is_news = status.missing != told || status.is_unit != Some(is_unit);
                    std::mem::swap(&mut status.missing, &mut told);
                    status.is_unit = Some(is_unit);
                    is_news
                });
            }
            RunEvent::Output(bytes) if not_kept.is_none() => {
                if let Err(error) = output.add(bytes).await {
                    not_kept = Some(BilingualText::new(
                        format!("无法保存结果：{error}"),
                        format!("the result can't be kept: {error}"),
                    ));
                    stream.stop();
                }
            }
            RunEvent::Output(_) => {}
            RunEvent::Ended(end) => return not_kept.map_or(Ok(end), Err),
        }
    }
}

/// Puts an end into words. The caller may see them, so they name no path of this machine.
fn outcome(end: &RunEnd, control: &RunControl, limit_s: u64) -> RunResult {
    let (zh, en) = match &end.outcome {
        RunOutcome::Exited(0) => return Ok(()),
        RunOutcome::Stopped if control.is_stopping() => {
            return Err((RunState::Stopped, control.stop_reason()));
        }
        RunOutcome::Refused(wording) => return Err((RunState::Refused, wording.clone())),
        RunOutcome::NotStarted(reason) => {
            let wording = BilingualText::new(
                format!("无法启动：{reason}"),
                format!("can't be started: {reason}"),
            );
            return Err((RunState::Refused, wording));
        }
        RunOutcome::TimedOut => return Err((RunState::Failed, timed_out(limit_s))),
        RunOutcome::Exited(code) => (
            format!("程序以退出码 {code} 结束"),
            format!("the program ended with exit code {code}"),
        ),
        RunOutcome::Signaled(signal) => (
            format!("程序因信号 {signal} 终止"),
            format!("the program was ended by signal {signal}"),
        ),
        RunOutcome::Stopped => ("已停止".to_owned(), "stopped".to_owned()),
        RunOutcome::TooMuchOutput => {
            ("输出超过限制".to_owned(), "it printed more than its limit".to_owned())
        }
        RunOutcome::TooMuchMemory => {
            ("内存超过限制".to_owned(), "it used more memory than its limit".to_owned())
        }
        RunOutcome::TooManyProcesses => {
            ("进程数超过限制".to_owned(), "it had more processes than its limit".to_owned())
        }
        RunOutcome::TooMuchCpu => {
            ("CPU 时间超过限制".to_owned(), "it used more CPU time than its limit".to_owned())
        }
    };
    Err((RunState::Failed, BilingualText { zh, en }))
}

/// Milliseconds since a moment.
pub(super) fn elapsed_ms(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}
