//! The node that is best placed for a run, and why.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use edge_mirror_protocol::remote_tasks::{
    ParameterKind, ParameterSummary, TaskTypeName, TaskTypeSummary,
};
use serde::Serialize;

use super::RemoteTask;

/// A node that does not say how busy it is counts as half busy.
const UNKNOWN_PERCENT: u8 = 50;
/// The worth of a package that is there already: less than an idle processor.
const HELD_PACKAGE: i64 = 40;

/// True if a node, by its id, has the current package of a meeting.
pub(crate) type HoldsPackage<'a> = &'a dyn Fn(&str, &str) -> bool;

/// A node that runs tasks.
#[derive(Clone, Debug)]
pub(crate) struct WorkerNode {
    pub(crate) id: Arc<str>,
    pub(crate) boot: Arc<str>,
    pub(crate) places: u32,
    /// Parts that are given to it.
    pub(crate) running: u32,
    /// Those of each type.
    pub(crate) type_runs: BTreeMap<TaskTypeName, u32>,
    pub(crate) types: Arc<[TaskTypeSummary]>,
    pub(crate) cpu: Option<u8>,
    pub(crate) memory: Option<u8>,
    /// It asks for work now.
    pub(crate) asks: bool,
    /// An operator has it take no work.
    pub(crate) drained: bool,
    /// It goes on with what it was told to stop.
    pub(crate) sick: bool,
}

impl WorkerNode {
    /// True for the main server itself, which does what no node offers.
    pub(super) fn is_local(&self) -> bool {
        *self.id == *super::LOCAL_NODE
    }
}

/// True if a node offers the type of a task.
pub(super) fn is_offered(nodes: &[WorkerNode], task: &RemoteTask) -> bool {
    nodes.iter().any(|node| !node.is_local() && node.offer(&task.task_type).is_some())
}

/// A node as it was weighed for a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NodeChoice {
    pub(crate) node_id: String,
    /// The higher the better; null if it can't have the run now.
    pub(crate) score: Option<i64>,
    /// The parts of the score, or the reason that it can't.
    pub(crate) reasons: Vec<String>,
}

/// A type that nodes offer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct OfferedType {
    pub(crate) name: TaskTypeName,
    pub(crate) title: String,
    pub(crate) parameters: Vec<ParameterSummary>,
    pub(crate) repeatable: bool,
    pub(crate) network: bool,
    /// Runs of all nodes at a time.
    pub(crate) places: u32,
    pub(crate) nodes: Vec<String>,
}

/// The reason that a node can't have a run now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeRefusal {
    NotMeant,
    NoType,
    /// It called a moment ago, and does not now.
    Away,
    Drained,
    Sick,
    Full,
    TypeFull,
    /// It is the main server, and nodes offer the type.
    NotNeeded,
}

impl NodeRefusal {
    /// True if it would be able to do it some time.
    pub(super) fn is_passing(self) -> bool {
        match self {
            Self::NotMeant | Self::NoType | Self::NotNeeded => false,
            Self::Away | Self::Drained | Self::Sick | Self::Full | Self::TypeFull => true,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::NotMeant => "任务不是给它的 / the task is not for it",
            Self::NoType => "不提供此类型 / it does not offer the type",
            Self::Away => "刚才还在，现在没有请求任务 / it called a moment ago, and does not now",
            Self::Drained => "已设为不接任务 / an operator has it take no work",
            Self::Sick => "未停止应停的任务 / it goes on with work that it was told to stop",
            Self::Full => "没有空位 / it has no free place",
            Self::NotNeeded => "有节点提供此类型 / nodes offer the type",
            Self::TypeFull => "此类型没有空位 / it has no free place for the type",
        }
    }
}

impl WorkerNode {
    pub(crate) fn offer(&self, name: &TaskTypeName) -> Option<&TaskTypeSummary> {
        self.types.iter().find(|offered| offered.name == *name)
    }

