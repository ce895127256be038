//! The nodes of this fleet: those that were accepted, what operators say of them, and
//! who asks to be one. Pure; the registry has those that are heard, and what they report.
//!
//! Anybody on the network can send a registration. One that proves itself (by the nodes'
//! key, or by coming from this machine) is accepted at once; any other waits until an
//! operator decides, and until then it takes a bounded place in memory and nothing else.

mod admission;
mod claims;
pub(crate) mod commands;
mod known_node;
mod known_nodes;
mod presence;

pub(crate) use admission::{Admission, NodeCaller, admit};
pub use admission::{NodePolicy, UnknownPolicy};
pub(crate) use claims::{NodeClaim, NodeClaims};
pub(crate) use known_node::{
    AvailabilityChange, FleetRecord, KnownNode, LearnedNode, NodeProfile, ProfileEdit, RefusedNode,
};
pub(crate) use known_nodes::{KnownNodes, KnownVersions, NodeChange};
pub(crate) use presence::{NodePresence, SILENCE};
