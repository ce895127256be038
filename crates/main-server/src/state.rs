//! State and decisions of the main server: meetings, nodes, the places of packages
//! and redirects. Pure: the time and random numbers are passed in.

pub(crate) mod announce;
pub(crate) mod audit;
pub(crate) mod casts;
pub(crate) mod commands;
pub(crate) mod contents;
pub(crate) mod demand;
pub(crate) mod destinations;
pub(crate) mod dispatch;
pub(crate) mod download_log;
pub(crate) mod figures;
mod fingerprint;
pub(crate) mod fleet;
pub(crate) mod gofd;
pub(crate) mod groups;
pub(crate) mod held_packages;
pub(crate) mod history;
pub(crate) mod index;
pub(crate) mod master_state;
pub(crate) mod meeting_records;
pub(crate) mod meetings;
pub(crate) mod newcomers;
pub(crate) mod package_name;
pub(crate) mod package_pulls;
pub(crate) mod probing;
pub(crate) mod problems;
pub(crate) mod readiness;
pub(crate) mod redirect;
pub(crate) mod registry;
pub(crate) mod relay;
pub(crate) mod remote_tasks;
pub(crate) mod routing;
pub(crate) mod shared_calls;
pub(crate) mod virtual_nodes;

/// Of nodes that are there, of known ones, and of clients that bring new ones. A venue has
/// dozens of nodes; anybody on the network can register.
pub(crate) const MAX_NODES: usize = 16_384;
