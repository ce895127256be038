//! `GET /api/v1/overview`: all that the page shows, from memory, whatever the
//! disk does.

use std::{collections::HashMap, sync::Arc};

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{
    manage, nodes,
    registry::Node,
    server::Server,
    troubles::{self, Seen},
};
use crate::package::PackageId;

pub async fn overview(State(server): State<Arc<Server>>) -> Json<Value> {
    Json(snapshot(&server))
}

pub fn snapshot(server: &Server) -> Value {
    let now_s = server.clock.now_s();
    let (book, outside) = (server.book(), server.outside.borrow().clone());
    let uploading = server.uploads_under_way();
    let registry = server.registry();
    let holders = registry.holders(now_s, |id| server.digest(id));
    let ledger = server.ledger();

    let none = Vec::new();
    let meetings = book.meetings.iter().map(|meeting| {
        let held_by = holders.get(&meeting.id).unwrap_or(&none);
        let mut shown = manage::described(server, meeting, held_by);
        shown["announced"] = json!(meeting.running() && !meeting.unannounced);
        shown["uploading"] = json!(uploading.contains(&meeting.id));
        shown
    });
    let meetings: Vec<_> = meetings.collect();
    let held = by_node(&holders);
    let live: Vec<_> = registry.live(now_s).collect();
    let nodes = live.iter().map(|(node_id, node)| {
        let packages = held.get(node_id.as_str()).map(Vec::as_slice).unwrap_or_default();
        shown_node(node_id, node, packages, ledger.redirects_to(node_id))
    });
    let nodes: Vec<_> = nodes.collect();
    let bare = book.running().filter(|meeting| server.digest(&meeting.id).is_none());
    let bare: Vec<_> = bare.collect();
    let seen = Seen {
        bare: &bare,
        any_running: book.running().next().is_some(),
        nodes: &live,
        open: server.access.is_open(),
        login_error: outside.login_fault.as_deref(),
        free: outside.free,
        path: server.store.root(),
    };
    json!({
        "role": "main_server",
        "version": env!("CARGO_PKG_VERSION"),
        "started": server.started_s,
        "now": now_s,
        "data": server.data(),
        "token": book.token,
        "node_key": outside.node_key,
        "problems": troubles::found(&seen),
        "meetings": meetings,
        "nodes": nodes,
        "traffic": {
            "under_way": server.traffic.under_way(),
            "bytes_served": server.traffic.served_bytes(),
            "redirects": ledger.redirects(),
            "own_downloads": ledger.own_downloads(),
        },
        "storage": {
            "path": server.store.root(),
            "used": server.store.used_bytes(),
            "free": outside.free,
        },
        "recent": ledger.recent().collect::<Vec<_>>(),
    })
}

/// The same table the other way round.
fn by_node(holders: &HashMap<PackageId, Vec<String>>) -> HashMap<&str, Vec<&PackageId>> {
    let mut held: HashMap<&str, Vec<&PackageId>> = HashMap::new();
    for (id, node_ids) in holders {
        for node_id in node_ids {
            held.entry(node_id).or_default().push(id);
        }
    }
    // A map has no order, and another one would be news to every page.
    held.values_mut().for_each(|ids| ids.sort());
    held
}

fn shown_node(node_id: &str, node: &Node, packages: &[&PackageId], redirects: u64) -> Value {
    // As of its last word: a figure that grows by itself would be news each second.
    let mut shown = nodes::described(node_id, node, node.heard_s);
    shown["packages"] = json!(packages);
    shown["redirects"] = json!(redirects);
    shown
}
