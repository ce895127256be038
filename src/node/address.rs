//! Which address the main server is told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::lookup_host;

use crate::{
    config::{Config, authority, scheme},
    listen,
};

/// `host:port` under which clients reach this node, which listens on `host`.
pub async fn advertised(
    config: &Config,
    host: IpAddr,
    listening_port: u16,
) -> std::io::Result<String> {
    if config.use_public_address
        && let Some(host) = &config.public_ip
    {
        return Ok(authority(host, config.public_port.unwrap_or(listening_port)));
    }
    if !host.is_unspecified() {
        return Ok(authority(&host.to_string(), listening_port));
    }
    let local = local_towards(&config.main_server_ip, config.main_server_port).await?;
    Ok(authority(&local.to_string(), listening_port))
}

/// Where a browser finds the panel: at the address that tablets use, as far as
/// that is known.
pub async fn panel(config: &Config, host: IpAddr, listening_port: u16) -> String {
    let known = advertised(config, host, listening_port).await;
    let here = || authority(&Ipv4Addr::LOCALHOST.to_string(), listening_port);
    let scheme = scheme(config.tls_files().is_some());
    format!("{scheme}://{}/static/index.html", known.unwrap_or_else(|_| here()))
}

/// The address that packets to the main server leave from.
async fn local_towards(host: &str, port: u16) -> std::io::Result<IpAddr> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let mut failure = None;
    // IPv4 first: it is what a node listens on unless it was told otherwise.
    let mut targets: Vec<_> = lookup_host((bare, port)).await?.collect();
    targets.sort_by_key(SocketAddr::is_ipv6);
    for target in targets {
        match listen::local_towards(target).await {
            Ok(local) => return Ok(local),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| std::io::Error::other(format!("{host} has no address"))))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use serde_json::json;

    use super::*;

    const ANY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

    fn config(document: serde_json::Value) -> Config {
        let mut whole = document.as_object().cloned().unwrap();
        whole.insert("nodeId".into(), "n".into());
        crate::config::check::typed(&whole, std::path::Path::new("/")).unwrap()
    }

    #[tokio::test]
    async fn the_public_address_counts_only_when_it_is_switched_on() {
        let public =
            json!({"publicIp": "files.example", "publicPort": 80, "usePublicAddress": true});
        assert_eq!(advertised(&config(public), ANY, 8001).await.unwrap(), "files.example:80");
        let no_port = json!({"publicIp": "2001:db8::1", "usePublicAddress": true});
        assert_eq!(advertised(&config(no_port), ANY, 8001).await.unwrap(), "[2001:db8::1]:8001");
        let off = json!({"publicIp": "files.example", "mainServerIp": "127.0.0.1"});
        assert_eq!(advertised(&config(off), ANY, 8001).await.unwrap(), "127.0.0.1:8001");
    }

    #[tokio::test]
    async fn a_node_that_listens_on_one_address_is_reached_there_only() {
        let config = config(json!({"mainServerIp": "127.0.0.1"}));
        let one = "127.0.0.2".parse().unwrap();
        assert_eq!(advertised(&config, one, 8001).await.unwrap(), "127.0.0.2:8001");
    }

    #[tokio::test]
    async fn ipv6_main_servers_are_told_an_ipv6_address() {
        if tokio::net::UdpSocket::bind("[::1]:0").await.is_ok() {
            let config = config(json!({"mainServerIp": "::1"}));
            assert_eq!(advertised(&config, ANY, 8001).await.unwrap(), "[::1]:8001");
        }
    }
}
