//! The other main servers of the fleet, and the nodes' calls that they have to know of.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError},
    time::Duration,
};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_http::access::{ChangedAccess, VaultError};
use serde_json::{Map, Value};
use tracing::{debug, error};

use super::Server;
use crate::state::{
    fleet::{KnownNode, NodeCaller, NodePresence},
    meetings::MeetingTable,
    registry::{NodeReachability, NodeRegistry, RegisteredNode},
    shared_calls::{NodeCall, ProbedNode, SharedCall},
};

/// A main server that writes nothing for this long is silent.
const SILENCE: Duration = Duration::from_secs(10);
/// One that has been silent for this long is not listed any more.
const LISTED_FOR: Duration = Duration::from_secs(3600);

/// Nodes that a main server had before it was started again are back by then.
const RETURN: Duration = Duration::from_secs(10);

/// The main servers that were heard of, and when.
pub(super) type OtherServers = HashMap<Arc<str>, UnixMillis>;

impl Server {
    /// Keeps a node's call for the other main servers, if there may be any.
    pub(crate) fn share(
        &self,
        call: fn(NodeCall) -> SharedCall,
        caller: NodeCaller,
        body: &Map<String, Value>,
    ) {
        let Some(unshared) = &self.unshared else { return };
        let node_id = body.get("node_id").and_then(Value::as_str).unwrap_or_default();
        let is_pending = !self.registry().calls_here(node_id, self.clock.now());
        unshared.push(&call(NodeCall::new(caller, is_pending, body.clone())));
    }

    /// Likewise the outcome of a probe.
    pub(crate) fn share_probe(&self, node_id: &str, address: &str, reach: &NodeReachability) {
        let Some(unshared) = &self.unshared else { return };
        let (https, reason) = match reach {
            NodeReachability::Reachable { https } => (Some(*https), String::new()),
            NodeReachability::Unreachable(reason) => (None, reason.clone()),
            NodeReachability::Unknown => return,
        };
        let (node_id, address) = (node_id.to_owned(), address.to_owned());
        unshared.push(&SharedCall::Probed(ProbedNode { node_id, address, https, reason }));
    }

    /// The credentials that all main servers have, as saved last.
    pub(super) fn shared_access(&self) -> Option<Arc<str>> {
        Option::clone(&self.shared_access.load())
    }

    /// Has operators log in by what another main server has saved.
    pub(super) fn apply_access(&self, access: Option<Arc<str>>) {
        if self.shared_access() == access {
            return;
        }
        self.shared_access.store(Arc::new(access));
        if let Err(cause) = self.merge_access() {
            error!("credentials that another main server changed are not used here: {cause}");
        }
    }

    fn merge_access(&self) -> Result<(), VaultError> {
        let Some(shared) = self.shared_access().filter(|_| self.unshared.is_some()) else {
            return Ok(());
        };
        if self.access.vault().merge_shared(&shared)? {
            self.wake.gauge.notify_one();
        }
        Ok(())
    }

    /// The credentials, if they were changed here. Blocks.
    pub(crate) fn changed_access(&self) -> Option<ChangedAccess> {
        if let Err(cause) = self.merge_access() {
            // Where the disk is full, for example: what was changed before is shared all the same.
            debug!("credentials that another main server changed are not used yet: {cause}");
        }
        let vault = self.access.vault();
        match self.shared_access().is_some() {
            true => vault.changed_access(),
            // Nobody has shared any in this database, whatever the file was shared in before.
            false => vault.first_access(),
        }
    }

    /// Notes when the meetings that wait to be announced were first seen.
    pub(super) fn note_starts(&self, meetings: &MeetingTable) {
        if self.unshared.is_none() {
            return;
        }
        let now = self.clock.now();
        let waiting = meetings.meetings.iter().filter(|meeting| meeting.unannounced);
        let waiting: HashSet<_> = waiting.map(|meeting| meeting.id.clone()).collect();
        let mut seen = self.starts_seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|id, _| waiting.contains(id));
        for id in waiting {
            seen.entry(id).or_insert(now);
        }
    }

    /// Notes that other main servers' rows can't be read now: their nodes stay as they were.
    pub(crate) fn note_presence_gap(&self) {
        let now = self.clock.now();
        *self.listening_since.lock().unwrap_or_else(PoisonError::into_inner) = now;
        self.registry().keep_others(now);
    }

    /// The time from which on a node that is not heard may be taken for silent.
    pub(crate) fn listening_since(&self) -> UnixMillis {
        *self.listening_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if nodes that were there before this main server began to listen may call in a
    /// moment, or have called and not been probed: whether they have a package is not known
    /// yet.
    pub(super) fn is_awaiting_nodes(&self, registry: &NodeRegistry, now: UnixMillis) -> bool {
        let since = self.listening_since();
        let is_awaited = |known: &KnownNode| {
            known.was_present()
                && !known.profile.drained
                && registry.last_seen(known) < since
                && registry.presence(known, since, now) == NodePresence::Awaited
        };
        let is_unprobed = |node: &RegisteredNode| node.reach == NodeReachability::Unknown;
        now.saturating_since(since) < RETURN
            && (self.known().iter().any(|known| is_awaited(known))
                || registry.live(now).any(|(_, node)| is_unprobed(node)))
    }

    /// Notes that another main server wrote so long ago.
    pub(crate) fn note_other(&self, server: &Arc<str>, age: Duration) {
        let now = self.clock.now();
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.retain(|_, heard_at| now.saturating_since(*heard_at) < LISTED_FOR);
        others.insert(server.clone(), now.saturating_sub(age));
    }

    /// It has stopped in order.
    pub(crate) fn forget_other(&self, server: &str) {
        self.others.lock().unwrap_or_else(PoisonError::into_inner).remove(server);
    }

    /// The number of other main servers that use the same database now, and the times at
    /// which those were last heard that have fallen silent.
    pub(crate) fn others(&self) -> (usize, Vec<UnixMillis>) {
        let now = self.clock.now();
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let is_there = |at: &UnixMillis| now.saturating_since(*at) < SILENCE;
        let (there, mut silent): (Vec<_>, Vec<_>) = others.values().copied().partition(is_there);
        if now.saturating_since(self.listening_since()) < SILENCE {
            // Nothing could be heard.
            silent.clear();
        }
        (there.len(), silent)
    }
}
