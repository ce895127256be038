//! A main server and nodes that crash, lose messages and are cut off, as a state machine.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::remote_tasks::{
    LEASE, RunExchange, RunKey, RunOrders, RunReport, RunState, STOP_AFTER, TaskTypeSummary,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    commands::{RemoteTaskCommand, apply},
    schedule::with_runs,
    *,
};
use crate::state::{
    audit::{AuditedLogin, AuditedOperator},
    fleet::{FleetRecord, KnownNode, KnownNodes, NodeProfile},
};

pub(super) fn at(second: u64) -> UnixMillis {
    UnixMillis::from_secs(1_000_000 + second)
}

fn operator() -> AuditedOperator {
    AuditedOperator { address: Ipv4Addr::LOCALHOST.into(), how: AuditedLogin::Local }
}

pub(super) fn task_of(id: &str, fields: Value, now: UnixMillis) -> RemoteTask {
    let Value::Object(mut fields) = fields else { panic!("no object") };
    fields.entry("type").or_insert("sleep".into());
    let request = RemoteTaskRequest::read(fields).unwrap();
    let audience = request.to.clone().map(|to| match to.all {
        true => crate::state::destinations::Audience::All,
        false => crate::state::destinations::Audience::Nodes(to.nodes.into_iter().collect()),
    });
    let all = || (0..3).map(|node| format!("n{node}")).collect();
    request.into_task(id.parse().unwrap(), audience, all, operator(), now).unwrap()
}

pub(super) fn offered(name: &str, places: u32, repeatable: bool) -> TaskTypeSummary {
    let fields = json!({"name": name, "places": places, "repeatable": repeatable});
    serde_json::from_value(fields).unwrap()
}

pub(super) fn worker(id: &str, places: u32) -> WorkerNode {
    WorkerNode {
        id: id.into(),
        boot: "b".into(),
        places,
        running: 0,
        type_runs: BTreeMap::new(),
        types: vec![offered("sleep", 100, true), offered("once", 100, false)].into(),
        cpu: Some(0),
        memory: Some(0),
        asks: true,
        drained: false,
        sick: false,
    }
}

/// The nodes of the model.
fn fleet() -> KnownNodes {
    let node = |n: u32| {
        let client = Ipv4Addr::LOCALHOST.into();
        KnownNode {
            id: format!("n{n}"),
            address: "a:1".into(),
            client,
            first_seen: at(0),
            profile: NodeProfile::default(),
            availability: Vec::new(),
        }
    };
    KnownNodes::new((0..3).map(node), Vec::new(), FleetRecord::default())
}

pub(super) fn execute(table: &mut RemoteTaskTable, command: &RemoteTaskCommand) {
    let changes = apply(table, &fleet(), command).unwrap();
    table.merge(&changes);
    check_totals(table);
}

/// The sums that are kept are those of all tasks.
fn check_totals(table: &RemoteTaskTable) {
    let all: Vec<_> = table.newest(None).collect();
    let bytes = all.iter().map(|entry| entry.bytes()).sum::<usize>();
    let parts = all.iter().map(|entry| entry.reserved_parts()).sum::<usize>();
    assert_eq!(table.totals(), TableTotals { bytes, parts });
    let given: usize = table.runs().map(|(_, runs)| runs.len()).sum();
    assert_eq!(given, all.iter().map(|entry| entry.progress().running).sum::<usize>());
}

pub(super) fn place_all(
    table: &mut RemoteTaskTable,
    nodes: Vec<WorkerNode>,
    now: UnixMillis,
) -> Schedule {
    let found = schedule(
        table,
        with_runs(table, nodes),
        (&|_, _| false, &WorkSpeeds::default()),
        true,
        now,
    );
    execute(table, &RemoteTaskCommand::Assign(found.assignments.clone()));
    execute(table, &RemoteTaskCommand::GiveUp { parts: found.hopeless.clone(), at: now });
    found
}

/// A node that keeps to the protocol.
#[derive(Default)]
struct ModelNode {
    starts: u64,
    number: u64,
    acted: u64,
    version: u64,
    answered_begin: u64,
    runs: BTreeMap<RunKey, RunState>,
    /// Answers on their way, with the number and the begin of their exchange.
    answers: Vec<(u64, u64, RunOrders)>,
}

#[derive(Default)]
struct Model {
    table: RemoteTaskTable,
    sessions: SessionTable,
    nodes: Vec<ModelNode>,
    /// Seconds by a clock that does not jump, and the shift of the other one.
    steady: u64,
    shift: i64,
    server_began: u64,
    tasks: u64,
    /// How often each part was begun, and where it runs.
    begun: HashMap<(String, u32), u32>,
    ends: HashMap<(String, u32), PartEnd>,
    finished: HashMap<String, RemoteTaskPhase>,
}

