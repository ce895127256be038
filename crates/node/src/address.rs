//! The address reported to the main server, and warnings about it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use edge_mirror_base::tasks;
use edge_mirror_http::listen;
use edge_mirror_settings::{Config, MainServer, authority, literal, scheme};
use ipnet::IpNet;
use tokio::net::lookup_host;

use crate::{board::AddressWarning, machine};

/// `host:port` under which clients reach this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdvertisedAddress {
    pub address: String,
    pub(crate) warnings: Vec<AddressWarning>,
}

/// The main server with this base URL; the first one if it is not listed any more.
pub(crate) fn main_server_at<'a>(config: &'a Config, base_url: &str) -> &'a MainServer {
    let index = config.fleet().position(base_url).unwrap_or_default();
    &config.main_servers()[index]
}

/// Returns the address of a node that listens on `host`, for this main server. Detected each time:
/// interfaces and routes come and go.
pub(crate) async fn advertised_address(
    config: &Config,
    server: &MainServer,
    host: IpAddr,
    listening_port: u16,
) -> io::Result<AdvertisedAddress> {
    let mut warnings = Vec::new();
    let (mut port, mut towards) = (listening_port, None);
    let advertised = if let (true, Some(public)) = (config.use_public_address, &config.public_ip) {
        port = config.public_port.unwrap_or(listening_port);
        public.clone()
    } else if !host.is_unspecified() {
        host.to_string()
    } else {
        let chosen = match &config.advertise_interface {
            Some(name) => {
                let there = tasks::blocking(machine::interfaces).await;
                interface_address(name, there, host.is_ipv6())
                    .map_err(|warning| warnings.push(warning))
                    .ok()
            }
            None => None,
        };
        let own = match chosen {
            Some(chosen) => chosen,
            None => {
                let (own, main_server) = route(server).await?;
                towards = Some(main_server);
                own
            }
        };
        own.to_string()
    };
    let address = authority(&advertised, port);
    if literal(&advertised).is_some_and(is_private) && main_server_is_public(server, towards).await
    {
        let main_server = server.to_string();
        warnings.push(AddressWarning::Private { address: address.clone(), main_server });
    }
    Ok(AdvertisedAddress { address, warnings })
}

/// Returns `host:port` at which other nodes reach this one: its own address, where the
/// advertised one may be for tablets outside.
pub(crate) async fn relay_address(
    config: &Config,
    server: &MainServer,
    host: IpAddr,
    listening_port: u16,
) -> io::Result<String> {
    if let Some(configured) = config.relay_address() {
        return Ok(configured);
    }
    let own = match host.is_unspecified() {
        true => route(server).await?.0,
        false => host,
    };
    Ok(authority(&own.to_string(), listening_port))
}

/// The panel's URL: at the address that tablets use, if that is known.
pub async fn panel(config: &Config, host: IpAddr, listening_port: u16) -> String {
    let server = main_server_at(config, config.main_server());
    let known = advertised_address(config, server, host, listening_port).await;
    let known = known.map(|known| known.address);
    let here = || authority(&Ipv4Addr::LOCALHOST.to_string(), listening_port);
    let scheme = scheme(config.tls_files().is_some());
    format!("{scheme}://{}/static/index.html", known.unwrap_or_else(|_| here()))
}

/// The interface's address with the widest reach. The same one as long as the
/// addresses stay: another one would cause a new registration.
fn interface_address(
    name: &str,
    there: impl IntoIterator<Item = (String, Vec<IpNet>)>,
    by_ipv6: bool,
) -> Result<IpAddr, AddressWarning> {
    let mut others = Vec::new();
    for (interface, addresses) in there {
        let usable = addresses.iter().filter(|net| by_ipv6 || net.addr().is_ipv4());
        let ranked = usable.filter_map(|net| {
            // A single-address network is mostly an additional address.
            Some((rank(net.addr())?, net.prefix_len() == net.max_prefix_len(), net.addr()))
        });
        match ranked.min() {
            Some((_, _, best)) if interface == name => return Ok(best),
            Some(_) => others.push(interface),
            None => {}
        }
    }
    Err(AddressWarning::Interface { name: name.to_owned(), there: others })
}

