//! The calls that clients poll, and the list of offered packages. Answered from
//! memory, independent of the disk. The nodes' poll is in `status`.

use std::sync::Arc;

use axum::{Json, extract::State};
use edge_mirror_protocol::package::PackageId;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    packages::package_of,
    server::Server,
    state::{
        meetings::{Meeting, MeetingPhase},
        package_name::package_url,
    },
};

type Shared = State<Arc<Server>>;

/// The token while no meeting runs; clients ignore it.
const NO_TOKEN: &str = "none";

/// A meeting as clients poll it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ListedMeeting"))]
pub(crate) struct PolledMeeting<'a> {
    id: &'a PackageId,
    title: &'a str,
    time: &'a str,
    status: MeetingPhase,
    /// Location of the package, once there is one; running meetings only.
    #[serde(skip_serializing_if = "Option::is_none")]
    package_url: Option<String>,
}

impl<'a> PolledMeeting<'a> {
    fn of(meeting: &'a Meeting) -> Self {
        let Meeting { id, title, time, status, .. } = meeting;
        Self { id, title, time, status: *status, package_url: None }
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "PolledByClients"))]
pub(crate) struct ClientPollAnswer<'a> {
    /// Changes whenever something changed; `none` while no meeting runs.
    id: &'a str,
    timestamp: f64,
    meetings: Vec<PolledMeeting<'a>>,
}

pub(crate) async fn status_for_clients(State(server): Shared) -> Json<Value> {
    let book = server.book();
    // A start that is not announced yet is hidden: clients would come before the
    // nodes have the package.
    let announced = book.running().filter(|meeting| !meeting.unannounced);
    let meetings: Vec<_> = announced.map(PolledMeeting::of).collect();
    let id = if meetings.is_empty() { NO_TOKEN } else { &book.token };
    Json(json!(ClientPollAnswer { id, timestamp: server.clock.now().as_secs_f64(), meetings }))
}

pub(crate) async fn active(State(server): Shared) -> Json<Value> {
    let book = server.book();
    let active = book.running().map(|meeting| {
        let package = package_of(meeting, &server.store);
        let url = |_| package_url(&meeting.id);
        PolledMeeting { package_url: package.map(url), ..PolledMeeting::of(meeting) }
    });
    Json(json!(active.collect::<Vec<_>>()))
}
