//! The way of a change to the writer, and from there to readers.

use std::{collections::HashSet, sync::Arc};

use edge_mirror_http::access::Operator;
use edge_mirror_protocol::package::PackageId;
use edge_mirror_store::{StoreError, StoredPackage};
use tokio::sync::{mpsc, oneshot};

use crate::{
    node_status::NodeStatus,
    refusal::RequestError,
    server::Server,
    state::{
        commands::MeetingCommand,
        dispatch::DispatchTable,
        fleet::KnownNodes,
        groups::NodeGroups,
        index::IndexedMeetings,
        master_state::{MasterCommand, MasterState},
        remote_tasks::RemoteTaskTable,
        routing::RoutingRules,
        virtual_nodes::VirtualNodes,
    },
};

/// Changes that wait for the writer; who comes later waits to be queued. Several batches
/// of it, so that it never runs dry.
const MAX_QUEUED: usize = 256;

/// A command, and who waits for what becomes of it.
#[derive(Debug)]
pub(crate) struct PendingChange {
    pub command: MasterCommand,
    /// None: nobody but the program.
    pub(crate) by: Option<Operator>,
    pub reply: oneshot::Sender<Result<(), RequestError>>,
}

/// A saved state as readers get it.
#[derive(Debug)]
pub(crate) struct PublishedState {
    meetings: Arc<IndexedMeetings>,
    nodes: KnownNodes,
    routing: Arc<RoutingRules>,
    groups: Arc<NodeGroups>,
    virtual_nodes: VirtualNodes,
    access: Option<Arc<str>>,
    dispatch: Arc<DispatchTable>,
    remote_tasks: Arc<RemoteTaskTable>,
}

impl From<MasterState> for PublishedState {
    fn from(state: MasterState) -> Self {
        let MasterState {
            meetings,
            nodes,
            routing,
            groups,
            virtual_nodes,
            access,
            dispatch,
            remote_tasks,
        } = state;
        let meetings = Arc::new(meetings.into());
        Self { meetings, nodes, routing, groups, virtual_nodes, access, dispatch, remote_tasks }
    }
}

/// The way to the writer.
#[derive(Clone, Debug)]
pub(crate) struct ChangeQueue(mpsc::Sender<PendingChange>);

impl ChangeQueue {
    pub(crate) fn new() -> (Self, mpsc::Receiver<PendingChange>) {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED);
        (Self(sender), receiver)
    }
}

impl Server {
    /// Has the writer carry out `command`, to its end even when the caller is dropped.
    pub(crate) async fn change(
        &self,
        command: impl Into<MasterCommand>,
    ) -> Result<(), RequestError> {
        self.queue_change(command.into(), None).await
    }

    /// The same for an operator, and keeps who that was.
    pub(crate) async fn change_by(
        &self,
        operator: &Operator,
        command: impl Into<MasterCommand>,
    ) -> Result<(), RequestError> {
        self.queue_change(command.into(), Some(operator.clone())).await
    }

    async fn queue_change(
        &self,
        command: MasterCommand,
        by: Option<Operator>,
    ) -> Result<(), RequestError> {
        let (reply, outcome) = oneshot::channel();
        let pending = PendingChange { command, by, reply };
        self.changes.0.send(pending).await.map_err(|_| RequestError::stopping())?;
        let outcome = outcome.await.map_err(|_| RequestError::stopping())?;
        self.wake.announcer.notify_one();
        outcome
    }

    /// Like the above, for threads that may wait.
    fn change_blocking(
        &self,
        command: MeetingCommand,
        by: Option<&Operator>,
    ) -> Result<(), RequestError> {
        let (reply, outcome) = oneshot::channel();
        let pending = PendingChange { command: command.into(), by: by.cloned(), reply };
        self.changes.0.blocking_send(pending).map_err(|_| RequestError::stopping())?;
        outcome.blocking_recv().map_err(|_| RequestError::stopping())?
    }

    /// Shows a saved state to readers. The writer's alone, so that no older state
    /// replaces a newer one. Blocks.
    pub(crate) fn publish(&self, state: Option<PublishedState>) {
        if let Some(state) = state {
            let PublishedState { meetings, nodes, routing, groups, access, dispatch, .. } = state;
            self.virtual_nodes.store(Arc::new(state.virtual_nodes));
            self.note_starts(&meetings);
            let running: HashSet<_> =
                meetings.running().map(|meeting| meeting.id.clone()).collect();
            self.book.store(meetings);
            self.registry().retain_packages(|id| running.contains(id));
            self.apply_known_nodes(nodes);
            self.apply_rules(routing);
            self.groups.store(groups);
            self.apply_access(access);
            self.apply_dispatch(dispatch);
            self.apply_remote_tasks(state.remote_tasks);
        }
        // Covers packages, too: each replacement ends with a change. Nobody is told of
        // a package before there is a parent to pull it from.
        self.plan_relays();
        let now = NodeStatus::of(&self.book(), &self.store);
        self.status.send_if_modified(|status| {
            let changed = **status != now;
            if changed {
                *status = Arc::new(now);
            }
            changed
        });
        self.wake_puller();
    }

    /// Shows a saved state of which nothing but remote tasks has changed.
    pub(crate) fn publish_remote_tasks(&self, state: Option<PublishedState>) {
        if let Some(state) = state {
            self.apply_remote_tasks(state.remote_tasks);
        }
    }

    /// Puts a package in place by `put`, and changes the token if that gave
    /// a running meeting another one. Blocks.
    pub(crate) fn replace_package(
        &self,
        id: &PackageId,
        by: Option<&Operator>,
        put: impl FnOnce() -> Result<Arc<StoredPackage>, StoreError>,
    ) -> Result<(), RequestError> {
        self.change_blocking(MeetingCommand::BeginReplacement(id.clone()), by)?;
        let before = self.local_digest(id);
        let outcome = put();
        let (id, after) = (id.clone(), self.local_digest(id));
        self.change_blocking(MeetingCommand::FinishReplacement { id, before, after }, by)?;
        outcome?;
        Ok(())
    }
}
