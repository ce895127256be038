//! Server addresses on the command line.

use std::{fmt, str::FromStr};

use edge_mirror_settings::scheme;
use url::{Host, Url};

use super::units::told;

/// A node or a main server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    url: Url,
}

impl ServerUrl {
    /// Returns a server on this machine.
    pub fn local(port: u16, https: bool) -> Self {
        let url = format!("{}://127.0.0.1", scheme(https));
        let mut url = Url::parse(&url).expect("a literal address");
        // Only URLs without a host refuse a port.
        let _ = url.set_port(Some(port));
        Self { url }
    }

    /// The main server on this machine, at its usual port.
    pub const LOCAL_MAIN_SERVER: &str = "http://127.0.0.1:8000";

    /// True for plain HTTP to this machine.
    pub fn is_local_http(&self) -> bool {
        let is_local = match self.url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        };
        is_local && self.url.scheme() == "http"
    }

    /// Returns the same server at its port for HTTPS.
    pub fn over_https(&self, port: u16) -> Self {
        let mut url = self.url.clone();
        // Only between special schemes, which both are.
        let _ = url.set_scheme("https");
        let _ = url.set_port(Some(port));
        Self { url }
    }

    /// Returns the URL of a path; a proxy may have it below a path of its own.
    pub fn at(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{path}", self.url.path().trim_end_matches('/')));
        url
    }
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut url = address(text)?;
        url.set_query(None);
        url.set_fragment(None);
        Ok(Self { url })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

/// Parses a URL. Without a scheme it is http, as with curl.
pub(super) fn address(text: &str) -> Result<Url, String> {
    let text = text.trim();
    let nowhere = || {
        told(
            "请填写服务器的地址，例如 192.168.1.20:8001",
            "a server's address is needed, such as 192.168.1.20:8001",
        )
    };
    let whole = match text.contains("://") {
        true => text.to_owned(),
        false => format!("http://{text}"),
    };
    let url = Url::parse(&whole).map_err(|_| nowhere())?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        "http" | "https" => Err(nowhere()),
        _ => Err(told("只支持 http:// 和 https://", "only http:// and https:// are supported")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lie_below_what_was_given() {
        for (given, shown, at) in [
            ("http://10.0.0.1:8001", "http://10.0.0.1:8001", "http://10.0.0.1:8001/api/status"),
            ("http://node/", "http://node", "http://node/api/status"),
            ("http://a/edge/?x#y", "http://a/edge", "http://a/edge/api/status"),
            ("http://[::1]:8001", "http://[::1]:8001", "http://[::1]:8001/api/status"),
            ("https://node", "https://node", "https://node/api/status"),
        ] {
            let server: ServerUrl = given.parse().unwrap();
            assert_eq!(server.to_string(), shown);
            assert_eq!(server.at("/api/status").as_str(), at);
        }
        assert_eq!(ServerUrl::local(8001, false).to_string(), "http://127.0.0.1:8001");
        assert_eq!(ServerUrl::local(8001, true).to_string(), "https://127.0.0.1:8001");
    }

    #[test]
    fn this_machine_is_spoken_to_at_its_port_for_https() {
        for (given, port, https) in [
            ("127.0.0.1:8000", 8000, "https://127.0.0.1:8000"),
            ("localhost", 8443, "https://localhost:8443"),
            ("localhost:8080", 443, "https://localhost"),
            ("[::1]:8000", 8000, "https://[::1]:8000"),
        ] {
            let server: ServerUrl = given.parse().unwrap();
            assert!(server.is_local_http(), "{given}");
            assert_eq!(server.over_https(port).to_string(), https);
        }
        for given in ["https://127.0.0.1:8000", "10.0.0.1:8000", "localhost.example"] {
            assert!(!given.parse::<ServerUrl>().unwrap().is_local_http(), "{given}");
        }
    }

    #[test]
    fn a_host_and_a_port_are_enough() {
        for (given, shown) in [
            ("10.0.0.1:8001", "http://10.0.0.1:8001"),
            ("localhost:8001", "http://localhost:8001"),
            (" node ", "http://node"),
            ("[::1]:8001", "http://[::1]:8001"),
            ("node/edge", "http://node/edge"),
        ] {
            assert_eq!(given.parse::<ServerUrl>().unwrap().to_string(), shown, "{given}");
        }
    }

    #[test]
    fn what_is_no_address_is_told_apart() {
        for (given, part) in [
            ("ftp://node:8001", "only http:// and https://"),
            ("file:///etc", "only http:// and https://"),
            ("http://", "address is needed"),
            ("", "address is needed"),
            ("a b", "address is needed"),
            ("a:99999", "address is needed"),
        ] {
            let told = given.parse::<ServerUrl>().unwrap_err();
            assert!(told.contains(part), "{given}: {told}");
        }
    }
}
