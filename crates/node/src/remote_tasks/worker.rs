//! Keeps up one exchange with the main server, and carries out what it says.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use edge_mirror_base::{
    clock::now_s,
    tasks::{self, Tasks},
};
use edge_mirror_protocol::remote_tasks::{
    RunExchange, RunKey, RunOrder, RunOrders, RunReport, RunState, TaskTypeName,
};
use edge_mirror_settings::Config;
use edge_mirror_tasks::BilingualText;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    exchange::{ExchangeAnswer, ExchangeQueue},
    execution::{RunContext, RunControl, StopCause, elapsed_ms, execute},
    journal::RunJournal,
    lease::{RunLease, boot_time},
    ledger::{OrderEffects, RunLedger, RunRoom},
    offer::TypeOffer,
};
use crate::{api::AppState, board::RunEnding, upstream::Connector};

/// Interval of looks at the lease and at what runs.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Interval of saving the history.
const SAVE_EVERY: Duration = Duration::from_secs(5);
/// A run that was told to end is gone within this time, or something is wrong.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// Runs end within this time when the node stops.
const WIND_DOWN: Duration = Duration::from_secs(3);
/// Ends of runs that wait to be noted.
const ENDS: usize = 256;

pub(crate) struct RemoteTaskWorker {
    pub(crate) state: AppState,
    pub(crate) connector: Arc<Connector>,
    /// Those of the runs.
    pub(crate) tasks: Tasks,
    /// Of reports and history.
    pub(crate) folder: PathBuf,
}

/// Runs until `end`.
pub(crate) async fn run(worker: RemoteTaskWorker, end: CancellationToken) {
    let mut worker = RunWorker::open(worker).await;
    let rounds = async {
        loop {
            worker.round().await;
        }
    };
    end.run_until_cancelled(rounds).await;
    worker.shut_down().await;
}

struct RunWorker {
    context: RunContext,
    tasks: Tasks,
    ledger: RunLedger,
    journal: Arc<Mutex<RunJournal>>,
    offer: TypeOffer,
    /// Watched by each run.
    lease: watch::Sender<RunLease>,
    active: HashMap<RunKey, ActiveRun>,
    /// The ends of runs.
    ends: (mpsc::Sender<RunReport>, mpsc::Receiver<RunReport>),
    boot: String,
    exchanges: ExchangeQueue,
    /// The history was saved.
    saved_at: Instant,
}

struct ActiveRun {
    control: Arc<RunControl>,
    task_type: TaskTypeName,
    began: Instant,
    stopping_since: Option<Instant>,
}

/// Tells the worker that a run has ended, even if it panicked.
struct EndNotice {
    ends: mpsc::Sender<RunReport>,
    report: Option<RunReport>,
}

impl EndNotice {
    fn replace(&mut self, report: RunReport) {
        self.report = Some(report);
    }
}

impl Drop for EndNotice {
    fn drop(&mut self) {
        if let Some(report) = self.report.take() {
            // There are fewer runs than the channel has places.
            let _ = self.ends.try_send(report);
        }
    }
}

impl RunWorker {
    async fn open(worker: RemoteTaskWorker) -> Self {
        let RemoteTaskWorker { state, connector, tasks, folder } = worker;
        let work = state.board.store().root().join(".runs");
        let (journal, reports) = tasks::blocking(move || {
            // Left by a process that was killed.
            if let Err(error) = edge_mirror_tasks::launch::sweep(&work) {
                warn!("{} can't be removed: {error}", work.display());
            }
            RunJournal::open(folder)
        })
        .await;
        let mut random = [0; 16];
        if getrandom::fill(&mut random).is_err() {
            random.iter_mut().for_each(|byte| *byte = fastrand::u8(..));
        }
        Self {
            context: RunContext { state, connector },
            tasks,
            ledger: RunLedger::with_finished(reports),
            journal: Arc::new(Mutex::new(journal)),
            offer: TypeOffer::default(),
            lease: watch::Sender::new(RunLease::default()),
            active: HashMap::new(),
            ends: mpsc::channel(ENDS),
            boot: random.iter().map(|byte| format!("{byte:02x}")).collect(),
            exchanges: ExchangeQueue::default(),
            saved_at: Instant::now(),
        }
    }

    /// Sends an exchange where there is something to say, and waits for what happens next.
    async fn round(&mut self) {
        // First, so that no change is missed.
        let (mut settings, mut running) = self.changes();
        let config = self.context.state.settings.current();
        let places = self.places(&config);
        self.offer.refresh(&config).await;
        if places == 0 {
            self.stop_all(StopCause::TurnedOff);
        }
        self.show(places);
        if places == 0 && self.is_settled() && self.exchanges.is_empty() {
            return self.wait_until_enabled().await;
        }
        if self.exchanges.is_due(!self.active.is_empty()) {
            let exchange = self.exchange(places);
            let upstream = self.context.connector.upstream(&config);
            self.exchanges.send(upstream, &config, exchange);
        }
        let wanted_in = self.exchanges.wanted_in();
        tokio::select! {
            biased;
            Some(report) = self.ends.1.recv() => self.note_end(report).await,
            answer = self.exchanges.next() => self.note_answer(answer, places).await,
            () = tokio::time::sleep(LOOK_EVERY), if !self.active.is_empty() => self.look(),
            () = tokio::time::sleep(wanted_in.unwrap_or_default()), if wanted_in.is_some() => {}
            _ = settings.changed() => self.exchanges.note_news(),
            _ = running.changed() => self.exchanges.note_news(),
        }
    }

