//! Tasks whose files the main server does not have, or not yet: others have their turn
//! meanwhile. Pure.

use std::{collections::HashMap, time::Duration};

use edge_mirror_protocol::dispatch::{NodeTask, TaskId, TaskList, TaskOrder};
use tokio::time::Instant;

/// Pause of a task between two tries.
const PAUSE: Duration = Duration::from_secs(15);
/// Earlier tries, and the time since the first of them, after which files that the main
/// server does not have are given up.
const TRIES: u32 = 4;
const LEAST_TIME: Duration = Duration::from_secs(60);

/// The tasks that wait; bounded by the main server's list.
#[derive(Debug, Default)]
pub(super) struct TaskWaits(HashMap<TaskId, TaskWait>);

#[derive(Debug)]
struct TaskWait {
    attempt: u32,
    /// Tries in which files were absent, and the first of them.
    tries: u32,
    since: Instant,
    until: Instant,
}

impl TaskWaits {
    /// Notes a try that left files over. Only absent ones are ever given up.
    pub(super) fn note(&mut self, task: &NodeTask, absent: bool, now: Instant) {
        let new = TaskWait { attempt: task.attempt, tries: 0, since: now, until: now };
        let before = self.0.remove(&task.id).filter(|wait| wait.attempt == task.attempt);
        let mut wait = before.unwrap_or(new);
        match absent {
            true if wait.tries == 0 => (wait.tries, wait.since) = (1, now),
            true => wait.tries += 1,
            false => wait.tries = 0,
        }
        wait.until = now + PAUSE;
        self.0.insert(task.id.clone(), wait);
    }

    /// True if the next try is the last one for files that are absent.
    pub(super) fn has_waited_enough(&self, task: &NodeTask, now: Instant) -> bool {
        self.of(task).is_some_and(|wait| wait.tries >= TRIES && now >= wait.since + LEAST_TIME)
    }

    pub(super) fn is_waiting(&self, task: &NodeTask, now: Instant) -> bool {
        self.of(task).is_some_and(|wait| now < wait.until)
    }

    fn of(&self, task: &NodeTask) -> Option<&TaskWait> {
        self.0.get(&task.id).filter(|wait| wait.attempt == task.attempt)
    }

    /// Forgets tasks that are listed no more.
    pub(super) fn retain_listed(&mut self, list: &TaskList) {
        self.0.retain(|id, _| list.tasks.iter().any(|task| task.id == *id));
    }

    /// Returns the next thing to do: removals are quick, and make room.
    pub(super) fn choose(&self, list: TaskList, now: Instant) -> Option<NodeTask> {
        let is_removal = |task: &NodeTask| task.order == TaskOrder::Remove;
        let mut tasks = list.tasks;
        let next = tasks.iter().position(is_removal);
        let next = next.or_else(|| tasks.iter().position(|task| !self.is_waiting(task, now)));
        next.map(|next| tasks.swap_remove(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str, order: TaskOrder) -> NodeTask {
        let id = id.parse().unwrap();
        let (attempt, files, bytes, open, keep_until) = (1, 1, 1, true, None);
        NodeTask { id, order, attempt, files, bytes, open, keep_until, rate_limit: None }
    }

    fn list(tasks: &[&NodeTask]) -> TaskList {
        let tasks = tasks.iter().map(|task| (*task).clone()).collect();
        TaskList { version: String::new(), tasks }
    }

    #[test]
    fn a_task_that_waits_leaves_its_turn_to_the_next_one_and_to_removals() {
        let now = Instant::now();
        let (a, b) = (task("a", TaskOrder::Deliver), task("b", TaskOrder::Deliver));
        let mut waits = TaskWaits::default();
        assert_eq!(waits.choose(list(&[&a, &b]), now), Some(a.clone()));
        waits.note(&a, true, now);
        assert_eq!(waits.choose(list(&[&a, &b]), now), Some(b.clone()));
        assert_eq!(waits.choose(list(&[&a]), now), None);
        assert_eq!(waits.choose(list(&[&a, &b]), now + PAUSE), Some(a.clone()));
        let retried = NodeTask { attempt: 2, ..a.clone() };
        assert_eq!(waits.choose(list(&[&retried, &b]), now), Some(retried));
        let removal = task("c", TaskOrder::Remove);
        assert_eq!(waits.choose(list(&[&b, &removal]), now), Some(removal));
        waits.retain_listed(&list(&[&b]));
        assert_eq!(waits.choose(list(&[&a, &b]), now), Some(a));
    }

    #[test]
    fn absent_files_are_given_up_after_some_tries_and_a_minute_and_busy_ones_never() {
        let (task, start) = (task("a", TaskOrder::Deliver), Instant::now());
        let (mut absent, mut busy) = (TaskWaits::default(), TaskWaits::default());
        for _ in 0..3 {
            absent.note(&task, true, start);
        }
        assert!(!absent.has_waited_enough(&task, start + LEAST_TIME), "too few tries");
        absent.note(&task, true, start);
        assert!(!absent.has_waited_enough(&task, start), "too early");
        assert!(absent.has_waited_enough(&task, start + LEAST_TIME));
        let retried = NodeTask { attempt: 2, ..task.clone() };
        assert!(!absent.has_waited_enough(&retried, start + LEAST_TIME));
        for _ in 0..9 {
            busy.note(&task, false, start);
        }
        assert!(!busy.has_waited_enough(&task, start + LEAST_TIME));
    }
}
