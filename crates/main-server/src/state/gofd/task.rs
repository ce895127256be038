//! One task of GoFD's clients.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_gofd::{FileStatus, GofdStatus, IpStatus, TaskStatus};

use super::GofdRequest;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GofdTask {
    pub(crate) request: GofdRequest,
    /// Its files as they are shown, once for all answers.
    pub(super) files: Arc<[FileStatus]>,
    /// The client that posted it.
    pub(crate) by: IpAddr,
    pub(super) status: GofdStatus,
    /// Grows when it is tried again, so that what is left of an earlier run changes nothing.
    pub(super) run: u32,
    /// True once a worker has taken the run.
    pub(super) is_taken: bool,
    /// True until a worker has ended what it began, which may take longer than the task.
    pub(super) is_busy: bool,
    pub(super) started_at: UnixMillis,
    pub(super) finished_at: Option<UnixMillis>,
    /// By address, as it was posted.
    pub(super) places: BTreeMap<String, GofdPlace>,
}

/// A destination of a task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GofdPlace {
    pub(crate) kind: GofdPlaceKind,
    pub(crate) status: GofdStatus,
    pub(crate) percent: f32,
    /// True once the run has told an agent of the task: earlier reports are of another run.
    pub(super) is_told: bool,
    pub(super) started_at: UnixMillis,
    pub(super) finished_at: Option<UnixMillis>,
    /// The last sign of life.
    pub(crate) heard_at: UnixMillis,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GofdPlaceKind {
    /// An agent of GoFD.
    Agent,
    /// Our nodes at that address, by id.
    Nodes(BTreeSet<String>),
}

/// News of a destination.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum PlaceReport {
    /// It has been told to begin.
    Begun,
    /// So many percent are there.
    Progress(f32),
    Completed,
    Failed,
}

impl PlaceReport {
    /// Reads an agent's percentage: GoFD looks at whole numbers. None for nonsense.
    pub(crate) fn from_percent(percent: f64) -> Option<Self> {
        match percent {
            100.0..101.0 => Some(Self::Completed),
            0.0..100.0 =>
            {
                #[expect(clippy::cast_possible_truncation, reason = "GoFD's are of this size")]
                Some(Self::Progress(percent as f32))
            }
            percent if percent <= -1.0 && percent > -2.0 => Some(Self::Failed),
            _ => None,
        }
    }
}

impl GofdPlace {
    pub(super) fn new(kind: GofdPlaceKind, at: UnixMillis) -> Self {
        Self {
            kind,
            status: GofdStatus::Init,
            percent: 0.0,
            is_told: false,
            started_at: at,
            finished_at: None,
            heard_at: at,
        }
    }

    /// True if the report changes something; one that has an outcome keeps it.
    pub(super) fn note(&mut self, report: PlaceReport, at: UnixMillis) -> bool {
        if self.status.is_finished() {
            return false;
        }
        self.heard_at = at;
        let (status, percent) = match report {
            PlaceReport::Begun => (GofdStatus::InProgress, self.percent),
            PlaceReport::Progress(percent) => (GofdStatus::InProgress, percent),
            PlaceReport::Completed => (GofdStatus::Completed, 100.0),
            PlaceReport::Failed => (GofdStatus::Failed, -1.0),
        };
        self.finished_at = status.is_finished().then_some(at);
        let changes = (self.status, self.percent) != (status, percent);
        (self.status, self.percent) = (status, percent);
        changes
    }
}

impl GofdTask {
    /// Ends the task once each destination has an outcome: completed only if all are.
    pub(super) fn settle(&mut self, at: UnixMillis) {
        let mut statuses = self.places.values().map(|place| place.status);
        if self.status.is_finished() || !statuses.clone().all(GofdStatus::is_finished) {
            return;
        }
        self.status = match statuses.all(|status| status == GofdStatus::Completed) {
            true => GofdStatus::Completed,
            false => GofdStatus::Failed,
        };
        self.finished_at = Some(at);
    }

    /// Ends the task; destinations keep what is known of them.
    pub(super) fn end(&mut self, status: GofdStatus, at: UnixMillis) {
        (self.status, self.finished_at) = (status, Some(at));
    }

    /// Begins a failed task again for those that do not have it.
    pub(super) fn restart(&mut self, kinds: BTreeMap<String, GofdPlaceKind>, at: UnixMillis) {
        for (ip, kind) in kinds {
            let done = self
                .places
                .get(&ip)
                .is_some_and(|place| place.status == GofdStatus::Completed && place.kind == kind);
            if !done {
                self.places.insert(ip, GofdPlace::new(kind, at));
            }
        }
        (self.status, self.run, self.is_taken) = (GofdStatus::Init, self.run + 1, false);
        (self.started_at, self.finished_at) = (at, None);
    }

    pub(super) fn shown(&self) -> TaskStatus {
        let places = self.places.iter().map(|(ip, place)| {
            let info = IpStatus {
                status: place.status,
                percent_complete: place.percent,
                started_at: Some(place.started_at),
                finished_at: place.finished_at,
                dispatch_files: self.files.clone(),
            };
            (ip.clone(), info)
        });
        TaskStatus {
            id: self.request.id.clone(),
            status: self.status,
            started_at: Some(self.started_at),
            finished_at: self.finished_at,
            dispatch_infos: places.collect(),
        }
    }
}
