//! Who pulls from whom: what the connections show, whatever nodes and main server
//! believe.

use std::net::SocketAddr;

use anyhow::Result;

use super::network::Host;

/// Less is no package: probes, polls.
const TRIFLE_BYTES: u64 = 64 << 10;
/// Since a parent last sent something.
const IDLE_MS: u64 = 1500;

/// Nodes by number, each with its parent; none of them for the main server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree(Vec<Option<usize>>);

impl Tree {
    /// Reads it from the connections of these machines; others reach each of them at
    /// the address beside it.
    pub(crate) fn read(nodes: &[(&Host, SocketAddr)]) -> Result<Self> {
        let parent = |(host, _): &(&Host, SocketAddr)| -> Result<Option<usize>> {
            let connections = host.connections()?;
            let sources = connections.lines().filter_map(source).filter_map(|(bytes, from)| {
                Some((bytes, nodes.iter().position(|(_, address)| *address == from)?))
            });
            Ok(sources.max().map(|(_, node)| node))
        };
        Ok(Self(nodes.iter().map(parent).collect::<Result<_>>()?))
    }

    /// Returns the nodes above it, nearest first.
    fn path(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        // Bounded: what is read while somebody moves may be a loop.
        std::iter::successors(self.0[node], |above| self.0[*above]).take(self.0.len())
    }

    fn descendants(&self, node: usize) -> usize {
        (0..self.0.len()).filter(|other| self.path(*other).any(|above| above == node)).count()
    }

    /// Returns the edges from the main server to the farthest node.
    pub(crate) fn depth(&self) -> usize {
        (0..self.0.len()).map(|node| self.path(node).count() + 1).max().unwrap_or(0)
    }

    /// Returns the nodes that are farthest from the main server.
    pub(crate) fn deepest(&self) -> Vec<usize> {
        let depth = self.depth();
        (0..self.0.len()).filter(|node| self.path(*node).count() + 1 == depth).collect()
    }

    /// Returns the node that most others depend on.
    pub(crate) fn root(&self) -> Option<usize> {
        self.busiest(|node| self.0[node].is_none())
    }

    /// Returns the node below the root that most others depend on.
    pub(crate) fn inner(&self) -> Option<usize> {
        self.busiest(|node| self.0[node].is_some())
    }

    fn busiest(&self, wanted: impl Fn(usize) -> bool) -> Option<usize> {
        let nodes = (0..self.0.len()).filter(|node| wanted(*node));
        let busiest = nodes.max_by_key(|node| self.descendants(*node))?;
        (self.descendants(busiest) > 0).then_some(busiest)
    }
}

/// Reads the bytes that came over a connection, and where from.
fn source(line: &str) -> Option<(u64, SocketAddr)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let from = words.get(3)?.parse().ok()?;
    let figure = |name: &str| {
        let word = words.iter().find_map(|word| word.strip_prefix(name));
        word.and_then(|number| number.parse::<u64>().ok())
    };
    let is_idle = figure("lastrcv:").is_some_and(|ms| ms > IDLE_MS);
    figure("bytes_received:").filter(|bytes| *bytes > TRIFLE_BYTES && !is_idle).map(|n| (n, from))
}
