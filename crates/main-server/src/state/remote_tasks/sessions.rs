//! The last words of nodes on their runs, in memory: whose lease is over, and who has which
//! places. Times are those of a clock that does not jump.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::remote_tasks::{
    HOLD, LEASE, RunExchange, RunKey, RunOrders, RunReport, RunState, STOP_GRACE, TaskTypeSummary,
};

use super::{
    RemoteTaskTable, WorkerNode,
    commands::{ReleaseCause, ReleasedRun},
};

/// A node that asks for work does so again within this time of an answer, and gets none while
/// it does not.
const ASKS_WITHIN: Duration = Duration::from_secs(3);
/// A node that called within this time is expected back.
const EXPECTED_WITHIN: Duration = Duration::from_secs(60);
/// Starts of a node's program that are remembered.
const MAX_PAST_BOOTS: usize = 8;
/// Sessions of nodes that stay away are forgotten after this time.
const KEPT_FOR: Duration = Duration::from_secs(3600);

/// The nodes that run tasks.
#[derive(Debug, Default)]
pub(crate) struct SessionTable {
    nodes: HashMap<Arc<str>, NodeSession>,
}

/// A node's last words.
#[derive(Debug)]
pub(crate) struct NodeSession {
    pub(crate) boot: Arc<str>,
    /// Earlier starts, the last ones: a call of one may come late.
    past_boots: Vec<Arc<str>>,
    /// Of its last exchange.
    number: u64,
    places: u32,
    types: Arc<[TaskTypeSummary]>,
    runs: HashMap<RunKey, RunProgress>,
    /// Runs that it knows besides, and reports later.
    more: HashSet<RunKey>,
    /// Since when each run is being stopped.
    stopping: HashMap<RunKey, UnixMillis>,
    /// Version of the orders that it was given last.
    told: u64,
    heard_at: UnixMillis,
    /// It has had an answer at this time, so its lease may last from then.
    answered_at: UnixMillis,
    /// An exchange is held.
    is_waiting: bool,
}

/// A run as its node reports it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RunProgress {
    pub(crate) state: RunState,
    pub(crate) duration_ms: u64,
    pub(crate) progress: Option<f32>,
}

/// The place of an exchange among those of its node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ExchangeOrder {
    /// A later one came before: this one is not looked at.
    Outdated,
    /// It is of a start of the program before the present one.
    PastBoot,
    /// Runs that the node named before, or that were given to an earlier start of its program,
    /// and does not name any more.
    Latest { gone: Vec<ReleasedRun> },
}

impl NodeSession {
    fn new(exchange: &RunExchange, now: UnixMillis) -> Self {
        Self {
            boot: exchange.boot.as_str().into(),
            past_boots: Vec::new(),
            number: 0,
            places: 0,
            types: Arc::default(),
            runs: HashMap::new(),
            more: HashSet::new(),
            stopping: HashMap::new(),
            told: 0,
            heard_at: now,
            answered_at: now,
            is_waiting: false,
        }
    }

    fn restart(&mut self, exchange: &RunExchange, now: UnixMillis) {
        let (mut past_boots, boot) = (std::mem::take(&mut self.past_boots), self.boot.clone());
        past_boots.push(boot);
        past_boots.drain(..past_boots.len().saturating_sub(MAX_PAST_BOOTS));
        *self = Self { past_boots, ..Self::new(exchange, now) };
    }

