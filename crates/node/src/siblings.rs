//! The other nodes of this one's fleet: which of them to pull a package from, and the key
//! by which all know each other. Our own main server tells both in its answers to polls
//! (`board.relay`); under another one the operator sets the key, and nodes are found in
//! its list (`discovery`). How a pull goes on is `fetch`'s part.

pub mod discovery;
mod nonce;
mod rank;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use edge_mirror_protocol::{
    extension::RelaySection,
    package::PackageId,
    relay::{RelayKey, Sibling, auth::PackageVersion},
};
use edge_mirror_settings::{Config, Settings};
use reqwest::Client;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tracing::warn;

use crate::{board::StatusBoard, upstream::sibling_client};
use nonce::NonceIssuer;

/// A pull waits this long for the others to be found.
const LONGEST_DISCOVERY: Duration = Duration::from_secs(2);
/// A list that is not older counts as the present one.
const FRESH: Duration = Duration::from_millis(500);

/// Nodes found in the list of a main server.
#[derive(Clone, Debug, Default)]
pub struct DiscoveredSiblings {
    /// Base URL of the main server.
    pub origin: String,
    /// The time of the list; none before the first.
    pub listed_at: Option<Instant>,
    pub by_id: BTreeMap<String, KnownSibling>,
}

/// A node of the fleet.
#[derive(Clone, Debug)]
pub struct KnownSibling {
    pub sibling: Sibling,
    /// As it told then.
    pub site: String,
    pub proven_at: Instant,
}

/// The nodes to ask for one package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParentCandidates {
    pub parents: Vec<Sibling>,
    /// Named by our own main server, which also has digests of pieces.
    pub is_planned: bool,
    /// Others are known, and all come after this node.
    pub is_first: bool,
}

pub struct SiblingDirectory {
    settings: Arc<Settings>,
    board: Arc<StatusBoard>,
    /// Made on first use: most nodes have no siblings.
    client: OnceLock<Client>,
    nonces: Mutex<NonceIssuer>,
    began: Instant,
    pub(crate) discovered: watch::Sender<Arc<DiscoveredSiblings>>,
    /// A pull wants to know who is there now.
    wanted: Notify,
    /// The last nonsense of the main server, which is logged once.
    ignored: Mutex<Option<(PackageId, String)>>,
}

