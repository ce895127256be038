//! All that is saved, and its changes as data. Pure; each part has its own commands.

use std::sync::Arc;

use edge_mirror_http::access::merge_texts;

use crate::{
    refusal::RequestError,
    state::{
        audit::{AuditEvent, AuditRecord},
        commands::{self, MeetingCommand},
        dispatch::{
            DispatchChange, DispatchTable,
            commands::{self as dispatch_commands, DispatchCommand},
        },
        figures::SavedFigures,
        fleet::{
            KnownNodes, NodeChange,
            commands::{self as node_commands, NodeCommand},
        },
        groups::{GroupCommand, NodeGroups},
        history::HistoryChange,
        meetings::{MeetingChanges, MeetingTable},
        remote_tasks::{
            RemoteChange, RemoteTaskTable,
            commands::{self as remote_task_commands, RemoteTaskCommand},
        },
        routing::RoutingRules,
        virtual_nodes::{VirtualNodeChange, VirtualNodeCommand, VirtualNodes},
    },
};

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MasterState {
    pub(crate) meetings: MeetingTable,
    pub(crate) nodes: KnownNodes,
    pub(crate) routing: Arc<RoutingRules>,
    pub(crate) groups: Arc<NodeGroups>,
    pub(crate) virtual_nodes: VirtualNodes,
    /// The file of credentials, where main servers share the state.
    pub(crate) access: Option<Arc<str>>,
    pub(crate) dispatch: Arc<DispatchTable>,
    pub(crate) remote_tasks: Arc<RemoteTaskTable>,
}

/// The differences that one command made, or several one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StateChanges {
    pub(crate) meetings: MeetingChanges,
    /// The last of those of one node counts.
    pub(crate) nodes: Vec<NodeChange>,
    pub(crate) routing: Option<Arc<RoutingRules>>,
    pub(crate) groups: Option<Arc<NodeGroups>>,
    /// The last one of each counts.
    pub(crate) virtual_nodes: Vec<VirtualNodeChange>,
    pub(crate) access: Option<Arc<str>>,
    /// The last one of each task and of its files counts.
    pub(crate) dispatch: Vec<DispatchChange>,
    /// The last one of each task and of each part counts.
    pub(crate) remote_tasks: Vec<RemoteChange>,
    /// Records of them, which are only added.
    pub(crate) audit: Vec<AuditRecord>,
    /// Read at the start alone: they change with each download.
    pub(crate) figures: Option<Arc<SavedFigures>>,
    pub(crate) history: Vec<HistoryChange>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum MasterCommand {
    Meeting(MeetingCommand),
    Node(NodeCommand),
    Route(RoutingRules),
    Group(GroupCommand),
    VirtualNode(VirtualNodeCommand),
    Dispatch(DispatchCommand),
    RemoteTask(RemoteTaskCommand),
    /// Credentials that were changed at one of the main servers that share them.
    ShareAccess {
        /// The shared ones that were changed.
        base: Option<Arc<str>>,
        text: Arc<str>,
    },
    /// Notes a change that an operator made elsewhere.
    Record(AuditEvent),
    SaveFigures(Arc<SavedFigures>),
    SaveHistory(HistoryChange),
}

impl From<MeetingCommand> for MasterCommand {
    fn from(command: MeetingCommand) -> Self {
        Self::Meeting(command)
    }
}

impl From<NodeCommand> for MasterCommand {
    fn from(command: NodeCommand) -> Self {
        Self::Node(command)
    }
}

impl From<GroupCommand> for MasterCommand {
    fn from(command: GroupCommand) -> Self {
        Self::Group(command)
    }
}

impl From<VirtualNodeCommand> for MasterCommand {
    fn from(command: VirtualNodeCommand) -> Self {
        Self::VirtualNode(command)
    }
}

impl From<DispatchCommand> for MasterCommand {
    fn from(command: DispatchCommand) -> Self {
        Self::Dispatch(command)
    }
}

impl From<RemoteTaskCommand> for MasterCommand {
    fn from(command: RemoteTaskCommand) -> Self {
        Self::RemoteTask(command)
    }
}

impl From<MeetingChanges> for StateChanges {
    fn from(meetings: MeetingChanges) -> Self {
        Self { meetings, ..Self::default() }
    }
}

impl From<Vec<NodeChange>> for StateChanges {
    fn from(nodes: Vec<NodeChange>) -> Self {
        Self { nodes, ..Self::default() }
    }
}

