//! The time at which clients are told of a started meeting: once nodes have its package, or
//! after a while.

use std::{sync::PoisonError, time::Duration};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::package::PackageId;

use crate::{
    packages::package_of,
    server::Server,
    state::{
        announce,
        meetings::{Meeting, MeetingTable},
    },
};

/// Nodes may have died meanwhile.
const LONGEST_ANNOUNCER_WAIT: Duration = Duration::from_secs(1);

impl Server {
    /// The time from which on a start waits for nodes. Where another main server may have
    /// started the meeting, its clock may be another one: the time when it was seen counts.
    fn waiting_since(&self, meeting: &Meeting, now: UnixMillis) -> UnixMillis {
        match self.unshared {
            None => meeting.started_at.unwrap_or(now),
            Some(_) => {
                let mut seen = self.starts_seen.lock().unwrap_or_else(PoisonError::into_inner);
                *seen.entry(meeting.id.clone()).or_insert(now)
            }
        }
    }

    fn is_due(&self, meeting: &Meeting, now: UnixMillis) -> bool {
        let waited = now.checked_since(self.waiting_since(meeting, now));
        // Without a package there is nothing that nodes could get first.
        let Some(current) = package_of(meeting, &self.store) else { return true };
        let registry = self.registry();
        let nodes = registry.readiness(&meeting.id, current.sha256, now);
        let others = self.is_awaiting_nodes(&registry, now).then_some(false);
        announce::is_due(waited, self.announce_timeout, nodes.chain(others))
    }

    /// The started meetings of which clients can be told now.
    pub(crate) fn due_announcements(&self, table: &MeetingTable) -> Vec<PackageId> {
        let now = self.clock.now();
        let leads = *self.leads.borrow();
        if !leads {
            return Vec::new();
        }
        let waiting = table.meetings.iter().filter(|meeting| meeting.unannounced);
        let due = waiting.filter(|meeting| self.is_due(meeting, now));
        due.map(|meeting| meeting.id.clone()).collect()
    }

    /// The time until an announcement may be due; None while nothing waits for it.
    pub(crate) fn next_announcement(&self) -> Option<Duration> {
        let (now, book) = (self.clock.now(), self.book());
        if !book.has_unannounced() {
            return None;
        }
        let waiting = book.meetings.iter().filter(|meeting| meeting.unannounced);
        let left = waiting.map(|meeting| {
            let ends = self.waiting_since(meeting, now) + self.announce_timeout;
            ends.saturating_since(now)
        });
        let wait = left.min()?;
        Some(wait.clamp(Duration::from_millis(1), LONGEST_ANNOUNCER_WAIT))
    }
}
