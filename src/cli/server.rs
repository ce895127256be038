//! Addresses of servers, as they are given on the command line.

use std::{fmt, str::FromStr};

use url::Url;

use crate::config::scheme;

/// A node or a main server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    url: Url,
}

impl Server {
    /// On this machine.
    pub fn local(port: u16, https: bool) -> Self {
        let url = format!("{}://127.0.0.1", scheme(https));
        let mut url = Url::parse(&url).expect("a literal address");
        // Only URLs without a host refuse a port.
        let _ = url.set_port(Some(port));
        Self { url }
    }

    /// A path of it; a proxy may have it below a path of its own.
    pub fn at(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{path}", self.url.path().trim_end_matches('/')));
        url
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut url = address(text)?;
        url.set_query(None);
        url.set_fragment(None);
        Ok(Self { url })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

/// Anything at a server.
pub fn address(text: &str) -> Result<Url, String> {
    if !text.contains("://") {
        return Err(format!("it lacks its http://: http://{text} is meant?"));
    }
    let nowhere = || "it names no server; http://192.168.1.20:8001 would".to_owned();
    let url = Url::parse(text).map_err(|_| nowhere())?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err("it is neither http:// nor https://".to_owned()),
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
            let server: Server = given.parse().unwrap();
            assert_eq!(server.to_string(), shown);
            assert_eq!(server.at("/api/status").as_str(), at);
        }
        assert_eq!(Server::local(8001, false).to_string(), "http://127.0.0.1:8001");
        assert_eq!(Server::local(8001, true).to_string(), "https://127.0.0.1:8001");
    }

    #[test]
    fn what_is_no_address_is_told_apart() {
        for (given, part) in [
            ("10.0.0.1:8001", "http://10.0.0.1:8001 is meant?"),
            ("ftp://node:8001", "neither http:// nor https://"),
            ("http://", "names no server"),
            ("http://a:99999", "names no server"),
        ] {
            let told = given.parse::<Server>().unwrap_err();
            assert!(told.contains(part), "{given}: {told}");
        }
    }
}
