//! The sender of a request: its address, and whether it is on this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::http::{HeaderMap, Version, header, request::Parts};
use edge_mirror_settings::Subnet;

use crate::listen::{PeerAddress, Transport};

/// Headers that proxies add, besides all that begin with `x-forwarded`; a request with
/// one did not come straight here.
const FORWARDING: [&str; 9] = [
    "cf-connecting-ip",
    "forwarded",
    "true-client-ip",
    "via",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-original-forwarded-for",
    "x-real-ip",
];

/// Stands for a client that a proxy does not name, and that must not be taken for the
/// proxy.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub address: IpAddr,
    /// A program on this machine, or a browser on it that uses a loopback name: neither a
    /// proxy's client, nor a page that made its own name point here (DNS rebinding).
    pub local: bool,
    /// Came over TLS, to us or to a trusted proxy.
    pub secure: bool,
}

impl Caller {
    pub fn of(request: &Parts, trusted: &[Subnet]) -> Self {
        let peer = request.extensions.get::<PeerAddress>();
        // Without a peer nothing is known, and least is allowed.
        let peer = peer.map_or(UNKNOWN, |peer| peer.0.ip().to_canonical());
        let headers = &request.headers;
        let forwarded = headers
            .keys()
            .map(|name| name.as_str())
            .any(|name| name.starts_with("x-forwarded") || FORWARDING.contains(&name));
        let trusts = |address: IpAddr| trusted.iter().any(|subnet| subnet.contains(address));
        if forwarded && trusts(peer) {
            let address = client_behind(headers, trusts).unwrap_or(UNKNOWN);
            let scheme = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok());
            let secure = scheme.is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("https"));
            return Self { address, local: false, secure };
        }
        // Old proxies speak HTTP/1.0 to those behind them, and name those as the host;
        // programs on this machine speak HTTP/1.1.
        let local = peer.is_loopback()
            && !forwarded
            && request.version >= Version::HTTP_11
            && names_loopback(request);
        let secure = !forwarded && Transport::of(&request.extensions).is_tls();
        Self { address: peer, local, secure }
    }
}

/// Returns the last address in `X-Forwarded-For` that is not one of our proxies: the
/// client can forge those before it.
fn client_behind(headers: &HeaderMap, trusts: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    let entries = lines.iter().rev().flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    let mut last = None;
    for entry in entries {
        // An unreadable entry ends the chain: nothing before it can be trusted, and it
        // must not count as the proxy.
        let address = address_of(entry)?;
        last = Some(address);
        if !trusts(address) {
            return last;
        }
    }
    last
}

