//! What the main server knows, and what follows from it: meetings, nodes, where
//! packages are and where clients go. Pure: the time and chance are passed in.

pub(crate) mod announce;
pub(crate) mod holding;
pub(crate) mod index;
pub(crate) mod ledger;
pub(crate) mod meetings;
pub(crate) mod newcomers;
pub(crate) mod package_name;
pub(crate) mod probing;
pub(crate) mod redirect;
pub(crate) mod registry;
pub(crate) mod troubles;
