//! Groups of nodes, for operators: `/api/v1/groups`.
//!
//! | Call | Body | Answer |
//! |---|---|---|
//! | `GET …` | | 200, all groups, and how many nodes each has now |
//! | `GET …/{group}` | | 200, one, and which nodes it has now |
//! | `PUT …/{group}` | any of `nodes`, `sites`, `labels` | 200, the group, created or changed; 400 names what is wrong |
//! | `DELETE …/{group}` | | 200 `{"status":"success","message"}` |
//!
//! Unknown group: 404.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{FromRequestParts, State},
    http::request::Parts,
};
use edge_mirror_http::{
    access::Operator,
    wire::{Done, done},
};
use serde::Serialize;
use serde_json::Value;
use tracing::info;

use crate::{
    api::{
        json::{DeclaredJson, JsonBody, WrittenJson},
        path::path_text,
    },
    refusal::RequestError,
    server::Server,
    state::groups::{GroupCommand, NodeGroup},
};

type Shared = State<Arc<Server>>;

/// A group's name in the path: any text.
pub(crate) struct GroupName(String);

impl FromRequestParts<Arc<Server>> for GroupName {
    type Rejection = RequestError;

    async fn from_request_parts(
        parts: &mut Parts,
        server: &Arc<Server>,
    ) -> Result<Self, RequestError> {
        let name = path_text(parts, server, "group").await;
        name.map(Self).ok_or_else(|| RequestError::invalid("分组名称无效 / invalid group name"))
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct GroupList<'a> {
    groups: Vec<GroupView<'a>>,
}

/// A group, and the nodes that it has now.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct GroupView<'a> {
    name: &'a str,
    #[serde(flatten)]
    group: &'a NodeGroup,
    count: usize,
    /// Their ids; in the list of groups, there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<String>>,
}

pub(crate) async fn list(State(server): Shared) -> WrittenJson {
    let groups = server.groups();
    let views = server.with_addressed_nodes(true, &server.virtual_nodes(), |nodes| {
        let views = groups.iter().map(|(name, group)| {
            let count = nodes.iter().filter(|node| group.has(**node)).count();
            GroupView { name, group, count, members: None }
        });
        views.collect()
    });
    WrittenJson::new(&GroupList { groups: views })
}

pub(crate) async fn show(
    State(server): Shared,
    GroupName(name): GroupName,
) -> Result<WrittenJson, RequestError> {
    view(&server, &name)
}

pub(crate) async fn put(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    GroupName(name): GroupName,
    _: DeclaredJson,
    JsonBody(body): JsonBody,
) -> Result<WrittenJson, RequestError> {
    let group = serde_json::from_value(Value::Object(body)).map_err(|error| malformed(&error))?;
    let most = server.casts.limits.max_groups;
    let command = GroupCommand::Put { name: name.clone(), group, most };
    server.change_by(&operator, command).await?;
    info!("group {name} was set");
    view(&server, &name)
}

pub(crate) async fn remove(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    GroupName(name): GroupName,
) -> Result<Json<Done>, RequestError> {
    server.change_by(&operator, GroupCommand::Remove(name.clone())).await?;
    info!("group {name} was removed");
    Ok(done(format!("Group {name} removed")))
}

/// Joins the halves where the cause is in both languages.
fn malformed(error: &serde_json::Error) -> RequestError {
    let cause = error.to_string();
    let (chinese, english) = cause.split_once(" / ").unwrap_or((&cause, &cause));
    RequestError::Invalid(format!("分组格式错误：{chinese} / the group is malformed: {english}"))
}

fn view(server: &Server, name: &str) -> Result<WrittenJson, RequestError> {
    let groups = server.groups();
    let group = groups.get(name).ok_or_else(|| RequestError::UnknownGroup(name.to_owned()))?;
    let members: Vec<_> = server.with_addressed_nodes(true, &server.virtual_nodes(), |nodes| {
        let members = nodes.iter().filter(|node| group.has(**node));
        members.map(|node| node.id.to_owned()).collect()
    });
    let count = members.len();
    Ok(WrittenJson::new(&GroupView { name, group, count, members: Some(members) }))
}