    async fn note_answer(&mut self, answered: ExchangeAnswer, places: u32) {
        let number = answered.number();
        match answered.answer {
            Ok(orders) => {
                self.lease.send_modify(|lease| lease.renew(answered.began));
                if self.exchanges.obey(number, orders.version) {
                    self.obey(orders, places).await;
                }
            }
            Err(error) => self.exchanges.note_failure(&error, !self.active.is_empty()),
        }
    }

    /// Places for runs; none while the node takes no remote tasks.
    fn places(&self, config: &Config) -> u32 {
        let is_on = config.tasks.enabled && self.context.state.board.is_running();
        if is_on { config.tasks.places } else { 0 }
    }

    /// True if there is nothing that the main server has to know.
    fn is_settled(&self) -> bool {
        let (reports, more) = self.ledger.reports();
        reports.is_empty() && more.is_empty()
    }

    fn changes(
        &self,
    ) -> (tokio::sync::watch::Receiver<Arc<Config>>, tokio::sync::watch::Receiver<bool>) {
        let state = &self.context.state;
        (state.settings.subscribe(), state.board.running.subscribe())
    }

    async fn wait_until_enabled(&mut self) {
        let (mut settings, mut running) = self.changes();
        loop {
            let is_enabled = settings.borrow_and_update().tasks.enabled;
            if is_enabled && *running.borrow_and_update() {
                return;
            }
            tokio::select! {
                _ = settings.changed() => {}
                _ = running.changed() => {}
            }
        }
    }

    fn exchange(&mut self, places: u32) -> RunExchange {
        self.note_progress();
        let (runs, more) = self.ledger.reports();
        let types = if places == 0 { Vec::new() } else { self.offer.summaries(places) };
        RunExchange { boot: self.boot.clone(), number: 0, version: 0, places, types, runs, more }
    }

    /// True if a run has got further.
    fn note_progress(&mut self) -> bool {
        let mut is_news = false;
        for (key, run) in &self.active {
            let progress = run.control.progress.get();
            is_news |= self.ledger.note_progress(key, progress, elapsed_ms(run.began));
        }
        is_news
    }

    /// Looks at what runs: how far it is, and whether it ends where it should.
    fn look(&mut self) {
        if !self.has_lease() {
            self.stop_all(StopCause::Lease);
        }
        let stuck: Vec<String> = self
            .active
            .iter()
            .filter(|(_, run)| run.stopping_since.is_some_and(|at| at.elapsed() > STOP_PATIENCE))
            .map(|(key, _)| key.task.to_string())
            .collect();
        self.context.state.board.remote_tasks.send_if_modified(|status| {
            let is_news = status.stuck != stuck;
            status.stuck = stuck;
            is_news
        });
        if self.note_progress() {
            self.exchanges.note_progress();
        }
    }

    fn has_lease(&self) -> bool {
        self.lease.borrow().is_held(boot_time())
    }

    fn stop_all(&mut self, cause: StopCause) {
        let keys: Vec<RunKey> = self.active.keys().cloned().collect();
        for key in keys {
            self.stop(&key, cause);
        }
    }

    fn stop(&mut self, key: &RunKey, cause: StopCause) {
        if let Some(run) = self.active.get_mut(key)
            && run.stopping_since.is_none()
        {
            info!("run of task {} is ended: {cause:?}", key.task);
            run.stopping_since = Some(Instant::now());
            run.control.stop(cause);
        }
    }

    async fn obey(&mut self, orders: RunOrders, places: u32) {
        let OrderEffects { stop, refuse, forget } = self.ledger.apply(orders);
        for key in stop {
            self.stop(&key, StopCause::Told);
        }
        for order in refuse {
            let wording = BilingualText::new("已取消", "cancelled");
            self.refuse(&order, &wording).await;
        }
        if !forget.is_empty() {
            let journal = self.journal.clone();
            let forgetting = move || {
                journal.lock().unwrap_or_else(PoisonError::into_inner).forget(&forget);
            };
            tasks::blocking(forgetting).await;
        }
        self.begin_next(places).await;
    }

