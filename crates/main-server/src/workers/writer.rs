//! The only one who changes meetings, known nodes and routing rules: it applies commands,
//! saves what they change, and shows it. Those that wait are saved together, so that many
//! at a time cost one fsync; one alone does not wait for others. It also shows what other
//! main servers saved, and notices that the database is away, and back.

use std::{sync::Arc, time::Duration};

use edge_mirror_base::tasks;
use edge_mirror_protocol::package::PackageId;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::note_announced;
use crate::{
    error::StateError,
    refusal::RequestError,
    repository::{CommitOutcome, FollowedState, StateRepository},
    server::{PendingChange, PublishedState, Server},
    state::{
        audit::{AuditEvent, AuditRecord},
        commands::{self, MeetingCommand},
        master_state::{self, MasterCommand, MasterState, StateChanges},
        meetings::{MeetingChange, MeetingChanges, MeetingTable, fresh_token},
    },
};

/// Commands that are saved together.
const MAX_BATCH: usize = 64;

/// Interval of asking a database elsewhere whether it is there, and for what others saved
/// where that was not notified.
const CHECK_EVERY: Duration = Duration::from_millis(500);
/// Pause between two attempts to reach it again.
const RECONNECT_EVERY: Duration = Duration::from_millis(500);

/// Carries out what is queued until `stop`; what is under way then is finished, what is
/// left is refused.
pub(crate) async fn write(
    server: Arc<Server>,
    repository: StateRepository,
    mut queue: mpsc::Receiver<PendingChange>,
    stop: CancellationToken,
) {
    let mut writer = StateWriter { server, repository, next_check: Instant::now() + CHECK_EVERY };
    let mut pending = Vec::with_capacity(MAX_BATCH);
    loop {
        let check_due = writer.check_due();
        tokio::select! {
            () = stop.cancelled() => break,
            count = queue.recv_many(&mut pending, MAX_BATCH) => match count {
                0 => break,
                _ => writer.carry_out(std::mem::take(&mut pending)).await,
            },
            () = until(check_due) => writer.check().await,
            () = writer.server.wake.writer.notified(), if writer.can_save() => writer.check().await,
        }
    }
    writer.save_figures().await;
    writer.repository.close().await;
    writer.server.records.close().await;
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// The database and when to look after it. While it can't be used, readers have what was
/// saved last, and changes are refused without a try.
struct StateWriter {
    server: Arc<Server>,
    repository: StateRepository,
    next_check: Instant,
}

impl StateWriter {
    fn can_save(&self) -> bool {
        self.server.state_fault.borrow().is_none()
    }

    async fn carry_out(&mut self, batch: Vec<PendingChange>) {
        let fault = self.server.state_fault.borrow().clone();
        if let Some(cause) = fault {
            return refuse(batch, &cause);
        }
        let applied = AppliedBatch::apply(&self.server, batch).await;
        let saved = match applied.changes.is_empty() {
            true => Ok(CommitOutcome::Saved),
            false => self.repository.commit(&applied.changes).await,
        };
        match saved {
            Ok(CommitOutcome::Saved) => applied.finish(&self.server).await,
            Ok(CommitOutcome::Outdated) => {
                self.carry_out_after_others(applied.into_batch().collect()).await;
            }
            Err(cause) => {
                refuse(applied.into_batch(), &cause);
                self.recover_from(cause).await;
            }
        }
    }

    /// Applies a batch to what other main servers made of the state meanwhile. They wait: it
    /// is saved at once, however many changes they have.
    async fn carry_out_after_others(&mut self, mut batch: Vec<PendingChange>) {
        let (server, mut applied) = (self.server.clone(), None);
        let saving = self.repository.commit_after_others(async |found| {
            show(&server, found).await;
            let batch = std::mem::take(&mut batch);
            let applied = applied.insert(AppliedBatch::apply(&server, batch).await);
            std::mem::take(&mut applied.changes)
        });
        match (saving.await, applied) {
            (Ok(()), Some(applied)) => applied.finish(&self.server).await,
            (Ok(()), None) => {}
            (Err(cause), applied) => {
                refuse(batch, &cause);
                refuse(applied.into_iter().flat_map(AppliedBatch::into_batch), &cause);
                self.recover_from(cause).await;
            }
        }
    }

    async fn recover_from(&mut self, cause: StateError) {
        self.note_fault(cause);
        // What of it was saved shows now; and a lost connection costs nobody a pause.
        self.check().await;
    }

    /// Shows what other main servers saved.
    async fn follow(&mut self) -> Result<(), StateError> {
        let found = self.repository.follow().await?;
        show(&self.server, found).await;
        Ok(())
    }

    /// The last ones. Nothing but figures is lost where that fails.
    async fn save_figures(&mut self) {
        let figures = Some(Arc::new(self.server.figures()));
        let changes = StateChanges { figures, ..StateChanges::default() };
        let is_away = self.server.state_fault.borrow().is_some();
        if is_away {
            return;
        }
        let saving = async {
            match self.repository.commit(&changes).await? {
                CommitOutcome::Saved => Ok(()),
                CommitOutcome::Outdated => {
                    self.repository.commit_after_others(async |_| changes.clone()).await
                }
            }
        };
        if let Err(cause) = saving.await {
            warn!("the last downloads are not counted after the next start: {cause}");
        }
    }

    /// None while nothing can go wrong by itself.
    fn check_due(&self) -> Option<Instant> {
        let is_away = self.server.state_fault.borrow().is_some();
        (is_away || self.repository.is_remote()).then_some(self.next_check)
    }

    async fn check(&mut self) {
        let is_away = self.server.state_fault.borrow().is_some();
        let outcome = match is_away {
            true => self.reconnect().await,
            false => self.follow().await,
        };
        if let Err(cause) = outcome {
            self.note_fault(cause);
        }
        let is_away = self.server.state_fault.borrow().is_some();
        self.next_check = Instant::now() + if is_away { RECONNECT_EVERY } else { CHECK_EVERY };
    }

    fn note_fault(&self, cause: StateError) {
        let reason = cause.to_string();
        let is_news = self.server.state_fault.send_if_modified(|fault| {
            let is_news = fault.as_ref().is_none_or(|before| before.to_string() != reason);
            *fault = Some(Arc::new(cause));
            is_news
        });
        if is_news {
            error!("no change can be saved, what was saved is served: {reason}");
        }
    }

    async fn reconnect(&mut self) -> Result<(), StateError> {
        // Once more after the end of a replacement that may have been refused meanwhile.
        let repair = |state: &MasterState| commands::recover(&state.meetings, fresh_token()).into();
        let state = self.repository.reconnect(repair).await?;
        // Whatever differs, in packages, too: the end of a replacement shows with its change.
        let publishing = self.server.clone();
        tasks::blocking(move || publishing.publish(Some(state.into()))).await;
        self.server.state_fault.send_replace(None);
        info!("changes can be saved again");
        Ok(())
    }
}

/// Shows what other main servers saved.
async fn show(server: &Arc<Server>, found: Option<FollowedState>) {
    let Some(found) = found else { return };
    let publishing = server.clone();
    tasks::blocking(move || {
        let state = match found {
            // A database that was set back may lack meetings: their packages are all
            // that is left of them.
            FollowedState::All(state) => state,
            // Its own figures, or the list of changes.
            FollowedState::Changes(changes) if changes.is_empty() => return,
            FollowedState::Changes(changes) => {
                remove_packages(&publishing, &changes.meetings);
                let mut state = publishing.state();
                state.merge(&changes);
                state
            }
        };
        publishing.publish(Some(state.into()));
    })
    .await;
    server.wake.announcer.notify_one();
}

fn refuse(batch: impl IntoIterator<Item = PendingChange>, cause: &StateError) {
    for change in batch {
        // Whoever left does not want to know.
        let _ = change.reply.send(Err(RequestError::from(cause)));
    }
}

/// The outcome of some commands, which nobody has seen yet.
struct AppliedBatch {
    /// Afterwards, if anything changed.
    state: Option<PublishedState>,
    changes: StateChanges,
    announced: Vec<PackageId>,
    replies: Vec<PendingReply>,
}

/// The answer to a command, once its batch is saved.
struct PendingReply {
    change: PendingChange,
    outcome: Result<(), RequestError>,
    /// A meeting that is no more, whose package has to go.
    deleted: Option<PackageId>,
}

impl AppliedBatch {
    async fn apply(server: &Arc<Server>, batch: Vec<PendingChange>) -> Self {
        let server = server.clone();
        tasks::blocking(move || Self::new(&server, batch)).await
    }

    /// Applies the commands in their order, and announces starts that are due. Blocks on
    /// the disk where a new meeting meets an old package.
    fn new(server: &Server, batch: Vec<PendingChange>) -> Self {
        let before = server.book();
        let mut state = server.state();
        let mut changes = StateChanges::default();
        let mut replies = Vec::with_capacity(batch.len());
        for change in batch {
            let PendingChange { command, by, .. } = &change;
            let outcome = master_state::apply(&state, command, fresh_token());
            let outcome = outcome.and_then(|mut more| {
                clear_way(server, &before, command)?;
                let event = AuditEvent::of(command, &state, &more);
                state.merge(&more);
                let record = |(by, event)| AuditRecord::new(event, by, server.clock.now());
                more.audit.extend(by.as_ref().zip(event).map(record));
                Ok(more)
            });
            let deleted = deleted_by(command, outcome.is_ok()).cloned();
            let outcome = outcome.map(|more| changes.extend(more));
            replies.push(PendingReply { change, outcome, deleted });
        }
        let announced = server.due_announcements(&state.meetings);
        let announcement = MeetingCommand::Announce(announced.clone()).into();
        if let Ok(more) = state.execute(&announcement, fresh_token()) {
            changes.extend(more);
        }
        let state = (!changes.is_empty()).then(|| state.into());
        Self { state, changes, announced, replies }
    }

    fn is_of_remote_tasks(&self) -> bool {
        let is_one =
            |reply: &PendingReply| matches!(reply.change.command, MasterCommand::RemoteTask(_));
        self.announced.is_empty() && self.replies.iter().all(is_one)
    }

    /// The commands, for another try.
    fn into_batch(self) -> impl Iterator<Item = PendingChange> {
        self.replies.into_iter().map(|reply| reply.change)
    }

    /// Shows what was saved, and answers, in this order.
    async fn finish(self, server: &Arc<Server>) {
        let is_of_remote_tasks = self.is_of_remote_tasks();
        let Self { state, announced, mut replies, .. } = self;
        let publishing = server.clone();
        let replies = tasks::blocking(move || {
            match is_of_remote_tasks {
                // Thousands a second, of which no node's poll and no package depends.
                true => publishing.publish_remote_tasks(state),
                false => publishing.publish(state),
            }
            replies.iter_mut().for_each(|reply| reply.remove_package(&publishing));
            replies
        });
        let replies = replies.await;
        note_announced(&announced);
        for reply in replies {
            let _ = reply.change.reply.send(reply.outcome);
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

/// Removes the packages of meetings that another main server deleted, even if it created
/// others with their ids since.
fn remove_packages(server: &Server, changes: &MeetingChanges) {
    for change in &changes.meetings {
        if let MeetingChange::Remove(id) = change
            && let Err(error) = server.store.remove(id)
        {
            warn!("package of meeting {id}, which was deleted, could not be removed: {error}");
        }
    }
}

fn deleted_by(command: &MasterCommand, succeeded: bool) -> Option<&PackageId> {
    let MasterCommand::Meeting(command) = command else { return None };
    match (command, succeeded) {
        (MeetingCommand::Delete(id), true)
        // The meeting was deleted while this package was put in place.
        | (MeetingCommand::FinishReplacement { id, .. }, false) => Some(id),
        _ => None,
    }
}

/// Removes the package that lies where a new meeting's will be: an interrupted deletion
/// left it, and it is not this meeting's. Not where `saved` has such a meeting: it comes
/// back if its deletion in this very batch can't be saved.
fn clear_way(
    server: &Server,
    saved: &MeetingTable,
    command: &MasterCommand,
) -> Result<(), RequestError> {
    let MasterCommand::Meeting(MeetingCommand::Create(meeting)) = command else {
        return Ok(());
    };
    if saved.find(&meeting.id).is_some() {
        return Err(RequestError::Exists(meeting.id.clone()));
    }
    Ok(server.store.remove(&meeting.id)?)
}

#[cfg(test)]
mod tests {
    use edge_mirror_base::clock::UnixMillis;
    use edge_mirror_store::testing::{put, zip_of};
    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        LiveOptions, StateLocation,
        state::{
            master_state::MasterState,
            meetings::{MAX_MEETINGS, Meeting},
        },
    };

    #[tokio::test]
    async fn a_package_stays_where_its_meeting_is_not_created() {
        let folder = tempfile::tempdir().unwrap();
        let (state, live) = <(StateLocation, LiveOptions)>::default();
        let opening = crate::open(folder.path(), &state, Duration::ZERO, live);
        let server = opening.await.unwrap().server;
        put(&server.store, "stray", &zip_of(b"x"));
        let meeting = |id: &str| {
            let id = id.parse().unwrap();
            Meeting::new(id, "T".into(), String::new(), UnixMillis::from_secs(1))
        };
        let applied = |count: usize| {
            let meetings = (0..count).map(|n| meeting(&format!("m{n}"))).collect();
            let table = MeetingTable { meetings, ..MeetingTable::default() };
            server.publish(Some(MasterState { meetings: table, ..MasterState::default() }.into()));
            let command = MeetingCommand::Create(meeting("stray")).into();
            let (reply, _) = oneshot::channel();
            let mut batch =
                AppliedBatch::new(&server, vec![PendingChange { command, by: None, reply }]);
            let is_there = server.store.get("stray".parse::<PackageId>().unwrap()).is_some();
            (batch.replies.remove(0).outcome.is_ok(), is_there)
        };
        assert_eq!(applied(MAX_MEETINGS), (false, true));
        assert_eq!(applied(0), (true, false), "it is not the new meeting's");
    }
}
