//! The runs that this node knows, and what the main server's orders mean for them. Pure.

use std::collections::BTreeMap;

use edge_mirror_protocol::remote_tasks::{
    MAX_RUNS, MAX_STARTS, RunKey, RunOrder, RunOrders, RunReport, RunState,
};

/// Reports of one exchange, in bytes of JSON; further ones come with the next.
const REPORT_BYTES: usize = 512 << 10;

/// The runs of this node, and the orders that wait for a place.
#[derive(Debug, Default)]
pub(super) struct RunLedger {
    runs: BTreeMap<RunKey, KnownRun>,
    waiting: Vec<RunOrder>,
}

#[derive(Debug)]
enum KnownRun {
    Active { report: RunReport, class: String },
    Finished(RunReport),
}

/// The consequences of an answer of the main server.
#[derive(Debug, Default, PartialEq)]
pub(super) struct OrderEffects {
    /// Runs to end.
    pub(super) stop: Vec<RunKey>,
    /// Orders that were taken back before they were begun.
    pub(super) refuse: Vec<RunOrder>,
    /// Finished runs that the main server has.
    pub(super) forget: Vec<RunKey>,
}

/// Places for runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunRoom<F> {
    pub(super) places: u32,
    /// The class of an order's type, and its places.
    pub(super) class_of: F,
}

impl RunLedger {
    /// With reports that an earlier process has left.
    pub(super) fn with_finished(reports: Vec<RunReport>) -> Self {
        let runs = reports.into_iter().take(MAX_RUNS);
        let runs = runs.map(|report| (report.key.clone(), KnownRun::Finished(report)));
        Self { runs: runs.collect(), waiting: Vec::new() }
    }

    /// Compares an answer with what is known. Orders that are not known wait for a place.
    pub(super) fn apply(&mut self, orders: RunOrders) -> OrderEffects {
        let mut effects = OrderEffects::default();
        for key in orders.taken {
            if matches!(self.runs.get(&key), Some(KnownRun::Finished(_))) {
                self.runs.remove(&key);
                effects.forget.push(key);
            }
        }
        let (mut start, stop) = (orders.start, orders.stop);
        start.truncate(MAX_STARTS);
        start.retain(|order| !self.runs.contains_key(&order.key) && !stop.contains(&order.key));
        let before = std::mem::replace(&mut self.waiting, start);
        let taken_back = |order: &RunOrder| stop.contains(&order.key);
        effects.refuse = before.into_iter().filter(taken_back).collect();
        let is_active = |key: &RunKey| matches!(self.runs.get(key), Some(KnownRun::Active { .. }));
        effects.stop = stop.into_iter().filter(is_active).collect();
        effects
    }

    /// The next order that there is a place for. It waits no more.
    pub(super) fn next<F>(&mut self, room: &RunRoom<F>) -> Option<RunOrder>
    where
        F: Fn(&RunOrder) -> Option<(String, u32)>,
    {
        let active: Vec<(&RunKey, &str)> = self
            .runs
            .iter()
            .filter_map(|(key, run)| match run {
                KnownRun::Active { class, .. } => Some((key, class.as_str())),
                KnownRun::Finished(_) => None,
            })
            .collect();
        if active.len() >= usize::try_from(room.places).unwrap_or(usize::MAX)
            || self.runs.len() >= MAX_RUNS
        {
            return None;
        }
        let fits = |order: &RunOrder| {
            // What an older lease left has to be gone first.
            let is_of_part =
                |key: &RunKey| (&key.task, key.part) == (&order.key.task, order.key.part);
            let is_under_way = active.iter().any(|(key, _)| is_of_part(key));
            // One of an unknown type is refused at once.
            let has_place = (room.class_of)(order).is_none_or(|(class, places)| {
                let busy = active.iter().filter(|(_, of)| *of == class).count();
                busy < usize::try_from(places).unwrap_or(usize::MAX)
            });
            has_place && !is_under_way
        };
        let next = self.waiting.iter().position(fits)?;
        Some(self.waiting.remove(next))
    }

    pub(super) fn begin(&mut self, key: RunKey, class: String, started_at: u64) {
        let mut report = RunReport::new(key.clone(), RunState::Running);
        report.started_at = Some(started_at);
        self.runs.insert(key, KnownRun::Active { report, class });
    }

    /// Notes how far a run is. True if that is news.
    pub(super) fn note_progress(&mut self, key: &RunKey, progress: Option<f32>, ms: u64) -> bool {
        let Some(KnownRun::Active { report, .. }) = self.runs.get_mut(key) else { return false };
        report.duration_ms = ms;
        std::mem::replace(&mut report.progress, progress) != progress
    }

    pub(super) fn finish(&mut self, report: RunReport) {
        self.runs.insert(report.key.clone(), KnownRun::Finished(report));
    }

    pub(super) fn active(&self) -> impl Iterator<Item = &RunReport> {
        self.runs.values().filter_map(|run| match run {
            KnownRun::Active { report, .. } => Some(report),
            KnownRun::Finished(_) => None,
        })
    }

