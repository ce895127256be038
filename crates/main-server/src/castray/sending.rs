//! `POST /api/send`: messages, which are kept as casts.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use axum::{Json, extract::State};
use edge_mirror_base::{clock::UnixMillis, tasks};
use edge_mirror_http::access::Operator;
use serde_json::{Map, Value, json};

use super::{
    CastRayFace, Face, FaceCaller,
    body::{FaceJson, FaceRefusal},
    history::SentMessage,
    message::{CastKind, CastMessage},
};
use crate::{
    refusal::RequestError,
    state::{
        audit::AuditedOperator,
        casts::{self, CastLimits, CastOrigin},
        destinations::{Audience, Destinations},
    },
};

/// Bytes of a message, at most: as much as a datagram carries.
const MAX_MESSAGE: usize = 65_507;
/// Consumers know these casts by it.
const MESSAGE_TOPIC: &str = "castray";

pub(super) async fn send(
    State(face): Face,
    FaceCaller(operator): FaceCaller,
    body: FaceJson,
) -> Result<Json<Value>, FaceRefusal> {
    let message = CastMessage::read(&body.0).map_err(FaceRefusal::Flaws)?;
    let answer = face.deliver(&message, &operator).await;
    let told = json!({"message_id": message.id, "cast_type": message.kind.name(), "sender": message.sender});
    face.tell("message_received", &told);
    Ok(Json(answer))
}

/// The nodes that a message goes to, and those that are none.
struct MessageTargets {
    known: BTreeSet<String>,
    unknown: Vec<String>,
}

impl CastRayFace {
    async fn deliver(&self, message: &CastMessage, operator: &Operator) -> Value {
        let begun = Instant::now();
        if !self.has_node(&message.sender) {
            return answer(false, "发送节点不存在", 0, &[], None);
        }
        let MessageTargets { known, unknown } = self.targets(message);
        let now = UnixMillis::now();
        let shown = json!({
            "id": message.id,
            "content": message.content,
            "message_type": message.content_kind,
            "timestamp": message.timestamp.unwrap_or(now.as_secs_f64()),
        });
        let bytes = shown.to_string().len();
        let failed = |known: &BTreeSet<String>| -> Vec<String> {
            known.iter().chain(&unknown).cloned().collect()
        };
        let elapsed = || Some(begun.elapsed().as_secs_f64());
        if known.is_empty() || bytes > MAX_MESSAGE {
            let failed = failed(&known);
            let text = format!("消息发送完成，成功: 0, 失败: {}", failed.len());
            return answer(false, &text, failed.len(), &failed, elapsed());
        }
        let mut body = shown.clone();
        body["sender"] = json!(message.sender);
        body["cast_type"] = json!(message.kind.name());
        let known = Arc::new(known);
        let from = Some(message.sender.clone());
        let sent = self.cast(MESSAGE_TOPIC, body, known.clone(), from, operator).await;
        let seq = match sent {
            Ok(seq) => seq,
            Err(error) => {
                let failed = failed(&known);
                return answer(
                    false,
                    &format!("发送失败: {error}"),
                    failed.len(),
                    &failed,
                    elapsed(),
                );
            }
        };
        self.note_arrival(&known, seq, now);
        let sent = if message.kind == CastKind::Unicast { known.len() } else { 1 };
        self.figures().of(&message.sender).note_sent(sent as u64, now);
        let (count, sender) = (known.len(), message.sender.clone());
        let at = now.as_secs_f64();
        self.history().push(SentMessage {
            kind: message.kind,
            sender,
            recipients: known,
            message: shown,
            at,
            bytes,
        });
        let text = format!("消息发送完成，成功: {count}, 失败: {}", unknown.len());
        answer(true, &text, count + unknown.len(), &unknown, elapsed())
    }

    fn targets(&self, message: &CastMessage) -> MessageTargets {
        let everybody = || {
            let mut all = self.node_ids();
            all.remove(&message.sender);
            MessageTargets { known: all, unknown: Vec::new() }
        };
        let named = || {
            let mut targets = MessageTargets { known: BTreeSet::new(), unknown: Vec::new() };
            for id in &message.recipients {
                match self.has_node(id) {
                    true => drop(targets.known.insert(id.clone())),
                    false => targets.unknown.push(id.clone()),
                }
            }
            targets
        };
        match message.kind {
            CastKind::Unicast => named(),
            CastKind::Broadcast => everybody(),
            CastKind::Multicast => {
                match message.group_id.as_deref().and_then(|id| self.members(id)) {
                    Some(mut known) => {
                        known.remove(&message.sender);
                        MessageTargets { known, unknown: Vec::new() }
                    }
                    None if message.recipients.is_empty() => everybody(),
                    None => named(),
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

    /// Keeps a cast for nodes, and returns its number.
    pub(super) async fn cast(
        &self,
        topic: &str,
        body: Value,
        to: Arc<BTreeSet<String>>,
        from: Option<String>,
        operator: &Operator,
    ) -> Result<i64, RequestError> {
        let server = self.server.clone();
        let origin = CastOrigin { by: AuditedOperator::from(operator), from };
        let mut fields = Map::new();
        fields.insert("topic".to_owned(), json!(topic));
        fields.insert("body".to_owned(), body);
        // A short list is shown with the cast; a long one is kept with it all the same.
        let named: Vec<_> = to.iter().take(MAX_NAMED).collect();
        fields.insert("to".to_owned(), json!({"nodes": named}));
        let casts = tasks::blocking(move || {
            let limits = server.casts.limits;
            let max_body = limits.max_body.max(2 * MAX_MESSAGE as u64);
            let limits = CastLimits { max_body, ..limits };
            let audience = |_: &Destinations| Ok(Audience::Nodes((*to).clone()));
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
const MAX_NAMED: usize = 1000;

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
