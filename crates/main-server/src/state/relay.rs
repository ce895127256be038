//! Packages from node to node: a tree for each running package, by which the main
//! server sends it about once. Pure.
//!
//! [`fleet`] has the nodes as heartbeats describe them, [`uplink`] what is known of
//! their uplinks, [`tree`] who pulls one package from whom, [`spares`] whom a node asks
//! when its parent fails, and [`plan`] all of it for all packages.

pub(crate) mod fleet;
pub(crate) mod plan;
mod spares;
mod tree;
pub(crate) mod uplink;

#[cfg(test)]
mod tests;

pub(crate) use plan::RelayPlan;