impl Model {
    fn wall(&self) -> UnixMillis {
        at((100_000 + self.steady).saturating_add_signed(self.shift))
    }

    fn change(&mut self, command: &RemoteTaskCommand) {
        execute(&mut self.table, command);
        for entry in self.table.newest(None) {
            let id = entry.task.id.to_string();
            for part in entry.parts() {
                let Some(outcome) = &part.outcome else { continue };
                let first = *self.ends.entry((id.clone(), part.number)).or_insert(outcome.end);
                assert_eq!(first, outcome.end, "an outcome changed");
            }
            if entry.task.finished.is_some() {
                let first = *self.finished.entry(id).or_insert(entry.phase());
                assert_eq!(first, entry.phase(), "a finished task changed");
                assert_eq!(entry.progress().running, 0);
            }
        }
    }

    fn submit(&mut self, what: u8) {
        let id = format!("t{:04}", self.tasks);
        self.tasks += 1;
        let fields = match what % 4 {
            0 => json!({"type": "once"}),
            1 => json!({"type": "sleep", "priority": "low"}),
            2 => json!({"type": "sleep", "items": [1, 2, 3, 4, 5, 6, 7]}),
            _ => json!({"type": "once", "spread": "every", "to": {"all": true}}),
        };
        let task = task_of(&id, fields, self.wall());
        self.change(&RemoteTaskCommand::Create(Arc::new(task)));
    }

    fn look(&mut self) {
        let (steady, server_began) = (at(self.steady), self.server_began);
        let is_settled = self.steady >= server_began + LEASE.as_secs();
        let runs = self.sessions.lapsed(&self.table, |_| true, is_settled, steady);
        self.change(&RemoteTaskCommand::Release { runs, at: self.wall() });
        self.change(&RemoteTaskCommand::Advance { at: self.wall() });
        let workers = self.sessions.workers(steady);
        let found = schedule(
            &self.table,
            with_runs(&self.table, workers),
            (&|_, _| false, &WorkSpeeds::default()),
            is_settled,
            self.wall(),
        );
        self.change(&RemoteTaskCommand::Assign(found.assignments));
        self.change(&RemoteTaskCommand::GiveUp { parts: found.hopeless, at: self.wall() });
    }

    /// A node asks, and the main server answers; the answer is on its way.
    fn ask(&mut self, node: usize) {
        let id = format!("n{node}");
        let asking = &mut self.nodes[node];
        asking.number += 1;
        let runs = asking.runs.iter().map(|(key, state)| RunReport::new(key.clone(), *state));
        let exchange = RunExchange {
            boot: format!("{node}-{}", asking.starts),
            number: asking.number,
            version: asking.version,
            places: 2,
            types: vec![offered("sleep", 2, true), offered("once", 2, false)],
            runs: runs.collect(),
            more: Vec::new(),
        };
        let (now, begin) = (at(self.steady), self.steady);
        let order = self.sessions.note(&id, &exchange, &self.table, now);
        let place = (&*exchange.boot, exchange.number);
        let ExchangeOrder::Latest { gone } = order else { panic!("it is the latest") };
        let finished = exchange.runs.iter().filter(|run| run.state.is_finished());
        let reports = finished.cloned().collect();
        let wall = self.wall();
        self.change(&RemoteTaskCommand::Report { node: id.clone(), reports, at: wall });
        self.change(&RemoteTaskCommand::Release { runs: gone, at: wall });
        let orders = orders_for(&self.table, &id, self.sessions.get(&id).unwrap(), wall);
        self.sessions.get_mut(&id).unwrap().note_orders(&orders, now);
        self.sessions.note_answer(&id, place, now);
        self.nodes[node].answers.push((exchange.number, begin, orders));
    }

    fn hear(&mut self, node: usize, which: usize) {
        let count = self.nodes[node].answers.len();
        if count == 0 {
            return;
        }
        let (number, begin, orders) = self.nodes[node].answers.remove(which % count);
        if number <= self.nodes[node].acted {
            return;
        }
        let hearing = &mut self.nodes[node];
        (hearing.acted, hearing.version) = (number, orders.version);
        hearing.answered_begin = hearing.answered_begin.max(begin);
        if self.steady >= hearing.answered_begin + STOP_AFTER.as_secs() {
            return;
        }
        for key in &orders.taken {
            hearing.runs.remove(key);
        }
        for order in orders.start {
            if !self.nodes[node].runs.contains_key(&order.key) {
                self.begin(node, order.key);
            }
        }
        for key in orders.stop {
            match self.nodes[node].runs.get_mut(&key) {
                Some(state) if *state == RunState::Running => *state = RunState::Stopped,
                _ => {}
            }
        }
    }

