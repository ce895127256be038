use std::net::IpAddr;

use edge_mirror_protocol::{
    dispatch::{FailedFile, TaskFile, TaskOrder},
    package::Sha256,
};
use proptest::prelude::*;

use super::*;
use crate::state::{
    audit::AuditedLogin,
    destinations::Destinations,
    dispatch::{
        AbsentNodes, DispatchNotice, DispatchPriority, FileAccess, FileRetention, SenderKey, orders,
    },
    fleet::{AvailabilityChange, FleetRecord, KnownNode, NodeProfile},
};

pub(in crate::state::dispatch) fn at(seconds: u64) -> UnixMillis {
    UnixMillis::from_secs(1_000_000 + seconds)
}

fn id(n: u64) -> TaskId {
    format!("t{n:03}").parse().unwrap()
}

fn by() -> AuditedOperator {
    AuditedOperator { address: IpAddr::from([127, 0, 0, 1]), how: AuditedLogin::Local }
}

pub(in crate::state::dispatch) fn task(n: u64, nodes: Option<&[&str]>) -> DispatchTask {
    DispatchTask {
        id: id(n),
        title: "t".into(),
        key: None,
        by: by(),
        to: Destinations::default(),
        nodes: nodes.map(|nodes| nodes.iter().map(|node| (*node).to_owned()).collect()),
        priority: DispatchPriority::Normal,
        absent: AbsentNodes::Wait,
        retention: FileRetention::Keep,
        rate_limit: None,
        access: FileAccess::Operators,
        files: 1,
        bytes: 5,
        phase: TaskPhase::Queued,
        attempt: 1,
        created_at: at(0),
        deadline: at(1000),
        started_at: None,
        finished_at: None,
        retry_of: None,
        removal: None,
        results: BTreeMap::new(),
    }
}

fn files() -> Arc<TaskFiles> {
    let file = TaskFile { name: "a".into(), size: 5, sha256: Sha256::new([1; 32]) };
    Arc::new(TaskFiles { files: vec![file] })
}

/// A fleet whose nodes in capitals are away.
fn fleet(nodes: &[&str]) -> KnownNodes {
    let node = |name: &&str| KnownNode {
        id: name.to_lowercase(),
        address: "a:1".into(),
        client: IpAddr::from([10, 0, 0, 1]),
        first_seen: at(0),
        profile: NodeProfile::default(),
        availability: vec![AvailabilityChange {
            at: at(0),
            present: name.to_lowercase() == **name,
        }],
    };
    KnownNodes::new(nodes.iter().map(node), Vec::new(), FleetRecord::default())
}

#[derive(Default)]
struct TestTasks {
    table: DispatchTable,
    known: KnownNodes,
    unsupported: BTreeSet<String>,
    max_active: usize,
}

impl TestTasks {
    fn new(nodes: &[&str]) -> Self {
        Self { known: fleet(nodes), max_active: 5, ..Self::default() }
    }

    fn apply(&mut self, command: DispatchCommand) -> Result<usize, RequestError> {
        let changes = apply(&self.table, &self.known, &command)?;
        self.table.merge(&changes);
        Ok(changes.len())
    }

    fn create(&mut self, task: DispatchTask) {
        let command = DispatchCommand::Create { task: Arc::new(task), files: files() };
        self.apply(command).unwrap();
    }

    fn advance(&mut self, seconds: u64) -> usize {
        let unsupported = Arc::new(self.unsupported.clone());
        let (max_active, at) = (self.max_active, at(seconds));
        self.apply(DispatchCommand::Advance { unsupported, max_active, at }).unwrap()
    }

    fn report(&mut self, n: u64, node: &str, attempt: u32, state: NodeTaskState) -> usize {
        let failed = vec![FailedFile::new("a", "no room")];
        let report = TaskReport {
            id: id(n),
            attempt,
            state,
            done_files: 9,
            done_bytes: 5,
            received_bytes: 5,
            failed_count: 1,
            failed,
        };
        let command =
            DispatchCommand::Report { node_id: node.into(), reports: vec![report], at: at(1) };
        self.apply(command).unwrap()
    }

    fn cancel(&mut self, n: u64) -> usize {
        self.apply(DispatchCommand::Cancel { id: id(n), at: at(2) }).unwrap()
    }