    pub(super) fn refusal(&self, task: &RemoteTask) -> Option<NodeRefusal> {
        if !task.may_run_on(&self.id) {
            return Some(NodeRefusal::NotMeant);
        }
        let Some(offered) = self.offer(&task.task_type) else { return Some(NodeRefusal::NoType) };
        if !self.asks {
            Some(NodeRefusal::Away)
        } else if self.drained {
            Some(NodeRefusal::Drained)
        } else if self.sick {
            Some(NodeRefusal::Sick)
        } else if self.running >= self.places {
            Some(NodeRefusal::Full)
        } else {
            let running = self.type_runs.get(&task.task_type).copied().unwrap_or_default();
            (running >= offered.places).then_some(NodeRefusal::TypeFull)
        }
    }

    /// Notes that a run was given to it.
    pub(super) fn take(&mut self, task: &RemoteTask) {
        self.running += 1;
        *self.type_runs.entry(task.task_type.clone()).or_default() += 1;
    }

    pub(super) fn score(&self, holds_package: bool) -> i64 {
        self.terms(holds_package).iter().map(|(_, points)| points).sum()
    }

    /// The parts of the score: those that the seed's bridge has, and the package.
    fn terms(&self, holds_package: bool) -> [(&'static str, i64); 5] {
        let percent = |known: Option<u8>| i64::from(known.unwrap_or(UNKNOWN_PERCENT).min(100));
        [
            ("起始 / to begin with", 100),
            ("CPU", -percent(self.cpu) / 2),
            ("内存 / memory", -percent(self.memory) * 3 / 10),
            ("正在运行 / runs under way", -10 * i64::from(self.running)),
            ("已有会议包 / it has the package", if holds_package { HELD_PACKAGE } else { 0 }),
        ]
    }
}

/// The package that a task works on, as the type's parameters say.
pub(super) fn package_of<'a>(task: &'a RemoteTask, offered: &TaskTypeSummary) -> Option<&'a str> {
    let names = offered.parameters.iter().filter(|known| known.kind == ParameterKind::Package);
    names.filter_map(|known| task.parameters.get(&known.name)?.as_str()).next()
}

/// All nodes as they are weighed for a task, the best first.
pub(crate) fn explain(
    task: &RemoteTask,
    nodes: &[WorkerNode],
    holds: HoldsPackage<'_>,
) -> Vec<NodeChoice> {
    let is_needless = is_offered(nodes, task);
    let weigh = |node: &WorkerNode| {
        let not_needed = || (node.is_local() && is_needless).then_some(NodeRefusal::NotNeeded);
        if let Some(refusal) = node.refusal(task).or_else(not_needed) {
            let reasons = vec![refusal.text().to_owned()];
            return NodeChoice { node_id: node.id.to_string(), score: None, reasons };
        }
        let package = node.offer(&task.task_type).and_then(|offered| package_of(task, offered));
        let held = package.is_some_and(|package| holds(&node.id, package));
        let terms = node.terms(held).into_iter().filter(|(_, points)| *points != 0);
        let reasons = terms.map(|(text, points)| format!("{text}: {points:+}")).collect();
        NodeChoice { node_id: node.id.to_string(), score: Some(node.score(held)), reasons }
    };
    let mut choices: Vec<_> = nodes.iter().map(weigh).collect();
    choices.sort_by_key(|choice| (Reverse(choice.score), choice.node_id.clone()));
    choices
}

/// The types that nodes offer, by name. Where they differ, the first node's words count.
pub(crate) fn offered_types(nodes: &[WorkerNode]) -> Vec<OfferedType> {
    let mut types: BTreeMap<&TaskTypeName, OfferedType> = BTreeMap::new();
    for node in nodes {
        for offered in &*node.types {
            let known = types.entry(&offered.name).or_insert_with(|| OfferedType {
                name: offered.name.clone(),
                title: offered.title.clone(),
                parameters: offered.parameters.clone(),
                repeatable: true,
                network: false,
                places: 0,
                nodes: Vec::new(),
            });
            known.repeatable &= offered.repeatable;
            known.network |= offered.network;
            known.places = known.places.saturating_add(offered.places.min(node.places));
            known.nodes.push(node.id.to_string());
        }
    }
    types.into_values().collect()
}
