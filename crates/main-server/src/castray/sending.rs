//! `POST /api/send`: messages, which are kept as casts.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use axum::{Json, extract::State};
use edge_mirror_base::{clock::UnixMillis, tasks};
use edge_mirror_http::access::Operator;
use serde_json::{Map, Value, json};

use super::{
    CastRayCaller, CastRayGateway, Gateway,
    body::{CastRayJson, CastRayRefusal},
    history::SentMessage,
    message::{CastKind, CastMessage},
};
use crate::{
    refusal::RequestError,
    state::{
        audit::AuditedOperator,
        casts::{self, CASTRAY_TOPIC, CastLimits, CastOrigin},
        destinations::{Audience, Destinations},
    },
};

/// Bytes of a message, at most: as much as a datagram carries.
const MAX_MESSAGE: usize = 65_507;
/// Characters of a text that an event echoes.
const MAX_ECHO: usize = 200;

pub(super) async fn send(
    State(gateway): Gateway,
    CastRayCaller(operator): CastRayCaller,
    body: CastRayJson,
) -> Result<Json<Value>, CastRayRefusal> {
    let message = CastMessage::read(&body.0).map_err(CastRayRefusal::Flaws)?;
    let answer = gateway.deliver(&message, &operator).await;
    let (id, sender) = (shortened(&message.id), shortened(&message.sender));
    let told = json!({"message_id": id, "cast_type": message.kind.name(), "sender": sender});
    gateway.tell("message_received", &told);
    Ok(Json(answer))
}

/// The beginning of a text that a client may have made as long as a body is.
fn shortened(text: &str) -> &str {
    text.char_indices().nth(MAX_ECHO).map_or(text, |(end, _)| &text[..end])
}

/// The nodes that a message goes to, and the names that stand for no node.
struct MessageTargets {
    known: BTreeSet<String>,
    unknown: Vec<String>,
    /// To all nodes but the sender.
    is_for_all: bool,
}

impl CastRayGateway {
    async fn deliver(&self, message: &CastMessage, operator: &Operator) -> Value {
        let begun = Instant::now();
        if !self.has_node(&message.sender) {
            return answer(false, "发送节点不存在", 0, &[], None);
        }
        let MessageTargets { mut known, unknown, is_for_all } = self.targets(message);
        let now = UnixMillis::now();
        let shown = json!({
            "id": message.id,
            "content": message.content,
            "message_type": message.content_kind,
            "timestamp": message.timestamp.unwrap_or(now.as_secs_f64()),
        });
        let text = shown.to_string();
        let failed = |known: &BTreeSet<String>| -> Vec<String> {
            known.iter().chain(&unknown).cloned().collect()
        };
        let elapsed = || Some(begun.elapsed().as_secs_f64());
        if known.is_empty() || text.len() > MAX_MESSAGE {
            let failed = failed(&known);
            let told = format!("消息发送完成，成功: 0, 失败: {}", failed.len());
            return answer(false, &told, failed.len(), &failed, elapsed());
        }
        let mut body = shown;
        body["sender"] = json!(message.sender);
        body["cast_type"] = json!(message.kind.name());
        // One list of nodes for all senders: each other one would be kept for itself.
        let audience = match is_for_all {
            true => Audience::All,
            false => Audience::Nodes(known.clone()),
        };
        let from = Some(message.sender.clone());
        let sent = self.cast((CASTRAY_TOPIC, body), audience, None, from, operator).await;
        let seq = match sent {
            Ok(seq) => seq,
            Err(error) => {
                let (failed, told) = (failed(&known), format!("发送失败: {error}"));
                return answer(false, &told, failed.len(), &failed, elapsed());
            }
        };
        self.note_arrival(&known, seq, now);
        let sent = if message.kind == CastKind::Unicast { known.len() } else { 1 };
        self.figures().of(&message.sender).note_sent(sent as u64, now);
        let (count, sender) = (known.len(), message.sender.clone());
        if is_for_all {
            known.insert(sender.clone());
        }
        self.history().push(SentMessage {
            kind: message.kind,
            sender,
            recipients: Arc::new(known),
            is_for_all,
            text,
            at: now.as_secs_f64(),
        });
        let told = format!("消息发送完成，成功: {count}, 失败: {}", unknown.len());
        answer(true, &told, count + unknown.len(), &unknown, elapsed())
    }

