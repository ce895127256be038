//! Each package that spreads: who pulls it from whom, and how far each node is.

use edge_mirror_http::wire::snapshot::ItemWriter;
use edge_mirror_protocol::package::PackageId;
use serde::Serialize;

use crate::{
    server::Server,
    state::{
        registry::NodeRegistry,
        relay::plan::{PackageTree, PlannedParent, RelayPlan},
    },
};

/// More are no picture any more.
const MAX_PACKAGES: usize = 20;
/// Pulls of one package that are shown, those nearest to the main server first.
const MAX_PULLS: usize = 250;

/// A package, and the nodes that don't have it yet.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ShownRelay<'a> {
    /// Of the meeting.
    id: &'a PackageId,
    size: Option<u64>,
    /// Nodes that don't have it.
    missing: usize,
    /// Nodes between the main server, or one that has it, and the farthest of them.
    depth: u32,
    /// Breadth first; not all where there are hundreds.
    pulls: Vec<ShownPull<'a>>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ShownPull<'a> {
    node_id: &'a str,
    /// The node that it is to pull from; null for the main server.
    parent: Option<&'a str>,
    /// Null until it reports that it pulls.
    progress: Option<ShownProgress<'a>>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ShownProgress<'a> {
    /// The node that it comes from now; null for the main server.
    source: Option<&'a str>,
    received: u64,
    /// Bytes per second.
    rate: u64,
}

/// Adds the packages that spread.
pub(crate) fn add_all(
    server: &Server,
    plan: &RelayPlan,
    registry: &NodeRegistry,
    items: &mut ItemWriter<'_>,
) {
    for tree in plan.trees().iter().take(MAX_PACKAGES) {
        items.add(tree.id.as_str(), &shown(server, plan, tree, registry));
    }
}

fn shown<'a>(
    server: &Server,
    plan: &'a RelayPlan,
    tree: &'a PackageTree,
    registry: &'a NodeRegistry,
) -> ShownRelay<'a> {
    let pull = |planned: PlannedParent<'a>| {
        let reported = registry.pull(planned.node_id, &tree.id);
        let progress = reported.map(|pull| ShownProgress {
            source: pull.parent.as_deref(),
            received: pull.received_bytes,
            rate: pull.rate,
        });
        ShownPull { node_id: planned.node_id, parent: planned.parent, progress }
    };
    ShownRelay {
        id: &tree.id,
        size: server.package_blob(&tree.id).map(|package| package.size),
        missing: tree.len(),
        depth: tree.depth(),
        pulls: plan.parents(tree).take(MAX_PULLS).map(pull).collect(),
    }
}
