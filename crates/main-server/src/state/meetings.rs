//! The meetings and the token as they are saved, and how each call changes them.
//! Pure; saving is `repository`'s, packages are the store's.

use edge_mirror_base::clock::{UnixMillis, fractional_seconds};
use edge_mirror_protocol::package::{PackageId, Sha256};
use serde::{Deserialize, Serialize};

use crate::refusal::RequestError;

/// A page of a meeting list, a status answer and the saved file stay within
/// a few megabytes.
pub(crate) const MAX_MEETINGS: usize = 10_000;

/// The only version of the saved format so far.
pub(crate) const FORM: u32 = 1;

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
    /// A package is being replaced while the meeting runs. If set at startup, a
    /// kill interrupted that, and the token may be out of date.
    #[serde(default)]
    pub(crate) replacing: bool,
    /// Number of packages it has had, including one that a kill interrupted; a node
    /// of the old kind that says it has "the" package can be believed only while
    /// there was one.
    #[serde(default)]
    pub versions: u32,
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
            versions: 0,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.status == MeetingPhase::Running
    }
}

/// Everything that is saved, meetings in the order of creation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct MeetingTable {
    pub form: u32,
    /// Opaque; changes whenever something changed.
    pub token: String,
    pub meetings: Vec<Meeting>,
}

impl Default for MeetingTable {
    fn default() -> Self {
        Self { form: FORM, token: fresh_token(), meetings: Vec::new() }
    }
}

impl MeetingTable {
    pub(crate) fn find(&self, id: &PackageId) -> Option<&Meeting> {
        self.meetings.iter().find(|meeting| meeting.id == *id)
    }

    pub(crate) fn get(&self, id: &PackageId) -> Result<&Meeting, RequestError> {
        self.find(id).ok_or_else(|| RequestError::UnknownMeeting(id.clone()))
    }

