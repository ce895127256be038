//! The calls of nodes that other main servers of the fleet have to know of.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::state::fleet::NodeCaller;

/// Bytes that are kept until they are told; nodes call again within seconds.
const MAX_BYTES: usize = 16 << 20;

/// A call that this or another main server has carried out.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub(crate) enum SharedCall {
    Register(NodeCall),
    Heartbeat(NodeCall),
    Unregister(NodeCall),
    Probed(ProbedNode),
}

/// A request of a node, and who sent it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct NodeCall {
    client: IpAddr,
    is_proven: bool,
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
    pub(crate) fn new(caller: NodeCaller, body: Map<String, Value>) -> Self {
        Self { client: caller.client, is_proven: caller.is_proven, body }
    }

    pub(crate) fn caller(&self) -> NodeCaller {
        NodeCaller { client: self.client, is_proven: self.is_proven }
    }
}

/// Calls that others were not told of yet, as JSON.
#[derive(Debug, Default)]
pub(crate) struct UnsharedCalls(Mutex<String>);

impl UnsharedCalls {
    pub(crate) fn push(&self, call: &SharedCall) {
        // Text keys alone: serialization can't fail.
        let text = serde_json::to_string(call).unwrap_or_default();
        let mut calls = self.calls();
        if calls.len() + text.len() < MAX_BYTES {
            let separator = if calls.is_empty() { '[' } else { ',' };
            calls.push(separator);
            calls.push_str(&text);
        }
    }

    /// Returns all of them as a JSON array.
    pub(crate) fn take(&self) -> String {
        let mut calls = std::mem::take(&mut *self.calls());
        if calls.is_empty() {
            calls.push('[');
        }
        calls.push(']');
        calls
    }

    fn calls(&self) -> MutexGuard<'_, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_once_and_in_their_order() {
        let calls = UnsharedCalls::default();
        assert_eq!(calls.take(), "[]");
        for node_id in ["a", "b"] {
            let address = "10.0.0.1:8001".to_owned();
            let reason = String::new();
            let probed = ProbedNode { node_id: node_id.into(), address, https: None, reason };
            calls.push(&SharedCall::Probed(probed));
        }
        let caller = NodeCaller { client: [10, 0, 0, 1].into(), is_proven: true };
        let body = Map::from_iter([("node_id".to_owned(), Value::from("c"))]);
        calls.push(&SharedCall::Heartbeat(NodeCall::new(caller, body)));
        let told: Vec<SharedCall> = serde_json::from_str(&calls.take()).unwrap();
        let [SharedCall::Probed(a), SharedCall::Probed(b), SharedCall::Heartbeat(c)] = &*told
        else {
            panic!("{told:?}");
        };
        assert_eq!((&*a.node_id, &*b.node_id), ("a", "b"));
        assert_eq!((c.caller(), &c.body["node_id"]), (caller, &Value::from("c")));
        assert_eq!(calls.take(), "[]");
    }

    #[test]
    fn no_more_is_kept_than_fits() {
        let calls = UnsharedCalls::default();
        let text = "x".repeat(MAX_BYTES / 4);
        let probed = ProbedNode {
            node_id: String::new(),
            address: text,
            https: Some(true),
            reason: String::new(),
        };
        for _ in 0..10 {
            calls.push(&SharedCall::Probed(probed.clone()));
        }
        let told: Vec<SharedCall> = serde_json::from_str(&calls.take()).unwrap();
        assert_eq!(told.len(), 3);
    }
}