/// Parses an address; some proxies add the port.
fn address_of(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?.trim();
    let bare = entry.trim_start_matches('[').trim_end_matches(']');
    let address = bare
        .parse()
        .ok()
        .or_else(|| entry.parse::<std::net::SocketAddr>().ok().map(|with_port| with_port.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

fn names_loopback(request: &Parts) -> bool {
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    // `GET http://elsewhere/ HTTP/1.1` names a host of its own.
    let target = request.uri.authority();
    host.to_str().is_ok_and(is_loopback) && target.is_none_or(|target| is_loopback(target.as_str()))
}

/// True for `localhost` or a loopback address, with or without a port.
fn is_loopback(host: &str) -> bool {
    let (name, rest) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((address, rest)) => {
            if !address.parse::<Ipv6Addr>().is_ok_and(|a| a.to_canonical().is_loopback()) {
                return false;
            }
            ("localhost", rest)
        }
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port = rest.strip_prefix(':');
    // Only the canonical form: `+80` parses, too.
    let is_port = |port: &str| port.parse().is_ok_and(|number: u16| number.to_string() == port);
    let port = rest.is_empty() || port.is_some_and(is_port);
    let address = name.parse::<Ipv4Addr>();
    port && address.map_or(name.eq_ignore_ascii_case("localhost"), |address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn caller(peer: &str, fields: &[(&str, &str)], trusted: &[&str]) -> Caller {
        let mut request = Request::get("/api/config");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let peer = PeerAddress(std::net::SocketAddr::new(peer.parse().unwrap(), 9));
        let (parts, ()) = request.extension(peer).body(()).unwrap().into_parts();
        let trusted: Vec<Subnet> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        Caller::of(&parts, &trusted)
    }

    #[test]
    fn this_machine_is_who_asks_from_loopback_by_a_loopback_name_without_a_proxy() {
        for host in ["localhost:8001", "127.0.0.1", "127.1.2.3:1", "[::1]:8001", "LOCALHOST"] {
            assert!(caller("127.0.0.1", &[("host", host)], &[]).local, "{host}");
        }
        assert!(caller("::1", &[("host", "localhost")], &[]).local);
        assert!(caller("::ffff:127.0.0.1", &[("host", "localhost")], &[]).local);
        for (peer, fields) in [
            ("10.0.0.5", &[("host", "localhost:8001")][..]),
            ("127.0.0.1", &[("host", "evil.example:8001")]),
            ("127.0.0.1", &[("host", "localhost.evil.example")]),
            ("127.0.0.1", &[("host", "localhost@evil.example")]),
            ("127.0.0.1", &[("host", "localhost:evil")]),
            ("127.0.0.1", &[("host", "127.0.0.1:80.evil.example")]),
            ("127.0.0.1", &[("host", "localhost:99999")]),
            ("127.0.0.1", &[("host", "localhost:+80")]),
            ("127.0.0.1", &[("host", "localhost:-80")]),
            ("127.0.0.1", &[("host", "localhost:080")]),
            ("127.0.0.1", &[("host", "localhost:80,")]),
            ("127.0.0.1", &[("host", "localhost: 80")]),
            ("127.0.0.1", &[("host", "localhost:")]),
            ("127.0.0.1", &[("host", "localhost.")]),
            ("127.0.0.1", &[("host", "127.0.0.1.")]),
            ("127.0.0.1", &[("host", "127.1")]),
            ("127.0.0.1", &[("host", "0127.0.0.1")]),
            ("127.0.0.1", &[("host", "[::1]:")]),
            ("127.0.0.1", &[("host", "[::1]80")]),
            ("127.0.0.1", &[("host", "[::1%lo]")]),
            ("127.0.0.1", &[("host", "[[::1]]")]),
            ("127.0.0.1", &[("host", "::1")]),
            ("127.0.0.1", &[("host", "")]),
            ("127.0.0.1", &[("host", "[127.0.0.1]")]),
            ("127.0.0.1", &[("host", "[localhost]")]),
            ("127.0.0.1", &[("host", "[::1")]),
            ("127.0.0.1", &[("host", "localhost"), ("x-forwarded-port", "80")]),
            ("127.0.0.1", &[("host", "localhost"), ("x-client-ip", "10.0.0.5")]),
            ("127.0.0.1", &[("host", "192.168.1.5:8001")]),
            ("127.0.0.1", &[]),
            ("127.0.0.1", &[("host", "localhost"), ("host", "evil.example")]),
            ("127.0.0.1", &[("host", "localhost"), ("x-forwarded-for", "10.0.0.5")]),
            ("127.0.0.1", &[("host", "localhost"), ("x-forwarded-for", "127.0.0.1")]),
            ("127.0.0.1", &[("host", "localhost"), ("forwarded", "for=10.0.0.5")]),
            ("127.0.0.1", &[("host", "localhost"), ("x-real-ip", "10.0.0.5")]),
            ("127.0.0.1", &[("host", "localhost"), ("via", "1.1 proxy")]),
        ] {
            assert!(!caller(peer, fields, &[]).local, "{peer} {fields:?}");
            assert!(!caller(peer, fields, &["10.9.9.9"]).local, "{peer} {fields:?}");
        }
    }

    #[test]
    fn the_old_protocol_and_a_host_in_the_target_are_not_this_machine() {
        let peer = PeerAddress(([127, 0, 0, 1], 9).into());
        let local = |request: axum::http::request::Builder| {
            let request = request.header("host", "localhost").extension(peer).body(()).unwrap();
            Caller::of(&request.into_parts().0, &[]).local
        };
        assert!(local(Request::get("/")));
        assert!(local(Request::get("http://localhost:8001/")));
        assert!(!local(Request::get("http://evil.example/")));
        assert!(!local(Request::get("/").version(Version::HTTP_10)));
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_only_what_they_added() {
        let address = |peer, forwarded: &str, trusted: &[&str]| {
            caller(peer, &[("x-forwarded-for", forwarded)], trusted).address.to_string()
        };
        assert_eq!(address("10.0.0.1", "1.2.3.4", &["10.0.0.1"]), "1.2.3.4");
        assert_eq!(address("10.0.0.2", "1.2.3.4", &["10.0.0.1"]), "10.0.0.2");
        assert_eq!(address("10.0.0.1", "127.0.0.1, 1.2.3.4", &["10.0.0.1"]), "1.2.3.4");
        assert_eq!(address("10.0.0.1", "9.9.9.9, 1.2.3.4, 10.0.0.7", &["10.0.0.0/8"]), "1.2.3.4");
        assert_eq!(address("10.0.0.1", "1.2.3.4:5678", &["10.0.0.1"]), "1.2.3.4");
        assert_eq!(address("10.0.0.1", "[2001:db8::1]", &["10.0.0.1"]), "2001:db8::1");
        for unnamed in ["1.2.3.4, what", "", "1.2.3.4, é, 10.0.0.1"] {
            assert_eq!(address("10.0.0.1", unnamed, &["10.0.0.1"]), "0.0.0.0", "{unnamed}");
        }
        assert_eq!(address("10.0.0.1", "é, 1.2.3.4", &["10.0.0.1"]), "1.2.3.4");
        let nobody = caller("10.0.0.1", &[("x-real-ip", "1.2.3.4")], &["10.0.0.1"]);
        assert_eq!(nobody.address.to_string(), "0.0.0.0");
        assert_eq!(address("127.0.0.1", "127.0.0.1", &["127.0.0.1"]), "127.0.0.1");
        assert!(!caller("127.0.0.1", &[("x-forwarded-for", "127.0.0.1")], &["127.0.0.1"]).local);
    }

    #[test]
    fn tls_counts_where_a_trusted_proxy_says_so() {
        let secure = |trusted: &[&str]| {
            caller("10.0.0.1", &[("x-forwarded-proto", "https")], trusted).secure
        };
        assert!(secure(&["10.0.0.1"]) && !secure(&[]));
    }

    #[test]
    fn tls_to_us_counts_unless_a_proxy_spoke_it() {
        let secure = |fields: &[(&str, &str)], trusted: &[Subnet]| {
            let mut request = Request::get("/").extension(Transport::Tls);
            request = request.extension(PeerAddress(([10, 0, 0, 1], 9).into()));
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            Caller::of(&request.body(()).unwrap().into_parts().0, trusted).secure
        };
        let forwarded = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "http")];
        assert!(secure(&[], &[]));
        assert!(!secure(&forwarded, &[]) && !secure(&forwarded, &["10.0.0.1".parse().unwrap()]));
    }
}
