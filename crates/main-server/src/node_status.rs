//! What nodes poll: the running meetings, and where their packages are.

use edge_mirror_protocol::package::{self, PackageId};
use edge_mirror_store::Store;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::state::{meetings::Book, package_name::file_name};

/// The answer, but for the time in it: the same for all who ask.
#[derive(Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Stands for all that the answer says, the time excepted: so it is weak.
    pub version: String,
    /// Up to where the time comes.
    pub begins: String,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "RunningMeeting"))]
struct Item<'a> {
    id: &'a PackageId,
    title: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<package::Sha256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// Told of each meeting, as null if need be: nodes need not ask for it.
    package_url: Option<String>,
}

/// The whole answer.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "PolledByNodes"))]
pub(crate) struct Told<'a> {
    /// Another one means that something changed.
    id: &'a str,
    active_meetings: Vec<Item<'a>>,
    /// Put in by `answer`.
    #[cfg_attr(test, schemars(with = "f64", description = "Seconds since 1970."))]
    timestamp: (),
}

impl NodeStatus {
    pub fn of(book: &Book, store: &Store) -> Self {
        let items = book.running().map(|meeting| {
            let stored = store.get(&meeting.id);
            let manifest = stored.as_ref().map(|stored| &stored.manifest);
            let url = |_| format!("/uploads/packages/{}", file_name(&meeting.id));
            Item {
                id: &meeting.id,
                title: &meeting.title,
                sha256: manifest.map(|manifest| manifest.sha256),
                size: manifest.map(|manifest| manifest.size_bytes),
                package_url: manifest.map(url),
            }
        });
        let told = Told { id: &book.token, active_meetings: items.collect(), timestamp: () };
        // Texts and figures: there is nothing in it that JSON has not.
        let whole = serde_json::to_string(&told).unwrap_or_default();
        let begins = whole.trim_end_matches("null}").to_owned();
        let digest = package::Sha256::new(Sha256::digest(&begins).into());
        Self { version: format!("W/\"{digest}\""), begins }
    }
}
