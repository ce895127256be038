//! Pulls under way, and what is remembered of earlier ones.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::Arc,
};

use edge_mirror_protocol::{
    package::{PackageId, Sha256},
    relay::auth::PackageVersion,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Catalogue, Flight, MAX_FLIGHTS, MAX_FLIGHTS_PER_CLIENT, PullError, admission::Refusals,
    withhold::WithheldChanges,
};

/// Versions and bad parents that are remembered; a node has fewer packages.
const MAX_REMEMBERED: usize = 1024;

/// A node that sent wrong bytes of a package. Of another version, it may send the right ones.
#[derive(PartialEq, Eq)]
struct BadParent {
    id: PackageId,
    version: PackageVersion,
    node_id: String,
}

pub(super) struct FetchState {
    pub(super) flights: HashMap<PackageId, Arc<Flight>>,
    pub(super) refusals: Refusals,
    pub(super) catalogue: Arc<Catalogue>,
    /// The time since which the main server lists these active meetings without an
    /// offer: their packages are being made.
    pub(super) unoffered: HashMap<PackageId, Instant>,
    /// An offer did not come in time, and there is none for any other meeting: this
    /// version may make no offers.
    pub(super) offer_timed_out: bool,
    /// Ends the flights of one run of the service.
    pub(super) run: CancellationToken,
    /// Changes of manifests that are not saved yet.
    pub(super) withheld_changes: WithheldChanges,
    /// Versions of stored packages by which siblings ask for them.
    pub(super) versions: HashMap<PackageId, (Sha256, PackageVersion)>,
    /// Nodes that sent wrong bytes of a version of a package; the oldest first.
    bad_parents: VecDeque<BadParent>,
}

impl FetchState {
    pub(super) fn new(run: CancellationToken) -> Self {
        Self {
            flights: HashMap::new(),
            refusals: Refusals::default(),
            catalogue: Arc::default(),
            unoffered: HashMap::new(),
            offer_timed_out: false,
            run,
            withheld_changes: WithheldChanges::default(),
            versions: HashMap::new(),
            bad_parents: VecDeque::new(),
        }
    }

    /// Remembers by which version siblings will ask for these bytes.
    pub(super) fn note_version(
        &mut self,
        id: &PackageId,
        sha256: Sha256,
        version: Option<PackageVersion>,
    ) {
        if self.versions.len() >= MAX_REMEMBERED {
            self.versions.clear();
        }
        match version {
            Some(version) => drop(self.versions.insert(id.clone(), (sha256, version))),
            None => drop(self.versions.remove(id)),
        }
    }

    pub(super) fn note_bad_parent(
        &mut self,
        id: &PackageId,
        version: &PackageVersion,
        node_id: &str,
    ) {
        if !self.is_bad_parent(id, version, node_id) {
            let (id, version, node_id) = (id.clone(), version.clone(), node_id.to_owned());
            self.bad_parents.push_back(BadParent { id, version, node_id });
            if self.bad_parents.len() > MAX_REMEMBERED {
                self.bad_parents.pop_front();
            }
        }
    }

    pub(super) fn is_bad_parent(
        &self,
        id: &PackageId,
        version: &PackageVersion,
        node_id: &str,
    ) -> bool {
        let is_it =
            |bad: &BadParent| bad.id == *id && bad.version == *version && bad.node_id == node_id;
        self.bad_parents.iter().any(is_it)
    }

    /// Checks if a pull may begin for a meeting that is not known to be active.
    pub(super) fn admit_unlisted(&self, client: Option<IpAddr>) -> Result<(), PullError> {
        let unlisted = || self.flights.values().filter(|flight| flight.is_unlisted());
        if unlisted().filter(|flight| flight.client() == client).count() >= MAX_FLIGHTS_PER_CLIENT {
            return Err(PullError::ClientBusy);
        }
        match unlisted().count() >= MAX_FLIGHTS {
            true => Err(PullError::Busy),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_bad_for_one_version_of_one_package_and_the_oldest_are_forgotten() {
        let mut state = FetchState::new(CancellationToken::new());
        let version = |n: u8| PackageVersion::Digest(Sha256::new([n; 32]));
        let [m, other] = ["m", "other"].map(|id| id.parse::<PackageId>().unwrap());
        state.note_bad_parent(&m, &version(1), "bad");
        state.note_bad_parent(&m, &version(1), "bad");
        assert_eq!(state.bad_parents.len(), 1);
        for (id, version, node_id, expected) in [
            (&m, version(1), "bad", true),
            (&m, version(1), "good", false),
            (&m, version(2), "bad", false),
            (&other, version(1), "bad", false),
        ] {
            assert_eq!(state.is_bad_parent(id, &version, node_id), expected, "{id} {version}");
        }
        for n in 0..MAX_REMEMBERED {
            state.note_bad_parent(&m, &version(2), &format!("node-{n}"));
        }
        assert_eq!(state.bad_parents.len(), MAX_REMEMBERED);
        assert!(!state.is_bad_parent(&m, &version(1), "bad"));
    }
}