/// None if clients can't use it: a link-local address needs a zone, which no link
/// can carry.
fn rank(address: IpAddr) -> Option<u8> {
    match address {
        IpAddr::V4(v4) if v4.is_link_local() || v4.is_unspecified() => None,
        IpAddr::V4(_) => Some(0),
        IpAddr::V6(v6) if v6.is_unicast_link_local() || v6.is_unspecified() => None,
        IpAddr::V6(_) if !is_private(address) => Some(1),
        IpAddr::V6(_) => Some(2),
    }
}

/// Not reachable from the internet: RFC 1918, carrier-grade NAT (RFC 6598), unique
/// local, link-local, loopback.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let carriers = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private() || carriers || v4.is_link_local() || v4.is_loopback()
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

/// True only if all its addresses are public: one that is reachable from inside may
/// be the one in use. Without an address there is no warning.
async fn main_server_is_public(server: &MainServer, towards: Option<IpAddr>) -> bool {
    match towards {
        Some(address) => !is_private(address),
        None => addresses(server).await.is_ok_and(|all| {
            !all.is_empty() && !all.iter().any(|address| is_private(address.ip()))
        }),
    }
}

async fn addresses(server: &MainServer) -> io::Result<Vec<SocketAddr>> {
    if let Some(address) = literal(&server.host) {
        return Ok(vec![SocketAddr::new(address, server.port)]);
    }
    let found = lookup_host((server.host.as_str(), server.port)).await?;
    Ok(found.collect())
}

