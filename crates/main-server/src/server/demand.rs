//! The number of nodes that the load wants, as it was last worked out.

use serde::Serialize;

use crate::state::demand::DemandLimits;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FleetDemand {
    /// Nodes that should be there; changes rarely.
    pub wanted: u32,
    /// Nodes that the load of this moment needs.
    pub needed: u32,
    /// Nodes that tablets can be sent to.
    pub present: u32,
    /// Nodes that are there and get no new tablets.
    pub drained: u32,
    /// Under way, at nodes and from this main server.
    pub downloads: u64,
    /// The sum over nodes of the busier of CPU and uplink, in percent.
    pub work_percent: u64,
    /// Downloads that were sent to nodes within the last minute.
    pub redirects_per_minute: u64,
    #[serde(flatten)]
    pub limits: DemandLimits,
}
