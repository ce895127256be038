//! Content probes: reads a part of a package from a node and compares it with what is here.
//! A node may have damaged files, or wrong ones, and say that it has the package.

use std::{collections::HashMap, os::unix::fs::FileExt, sync::Arc, time::Duration};

use edge_mirror_base::tasks;
use edge_mirror_http::tls;
use edge_mirror_protocol::{
    extension::PROBE_HEADER,
    package::{PackageId, Sha256},
};
use edge_mirror_settings::scheme;
use edge_mirror_store::OpenedPackage;
use futures_util::{StreamExt, stream::FuturesUnordered};
use reqwest::{Response, StatusCode, header, redirect::Policy};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::probe::authority;
use crate::{
    counts::ContentResult,
    server::Server,
    state::{
        contents::{ContentNews, ContentOutcome},
        registry::ContentProbe,
    },
};

/// Interval of looking for due probes.
const TICK: Duration = Duration::from_secs(1);
/// Time limit of a probe.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Probes under way, and begun with each tick: 2 MiB/s at the most, from different nodes.
const MAX_UNDER_WAY: usize = 32;
/// Bytes that one probe compares.
const PART_BYTES: u64 = 64 << 10;

/// A part of a package, as a node sent it.
struct ReceivedPart {
    first: u64,
    bytes: Vec<u8>,
}

pub(crate) async fn probe_contents(server: Arc<Server>, stop: CancellationToken) {
    // The node's certificate is for its clients to judge, and a redirect is no package.
    let client = tls::http(tls::unverified_client())
        .timeout(TIMEOUT)
        .redirect(Policy::none())
        .pool_max_idle_per_host(0)
        .build()
        .expect("a client that is given its TLS has nothing to load that could fail");
    let mut under_way = FuturesUnordered::new();
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some((probe, outcome)) = under_way.next() => finish(&server, &probe, outcome),
            _ = tick.tick() => {
                let room = MAX_UNDER_WAY - under_way.len();
                let current = running_packages(&server);
                let due =
                    server.registry().take_content_probes(&current, room, server.clock.now());
                under_way.extend(due.into_iter().map(|probe| {
                    let (server, client) = (server.clone(), client.clone());
                    async move {
                        let outcome = compare(&server, &client, &probe).await;
                        (probe, outcome.unwrap_or(ContentOutcome::Unknown))
                    }
                }));
            }
        }
    }
}

fn running_packages(server: &Server) -> HashMap<PackageId, Sha256> {
    let book = server.book();
    let running = book.running();
    running.filter_map(|meeting| Some((meeting.id.clone(), server.digest(&meeting.id)?))).collect()
}

fn finish(server: &Server, probe: &ContentProbe, outcome: ContentOutcome) {
    let ContentProbe { node_id, id, .. } = probe;
    server.counts.content_probes.inc(match &outcome {
        ContentOutcome::Same => ContentResult::Same,
        ContentOutcome::Wrong(_) => ContentResult::Wrong,
        ContentOutcome::Unknown => ContentResult::Unknown,
    });
    let text = match &outcome {
        ContentOutcome::Wrong(text) => text.clone(),
        ContentOutcome::Same | ContentOutcome::Unknown => String::new(),
    };
    let news = server.registry().record_content(probe, outcome, server.clock.now());
    match news {
        Some(ContentNews::Wrong) => {
            warn!("node {node_id} gets no clients for the package of meeting {id}: {text}");
        }
        Some(ContentNews::Right) => {
            info!("node {node_id} has the right package of meeting {id} again");
        }
        None => return,
    }
    server.wake.announcer.notify_one();
}

/// None if there is nothing to compare.
async fn compare(
    server: &Server,
    client: &reqwest::Client,
    probe: &ContentProbe,
) -> Option<ContentOutcome> {
    let package = server.store.package(&probe.id).await.ok().flatten()?;
    let size = package.0.manifest.size_bytes;
    if package.0.manifest.sha256 != probe.sha256 || size == 0 {
        return None;
    }
    let length = PART_BYTES.min(size);
    let first = fastrand::u64(0..=size - length);
    let part = receive(client, probe, (first, length), size).await?;
    tasks::blocking(move || judge(&package, &part)).await
}

fn judge((_, opened): &OpenedPackage, part: &ReceivedPart) -> Option<ContentOutcome> {
    let mut own = vec![0; part.bytes.len()];
    opened.file().read_exact_at(&mut own, part.first).ok()?;
    if !opened.is_untouched() {
        return None;
    }
    let differs = own.iter().zip(&part.bytes).position(|(own, theirs)| own != theirs);
    Some(match differs {
        None => ContentOutcome::Same,
        Some(place) => {
            let at = part.first + place as u64;
            ContentOutcome::Wrong(format!("byte {at} is another one there"))
        }
    })
}

/// Gets a part of the package. None if the node does not give it: an error, a redirect,
/// another version, a connection that breaks.
async fn receive(
    client: &reqwest::Client,
    probe: &ContentProbe,
    (first, length): (u64, u64),
    size: u64,
) -> Option<ReceivedPart> {
    let (scheme, authority) = (scheme(probe.https), authority(&probe.address).ok()?);
    let id = probe.id.segment();
    let url = format!("{scheme}://{authority}/api/v1/meetings/{id}/download-package");
    let last = first + length - 1;
    let request = client.get(url).header(header::RANGE, format!("bytes={first}-{last}"));
    let request = request.header(PROBE_HEADER, "1");
    let mut answer = request.header(header::ACCEPT_ENCODING, "identity").send().await.ok()?;
    let field = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let first = match answer.status() {
        StatusCode::PARTIAL_CONTENT => {
            let expected = format!("bytes {first}-{last}/{size}");
            (field("content-range") == Some(&expected)).then_some(first)?
        }
        // It has no ranges; its first bytes will do.
        StatusCode::OK => (answer.content_length() == Some(size)).then_some(0)?,
        _ => return None,
    };
    if is_other_version(&answer, probe.sha256) || field("content-encoding").is_some() {
        return None;
    }
    let length = usize::try_from(length).ok()?;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        bytes.extend_from_slice(&answer.chunk().await.ok()??);
    }
    bytes.truncate(length);
    Some(ReceivedPart { first, bytes })
}

/// True if the tag is a digest, as those of our nodes are, and another one.
fn is_other_version(answer: &Response, sha256: Sha256) -> bool {
    let tag = answer.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok());
    let tag = tag.and_then(|tag| tag.strip_prefix('"')?.strip_suffix('"'));
    tag.and_then(|tag| tag.parse::<Sha256>().ok()).is_some_and(|tag| tag != sha256)
}
