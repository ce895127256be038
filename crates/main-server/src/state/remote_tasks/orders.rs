//! The orders of a node: which runs it begins, stops and may forget.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::remote_tasks::{
    LEASE, MAX_EXCHANGE_BYTES, MAX_STARTS, RunKey, RunOrder, RunOrders,
};
use serde_json::Value;

use super::{NodeSession, RemotePart, RemoteTaskTable, TaskEntry, TaskSpread};

/// Bytes of runs to begin; the rest of an answer is for what there is to stop and to forget.
const MAX_STARTS_BYTES: usize = MAX_EXCHANGE_BYTES / 2;

/// The orders of a node, as the table has them and as far as it does not follow them yet.
pub(crate) fn orders_for(
    table: &RemoteTaskTable,
    node_id: &str,
    session: &NodeSession,
    now: UnixMillis,
) -> RunOrders {
    let mut orders = RunOrders { lease_seconds: LEASE.as_secs(), ..RunOrders::default() };
    let (mut bytes, runs) = (0, table.runs_of(node_id));
    for (id, number) in runs.into_iter().flat_map(|runs| runs.iter()) {
        let Some(entry) = table.find(id) else { continue };
        let Some(part) = entry.part(number) else { continue };
        let key = part.run_key();
        let is_unknown = !session.names(&key)
            && part.assignment.as_ref().is_some_and(|to| *to.boot == *session.boot);
        match (entry.task.ending.is_some(), is_unknown) {
            // It may have been told to begin it a moment ago.
            (true, _) if !session.run(&key).is_some_and(|run| run.state.is_finished()) => {
                orders.stop.push(key);
            }
            (false, true) if orders.start.len() < MAX_STARTS => {
                let order = order_for(entry, part, now);
                let written = serde_json::to_vec(&order).map_or(0, |json| json.len());
                // Further ones come in the next answer; orders to stop are in each.
                if orders.start.is_empty() || bytes + written <= MAX_STARTS_BYTES {
                    bytes += written;
                    orders.start.push(order);
                }
            }
            _ => {}
        }
    }
    for (key, run) in session.runs() {
        if is_current(table, node_id, key) {
            continue;
        }
        match run.state.is_finished() {
            true => orders.taken.push(key.clone()),
            false => orders.stop.push(key.clone()),
        }
    }
    orders.stop.sort_unstable();
    orders.taken.sort_unstable();
    orders.version = version(&orders);
    orders
}

/// True if the run is the node's, and its end was not reported.
pub(crate) fn is_current(table: &RemoteTaskTable, node_id: &str, key: &RunKey) -> bool {
    let part = table.find(&key.task).and_then(|entry| entry.part(key.part));
    part.is_some_and(|part| {
        part.outcome.is_none()
            && part.epoch == key.epoch
            && part.assignment.as_ref().is_some_and(|to| to.node == node_id)
    })
}

/// The order to begin a part.
pub(crate) fn order_for(entry: &TaskEntry, part: &RemotePart, now: UnixMillis) -> RunOrder {
    let task = &entry.task;
    let input = match task.spread {
        TaskSpread::Best | TaskSpread::Every => task.input.clone(),
        TaskSpread::Split => {
            let first = part.span.first as usize;
            let items = task.items.get(first..first + part.span.count as usize);
            Some(Value::Array(items.unwrap_or_default().to_vec()))
        }
    };
    let left = task.deadline.saturating_since(now).as_secs().max(1);
    RunOrder {
        key: part.run_key(),
        task_type: task.task_type.clone(),
        parameters: task.parameters.clone(),
        input,
        timeout_seconds: task.timeout_s.min(left),
    }
}

/// Another number for other orders; 0 for none.
fn version(orders: &RunOrders) -> u64 {
    if orders.start.is_empty() && orders.stop.is_empty() && orders.taken.is_empty() {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    let starts: Vec<&RunKey> = orders.start.iter().map(|order| &order.key).collect();
    (starts, &orders.stop, &orders.taken).hash(&mut hasher);
    hasher.finish().max(1)
}
