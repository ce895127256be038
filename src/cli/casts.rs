//! Arguments of the bounds of casts.

use std::time::Duration;

use clap::Args;
use edge_mirror_main_server::CastLimits;

use super::units;

#[derive(Clone, Debug, Args)]
pub struct CastArgs {
    /// The most casts that are kept, expired ones among them. Those make room when
    /// there are more; where none has expired, new ones are refused.
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = units::cast_count)]
    pub casts_max: u64,
    /// How much the kept casts may take; the same holds.
    #[arg(long, value_name = "SIZE", default_value = "256MB", value_parser = units::cache_size)]
    pub casts_size: u64,
    /// How many days casts are kept once they have expired or were cancelled.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = units::days)]
    pub casts_days: u64,
    /// The most days after which a cast may expire.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = units::days)]
    pub casts_expiry_days: u64,
    /// How large a cast's body may be.
    #[arg(long, value_name = "SIZE", default_value = "4KiB", value_parser = units::cast_body)]
    pub casts_body: u64,
    /// The most casts in one request.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = units::cast_batch)]
    pub casts_batch: u64,
    /// How many seconds a node that was connected a moment ago still gets a live cast.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = units::live_seconds)]
    pub casts_live_seconds: u64,
    /// The most programs that follow casts at this main server at a time.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = units::cast_batch)]
    pub casts_subscribers: u64,
    /// How many casts such a program may be behind; it loses the oldest ones, and is
    /// told how many.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = units::cast_batch)]
    pub casts_queue: u64,
    /// The most groups of nodes.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = units::cast_batch)]
    pub casts_groups: u64,
    /// The most virtual nodes: names to which casts go as to nodes.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = units::virtual_nodes)]
    pub virtual_nodes: u64,
    /// Take no casts from nodes, whatever their operators allow.
    #[arg(long)]
    pub no_casts_from_nodes: bool,
}

impl CastArgs {
    pub fn limits(&self) -> CastLimits {
        let days = |count: u64| Duration::from_secs(count * 24 * 3600);
        CastLimits {
            max_casts: self.casts_max,
            max_bytes: self.casts_size,
            kept_for: days(self.casts_days),
            max_body: self.casts_body,
            max_lifetime: days(self.casts_expiry_days),
            max_batch: self.casts_batch,
            live_for: Duration::from_secs(self.casts_live_seconds),
            max_subscribers: self.casts_subscribers,
            max_behind: self.casts_queue,
            max_groups: self.casts_groups,
            max_virtual_nodes: self.virtual_nodes,
            from_nodes: !self.no_casts_from_nodes,
        }
    }
}
