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

/// Bytes of the messages of one answer.
const MAX_ANSWER: usize = 4 << 20;
/// Bytes of a message beside its texts, about.
const ROW_BYTES: usize = 200;

/// A message that was sent, and the nodes that it went to.
#[derive(Clone, Debug)]
pub(super) struct SentMessage {
    pub(super) kind: CastKind,
    pub(super) sender: String,
    pub(super) recipients: Arc<BTreeSet<String>>,
    /// To all nodes but the sender, which is among them.
    pub(super) is_for_all: bool,
    /// The form in which nodes are shown it, as JSON: parsed, it may be many times as large.
    pub(super) text: String,
    /// Seconds since 1970.
    pub(super) at: f64,
}

/// The way of a message, as a node sees it.
#[derive(Clone, Debug)]
enum MessageWay {
    Received,
    Sent,
    SentTo(String),
}

/// A message of a node, which is written once the list is not locked any more.
#[derive(Clone, Debug)]
pub(super) struct NodeMessage {
    message: Arc<SentMessage>,
    way: MessageWay,
}

#[derive(Debug)]
pub(super) struct MessageHistory {
    messages: VecDeque<Arc<SentMessage>>,
    /// The memory of all, about; recipients that neighbours share count once.
    bytes: usize,
    most: usize,
}

impl MessageHistory {
    pub(super) fn new(most: usize) -> Self {
        Self { messages: VecDeque::new(), bytes: 0, most }
    }

    pub(super) fn push(&mut self, mut message: SentMessage) {
        match self.messages.back() {
            Some(last) if last.recipients == message.recipients => {
                message.recipients = last.recipients.clone();
            }
            _ => self.bytes += message.recipient_bytes(),
        }
        self.bytes += message.bytes();
        self.messages.push_back(Arc::new(message));
        while self.messages.len() > self.most || self.bytes > MAX_BYTES {
            let Some(oldest) = self.messages.pop_front() else { break };
            self.bytes -= oldest.bytes();
            let next = self.messages.front();
            let is_shared =
                next.is_some_and(|next| Arc::ptr_eq(&next.recipients, &oldest.recipients));
            if !is_shared {
                self.bytes -= oldest.recipient_bytes();
            }
        }
    }

    /// The messages of a node, the newest first.
    pub(super) fn of(&self, id: &str, count: usize) -> Vec<NodeMessage> {
        let all = self.messages.iter().rev().flat_map(|message| {
            message.ways(id).map(move |way| NodeMessage { message: message.clone(), way })
        });
        let mut bytes = 0;
        let fits = |found: &NodeMessage| {
            bytes += found.message.text.len();
            bytes <= MAX_ANSWER
        };
        all.take(count).take_while(fits).collect()
    }
}

impl SentMessage {
    fn bytes(&self) -> usize {
        self.text.len() + self.sender.len() + ROW_BYTES
    }

    fn recipient_bytes(&self) -> usize {
        // A text has its own allocation, and a place in the set's.
        self.recipients.iter().map(|id| id.len() + 64).sum()
    }

    /// Each way in which it is a node's.
    fn ways(&self, id: &str) -> impl Iterator<Item = MessageWay> {
        let is_sender = self.sender == id;
        let is_received = self.recipients.contains(id) && !(self.is_for_all && is_sender);
        let is_unicast = self.kind == CastKind::Unicast;
        let received = is_received.then_some(MessageWay::Received);
        let sent = (is_sender && !is_unicast).then_some(MessageWay::Sent);
        let each = (is_sender && is_unicast).then(|| self.recipients.iter());
        let each = each.into_iter().flatten().map(|to| MessageWay::SentTo(to.clone()));
        received.into_iter().chain(sent).chain(each)
    }
}

impl NodeMessage {
    /// The node that it was sent to, if it is shown.
    pub(super) fn target(&self) -> Option<&str> {
        match &self.way {
            MessageWay::SentTo(to) => Some(to),
            MessageWay::Received | MessageWay::Sent => None,
        }
    }

