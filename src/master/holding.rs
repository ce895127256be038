//! Which version of which package a node has, as far as its heartbeats tell.
//! Pure.

use std::collections::HashMap;

use crate::package::{PackageId, Sha256};

/// Entries of a heartbeat's lists beyond these are ignored: a node with room
/// for more packages than this has not been seen, and 4096 nodes' lists have
/// to fit in memory.
pub const MAX_LISTED: usize = 1000;

/// What a heartbeat says that the node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Our nodes name the bytes.
    Digests(Vec<(PackageId, Sha256)>),
    /// Nodes of the old kind name meetings only.
    Ids(Vec<PackageId>),
}

/// The package that the main server has for a meeting now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    pub sha256: Sha256,
    /// The meeting never had another one.
    pub only_version: bool,
}

/// None as the digest: some version, nobody knows which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding(HashMap<PackageId, Option<Sha256>>);

impl Holding {
    /// What the node has after a heartbeat, given what it had after the one
    /// before (none for a node that was not known).
    ///
    /// A node of the old kind never pulls a package twice. So the version
    /// that it has is the one that was offered when it first listed the
    /// meeting, until a heartbeat comes that does not list it. A node that
    /// already lists a meeting when it is first heard of may have pulled any
    /// version that there has been.
    pub fn after(
        previous: Option<&Self>,
        report: Report,
        offered: impl Fn(&PackageId) -> Option<Offered>,
    ) -> Self {
        let ids = match report {
            Report::Digests(packages) => {
                let known = packages.into_iter().take(MAX_LISTED);
                return Self(known.map(|(id, sha256)| (id, Some(sha256))).collect());
            }
            Report::Ids(ids) => ids,
        };
        let version = |id: &PackageId| match previous {
            Some(previous) => match previous.0.get(id) {
                Some(version) => *version,
                None => offered(id).map(|offered| offered.sha256),
            },
            None => offered(id).filter(|offered| offered.only_version).map(|o| o.sha256),
        };
        Self(
            ids.into_iter()
                .take(MAX_LISTED)
                .map(|id| (version(&id), id))
                .map(|(v, id)| (id, v))
                .collect(),
        )
    }

    pub fn has(&self, id: &PackageId, current: Sha256) -> bool {
        self.0.get(id) == Some(&Some(current))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&PackageId, Option<Sha256>)> {
        self.0.iter().map(|(id, version)| (id, *version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn m() -> PackageId {
        "m".parse().unwrap()
    }

    fn version(n: u8) -> Sha256 {
        Sha256::new([n; 32])
    }

    /// One step of a node's life: the version offered then (0: none, 1: the
    /// only one so far, above: a later one), and whether it lists the meeting.
    fn live(steps: &[(u8, bool)]) -> Option<Holding> {
        steps.iter().fold(None, |holding, (offered, lists)| {
            let ids = if *lists { vec![m()] } else { vec![] };
            let offer = (*offered > 0)
                .then(|| Offered { sha256: version(*offered), only_version: *offered == 1 });
            Some(Holding::after(holding.as_ref(), Report::Ids(ids), |_| offer))
        })
    }

    #[test]
    fn a_node_of_the_old_kind_has_what_was_offered_when_it_first_listed_it() {
        for (steps, now, has_it) in [
            (&[(1, false)][..], 1, false),
            (&[(1, false), (1, true)], 1, true),
            (&[(1, false), (1, true), (1, true)], 1, true),
            (&[(1, true)], 1, true),
            // Replaced while listed: the old node never pulls again.
            (&[(1, false), (1, true)], 2, false),
            (&[(1, false), (1, true), (2, true), (2, true)], 2, false),
            // Until it dropped the old one.
            (&[(1, false), (1, true), (2, false), (2, true)], 2, true),
            // Replaced before it had any.
            (&[(1, false), (2, true)], 2, true),
            // The first version put back.
            (&[(1, false), (1, true), (2, true)], 1, true),
            // Unknown before, and there have been several versions.
            (&[(2, true)], 2, false),
            (&[(2, true), (2, true)], 2, false),
            (&[(2, true), (2, false), (2, true)], 2, true),
            (&[(0, true), (1, true)], 1, false),
        ] {
            let holding = live(steps).unwrap();
            assert_eq!(holding.has(&m(), version(now)), has_it, "{steps:?} then {now}");
        }
    }

    #[test]
    fn our_nodes_say_which_bytes_they_have() {
        let offered = |_: &PackageId| Some(Offered { sha256: version(9), only_version: true });
        let says = |n| Report::Digests(vec![(m(), version(n))]);
        let first = Holding::after(None, says(1), offered);
        assert!(first.has(&m(), version(1)) && !first.has(&m(), version(9)));
        let second = Holding::after(Some(&first), says(2), offered);
        assert!(second.has(&m(), version(2)) && !second.has(&m(), version(1)));
        let gone = Holding::after(Some(&second), Report::Digests(vec![]), offered);
        assert!(!gone.has(&m(), version(2)));
    }

    #[test]
    fn a_list_without_end_is_cut() {
        let ids = (0..2 * MAX_LISTED).map(|n| format!("m{n}").parse().unwrap()).collect();
        let holding = Holding::after(None, Report::Ids(ids), |_| None);
        assert_eq!(holding.iter().count(), MAX_LISTED);
    }
}
