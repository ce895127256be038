//! Known nodes and those that wait: who is accepted, and what is saved of them.

use std::sync::{Arc, MutexGuard, PoisonError};

use crate::{
    refusal::RequestError,
    server::Server,
    state::{
        fleet::{KnownNodes, NodeClaims, NodePolicy, commands::NodeCommand},
        groups::NodeGroups,
        routing::RoutingRules,
    },
};

impl Server {
    pub(crate) fn known(&self) -> Arc<KnownNodes> {
        self.known.load_full()
    }

    pub(crate) fn claims(&self) -> MutexGuard<'_, NodeClaims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn node_policy(&self) -> NodePolicy {
        self.options.live.peek().nodes
    }

    /// Does what was decided of nodes; the decision is saved.
    pub(super) fn apply_known_nodes(&self, known: KnownNodes) {
        if known.is_same(&self.known.load()) {
            return;
        }
        self.known.store(Arc::new(known.clone()));
        let (mut registry, mut claims) = (self.registry(), self.claims());
        registry.apply_known_nodes(known, &mut claims, self.clock.now());
        drop((registry, claims));
        self.wake.prober.notify_one();
        self.wake.planner.notify_one();
    }

    pub(crate) fn rules(&self) -> Arc<RoutingRules> {
        self.rules.load_full()
    }

    pub(crate) fn groups(&self) -> Arc<NodeGroups> {
        self.groups.load_full()
    }

    pub(super) fn apply_rules(&self, rules: Arc<RoutingRules>) {
        if !Arc::ptr_eq(&rules, &self.rules.load()) {
            self.rules.store(rules.clone());
            self.registry().set_rules(rules);
        }
    }

    /// Saves nodes that came, fell silent or are back.
    pub(crate) async fn save_comings_and_goings(&self) -> Result<(), RequestError> {
        let now = self.clock.now();
        let (learned, changes) = {
            let registry = self.registry();
            let changes = match *self.leads.borrow() {
                true => registry.presence_changes(self.listening_since(), now),
                false => Vec::new(),
            };
            (registry.unsaved(now), changes)
        };
        if !learned.is_empty() {
            self.change(NodeCommand::Learn(learned)).await?;
        }
        if !changes.is_empty() {
            self.change(NodeCommand::NotePresence(changes)).await?;
        }
        Ok(())
    }

    /// Saves when each node was last heard, all in one document.
    pub(crate) async fn save_sightings(&self) -> Result<(), RequestError> {
        let leads = *self.leads.borrow();
        if !leads {
            return Ok(());
        }
        let sightings = self.registry().sightings();
        self.change(NodeCommand::RecordSightings(sightings)).await
    }
}