    /// The reports of an exchange, those under way first, and the keys of the others.
    pub(super) fn reports(&self) -> (Vec<RunReport>, Vec<RunKey>) {
        let (mut reports, mut more) = (self.active().cloned().collect::<Vec<_>>(), Vec::new());
        let mut bytes = 0;
        for run in self.runs.values() {
            let KnownRun::Finished(report) = run else { continue };
            bytes += serde_json::to_vec(report).map_or(0, |json| json.len());
            match bytes <= REPORT_BYTES {
                true => reports.push(report.clone()),
                false => more.push(report.key.clone()),
            }
        }
        (reports, more)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(task: &str, part: u32, epoch: u64) -> RunKey {
        RunKey { task: task.parse().unwrap(), part, epoch }
    }

    fn order(task: &str, epoch: u64) -> RunOrder {
        RunOrder {
            key: key(task, 0, epoch),
            task_type: "sleep".parse().unwrap(),
            parameters: serde_json::Map::new(),
            input: None,
            timeout_seconds: 9,
        }
    }

    fn start(orders: &[&RunOrder]) -> RunOrders {
        let start = orders.iter().map(|order| (*order).clone()).collect();
        RunOrders { start, ..RunOrders::default() }
    }

    fn room(places: u32, class: u32) -> RunRoom<impl Fn(&RunOrder) -> Option<(String, u32)>> {
        RunRoom { places, class_of: move |_: &RunOrder| Some(("c".to_owned(), class)) }
    }

    fn begin(ledger: &mut RunLedger, order: &RunOrder) {
        ledger.begin(order.key.clone(), "c".to_owned(), 1);
    }

    #[test]
    fn an_order_is_begun_once_however_often_it_comes() {
        let (mut ledger, a) = (RunLedger::default(), order("a", 1));
        for _ in 0..3 {
            ledger.apply(start(&[&a]));
        }
        assert_eq!(ledger.next(&room(4, 4)), Some(a.clone()));
        begin(&mut ledger, &a);
        ledger.apply(start(&[&a]));
        assert_eq!(ledger.next(&room(4, 4)), None);
        ledger.finish(RunReport::new(a.key.clone(), RunState::Succeeded));
        ledger.apply(start(&[&a]));
        assert_eq!(ledger.next(&room(4, 4)), None, "its report was not taken");
        assert_eq!(ledger.reports().0.len(), 1);
    }

    #[test]
    fn places_of_node_and_class_are_kept_and_an_older_lease_has_to_be_gone() {
        let (mut ledger, a, b) = (RunLedger::default(), order("a", 1), order("b", 1));
        ledger.apply(start(&[&a, &b]));
        assert_eq!(ledger.next(&room(0, 9)), None);
        let next = ledger.next(&room(2, 1)).unwrap();
        begin(&mut ledger, &next);
        assert_eq!(ledger.next(&room(2, 1)), None, "the class is full");
        assert_eq!(ledger.next(&room(1, 2)), None, "the node is full");
        let again = order("a", 2);
        ledger.apply(start(&[&again, &b]));
        assert_eq!(ledger.next(&room(9, 9)), Some(b), "a of before is still under way");
        ledger.finish(RunReport::new(a.key, RunState::Stopped));
        assert_eq!(ledger.next(&room(9, 9)), Some(again));
    }

    #[test]
    fn a_stop_ends_what_runs_and_refuses_what_waits() {
        let (mut ledger, a, b) = (RunLedger::default(), order("a", 1), order("b", 1));
        ledger.apply(start(&[&a, &b]));
        let next = ledger.next(&room(1, 1)).unwrap();
        begin(&mut ledger, &next);
        let stop = vec![a.key.clone(), b.key.clone(), key("unknown", 0, 1)];
        let effects = ledger.apply(RunOrders { stop, ..start(&[&b]) });
        assert_eq!((effects.stop, effects.refuse), (vec![a.key], vec![b]));
        assert_eq!(ledger.next(&room(9, 9)), None);
    }

    #[test]
    fn a_report_is_repeated_until_it_is_taken_and_one_under_way_never_forgotten() {
        let (mut ledger, a) = (RunLedger::default(), order("a", 1));
        begin(&mut ledger, &a);
        let taken = || RunOrders { taken: vec![key("a", 0, 1)], ..RunOrders::default() };
        assert_eq!(ledger.apply(taken()).forget, []);
        assert!(ledger.note_progress(&a.key, Some(0.5), 10));
        assert!(!ledger.note_progress(&a.key, Some(0.5), 20));
        assert_eq!(ledger.reports().0[0].duration_ms, 20);
        ledger.finish(RunReport::new(a.key.clone(), RunState::Failed));
        assert!(!ledger.note_progress(&a.key, None, 30));
        assert_eq!(ledger.reports().0[0].state, RunState::Failed);
        assert_eq!(ledger.apply(taken()).forget, [a.key]);
        assert!(ledger.reports().0.is_empty());
    }

    #[test]
    fn an_exchange_is_bounded_and_names_what_does_not_fit() {
        let reports = (0..100).map(|part| {
            let mut report = RunReport::new(key("t", part, 1), RunState::Succeeded);
            report.result = Some(json!("x".repeat(60_000)));
            report
        });
        let mut ledger = RunLedger::with_finished(reports.collect());
        begin(&mut ledger, &order("a", 1));
        let (reports, more) = ledger.reports();
        assert_eq!(reports.len() + more.len(), 101);
        assert_eq!(reports[0].state, RunState::Running);
        assert!(serde_json::to_vec(&reports).unwrap().len() < REPORT_BYTES + 4096);
        assert!(more.len() > 50);
    }
}