    fn retry(&mut self, n: u64, new: u64) -> Result<usize, RequestError> {
        self.apply(DispatchCommand::Retry { id: id(n), new_id: id(new), by: by(), at: at(3) })
    }

    fn task(&self, n: u64) -> &DispatchTask {
        self.table.find(&id(n)).unwrap()
    }

    fn phase(&self, n: u64) -> TaskPhase {
        self.task(n).phase
    }

    fn orders(&self, node: &str) -> Vec<(String, TaskOrder)> {
        let orders = orders(&self.table, node);
        orders.into_iter().map(|task| (task.id.to_string(), task.order)).collect()
    }
}

use NodeTaskState::{Done, Failed, Pulling, Removed};

#[test]
fn a_task_goes_to_those_that_are_there_and_waits_for_those_that_are_away() {
    let mut t = TestTasks::new(&["a", "B", "c"]);
    t.create(task(1, Some(&["a", "b"])));
    assert_eq!((t.phase(1), t.orders("a")), (TaskPhase::Queued, vec![]));
    t.advance(0);
    assert_eq!(t.phase(1), TaskPhase::Active);
    let deliver = vec![("t001".to_owned(), TaskOrder::Deliver)];
    assert_eq!([t.orders("a"), t.orders("b"), t.orders("c")], [deliver.clone(), deliver, vec![]]);
    assert_eq!(t.report(1, "a", 1, Pulling), 0, "progress is nothing to be saved");
    assert_eq!(t.report(1, "c", 1, Done), 0, "it is not for that node");
    assert_eq!(t.report(1, "a", 2, Done), 0, "there was no such attempt");
    assert_eq!(t.report(1, "a", 1, Done), 1);
    assert_eq!((t.advance(999), t.phase(1), t.orders("a")), (0, TaskPhase::Active, vec![]));
    assert_eq!(t.report(1, "a", 1, Failed), 0, "it has an outcome");
    t.report(1, "b", 1, Done);
    t.advance(999);
    assert_eq!((t.phase(1), t.task(1).finished_at), (TaskPhase::Completed, Some(at(999))));
    assert_eq!(t.task(1).results["a"].done_files, 1, "no more than there are");
}

#[test]
fn who_can_not_or_need_not_get_it_is_not_waited_for() {
    let mut t = TestTasks::new(&["a", "B", "c"]);
    t.unsupported = BTreeSet::from(["c".to_owned()]);
    let skipping = DispatchTask { absent: AbsentNodes::Skip, ..task(1, None) };
    t.create(skipping);
    t.create(task(2, Some(&["a", "gone"])));
    t.advance(0);
    let outcomes = |t: &TestTasks, n| -> Vec<_> {
        t.task(n).results.iter().map(|(node, result)| (node.clone(), result.outcome)).collect()
    };
    assert_eq!(
        outcomes(&t, 1),
        [("b".to_owned(), NodeOutcome::Missed), ("c".to_owned(), NodeOutcome::Unsupported)]
    );
    assert_eq!(outcomes(&t, 2), [("gone".to_owned(), NodeOutcome::Missed)]);
    t.report(1, "a", 1, Done);
    t.report(2, "a", 1, Failed);
    t.advance(1);
    assert_eq!([t.phase(1), t.phase(2)], [TaskPhase::Partial, TaskPhase::Failed]);
    assert_eq!(t.task(2).results["a"].failed[0].reason, "no room");
}

#[test]
fn at_the_deadline_it_is_over() {
    let mut t = TestTasks::new(&["a", "B"]);
    t.max_active = 0;
    t.create(task(1, None));
    t.advance(999);
    assert_eq!(t.phase(1), TaskPhase::Queued);
    t.advance(1000);
    assert_eq!((t.phase(1), t.task(1).results.len()), (TaskPhase::Failed, 2));
    let finished = t.task(1).clone();
    assert_eq!((t.report(1, "a", 1, Done), t.advance(2000)), (0, 0));
    assert_eq!(*t.task(1), finished, "what is finished is never rewritten");
}

