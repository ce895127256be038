//! The only one who changes the meetings: it applies commands, saves what they change,
//! and shows it. Those that wait are saved together, so that many at a time cost one
//! fsync; one alone does not wait for others.

use std::sync::Arc;

use edge_mirror_base::tasks;
use edge_mirror_protocol::package::PackageId;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    refusal::RequestError,
    repository::StateRepository,
    server::{PendingChange, Server},
    state::{
        commands::{MeetingCommand, execute},
        index::IndexedMeetings,
        meetings::{MeetingChanges, MeetingTable, fresh_token},
    },
};

/// Commands that are saved together.
const MAX_BATCH: usize = 64;

/// Carries out what is queued until `stop`; what is under way then is finished, what is
/// left is refused.
pub(crate) async fn write(
    server: Arc<Server>,
    mut repository: StateRepository,
    mut queue: mpsc::Receiver<PendingChange>,
    stop: CancellationToken,
) {
    let mut pending = Vec::with_capacity(MAX_BATCH);
    loop {
        let count = stop.run_until_cancelled(queue.recv_many(&mut pending, MAX_BATCH)).await;
        if count.unwrap_or(0) == 0 {
            return;
        }
        let batch = std::mem::take(&mut pending);
        let applying = server.clone();
        let batch = tasks::blocking(move || AppliedBatch::new(&applying, batch)).await;
        batch.commit(&server, &mut repository).await;
    }
}

/// The outcome of some commands, which nobody has seen yet.
struct AppliedBatch {
    /// The meetings afterwards, if anything changed.
    table: Option<Arc<IndexedMeetings>>,
    changes: MeetingChanges,
    announced: Vec<PackageId>,
    replies: Vec<PendingReply>,
}

/// The answer to a command, once its batch is saved.
struct PendingReply {
    sender: oneshot::Sender<Result<(), RequestError>>,
    outcome: Result<(), RequestError>,
    /// A meeting that is no more, whose package has to go.
    deleted: Option<PackageId>,
}

impl AppliedBatch {
    /// Applies the commands in their order, and announces starts that are due. Blocks on
    /// the disk where a new meeting meets an old package.
    fn new(server: &Server, batch: Vec<PendingChange>) -> Self {
        let before = server.book();
        let mut table = MeetingTable::clone(&before);
        let mut changes = MeetingChanges::default();
        let mut replies = Vec::with_capacity(batch.len());
        for PendingChange { command, reply: sender } in batch {
            let outcome = clear_way(server, &before, &table, &command)
                .and_then(|()| execute(&mut table, &command, fresh_token()));
            let deleted = deleted_by(&command, outcome.is_ok()).cloned();
            let outcome = outcome.map(|more| changes.extend(more));
            replies.push(PendingReply { sender, outcome, deleted });
        }
        let announced = server.due_announcements(&table);
        let announcement = MeetingCommand::Announce(announced.clone());
        if let Ok(more) = execute(&mut table, &announcement, fresh_token()) {
            changes.extend(more);
        }
        let table = (!changes.is_empty()).then(|| Arc::new(table.into()));
        Self { table, changes, announced, replies }
    }

    /// Saves, shows and answers, in this order.
    async fn commit(self, server: &Arc<Server>, repository: &mut StateRepository) {
        let Self { table, changes, announced, mut replies } = self;
        if let Some(table) = &table
            && let Err(cause) = repository.commit(table, &changes).await
        {
            for reply in replies {
                // Whoever left does not want to know.
                let _ = reply.sender.send(Err(RequestError::from(&cause)));
            }
            return;
        }
        let publishing = server.clone();
        let replies = tasks::blocking(move || {
            publishing.publish(table);
            replies.iter_mut().for_each(|reply| reply.remove_package(&publishing));
            replies
        });
        let replies = replies.await;
        for id in announced {
            info!("start of meeting {id} announced to clients");
        }
        for reply in replies {
            let _ = reply.sender.send(reply.outcome);
        }
    }
}

impl PendingReply {
    /// The table went first: a package without a meeting harms nobody, a meeting that
    /// lost its package does.
    fn remove_package(&mut self, server: &Server) {
        let removed = self.deleted.as_ref().map(|id| server.store.remove(id));
        if let (Some(Err(error)), Ok(())) = (removed, &self.outcome) {
            self.outcome = Err(error.into());
        }
    }
}

fn deleted_by(command: &MeetingCommand, succeeded: bool) -> Option<&PackageId> {
    match (command, succeeded) {
        (MeetingCommand::Delete(id), true)
        // The meeting was deleted while this package was put in place.
        | (MeetingCommand::FinishReplacement { id, .. }, false) => Some(id),
        _ => None,
    }
}

/// A package that lies where a new meeting's will be was left by an interrupted deletion,
/// and is not this meeting's. Only where `saved` has no such meeting: it could come back
/// if its deletion in this very batch can't be saved.
fn clear_way(
    server: &Server,
    saved: &MeetingTable,
    table: &MeetingTable,
    command: &MeetingCommand,
) -> Result<(), RequestError> {
    let MeetingCommand::Create(meeting) = command else { return Ok(()) };
    if saved.find(&meeting.id).is_some() || table.find(&meeting.id).is_some() {
        return Err(RequestError::Exists(meeting.id.clone()));
    }
    Ok(server.store.remove(&meeting.id)?)
}
