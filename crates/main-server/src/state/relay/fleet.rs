//! The nodes that pass packages on, as their heartbeats describe them.

use std::time::Duration;

use edge_mirror_protocol::{
    package::{PackageId, Sha256},
    relay::{PullReport, RelayReport, Sibling},
};

use crate::state::held_packages::HeldPackages;

/// Nodes that pull report each second; an older report says nothing of the time since.
const LONGEST_AGE: Duration = Duration::from_millis(1500);

/// A node that passes packages on, or would.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RelayNode<'a> {
    pub node_id: &'a str,
    pub report: &'a RelayReport,
    /// Others can pull from it: it answers, and was heard from just now.
    pub(crate) is_reachable: bool,
    pub(crate) holding: Option<&'a HeldPackages>,
    /// Sorted by id.
    pub pulls: &'a [PullReport],
    /// Time since that report.
    pub(crate) report_age: Duration,
}

impl RelayNode<'_> {
    pub(crate) fn pull(&self, id: &PackageId) -> Option<&PullReport> {
        let at = self.pulls.binary_search_by(|pull| pull.id.cmp(id)).ok()?;
        Some(&self.pulls[at])
    }

    /// False for a report of the past, as of a node that fell silent.
    pub(crate) fn has_fresh_report(&self) -> bool {
        self.report_age <= LONGEST_AGE
    }

    /// Returns the bytes that a pull has by now, at some rate since the report: a second's
    /// reports differ by a second's bytes.
    pub(crate) fn position(&self, pull: &PullReport, rate: u64) -> u64 {
        let age_ms = self.report_age.min(LONGEST_AGE).as_millis();
        let since = u64::try_from(u128::from(rate) * age_ms / 1000).unwrap_or(u64::MAX);
        let position = pull.received_bytes.saturating_add(since);
        position.min(pull.total_bytes.unwrap_or(u64::MAX)).max(pull.received_bytes)
    }

    pub(crate) fn has(&self, id: &PackageId, current: Sha256) -> bool {
        self.holding.is_some_and(|holding| holding.has(id, current))
    }

    pub(crate) fn max_children(&self) -> u32 {
        if self.is_reachable { self.report.max_children } else { 0 }
    }

    pub(crate) fn sibling(&self) -> Sibling {
        Sibling {
            node_id: self.node_id.to_owned(),
            address: self.report.address.clone(),
            https: self.report.https,
            certificate: self.report.certificate,
        }
    }
}
