//! Meetings that have not been started, whose packages are to be here by then: which of
//! them to pull next. Pure, but for the look into the store.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use edge_mirror_protocol::{
    Fault,
    fleet::FleetOrigins,
    package::{PackageId, Sha256},
    relay::PrestageOffer,
};
use edge_mirror_store::{Store, StoredPackage};
use tokio::time::Instant;

use super::failure::next_failure;
use crate::{
    board::{ActiveMeetings, PrestagedMeeting, PullFailure},
    fetch::Offer,
};

/// The packages that the main server wants to be here before their meetings start.
#[derive(Default)]
pub(crate) struct PrestageList {
    /// In the order of the ids, as at all other nodes: so they pull the same one.
    packages: BTreeMap<PackageId, PrestagedPackage>,
    /// The main server has said so.
    pub(crate) is_known: bool,
    shown: Arc<BTreeMap<PackageId, PrestagedMeeting>>,
}

struct PrestagedPackage {
    offer: PrestageOffer,
    /// The stored package, as of the last look at the store.
    held: Option<Sha256>,
    is_under_way: bool,
    failing: Option<PullFailure>,
    not_before: Option<Instant>,
}

impl PrestagedPackage {
    fn new(offer: PrestageOffer) -> Self {
        Self { offer, held: None, is_under_way: false, failing: None, not_before: None }
    }

    fn is_here(&self) -> bool {
        self.held == Some(self.offer.sha256)
    }
}

impl PrestageList {
    /// Takes in a list. Returns the packages whose pulls are to end: those that are not
    /// listed any more, nor active, and those of another version.
    pub(crate) fn take(
        &mut self,
        offers: &HashMap<PackageId, PrestageOffer>,
        active: &ActiveMeetings,
    ) -> Vec<PackageId> {
        let mut before = std::mem::take(&mut self.packages);
        let mut ended = Vec::new();
        for (id, offer) in offers.iter().filter(|(id, _)| !active.contains(id)) {
            let known = match before.remove(id) {
                Some(known) if known.offer.sha256 == offer.sha256 => {
                    PrestagedPackage { offer: offer.clone(), ..known }
                }
                Some(known) => {
                    ended.extend(known.is_under_way.then(|| id.clone()));
                    PrestagedPackage { held: known.held, ..PrestagedPackage::new(offer.clone()) }
                }
                None => PrestagedPackage::new(offer.clone()),
            };
            self.packages.insert(id.clone(), known);
        }
        ended.extend(before.into_keys().filter(|id| !active.contains(id)));
        self.is_known = true;
        ended
    }

    /// Drops what has been started, whether or not there is another list.
    pub(crate) fn drop_started(&mut self, active: &ActiveMeetings) {
        self.packages.retain(|id, _| !active.contains(id));
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = &PackageId> {
        self.packages.keys()
    }

    /// The offers for pulls.
    pub(crate) fn catalogue(&self) -> HashMap<PackageId, Offer> {
        let offer = |(id, package): (&PackageId, &PrestagedPackage)| {
            let PrestageOffer { title, sha256, size, package_url } = package.offer.clone();
            let offer = Offer {
                title: Some(title),
                path: Some(package_url),
                sha256: Some(sha256),
                size_bytes: Some(size),
                ..Offer::default()
            };
            (id.clone(), offer)
        };
        self.packages.iter().map(offer).collect()
    }

    /// Looks up the stored packages. Returns those that clients could have.
    pub(crate) fn refresh(
        &mut self,
        store: &Store,
        fleet: &FleetOrigins,
    ) -> Vec<Arc<StoredPackage>> {
        let mut given = Vec::new();
        for (id, package) in &mut self.packages {
            let stored = store.get(id).filter(|stored| stored.is_of_fleet(fleet));
            package.held = stored.as_ref().map(|stored| stored.manifest.sha256);
            given.extend(stored.filter(|stored| !stored.manifest.withheld));
        }
        given
    }

    /// The package to pull now: one at a time. Other nodes may begin more.
    pub(crate) fn next_pull(&self, now: Instant) -> Option<PackageId> {
        if self.packages.values().any(|package| package.is_under_way) {
            return None;
        }
        let is_due = |package: &PrestagedPackage| {
            !package.is_here() && package.not_before.is_none_or(|at| at <= now)
        };
        let (id, _) = self.packages.iter().find(|(_, package)| is_due(package))?;
        Some(id.clone())
    }

    pub(crate) fn note_pulling(&mut self, id: &PackageId) {
        if let Some(package) = self.packages.get_mut(id) {
            package.is_under_way = true;
        }
    }

    /// A round of pulling has ended, with an error or without.
    pub(crate) fn note_end(
        &mut self,
        id: &PackageId,
        failed: Option<Fault>,
        retry_delay: Duration,
    ) {
        let Some(package) = self.packages.get_mut(id) else { return };
        package.is_under_way = false;
        (package.failing, package.not_before) = match failed {
            Some(error) => {
                let (failing, at) = next_failure(package.failing.as_ref(), error, retry_delay);
                (Some(failing), Some(at))
            }
            None => (None, None),
        };
    }

    /// Its pull was ended: with the service, for another version, or as a client began it.
    pub(crate) fn note_stop(&mut self, id: &PackageId) {
        if let Some(package) = self.packages.get_mut(id) {
            package.is_under_way = false;
        }
    }

    pub(crate) fn retry_all(&mut self) {
        self.packages.values_mut().for_each(|package| package.not_before = None);
    }

    /// When the next pull that has failed is due again.
    pub(crate) fn next_look(&self) -> impl Iterator<Item = Instant> {
        let idle = self.packages.values().filter(|package| !package.is_under_way);
        idle.filter_map(|package| package.not_before)
    }

    /// Snapshot for pages and heartbeats; the same one as before where nothing has changed.
    pub(crate) fn view(&mut self) -> Arc<BTreeMap<PackageId, PrestagedMeeting>> {
        let meeting = |package: &PrestagedPackage| PrestagedMeeting {
            title: package.offer.title.clone(),
            sha256: package.offer.sha256,
            size_bytes: package.offer.size,
            is_here: package.is_here(),
            failing: package.failing.clone(),
        };
        let is_same =
            self.packages.len() == self.shown.len()
                && self.packages.iter().zip(&*self.shown).all(
                    |((id, package), (shown, before))| id == shown && meeting(package) == *before,
                );
        if !is_same {
            let now = self.packages.iter().map(|(id, package)| (id.clone(), meeting(package)));
            self.shown = Arc::new(now.collect());
        }
        self.shown.clone()
    }
}

#[cfg(test)]
mod tests {
    use edge_mirror_protocol::{ActiveMeeting, Cause};

