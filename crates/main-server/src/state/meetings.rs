//! The meetings and the token as they are saved. Pure; how they change is in
//! `commands`, saving is `repository`'s, packages are the store's.

use edge_mirror_base::clock::{UnixMillis, fractional_seconds};
use edge_mirror_protocol::package::{PackageId, Sha256};
use serde::{Deserialize, Serialize};

use crate::refusal::RequestError;

/// A page of the meeting list and a status answer stay within a few megabytes.
pub(crate) const MAX_MEETINGS: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "MeetingStatus"))]
pub(crate) enum MeetingPhase {
    #[serde(rename = "未开始")]
    Waiting,
    #[serde(rename = "进行中")]
    Running,
    #[serde(rename = "已结束")]
    Ended,
}

/// Times are saved as seconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Meeting {
    pub id: PackageId,
    pub title: String,
    pub time: String,
    pub status: MeetingPhase,
    #[serde(with = "fractional_seconds")]
    pub(crate) created_at: UnixMillis,
    #[serde(default, with = "fractional_seconds::option")]
    pub(crate) started_at: Option<UnixMillis>,
    #[serde(default, with = "fractional_seconds::option")]
    pub(crate) ended_at: Option<UnixMillis>,
    /// Started, but not in the token yet: nodes get the package first.
    #[serde(default)]
    pub(crate) unannounced: bool,
    /// A package is being put in place. If set at startup, a kill interrupted that, and the
    /// token may be out of date.
    #[serde(default)]
    pub(crate) replacing: bool,
    /// Nodes get the package before the meeting is started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) prestaged: bool,
    /// Number of packages it has had, including one that a kill interrupted; a node
    /// of the old kind that says it has "the" package can be believed only while
    /// there was one.
    #[serde(default)]
    pub versions: u32,
    /// Its package in the shared package store. With one, this is the meeting's package,
    /// whatever lies in the data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) package: Option<PackageBlob>,
}

/// A package in the shared package store; its digest is its name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackageBlob {
    pub(crate) sha256: Sha256,
    pub(crate) size: u64,
    pub(crate) file_count: u64,
    /// Its date, the same at all main servers; seconds since 1970.
    pub(crate) modified_s: u64,
}

impl Meeting {
    pub(crate) fn new(id: PackageId, title: String, time: String, now: UnixMillis) -> Self {
        Self {
            id,
            title,
            time,
            status: MeetingPhase::Waiting,
            created_at: now,
            started_at: None,
            ended_at: None,
            unannounced: false,
            replacing: false,
            prestaged: false,
            versions: 0,
            package: None,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.status == MeetingPhase::Running
    }
}

/// Everything that is saved, meetings in the order of creation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MeetingTable {
    /// Opaque; changes whenever something changed.
    pub token: String,
    pub meetings: Vec<Meeting>,
}

impl Default for MeetingTable {
    fn default() -> Self {
        Self { token: fresh_token(), meetings: Vec::new() }
    }
}

impl MeetingTable {
    pub(crate) fn find(&self, id: &PackageId) -> Option<&Meeting> {
        self.meetings.iter().find(|meeting| meeting.id == *id)
    }

    pub(crate) fn get(&self, id: &PackageId) -> Result<&Meeting, RequestError> {
        self.find(id).ok_or_else(|| RequestError::UnknownMeeting(id.clone()))
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &Meeting> {
        self.meetings.iter().filter(|meeting| meeting.is_running())
    }

    pub(crate) fn prestaged(&self) -> impl Iterator<Item = &Meeting> {
        self.meetings.iter().filter(|meeting| meeting.prestaged)
    }

    /// Carries out what [`apply`](super::commands::apply) answered.
    pub(crate) fn merge(&mut self, changes: &MeetingChanges) {
        for change in &changes.meetings {
            match change {
                MeetingChange::Put(meeting) => {
                    match self.meetings.iter_mut().find(|other| other.id == meeting.id) {
                        Some(known) => *known = meeting.clone(),
                        None => self.meetings.push(meeting.clone()),
                    }
                }
                MeetingChange::Remove(id) => self.meetings.retain(|meeting| meeting.id != *id),
            }
        }
        if let Some(token) = &changes.token {
            self.token.clone_from(token);
        }
    }
}

/// The meetings that one command changed, or several one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MeetingChanges {
    /// The last of those of one meeting counts.
    pub meetings: Vec<MeetingChange>,
    pub token: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum MeetingChange {
    Put(Meeting),
    Remove(PackageId),
}

impl MeetingChanges {
    /// These, and then `later` ones.
    pub(crate) fn extend(&mut self, later: Self) {
        self.meetings.extend(later.meetings);
        self.token = later.token.or(self.token.take());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.meetings.is_empty() && self.token.is_none()
    }

    pub(crate) fn put(meeting: Meeting) -> Self {
        Self { meetings: vec![MeetingChange::Put(meeting)], token: None }
    }

    pub(crate) fn with_token_if(mut self, is_news: bool, next_token: String) -> Self {
        self.token = is_news.then_some(next_token);
        self
    }
}

/// Generates a token that nobody has seen.
pub(crate) fn fresh_token() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// Generates an id for a meeting.
pub(crate) fn fresh_id() -> String {
    format!("{:08x}", fastrand::u32(..))
}
