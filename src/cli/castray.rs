//! Arguments of the listener for CastRay's clients.

use std::time::Duration;

use clap::Args;
use edge_mirror_http::wire::websocket::SocketLimits;
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
    /// The most files of CastRay's clients.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = units::file_count)]
    pub castray_file_count: u64,
    /// How large one of them may be.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = units::cache_size)]
    pub castray_file_size: u64,
    /// The most uploads of CastRay's clients at a time.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = units::task_count)]
    pub castray_uploads: u64,
    /// The most messages that are shown to CastRay's clients.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = units::cast_count)]
    pub castray_messages: u64,
    /// The most WebSockets of CastRay's clients at a time.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = units::cast_batch)]
    pub castray_sockets: u64,
    /// How many events a WebSocket may be behind; the oldest ones are left out.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = units::cast_batch)]
    pub castray_queue: u64,
    /// How many seconds a client may be silent until it is asked whether it is there.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = units::socket_seconds)]
    pub castray_ping: u64,
    /// How many seconds a client may be silent, or not read, until it is left; it is
    /// asked before.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = units::socket_seconds)]
    pub castray_idle: u64,
    /// How large a message of a client on a WebSocket may be.
    #[arg(long, value_name = "SIZE", default_value = "4KiB", value_parser = units::cast_body)]
    pub castray_frame: u64,
}

impl CastRayArgs {
    /// None without a port.
    pub fn options(&self) -> Option<CastRayOptions> {
        self.castray_port.map(|port| CastRayOptions {
            port,
            allow_from: self.castray_from.clone(),
            max_bytes: self.castray_files,
            max_files: self.castray_file_count,
            max_file_bytes: self.castray_file_size,
            max_uploads: self.castray_uploads,
            max_messages: self.castray_messages,
            max_sockets: self.castray_sockets,
            max_behind: self.castray_queue,
            socket: SocketLimits {
                ping_every: Duration::from_secs(self.castray_ping),
                idle_timeout: Duration::from_secs(self.castray_idle),
                max_message: usize::try_from(self.castray_frame).unwrap_or(usize::MAX),
            },
        })
    }
}
