//! The choice of nodes for clients, for operators: `/api/v1/fleet/rules` and
//! `/api/v1/meetings/{id}/explain`.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Extension, Json,
    extract::{Request, State},
};
use edge_mirror_http::{
    access::Operator,
    wire::{ApiQuery, PathId},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use crate::{
    api::json::{DeclaredJson, JsonBody},
    refusal::RequestError,
    server::Server,
    state::{
        master_state::MasterCommand,
        registry::{Candidate, CandidateTier, ChoiceExplanation, Exclusion},
        routing::{RoutingRule, RoutingRules},
    },
};

type Shared = State<Arc<Server>>;

/// Nodes that are listed of a tier, and nodes that are listed with a reason.
const MAX_LISTED: usize = 100;

pub(crate) async fn rules(State(server): Shared) -> Json<Value> {
    Json(json!(*server.rules()))
}

pub(crate) async fn set_rules(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    _: DeclaredJson,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, RequestError> {
    let rules: RoutingRules = serde_json::from_value(Value::Object(body)).map_err(|error| {
        RequestError::Invalid(format!("规则格式错误 / the rules are malformed: {error}"))
    })?;
    let count = rules.rules.len();
    server.change_by(&operator, MasterCommand::Route(rules)).await?;
    info!("{count} rules for the choice of nodes were set");
    Ok(Json(json!(*server.rules())))
}

#[derive(Deserialize)]
pub(crate) struct AskedClient {
    /// None: the caller.
    client: Option<String>,
}

/// The node that a client would be sent to, and why.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ChoiceView<'a> {
    client: IpAddr,
    outcome: ChoiceOutcome,
    /// The same in a sentence, in Chinese and English.
    reason: String,
    /// The rule with the closest subnet that the client is in.
    rule: Option<NumberedRule<'a>>,
    overflow: u8,
    /// The first one counts; in it, of two nodes drawn at random the one with the lower cost.
    tiers: Vec<TierView<'a>>,
    excluded: Vec<ExcludedNode<'a>>,
    excluded_count: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
enum ChoiceOutcome {
    /// To one of the nodes.
    Node,
    /// The main server serves the package itself.
    MainServer,
    /// The meeting is not running, or has no package: there is nothing to download.
    Refused,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct NumberedRule<'a> {
    /// From 1 on.
    number: usize,
    #[serde(flatten)]
    rule: &'a RoutingRule,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct TierView<'a> {
    /// Its nodes are above `overflow`: they are used where no others can be.
    busy: bool,
    /// There is a rule, and it names them.
    named_by_rule: bool,
    priority: u32,
    count: usize,
    nodes: Vec<CandidateView<'a>>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct CandidateView<'a> {
    node_id: &'a str,
    address: &'a str,
    /// Under way by its last heartbeat.
    downloads: u64,
    /// Clients sent there since that heartbeat.
    redirects: u64,
    /// The busiest of CPU, memory and uplink; 0 from a node that does not say.
    load_percent: u8,
    weight: u32,
    cost: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ExcludedNode<'a> {
    node_id: &'a str,
    reason: ExclusionReason,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
enum ExclusionReason {
    Unreachable,
    NotProbedYet,
    Drained,
    NoHeartbeatYet,
    WithoutPackage,
    WrongContent,
    NotInRule,
}

pub(crate) async fn explain(
    State(server): Shared,
    PathId(id): PathId,
    ApiQuery(asked): ApiQuery<AskedClient>,
    request: Request,
) -> Result<Json<Value>, RequestError> {
    let caller = server.access.caller(&request.into_parts().0).address;
    let client = match asked.client {
        Some(text) => text.parse::<IpAddr>().map_err(|_| not_an_address(&text))?,
        None => caller,
    };
    let client = client.to_canonical();
    let is_running = server.book().get(&id)?.is_running();
    let (current, rules) = (server.digest(&id), server.rules());
    let registry = server.registry();
    let explained = registry.explain(&id, current, client, server.clock.now());
    let outcome = match (is_running && current.is_some(), explained.tiers.is_empty()) {
        (false, _) => ChoiceOutcome::Refused,
        (true, true) => ChoiceOutcome::MainServer,
        (true, false) => ChoiceOutcome::Node,
    };
    let excluded = explained.excluded.iter().take(MAX_LISTED);
    let has_rule = explained.rule.is_some();
    Ok(Json(json!(ChoiceView {
        client,
        outcome,
        reason: reason(outcome, &explained, rules.overflow),
        rule: explained.rule.map(|(number, rule)| NumberedRule { number, rule }),
        overflow: rules.overflow,
        tiers: explained.tiers.iter().map(|tier| tier_view(tier, has_rule)).collect(),
        excluded: excluded.map(|(node_id, why)| excluded_node(node_id, *why)).collect(),
        excluded_count: explained.excluded.len(),
    })))
}

fn not_an_address(text: &str) -> RequestError {
    let text: String = text.chars().take(64).collect();
    RequestError::Invalid(format!(
        "“{text}”不是 IP 地址，例如 10.3.0.7 / “{text}” is no IP address, such as 10.3.0.7"
    ))
}

fn reason(outcome: ChoiceOutcome, explained: &ChoiceExplanation<'_>, overflow: u8) -> String {
    let rule = explained.rule.map_or_else(
        || ("没有适用的规则".to_owned(), "no rule applies".to_owned()),
        |(number, _)| (format!("规则 {number}"), format!("rule {number}")),
    );
    match outcome {
        ChoiceOutcome::Refused => {
            "会议未进行或没有会议包，不能下载 / the meeting is not running or \
                                   has no package, so there is nothing to download"
                .to_owned()
        }
        ChoiceOutcome::MainServer => format!(
            "{}：没有可用的节点拥有会议包，由主控服务器提供 / {}: no available node has the package, \
             so the main server sends it itself",
            rule.0, rule.1
        ),
        ChoiceOutcome::Node => {
            let free = explained.tiers.first().filter(|tier| !tier.tier.is_busy);
            let count = free.map_or(0, |tier| tier.candidates.len());
            match free {
                Some(tier) if tier.tier.beyond_rule => format!(
                    "{}：其节点均不可用或过忙，从其余 {count} 个节点中按负载选择 / {}: none of its nodes \
                     is available, or all are too busy; one of the others ({count}), the less busy first",
                    rule.0, rule.1
                ),
                Some(_) => format!(
                    "{}：按负载选择（共 {count} 个节点） / {}: one of these nodes ({count}), the less busy first",
                    rule.0, rule.1
                ),
                None => format!(
                    "{}：所有节点负载都超过 {overflow}%，按负载在其中选择 / {}: all nodes are above \
                     {overflow} %; one of them, the less busy first",
                    rule.0, rule.1
                ),
            }
        }
    }
}

fn tier_view<'a>(tier: &CandidateTier<'a>, has_rule: bool) -> TierView<'a> {
    let nodes = tier.candidates.iter().take(MAX_LISTED).map(|node| {
        let Candidate { node_id, address, downloads, redirects, percent, weight, cost } = *node;
        CandidateView {
            node_id,
            address,
            downloads,
            redirects,
            load_percent: percent,
            weight,
            cost,
        }
    });
    TierView {
        busy: tier.tier.is_busy,
        named_by_rule: has_rule && !tier.tier.beyond_rule,
        priority: tier.tier.priority,
        count: tier.candidates.len(),
        nodes: nodes.collect(),
    }
}

fn excluded_node(node_id: &str, why: Exclusion) -> ExcludedNode<'_> {
    let reason = match why {
        Exclusion::Unreachable => ExclusionReason::Unreachable,
        Exclusion::Unprobed => ExclusionReason::NotProbedYet,
        Exclusion::Drained => ExclusionReason::Drained,
        Exclusion::Unreported => ExclusionReason::NoHeartbeatYet,
        Exclusion::NoPackage => ExclusionReason::WithoutPackage,
        Exclusion::WrongContent => ExclusionReason::WrongContent,
        Exclusion::Rule => ExclusionReason::NotInRule,
    };
    ExcludedNode { node_id, reason }
}
