//! Changes of a pull's source: counted, remembered, logged and shown.

use edge_mirror_base::{clock::UnixMillis, metrics::Label};
use edge_mirror_protocol::{
    package::PackageId,
    relay::{MAX_SLOW_PARENTS, Sibling},
};
use tokio::time::Instant;
use tracing::info;

use super::super::{FetchInner, SourceReason, attempt::RoundState, context::AttemptContext};
use crate::board::ParentLoss;

impl FetchInner {
    pub(super) fn note_loss(
        &self,
        task: &AttemptContext<'_>,
        round: &mut RoundState,
        parent: &Sibling,
        loss: ParentLoss,
        cause: String,
    ) {
        self.board.counts.parent_changes.inc(loss);
        round.relay.count_change();
        round.relay.leave(&parent.node_id, loss, Instant::now());
        if loss == ParentLoss::Damaged {
            self.condemn(task.flight.id(), &round.relay, &parent.node_id);
        }
        if loss == ParentLoss::Unproven {
            self.siblings.forget(&parent.node_id);
        }
        // Our main server names neither to this node again.
        if matches!(loss, ParentLoss::TooSlow | ParentLoss::Damaged) {
            task.flight.edit_source(|source| {
                if source.slow_parents.len() < MAX_SLOW_PARENTS {
                    source.slow_parents.push(parent.node_id.clone());
                }
            });
        }
        round.relay.loss = Some((parent.node_id.clone(), loss, cause));
    }

    /// The main server sends it.
    pub(in super::super) fn note_main_server(
        &self,
        task: &AttemptContext<'_>,
        round: &mut RoundState,
    ) {
        let reason = match round.relay.loss {
            Some(_) => SourceReason::NoParentLeft,
            None => round.relay.direct.unwrap_or(SourceReason::Undecided),
        };
        self.note_source(task, round, None, reason);
    }

    /// One line for each change.
    pub(super) fn note_source(
        &self,
        task: &AttemptContext<'_>,
        round: &mut RoundState,
        parent: Option<&Sibling>,
        reason: SourceReason,
    ) {
        let id: &PackageId = task.flight.id();
        let name = |parent: Option<&Sibling>| match parent {
            Some(Sibling { node_id, address, .. }) => format!("node {node_id} at {address}"),
            None => "the main server".to_owned(),
        };
        match round.relay.loss.take() {
            Some((node_id, loss, cause)) => info!(
                "meeting {id}: now from {}, no longer from node {node_id} ({}): {cause}",
                name(parent),
                loss.text()
            ),
            None if parent.is_some() && task.flight.source().parent.as_ref() != parent => {
                info!("meeting {id}: from {}", name(parent))
            }
            None => {}
        }
        task.flight.edit_source(|source| {
            if source.parent.as_ref() != parent || source.reason == SourceReason::Undecided {
                source.since = UnixMillis::now();
            }
            (source.parent, source.reason) = (parent.cloned(), reason);
            if parent.is_none() {
                (source.path, source.behind_bytes) = (Vec::new(), 0);
            }
        });
    }
}