    fn begin(&mut self, node: usize, key: RunKey) {
        for (other, model) in self.nodes.iter().enumerate() {
            for (running, state) in &model.runs {
                let is_same = running.task == key.task && running.part == key.part;
                assert!(!(is_same && *state == RunState::Running), "{key:?} runs at {other}, too");
            }
        }
        let id = key.task.to_string();
        let phase = self.finished.get(&id);
        assert!(phase.is_none(), "{key:?} of a task that is {phase:?} was begun");
        let begun = self.begun.entry((id, key.part)).or_default();
        *begun += 1;
        let entry = self.table.find(&key.task).unwrap();
        let most = if entry.task.task_type.as_str() == "once" { 1 } else { MAX_TRIES };
        assert!(*begun <= most, "{key:?} was begun {begun} times");
        self.nodes[node].runs.insert(key, RunState::Running);
    }

    fn finish_run(&mut self, node: usize, state: RunState) {
        let running = self.nodes[node].runs.values_mut().find(|run| **run == RunState::Running);
        if let Some(run) = running {
            *run = state;
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.steady += seconds;
        for node in &mut self.nodes {
            if self.steady >= node.answered_begin + STOP_AFTER.as_secs() {
                for run in node.runs.values_mut().filter(|run| **run == RunState::Running) {
                    *run = RunState::Stopped;
                }
            }
        }
    }

    /// The program of a node dies with its runs; finished ones are on disk.
    fn crash_node(&mut self, node: usize) {
        let model = &mut self.nodes[node];
        model.runs.retain(|_, state| state.is_finished());
        model.starts += 1;
        (model.number, model.acted, model.version) = (0, 0, 0);
        model.answers.clear();
    }

    /// The main server begins again with what is on disk.
    fn crash_server(&mut self) {
        self.sessions = SessionTable::default();
        self.server_began = self.steady;
        let read = |json: String| -> Value { serde_json::from_str(&json).unwrap() };
        let entries: Vec<_> = self.table.newest(None).cloned().collect();
        let tasks = entries.iter().map(|entry| {
            let saved = read(serde_json::to_string(&*entry.task).unwrap());
            serde_json::from_value::<RemoteTask>(saved).unwrap()
        });
        let parts = entries.iter().flat_map(|entry| entry.parts()).map(|part| {
            let saved = read(serde_json::to_string(&**part).unwrap());
            serde_json::from_value::<RemotePart>(saved).unwrap()
        });
        let again = RemoteTaskTable::new(tasks.collect::<Vec<_>>(), parts.collect::<Vec<_>>());
        assert_eq!(again.totals(), self.table.totals());
        assert_eq!(again.open_totals(), self.table.open_totals());
        self.table = again;
    }

    fn cancel(&mut self, which: u8) {
        let open: Vec<_> = self.table.open().map(|entry| entry.task.id.clone()).collect();
        if let Some(id) = open.get(usize::from(which) % open.len().max(1)) {
            self.change(&RemoteTaskCommand::Cancel { id: id.clone(), at: self.wall() });
        }
    }

    fn step(&mut self, op: u8, arg: u8) {
        let node = usize::from(arg) % self.nodes.len();
        match op % 16 {
            0 => self.submit(arg / 3),
            1 => self.cancel(arg),
            2 => self.pass(u64::from(arg) % 45),
            3 if arg < 80 => self.crash_node(node),
            4 if arg < 60 => self.crash_server(),
            5 => self.shift = (i64::from(arg) - 128) * 30,
            6 => drop(self.nodes[node].answers.pop()),
            7 => self.finish_run(node, RunState::Failed),
            8 => self.finish_run(node, RunState::Succeeded),
            9 | 10 => self.look(),
            11 | 12 => self.hear(node, usize::from(arg / 3)),
            _ => self.ask(node),
        }
    }

    /// With nodes that are there and work, all comes to an end.
    fn settle(&mut self) {
        for _ in 0..400 {
            if self.table.open_count() == 0 {
                return;
            }
            self.pass(2);
            self.look();
            for node in 0..self.nodes.len() {
                self.ask(node);
                while !self.nodes[node].answers.is_empty() {
                    self.hear(node, 0);
                }
                self.finish_run(node, RunState::Succeeded);
            }
        }
        let open: Vec<_> = self.table.open().map(|entry| entry.task.clone()).collect();
        panic!("never finished: {open:#?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn nothing_runs_twice_or_never_whatever_crashes(
        ops in proptest::collection::vec((any::<u8>(), any::<u8>()), 1..250),
    ) {
        let mut model = Model { nodes: vec![], ..Model::default() };
        model.nodes.resize_with(3, ModelNode::default);
        for (op, arg) in ops {
            model.step(op, arg);
        }
        model.settle();
        // Late results of cancelled or lost runs change nothing more.
        for node in 0..3 {
            model.ask(node);
        }
    }
}

#[test]
fn the_oldest_low_task_is_before_a_new_urgent_one_some_time() {
    let place = |priority: &str, at: UnixMillis| {
        task_of("t", json!({"priority": priority}), at).queue_place()
    };
    assert!(place("urgent", at(1)) < place("high", at(1)));
    assert!(place("high", at(1)) < place("normal", at(1)));
    assert!(place("normal", at(1)) < place("low", at(1)));
    assert!(place("normal", at(1)) < place("normal", at(2)));
    assert!(place("low", at(0)) > place("urgent", at(899)));
    assert!(place("low", at(0)) < place("urgent", at(901)), "who waits long enough is first");
    let later = task_of("t", json!({"not_before": at(500).as_secs_f64()}), at(0));
    assert!(later.queue_place() > place("normal", at(499)), "it ages from its begin");
}

#[test]
fn the_best_node_is_idle_has_the_package_and_says_why() {
    let mut types = offered("check", 100, true);
    types.parameters = serde_json::from_value(json!([{"name": "id", "kind": "package"}])).unwrap();
    let with = |id: &str, cpu: u8, running: u32| WorkerNode {
        cpu: Some(cpu),
        running,
        types: vec![types.clone()].into(),
        ..worker(id, 4)
    };
    let fleet = vec![with("busy", 90, 0), with("idle", 5, 0), with("other", 5, 2)];
    let task = task_of("t", json!({"type": "check", "parameters": {"id": "m1"}}), at(0));
    let best = |holder: &str, nodes: &[WorkerNode]| {
        explain(&task, nodes, &|node, package| node == holder && package == "m1")
    };
    let names = |choices: &[NodeChoice]| -> Vec<String> {
        choices.iter().map(|choice| choice.node_id.clone()).collect()
    };
    assert_eq!(names(&best("nobody", &fleet)), ["idle", "other", "busy"]);
    assert_eq!(names(&best("other", &fleet))[0], "other");
    assert_eq!(names(&best("busy", &fleet))[0], "idle", "a package is worth less than a CPU");
    let choices = best("other", &fleet);
    assert!(choices[0].reasons.iter().any(|reason| reason.contains("package: +40")), "{choices:?}");
    let refused = vec![
        with("full", 0, 4),
        WorkerNode { drained: true, ..with("drained", 0, 0) },
        WorkerNode { sick: true, ..with("sick", 0, 0) },
        worker("other type", 4),
    ];
    for choice in best("nobody", &refused) {
        assert_eq!((choice.score, choice.reasons.len()), (None, 1), "{choice:?}");
    }
}

#[test]
fn a_split_task_gives_faster_nodes_more_and_keeps_the_order() {
    let now = at(0);
    let items: Vec<u32> = (0..1000).collect();
    let mut table = RemoteTaskTable::default();
    let task = task_of("t", json!({"items": items}), now);
    execute(&mut table, &RemoteTaskCommand::Create(Arc::new(task)));
    let mut speeds = WorkSpeeds::default();
    let name = "sleep".parse().unwrap();
    speeds.note("fast", &name, 90, Duration::from_secs(1));
    speeds.note("slow", &name, 10, Duration::from_secs(1));
    let one =
        |id: &str| WorkerNode { types: vec![offered("sleep", 1, true)].into(), ..worker(id, 1) };
    let nodes = vec![one("fast"), one("slow")];
    let found = schedule(&table, nodes, (&|_, _| false, &speeds), true, now);
    let count = |node: &str| -> u32 {
        let of_node = found.assignments.iter().filter(|given| given.to.node == node);
        of_node.map(|given| given.span.count).sum()
    };
    assert_eq!((count("fast"), count("slow")), (450, 28), "each half of its share of the rest");
    execute(&mut table, &RemoteTaskCommand::Assign(found.assignments));
    let spans: Vec<_> = table.open().next().unwrap().parts().map(|part| part.span).collect();
    assert_eq!(spans[0].first + spans[0].count, spans[1].first);
}

#[test]
fn a_key_is_one_task_and_another_request_with_it_is_refused() {
    let mut table = RemoteTaskTable::default();
    let create =
        |id: &str, fields: Value| RemoteTaskCommand::Create(Arc::new(task_of(id, fields, at(0))));
    execute(&mut table, &create("a", json!({"key": "k", "timeout_s": 5})));
    execute(&mut table, &create("b", json!({"key": "k", "timeout_s": 5})));
    assert_eq!((table.open_count(), table.by_key("k").unwrap().task.id.as_str()), (1, "a"));
    let other = create("c", json!({"key": "k", "timeout_s": 6}));
    assert!(apply(&table, &KnownNodes::default(), &other).is_err());
    execute(&mut table, &RemoteTaskCommand::Cancel { id: "a".parse().unwrap(), at: at(1) });
    execute(&mut table, &create("d", json!({"key": "k", "timeout_s": 5})));
    assert_eq!(table.open_count(), 0, "also when it is finished");
}

#[test]
fn a_failed_part_moves_to_another_node_three_times_at_most() {
    let mut table = RemoteTaskTable::default();
    execute(&mut table, &RemoteTaskCommand::Create(Arc::new(task_of("t", json!({}), at(0)))));
    let nodes = || ["n1", "n2", "n3", "n4"].map(|id| worker(id, 1)).to_vec();
    let mut tried = HashSet::new();
    for epoch in 1..=3 {
        let found = place_all(&mut table, nodes(), at(1));
        let given = &found.assignments[0];
        assert_eq!(given.key.epoch, epoch);
        assert!(tried.insert(given.to.node.clone()), "another one each time");
        let report = RunReport {
            error: Some(format!("no {epoch}")),
            ..RunReport::new(given.key.clone(), RunState::Failed)
        };
        let node = given.to.node.clone();
        execute(&mut table, &RemoteTaskCommand::Report { node, reports: vec![report], at: at(2) });
    }
    let entry = table.newest(None).next().unwrap();
    assert_eq!(entry.phase(), RemoteTaskPhase::Failed);
    let outcome = entry.part(0).unwrap().outcome.clone().unwrap();
    assert_eq!((outcome.end, outcome.error.as_deref()), (PartEnd::Failed, Some("no 3")));
    let again = RemoteTaskCommand::Retry {
        id: "t".parse().unwrap(),
        new_id: "u".parse().unwrap(),
        by: operator(),
        at: at(3),
    };
    execute(&mut table, &again);
    assert_eq!(table.open().next().unwrap().task.retry_of, Some("t".parse().unwrap()));
}

#[test]
fn what_can_not_be_done_is_refused_with_its_reason() {
    let refused = |fields: Value| {
        let Value::Object(fields) = fields else { panic!() };
        let request = RemoteTaskRequest::read(fields);
        let outcome = request.and_then(|request| {
            request.into_task("t".parse().unwrap(), None, Vec::new, operator(), at(0))
        });
        outcome.err().unwrap_or_default()
    };
    let large = "x".repeat(70_000);
    for (fields, told) in [
        (json!({}), "type"),
        (json!({"type": "Rm -rf"}), "small letters"),
        (json!({"type": "a", "colour": 1}), "unknown field"),
        (json!({"type": "a", "parameters": {"p": large}}), "65536 bytes"),
        (json!({"type": "a", "parameters": []}), "malformed"),
        (json!({"type": "a", "input": large}), "65536 bytes"),
        (json!({"type": "a", "spread": "split"}), "items"),
        (json!({"type": "a", "items": [1], "spread": "best"}), "split tasks alone"),
        (json!({"type": "a", "items": vec![0; 10_001]}), "10000 items"),
        (json!({"type": "a", "spread": "every"}), "name the nodes"),
        (json!({"type": "a", "tries": 4}), "tries must be from 1 to 3"),
        (json!({"type": "a", "timeout_s": 0}), "timeout_s must be"),
        (json!({"type": "a", "title": "a\nb"}), "control characters"),
        (json!({"type": "a", "key": ""}), "key must have"),
        (json!({"type": "a", "deadline": 5}), "passed already"),
        (json!({"type": "a", "expires_in_s": 100_000_000}), "90 days"),
    ] {
        let refusal = refused(fields.clone());
        assert!(refusal.contains(told), "{fields}: {refusal}");
    }
    assert_eq!(refused(json!({"type": "a", "parameters": {"x": 1}})), "");
}
