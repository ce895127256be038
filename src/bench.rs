//! `edge-mirror bench`: a rehearsal. As many clients as a conference has
//! tablets arrive within a minute or so and download one meeting's package
//! from a running node, or from a main server that sends them to its nodes.

mod client;
mod failure;
mod link;
mod summary;
mod tally;
mod target;
mod view;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use edge_mirror_base::tasks::{Interrupt, Tasks};
use edge_mirror_protocol::package::PackageId;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    cli::BenchArgs,
    terminal::{self, Language, live, say, words},
};
use client::{ClientPlan, FinishedDownload};
use failure::ClientFailure;
use tally::{StormCourse, StormSummary, StormTally};
use target::BenchTarget;
use view::{StormSnapshot, StormView};

/// Files besides the clients' connections: the runtime's, the console, name lookups.
const OTHER_FILES: u64 = 64;
/// Clients that are cancelled only have to drop what they hold.
const GRACE: Duration = Duration::from_secs(2);

/// Runs the clients and prints the result; an error unless all succeeded.
pub async fn run(args: BenchArgs, interrupt: &mut Interrupt) -> Result<()> {
    let language = Language::from_env();
    let meeting: PackageId =
        args.meeting.parse().with_context(|| format!("--meeting '{}'", args.meeting))?;
    let wanted = ClientPlan {
        target: BenchTarget::of_meeting(&args.url, &meeting),
        patience: args.patience,
        rate: args.rate_limit,
        verify: args.verify,
        tls: Arc::new(args.authority.trust().client()?).into(),
        size: OnceLock::new(),
    };
    let looked = tokio::select! {
        looked = wanted.look() => looked,
        () = interrupt.recv() => bail!(language.of("开始之前已中断", "interrupted before it began")),
    };
    looked.map_err(|wrong| {
        let (what, advice) = (wrong.what(language), wrong.advice(language));
        anyhow!(language.of(format!("{what}；{advice}"), format!("{what}; {advice}")))
    })?;
    raise_file_limit(args.clients)?;
    eprintln!("{}", warning(&args, &wanted, language));
    let storm = Storm::new(args.clients, wanted);
    let mut view = StormView::new(language, args.json);
    let (tally, course) = storm.run(args.arrive, &mut view, interrupt).await;
    // JSON output has one language.
    let language = if args.json { Language::English } else { language };
    let summary = tally.summary(&course, language);
    let text = match args.json {
        true => machine_readable(&args, storm.wanted.size.get(), &summary)?,
        false => summary::text(&summary, language),
    };
    terminal::print(format!("{}\n", text.trim_end()))?;
    if !summary.is_success() {
        let (clients, missing) = (summary.clients, summary.clients - summary.finished);
        bail!(Language::from_env().of(
            format!("{clients} 个客户端中有 {missing} 个没有拿到会议包"),
            format!("{missing} of {clients} clients did not get the package"),
        ));
    }
    Ok(())
}

fn warning(args: &BenchArgs, wanted: &ClientPlan, language: Language) -> String {
    let (clients, meeting, at) = (args.clients, &args.meeting, wanted.target.authority());
    let window = language.time(args.arrive.as_secs_f64());
    let size = wanted.size.get().map(|size| format!(" ({})", words::format_bytes(*size as f64)));
    let size = size.unwrap_or_default();
    language.of(
        format!(
            "{clients} 个客户端将在 {window} 内从 {at} 下载会议 {meeting} 的会议包{size}。\n\
             警告：这会给节点、主控服务器和网络带来真实负载，请勿在会议进行时运行。Ctrl-C 结束。"
        ),
        format!(
            "{clients} clients download the package of meeting {meeting}{size} from {at}, arriving within {window}.\n\
             Warning: this is a real load for the node, the main server and the network; don't run it \
             while a meeting needs them. Ctrl-C ends it."
        ),
    )
}

fn machine_readable(
    args: &BenchArgs,
    size: Option<&u64>,
    summary: &StormSummary,
) -> Result<String> {
    let mut answer = json!({"url": args.url.to_string(), "meeting": args.meeting, "size": size});
    let figures = serde_json::to_value(summary)?;
    if let (Some(answer), Some(figures)) = (answer.as_object_mut(), figures.as_object()) {
        answer.extend(figures.clone());
        let everyone = summary.is_success().then_some(summary.lasted_s);
        answer.insert("everyone_after_s".to_owned(), json!(everyone));
    }
    Ok(serde_json::to_string_pretty(&answer)?)
}