    use super::*;

    fn id(name: &str) -> PackageId {
        name.parse().unwrap()
    }

    fn offers(all: &[(&str, u8)]) -> HashMap<PackageId, PrestageOffer> {
        let offer = |version: u8| PrestageOffer {
            title: "T".into(),
            sha256: Sha256::new([version; 32]),
            size: 10,
            package_url: "/uploads/p.zip".into(),
        };
        all.iter().map(|(name, version)| (id(name), offer(*version))).collect()
    }

    fn active(names: &[&str]) -> ActiveMeetings {
        let meeting = |name: &&str| ActiveMeeting {
            id: id(name),
            title: String::new(),
            sha256: None,
            size_bytes: None,
        };
        names.iter().map(meeting).collect::<Vec<_>>().into()
    }

    #[test]
    fn one_is_pulled_at_a_time_and_one_that_failed_holds_nobody_up() {
        let (mut list, now) = (PrestageList::default(), Instant::now());
        assert!(list.take(&offers(&[("b", 1), ("a", 1)]), &active(&[])).is_empty());
        assert_eq!(list.next_pull(now), Some(id("a")));
        list.note_pulling(&id("a"));
        assert_eq!(list.next_pull(now), None);
        let fault = Fault { cause: Cause::NoRoom, text: "full".into() };
        list.note_end(&id("a"), Some(fault), Duration::ZERO);
        assert_eq!(list.next_pull(now), Some(id("b")));
        assert_eq!(list.view()[&id("a")].failing.as_ref().unwrap().rounds, 1);
        list.packages.get_mut(&id("b")).unwrap().held = Some(Sha256::new([1; 32]));
        assert_eq!(list.next_pull(now), None, "not before the pause is over");
        let due = list.next_look().min().unwrap();
        assert_eq!(list.next_pull(due), Some(id("a")));
        list.retry_all();
        assert_eq!(list.next_pull(now), Some(id("a")));
    }

    #[test]
    fn what_is_listed_no_more_or_in_another_version_ends_its_pull_and_what_starts_does_not() {
        let mut list = PrestageList::default();
        list.take(&offers(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]), &active(&[]));
        for name in ["a", "b", "c"] {
            list.note_pulling(&id(name));
        }
        let mut ended = list.take(&offers(&[("a", 2), ("d", 1)]), &active(&["c"]));
        ended.sort();
        assert_eq!(ended, [id("a"), id("b")]);
        assert_eq!(list.next_pull(Instant::now()), Some(id("a")));
        list.take(&offers(&[("a", 2), ("c", 1)]), &active(&["c"]));
        assert_eq!(list.ids().cloned().collect::<Vec<_>>(), [id("a")], "c has started");
        list.drop_started(&active(&["a"]));
        assert_eq!((list.ids().count(), list.catalogue().len()), (0, 0), "and so has a");
    }

    #[test]
    fn a_view_is_the_same_one_while_nothing_changes() {
        let mut list = PrestageList::default();
        list.take(&offers(&[("a", 1)]), &active(&[]));
        let before = list.view();
        list.take(&offers(&[("a", 1)]), &active(&[]));
        assert!(Arc::ptr_eq(&before, &list.view()) && !before[&id("a")].is_here);
        list.packages.get_mut(&id("a")).unwrap().held = Some(Sha256::new([1; 32]));
        assert!(list.view()[&id("a")].is_here);
    }
}
