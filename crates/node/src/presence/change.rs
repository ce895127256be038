//! Reasons for a heartbeat that does not wait for its time. Pure.

use std::sync::Arc;

use edge_mirror_protocol::package::{PackageId, Sha256};

use crate::board;

/// The changes since the last heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnreportedChange {
    /// A package was confirmed, has arrived early or turned out to be old, or other meetings
    /// are active.
    Meetings,
    /// Only late checks: versions that were left out are confirmed now.
    LateAnswer,
}

impl UnreportedChange {
    pub(super) fn of(now: &board::SyncState, reported: &board::SyncState) -> Option<Self> {
        // Mostly the very same list; another title is no change.
        let same = Arc::ptr_eq(&reported.active, &now.active)
            || reported.active.iter().map(|m| &m.id).eq(now.active.iter().map(|m| &m.id));
        let here = |sync: &board::SyncState| -> Vec<(PackageId, Sha256)> {
            let here = sync.prestaged.iter().filter(|(_, meeting)| meeting.is_here);
            here.map(|(id, meeting)| (id.clone(), meeting.sha256)).collect()
        };
        let same_early =
            Arc::ptr_eq(&reported.prestaged, &now.prestaged) || here(reported) == here(now);
        if !same || !same_early || reported.confirmed != now.confirmed {
            return Some(Self::Meetings);
        }
        let late = !Arc::ptr_eq(&reported.listed, &now.listed)
            && now.listed.iter().any(|(id, sha256)| reported.listed.get(id) != Some(sha256));
        late.then_some(Self::LateAnswer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_at_once_is_what_whole_rooms_wait_for() {
        let ids = |ids: &[&str]| {
            let meeting = |id: &&str| edge_mirror_protocol::ActiveMeeting {
                id: id.parse().unwrap(),
                title: String::new(),
                sha256: None,
                size_bytes: None,
            };
            Arc::new(board::ActiveMeetings::from(ids.iter().map(meeting).collect::<Vec<_>>()))
        };
        let map = |ids: &[&str], byte| {
            let digest = edge_mirror_protocol::package::Sha256::new([byte; 32]);
            Arc::new(ids.iter().map(|id| (id.parse().unwrap(), digest)).collect())
        };
        let sync = |active: &[&str], confirmed: &[&str], listed: &[&str]| board::SyncState {
            active: ids(active),
            confirmed: map(confirmed, 1),
            listed: map(listed, 1),
            ..board::SyncState::default()
        };
        let told = || sync(&["a", "b"], &["a", "b"], &["a"]);
        for (what, now, news) in [
            ("the same", told(), None),
            ("asked for again", sync(&["a", "b"], &["a", "b"], &[]), None),
            (
                "answered late",
                sync(&["a", "b"], &["a", "b"], &["a", "b"]),
                Some(UnreportedChange::LateAnswer),
            ),
            (
                "another version",
                board::SyncState { confirmed: map(&["a", "b"], 2), ..told() },
                Some(UnreportedChange::Meetings),
            ),
            ("an old one", sync(&["a", "b"], &["a"], &["a"]), Some(UnreportedChange::Meetings)),
            (
                "another meeting",
                sync(&["a", "c"], &["a"], &["a"]),
                Some(UnreportedChange::Meetings),
            ),
        ] {
            assert_eq!(UnreportedChange::of(&now, &told()), news, "{what}");
        }
    }
}