#[test]
fn the_most_urgent_begin_first_and_waiting_for_who_is_away_takes_no_turn() {
    let mut t = TestTasks::new(&["a", "B"]);
    t.max_active = 1;
    t.create(task(1, Some(&["a"])));
    t.create(task(2, Some(&["a"])));
    t.create(DispatchTask { priority: DispatchPriority::Urgent, ..task(3, Some(&["a", "b"])) });
    t.advance(0);
    let phases = |t: &TestTasks| [1, 2, 3].map(|n| t.phase(n) == TaskPhase::Active);
    assert_eq!(phases(&t), [false, false, true]);
    t.report(3, "a", 1, Done);
    t.advance(1);
    assert_eq!(phases(&t), [true, false, true]);
    assert_eq!(t.orders("a"), [("t001".to_owned(), TaskOrder::Deliver)]);
    t.report(1, "a", 1, Done);
    t.advance(1);
    assert_eq!(t.phase(1), TaskPhase::Completed);
    t.advance(1);
    assert_eq!(t.phase(2), TaskPhase::Active);
}

#[test]
fn a_cancelled_task_is_over_once_all_have_confirmed() {
    let mut t = TestTasks::new(&["a", "b", "c"]);
    t.unsupported = BTreeSet::from(["c".to_owned()]);
    t.create(task(1, None));
    t.create(DispatchTask { deadline: at(5000), ..task(2, None) });
    t.max_active = 1;
    t.advance(0);
    assert_eq!(t.cancel(2), 1);
    assert_eq!(t.phase(2), TaskPhase::Cancelled, "nobody had it");
    t.report(1, "a", 1, Done);
    assert_eq!((t.cancel(1), t.cancel(1)), (1, 0), "once more changes nothing");
    assert_eq!(t.phase(1), TaskPhase::Cancelling);
    assert_eq!(t.orders("a"), [("t001".to_owned(), TaskOrder::Remove)]);
    let remove = [("t001".to_owned(), TaskOrder::Remove)];
    assert_eq!(t.orders("c"), remove, "it may have some from before, and nobody waits for it");
    assert_eq!(t.report(1, "b", 1, Done), 0, "too late");
    t.report(1, "a", 1, Removed);
    t.advance(5);
    assert_eq!((t.phase(1), t.orders("a")), (TaskPhase::Cancelling, vec![]));
    t.report(1, "b", 1, Removed);
    t.advance(6);
    assert_eq!((t.phase(1), t.task(1).finished_at), (TaskPhase::Cancelled, Some(at(6))));
    assert!(matches!(t.retry(1, 9), Err(RequestError::TaskCancelled(_))));
    t.advance(2000);
    assert_eq!(t.phase(1), TaskPhase::Cancelled);
}

#[test]
fn a_node_that_takes_files_again_removes_those_from_before() {
    let mut t = TestTasks::new(&["a", "b"]);
    t.create(task(1, None));
    t.advance(0);
    t.unsupported = BTreeSet::from(["a".to_owned()]);
    t.advance(1);
    assert_eq!(t.task(1).outcome("a"), Some(NodeOutcome::Unsupported));
    t.unsupported.clear();
    t.cancel(1);
    t.report(1, "b", 1, Removed);
    t.advance(2);
    assert_eq!(t.phase(1), TaskPhase::Cancelling);
    assert_eq!(t.orders("a"), [("t001".to_owned(), TaskOrder::Remove)]);
    assert_eq!(t.report(1, "a", 1, Removed), 1);
    t.advance(3);
    assert_eq!((t.phase(1), t.orders("a")), (TaskPhase::Cancelled, vec![]));
}

#[test]
fn files_of_a_finished_task_are_taken_back_and_its_outcome_stays() {
    let mut t = TestTasks::new(&["a"]);
    t.create(task(1, None));
    t.advance(0);
    t.report(1, "a", 1, Done);
    t.advance(1);
    t.cancel(1);
    assert_eq!((t.phase(1), t.orders("a").len()), (TaskPhase::Completed, 1));
    t.report(1, "a", 1, Removed);
    t.advance(9);
    let done = t.task(1).removal.as_ref().unwrap().done_at;
    assert_eq!(
        (t.phase(1), t.task(1).finished_at, done),
        (TaskPhase::Completed, Some(at(1)), Some(at(9)))
    );
    assert_eq!(t.table.open_tasks().count(), 0);
}