    /// True if the node has said that it knows the run.
    pub(crate) fn names(&self, key: &RunKey) -> bool {
        self.runs.contains_key(key) || self.more.contains(key)
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn types(&self) -> &[TaskTypeSummary] {
        &self.types
    }

    pub(crate) fn run(&self, key: &RunKey) -> Option<RunProgress> {
        self.runs.get(key).copied()
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = (&RunKey, RunProgress)> {
        self.runs.iter().map(|(key, run)| (key, *run))
    }

    /// Notes what it is told.
    pub(crate) fn note_orders(&mut self, orders: &RunOrders, now: UnixMillis) {
        let stops: HashSet<&RunKey> = orders.stop.iter().collect();
        self.stopping.retain(|key, _| stops.contains(key));
        for key in stops {
            self.stopping.entry(key.clone()).or_insert(now);
        }
        self.told = orders.version;
    }

    /// The runs that it goes on with though it was told to stop long ago.
    pub(crate) fn stubborn(&self, now: UnixMillis) -> impl Iterator<Item = &RunKey> {
        // It has said so after the time that it had.
        let is_late =
            move |since: &UnixMillis| self.heard_at.min(now).saturating_since(*since) >= STOP_GRACE;
        let is_running = |key: &RunKey| self.run(key).is_some_and(|run| !run.state.is_finished());
        let late =
            self.stopping.iter().filter(move |(key, since)| is_late(since) && is_running(key));
        late.map(|(key, _)| key)
    }

    fn is_lease_over(&self, now: UnixMillis) -> bool {
        now.saturating_since(self.answered_at) >= LEASE
    }

    fn asks_for_work(&self, now: UnixMillis) -> bool {
        // A connection that is gone is noticed at the end of the hold.
        let within = if self.is_waiting { HOLD + ASKS_WITHIN } else { ASKS_WITHIN };
        now.saturating_since(self.heard_at.max(self.answered_at)) < within
    }
}

impl SessionTable {
    pub(crate) fn get(&self, node_id: &str) -> Option<&NodeSession> {
        self.nodes.get(node_id)
    }

    pub(crate) fn get_mut(&mut self, node_id: &str) -> Option<&mut NodeSession> {
        self.nodes.get_mut(node_id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &NodeSession)> {
        self.nodes.iter()
    }

    /// Takes in what a node says, and returns what has ended by its not being said.
    pub(crate) fn note(
        &mut self,
        node_id: &str,
        exchange: &RunExchange,
        table: &RemoteTaskTable,
        now: UnixMillis,
    ) -> ExchangeOrder {
        let session = self.nodes.entry(node_id.into());
        let session = session.or_insert_with(|| NodeSession::new(exchange, now));
        if session.past_boots.iter().any(|boot| **boot == *exchange.boot) {
            return ExchangeOrder::PastBoot;
        }
        if *session.boot != *exchange.boot {
            session.restart(exchange, now);
        }
        if exchange.number <= session.number {
            return ExchangeOrder::Outdated;
        }
        let named_before: HashSet<RunKey> =
            session.runs.keys().chain(&session.more).cloned().collect();
        session.number = exchange.number;
        session.places = exchange.places;
        if *session.types != *exchange.types {
            session.types = exchange.types.as_slice().into();
        }
        session.runs = exchange.runs.iter().map(|run| (run.key.clone(), run.into())).collect();
        session.more = exchange.more.iter().cloned().collect();
        (session.heard_at, session.is_waiting) = (now, true);
        // It has acted on the order to stop a run, and does not know one: it never began it.
        let has_obeyed = session.told != 0 && session.told == exchange.version;
        let cause = |boot: &str, key: &RunKey| match () {
            () if session.names(key) => None,
            () if has_obeyed && session.stopping.contains_key(key) => Some(ReleaseCause::NotBegun),
            () if *boot != *session.boot => Some(ReleaseCause::NodeRestarted),
            () => named_before.contains(key).then_some(ReleaseCause::Forgotten),
        };
        let gone = open_runs(table, node_id).filter_map(|(key, boot)| {
            let cause = cause(&boot, &key)?;
            Some(ReleasedRun { key, cause })
        });
        ExchangeOrder::Latest { gone: gone.collect() }
    }

    /// Notes that an exchange is answered: the lease of its node lasts from then, whatever it
    /// was told.
    pub(crate) fn note_answer(
        &mut self,
        node_id: &str,
        (boot, number): (&str, u64),
        now: UnixMillis,
    ) {
        let session = self.nodes.get_mut(node_id).filter(|session| *session.boot == *boot);
        let Some(session) = session else { return };
        session.answered_at = now;
        if session.number == number {
            session.is_waiting = false;
        }
    }

    /// The runs of nodes whose lease is over, of those that may lose them. Who was not heard since
    /// the start has one from before: that is over if `is_settled`.
    pub(crate) fn lapsed(
        &self,
        table: &RemoteTaskTable,
        may_lapse: impl Fn(&str) -> bool,
        is_settled: bool,
        now: UnixMillis,
    ) -> Vec<ReleasedRun> {
        let is_over = |node: &str| match self.nodes.get(node) {
            Some(session) => session.is_lease_over(now),
            None => is_settled,
        };
        let nodes =
            table.runs().map(|(node, _)| node).filter(|node| is_over(node) && may_lapse(node));
        let runs = nodes.flat_map(|node| open_runs(table, node));
        let cause = ReleaseCause::LeaseOver;
        runs.map(|(key, _)| ReleasedRun { key, cause }).collect()
    }

    /// Notes that an exchange was given up before it was answered.
    pub(crate) fn note_loss(&mut self, node_id: &str, (boot, number): (&str, u64)) {
        let session = self.nodes.get_mut(node_id).filter(|session| *session.boot == *boot);
        let is_lost = |session: &&mut NodeSession| session.number == number && session.is_waiting;
        if let Some(session) = session.filter(is_lost) {
            session.is_waiting = false;
            session.heard_at = session.heard_at.min(session.answered_at);
        }
    }

    pub(crate) fn retain_recent(&mut self, now: UnixMillis) {
        self.nodes.retain(|_, session| now.saturating_since(session.heard_at) < KEPT_FOR);
    }

    /// The nodes that ask for work, and those that did a moment ago, without what is known of
    /// their machines.
    pub(crate) fn workers(&self, now: UnixMillis) -> Vec<WorkerNode> {
        let recent = self
            .nodes
            .iter()
            .filter(|(_, session)| now.saturating_since(session.heard_at) < EXPECTED_WITHIN);
        let worker = |(id, session): (&Arc<str>, &NodeSession)| WorkerNode {
            id: id.clone(),
            boot: session.boot.clone(),
            places: session.places,
            running: 0,
            type_runs: std::collections::BTreeMap::new(),
            types: session.types.clone(),
            cpu: None,
            memory: None,
            asks: session.asks_for_work(now),
            drained: false,
            sick: session.stubborn(now).next().is_some(),
        };
        let mut workers: Vec<_> = recent.map(worker).collect();
        workers.sort_by(|a, b| a.id.cmp(&b.id));
        workers
    }
}

impl From<&RunReport> for RunProgress {
    fn from(report: &RunReport) -> Self {
        Self {
            state: report.state,
            duration_ms: report.duration_ms,
            progress: report.progress.filter(|progress| (0.0..=1.0).contains(progress)),
        }
    }
}

/// The runs that are given to a node, and the start of its program that they are given to.
fn open_runs(table: &RemoteTaskTable, node_id: &str) -> impl Iterator<Item = (RunKey, String)> {
    let runs = table.runs_of(node_id).into_iter().flat_map(|runs| runs.iter());
    runs.filter_map(|(id, number)| {
        let part = table.find(id)?.part(number)?;
        Some((part.run_key(), part.assignment.as_ref()?.boot.clone()))
    })
}
