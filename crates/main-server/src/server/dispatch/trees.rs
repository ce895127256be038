//! Names the nodes that a node pulls a task's files from.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use edge_mirror_protocol::{dispatch::TaskId, relay::Sibling};
use tokio::time::Instant;

use crate::{
    server::Server,
    state::dispatch::{DeliveryNode, DeliveryTree, DispatchTask},
};

/// Nodes come and go: a tree is good for so long.
const LONGEST_AGE: Duration = Duration::from_secs(1);
/// A tree that does not know of the last outcomes is used for so many times as long as it
/// took to build: ten thousand nodes that ask together cost a twentieth of a core.
const REBUILD_FACTOR: u32 = 20;

/// Trees of the tasks that were asked for just now.
#[derive(Debug, Default)]
pub(crate) struct DeliveryTrees(Mutex<BTreeMap<TaskId, BuiltTree>>);

#[derive(Debug)]
struct BuiltTree {
    tree: Arc<DeliveryTree>,
    /// Nodes that had an outcome then.
    outcomes: usize,
    built_at: Instant,
    build_time: Duration,
}

impl BuiltTree {
    fn new(task: &DispatchTask, build: impl FnOnce() -> DeliveryTree) -> Self {
        let (began, tree) = (Instant::now(), Arc::new(build()));
        let built_at = Instant::now();
        Self { tree, outcomes: task.results.len(), built_at, build_time: built_at - began }
    }

    fn is_current(&self, task: &DispatchTask) -> bool {
        let age = self.built_at.elapsed();
        let is_same = self.outcomes == task.results.len();
        age < LONGEST_AGE && (is_same || age < self.build_time * REBUILD_FACTOR)
    }
}

impl DeliveryTrees {
    fn get(&self, task: &DispatchTask, build: impl FnOnce() -> DeliveryTree) -> Arc<DeliveryTree> {
        let mut trees = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        trees.retain(|id, built| match *id == task.id {
            true => built.is_current(task),
            false => built.built_at.elapsed() < LONGEST_AGE,
        });
        let built = trees.entry(task.id.clone()).or_insert_with(|| BuiltTree::new(task, build));
        built.tree.clone()
    }
}

impl Server {
    /// The nodes that a node asks for large files of a task, the best one first.
    pub(crate) fn file_parents(&self, id: &TaskId, node_id: &str) -> Vec<Sibling> {
        let table = self.dispatch.table();
        let Some(task) = table.find(id) else { return Vec::new() };
        let build = || {
            let now = self.clock.now();
            let nodes: Vec<_> = {
                let registry = self.registry();
                registry.relay_nodes(now).iter().map(DeliveryNode::from).collect()
            };
            // Redirects need the registry: it is not held while the tree is built.
            DeliveryTree::new(task, nodes)
        };
        self.dispatch.trees.get(task, build).parents(task, node_id)
    }
}