/// The source address of packets to the main server, and its own.
async fn route(server: &MainServer) -> io::Result<(IpAddr, IpAddr)> {
    let mut failure = None;
    // IPv4 first: every tablet has that.
    let mut targets = addresses(server).await?;
    targets.sort_by_key(SocketAddr::is_ipv6);
    for target in targets {
        match listen::local_address_for(target).await {
            Ok(local) => return Ok((local, target.ip())),
            Err(error) => failure = Some(error),
        }
    }
    let host = &server.host;
    Err(failure.unwrap_or_else(|| io::Error::other(format!("{host} has no address"))))
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
        edge_mirror_settings::check::parse_config(&whole, std::path::Path::new("/")).unwrap()
    }

    async fn told(document: serde_json::Value, host: IpAddr) -> String {
        let config = config(document);
        let server = main_server_at(&config, config.main_server());
        advertised_address(&config, server, host, 8001).await.unwrap().address
    }

    #[tokio::test]
    async fn the_public_address_counts_only_when_it_is_switched_on() {
        let here = |public: serde_json::Value| {
            let mut all = json!({"mainServerIp": "127.0.0.1", "usePublicAddress": true});
            edge_mirror_settings::merge::merge(
                all.as_object_mut().unwrap(),
                public.as_object().unwrap(),
            );
            all
        };
        let named = json!({"publicIp": "files.example", "publicPort": 80});
        assert_eq!(told(here(named), ANY).await, "files.example:80");
        let no_port = json!({"publicIp": "2001:db8::1"});
        assert_eq!(told(here(no_port), ANY).await, "[2001:db8::1]:8001");
        let in_brackets = json!({"publicIp": "[2001:db8::1]"});
        assert_eq!(told(here(in_brackets), ANY).await, "[2001:db8::1]:8001");
        let off = json!({"publicIp": "files.example", "usePublicAddress": false});
        assert_eq!(told(here(off), ANY).await, "127.0.0.1:8001");
    }

    #[tokio::test]
    async fn a_node_that_listens_on_one_address_is_reached_there_only() {
        let one = "127.0.0.2".parse().unwrap();
        let config = json!({"mainServerIp": "127.0.0.1", "advertiseInterface": "lo"});
        assert_eq!(told(config, one).await, "127.0.0.2:8001");
    }

    #[tokio::test]
    async fn ipv6_main_servers_are_told_an_ipv6_address() {
        if tokio::net::UdpSocket::bind("[::1]:0").await.is_ok() {
            assert_eq!(told(json!({"mainServerIp": "::1"}), ANY).await, "[::1]:8001");
            assert_eq!(told(json!({"mainServerIp": "[::1]"}), ANY).await, "[::1]:8001");
        }
    }

    #[tokio::test]
    async fn an_interface_that_is_not_there_is_told_and_the_route_decides() {
        let config = config(json!({"mainServerIp": "127.0.0.1", "advertiseInterface": "no-such0"}));
        let AdvertisedAddress { address, warnings } =
            advertised_address(&config, &config.main_servers()[0], ANY, 8001).await.unwrap();
        assert_eq!(address, "127.0.0.1:8001");
        let [AddressWarning::Interface { name, there }] = warnings.as_slice() else {
            panic!("{warnings:?}")
        };
        assert!(name == "no-such0" && there.contains(&"lo".to_owned()), "{there:?}");
    }

    #[test]
    fn an_interfaces_address_is_ipv4_then_global_and_never_link_local() {
        let best = |addresses: &[&str], by_ipv6| {
            let nets = addresses.iter().map(|text| text.parse().unwrap()).collect();
            let there = [("lo".to_owned(), vec![]), ("eth1".to_owned(), nets)];
            interface_address("eth1", there, by_ipv6).ok().map(|address| address.to_string())
        };
        let all = ["fe80::1/64", "fd00::1/8", "2001:db8::1/64", "10.0.0.5/24"];
        assert_eq!(best(&all, true).unwrap(), "10.0.0.5");
        assert_eq!(best(&all[..3], true).unwrap(), "2001:db8::1");
        assert_eq!(best(&all[..2], true).unwrap(), "fd00::1");
        assert_eq!(best(&all[..1], true), None);
        assert_eq!(best(&["169.254.0.9/16"], true), None);
        assert_eq!(best(&all[..3], false), None, "nobody listens by IPv6");
        let shared = ["10.0.0.1/32", "10.0.0.9/24", "10.0.0.7/24"];
        assert_eq!(best(&shared, true).unwrap(), "10.0.0.7");
    }

    #[tokio::test]
    async fn a_private_address_at_a_public_main_server_is_doubted() {
        for (own, main_server, doubted) in [
            ("10.1.2.3", "198.51.100.1", true),
            ("172.16.0.1", "198.51.100.1", true),
            ("192.168.1.5", "2001:db8::1", true),
            ("100.64.0.1", "198.51.100.1", true),
            ("100.128.0.1", "198.51.100.1", false),
            ("169.254.1.1", "198.51.100.1", true),
            ("127.0.0.1", "198.51.100.1", true),
            ("fd00::1", "2001:db8::1", true),
            ("[fe80::1]", "2001:db8::1", true),
            ("::ffff:10.0.0.1", "198.51.100.1", true),
            ("203.0.113.1", "198.51.100.1", false),
            ("files.example", "198.51.100.1", false),
            ("10.1.2.3", "10.9.9.9", false),
            ("10.1.2.3", "localhost", false),
            ("10.1.2.3", "::ffff:192.168.0.1", false),
        ] {
            let config = config(
                json!({"publicIp": own, "usePublicAddress": true, "mainServerIp": main_server}),
            );
            let server = &config.main_servers()[0];
            let warnings = advertised_address(&config, server, ANY, 8001).await.unwrap().warnings;
            let private =
                warnings.iter().any(|warning| matches!(warning, AddressWarning::Private { .. }));
            assert_eq!(private, doubted, "{own} {main_server}: {warnings:?}");
        }
    }
}