/// Each client is an open file; the soft limit may be raised up to the hard one.
fn raise_file_limit(clients: usize) -> Result<()> {
    let needed = clients as u64 + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(most) = limit.maximum.filter(|most| *most < needed) {
        bail!(say(
            format!(
                "{clients} 个客户端需要打开 {needed} 个文件，而本机最多允许 {most} 个：请减少 \
                 --clients，或提高上限（以 root 执行 ulimit -Hn {needed}，或设置 LimitNOFILE）"
            ),
            format!(
                "{clients} clients need {needed} open files, but {most} are allowed here: use \
                 fewer --clients, or raise the limit (ulimit -Hn {needed} as root, or LimitNOFILE)"
            ),
        ));
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), ..limit }).with_context(|| {
        say(
            format!("无法为 {clients} 个客户端打开 {needed} 个文件"),
            format!("{needed} open files for {clients} clients can't be had"),
        )
    })
}

/// State shared by the clients and their view.
struct Storm {
    clients: usize,
    wanted: Arc<ClientPlan>,
    arrived: Arc<AtomicUsize>,
    received: Arc<AtomicU64>,
}

impl Storm {
    fn new(clients: usize, wanted: ClientPlan) -> Self {
        Self {
            clients,
            wanted: Arc::new(wanted),
            arrived: Arc::default(),
            received: Arc::default(),
        }
    }

    /// Runs until all have ended, or a signal comes.
    async fn run(
        &self,
        window: Duration,
        view: &mut StormView,
        interrupt: &mut Interrupt,
    ) -> (StormTally, StormCourse) {
        let (tasks, begun) = (Tasks::new(), Instant::now());
        let mut outcomes = self.launch(window, &tasks);
        let mut looks = tokio::time::interval(live::EVERY);
        let (mut tally, mut last, mut interrupted) = (StormTally::default(), begun, false);
        loop {
            tokio::select! {
                outcome = outcomes.recv() => match outcome {
                    Some(outcome) => tally.add(outcome),
                    None => break,
                },
                _ = looks.tick() => view.show(&self.moment(begun, &tally)),
                () = interrupt.recv() => {
                    interrupted = true;
                    break;
                }
            }
            last = Instant::now();
        }
        tasks.shut_down(GRACE).await;
        view.show(&self.moment(begun, &tally));
        let course = StormCourse {
            clients: self.clients,
            arrived: self.arrived.load(Ordering::Relaxed),
            interrupted,
            lasted: last - begun,
            bytes: self.received.load(Ordering::Relaxed),
        };
        (tally, course)
    }

    /// Returns their outcomes, one each; closed when the last has ended.
    fn launch(
        &self,
        window: Duration,
        tasks: &Tasks,
    ) -> mpsc::Receiver<Result<FinishedDownload, ClientFailure>> {
        // Room for all, so that no client waits for being counted.
        let (tx, rx) = mpsc::channel(self.clients);
        for arrival in tally::arrivals(self.clients, window, fastrand::f64) {
            let (tx, ended) = (tx.clone(), tasks.token().clone());
            let (wanted, arrived) = (self.wanted.clone(), self.arrived.clone());
            let received = self.received.clone();
            let life = async move {
                tokio::time::sleep(arrival).await;
                arrived.fetch_add(1, Ordering::Relaxed);
                let outcome = wanted.download(&received).await;
                let _ = tx.send(outcome).await;
            };
            tasks.spawn_for_peer("client", async move {
                ended.run_until_cancelled(life).await;
            });
        }
        rx
    }

    fn moment(&self, begun: Instant, tally: &StormTally) -> StormSnapshot {
        StormSnapshot {
            since: begun.elapsed(),
            clients: self.clients,
            arrived: self.arrived.load(Ordering::Relaxed),
            finished: tally.finished(),
            failed: tally.failed(),
            bytes: self.received.load(Ordering::Relaxed),
            total_bytes: self.wanted.size.get().map(|size| size * self.clients as u64),
        }
    }
}
