//! Nodes' addresses.

use std::net::SocketAddr;

use edge_mirror_http::listen::canonical;

/// An address as it goes into links: IPv4 that a node wrote as IPv6 is what it
/// is.
pub(crate) fn plain(address: String) -> String {
    match address.parse::<SocketAddr>().map(canonical) {
        Ok(ipv4 @ SocketAddr::V4(_)) => ipv4.to_string(),
        Ok(SocketAddr::V6(_)) | Err(_) => address,
    }
}