#[test]
fn those_that_failed_try_again_in_the_task_or_in_another_once_it_is_finished() {
    let mut t = TestTasks::new(&["a", "b", "c"]);
    t.create(task(1, None));
    t.advance(0);
    assert!(matches!(t.retry(1, 9), Err(RequestError::NothingToRetry(_))));
    t.report(1, "a", 1, Failed);
    t.report(1, "b", 1, Done);
    assert_eq!(t.retry(1, 9).unwrap(), 1);
    assert_eq!((t.task(1).attempt, t.task(1).results.len()), (2, 1));
    assert_eq!(t.report(1, "a", 1, Failed), 0, "of the attempt before");
    t.report(1, "a", 2, Failed);
    t.report(1, "c", 2, Done);
    t.advance(1);
    let finished = t.task(1).clone();
    assert_eq!(finished.phase, TaskPhase::Partial);
    t.retry(1, 2).unwrap();
    assert_eq!(*t.task(1), finished);
    let again = t.task(2);
    assert_eq!(again.nodes, Some(BTreeSet::from(["a".to_owned()])));
    assert_eq!((again.retry_of.clone(), again.deadline), (Some(id(1)), at(1003)));
    assert_eq!(t.table.files(&id(2)), t.table.files(&id(1)));
}

#[test]
fn the_oldest_finished_tasks_make_room_and_unfinished_ones_do_not() {
    let mut t = TestTasks::new(&["a"]);
    for n in 0..MAX_TASKS as u64 {
        t.create(task(n, None));
    }
    let more = |t: &mut TestTasks, n, count| {
        let task = Arc::new(DispatchTask { files: count, ..task(n, None) });
        t.apply(DispatchCommand::Create { task, files: files() })
    };
    assert!(matches!(more(&mut t, 900, 1), Err(RequestError::TooManyTasks(..))));
    t.cancel(7);
    t.cancel(8);
    assert!(matches!(more(&mut t, 900, MAX_ALL_FILES), Err(RequestError::TooManyTasks(..))));
    more(&mut t, 900, 1).unwrap();
    assert!(t.table.find(&id(7)).is_none() && t.table.files(&id(7)).is_none());
    assert!(t.table.find(&id(8)).is_some());
    assert_eq!(t.table.len(), MAX_TASKS);
}

#[test]
fn a_key_creates_one_task_while_that_is_kept_and_is_no_other_ones() {
    let mut t = TestTasks::new(&["a"]);
    let create = |t: &mut TestTasks, n, fingerprint: &str| {
        let key = Some(SenderKey { key: "k".into(), fingerprint: fingerprint.into() });
        let retention = FileRetention::Until(at(9000));
        let task = Arc::new(DispatchTask { key, retention, ..task(n, None) });
        t.apply(DispatchCommand::Create { task, files: files() })
    };
    assert_eq!(create(&mut t, 0, "x").unwrap(), 2);
    assert_eq!(create(&mut t, 1, "x").unwrap(), 0, "it is there already");
    assert!(matches!(create(&mut t, 1, "y"), Err(RequestError::OtherTask(key)) if key == "k"));
    // Whatever becomes of it.
    t.advance(0);
    t.report(0, "a", 1, Failed);
    t.advance(1);
    assert_eq!(create(&mut t, 1, "x").unwrap(), 0);
    t.retry(0, 2).unwrap();
    assert_eq!(t.task(2).key, None, "nobody has sent that one with it");
    assert_eq!(t.table.len(), 2);
    for n in 3..=MAX_TASKS as u64 {
        t.create(task(n, None));
    }
    assert!(create(&mut t, 900, "x").is_ok() && t.table.find(&id(900)).is_none());
    t.create(task(901, None));
    assert!(t.table.find(&id(0)).is_none(), "it made room");
    t.cancel(2);
    assert_eq!(create(&mut t, 902, "y").unwrap(), 3);
}

#[test]
fn a_task_whose_files_nodes_keep_makes_no_room_until_they_are_removed() {
    let mut t = TestTasks::new(&["a"]);
    let until = FileRetention::Until(at(9000));
    t.create(task(0, None));
    t.create(DispatchTask { retention: until, ..task(1, None) });
    t.advance(0);
    t.report(0, "a", 1, Done);
    t.report(1, "a", 1, Done);
    t.advance(1);
    for n in 2..MAX_TASKS as u64 {
        t.create(task(n, None));
    }
    t.create(task(900, None));
    let is_there = |t: &TestTasks, n| t.table.find(&id(n)).is_some();
    assert_eq!([is_there(&t, 0), is_there(&t, 1)], [true, false]);
    let command = || DispatchCommand::Create { task: Arc::new(task(901, None)), files: files() };
    assert!(matches!(t.apply(command()), Err(RequestError::TooManyTasks(..))));
    t.cancel(0);
    t.report(0, "a", 1, Removed);
    t.advance(2);
    t.apply(command()).unwrap();
    assert!(!is_there(&t, 0));
}

