//! The calls of nodes that other main servers of the fleet have to know of.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::state::fleet::NodeCaller;

/// Bytes that are kept until they are written; nodes call again within seconds.
const MAX_BYTES: usize = 4 << 20;
/// Bytes of one call: of a node that has a thousand packages.
const MAX_CALL_BYTES: usize = 512 << 10;
/// The same of one that nobody has accepted.
const MAX_STRANGER_BYTES: usize = 4 << 10;

/// A call that this or another main server has carried out.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub(crate) enum SharedCall {
    Register(NodeCall),
    Heartbeat(NodeCall),
    Unregister(NodeCall),
    Probed(ProbedNode),
    /// The main server itself is about to stop.
    Stop,
}

/// A request of a node, and who sent it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct NodeCall {
    client: IpAddr,
    is_proven: bool,
    /// It waits for an operator.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_pending: bool,
    pub(crate) body: Map<String, Value>,
}

/// The outcome of a main server's probe.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ProbedNode {
    pub(crate) node_id: String,
    pub(crate) address: String,
    /// None if it can't be reached.
    pub(crate) https: Option<bool>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
}

impl NodeCall {
    pub(crate) fn new(caller: NodeCaller, is_pending: bool, body: Map<String, Value>) -> Self {
        Self { client: caller.client, is_proven: caller.is_proven, is_pending, body }
    }

    pub(crate) fn caller(&self) -> NodeCaller {
        NodeCaller { client: self.client, is_proven: self.is_proven }
    }
}

impl SharedCall {
    fn is_strangers(&self) -> bool {
        match self {
            Self::Register(call) | Self::Heartbeat(call) | Self::Unregister(call) => {
                call.is_pending
            }
            Self::Probed(_) | Self::Stop => false,
        }
    }
}

/// Calls that were not written for the others yet, as JSON.
#[derive(Debug, Default)]
pub(crate) struct UnsharedCalls(Mutex<String>);

impl UnsharedCalls {
    pub(crate) fn push(&self, call: &SharedCall) {
        // Text keys alone: serialization can't fail.
        let text = serde_json::to_string(call).unwrap_or_default();
        let limit = if call.is_strangers() { MAX_STRANGER_BYTES } else { MAX_CALL_BYTES };
        let mut calls = self.calls();
        if text.len() <= limit && calls.len() + text.len() < MAX_BYTES {
            calls.push_str(&text);
            calls.push('\n');
        }
    }

    /// Puts calls back that could not be written, before those that came since.
    pub(crate) fn put_back(&self, unwritten: String) {
        let mut calls = self.calls();
        if unwritten.len() + calls.len() < MAX_BYTES {
            *calls = unwritten + &calls;
        }
    }

    /// Returns all of them, a JSON object in each line.
    pub(crate) fn take(&self) -> String {
        std::mem::take(&mut *self.calls())
    }

    fn calls(&self) -> MutexGuard<'_, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(calls: &UnsharedCalls) -> Vec<SharedCall> {
        calls.take().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn heartbeat(node_id: &str, is_pending: bool, bytes: usize) -> SharedCall {
        let caller = NodeCaller { client: [10, 0, 0, 1].into(), is_proven: true };
        let fields = [("node_id", node_id.to_owned()), ("status", "x".repeat(bytes))];
        let body = fields.map(|(name, text)| (name.to_owned(), Value::from(text)));
        SharedCall::Heartbeat(NodeCall::new(caller, is_pending, Map::from_iter(body)))
    }

    #[test]
    fn calls_are_told_once_and_in_their_order_also_after_a_failure() {
        let calls = UnsharedCalls::default();
        assert_eq!(calls.take(), "");
        for node_id in ["a", "b"] {
            calls.push(&heartbeat(node_id, false, 0));
        }
        let untold = calls.take();
        calls.push(&heartbeat("c", false, 0));
        calls.put_back(untold);
        let names = told(&calls).into_iter().map(|call| match call {
            SharedCall::Heartbeat(call) => call.body["node_id"].as_str().unwrap().to_owned(),
            other => panic!("{other:?}"),
        });
        assert_eq!(names.collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(calls.take(), "");
    }

    #[test]
    fn no_more_is_kept_than_fits_and_of_strangers_little() {
        let calls = UnsharedCalls::default();
        for _ in 0..20 {
            calls.push(&heartbeat("a", false, MAX_BYTES / 10));
        }
        assert_eq!(told(&calls).len(), 9);
        calls.push(&heartbeat("a", false, MAX_CALL_BYTES));
        calls.push(&heartbeat("a", true, MAX_STRANGER_BYTES));
        calls.push(&heartbeat("a", true, 10));
        assert_eq!(told(&calls).len(), 1);
    }
}