    fn targets(&self, message: &CastMessage) -> MessageTargets {
        let without_sender = |mut known: BTreeSet<String>| {
            known.remove(&message.sender);
            known
        };
        let everybody = || MessageTargets {
            known: without_sender(self.node_ids()),
            unknown: Vec::new(),
            is_for_all: true,
        };
        let named = || {
            let (known, unknown): (Vec<_>, Vec<_>) =
                message.recipients.iter().cloned().partition(|id| self.has_node(id));
            MessageTargets { known: known.into_iter().collect(), unknown, is_for_all: false }
        };
        match message.kind {
            CastKind::Unicast => named(),
            CastKind::Broadcast => everybody(),
            CastKind::Multicast => {
                match message.group_id.as_deref().and_then(|id| self.members(id)) {
                    Some(known) => MessageTargets {
                        known: without_sender(known),
                        unknown: Vec::new(),
                        is_for_all: false,
                    },
                    None if message.recipients.is_empty() => everybody(),
                    None => {
                        let MessageTargets { known, unknown, .. } = named();
                        MessageTargets { known: without_sender(known), unknown, is_for_all: false }
                    }
                }
            }
        }
    }

    /// All nodes, virtual ones among them.
    pub(super) fn node_ids(&self) -> BTreeSet<String> {
        let (known, virtual_nodes) = (self.server.known(), self.server.virtual_nodes());
        let known = known.iter().map(|node| node.id.clone());
        known.chain(virtual_nodes.iter().map(|node| node.id.clone())).collect()
    }

    /// The nodes of a group; None if there is no such group.
    fn members(&self, name: &str) -> Option<BTreeSet<String>> {
        let groups = self.server.groups();
        let group = groups.get(name)?;
        let virtual_nodes = self.server.virtual_nodes();
        Some(self.server.with_addressed_nodes(true, &virtual_nodes, |nodes| {
            let members = nodes.iter().filter(|node| group.has(**node));
            members.map(|node| node.id.to_owned()).collect()
        }))
    }

    /// Keeps a cast of a topic for nodes, and returns its number. `lifetime_s` is a day if
    /// absent.
    pub(super) async fn cast(
        &self,
        (topic, body): (&str, Value),
        to: Audience,
        lifetime_s: Option<u64>,
        from: Option<String>,
        operator: &Operator,
    ) -> Result<i64, RequestError> {
        let server = self.server.clone();
        let origin = CastOrigin { by: AuditedOperator::from(operator), from };
        let mut fields = Map::new();
        fields.insert("topic".to_owned(), json!(topic));
        fields.insert("body".to_owned(), body);
        // A short list is shown with the cast; a long one is kept with it all the same.
        let shown = match &to {
            Audience::All => json!({"all": true}),
            Audience::Nodes(ids) => {
                json!({"nodes": ids.iter().take(MAX_NAMED).collect::<Vec<_>>()})
            }
        };
        fields.insert("to".to_owned(), shown);
        if let Some(seconds) = lifetime_s {
            let most = server.casts.limits.max_lifetime.as_secs();
            fields.insert("expires_in_s".to_owned(), json!(seconds.min(most)));
        }
        let casts = tasks::blocking(move || {
            let limits = server.casts.limits;
            let max_body = limits.max_body.max(2 * MAX_MESSAGE as u64);
            let limits = CastLimits { max_body, ..limits };
            let audience = |_: &Destinations| Ok(to.clone());
            casts::read_casts(vec![fields], &limits, &origin, UnixMillis::now(), audience)
        });
        let added = self.server.add_casts(casts.await?).await?;
        let receipt = added.receipts.first().ok_or_else(RequestError::stopping)?;
        Ok(receipt.id.seq)
    }

    /// Counts a cast that is in the mailboxes of virtual nodes, and looks for its arrival at
    /// others.
    fn note_arrival(&self, to: &BTreeSet<String>, seq: i64, at: UnixMillis) {
        let virtual_nodes = self.server.virtual_nodes();
        let mut figures = self.figures();
        for id in to {
            match virtual_nodes.has(id) {
                true => figures.of(id).note_received(at),
                false => figures.of(id).await_cast(seq),
            }
        }
    }
}

/// Nodes that are listed with a cast.
const MAX_NAMED: usize = 20;

fn answer(
    success: bool,
    message: &str,
    count: usize,
    failed: &[String],
    seconds: Option<f64>,
) -> Value {
    json!({
        "success": success, "message": message, "recipients_count": count,
        "failed_recipients": failed, "delivery_time": seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!((shortened("会议"), shortened("")), ("会议", ""));
        assert_eq!(shortened(&"会".repeat(500)), "会".repeat(200));
        assert_eq!(shortened(&"会".repeat(200)), "会".repeat(200));
    }
}
