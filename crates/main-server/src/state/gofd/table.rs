//! All tasks of GoFD's clients.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Duration,
};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_gofd::{FileStatus, GofdStatus, TaskStatus};

use super::{GofdPlace, GofdPlaceKind, GofdRefusal, GofdRequest, GofdTask, PlaceReport};

const MAX_TASKS: usize = 500;
/// Places times files of all tasks: an answer lists the files with each place.
const MAX_LISTED: usize = 200_000;
/// A finished task is known for this time.
const KEPT_FINISHED: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub(crate) struct GofdTable(HashMap<String, GofdTask>);

/// The meaning of a post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GofdPosting {
    New,
    /// A task that failed, and is tried again.
    Again,
    /// A task that is under way or done: nothing happens.
    Known,
}

/// A run of a task that a worker carries out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GofdJob {
    pub(crate) request: GofdRequest,
    pub(crate) by: IpAddr,
    pub(crate) run: u32,
    /// The destinations that do not have it.
    pub(crate) places: BTreeMap<String, GofdPlaceKind>,
}

impl GofdTable {
    /// Compares a post with what is there.
    pub(crate) fn look(
        &mut self,
        request: &GofdRequest,
        now: UnixMillis,
    ) -> Result<GofdPosting, GofdRefusal> {
        self.expire(now);
        let Some(task) = self.0.get(&request.id) else {
            let listed = |request: &GofdRequest| request.files.len() * request.ips.len();
            let all: usize = self.0.values().map(|task| listed(&task.request)).sum();
            return match self.0.len() < MAX_TASKS && all + listed(request) <= MAX_LISTED {
                true => Ok(GofdPosting::New),
                false => Err(GofdRefusal::Full(self.0.len())),
            };
        };
        match (task.request.is_same(request), task.status) {
            (false, _) => Err(GofdRefusal::Existed),
            (true, GofdStatus::Failed) => Ok(GofdPosting::Again),
            (true, _) => Ok(GofdPosting::Known),
        }
    }

    /// Takes a post in. `is_missing`: a file of it is not there.
    pub(crate) fn post(
        &mut self,
        request: GofdRequest,
        kinds: BTreeMap<String, GofdPlaceKind>,
        is_missing: bool,
        by: IpAddr,
        now: UnixMillis,
    ) -> Result<(), GofdRefusal> {
        let id = request.id.clone();
        match self.look(&request, now)? {
            GofdPosting::Known => return Ok(()),
            GofdPosting::Again => {
                if let Some(task) = self.0.get_mut(&id) {
                    task.restart(kinds, now);
                }
            }
            GofdPosting::New => {
                let places = kinds.into_iter().map(|(ip, kind)| (ip, GofdPlace::new(kind, now)));
                let shown = |path: &String| FileStatus { filename: path.clone() };
                let task = GofdTask {
                    files: request.files.iter().map(shown).collect(),
                    request,
                    by,
                    status: GofdStatus::Init,
                    run: 1,
                    is_taken: false,
                    is_busy: false,
                    started_at: now,
                    finished_at: None,
                    places: places.collect(),
                };
                self.0.insert(id.clone(), task);
            }
        }
        if let Some(task) = self.0.get_mut(&id).filter(|_| is_missing) {
            task.end(GofdStatus::FileNotExisted, now);
        }
        Ok(())
    }

    pub(crate) fn shown(&mut self, id: &str, now: UnixMillis) -> Option<TaskStatus> {
        self.expire(now);
        self.0.get(id).map(GofdTask::shown)
    }

    /// Cancels a task; a finished one stays as it is. False if there is none.
    pub(crate) fn cancel(&mut self, id: &str, now: UnixMillis) -> bool {
        self.expire(now);
        let Some(task) = self.0.get_mut(id) else { return false };
        if !task.status.is_finished() {
            task.end(GofdStatus::Failed, now);
        }
        true
    }

    /// Takes the report of an agent. True if it changes something.
    pub(crate) fn report(
        &mut self,
        id: &str,
        ip: &str,
        report: PlaceReport,
        now: UnixMillis,
    ) -> bool {
        let Some(task) = self.0.get_mut(id) else { return false };
        let run = task.run;
        let is_told = task
            .places
            .get(ip)
            .is_some_and(|place| place.kind == GofdPlaceKind::Agent && place.is_told);
        is_told && self.note(id, run, ip, report, now)
    }

    /// Notes that an agent is told of the run: from now on its reports count.
    pub(crate) fn tell(&mut self, id: &str, run: u32, ip: &str) {
        let place = self.current(id, run).and_then(|task| task.places.get_mut(ip));
        if let Some(place) = place {
            place.is_told = true;
        }
    }

    /// Notes news of a place in a run. True if it changes something.
    pub(crate) fn note(
        &mut self,
        id: &str,
        run: u32,
        ip: &str,
        report: PlaceReport,
        now: UnixMillis,
    ) -> bool {
        let Some(task) = self.current(id, run) else { return false };
        let Some(place) = task.places.get_mut(ip) else { return false };
        let changes = place.note(report, now);
        task.settle(now);
        changes
    }

    /// Notes that the run has begun.
    pub(crate) fn begin(&mut self, id: &str, run: u32) {
        if let Some(task) = self.current(id, run) {
            task.status = GofdStatus::InProgress;
        }
    }

    /// Ends a run that can't go on: its places have failed, too.
    pub(crate) fn fail(&mut self, id: &str, run: u32, status: GofdStatus, now: UnixMillis) {
        let Some(task) = self.current(id, run) else { return };
        if status == GofdStatus::Failed {
            task.places.values_mut().for_each(|place| {
                place.note(PlaceReport::Failed, now);
            });
        }
        task.end(status, now);
    }

    /// The places of a run that is under way, by address; None once it is over.
    pub(crate) fn places(&self, id: &str, run: u32) -> Option<&BTreeMap<String, GofdPlace>> {
        let task = self.0.get(id).filter(|task| task.run == run && !task.status.is_finished());
        task.map(|task| &task.places)
    }

    /// Notes that nothing is left of a run: another one of the task may begin.
    pub(crate) fn release(&mut self, id: &str) {
        if let Some(task) = self.0.get_mut(id) {
            task.is_busy = false;
        }
    }

    /// Runs that begin now, the oldest first, `room` at most.
    pub(crate) fn take_due(&mut self, room: usize) -> Vec<GofdJob> {
        let mut due: Vec<_> = self
            .0
            .values_mut()
            .filter(|task| !task.is_taken && !task.is_busy && !task.status.is_finished())
            .collect();
        due.sort_by_key(|task| task.started_at);
        let jobs = due.into_iter().take(room).map(|task| {
            (task.is_taken, task.is_busy) = (true, true);
            let open = task.places.iter().filter(|(_, place)| !place.status.is_finished());
            GofdJob {
                request: task.request.clone(),
                by: task.by,
                run: task.run,
                places: open.map(|(ip, place)| (ip.clone(), place.kind.clone())).collect(),
            }
        });
        jobs.collect()
    }

    fn current(&mut self, id: &str, run: u32) -> Option<&mut GofdTask> {
        self.0.get_mut(id).filter(|task| task.run == run && !task.status.is_finished())
    }

    /// Forgets what ended long ago. A run that is still being ended would go on in the
    /// next task of its id.
    fn expire(&mut self, now: UnixMillis) {
        self.0.retain(|_, task| {
            task.is_busy
                || task.finished_at.is_none_or(|at| now.saturating_since(at) < KEPT_FINISHED)
        });
    }
}

#[cfg(test)]
mod tests;
