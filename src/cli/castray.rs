//! Arguments of the listener for CastRay's clients.

use clap::Args;
use edge_mirror_main_server::CastRayOptions;
use edge_mirror_settings::Subnet;

use super::units;

#[derive(Clone, Debug, Args)]
pub struct CastRayArgs {
    /// Also listen on this port for clients of CastRay, which have no login; only
    /// programs on this machine may call.
    #[arg(long, value_name = "N", value_parser = units::fixed_port)]
    pub castray_port: Option<u16>,
    /// Also let this address or network call there; can be repeated, or a list with
    /// commas. Whoever calls from there can send messages and files to all nodes.
    #[arg(long, value_name = "NETWORK", value_delimiter = ',', requires = "castray_port")]
    pub castray_from: Vec<Subnet>,
    /// How much the files of CastRay's clients may take.
    #[arg(long, value_name = "SIZE", default_value = "2GB", value_parser = units::cache_size)]
    pub castray_files: u64,
    /// The most messages that are shown to CastRay's clients.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = units::cast_count)]
    pub castray_messages: u64,
    /// The most WebSockets of CastRay's clients at a time.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = units::cast_batch)]
    pub castray_sockets: u64,
}

impl CastRayArgs {
    /// None without a port.
    pub fn options(&self) -> Option<CastRayOptions> {
        self.castray_port.map(|port| CastRayOptions {
            port,
            allow_from: self.castray_from.clone(),
            max_bytes: self.castray_files,
            max_messages: self.castray_messages,
            max_sockets: self.castray_sockets,
        })
    }
}
