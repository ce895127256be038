//! Carries out the planning of who pulls from whom.

use std::sync::{Arc, PoisonError};

use crate::{packages::package_of, server::Server};

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
            .filter_map(|meeting| {
                Some((meeting.id.clone(), package_of(meeting, &self.store)?.sha256))
            })
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
}
