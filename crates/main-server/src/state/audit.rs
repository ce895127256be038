//! The record of a change by an operator: who, what, when, from which address. Pure.

use std::net::IpAddr;

use edge_mirror_base::clock::{UnixMillis, fractional_seconds};
use edge_mirror_http::access::{AuthMethod, Operator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::state::{
    commands::MeetingCommand,
    dispatch::commands::DispatchCommand,
    fleet::{NodeChange, NodeProfile, commands::NodeCommand},
    groups::GroupCommand,
    master_state::{MasterCommand, MasterState, StateChanges},
    remote_tasks::commands::RemoteTaskCommand,
    virtual_nodes::VirtualNodeCommand,
};

/// A change that an operator made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct AuditRecord {
    #[serde(with = "fractional_seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub(crate) at: UnixMillis,
    pub(crate) by: AuditedOperator,
    #[serde(flatten)]
    pub(crate) event: AuditEvent,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct AuditedOperator {
    pub(crate) address: IpAddr,
    pub(crate) how: AuditedLogin,
}

/// The way an operator was recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) enum AuditedLogin {
    /// By a request from the machine itself.
    Local,
    /// By the admin token.
    Token,
    /// By a login.
    Session,
    /// Not at all: `--open`.
    Open,
    /// By its address: a CastRay client, which has no login.
    Castray,
    /// By being a node of the fleet, whose operator lets programs send.
    Node,
    /// By the password that clients of GoFD have.
    Gofd,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct AuditEvent {
    pub(crate) action: AuditAction,
    /// The id of the meeting or node, or the group's name; null if it is about none.
    pub(crate) subject: Option<String>,
    /// The new values of what changed.
    #[cfg_attr(test, schemars(with = "std::collections::BTreeMap<String, Value>"))]
    pub(crate) details: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) enum AuditAction {
    MeetingCreated,
    MeetingStarted,
    MeetingEnded,
    MeetingDeleted,
    PackageUploaded,
    DistributionStarted,
    DistributionEnded,
    NodeApproved,
    NodeRefused,
    NodeEdited,
    NodeRemoved,
    RulesChanged,
    GroupSet,
    GroupRemoved,
    VirtualNodeSet,
    VirtualNodeRemoved,
    DispatchCreated,
    DispatchCancelled,
    DispatchRetried,
    RemoteTaskCreated,
    RemoteTaskCancelled,
    RemoteTaskRetried,
    NodeKeySet,
    NodeKeyRemoved,
}

impl AuditRecord {
    pub(crate) fn new(event: AuditEvent, by: &Operator, at: UnixMillis) -> Self {
        Self { at, by: by.into(), event }
    }
}

impl From<&Operator> for AuditedOperator {
    fn from(by: &Operator) -> Self {
        let how = match by.how {
            AuthMethod::Local => AuditedLogin::Local,
            AuthMethod::Token => AuditedLogin::Token,
            AuthMethod::Session { .. } => AuditedLogin::Session,
            AuthMethod::Open => AuditedLogin::Open,
            AuthMethod::Gofd => AuditedLogin::Gofd,
            AuthMethod::Castray => AuditedLogin::Castray,
        };
        Self { address: by.address, how }
    }
}

impl AuditEvent {
    pub(crate) fn new(action: AuditAction) -> Self {
        Self { action, subject: None, details: Map::new() }
    }

    fn about(action: AuditAction, subject: &str) -> Self {
        Self { subject: Some(subject.to_owned()), ..Self::new(action) }
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.details.insert(name.to_owned(), value);
        self
    }

    /// The event of a `command` that an operator gave, which made `changes` of the state
    /// `before`. None if it changed nothing, or is a step on the way to a change.
    pub(crate) fn of(
        command: &MasterCommand,
        before: &MasterState,
        changes: &StateChanges,
    ) -> Option<Self> {
        match command {
            MasterCommand::Record(event) => Some(event.clone()),
            MasterCommand::SaveFigures(_)
            | MasterCommand::SaveHistory(_)
            | MasterCommand::ShareAccess { .. } => None,
            _ if changes.is_empty() => None,
            MasterCommand::Meeting(command) => Self::of_meeting(command),
            MasterCommand::Node(command) => Self::of_node(command, before, &changes.nodes),
            MasterCommand::Group(GroupCommand::Put { name, group, .. }) => {
                Some(Self::about(AuditAction::GroupSet, name).with("group", json!(group)))
            }
            MasterCommand::Group(GroupCommand::Remove(name)) => {
                Some(Self::about(AuditAction::GroupRemoved, name))
            }
            MasterCommand::VirtualNode(VirtualNodeCommand::Put { node, .. }) => {
                let event = Self::about(AuditAction::VirtualNodeSet, &node.id);
                Some(event.with("profile", json!(node.profile)))
            }
            MasterCommand::VirtualNode(VirtualNodeCommand::Remove(id)) => {
                Some(Self::about(AuditAction::VirtualNodeRemoved, id))
            }
            MasterCommand::Dispatch(command) => Self::of_dispatch(command),
            MasterCommand::RemoteTask(command) => Self::of_remote_task(command),
            MasterCommand::Route(rules) => {
                let event = Self::new(AuditAction::RulesChanged);
                Some(
                    event.with("rules", json!(rules.rules)).with("overflow", json!(rules.overflow)),
                )
            }
        }
    }

    fn of_meeting(command: &MeetingCommand) -> Option<Self> {
        let event = match command {
            MeetingCommand::Create(meeting) => {
                Self::about(AuditAction::MeetingCreated, meeting.id.as_str())
                    .with("title", json!(meeting.title))
                    .with("time", json!(meeting.time))
            }
            MeetingCommand::Start { id, .. } => {
                Self::about(AuditAction::MeetingStarted, id.as_str())
            }
            MeetingCommand::End { id, .. } => Self::about(AuditAction::MeetingEnded, id.as_str()),
            MeetingCommand::Delete(id) => Self::about(AuditAction::MeetingDeleted, id.as_str()),
            MeetingCommand::Prestage(id) => {
                Self::about(AuditAction::DistributionStarted, id.as_str())
            }
            MeetingCommand::EndPrestage(id) => {
                Self::about(AuditAction::DistributionEnded, id.as_str())
            }
            MeetingCommand::FinishReplacement { id, before, after } if before != after => {
                Self::about(AuditAction::PackageUploaded, id.as_str()).with("sha256", json!(after))
            }
            MeetingCommand::ReplacePackage { id, package, .. } => {
                Self::about(AuditAction::PackageUploaded, id.as_str())
                    .with("sha256", json!(package.sha256))
            }
            MeetingCommand::BeginReplacement(_)
            | MeetingCommand::FinishReplacement { .. }
            | MeetingCommand::NamePackage { .. }
            | MeetingCommand::Announce(_) => return None,
        };
        Some(event)
    }

    fn of_dispatch(command: &DispatchCommand) -> Option<Self> {
        let event = match command {
            DispatchCommand::Create { task, .. } => {
                Self::about(AuditAction::DispatchCreated, task.id.as_str())
                    .with("title", json!(task.title))
                    .with("files", json!(task.files))
                    .with("bytes", json!(task.bytes))
                    .with("to", json!(task.to))
            }
            DispatchCommand::Cancel { id, .. } => {
                Self::about(AuditAction::DispatchCancelled, id.as_str())
            }
            DispatchCommand::Retry { id, .. } => {
                Self::about(AuditAction::DispatchRetried, id.as_str())
            }
            DispatchCommand::Report { .. } | DispatchCommand::Advance { .. } => return None,
        };
        Some(event)
    }

    /// Without parameters and inputs: they may be large, and are in the task itself.
    fn of_remote_task(command: &RemoteTaskCommand) -> Option<Self> {
        let event = match command {
            RemoteTaskCommand::Create(task) => {
                Self::about(AuditAction::RemoteTaskCreated, task.id.as_str())
                    .with("type", json!(task.task_type))
                    .with("spread", json!(task.spread))
                    .with("to", json!(task.to))
            }
            RemoteTaskCommand::Cancel { id, .. } => {
                Self::about(AuditAction::RemoteTaskCancelled, id.as_str())
            }
            RemoteTaskCommand::Retry { id, new_id, .. } => {
                Self::about(AuditAction::RemoteTaskRetried, id.as_str())
                    .with("again", json!(new_id))
            }
            RemoteTaskCommand::Assign(_)
            | RemoteTaskCommand::Report { .. }
            | RemoteTaskCommand::Release { .. }
            | RemoteTaskCommand::GiveUp { .. }
            | RemoteTaskCommand::Advance { .. } => return None,
        };
        Some(event)
    }

    fn of_node(
        command: &NodeCommand,
        before: &MasterState,
        changes: &[NodeChange],
    ) -> Option<Self> {
        let event = match command {
            NodeCommand::Approve(node) => Self::about(AuditAction::NodeApproved, &node.id)
                .with("address", json!(node.address))
                .with("client", json!(node.client)),
            NodeCommand::Refuse(node) => Self::about(AuditAction::NodeRefused, &node.id)
                .with("address", json!(node.address))
                .with("client", json!(node.client)),
            NodeCommand::Edit { id, .. } => {
                let old = &before.nodes.get(id)?.profile;
                let new = changes.iter().find_map(|change| match change {
                    NodeChange::Put(node) if node.id == *id => Some(&node.profile),
                    _ => None,
                });
                let details = difference(old, new?);
                Self { details, ..Self::about(AuditAction::NodeEdited, id) }
            }
            NodeCommand::Remove(id) => Self::about(AuditAction::NodeRemoved, id),
            NodeCommand::Learn(_)
            | NodeCommand::NotePresence(_)
            | NodeCommand::RecordSightings(_) => return None,
        };
        Some(event)
    }
}

/// The fields of `new` that are others in `old`.
fn difference(old: &NodeProfile, new: &NodeProfile) -> Map<String, Value> {
    let (Value::Object(old), Value::Object(new)) = (json!(old), json!(new)) else {
        return Map::new();
    };
    new.into_iter().filter(|(name, value)| old.get(name) != Some(value)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::state::{
        fleet::LearnedNode,
        groups::NodeGroup,
        meetings::{Meeting, fresh_token},
        routing::RoutingRules,
    };

    const AT: UnixMillis = UnixMillis::from_secs(1_700_000_000);

    fn event_of(state: &mut MasterState, command: impl Into<MasterCommand>) -> Option<AuditEvent> {
        let (command, before) = (command.into(), state.clone());
        let changes = state.execute(&command, fresh_token()).unwrap();
        AuditEvent::of(&command, &before, &changes)
    }

    #[test]
    fn each_change_of_an_operator_is_an_event_and_what_changes_nothing_is_none() {
        let mut state = MasterState::default();
        let id = || "m1".parse().unwrap();
        let meeting = Meeting::new(id(), "会".into(), "9:00".into(), AT);
        let created = event_of(&mut state, MeetingCommand::Create(meeting)).unwrap();
        let shown = json!({
            "action": "meeting_created", "subject": "m1",
            "details": {"title": "会", "time": "9:00"},
        });
        assert_eq!(json!(created), shown);
        let start = || MeetingCommand::Start { id: id(), at: AT };
        assert!(event_of(&mut state, start()).is_some());
        assert_eq!(event_of(&mut state, start()), None, "it runs already");
        assert_eq!(event_of(&mut state, MeetingCommand::BeginReplacement(id())), None);
        let sha256 = Some(edge_mirror_protocol::package::Sha256::new([7; 32]));
        let replaced = |after| MeetingCommand::FinishReplacement { id: id(), before: None, after };
        let uploaded = event_of(&mut state, replaced(sha256)).unwrap();
        assert_eq!(uploaded.details["sha256"], json!(sha256));
        assert_eq!(event_of(&mut state, MeetingCommand::Announce(vec![id()])), None);
        let group = NodeGroup { sites: ["3F".to_owned()].into(), ..NodeGroup::default() };
        let put = || GroupCommand::Put { name: "g".into(), group: group.clone(), most: 10 };
        let set = event_of(&mut state, put()).unwrap();
        assert_eq!(
            (set.subject.as_deref(), &set.details["group"]["sites"]),
            (Some("g"), &json!(["3F"]))
        );
        assert_eq!(event_of(&mut state, put()), None, "it is the same");
        assert!(event_of(&mut state, GroupCommand::Remove("g".into())).is_some());
        let rules = RoutingRules { overflow: 70, ..RoutingRules::default() };
        let changed = event_of(&mut state, MasterCommand::Route(rules)).unwrap();
        assert_eq!((changed.subject, &changed.details["overflow"]), (None, &json!(70)));
    }

    #[test]
    fn an_edit_names_what_changed_and_nothing_else() {
        let client = Ipv4Addr::LOCALHOST.into();
        let node = LearnedNode::new("n1".into(), "10.0.0.1:8080".into(), client, AT);
        let mut state = MasterState::default();
        let approved = event_of(&mut state, NodeCommand::Approve(node)).unwrap();
        assert_eq!(approved.details["address"], "10.0.0.1:8080");
        let old = state.nodes.get("n1").unwrap().profile.clone();
        let new = NodeProfile { site: "3F".into(), drained: true, ..old.clone() };
        assert_eq!(json!(difference(&old, &new)), json!({"site": "3F", "drained": true}));
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let by = Operator { address: Ipv4Addr::LOCALHOST.into(), how: AuthMethod::Local };
        let event = AuditEvent::about(AuditAction::NodeRemoved, "n1");
        let record = AuditRecord::new(event, &by, AT);
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<AuditRecord>(&text).unwrap(), record, "{text}");
    }
}
