//! The messages that went through here, in memory, as nodes are shown theirs. Pure.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use serde_json::{Value, json};

use super::message::CastKind;

/// Bytes of all messages that are shown.
const MAX_BYTES: usize = 8 << 20;
/// The addresses of the original for these.
const GROUP_ADDRESS: &str = "224.1.1.1:9999";
const BROADCAST_PORT: u16 = 9998;

/// A message that was sent, and the nodes that it went to.
#[derive(Clone, Debug)]
pub(super) struct SentMessage {
    pub(super) kind: CastKind,
    pub(super) sender: String,
    pub(super) recipients: Arc<BTreeSet<String>>,
    /// The form in which nodes are shown it.
    pub(super) message: Value,
    /// Seconds since 1970.
    pub(super) at: f64,
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) struct MessageHistory {
    messages: VecDeque<SentMessage>,
    bytes: usize,
    most: usize,
}

impl MessageHistory {
    pub(super) fn new(most: usize) -> Self {
        Self { messages: VecDeque::new(), bytes: 0, most }
    }

    pub(super) fn push(&mut self, message: SentMessage) {
        self.bytes += message.bytes;
        self.messages.push_back(message);
        while self.messages.len() > self.most || self.bytes > MAX_BYTES {
            let Some(oldest) = self.messages.pop_front() else { break };
            self.bytes -= oldest.bytes;
        }
    }

    /// The messages of a node, the newest first; `target` names a node as the original does.
    pub(super) fn of(&self, id: &str, count: usize, target: impl Fn(&str) -> String) -> Vec<Value> {
        let mut found = Vec::new();
        for message in self.messages.iter().rev() {
            if found.len() >= count {
                break;
            }
            if message.recipients.contains(id) {
                found.push(
                    message
                        .shown(json!({"direction": "received"}), json!({"from": message.sender})),
                );
            }
            if message.sender != id {
                continue;
            }
            let sent = || json!({"direction": "sent"});
            match message.kind {
                CastKind::Unicast => {
                    let targets = message.recipients.iter().map(|to| json!({"target": target(to)}));
                    found.extend(targets.map(|target| message.shown(sent(), target)));
                }
                CastKind::Multicast => {
                    found.push(message.shown(sent(), json!({"group": GROUP_ADDRESS})));
                }
                CastKind::Broadcast => {
                    found.push(message.shown(sent(), json!({"port": BROADCAST_PORT})));
                }
            }
        }
        found.truncate(count);
        found
    }
}

impl SentMessage {
    fn shown(&self, mut shown: Value, where_to: Value) -> Value {
        shown["type"] = json!(self.kind.name());
        if let (Value::Object(shown), Value::Object(fields)) = (&mut shown, where_to) {
            shown.extend(fields);
        }
        shown["message"] = self.message.clone();
        shown["timestamp"] = json!(self.at);
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: CastKind, n: usize, recipients: &[&str]) -> SentMessage {
        let recipients = recipients.iter().map(ToString::to_string).collect();
        SentMessage {
            kind,
            sender: "a".to_owned(),
            recipients: Arc::new(recipients),
            message: json!({"id": n}),
            at: 1.5,
            bytes: 100,
        }
    }

    #[test]
    fn a_node_is_shown_what_it_sent_and_what_came_the_newest_first() {
        let mut history = MessageHistory::new(100);
        history.push(message(CastKind::Unicast, 1, &["b", "c"]));
        history.push(message(CastKind::Multicast, 2, &["b"]));
        history.push(message(CastKind::Broadcast, 3, &["c"]));
        let of = |id, count| history.of(id, count, |to| format!("localhost:{to}"));
        let sent = of("a", 50);
        assert_eq!(
            sent[0],
            json!({"direction": "sent", "type": "broadcast", "port": 9998, "message": {"id": 3}, "timestamp": 1.5})
        );
        assert_eq!(sent[1]["group"], "224.1.1.1:9999");
        assert_eq!(
            (&sent[2]["target"], &sent[3]["target"]),
            (&json!("localhost:b"), &json!("localhost:c"))
        );
        let received = of("b", 50);
        assert_eq!(received.len(), 2);
        assert_eq!(
            (&received[0]["direction"], &received[0]["from"]),
            (&json!("received"), &json!("a"))
        );
        assert_eq!((of("a", 1).len(), of("x", 50).len(), of("a", 0).len()), (1, 0, 0));
    }

    #[test]
    fn the_oldest_make_room() {
        let mut history = MessageHistory::new(3);
        (0..10).for_each(|n| history.push(message(CastKind::Unicast, n, &["b"])));
        assert_eq!((history.messages.len(), history.bytes), (3, 300));
        history.push(SentMessage { bytes: MAX_BYTES, ..message(CastKind::Unicast, 11, &["b"]) });
        assert_eq!(history.messages.len(), 1);
    }
}