impl SiblingDirectory {
    pub fn new(settings: Arc<Settings>, board: Arc<StatusBoard>) -> Self {
        let mut secret = [0; 32];
        // Without random numbers there is no TLS and no login either.
        if getrandom::fill(&mut secret).is_err() {
            secret.iter_mut().for_each(|byte| *byte = fastrand::u8(..));
        }
        Self {
            settings,
            board,
            client: OnceLock::new(),
            nonces: Mutex::new(NonceIssuer::new(secret)),
            began: Instant::now(),
            discovered: watch::Sender::default(),
            wanted: Notify::new(),
            ignored: Mutex::default(),
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.get_or_init(sibling_client).clone()
    }

    /// The section of the current main server, if it is one of ours.
    fn section(&self, config: &Config) -> Option<RelaySection> {
        let plan = self.board.relay.borrow();
        plan.section.clone().filter(|_| plan.origin == config.main_server())
    }

    /// The key of the fleet; none if this node relays nothing.
    pub fn key(&self, config: &Config) -> Option<RelayKey> {
        if !config.relay.enabled {
            return None;
        }
        let told = self.section(config).and_then(|section| section.key);
        told.or_else(|| config.relay_key())
    }

    /// The key of the fleet. A node that has just started waits a moment for the main server
    /// to tell it.
    pub(crate) async fn wait_for_key(&self, config: &Config) -> Option<RelayKey> {
        if self.key(config).is_none() && config.relay.enabled {
            let mut plan = self.board.relay.subscribe();
            let told = plan.wait_for(|plan| plan.section.is_some());
            // Without it, the main server sends everything.
            let _ = tokio::time::timeout(LONGEST_DISCOVERY, told).await;
        }
        self.key(config)
    }

    /// The address under which siblings reach this node, if it is known.
    pub fn own_address(&self) -> Option<String> {
        self.board.relay_address.borrow().clone()
    }

    /// True if a sibling may have asked for this node under that address.
    pub(crate) fn is_own_address(&self, address: &str) -> bool {
        let advertised = self.board.presence.borrow().address.clone();
        [self.own_address(), advertised].iter().flatten().any(|own| own == address)
    }

    /// The nodes to pull from, the parent first; none if the main server is to be asked.
    pub(crate) async fn parents(
        &self,
        config: &Config,
        id: &PackageId,
        version: &PackageVersion,
    ) -> ParentCandidates {
        if self.key(config).is_none() {
            return ParentCandidates::default();
        }
        if let Some(section) = self.section(config) {
            return self.planned(config, id, &section);
        }
        let (origin, now) = (config.main_server(), Instant::now());
        let mut discovered = self.discovered.subscribe();
        self.wanted.notify_one();
        let is_fresh = |found: &Arc<DiscoveredSiblings>| {
            found.origin == origin && found.listed_at.is_some_and(|at| at + FRESH > now)
        };
        let found = discovered.wait_for(is_fresh);
        let Ok(Ok(found)) = tokio::time::timeout(LONGEST_DISCOVERY, found).await else {
            return ParentCandidates::default();
        };
        let parents = rank::parents((&config.node_id, &config.site), &found.by_id, id, version);
        let is_first = parents.is_empty() && !found.by_id.is_empty();
        ParentCandidates { parents, is_planned: false, is_first }
    }

    /// A node does not prove itself any more: the next list finds out why. It may speak
    /// HTTPS since.
    pub(crate) fn forget(&self, node_id: &str) {
        self.discovered.send_if_modified(|found| {
            found.by_id.contains_key(node_id)
                && Arc::make_mut(found).by_id.remove(node_id).is_some()
        });
    }

    /// The plan of our main server as it is now; None under another one.
    pub(crate) fn plan_now(&self, config: &Config, id: &PackageId) -> Option<ParentCandidates> {
        self.key(config)?;
        Some(self.planned(config, id, &self.section(config)?))
    }

    fn planned(&self, config: &Config, id: &PackageId, section: &RelaySection) -> ParentCandidates {
        let assignment = section.assignments.get(id).cloned().unwrap_or_default();
        // Without a parent, the main server comes first.
        let named = assignment
            .parent
            .iter()
            .flat_map(|parent| std::iter::once(parent).chain(&assignment.spares));
        let (own, parents): (Vec<_>, Vec<_>) =
            named.cloned().partition(|sibling| sibling.node_id == config.node_id);
        if let Some(own) = own.first() {
            self.log_ignored(id, &own.node_id);
        }
        ParentCandidates { parents, is_planned: true, is_first: false }
    }

    fn log_ignored(&self, id: &PackageId, node_id: &str) {
        let mut ignored = self.ignored.lock().unwrap_or_else(PoisonError::into_inner);
        let new = Some((id.clone(), node_id.to_owned()));
        if *ignored != new {
            warn!("meeting {id}: the main server names this node as its own parent, ignored");
            *ignored = new;
        }
    }

    pub(crate) fn issue_nonce(&self) -> String {
        self.nonces().issue(self.age_ms())
    }

    pub(crate) fn is_valid_nonce(&self, nonce: &str) -> bool {
        self.nonces().is_valid(nonce, self.age_ms())
    }

    /// False if somebody else has used it meanwhile.
    pub(crate) fn use_up_nonce(&self, nonce: &str) -> bool {
        let (mut nonces, now_ms) = (self.nonces(), self.age_ms());
        let valid = nonces.is_valid(nonce, now_ms);
        if valid {
            nonces.use_up(nonce, now_ms);
        }
        valid
    }

    /// The clock of nonces: one that nobody sets. No child is refused because the time was.
    fn age_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn nonces(&self) -> std::sync::MutexGuard<'_, NonceIssuer> {
        self.nonces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
