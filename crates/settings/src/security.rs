//! Settings of access: networks, and the main server's key.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use super::schema::HIDDEN;

/// Access to what is not open to everybody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityConfig {
    /// No login is required.
    pub open: bool,
    /// Clients on the machine itself need no login.
    pub trust_local: bool,
    /// Empty: any address may try.
    pub allow_from: Vec<Subnet>,
    pub trusted_proxies: Vec<Subnet>,
    /// Key that the main server requires.
    pub main_server_key: Option<Secret>,
}

impl Default for SecurityConfig {
    fn default() -> Self {
        Self {
            open: false,
            trust_local: true,
            allow_from: Vec::new(),
            trusted_proxies: Vec::new(),
            main_server_key: None,
        }
    }
}

/// An address or a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet(IpNet);

impl Subnet {
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// The more bits, the closer is a subnet to an address that it contains.
    pub fn prefix_len(&self) -> u8 {
        self.0.prefix_len()
    }

    /// The subnet of this length that an address is in; None if there are no prefixes of
    /// this length.
    pub fn around(address: IpAddr, prefix_len: u8) -> Option<Self> {
        let subnet = IpNet::new(address.to_canonical(), prefix_len).ok()?;
        Some(Self(subnet).network())
    }

    /// The subnet without the bits of a host: 10.3.0.0/16 of 10.3.0.7/16.
    pub fn network(&self) -> Self {
        Self(self.0.trunc())
    }
}

impl FromStr for Subnet {
    type Err = ipnet::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Self(IpNet::from(address.to_canonical()))),
            Err(_) => text.parse().map(|network| Self(canonical(network))),
        }
    }
}

/// Converts IPv4 addresses written as IPv6 ones, so that they match.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(wide) = network else { return network };
    let narrow = wide.addr().to_ipv4_mapped().zip(wide.prefix_len().checked_sub(96));
    let narrow = narrow.and_then(|(address, length)| Ipv4Net::new(address, length).ok());
    narrow.map_or(network, IpNet::V4)
}

impl TryFrom<String> for Subnet {
    type Error = ipnet::AddrParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        match subnet.0.prefix_len() == subnet.0.max_prefix_len() {
            true => subnet.0.addr().to_string(),
            false => subnet.0.to_string(),
        }
    }
}

/// Text that no log and no answer shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses_however_they_are_written() {
        let holds = |network: &str, address: &str| {
            network.parse::<Subnet>().unwrap().contains(address.parse().unwrap())
        };
        assert!(holds("10.0.0.0/8", "10.1.2.3") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(holds("::ffff:10.77.0.0/120", "10.77.0.9"));
        assert!(!holds("::ffff:10.77.0.0/120", "10.77.1.9"));
        assert!(holds("::1", "::1") && holds("fe80::/10", "fe80::1"));
        let around = |address: &str, prefix_len| {
            Subnet::around(address.parse().unwrap(), prefix_len).map(String::from)
        };
        assert_eq!(around("::ffff:10.3.7.9", 16).as_deref(), Some("10.3.0.0/16"));
        assert_eq!(around("10.3.7.9", 33), None);
        let shown = |text: &str| String::from(text.parse::<Subnet>().unwrap());
        assert_eq!(
            (shown("10.0.0.1"), shown("10.0.0.0/8")),
            ("10.0.0.1".into(), "10.0.0.0/8".into())
        );
    }
}
