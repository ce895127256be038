//! The answer to nodes' polls: running meetings and their packages.

use edge_mirror_protocol::package::{self, PackageId};
use edge_mirror_store::Store;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::state::{meetings::MeetingTable, package_name::file_name};

/// The answer without its timestamp: the same for all nodes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NodeStatus {
    /// Entity tag; weak, as it does not cover the timestamp.
    pub version: String,
    /// The body up to the timestamp.
    pub(crate) json_head: String,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RunningMeeting<'a> {
    id: &'a PackageId,
    title: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<package::Sha256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// Always present, null without a package: saves nodes a request.
    package_url: Option<String>,
}

/// The whole answer.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "PolledByNodes"))]
pub(crate) struct NodePollAnswer<'a> {
    /// Changes whenever something changed.
    id: &'a str,
    active_meetings: Vec<RunningMeeting<'a>>,
    /// Filled in by `answer`.
    #[cfg_attr(test, schemars(with = "f64", description = "Seconds since 1970."))]
    timestamp: (),
}

impl NodeStatus {
    pub(crate) fn of(book: &MeetingTable, store: &Store) -> Self {
        let items = book.running().map(|meeting| {
            let stored = store.get(&meeting.id);
            let manifest = stored.as_ref().map(|stored| &stored.manifest);
            let url = |_| format!("/uploads/packages/{}", file_name(&meeting.id));
            RunningMeeting {
                id: &meeting.id,
                title: &meeting.title,
                sha256: manifest.map(|manifest| manifest.sha256),
                size: manifest.map(|manifest| manifest.size_bytes),
                package_url: manifest.map(url),
            }
        });
        let answer =
            NodePollAnswer { id: &book.token, active_meetings: items.collect(), timestamp: () };
        // Strings and numbers only: serialization can't fail.
        let whole = serde_json::to_string(&answer).unwrap_or_default();
        let begins = whole.trim_end_matches("null}").to_owned();
        let digest = package::Sha256::new(Sha256::digest(&begins).into());
        Self { version: format!("W/\"{digest}\""), json_head: begins }
    }
}
