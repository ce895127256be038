//! The call in which a node says what it runs, and learns what it is to run.

use std::{collections::HashSet, time::Duration};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::remote_tasks::{
    HOLD, LEASE, RunExchange, RunOrders, RunReport, RunState,
};
use tokio::time::Instant;

use crate::{
    counts::ReportedRun,
    refusal::RequestError,
    server::{RemoteTaskService, Server},
    state::{
        fleet::KnownNodes,
        remote_tasks::{
            ExchangeOrder, LOCAL_NODE, NodeSession,
            commands::{ReleasedRun, RemoteTaskCommand, apply},
            is_current, orders_for,
        },
    },
};

impl Server {
    /// Takes in what a node says of its runs, and answers when it has something to do that it
    /// does not know of. Ends of runs are on disk when this returns.
    pub(crate) async fn exchange_runs(
        &self,
        node_id: &str,
        exchange: RunExchange,
    ) -> Result<RunOrders, RequestError> {
        let service = &self.remote_tasks;
        let nothing = || RunOrders {
            version: exchange.version,
            lease_seconds: LEASE.as_secs(),
            ..RunOrders::default()
        };
        let table = service.table();
        let now = self.clock.now();
        let order = service.sessions().note(node_id, &exchange, &table, now);
        let place = (&*exchange.boot, exchange.number);
        let gone = match order {
            ExchangeOrder::Latest { gone } => gone,
            ExchangeOrder::Outdated => {
                service.sessions().note_answer(node_id, place, now);
                return Ok(nothing());
            }
            // A lease that it does not have is not renewed.
            ExchangeOrder::PastBoot => return Err(RequestError::PastBoot),
        };
        let _guard = CallGuard { service, node_id, place };
        let mut bell = service.take_bell(node_id);
        self.note_runs(node_id, &exchange.runs).await?;
        self.release_runs(gone).await?;
        self.wake.remote_tasks.notify_one();
        let ends = Instant::now() + HOLD;
        let permit = self.waiting.try_acquire();
        loop {
            bell.borrow_and_update();
            let (is_latest, orders) = self.orders_of(node_id, place);
            let is_news = orders.version != 0 && orders.version != exchange.version;
            if !is_latest {
                service.sessions().note_answer(node_id, place, self.clock.now());
                return Ok(nothing());
            }
            if is_news || permit.is_err() || self.closing.is_cancelled() || ends <= Instant::now() {
                self.note_orders(node_id, place, &orders);
                return Ok(orders);
            }
            tokio::select! {
                _ = bell.changed() => {}
                () = tokio::time::sleep_until(ends) => {}
                () = self.closing.cancelled() => {}
            }
        }
    }

    /// The orders for a node, and whether its exchange is still the latest.
    fn orders_of(&self, node_id: &str, (boot, number): (&str, u64)) -> (bool, RunOrders) {
        let (table, sessions) = (self.remote_tasks.table(), self.remote_tasks.sessions());
        match sessions.get(node_id).filter(|session| session.is_at(boot, number)) {
            Some(session) => (true, orders_for(&table, node_id, session, UnixMillis::now())),
            None => (false, RunOrders::default()),
        }
    }

    fn note_orders(&self, node_id: &str, place: (&str, u64), orders: &RunOrders) {
        let now = self.clock.now();
        let mut sessions = self.remote_tasks.sessions();
        if let Some(session) = sessions.get_mut(node_id) {
            session.note_orders(orders, now);
        }
        sessions.note_answer(node_id, place, now);
    }

    /// Keeps the ends of runs that are news.
    async fn note_runs(&self, node_id: &str, runs: &[RunReport]) -> Result<(), RequestError> {
        let finished = runs.iter().filter(|run| run.state.is_finished());
        let reports: Vec<_> = finished.cloned().map(RunReport::cut).collect();
        if reports.is_empty() {
            return Ok(());
        }
        let table = self.remote_tasks.table();
        let news: Vec<_> =
            reports.iter().filter(|report| is_current(&table, node_id, &report.key)).collect();
        let (node, at) = (node_id.to_owned(), UnixMillis::now());
        let command = RemoteTaskCommand::Report { node, reports: reports.clone(), at };
        // A node repeats itself until it knows that a report is taken.
        if apply(&table, &KnownNodes::default(), &command)?.is_empty() {
            return Ok(());
        }
        self.change(command).await?;
        for report in news {
            self.count_run(report.state);
            let entry = table.find(&report.key.task);
            let part = entry.and_then(|entry| entry.part(report.key.part));
            if let (Some(entry), Some(part), RunState::Succeeded) = (entry, part, report.state)
                && part.span.count > 0
            {
                let took = Duration::from_millis(report.duration_ms);
                let name = &entry.task.task_type;
                self.remote_tasks.speeds().note(node_id, name, part.span.count, took);
            }
        }
        Ok(())
    }

    fn count_run(&self, state: RunState) {
        let end = match state {
            RunState::Running => return,
            RunState::Succeeded => ReportedRun::Succeeded,
            RunState::Failed => ReportedRun::Failed,
            RunState::Stopped => ReportedRun::Stopped,
            RunState::Refused => ReportedRun::Refused,
        };
        self.counts.runs.inc(end);
    }

    async fn release_runs(&self, runs: Vec<ReleasedRun>) -> Result<(), RequestError> {
        if runs.is_empty() {
            return Ok(());
        }
        self.counts.runs.counter(ReportedRun::Lost).add(runs.len() as u64);
        self.change(RemoteTaskCommand::Release { runs, at: UnixMillis::now() }).await
    }

    /// Takes the runs of nodes whose lease is over from them.
    pub(crate) async fn release_lapsed_runs(&self) -> Result<(), RequestError> {
        let (table, now) = (self.remote_tasks.table(), self.clock.now());
        if table.runs().next().is_none() {
            return Ok(());
        }
        let (leads, is_settled) = (*self.leads.borrow(), self.remote_tasks_are_settled());
        let live: HashSet<String> = match self.unshared {
            Some(_) => self.registry().live(now).map(|(node, _)| node.to_owned()).collect(),
            None => HashSet::new(),
        };
        // Who still calls another main server may have its lease from there. What runs here
        // looks after its runs itself.
        let runs_here = self.remote_tasks.local_boot().is_some();
        let may_lapse =
            |node: &str| leads && !live.contains(node) && !(runs_here && *node == *LOCAL_NODE);
        let runs = self.remote_tasks.sessions().lapsed(&table, may_lapse, is_settled, now);
        self.release_runs(runs).await
    }
}

impl NodeSession {
    fn is_at(&self, boot: &str, number: u64) -> bool {
        *self.boot == *boot && self.number() == number
    }
}

/// Notes the end of a call without an answer: its node is gone, or calls anew.
struct CallGuard<'a> {
    service: &'a RemoteTaskService,
    node_id: &'a str,
    place: (&'a str, u64),
}

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        // One that was answered is not waiting any more.
        self.service.sessions().note_loss(self.node_id, self.place);
    }
}
