//! Managing meetings. All bodies are JSON but the package's.
//!
//! | Call | Body | Answer |
//! |---|---|---|
//! | `GET /api/v1/meetings` | | 200, a list of meetings in the order of creation, each with the nodes' readiness |
//! | `POST /api/v1/meetings` | `{"title", "id"?, "time"?}` | 201, the meeting; 400 invalid id, title or time; 409 there is one with this id |
//! | `GET /api/v1/meetings/{id}` | | 200, the meeting |
//! | `DELETE /api/v1/meetings/{id}` | | 200 `{"status":"success","message"}`; removes its package, too |
//! | `PUT /api/v1/meetings/{id}/package` | the ZIP itself; `Repr-Digest` or `Content-Digest` with `sha-256` is checked where sent | 200, the meeting; 400 cut off, damaged or no ZIP; 409 another upload under way; 507 no room |
//! | `POST /api/v1/meetings/{id}/start` | | 200, the meeting; again: no change |
//! | `POST /api/v1/meetings/{id}/distribute` | | 200, the meeting: nodes get its package before it starts; 409 it has none |
//! | `DELETE /api/v1/meetings/{id}/distribute` | | 200, the meeting: nodes drop it, unless it runs |
//! | `POST /api/v1/meetings/{id}/end` | | 200, the meeting; again: no change; it may be started again |
//!
//! A meeting: `{"id", "title", "time", "status": 未开始 | 进行中 | 已结束, "size",
//! "sha256", "file_count", "nodes": [ids of nodes that have this package],
//! "created_at", "started_at", "ended_at", "prestaged"}`, times in seconds since 1970, null
//! for what is not. Unknown meeting: 404. Malformed body: 422.

use std::sync::Arc;

use axum::{Extension, Json, extract::State, http::StatusCode};
use edge_mirror_base::{clock::UnixMillis, tasks};
use edge_mirror_http::{
    access::Operator,
    wire::{self, Done, PathId, done},
};
use edge_mirror_protocol::package::{PackageId, Sha256};
use serde::Serialize;
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::{
    api::{
        json::{DeclaredJson, FieldReader, JsonBody, WrittenJson},
        readiness::ReadinessReader,
    },
    packages::package_of,
    refusal::RequestError,
    server::Server,
    state::{
        commands::MeetingCommand,
        meetings::{Meeting, MeetingPhase, fresh_id},
        readiness::ReadinessSummary,
    },
};

type Shared = State<Arc<Server>>;
type JsonResult = Result<Json<Value>, RequestError>;

const MAX_TITLE_CHARS: usize = 200;
const MAX_TIME_CHARS: usize = 100;

pub(crate) async fn list(State(server): Shared) -> WrittenJson {
    tasks::blocking(move || entries(&server)).await
}

fn entries(server: &Server) -> WrittenJson {
    let (book, now) = (server.book(), server.clock.now());
    // Copied: there may be thousands, and heartbeats wait for the registry.
    let (holders, readiness) = {
        let (known, registry) = (server.known(), server.registry());
        let presences = registry.presences(&known, server.started_at, now);
        let reader = ReadinessReader::new(server, registry.live(now), presences);
        let found = reader.read_all(&book.meetings);
        let summaries = found.into_iter().map(|found| found.map(|found| found.summary));
        let holders = registry.holders(now, |id| server.digest(id));
        let copied = |meeting: &Meeting| {
            let nodes = holders.get(&meeting.id).into_iter().flatten();
            nodes.map(|node| (*node).to_owned()).collect::<Vec<_>>()
        };
        let holders: Vec<_> = book.meetings.iter().map(copied).collect();
        (holders, summaries.collect::<Vec<_>>())
    };
    let holders: Vec<Vec<&str>> =
        holders.iter().map(|nodes| nodes.iter().map(String::as_str).collect()).collect();
    let entries = book.meetings.iter().zip(&holders).zip(readiness);
    let entries = entries.map(|((meeting, nodes), readiness)| MeetingEntry {
        meeting: described(server, meeting, Some(nodes)),
        readiness,
    });
    WrittenJson::new(&entries.collect::<Vec<_>>())
}

pub(crate) async fn show(State(server): Shared, PathId(id): PathId) -> JsonResult {
    view(&server, &id)
}

pub(crate) async fn create(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    _: DeclaredJson,
    body: JsonBody,
) -> Result<(StatusCode, Json<Value>), RequestError> {
    let mut reader = FieldReader::new(&body);
    let title = reader.text("title");
    let (id, time) = (reader.optional_text("id"), reader.optional_text("time"));
    reader.finish()?;
    let meeting = meeting(title, id, time, server.clock.now())?;
    let (id, title) = (meeting.id.clone(), meeting.title.clone());
    server.change_by(&operator, MeetingCommand::Create(meeting)).await?;
    info!("meeting {id} ({title}) created");
    Ok((StatusCode::CREATED, view(&server, &id)?))
}

