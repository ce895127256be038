//! Virtual nodes as handlers see them.

use std::sync::Arc;

use edge_mirror_http::access::Operator;

use crate::{
    refusal::RequestError,
    server::Server,
    state::virtual_nodes::{VirtualNode, VirtualNodeCommand, VirtualNodes},
};

impl Server {
    pub(crate) fn virtual_nodes(&self) -> Arc<VirtualNodes> {
        self.virtual_nodes.load_full()
    }

    /// Creates a virtual node, or changes it; for an operator or for the program itself.
    pub(crate) async fn put_virtual_node(
        &self,
        node: VirtualNode,
        by: Option<&Operator>,
    ) -> Result<(), RequestError> {
        // One that has registered a moment ago may not be saved yet.
        if self.registry().client_of(&node.id, self.clock.now()).is_some() {
            return Err(RequestError::NodeIdTaken(node.id));
        }
        let command = VirtualNodeCommand::Put { node, most: self.casts.limits.max_virtual_nodes };
        match by {
            Some(operator) => self.change_by(operator, command).await,
            None => self.change(command).await,
        }
    }

    /// A node can't have the name of a virtual one.
    pub(crate) fn check_no_virtual_node(&self, id: &str) -> Result<(), RequestError> {
        match self.virtual_nodes.load().has(id) {
            true => Err(RequestError::NodeIdTaken(id.to_owned())),
            false => Ok(()),
        }
    }
}
