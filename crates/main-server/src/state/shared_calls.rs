//! The calls of nodes that other main servers of the fleet have to know of.

use std::{
    collections::VecDeque,
    fmt::Write,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::state::fleet::NodeCaller;

/// Bytes that are kept until they are written; the oldest make room.
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

/// Calls that were not written for the others yet.
#[derive(Debug, Default)]
pub(crate) struct UnsharedCalls(Mutex<CallBuffer>);

#[derive(Debug, Default)]
struct CallBuffer {
    calls: VecDeque<UnsharedCall>,
    bytes: usize,
}

/// A call as JSON. It gets older while it can't be written.
#[derive(Debug)]
pub(crate) struct UnsharedCall {
    at: Instant,
    json: String,
}

impl UnsharedCalls {
    pub(crate) fn push(&self, call: &SharedCall) {
        // Text keys alone: serialization can't fail.
        let json = serde_json::to_string(call).unwrap_or_default();
        let limit = if call.is_strangers() { MAX_STRANGER_BYTES } else { MAX_CALL_BYTES };
        if json.len() <= limit {
            self.buffer().push(UnsharedCall { at: Instant::now(), json });
        }
    }

    /// Puts calls back that could not be written, before those that came since.
    pub(crate) fn put_back(&self, unwritten: Vec<UnsharedCall>) {
        let mut buffer = self.buffer();
        let since = std::mem::take(&mut *buffer).calls;
        unwritten.into_iter().chain(since).for_each(|call| buffer.push(call));
    }

    /// Returns all of them.
    pub(crate) fn take(&self) -> Vec<UnsharedCall> {
        std::mem::take(&mut *self.buffer()).calls.into()
    }

    fn buffer(&self) -> MutexGuard<'_, CallBuffer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallBuffer {
    fn push(&mut self, call: UnsharedCall) {
        self.bytes += call.json.len();
        self.calls.push_back(call);
        while self.bytes > MAX_BYTES
            && let Some(oldest) = self.calls.pop_front()
        {
            self.bytes -= oldest.json.len();
        }
    }
}

/// The text of calls for other main servers: in each line how old a call is, in milliseconds,
/// and the call.
pub(crate) fn calls_text(calls: &[UnsharedCall], now: Instant) -> String {
    let mut text = String::new();
    for UnsharedCall { at, json } in calls {
        let age_ms = now.saturating_duration_since(*at).as_millis();
        // A text takes whatever is written.
        let _ = writeln!(text, "[{age_ms},{json}]");
    }
    text
}

/// The calls in such a text, and how old they were when it was written.
pub(crate) fn calls_in(
    text: &str,
) -> impl Iterator<Item = serde_json::Result<(Duration, SharedCall)>> {
    text.lines().map(|line| {
        let (age_ms, call) = serde_json::from_str(line)?;
        Ok((Duration::from_millis(age_ms), call))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(calls: &UnsharedCalls) -> Vec<SharedCall> {
        let text = calls_text(&calls.take(), Instant::now());
        calls_in(&text).map(|call| call.unwrap().1).collect()
    }

    fn names(calls: Vec<SharedCall>) -> Vec<String> {
        let names = calls.into_iter().map(|call| match call {
            SharedCall::Heartbeat(call) => call.body["node_id"].as_str().unwrap().to_owned(),
            other => panic!("{other:?}"),
        });
        names.collect()
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
        assert!(calls.take().is_empty());
        for node_id in ["a", "b"] {
            calls.push(&heartbeat(node_id, false, 0));
        }
        let untold = calls.take();
        calls.push(&heartbeat("c", false, 0));
        calls.put_back(untold);
        assert_eq!(names(told(&calls)), ["a", "b", "c"]);
        assert!(calls.take().is_empty());
    }

    #[test]
    fn a_call_that_could_not_be_written_is_as_old_as_it_is() {
        let calls = UnsharedCalls::default();
        calls.push(&heartbeat("a", false, 0));
        calls.put_back(calls.take());
        let unwritten = calls.take();
        let later = Instant::now() + Duration::from_secs(60);
        let text = calls_text(&unwritten, later);
        let (age, _) = calls_in(&text).next().unwrap().unwrap();
        assert_eq!(age.as_secs(), 60, "{text}");
        let text = calls_text(&unwritten, unwritten[0].at);
        assert_eq!(calls_in(&text).next().unwrap().unwrap().0, Duration::ZERO);
    }

    #[test]
    fn no_more_is_kept_than_fits_and_of_strangers_little() {
        let calls = UnsharedCalls::default();
        for n in 0..20 {
            calls.push(&heartbeat(&n.to_string(), false, MAX_BYTES / 10));
        }
        calls.put_back(calls.take());
        assert_eq!(names(told(&calls)), (11..20).map(|n| n.to_string()).collect::<Vec<_>>());
        calls.push(&heartbeat("a", false, MAX_CALL_BYTES));
        calls.push(&heartbeat("a", true, MAX_STRANGER_BYTES));
        calls.push(&heartbeat("a", true, 10));
        assert_eq!(told(&calls).len(), 1);
    }
}
