//! Packages from node to node: who asks whom, how far each is, and how both sides
//! prove that they belong to one fleet ([`auth`](crate::relay::auth)).
//!
//! A node pulls a package from its *parent*, a node that has it or is still pulling it
//! itself, by the ordinary download route. Our own main server names the parent of each
//! node; under others, nodes rank themselves.

pub mod auth;
pub mod rank;

use serde::{Deserialize, Serialize};

use crate::package::{PackageId, Sha256};
pub use auth::RelayKey;

/// Node that sends a poll; our main server answers it with this node's parents.
pub const NODE_HEADER: &str = "edge-mirror-node";
/// Most spares that are read.
pub const MAX_SPARES: usize = 2;
/// Most pulls in a heartbeat: as many as there are in flight at a busy node, and a
/// fraction of what a heartbeat may hold.
pub const MAX_REPORTED_PULLS: usize = 256;
/// Most parents named as slow for one pull.
pub const MAX_SLOW_PARENTS: usize = 8;
/// Most meetings whose packages are spread before their start.
pub const MAX_PRESTAGED: usize = 256;
/// Bytes of each piece that our main server has a digest of.
pub const PIECE_BYTES: u64 = 1 << 20;

/// A node as others reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Sibling {
    pub node_id: String,
    /// `host:port`.
    pub address: String,
    #[serde(default)]
    pub https: bool,
    /// SHA-256 of the certificate that it shows, if it speaks HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Sha256>,
}

/// The nodes that one node pulls one package from, in this order; from the main server
/// where there is none, or none of them gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RelayAssignment {
    #[serde(default)]
    pub parent: Option<Sibling>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spares: Vec<Sibling>,
}

/// The assignment of one package, as the main server sends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct PackageAssignment {
    pub id: PackageId,
    #[serde(flatten)]
    pub assignment: RelayAssignment,
    /// Of a meeting that does not run yet; none of a running one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prestage: Option<PrestageOffer>,
}

/// The package of a meeting that has not been started: pulled in good time and slowly,
/// kept, and given to no client before the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct PrestageOffer {
    pub title: String,
    pub sha256: Sha256,
    pub size: u64,
    /// A path below `/uploads/`.
    pub package_url: String,
}

/// A node's report of itself as a parent, in its heartbeats to our main server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RelayReport {
    /// `host:port` at which other nodes reach it: inside the network, where the
    /// advertised one may be for tablets outside.
    pub address: String,
    #[serde(default)]
    pub https: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Sha256>,
    #[serde(default)]
    pub site: String,
    /// `relay.maxChildren`.
    pub max_children: u32,
}

/// The progress of a pull, in heartbeats to our main server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct PullReport {
    pub id: PackageId,
    pub received_bytes: u64,
    #[serde(default)]
    pub total_bytes: Option<u64>,
    /// The node that it comes from; none for the main server.
    #[serde(default)]
    pub parent: Option<String>,
    /// Bytes per second in the last seconds.
    #[serde(default)]
    pub rate: u64,
    /// Bytes that the parent is ahead.
    #[serde(default)]
    pub behind_bytes: u64,
    /// Nodes that it left because they were ahead and did not send, or sent wrong bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slow_parents: Vec<String>,
}
