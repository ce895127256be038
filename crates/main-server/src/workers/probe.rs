//! Asks a node for its id at its advertised address. A node behind the wrong
//! address, or a firewall, would otherwise get clients that it never serves.

use std::{error::Error, io, time::Duration};

use axum::http::uri::Authority;
use edge_mirror_http::{tls, wire::MAX_JSON_BYTES};
use reqwest::redirect::Policy;
use serde_json::Value;

use crate::state::registry::NodeReachability;

/// Time limit of a probe.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct Prober {
    client: reqwest::Client,
}

impl Prober {
    pub(crate) fn new() -> reqwest::Result<Self> {
        // A node that speaks HTTPS sends plain HTTP on to it.
        let to_https = Policy::custom(|attempt| {
            let (from, to) = (attempt.previous().last(), attempt.url());
            let same = from.is_some_and(|from| {
                (from.host(), from.port_or_known_default())
                    == (to.host(), to.port_or_known_default())
                    && from.scheme() == "http"
            });
            if same && to.scheme() == "https" { attempt.follow() } else { attempt.stop() }
        });
        // Its certificate is for its clients to judge: the probe sends no secret,
        // and reads nothing but the node's id.
        let client = tls::http(tls::unverified_client())
            .timeout(TIMEOUT)
            .redirect(to_https)
            // A probe also finds out whether the node takes new connections.
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self { client })
    }

    pub(crate) async fn ask(&self, node_id: &str, address: &str) -> NodeReachability {
        let authority = match authority(address) {
            Ok(authority) => authority,
            Err(reason) => return NodeReachability::Unreachable(reason),
        };
        let url = format!("http://{authority}/api/status");
        let outcome = match self.get(&url).await {
            Ok((200, https, body)) => judge(node_id, &body).map(|()| https),
            Ok((status, ..)) => Err(format!("answers with status {status}")),
            Err(reason) => Err(reason),
        };
        match outcome {
            Ok(https) => NodeReachability::Reachable { https },
            Err(reason) => {
                let at = chrono::Local::now().format("%Y-%m-%d %H:%M:%S");
                NodeReachability::Unreachable(format!("GET {url}: {reason} (asked {at})"))
            }
        }
    }

    /// Status, whether HTTPS is spoken there, and the answer.
    async fn get(&self, url: &str) -> Result<(u16, bool, Vec<u8>), String> {
        let mut answer = self.client.get(url).send().await.map_err(|e| reason(&e))?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| reason(&e))? {
            if body.len() + chunk.len() > MAX_JSON_BYTES {
                return Err(format!("answers with more than {MAX_JSON_BYTES} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((answer.status().as_u16(), answer.url().scheme() == "https", body))
    }
}

/// `host:port` and nothing else: it goes into a URL and a `Location`.
pub(crate) fn authority(address: &str) -> Result<Authority, String> {
    let invalid = || format!("address '{}' is no host:port", address.escape_debug());
    let authority: Authority = address.parse().map_err(|_| invalid())?;
    if authority.host().is_empty() || address.contains('@') {
        return Err(invalid());
    }
    match authority.port_u16() {
        Some(port) if port > 0 => Ok(authority),
        Some(_) => Err(invalid()),
        None if authority.host() == address => Err(format!("address '{address}' has no port")),
        None => Err(invalid()),
    }
}

/// Checks that the status answer is that of this very node.
fn judge(node_id: &str, body: &[u8]) -> Result<(), String> {
    let answer: Value = serde_json::from_slice(body)
        .map_err(|_| "answers with something that is no node's status".to_owned())?;
    match answer.get("node_id").and_then(Value::as_str) {
        Some(answered) if answered == node_id => Ok(()),
        Some(other) => {
            let other: String = other.chars().take(64).collect();
            Err(format!("answers as node {other}, not {node_id}"))
        }
        None => Err("answers without a node_id".to_owned()),
    }
}

fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", TIMEOUT.as_secs());
    }
    let mut deepest: &dyn Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    match deepest.downcast_ref::<io::Error>() {
        // Without "(os error 111)".
        Some(io) if io.raw_os_error().is_some() => io.kind().to_string(),
        _ => deepest.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_host_and_port_and_nothing_else() {
        for good in ["1.2.3.4:8001", "node.local:80", "[fe80::1]:8001", "localhost:65535"] {
            assert_eq!(authority(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ":80",
            "a b:1",
            "u@h:1",
            "h:1/x",
            "h:1?x",
            "h:0",
            "h:99999",
            "h:x",
            "h:1\r\nX: y",
            "会议:1",
        ] {
            assert!(authority(bad).unwrap_err().contains("no host:port"), "{bad}");
        }
        for without in ["1.2.3.4", "node.local", "[::1]"] {
            assert!(authority(without).unwrap_err().contains("has no port"), "{without}");
        }
    }

    #[test]
    fn only_the_node_itself_will_do() {
        assert_eq!(judge("a", br#"{"node_id":"a"}"#), Ok(()));
        assert!(judge("a", br#"{"node_id":"b"}"#).unwrap_err().contains("as node b, not a"));
        for bad in [&b"<html>"[..], b"{}", b"[]", br#"{"node_id":1}"#] {
            assert!(judge("a", bad).is_err());
        }
    }

    #[tokio::test]
    async fn nobody_is_asked_but_who_is_at_the_address() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener =
            edge_mirror_http::listen::Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let (address, tasks) = (listener.address(), edge_mirror_base::tasks::Tasks::new());
        let elsewhere = axum::response::Redirect::permanent(&format!("https://{closed}/"));
        let router = axum::Router::new().fallback(move || std::future::ready(elsewhere.clone()));
        tasks.spawn("accept", listener.serve(router, tasks.clone(), tasks.token().clone()));
        let reach = Prober::new().unwrap().ask("a", &address.to_string()).await;
        let NodeReachability::Unreachable(reason) = reach else { panic!("{reach:?}") };
        assert!(reason.contains("answers with status 308"), "{reason}");
        assert!(tasks.shut_down(TIMEOUT).await);
    }

    #[tokio::test]
    async fn a_closed_port_is_told_as_such() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let reach = Prober::new().unwrap().ask("a", &closed.to_string()).await;
        let NodeReachability::Unreachable(reason) = reach else { panic!("{reach:?}") };
        assert!(
            reason.starts_with(&format!("GET http://{closed}/api/status: connection refused")),
            "{reason}"
        );
    }
}
