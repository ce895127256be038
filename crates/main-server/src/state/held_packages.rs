//! The versions of packages that a node has, by its heartbeats. Pure.
//!
//! Only meetings of this main server are kept, by reference to its own ids: anybody
//! can send a heartbeat, and its texts would fill the memory.

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::{
    MAX_HELD_PACKAGES,
    package::{PackageId, Sha256},
};

/// The packages that a heartbeat lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeldPackagesReport {
    /// Our nodes name the bytes.
    Digests(Vec<(PackageId, Sha256)>),
    /// Nodes of the old kind name meetings only.
    Meetings {
        known: Vec<CurrentPackage>,
        /// Hashes of ids that are no meeting here.
        unknown: Vec<u64>,
    },
}

/// A meeting, and the package that the main server has for it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CurrentPackage {
    pub id: PackageId,
    /// None without a package.
    pub sha256: Option<Sha256>,
    /// The meeting never had another one.
    pub(crate) only_version: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeldPackages {
    /// Sorted by id, without duplicates.
    packages: Vec<HeldPackageRecord>,
    /// A meeting created later under such an id has a package that the node does
    /// not have. A collision costs a pull from elsewhere.
    unknown: Vec<u64>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HeldPackageRecord {
    id: PackageId,
    /// None for an unknown version.
    version: Option<Sha256>,
    /// The heartbeat that listed this version first; None if the node had it when it was
    /// first heard of.
    since: Option<UnixMillis>,
}

/// Hash of an id that is no meeting here.
pub(crate) fn hash_id(id: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

impl HeldPackages {
    /// Returns what the node has after a heartbeat, given what it had after the
    /// previous one (None for an unknown node).
    ///
    /// A node of the old kind never pulls a package twice. So the version
    /// that it has is the one that was offered when it first listed the
    /// meeting, until a heartbeat comes that does not list it. A node that
    /// already lists a meeting when it is first heard of may have pulled any
    /// version that there has been.
    pub(crate) fn from_report(
        previous: Option<&Self>,
        report: HeldPackagesReport,
        now: UnixMillis,
    ) -> Self {
        let held = |(id, version): (PackageId, Option<Sha256>)| {
            let before = previous.and_then(|previous| previous.find(&id));
            let is_same = before.filter(|before| before.version == version);
            let since = is_same.map_or(previous.map(|_| now), |before| before.since);
            HeldPackageRecord { id, version, since }
        };
        let (known, mut unknown) = match report {
            HeldPackagesReport::Digests(packages) => {
                let packages = packages.into_iter().map(|(id, sha256)| held((id, Some(sha256))));
                return Self { packages: sorted(packages.collect()), unknown: Vec::new() };
            }
            HeldPackagesReport::Meetings { known, unknown } => (known, unknown),
        };
        let version = |offered: &CurrentPackage| match previous {
            Some(previous) => match previous.find(&offered.id) {
                Some(held) => held.version,
                None if previous.unknown.binary_search(&hash_id(offered.id.as_str())).is_ok() => {
                    None
                }
                None => offered.sha256,
            },
            None => offered.sha256.filter(|_| offered.only_version),
        };
        let packages = known.into_iter().map(|offered| (version(&offered), offered.id));
        let packages = packages.map(|(version, id)| held((id, version)));
        unknown.truncate(MAX_HELD_PACKAGES);
        unknown.sort_unstable();
        unknown.shrink_to_fit();
        Self { packages: sorted(packages.collect()), unknown }
    }

    pub(crate) fn has(&self, id: &PackageId, current: Sha256) -> bool {
        self.holds(id, current).is_some()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PackageId, Option<Sha256>)> {
        self.packages.iter().map(|held| (&held.id, held.version))
    }

    /// The time since which it has this version, if it has it; that is None if it had it
    /// when it was first heard of.
    pub(crate) fn holds(&self, id: &PackageId, current: Sha256) -> Option<Option<UnixMillis>> {
        let held = self.find(id).filter(|held| held.version == Some(current))?;
        Some(held.since)
    }

    /// Bytes that it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.packages) + size_of_val(&*self.unknown)
    }

    fn find(&self, id: &PackageId) -> Option<&HeldPackageRecord> {
        let at = self.packages.binary_search_by(|held| held.id.cmp(id)).ok()?;
        Some(&self.packages[at])
    }
}

fn sorted(mut packages: Vec<HeldPackageRecord>) -> Vec<HeldPackageRecord> {
    packages.truncate(MAX_HELD_PACKAGES);
    packages.sort_by(|a, b| a.id.cmp(&b.id));
    packages.dedup_by(|a, b| a.id == b.id);
    packages.shrink_to_fit();
    packages
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
    fn live(steps: &[(u8, bool)]) -> Option<HeldPackages> {
        steps.iter().fold(None, |holding, (offered, lists)| {
            let offered = CurrentPackage {
                id: m(),
                sha256: (*offered > 0).then(|| version(*offered)),
                only_version: *offered == 1,
            };
            let known = if *lists { vec![offered] } else { vec![] };
            Some(HeldPackages::from_report(
                holding.as_ref(),
                HeldPackagesReport::Meetings { known, unknown: vec![] },
                UnixMillis::default(),
            ))
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
    fn a_meeting_that_is_made_under_an_id_that_a_node_lists_already_is_not_the_one_it_has() {
        let mut holding = None;
        let mut hear = |is_meeting: bool| {
            let offered = CurrentPackage { id: m(), sha256: Some(version(1)), only_version: true };
            let report = match is_meeting {
                true => HeldPackagesReport::Meetings { known: vec![offered], unknown: vec![] },
                false => HeldPackagesReport::Meetings {
                    known: vec![],
                    unknown: vec![hash_id("m"), hash_id("x")],
                },
            };
            let after = HeldPackages::from_report(holding.as_ref(), report, UnixMillis::default());
            let has_it = after.has(&m(), version(1));
            holding = Some(after);
            has_it
        };
        assert!(hear(true) && !hear(false));
        assert!(!hear(true) && !hear(true));
    }

    #[test]
    fn our_nodes_say_which_bytes_they_have() {
        let says = |n| HeldPackagesReport::Digests(vec![(m(), version(n))]);
        let hear = |before: Option<&_>, report| {
            HeldPackages::from_report(before, report, UnixMillis::default())
        };
        let first = hear(None, says(1));
        assert!(first.has(&m(), version(1)) && !first.has(&m(), version(9)));
        let second = hear(Some(&first), says(2));
        assert!(second.has(&m(), version(2)) && !second.has(&m(), version(1)));
        let gone = hear(Some(&second), HeldPackagesReport::Digests(vec![]));
        assert!(!gone.has(&m(), version(2)));
    }

    #[test]
    fn a_list_without_end_is_cut() {
        let id = |n: usize| format!("m{n}").parse::<PackageId>().unwrap();
        let hear = |report| HeldPackages::from_report(None, report, UnixMillis::default());
        for (listed, kept) in [
            (MAX_HELD_PACKAGES - 1, MAX_HELD_PACKAGES - 1),
            (MAX_HELD_PACKAGES, MAX_HELD_PACKAGES),
            (MAX_HELD_PACKAGES + 1, MAX_HELD_PACKAGES),
        ] {
            let digests = (0..listed).map(|n| (id(n), version(1))).collect();
            let holding = hear(HeldPackagesReport::Digests(digests));
            assert_eq!(holding.iter().count(), kept);
            let unknown = (0..listed as u64).collect();
            let holding = hear(HeldPackagesReport::Meetings { known: vec![], unknown });
            assert_eq!(holding.bytes(), kept * 8);
        }
        let twice = vec![(m(), version(1)), (m(), version(2))];
        assert_eq!(hear(HeldPackagesReport::Digests(twice)).iter().count(), 1);
    }

    #[test]
    fn it_is_known_since_when_a_node_has_a_version() {
        let at = UnixMillis::from_secs;
        let says = |n| HeldPackagesReport::Digests(vec![(m(), version(n))]);
        let hear = |before: Option<&_>, report, now| {
            Some(HeldPackages::from_report(before, report, at(now)))
        };
        let since = |held: &Option<HeldPackages>, n| held.as_ref().unwrap().holds(&m(), version(n));
        let before = hear(None, says(1), 1);
        assert_eq!(since(&before, 1), Some(None), "it had it when it was first heard of");
        let pulled = hear(before.as_ref(), says(2), 2);
        let still = hear(pulled.as_ref(), says(2), 3);
        assert_eq!((since(&still, 2), since(&still, 1)), (Some(Some(at(2))), None));
        let gone = hear(still.as_ref(), HeldPackagesReport::Digests(vec![]), 4);
        let again = hear(gone.as_ref(), says(2), 5);
        assert_eq!(since(&again, 2), Some(Some(at(5))));
    }
}