    fn get_mut(&mut self, id: &PackageId) -> Result<&mut Meeting, RequestError> {
        let found = self.meetings.iter_mut().find(|meeting| meeting.id == *id);
        found.ok_or_else(|| RequestError::UnknownMeeting(id.clone()))
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &Meeting> {
        self.meetings.iter().filter(|meeting| meeting.is_running())
    }

    pub(crate) fn create(&mut self, meeting: Meeting) -> Result<(), RequestError> {
        if self.find(&meeting.id).is_some() {
            return Err(RequestError::Exists(meeting.id));
        }
        if self.meetings.len() >= MAX_MEETINGS {
            return Err(RequestError::TooManyMeetings(MAX_MEETINGS));
        }
        self.meetings.push(meeting);
        Ok(())
    }

    /// The token changes later, in [`announce`](Self::announce).
    pub(crate) fn start(&mut self, id: &PackageId, now: UnixMillis) -> Result<(), RequestError> {
        let meeting = self.get_mut(id)?;
        if !meeting.is_running() {
            meeting.status = MeetingPhase::Running;
            meeting.started_at = Some(now);
            meeting.ended_at = None;
            meeting.unannounced = true;
        }
        Ok(())
    }

    pub(crate) fn end(&mut self, id: &PackageId, now: UnixMillis) -> Result<(), RequestError> {
        let meeting = self.get_mut(id)?;
        if meeting.status != MeetingPhase::Ended {
            let ran = meeting.is_running();
            meeting.status = MeetingPhase::Ended;
            meeting.ended_at = Some(now);
            meeting.unannounced = false;
            self.renew_token_if(ran);
        }
        Ok(())
    }

    pub(crate) fn delete(&mut self, id: &PackageId) -> Result<(), RequestError> {
        let ran = self.get(id)?.is_running();
        self.meetings.retain(|meeting| meeting.id != *id);
        self.renew_token_if(ran);
        Ok(())
    }

    /// Saved before a package is put in place: after a kill in between, a node that
    /// has the old one must not count as having the new one.
    pub(crate) fn begin_replacement(&mut self, id: &PackageId) -> Result<(), RequestError> {
        let meeting = self.get_mut(id)?;
        meeting.versions = meeting.versions.saturating_add(1);
        // Still set: the last replacement's end could not be saved, and its
        // token with it.
        let running = meeting.is_running();
        let interrupted = std::mem::replace(&mut meeting.replacing, running);
        self.renew_token_if(interrupted);
        Ok(())
    }

    /// Notes that a package was put in place, or not: `before` and `after` tell.
    pub(crate) fn finish_replacement(
        &mut self,
        id: &PackageId,
        before: Option<Sha256>,
        after: Option<Sha256>,
    ) -> Result<(), RequestError> {
        let meeting = self.get_mut(id)?;
        meeting.replacing = false;
        if before == after {
            meeting.versions = meeting.versions.saturating_sub(1);
        } else {
            // A start that nobody knows of yet is announced with the new
            // package, in its own time.
            let known = meeting.is_running() && !meeting.unannounced;
            self.renew_token_if(known);
        }
        Ok(())
    }

    /// Changes the token if started meetings are `due` to be announced, and returns
    /// their ids.
    pub(crate) fn announce(&mut self, due: impl Fn(&Meeting) -> bool) -> Vec<PackageId> {
        let mut announced = Vec::new();
        for meeting in self.meetings.iter_mut().filter(|meeting| meeting.unannounced) {
            if due(meeting) {
                meeting.unannounced = false;
                announced.push(meeting.id.clone());
            }
        }
        self.renew_token_if(!announced.is_empty());
        announced
    }

    /// Recovers from a kill during a replacement. One change of the token too many
    /// costs a poll; one too few leaves old pages on every tablet.
    pub(crate) fn recover(&mut self) {
        let mut interrupted = false;
        for meeting in &mut self.meetings {
            interrupted |= std::mem::take(&mut meeting.replacing);
        }
        self.renew_token_if(interrupted);
    }

    fn renew_token_if(&mut self, changed: bool) {
        if changed {
            self.token = fresh_token();
        }
    }
}

fn fresh_token() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// Generates an id for a meeting.
pub(crate) fn fresh_id() -> String {
    format!("{:08x}", fastrand::u32(..))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> UnixMillis {
        UnixMillis::from_secs_f64(seconds)
    }

    fn id(text: &str) -> PackageId {
        text.parse().unwrap()
    }

    fn book() -> MeetingTable {
        let mut book = MeetingTable::default();
        book.create(Meeting::new(id("m"), "T".into(), String::new(), at(1.0))).unwrap();
        book
    }

    fn started() -> MeetingTable {
        let mut book = book();
        book.start(&id("m"), at(2.0)).unwrap();
        book.announce(|_| true);
        book
    }

    /// True if `change` gave the table another token.
    fn renews(mut book: MeetingTable, change: impl Fn(&mut MeetingTable)) -> bool {
        let before = book.token.clone();
        change(&mut book);
        book.token != before
    }

    #[test]
    fn the_token_changes_exactly_when_clients_have_to_look() {
        let m = &id("m");
        let (a, b) = (Some(Sha256::new([1; 32])), Some(Sha256::new([2; 32])));
        assert!(!renews(book(), |b| b.start(m, at(2.0)).unwrap()), "nodes come first");
        assert!(renews(started(), |b| b.end(m, at(3.0)).unwrap()));
        assert!(renews(started(), |b| b.delete(m).unwrap()));
        assert!(renews(started(), |book| book.finish_replacement(m, a, b).unwrap()));
        assert!(renews(started(), |book| book.finish_replacement(m, None, b).unwrap()));
        assert!(!renews(started(), |book| book.finish_replacement(m, a, a).unwrap()));
        assert!(!renews(started(), |b| b.start(m, at(3.0)).unwrap()));
        assert!(!renews(started(), |b| assert!(b.announce(|_| true).is_empty())));
        assert!(!renews(book(), |b| b.end(m, at(3.0)).unwrap()));
        assert!(!renews(book(), |b| b.delete(m).unwrap()));
        assert!(!renews(book(), |book| book.finish_replacement(m, a, b).unwrap()));
    }

    #[test]
    fn a_package_replaced_before_the_announcement_waits_with_it() {
        let mut book = book();
        book.start(&id("m"), at(2.0)).unwrap();
        let replaced = |b: &mut MeetingTable| {
            b.finish_replacement(&id("m"), None, Some(Sha256::new([1; 32]))).unwrap();
        };
        assert!(!renews(book.clone(), replaced));
        assert!(!renews(book.clone(), |b| assert!(b.announce(|_| false).is_empty())));
        assert!(renews(book, |b| assert_eq!(b.announce(|_| true), [id("m")])));
    }

    #[test]
    fn an_ended_meeting_starts_again_and_has_to_be_announced_again() {
        let mut book = started();
        book.end(&id("m"), at(3.0)).unwrap();
        assert_eq!(book.find(&id("m")).unwrap().ended_at, Some(at(3.0)));
        book.start(&id("m"), at(4.0)).unwrap();
        let meeting = book.find(&id("m")).unwrap();
        assert_eq!((meeting.started_at, meeting.ended_at), (Some(at(4.0)), None));
        assert!(meeting.unannounced && meeting.is_running());
    }

    #[test]
    fn a_kill_in_the_middle_of_a_replacement_changes_the_token_at_the_next_start() {
        let mut book = started();
        book.begin_replacement(&id("m")).unwrap();
        assert!(renews(book.clone(), MeetingTable::recover));
        book.recover();
        assert!(!renews(book, MeetingTable::recover), "once");
        let mut unsaved = started();
        unsaved.begin_replacement(&id("m")).unwrap();
        assert!(renews(unsaved, |b| b.begin_replacement(&id("m")).unwrap()));
        assert!(!renews(started(), MeetingTable::recover));
    }

    #[test]
    fn meetings_are_bounded_and_unique() {
        let mut book = book();
        let again = Meeting::new(id("m"), "U".into(), String::new(), at(1.0));
        assert!(matches!(book.create(again), Err(RequestError::Exists(_))));
        for n in 1..MAX_MEETINGS {
            book.meetings.push(Meeting::new(
                id(&format!("x{n}")),
                String::new(),
                String::new(),
                at(1.0),
            ));
        }
        let beyond = Meeting::new(id("n"), "U".into(), String::new(), at(1.0));
        assert!(matches!(book.create(beyond), Err(RequestError::TooManyMeetings(_))));
    }
}
