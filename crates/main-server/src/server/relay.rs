//! Carries out the planning of who pulls from whom.

use std::sync::{Arc, PoisonError};

use edge_mirror_protocol::relay::{PackageAssignment, PrestageOffer, RelayAssignment};

use crate::{
    server::Server,
    state::{package_name::package_url, relay::RelayPlan},
};

impl Server {
    /// Plans anew, and publishes the plan if nodes are to be told of it. One at a time,
    /// each with the meetings and nodes of then, so that no older plan replaces a newer
    /// one.
    pub(crate) fn plan_relays(&self) {
        let mut uplinks = self.uplinks.lock().unwrap_or_else(PoisonError::into_inner);
        let (book, previous, now) = (self.book(), self.relay.borrow().clone(), self.clock.now());
        // A meeting that runs comes before those that do not yet.
        let spread = book.running().chain(book.prestaged());
        let packages: Vec<_> = spread
            .filter_map(|meeting| Some((meeting.id.clone(), self.digest(&meeting.id)?)))
            .collect();
        let plan = {
            let registry = self.registry();
            let nodes = registry.relay_nodes(now);
            *uplinks = uplinks.with_reports(&nodes, now);
            previous.next(&nodes, &packages, &uplinks, now)
        };
        let is_news = !plan.assigns_as(&previous);
        self.relay.send_if_modified(|current| {
            *current = Arc::new(plan);
            is_news
        });
    }

    /// The parents that a node is told of, and the packages that it is to get before their
    /// meetings start, also if it has them: as long as they are listed, it keeps them.
    /// None for a node that passes no packages on.
    pub(crate) fn assignments(
        &self,
        plan: &RelayPlan,
        node_id: &str,
    ) -> Option<Vec<PackageAssignment>> {
        let mut assignments = plan.assignments(node_id)?;
        for meeting in self.book().prestaged() {
            let Some(stored) = self.store.get(&meeting.id) else { continue };
            let offer = PrestageOffer {
                title: meeting.title.clone(),
                sha256: stored.manifest.sha256,
                size: stored.manifest.size_bytes,
                package_url: package_url(&meeting.id),
            };
            match assignments.iter_mut().find(|assigned| assigned.id == meeting.id) {
                Some(assigned) => assigned.prestage = Some(offer),
                None => assignments.push(PackageAssignment {
                    id: meeting.id.clone(),
                    assignment: RelayAssignment::default(),
                    prestage: Some(offer),
                }),
            }
        }
        Some(assignments)
    }
}
