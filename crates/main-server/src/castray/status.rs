//! The nodes and their figures, as clients ask for them and as sockets are told.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, PoisonError},
    time::Duration,
};

use axum::{Json, extract::State};
use edge_mirror_base::clock::UnixMillis;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{CastRayGateway, Gateway, ascii, figures::NodeFigures};
use crate::state::dispatch::NodeOutcome;

/// Sockets within this time are told the same.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// The last status that sockets were told.
#[derive(Debug, Default)]
pub(super) struct StatusCache(Option<(Instant, Arc<str>)>);

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct TransferStats {
    total_transfers: u64,
    successful_transfers: u64,
    failed_transfers: u64,
    bytes_transferred: u64,
}

impl TransferStats {
    fn new(figures: &NodeFigures) -> Self {
        let transfers = figures.transfers;
        Self {
            total_transfers: transfers.successful + transfers.failed + figures.active() as u64,
            successful_transfers: transfers.successful,
            failed_transfers: transfers.failed,
            bytes_transferred: transfers.bytes,
        }
    }
}

/// A node as clients see it.
#[derive(Serialize)]
struct CastRayNode<'a> {
    node_id: &'a str,
    port: u16,
    is_running: bool,
    received_count: u64,
    sent_count: u64,
    /// Seconds since 1970; 0 if there was none.
    last_activity: f64,
    file_transfer_stats: TransferStats,
    active_transfers: usize,
    auto_transfer_queue: u64,
    auto_transfer_enabled: bool,
}

#[derive(Serialize)]
struct CastRayStatus<'a> {
    total_nodes: usize,
    active_nodes: usize,
    node_statuses: Vec<CastRayNode<'a>>,
    ray_cluster: Value,
    node_ports: BTreeMap<&'a str, u16>,
}

pub(super) async fn show(State(gateway): Gateway) -> Json<Value> {
    Json(gateway.status())
}

pub(super) async fn transfers(State(gateway): Gateway) -> Json<Value> {
    gateway.settle();
    let ids = gateway.node_ids();
    let figures = gateway.figures();
    let idle = NodeFigures::default();
    let stats = ids.iter().map(|id| {
        let figures = figures.get(id).unwrap_or(&idle);
        let stats = json!({
            "file_transfer_stats": TransferStats::new(figures),
            "active_transfers": figures.active(),
            "auto_transfer_enabled": figures.sends_by_itself,
            "auto_transfer_queue": 0,
        });
        (id.clone(), stats)
    });
    Json(Value::Object(stats.collect()))
}

impl CastRayGateway {
    fn status(&self) -> Value {
        self.settle();
        let (known, virtual_nodes) = (self.server.known(), self.server.virtual_nodes());
        let now = self.server.clock.now();
        let online: HashSet<String> = {
            let registry = self.server.registry();
            registry.live(now).map(|(id, _)| id.to_owned()).collect()
        };
        let real = known.iter().map(|node| (&*node.id, online.contains(&node.id)));
        let nodes = real.chain(virtual_nodes.iter().map(|node| (&*node.id, true)));
        let mut book = self.figures();
        let idle = NodeFigures::default();
        let node_statuses: Vec<_> = nodes
            .map(|(node_id, is_running)| {
                let port = book.port(node_id);
                let figures = book.get(node_id).unwrap_or(&idle);
                CastRayNode {
                    node_id,
                    port,
                    is_running,
                    received_count: figures.received,
                    sent_count: figures.sent,
                    last_activity: figures.last_activity.as_secs_f64(),
                    file_transfer_stats: TransferStats::new(figures),
                    active_transfers: figures.active(),
                    auto_transfer_queue: 0,
                    auto_transfer_enabled: figures.sends_by_itself,
                }
            })
            .collect();
        drop(book);
        let status = CastRayStatus {
            total_nodes: node_statuses.len(),
            active_nodes: node_statuses.iter().filter(|node| node.is_running).count(),
            node_ports: node_statuses.iter().map(|node| (node.node_id, node.port)).collect(),
            node_statuses,
            ray_cluster: json!({"cluster_resources": {}, "available_resources": {}, "nodes": 0}),
        };
        // Text keys alone: it can't fail.
        serde_json::to_value(&status).unwrap_or_default()
    }

    /// The frame that sockets are told now.
    pub(super) fn status_frame(&self) -> Arc<str> {
        let now = Instant::now();
        let mut cache = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, text)) = &cache.0
            && now.duration_since(*at) < FRESH_FOR
        {
            return text.clone();
        }
        let frame = json!({"type": "status_update", "data": self.status()}).to_string();
        let text: Arc<str> = ascii::escaped(&frame).into();
        cache.0 = Some((now, text.clone()));
        text
    }

    /// Counts what has arrived and what has ended meanwhile, and forgets nodes that are gone.
    fn settle(&self) {
        let (known, virtual_nodes) = (self.server.known(), self.server.virtual_nodes());
        let (table, now) = (self.server.dispatch.table(), UnixMillis::now());
        let mut figures = self.figures();
        figures.retain(|id| virtual_nodes.has(id) || known.get(id).is_some());
        let cursors = self.server.cast_outbox.cursors();
        for (id, figures) in figures.iter_mut() {
            if figures.awaits_casts()
                && let Some(cursor) = cursors.get(id)
            {
                figures.note_confirmed(cursor.received, now);
            }
            figures.settle(|transfer| {
                // One that was removed from the list has failed, as far as is known.
                let Some(task) = table.find(&transfer.task) else { return Some(false) };
                match task.outcome(&transfer.recipient) {
                    Some(outcome) => Some(outcome == NodeOutcome::Done),
                    None => task.phase.is_finished().then_some(false),
                }
            });
        }
    }
}