    /// Begins what there are places for. Nothing is begun without a lease.
    async fn begin_next(&mut self, places: u32) {
        while self.has_lease() {
            let offer = &self.offer;
            let class_of = |order: &RunOrder| offer.class_of(&order.task_type, places);
            let Some(order) = self.ledger.next(&RunRoom { places, class_of }) else { return };
            match self.offer.find(&order.task_type) {
                Some(offered) => self.begin(order, offered, places),
                None => {
                    let name = &order.task_type;
                    let wording = BilingualText::new(
                        format!("本节点没有任务类型 {name}"),
                        format!("this node has no task type {name}"),
                    );
                    self.refuse(&order, &wording).await;
                }
            }
        }
    }

    fn begin(&mut self, order: RunOrder, offered: super::offer::RunnableType, places: u32) {
        info!("task {} begins: {}", order.key.task, order.task_type);
        let class = self.offer.class_of(&order.task_type, places);
        let class = class.map(|(class, _)| class).unwrap_or_default();
        let (key, task_type) = (order.key.clone(), order.task_type.clone());
        let (control, started_at) = (Arc::<RunControl>::default(), now_s());
        self.ledger.begin(key.clone(), class, started_at);
        let (context, held) = (self.context.clone(), control.clone());
        let mut lost = RunReport::new(key.clone(), RunState::Failed);
        lost.error = Some("运行任务的代码出错 / the code that runs the task failed".to_owned());
        lost.started_at = Some(started_at);
        let mut notice = EndNotice { ends: self.ends.0.clone(), report: Some(lost) };
        let lease = self.lease.subscribe();
        self.tasks.spawn_for_peer("remote task", async move {
            let began = Instant::now();
            // By itself: the worker may wait for a disk.
            let losing = async {
                while lease.borrow().is_held(boot_time()) {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                held.stop(StopCause::Lease);
                std::future::pending::<std::convert::Infallible>().await
            };
            let mut report = tokio::select! {
                report = execute(&context, &order, offered, &held) => report,
                never = losing => match never {},
            };
            report.duration_ms = elapsed_ms(began);
            report.started_at = (report.state != RunState::Refused).then_some(started_at);
            notice.replace(report);
        });
        let run = ActiveRun { control, task_type, began: Instant::now(), stopping_since: None };
        self.active.insert(key, run);
    }

    async fn refuse(&mut self, order: &RunOrder, wording: &BilingualText) {
        let mut report = RunReport::new(order.key.clone(), RunState::Refused);
        report.error = Some(wording.to_string());
        self.keep(report, order.task_type.clone()).await;
    }

    async fn note_end(&mut self, report: RunReport) {
        let Some(run) = self.active.remove(&report.key) else { return };
        let (task, state) = (&report.key.task, report.state);
        info!("task {task} ended after {} ms: {state:?}", report.duration_ms);
        self.keep(report, run.task_type).await;
        let config = self.context.state.settings.current();
        let places = self.places(&config);
        self.begin_next(places).await;
    }

    /// Puts a finished report on disk, so that it is told even after a restart.
    async fn keep(&mut self, report: RunReport, task_type: TaskTypeName) {
        let counts = &self.context.state.board.counts;
        counts.remote_runs.inc(RunEnding::of(report.state));
        let (journal, kept) = (self.journal.clone(), report.clone());
        let keeping = tasks::blocking(move || {
            journal.lock().unwrap_or_else(PoisonError::into_inner).keep(&kept, task_type)
        });
        if let Err(error) = keeping.await {
            warn!("the report of task {} is not on disk: {error}", report.key.task);
        }
        self.ledger.finish(report);
        self.exchanges.note_news();
        if self.active.is_empty() || self.saved_at.elapsed() >= SAVE_EVERY {
            self.save_history().await;
        }
    }

    async fn save_history(&mut self) {
        self.saved_at = Instant::now();
        let journal = self.journal.clone();
        let saving = tasks::blocking(move || {
            journal.lock().unwrap_or_else(PoisonError::into_inner).save_history()
        });
        if let Err(error) = saving.await {
            warn!("the history of remote tasks is not on disk: {error}");
        }
    }

    /// For the status page.
    fn show(&self, places: u32) {
        let (history, running) = {
            let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
            (journal.history(), self.active.len())
        };
        let faults = self.offer.declared.faults.iter();
        let faults: Vec<(PathBuf, String)> =
            faults.map(|fault| (fault.file.clone(), fault.fault.to_string())).collect();
        let types = self.offer.names();
        self.context.state.board.remote_tasks.send_modify(|status| {
            status.places = places;
            status.running = running;
            status.faults = faults;
            status.types = types;
            status.history = history;
        });
    }

    async fn shut_down(&mut self) {
        self.stop_all(StopCause::ShutDown);
        let ending = async {
            while !self.active.is_empty() {
                if let Some(report) = self.ends.1.recv().await {
                    let task_type = self.active.remove(&report.key).map(|run| run.task_type);
                    if let Some(task_type) = task_type {
                        self.keep(report, task_type).await;
                    }
                }
            }
        };
        if tokio::time::timeout(WIND_DOWN, ending).await.is_err() {
            warn!("{} runs did not end in time", self.active.len());
        }
        self.save_history().await;
    }
}
