//! Finds other sources of a meeting's package: the main server knows its nodes, and a
//! node knows its main server.

use std::time::Duration;

use edge_mirror_protocol::package::{PackageId, Sha256, percent_decoded};
use reqwest::Client;
use serde_json::Value;
use url::Url;

use super::answer::PackageAnswer;
use crate::{cli::ServerUrl, commands::client};

/// A server that knows answers immediately.
const PATIENCE: Duration = Duration::from_secs(3);

/// Returns nodes with the package of this URL, and last the main server, which gives it
/// itself; nothing if the URL is not of a meeting's package, or no server knows.
pub(super) async fn others(http: &Client, url: &Url) -> Vec<Url> {
    let Some((server, id)) = meeting_of(url) else { return Vec::new() };
    if let Some(listed) = listed_by(http, &server, &id).await {
        return in_order(url, listed, &server, &id);
    }
    let Some(status) = asked(http, server.at("/api/status")).await else { return Vec::new() };
    let main_server = status["main_server"].as_str().and_then(|url| url.parse::<ServerUrl>().ok());
    let Some(main_server) = main_server else { return Vec::new() };
    let listed = listed_by(http, &main_server, &id).await.unwrap_or_default();
    in_order(url, listed, &main_server, &id)
}

/// Returns the digest that a main server names for the package at its own address. The
/// official ones name none.
pub(super) async fn digest_at(http: &Client, direct: &Url) -> Option<Sha256> {
    let answer = http.head(direct.clone()).timeout(PATIENCE).send().await.ok()?;
    PackageAnswer::of(&answer).sha256.filter(|_| answer.status().is_success())
}

fn in_order(url: &Url, listed: Vec<Url>, main_server: &ServerUrl, id: &PackageId) -> Vec<Url> {
    let direct = format!("/api/v1/meetings/{}/download-package-direct", id.segment());
    let direct = main_server.at(&direct);
    let mains = client::authority(&direct);
    let nodes = listed.into_iter().filter(|node| {
        // It is listed, too, and redirects to its nodes.
        let node = client::authority(node);
        node != mains && node != client::authority(url)
    });
    nodes.chain([direct.clone()]).collect()
}

/// Returns the server and the meeting of a package's URL.
fn meeting_of(url: &Url) -> Option<(ServerUrl, PackageId)> {
    let path = url.path();
    let (base, rest) = match path.split_once("/api/v1/meetings/") {
        Some((base, rest)) => (base, rest.strip_suffix("/download-package")?),
        None => {
            let (base, rest) = path.split_once("/api/meetings/")?;
            (base, rest.strip_suffix("/download")?)
        }
    };
    let mut server = url.clone();
    server.set_path(base);
    Some((server.as_str().parse().ok()?, percent_decoded(rest)?.parse().ok()?))
}

async fn listed_by(http: &Client, server: &ServerUrl, id: &PackageId) -> Option<Vec<Url>> {
    let path = format!("/api/v1/meetings/{}/download-nodes-info", id.segment());
    addresses(&asked(http, server.at(&path)).await?)
}

/// Parses a list of sources; older main servers send an object with the nodes.
fn addresses(answer: &Value) -> Option<Vec<Url>> {
    let list = answer.as_array().or_else(|| answer["available_nodes"].as_array())?;
    let address = |source: &Value| Url::parse(source["download_url"].as_str()?).ok();
    Some(
        list.iter()
            .filter_map(address)
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .collect(),
    )
}

async fn asked(http: &Client, url: Url) -> Option<Value> {
    let answer = http.get(url).timeout(PATIENCE).send().await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    serde_json::from_slice(&client::limited(answer).await.ok()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_packages_address_tells_its_server_and_its_meeting() {
        let of = |url: &str| {
            let (server, id) = meeting_of(&Url::parse(url).unwrap())?;
            Some((server.to_string(), id.to_string()))
        };
        let found = |server: &str| Some((server.to_owned(), "m1".to_owned()));
        let package = "api/v1/meetings/m1/download-package";
        assert_eq!(of(&format!("http://a:8000/{package}")), found("http://a:8000"));
        assert_eq!(of(&format!("http://a/edge/{package}?x")), found("http://a/edge"));
        assert_eq!(of("http://a/api/meetings/m1/download"), found("http://a"));
        let odd = of("http://a/api/v1/meetings/会议 %23%2525/download-package");
        assert_eq!(odd, Some(("http://a".to_owned(), "会议 #%25".to_owned())));
        for other in
            ["http://a/", "http://a/m1.zip", "http://a/api/v1/meetings/m%2f1/download-package"]
        {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn nodes_come_first_and_the_main_server_itself_last() {
        let url = "http://main:8000/api/v1/meetings/m1/download-package";
        let source =
            |host: &str| json!({"ip": host, "download_url": url.replace("main:8000", host)});
        let newer = json!([source("main:8000"), source("n1:1"), source("n2:2")]);
        let older = json!({
            "meeting_id": "m1", "main_server": source("main:8000"),
            "available_nodes": [source("n1:1"), source("n2:2")],
        });
        let (main, id) = meeting_of(&Url::parse(url).unwrap()).unwrap();
        for answer in [newer, older] {
            let listed = addresses(&answer).unwrap();
            let others = in_order(&Url::parse(url).unwrap(), listed, &main, &id);
            let others: Vec<_> = others.iter().map(Url::as_str).collect();
            let node = |host: &str| url.replace("main:8000", host);
            assert_eq!(others, [node("n1:1"), node("n2:2"), format!("{url}-direct")]);
        }
        assert_eq!(addresses(&json!({"detail": "x"})), None);
    }
}