    /// The message as clients are shown it; `port` is the target's.
    pub(super) fn shown(&self, port: u16) -> Value {
        let message = &*self.message;
        let direction = match self.way {
            MessageWay::Received => "received",
            MessageWay::Sent | MessageWay::SentTo(_) => "sent",
        };
        let mut shown = json!({"direction": direction, "type": message.kind.name()});
        match (&self.way, message.kind) {
            (MessageWay::Received, _) => shown["from"] = json!(message.sender),
            (MessageWay::SentTo(_), _) => shown["target"] = json!(format!("localhost:{port}")),
            (MessageWay::Sent, CastKind::Broadcast) => shown["port"] = json!(BROADCAST_PORT),
            (MessageWay::Sent, _) => shown["group"] = json!(GROUP_ADDRESS),
        }
        // It was written by this program.
        shown["message"] = serde_json::from_str(&message.text).unwrap_or_default();
        shown["timestamp"] = json!(message.at);
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
            is_for_all: kind == CastKind::Broadcast,
            text: json!({"id": n}).to_string(),
            at: 1.5,
        }
    }

    fn shown(history: &MessageHistory, id: &str, count: usize) -> Vec<Value> {
        let port = |to: &str| u16::try_from(to.len()).unwrap();
        let found = history.of(id, count);
        found.iter().map(|found| found.shown(found.target().map_or(0, port))).collect()
    }

    #[test]
    fn a_node_is_shown_what_it_sent_and_what_came_the_newest_first() {
        let mut history = MessageHistory::new(100);
        history.push(message(CastKind::Unicast, 1, &["b", "cc"]));
        history.push(message(CastKind::Multicast, 2, &["b"]));
        history.push(message(CastKind::Broadcast, 3, &["a", "cc"]));
        let sent = shown(&history, "a", 50);
        assert_eq!(
            sent[0],
            json!({"direction": "sent", "type": "broadcast", "port": 9998, "message": {"id": 3}, "timestamp": 1.5})
        );
        assert_eq!((sent.len(), &sent[1]["group"]), (4, &json!("224.1.1.1:9999")));
        assert_eq!(
            (&sent[2]["target"], &sent[3]["target"]),
            (&json!("localhost:1"), &json!("localhost:2"))
        );
        let received = shown(&history, "b", 50);
        assert_eq!(received.len(), 2);
        assert_eq!(
            (&received[0]["direction"], &received[0]["from"]),
            (&json!("received"), &json!("a"))
        );
        let count = |id, count| shown(&history, id, count).len();
        assert_eq!((count("a", 1), count("cc", 50), count("x", 50), count("a", 0)), (1, 2, 0, 0));
    }

    #[test]
    fn the_oldest_make_room() {
        let mut history = MessageHistory::new(3);
        (0..10).for_each(|n| history.push(message(CastKind::Unicast, n, &["b"])));
        let one = message(CastKind::Unicast, 1, &["b"]);
        let bytes = 3 * one.bytes() + one.recipient_bytes();
        assert_eq!((history.messages.len(), history.bytes), (3, bytes), "shared recipients");
        let large = SentMessage { text: "x".repeat(MAX_BYTES - 300), ..one };
        history.push(large);
        assert_eq!(history.messages.len(), 1);
    }

    #[test]
    fn recipients_and_answers_are_bounded() {
        let mut history = MessageHistory::new(10_000);
        for n in 0..300 {
            let ids = (0..1000).map(|id| format!("{n}-{id}")).collect();
            let recipients = Arc::new(ids);
            history.push(SentMessage { recipients, ..message(CastKind::Multicast, n, &[]) });
        }
        assert!(history.bytes <= MAX_BYTES && history.messages.len() < 200);
        let mut history = MessageHistory::new(10_000);
        let ids: Vec<_> = (0..1000).map(|id| id.to_string()).collect();
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        let text = "x".repeat(60_000);
        history.push(SentMessage { text, ..message(CastKind::Unicast, 1, &ids) });
        assert_eq!(history.of("a", 1000).len(), MAX_ANSWER / 60_000);
    }
}
