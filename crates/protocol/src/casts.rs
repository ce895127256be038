//! Casts on their way from our main server to a node: messages in the order of their
//! numbers, asked for by `GET PATH`, whose answer is held back while there are none.
//!
//! A node names the last number that it has on disk, and so says that it has all that it
//! was sent up to there. The answer names the number to go on from: also where nothing was
//! for this node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// `?stream=NAME&after=NUMBER`: without them, all that can still be delivered. By `POST`, a
/// node sends casts of programs there.
pub const PATH: &str = "/api/v1/nodes/casts";

/// Where a node tells what its consumers have read.
pub const READ_PATH: &str = "/api/v1/nodes/casts/read";
/// Topics of one such report.
pub const MAX_READ_TOPICS: usize = 500;

/// A node's report of what its consumers have read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct CastReadReport {
    /// The id of the last cast of each topic that was read: all before it were, too.
    pub read: BTreeMap<String, String>,
}

/// The answer to a node.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct CastAnswer {
    /// The name of the sequence. It changes when a main server begins to save casts; who names
    /// an earlier one goes on where it was.
    pub stream: String,
    pub after: u64,
    pub casts: Vec<DeliveredCast>,
    /// The place among live casts, which are in memory alone; sent back as `&live=`.
    #[serde(default)]
    pub live: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub live_casts: Vec<DeliveredCast>,
}

/// A cast as a node gets it, keeps it and passes it on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct DeliveredCast {
    /// The same wherever it is sent from.
    pub id: String,
    pub topic: String,
    /// As it was sent: a text, or any JSON.
    #[cfg_attr(feature = "openapi", schemars(with = "serde_json::Value"))]
    pub body: Box<RawValue>,
    /// `low`, `normal`, `high` or `urgent`.
    pub priority: String,
    /// Seconds since 1970.
    pub at: f64,
    pub expires_at: f64,
    /// The node that it comes from; absent if an operator sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}
