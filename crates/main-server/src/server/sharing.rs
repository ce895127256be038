//! The other main servers of the fleet, and the nodes' calls that they have to know of.

use std::{collections::HashMap, sync::Arc, sync::PoisonError, time::Duration};

use edge_mirror_base::clock::UnixMillis;
use serde_json::{Map, Value};
use tracing::error;

use super::Server;
use crate::state::{
    fleet::NodeCaller,
    registry::NodeReachability,
    shared_calls::{NodeCall, ProbedNode, SharedCall},
};

/// A main server that tells nothing for this long is not there.
const SILENCE: Duration = Duration::from_secs(10);

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
        if let Some(unshared) = &self.unshared {
            unshared.push(&call(NodeCall::new(caller, body.clone())));
        }
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

    /// Has operators log in by what another main server has saved.
    pub(super) fn apply_access(&self, access: Option<Arc<str>>) {
        if **self.shared_access.load() == access {
            return;
        }
        if let Some(text) = &access
            && self.unshared.is_some()
            && let Err(cause) = self.access.vault().replace_text(text)
        {
            error!("credentials that another main server changed are not used here: {cause}");
        }
        self.shared_access.store(Arc::new(access));
        self.wake.gauge.notify_one();
    }

    /// The file of credentials, if it is not what other main servers have. Blocks.
    pub(crate) fn changed_access(&self) -> Option<Arc<str>> {
        let text = Arc::<str>::from(self.access.vault().text()?);
        (self.shared_access.load().as_ref().as_ref() != Some(&text)).then_some(text)
    }

    pub(crate) fn note_other(&self, server: &Arc<str>) {
        let now = self.clock.now();
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.retain(|_, heard_at| now.saturating_since(*heard_at) < SILENCE);
        others.insert(server.clone(), now);
    }

    /// The number of other main servers that use the same database now.
    pub(crate) fn others(&self) -> usize {
        let now = self.clock.now();
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.values().filter(|heard_at| now.saturating_since(**heard_at) < SILENCE).count()
    }
}
