//! Addresses of IPv4 and IPv6, side by side.
//!
//! A dual-stack socket shows a client of IPv4 as `::ffff:a.b.c.d`. Only this file handles
//! that: code that restricts, counts or shows addresses gets `a.b.c.d`.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tracing::debug;

/// Returns the address to listen on: the given one, else all addresses that this machine
/// has.
pub fn host(asked: Option<IpAddr>) -> IpAddr {
    asked.map_or_else(|| unspecified_address(check_dual_stack()), |one| one.to_canonical())
}

fn unspecified_address(tried: io::Result<()>) -> IpAddr {
    match tried {
        Ok(()) => Ipv6Addr::UNSPECIFIED.into(),
        Err(error) => {
            debug!("listening by IPv4 alone, this machine has no IPv6: {error}");
            Ipv4Addr::UNSPECIFIED.into()
        }
    }
}

/// Checks that the kernel gives a dual-stack socket: it may have been started without
/// IPv6, or keep it from this process.
fn check_dual_stack() -> io::Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(false)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())
}

/// Converts an IPv4-mapped IPv6 address to the IPv4 address.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, address.port()).into(),
        // Keeps its zone.
        IpAddr::V6(_) => address,
    }
}

/// Returns the key that clients are counted by, wrong logins for example: an IPv4
/// address, or the /64 network of an IPv6 one, as a machine can have any of its
/// addresses. (`serve.maxPerClient` alone counts otherwise.)
pub fn rate_limit_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
    }
}

/// Returns the address that packets to the outside leave from.
pub async fn own_address() -> io::Result<IpAddr> {
    // Addresses reserved for documentation (RFC 5737, RFC 3849).
    match local_address_for(SocketAddr::from(([192, 0, 2, 1], 9))).await {
        Ok(address) => Ok(address),
        Err(_) => {
            local_address_for((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into()).await
        }
    }
}

/// Returns the address that packets to `target` leave from. The host name's address is
/// often 127.0.1.1, and the first interface the wrong one; only the routing table knows.
/// Connecting a UDP socket asks it and sends nothing.
pub async fn local_address_for(target: SocketAddr) -> io::Result<IpAddr> {
    let target = canonical(target);
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(target).await?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_ipv6_listens_by_ipv4_and_one_address_is_just_that() {
        let none = io::Error::from_raw_os_error(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
        assert_eq!(unspecified_address(Err(none)).to_string(), "0.0.0.0");
        assert_eq!(unspecified_address(Ok(())).to_string(), "::");
        for (asked, host_is) in
            [("0.0.0.0", "0.0.0.0"), ("::1", "::1"), ("::ffff:127.0.0.1", "127.0.0.1")]
        {
            assert_eq!(host(Some(asked.parse().unwrap())).to_string(), host_is);
        }
    }

    #[test]
    fn only_what_is_ipv4_is_written_as_ipv4() {
        for (address, is) in [
            ("[::ffff:10.0.0.5]:80", "10.0.0.5:80"),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
            ("10.0.0.5:80", "10.0.0.5:80"),
            ("[::1]:80", "[::1]:80"),
            // Compatible, not mapped (RFC 4291, 2.5.5.1): deprecated.
            ("[::10.0.0.5]:80", "[::a00:5]:80"),
            ("[fe80::1%3]:80", "[fe80::1%3]:80"),
        ] {
            assert_eq!(canonical(address.parse().unwrap()).to_string(), is);
        }
    }

    #[test]
    fn clients_of_ipv4_are_not_all_one_machine() {
        let one = |address: &str| rate_limit_key(address.parse().unwrap()).to_string();
        assert_eq!(one("::ffff:10.0.0.5"), "10.0.0.5");
        assert_eq!(one("2001:db8:0:1:2:3:4:5"), "2001:db8:0:1::");
    }
}
