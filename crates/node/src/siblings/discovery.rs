//! Finds the nodes of the fleet in the list of a main server that is not ours. The list
//! is open to strangers and holds old nodes, too: only nodes count that prove that they
//! know the key, and that they are the node that is listed. A stranger who lists nodes
//! under other names, or servers that answer nothing, can neither move the ranks nor hold
//! up a pull.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use edge_mirror_protocol::{
    package::Validators,
    relay::{Sibling, auth::PackageVersion},
};
use edge_mirror_settings::Config;
use futures_util::{StreamExt, stream};
use reqwest::Client;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::{DiscoveredSiblings, KnownSibling, SiblingDirectory};
use crate::upstream::{Connector, SiblingError, SiblingObject, SiblingSession, asks_for_proof};

/// The list forgets a dead node after 30 s. A pull wants a newer one.
const INTERVAL: Duration = Duration::from_secs(30);
/// Time between two lists, however many pulls begin.
const SHORTEST: Duration = Duration::from_millis(500);
/// Nodes that are not of the fleet are asked again after this time: they may have been
/// updated.
const STRANGER_PAUSE: Duration = Duration::from_secs(300);
/// Those that have not answered by then, and those that would come after them, are left
/// for the next list: a pull waits for this one.
const LONGEST_ROUND: Duration = Duration::from_millis(1500);
/// Nodes that did not answer in time are asked again after this time.
const SILENT_PAUSE: Duration = Duration::from_secs(60);
/// Nodes that are known are asked again after this time: their site may have changed.
const PROOF_LIFETIME: Duration = Duration::from_secs(600);
/// Asked at a time.
const PARALLEL: usize = 32;
/// Most nodes of a list that count: more than any main server has.
const MAX_NODES: usize = 1024;

/// Id and address.
type ListedNode = (String, String);

/// Runs until dropped.
pub async fn run(directory: Arc<SiblingDirectory>, connector: Arc<Connector>) {
    let mut strangers = BTreeMap::new();
    let (mut changes, mut plans) =
        (directory.settings.subscribe(), directory.board.relay.subscribe());
    let mut listed_at = Instant::now();
    loop {
        let config = changes.borrow_and_update().clone();
        let is_planned = plans.borrow_and_update().section.is_some();
        let is_needed = config.relay.enabled
            && config.relay.key.is_some()
            && !is_planned
            && directory.board.is_running();
        if is_needed {
            match discover(&directory, &connector, &mut strangers).await {
                Some(found) => drop(directory.discovered.send_replace(Arc::new(found))),
                None => debug!("the main server's list of nodes could not be read"),
            }
            listed_at = Instant::now();
        }
        let pause = async {
            match is_needed {
                true => {
                    // Many pulls begin at the same moment.
                    let wanted = async {
                        directory.wanted.notified().await;
                        tokio::time::sleep_until(listed_at + SHORTEST).await;
                    };
                    let _ = tokio::time::timeout(INTERVAL, wanted).await;
                }
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            () = pause => {}
            _ = changes.changed() => {}
            _ = plans.changed() => {}
        }
    }
}

async fn discover(
    directory: &SiblingDirectory,
    connector: &Connector,
    strangers: &mut BTreeMap<ListedNode, Instant>,
) -> Option<DiscoveredSiblings> {
    let config = directory.settings.current();
    let upstream = connector.upstream(&config);
    let limit = Duration::from_secs(config.network.connection_timeout);
    let listed_at = Some(Instant::now());
    let mut listed = upstream.nodes(limit).await.ok()?;
    listed.truncate(MAX_NODES);
    let now = Instant::now();
    strangers.retain(|node, until| now < *until && listed.contains(node));
    let known = directory.discovered.borrow().clone();
    let known = (known.origin == upstream.origin()).then_some(known);
    let asker = asker(directory, &config, upstream.origin())?;
    let until = now + LONGEST_ROUND;
    let asked =
        listed.into_iter().filter(|node| node.0 != config.node_id && !strangers.contains_key(node));
    let found: Vec<_> = stream::iter(asked)
        .map(|node| {
            let before = known.as_ref().and_then(|known| known.by_id.get(&node.0)).cloned();
            let (client, asker) = (directory.client(), asker.clone());
            async move {
                let before = before.filter(|before| before.sibling.address == node.1);
                let is_late = Instant::now() >= until;
                let is_known = |known: &KnownSibling| {
                    is_late || now.duration_since(known.proven_at) < PROOF_LIFETIME
                };
                if let Some(before) = before.filter(is_known) {
                    return Ok(before);
                }
                if is_late {
                    return Err((node, Duration::ZERO));
                }
                let recognized = recognize(client, asker, node.clone());
                timeout_at(until, recognized).await.unwrap_or(Err((node, SILENT_PAUSE)))
            }
        })
        .buffer_unordered(PARALLEL)
        .collect()
        .await;
    let mut by_id = BTreeMap::new();
    for node in found {
        match node {
            Ok(known) => drop(by_id.insert(known.sibling.node_id.clone(), known)),
            Err((node, pause)) => drop(strangers.insert(node, now + pause)),
        }
    }
    Some(DiscoveredSiblings { origin: upstream.origin().to_owned(), listed_at, by_id })
}

/// The subject of the question whether a node is of the fleet, which is about no package.
fn asker(
    directory: &SiblingDirectory,
    config: &Config,
    origin: &str,
) -> Option<Arc<SiblingObject>> {
    Some(Arc::new(SiblingObject {
        key: "-".parse().ok()?,
        version: PackageVersion::from_token(origin, ""),
        secret: directory.key(config)?,
        child_id: config.node_id.clone(),
        child_address: directory.own_address().unwrap_or_default(),
        validators: Validators::default(),
        length: None,
    }))
}

/// Asks a node to prove what it is; else the time after which it may be asked again.
async fn recognize(
    client: Client,
    asker: Arc<SiblingObject>,
    node: ListedNode,
) -> Result<KnownSibling, (ListedNode, Duration)> {
    let pause = |error| match error {
        SiblingError::Unreachable(_) | SiblingError::TimedOut(_) => SILENT_PAUSE,
        _ => STRANGER_PAUSE,
    };
    let https = match asks_for_proof(&client, &node.1).await {
        Ok(https) => https,
        Err(error) => return Err((node, pause(error))),
    };
    let (node_id, address) = node.clone();
    let sibling = Sibling { node_id, address, https, certificate: None };
    let session = SiblingSession::new(client, sibling.clone(), asker);
    let proven = async { session?.probe(Some(Duration::ZERO)).await };
    match proven.await {
        Ok(state) => Ok(KnownSibling { sibling, site: state.site, proven_at: Instant::now() }),
        Err(error) => Err((node, pause(error))),
    }
}