fn meeting(
    title: String,
    id: Option<String>,
    time: Option<String>,
    now: UnixMillis,
) -> Result<Meeting, RequestError> {
    let id = id.unwrap_or_else(fresh_id).parse::<PackageId>();
    let id = id.map_err(|_| RequestError::invalid(&wire::invalid_id()))?;
    if title.trim().is_empty() || title.chars().count() > MAX_TITLE_CHARS {
        return Err(RequestError::invalid(
            "标题应为 1 到 200 个字符 / a title is 1 to 200 characters",
        ));
    }
    let time = time.unwrap_or_else(|| chrono::Local::now().format("%Y-%m-%d %H:%M").to_string());
    if time.chars().count() > MAX_TIME_CHARS {
        return Err(RequestError::invalid(
            "时间最多 100 个字符 / a time is at most 100 characters",
        ));
    }
    Ok(Meeting::new(id, title, time, now))
}

pub(crate) async fn delete(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    PathId(id): PathId,
) -> Result<Json<Done>, RequestError> {
    server.change_by(&operator, MeetingCommand::Delete(id.clone())).await?;
    info!("meeting {id} deleted");
    Ok(done(format!("会议 {id} 已删除 / meeting {id} deleted")))
}

pub(crate) async fn start(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    PathId(id): PathId,
) -> JsonResult {
    let now = server.clock.now();
    if server.digest(&id).is_none() && server.book().find(id.as_str()).is_some() {
        warn!("meeting {id} is started without a package, downloads will fail until it has one");
    }
    let command = MeetingCommand::Start { id: id.clone(), at: now };
    edit(&server, &operator, "started", command, &id).await
}

pub(crate) async fn distribute(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    PathId(id): PathId,
) -> JsonResult {
    server.book().get(&id)?;
    if server.digest(&id).is_none() {
        return Err(RequestError::NothingToDistribute(id));
    }
    let command = MeetingCommand::Prestage(id.clone());
    edit(&server, &operator, "is distributed to nodes", command, &id).await
}

pub(crate) async fn end_distribution(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    PathId(id): PathId,
) -> JsonResult {
    let done = "is no longer distributed to nodes";
    edit(&server, &operator, done, MeetingCommand::EndPrestage(id.clone()), &id).await
}

pub(crate) async fn end(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    PathId(id): PathId,
) -> JsonResult {
    let now = server.clock.now();
    let command = MeetingCommand::End { id: id.clone(), at: now };
    edit(&server, &operator, "ended", command, &id).await
}

async fn edit(
    server: &Server,
    operator: &Operator,
    done: &str,
    command: MeetingCommand,
    id: &PackageId,
) -> JsonResult {
    server.change_by(operator, command).await?;
    info!("meeting {id} {done}");
    view(server, id)
}

pub(crate) fn view(server: &Server, id: &PackageId) -> JsonResult {
    let book = server.book();
    let meeting = book.get(id)?;
    let (current, registry) = (server.digest(id), server.registry());
    let holders = registry.holders(server.clock.now(), |held| current.filter(|_| held == id));
    Ok(Json(json!(described(server, meeting, holders.get(id)))))
}

/// A meeting in the list of all.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MeetingEntry<'a> {
    #[serde(flatten)]
    meeting: MeetingView<'a>,
    /// Null if its package is not to be at the nodes; also beyond 100,000 nodes of all
    /// meetings together, running ones being looked at first, the newest of them first.
    readiness: Option<ReadinessSummary>,
}

/// A meeting as everybody sees it.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Meeting"))]
pub(crate) struct MeetingView<'a> {
    id: &'a PackageId,
    title: &'a str,
    time: &'a str,
    status: MeetingPhase,
    size: Option<u64>,
    sha256: Option<Sha256>,
    file_count: Option<u64>,
    nodes: &'a [&'a str],
    created_at: f64,
    started_at: Option<f64>,
    ended_at: Option<f64>,
    /// Nodes get its package before it is started.
    prestaged: bool,
}

pub(crate) fn described<'a>(
    server: &Server,
    meeting: &'a Meeting,
    nodes: Option<&'a Vec<&'a str>>,
) -> MeetingView<'a> {
    let package = package_of(meeting, &server.store);
    MeetingView {
        id: &meeting.id,
        title: &meeting.title,
        time: &meeting.time,
        status: meeting.status,
        size: package.map(|package| package.size),
        sha256: package.map(|package| package.sha256),
        file_count: package.map(|package| package.file_count),
        nodes: nodes.map(Vec::as_slice).unwrap_or_default(),
        created_at: meeting.created_at.as_secs_f64(),
        started_at: meeting.started_at.map(UnixMillis::as_secs_f64),
        ended_at: meeting.ended_at.map(UnixMillis::as_secs_f64),
        prestaged: meeting.prestaged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meeting_needs_a_title_and_gets_an_id() {
        let made = |title: &str, id: Option<&str>| {
            meeting(title.into(), id.map(Into::into), None, UnixMillis::from_secs(1))
        };
        let good = made("会", None).unwrap();
        assert_eq!(good.id.as_str().len(), 8);
        assert_eq!(made("t", Some("a.b")).unwrap().id.as_str(), "a.b");
        assert!(made(&"会".repeat(200), None).is_ok());
        let long = "会".repeat(201);
        for (title, id) in
            [("", None), (" ", None), (&*long, None), ("t", Some("../x")), ("t", Some(""))]
        {
            assert!(matches!(made(title, id), Err(RequestError::Invalid(_))), "{title} {id:?}");
        }
    }
}
