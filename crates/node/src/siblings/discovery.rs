//! Finds the nodes of the fleet in the list of a main server that is not ours. The list
//! is open to strangers and holds old nodes, too: only nodes that ask for the proof of a
//! key count, and each proves itself before anything is taken from it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use edge_mirror_protocol::relay::Sibling;
use futures_util::{StreamExt, stream};
use tokio::time::Instant;
use tracing::debug;

use super::{DiscoveredSiblings, SiblingDirectory};
use crate::upstream::{Connector, asks_for_proof};

/// The list forgets a dead node after 30 s. A pull wants a newer one.
const INTERVAL: Duration = Duration::from_secs(30);
/// Time between two lists, however many pulls begin.
const SHORTEST: Duration = Duration::from_millis(500);
/// Nodes that are not of the fleet are asked again after this time: they may have been
/// updated.
const STRANGER_PAUSE: Duration = Duration::from_secs(300);
/// Asked at a time.
const PARALLEL: usize = 8;
/// Most nodes of a list that count: more than any main server has.
const MAX_NODES: usize = 1024;

/// Runs until dropped.
pub async fn run(directory: Arc<SiblingDirectory>, connector: Arc<Connector>) {
    let mut strangers: BTreeMap<String, Instant> = BTreeMap::new();
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
    strangers: &mut BTreeMap<String, Instant>,
) -> Option<DiscoveredSiblings> {
    let config = directory.settings.current();
    let upstream = connector.upstream(&config);
    let limit = Duration::from_secs(config.network.connection_timeout);
    let listed_at = Some(Instant::now());
    let mut listed = upstream.nodes(limit).await.ok()?;
    listed.truncate(MAX_NODES);
    let now = Instant::now();
    strangers.retain(|address, until| {
        now < *until && listed.iter().any(|(_, listed)| listed == address)
    });
    let known = directory.discovered.borrow().clone();
    let known = (known.origin == upstream.origin()).then_some(known);
    let client = directory.client();
    let asked = listed.into_iter().filter(|(node_id, address)| {
        *node_id != config.node_id && !strangers.contains_key(address)
    });
    let found: Vec<_> = stream::iter(asked)
        .map(|(node_id, address)| {
            let before = known.as_ref().and_then(|known| known.by_id.get(&node_id)).cloned();
            let client = client.clone();
            async move {
                if let Some(before) = before.filter(|before| before.address == address) {
                    return Ok(before);
                }
                match asks_for_proof(&client, &address).await {
                    Some(https) => Ok(Sibling { node_id, address, https, certificate: None }),
                    None => Err(address),
                }
            }
        })
        .buffer_unordered(PARALLEL)
        .collect()
        .await;
    let mut by_id = BTreeMap::new();
    for node in found {
        match node {
            Ok(sibling) => drop(by_id.insert(sibling.node_id.clone(), sibling)),
            Err(address) => drop(strangers.insert(address, now + STRANGER_PAUSE)),
        }
    }
    Some(DiscoveredSiblings { origin: upstream.origin().to_owned(), listed_at, by_id })
}
