//! Arguments of the number of nodes that the load wants.

use clap::Args;
use edge_mirror_main_server::DemandLimits;
use reqwest::Url;

use super::{server, units};

#[derive(Clone, Debug, Args)]
pub struct DemandArgs {
    /// The least number of nodes that the load can want.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = units::node_count)]
    pub demand_min: u32,
    /// The most nodes that the load can want; all that there may be by default.
    #[arg(long, value_name = "N", value_parser = units::node_count)]
    pub demand_max: Option<u32>,
    /// How many downloads at a time one node bears, whatever it says of its CPU
    /// and uplink.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = units::downloads)]
    pub demand_downloads: u32,
    /// Post each change of the number of nodes that the load wants to this URL,
    /// as JSON.
    #[arg(long, value_name = "URL", value_parser = server::address)]
    pub demand_webhook: Option<Url>,
}

impl DemandArgs {
    pub fn limits(&self) -> DemandLimits {
        let defaults = DemandLimits::default();
        DemandLimits {
            min: self.demand_min,
            max: self.demand_max.unwrap_or(defaults.max).max(self.demand_min),
            downloads_per_node: self.demand_downloads,
        }
    }
}