#[test]
fn failed_files_are_named_of_the_first_nodes_that_fail_and_counted_of_all() {
    let names: Vec<String> = (0..=MAX_NODES_WITH_NAMES).map(|n| format!("n{n:03}")).collect();
    let mut t = TestTasks::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    t.create(task(1, None));
    t.advance(0);
    for name in &names {
        assert_eq!(t.report(1, name, 1, Failed), 1);
    }
    let named = |name: &String| t.task(1).results[name].failed.len();
    let (last, first) = names.split_last().unwrap();
    assert!(first.iter().all(|name| named(name) == 1));
    assert_eq!((named(last), t.task(1).results[last].failed_count), (0, 1));
}

#[test]
fn a_node_is_told_of_news_that_concern_it_and_of_nobodys_progress() {
    let mut t = TestTasks::new(&["a", "b", "c"]);
    t.create(task(1, Some(&["a", "b"])));
    t.advance(0);
    let notice = |t: &TestTasks| DispatchNotice::new(&t.table, None);
    let before = notice(&t);
    assert_eq!((before.version("c"), before.version("a")), (None, before.version("b")));
    t.report(1, "a", 1, Failed);
    assert_eq!(notice(&t), before);
    assert_eq!(DispatchNotice::new(&t.table, Some(&before)), before);
    t.retry(1, 9).unwrap();
    let retried = notice(&t).version("a");
    assert_ne!(retried, before.version("a"));
    t.cancel(1);
    assert_ne!(notice(&t).version("a"), retried);
}

#[test]
fn a_task_is_read_as_it_was_written() {
    let mut t = TestTasks::new(&["a", "B"]);
    t.create(DispatchTask { retention: FileRetention::Until(at(7)), ..task(1, Some(&["a"])) });
    t.advance(0);
    t.report(1, "a", 1, Failed);
    t.cancel(1);
    let text = serde_json::to_string(t.task(1)).unwrap();
    assert_eq!(serde_json::from_str::<DispatchTask>(&text).unwrap(), *t.task(1));
}

proptest! {
    /// Whatever comes in whatever order: a finished task stays as it is, but for the removal
    /// of its files, a cancelled one is never delivered again, and each ends.
    #[test]
    fn no_order_of_events_brings_back_what_is_over(
        events in prop::collection::vec((0_u8..7, 0_u64..3, 0_usize..3, 1_u32..3), 1..60),
    ) {
        let nodes = ["a", "b", "c"];
        let mut t = TestTasks::new(&nodes);
        t.max_active = 2;
        for n in 0..3 {
            t.create(task(n, None));
        }
        let mut over: BTreeMap<TaskId, DispatchTask> = BTreeMap::new();
        let mut seconds = 0;
        for (event, n, node, attempt) in events {
            match event {
                0 => { seconds += 10; t.advance(seconds); }
                1 => { t.report(n, nodes[node], attempt, Done); }
                2 => { t.report(n, nodes[node], attempt, Failed); }
                3 => { t.report(n, nodes[node], attempt, Removed); }
                4 => { t.cancel(n); }
                5 => { let _ = t.retry(n, 100 + seconds + u64::from(attempt)); }
                _ => { t.advance(seconds); }
            }
            for (id, before) in &over {
                let now = DispatchTask { removal: before.removal.clone(), ..DispatchTask::clone(t.table.find(id).unwrap()) };
                prop_assert_eq!(&now, before);
            }
            let finished = t.table.iter().filter(|task| task.phase.is_finished());
            over.extend(finished.map(|task| (task.id.clone(), DispatchTask::clone(task))));
            for task in t.table.iter().filter(|task| task.removal.is_some()) {
                for node in nodes {
                    let told = t.orders(node);
                    prop_assert!(!told.contains(&(task.id.to_string(), TaskOrder::Deliver)));
                }
            }
        }
        t.advance(10_000_000);
        t.advance(10_000_000);
        prop_assert!(t.table.iter().all(|task| task.phase.is_finished()));
    }
}
