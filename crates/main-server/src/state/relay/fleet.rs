//! The nodes that pass packages on, as their heartbeats describe them.

use edge_mirror_protocol::{
    package::{PackageId, Sha256},
    relay::{PullReport, RelayReport, Sibling},
};

use crate::state::held_packages::HeldPackages;

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
}

impl RelayNode<'_> {
    pub(crate) fn pull(&self, id: &PackageId) -> Option<&PullReport> {
        let at = self.pulls.binary_search_by(|pull| pull.id.cmp(id)).ok()?;
        Some(&self.pulls[at])
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
