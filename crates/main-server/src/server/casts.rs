//! The way of casts to the worker that saves them.

use std::sync::atomic::{AtomicU64, Ordering};

use edge_mirror_base::clock::UnixMillis;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};

use crate::{
    counts::SentCastKind,
    refusal::RequestError,
    repository::CastFilter,
    server::Server,
    state::{
        casts::{self, CastId, CastLimits, CastOrigin, CastReceipt, KeptCast, NewCast},
        destinations::{Audience, Destinations, UnusableDestinations},
        fleet::KnownNode,
        groups::AddressedNode,
        virtual_nodes::VirtualNodes,
    },
};

/// Requests that wait for the worker; each may hold a megabyte. Who comes later waits to
/// be queued.
const MAX_QUEUED: usize = 64;

/// A change of the casts, and who waits for what becomes of it.
#[derive(Debug)]
pub(crate) enum PendingCasts {
    Add(Vec<NewCast>, oneshot::Sender<Result<AddedCasts, RequestError>>),
    Cancel(CastId, oneshot::Sender<Result<Option<KeptCast>, RequestError>>),
}

/// The casts of a request, saved.
#[derive(Debug)]
pub(crate) struct AddedCasts {
    pub(crate) receipts: Vec<CastReceipt>,
    pub(crate) casts: Vec<NewCast>,
}

impl AddedCasts {
    /// The first one; None if it was saved before.
    pub(crate) fn first(&self) -> Option<KeptCast> {
        let receipt = self.receipts.first().filter(|receipt| !receipt.repeated)?;
        Some(self.casts.first()?.kept(&receipt.id))
    }
}

/// The way to the worker, and the bounds of casts.
#[derive(Debug)]
pub(crate) struct CastQueue {
    sender: mpsc::Sender<PendingCasts>,
    /// Casts in the database, as far as is known.
    kept: AtomicU64,
    pub(crate) limits: CastLimits,
}

impl CastQueue {
    pub(crate) fn new() -> (Self, mpsc::Receiver<PendingCasts>) {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED);
        (Self { sender, kept: AtomicU64::default(), limits: CastLimits::default() }, receiver)
    }

    pub(crate) fn kept(&self) -> u64 {
        self.kept.load(Ordering::Relaxed)
    }

    pub(crate) fn note_kept(&self, count: u64) {
        self.kept.store(count, Ordering::Relaxed);
    }
}

impl Server {
    /// Reads casts that somebody sends to nodes of this fleet.
    pub(crate) fn read_casts(
        &self,
        items: Vec<Map<String, Value>>,
        origin: &CastOrigin,
    ) -> Result<Vec<NewCast>, RequestError> {
        let (now, limits) = (UnixMillis::now(), &self.casts.limits);
        casts::read_casts(items, limits, origin, now, |to| self.resolve(to))
    }

    /// The nodes and virtual nodes that are meant, as they are known now.
    pub(crate) fn resolve(&self, to: &Destinations) -> Result<Audience, UnusableDestinations> {
        self.resolve_among(to, &self.virtual_nodes())
    }

    /// The same without virtual nodes: nobody pulls files there.
    pub(crate) fn resolve_nodes(
        &self,
        to: &Destinations,
    ) -> Result<Audience, UnusableDestinations> {
        self.resolve_among(to, &VirtualNodes::default())
    }

    fn resolve_among(
        &self,
        to: &Destinations,
        virtual_nodes: &VirtualNodes,
    ) -> Result<Audience, UnusableDestinations> {
        let has_sites = !to.sites.is_empty() || !to.groups.is_empty();
        let groups = self.groups();
        self.with_addressed_nodes(has_sites, virtual_nodes, |nodes| {
            to.resolve(&groups, nodes.iter().copied())
        })
    }

    /// Looks at all known nodes and at virtual ones; at their sites, too, if those are needed.
    pub(crate) fn with_addressed_nodes<T>(
        &self,
        has_sites: bool,
        virtual_nodes: &VirtualNodes,
        look: impl FnOnce(&[AddressedNode<'_>]) -> T,
    ) -> T {
        let known = self.known();
        // What a node says of its site counts where its operator says none.
        let registry = has_sites.then(|| self.registry());
        let site = |node: &KnownNode| {
            let reported = registry.as_ref().and_then(|registry| registry.site(&node.id));
            match node.profile.site.is_empty() {
                true => reported.unwrap_or_default().to_owned(),
                false => node.profile.site.clone(),
            }
        };
        let sites: Vec<_> = match has_sites {
            true => known.iter().map(|node| site(node)).collect(),
            false => vec![String::new(); known.len()],
        };
        drop(registry);
        let nodes = known.iter().zip(&sites).map(|(node, site)| AddressedNode {
            id: &node.id,
            site,
            labels: &node.profile.labels,
        });
        let virtual_nodes = virtual_nodes.iter().map(|node| node.addressed());
        look(&nodes.chain(virtual_nodes).collect::<Vec<_>>())
    }

    /// Has casts saved; they are on disk when this returns, even if the caller is dropped.
    pub(crate) async fn add_casts(&self, casts: Vec<NewCast>) -> Result<AddedCasts, RequestError> {
        let (reply, outcome) = oneshot::channel();
        self.queue_casts(PendingCasts::Add(casts, reply)).await?;
        let added = outcome.await.map_err(|_| RequestError::stopping())?;
        if let Ok(AddedCasts { receipts, .. }) = &added {
            let new = receipts.iter().filter(|receipt| !receipt.repeated).count();
            self.counts.casts.counter(SentCastKind::Kept).add(new as u64);
        }
        self.note_limit(&added);
        added
    }

    /// Has nobody else get a cast, and returns it as it is then.
    pub(crate) async fn cancel_cast(&self, id: CastId) -> Result<KeptCast, RequestError> {
        let name = id.to_string();
        let (reply, outcome) = oneshot::channel();
        self.queue_casts(PendingCasts::Cancel(id, reply)).await?;
        let cancelled = outcome.await.map_err(|_| RequestError::stopping())??;
        cancelled.ok_or(RequestError::UnknownCast(name))
    }

    async fn queue_casts(&self, pending: PendingCasts) -> Result<(), RequestError> {
        self.casts.sender.send(pending).await.map_err(|_| RequestError::stopping())
    }

    /// The newest casts that are looked for, the newest first.
    pub(crate) async fn casts(&self, filter: &CastFilter) -> Result<Vec<KeptCast>, RequestError> {
        let found = self.cast_records.casts(filter).await;
        found.map_err(|error| RequestError::RecordsUnavailable(error.to_string()))
    }

    pub(crate) async fn cast(&self, id: &CastId) -> Result<KeptCast, RequestError> {
        let found = self.cast_records.cast(id).await;
        let found = found.map_err(|error| RequestError::RecordsUnavailable(error.to_string()))?;
        found.ok_or_else(|| RequestError::UnknownCast(id.to_string()))
    }
}