impl StateChanges {
    /// These, and then `later` ones.
    pub(crate) fn extend(&mut self, later: Self) {
        self.meetings.extend(later.meetings);
        self.nodes.extend(later.nodes);
        self.routing = later.routing.or(self.routing.take());
        self.groups = later.groups.or(self.groups.take());
        self.virtual_nodes.extend(later.virtual_nodes);
        self.access = later.access.or(self.access.take());
        self.dispatch.extend(later.dispatch);
        self.remote_tasks.extend(later.remote_tasks);
        self.audit.extend(later.audit);
        self.figures = later.figures.or(self.figures.take());
        self.history.extend(later.history);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.meetings.is_empty()
            && self.nodes.is_empty()
            && self.routing.is_none()
            && self.groups.is_none()
            && self.virtual_nodes.is_empty()
            && self.access.is_none()
            && self.dispatch.is_empty()
            && self.remote_tasks.is_empty()
            && self.audit.is_empty()
            && self.figures.is_none()
            && self.history.is_empty()
    }
}

impl MasterState {
    /// Carries out what [`apply`] answered.
    pub(crate) fn merge(&mut self, changes: &StateChanges) {
        self.meetings.merge(&changes.meetings);
        self.nodes.merge(&changes.nodes);
        if let Some(routing) = &changes.routing {
            self.routing.clone_from(routing);
        }
        if let Some(groups) = &changes.groups {
            self.groups.clone_from(groups);
        }
        self.virtual_nodes.merge(&changes.virtual_nodes);
        if let Some(access) = &changes.access {
            self.access = Some(access.clone());
        }
        if !changes.dispatch.is_empty() {
            Arc::make_mut(&mut self.dispatch).merge(&changes.dispatch);
        }
        if !changes.remote_tasks.is_empty() {
            Arc::make_mut(&mut self.remote_tasks).merge(&changes.remote_tasks);
        }
    }

    /// Applies `command` to the state itself, which stays as it is where that is refused.
    pub(crate) fn execute(
        &mut self,
        command: &MasterCommand,
        next_token: String,
    ) -> Result<StateChanges, RequestError> {
        let changes = apply(self, command, next_token)?;
        self.merge(&changes);
        Ok(changes)
    }
}

/// Returns what `command` changes, with `next_token` where clients have to look again.
pub(crate) fn apply(
    state: &MasterState,
    command: &MasterCommand,
    next_token: String,
) -> Result<StateChanges, RequestError> {
    match command {
        MasterCommand::Meeting(command) => {
            commands::apply(&state.meetings, command, next_token).map(StateChanges::from)
        }
        MasterCommand::Node(command) => {
            let command = state.virtual_nodes.without_theirs(command)?;
            node_commands::apply(&state.nodes, &command).map(StateChanges::from)
        }
        MasterCommand::Route(rules) => {
            let rules = rules.clone().checked()?;
            let routing = (rules != *state.routing).then(|| Arc::new(rules));
            Ok(StateChanges { routing, ..StateChanges::default() })
        }
        MasterCommand::Group(command) => {
            let is_node = |id: &str| state.nodes.get(id).is_some() || state.virtual_nodes.has(id);
            let groups = state.groups.apply(is_node, command)?.map(Arc::new);
            Ok(StateChanges { groups, ..StateChanges::default() })
        }
        MasterCommand::VirtualNode(command) => {
            let change = state.virtual_nodes.apply(&state.nodes, command)?;
            let virtual_nodes = change.into_iter().collect();
            Ok(StateChanges { virtual_nodes, ..StateChanges::default() })
        }
        MasterCommand::Dispatch(command) => {
            let changes = dispatch_commands::apply(&state.dispatch, &state.nodes, command)?;
            Ok(StateChanges { dispatch: changes, ..StateChanges::default() })
        }
        MasterCommand::RemoteTask(command) => {
            let (table, nodes) = (&state.remote_tasks, &state.nodes);
            let remote_tasks = remote_task_commands::apply(table, nodes, command)?;
            Ok(StateChanges { remote_tasks, ..StateChanges::default() })
        }
        MasterCommand::ShareAccess { base, text } => {
            let text = match &state.access {
                // Somebody has changed them meanwhile, too.
                Some(saved) if state.access != *base => {
                    let merged = merge_texts(base.as_deref(), text, saved);
                    merged.map_err(|error| RequestError::Invalid(error.to_string()))?.into()
                }
                _ => text.clone(),
            };
            let access = (state.access.as_ref() != Some(&text)).then_some(text);
            Ok(StateChanges { access, ..StateChanges::default() })
        }
        MasterCommand::Record(_) => Ok(StateChanges::default()),
        MasterCommand::SaveHistory(change) => {
            Ok(StateChanges { history: vec![change.clone()], ..StateChanges::default() })
        }
        MasterCommand::SaveFigures(figures) => {
            Ok(StateChanges { figures: Some(figures.clone()), ..StateChanges::default() })
        }
    }
}
