//! The settings of who may use what: networks, and the main server's key.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::schema::HIDDEN;

/// Who may use what is not open to everybody.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Security {
    /// Nobody has to log in.
    pub open: bool,
    /// Empty: any address may try.
    pub allow_from: Vec<Subnet>,
    pub trusted_proxies: Vec<Subnet>,
    /// What the main server asks of nodes.
    pub main_server_key: Option<Secret>,
}

/// An address, or all that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet(IpNet);

impl Subnet {
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Subnet {
    type Err = ipnet::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Self(IpNet::from(address.to_canonical()))),
            Err(_) => text.parse().map(Self),
        }
    }
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
