//! The answer to nodes' polls: running meetings and their packages.

use std::sync::Arc;

use edge_mirror_protocol::{
    MAX_ANSWER_BYTES,
    extension::{self, AcceptedSections},
    package::{self, PackageId},
    relay::{PackageAssignment, PrestageOffer, RelayAssignment},
};
use edge_mirror_store::Store;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    packages::package_of,
    state::{meetings::MeetingTable, package_name::package_url},
};

/// Name of the object of additions.
const FIELD: &str = "edge_mirror";
/// Room for the timestamp, which each answer gets when it is sent.
const TIMESTAMP_BYTES: usize = 64;

/// The answers without their timestamps. They differ only by what a node accepts
/// beyond the contract, so nodes that accept the same share one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NodeStatus {
    /// For nodes that accept nothing. What is told of packages stands with the
    /// meetings, where earlier versions of our nodes look for it, and others ignore it.
    plain: Arc<StatusText>,
    /// With the section `packages`.
    with_packages: Arc<StatusText>,
    /// Packages that nodes are to have before their meetings start. Of the same moment as
    /// the running meetings: one that starts is never in neither.
    prestaged: Vec<(PackageId, PrestageOffer)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StatusText {
    /// Entity tag; weak, as it does not cover the timestamp.
    pub version: String,
    /// The body up to the timestamp.
    pub(crate) json_head: String,
    /// It has an object of additions.
    is_extended: bool,
}

/// A node's own part of an answer.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RelayAnswer<'a> {
    /// Known to this main server's nodes alone; by it they know each other.
    pub(crate) key: &'a str,
    /// The running packages that the node does not have yet, and all that it is to get
    /// before their meetings start.
    pub packages: Vec<PackageAssignment>,
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
    /// Null without a package: saves nodes a request. Like digest and size, only
    /// where there is no section of packages.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    package_url: Option<Option<String>>,
}

/// The whole answer.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "PolledByNodes"))]
pub(crate) struct NodePollAnswer<'a> {
    /// Changes whenever something changed.
    id: &'a str,
    active_meetings: Vec<RunningMeeting<'a>>,
    /// Only for nodes that accept some of it in `Edge-Mirror-Accept`.
    #[serde(skip_serializing_if = "Option::is_none")]
    edge_mirror: Option<StatusExtension<'a>>,
    /// Filled in by `answer`.
    #[cfg_attr(test, schemars(with = "f64", description = "Seconds since 1970."))]
    timestamp: (),
}

/// The additions to the contract, in sections of their own. A reader skips those
/// that it does not know, and the whole if it does not know the version.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct StatusExtension<'a> {
    /// Of the format of this object.
    version: u32,
    /// The packages of running meetings: those that are not listed have none. Left
    /// out where the answer would be too large for a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    packages: Option<Vec<&'a RunningPackage<'a>>>,
    /// For a node that names itself in `Edge-Mirror-Node` and passes packages on; added
    /// by `with_relay`.
    #[serde(skip_serializing_if = "Option::is_none")]
    relay: Option<RelayAnswer<'a>>,
    /// Likewise: the version of the node's list of tasks, if there are any for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    dispatch: Option<String>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RunningPackage<'a> {
    id: &'a PackageId,
    sha256: package::Sha256,
    size: u64,
    package_url: String,
}

impl NodeStatus {
    pub(crate) fn of(book: &MeetingTable, store: &Store) -> Self {
        Self::within(MAX_ANSWER_BYTES, book, store)
    }

    fn within(limit_bytes: usize, book: &MeetingTable, store: &Store) -> Self {
        let running: Vec<_> = book
            .running()
            .map(|meeting| {
                let package = package_of(meeting, store).map(|package| RunningPackage {
                    id: &meeting.id,
                    sha256: package.sha256,
                    size: package.size,
                    package_url: package_url(&meeting.id),
                });
                (&meeting.id, meeting.title.as_str(), package)
            })
            .collect();
        let meetings = running.iter().map(|(id, title, package)| RunningMeeting {
            id,
            title,
            sha256: package.as_ref().map(|package| package.sha256),
            size: package.as_ref().map(|package| package.size),
            package_url: Some(package.as_ref().map(|package| package.package_url.clone())),
        });
        let plain = StatusText::of(&book.token, meetings.collect(), None);
        let bare = || {
            let meetings = running.iter().map(|(id, title, _)| RunningMeeting {
                id,
                title,
                sha256: None,
                size: None,
                package_url: None,
            });
            meetings.collect()
        };
        let extended = |packages| {
            let version = extension::VERSION;
            StatusText::of(
                &book.token,
                bare(),
                Some(StatusExtension { version, packages, relay: None, dispatch: None }),
            )
        };
        let packages = running.iter().filter_map(|(.., package)| package.as_ref());
        let mut with_packages = extended(Some(packages.collect()));
        if with_packages.json_head.len() + TIMESTAMP_BYTES > limit_bytes {
            // Nodes then ask for the list of offers, as at other main servers.
            with_packages = extended(None);
        }
        let prestaged = book.prestaged().filter_map(|meeting| {
            let package = package_of(meeting, store)?;
            let offer = PrestageOffer {
                title: meeting.title.clone(),
                sha256: package.sha256,
                size: package.size,
                package_url: package_url(&meeting.id),
            };
            Some((meeting.id.clone(), offer))
        });
        let (plain, with_packages) = (Arc::new(plain), Arc::new(with_packages));
        Self { plain, with_packages, prestaged: prestaged.collect() }
    }

    /// Adds the packages that a node is to have before their meetings start, also those
    /// that it has: as long as they are listed, it keeps them.
    pub(crate) fn with_prestaged(
        &self,
        mut assignments: Vec<PackageAssignment>,
    ) -> Vec<PackageAssignment> {
        for (id, offer) in &self.prestaged {
            let prestage = Some(offer.clone());
            match assignments.iter_mut().find(|assigned| assigned.id == *id) {
                Some(assigned) => assigned.prestage = prestage,
                None => {
                    let assignment = RelayAssignment::default();
                    assignments.push(PackageAssignment { id: id.clone(), assignment, prestage });
                }
            }
        }
        assignments
    }

    /// The answer for a node that accepts these sections.
    pub(crate) fn text_for(&self, accepted: AcceptedSections) -> &Arc<StatusText> {
        if accepted.packages { &self.with_packages } else { &self.plain }
    }
}

impl StatusText {
    fn of(
        token: &str,
        active_meetings: Vec<RunningMeeting<'_>>,
        edge_mirror: Option<StatusExtension<'_>>,
    ) -> Self {
        let is_extended = edge_mirror.is_some();
        let answer = NodePollAnswer { id: token, active_meetings, edge_mirror, timestamp: () };
        // Strings and numbers only: serialization can't fail.
        let whole = serde_json::to_string(&answer).unwrap_or_default();
        let json_head = whole.trim_end_matches("null}").to_owned();
        Self { version: entity_tag([&json_head]), json_head, is_extended }
    }

    /// Adds a node's own part; None where the answer would be too large for a node.
    pub(crate) fn with_relay(&self, relay: &RelayAnswer<'_>) -> Option<Self> {
        self.with_section("relay", &serde_json::to_string(relay).unwrap_or_default())
    }

    /// Adds the version of a node's list of tasks; likewise.
    pub(crate) fn with_dispatch(&self, version: &str) -> Option<Self> {
        self.with_section("dispatch", &serde_json::to_string(version).unwrap_or_default())
    }

    fn with_section(&self, name: &str, json: &str) -> Option<Self> {
        let (before, after) = self.json_head.split_at(self.json_head.len() - self.end().len());
        let json_head = match self.is_extended {
            true => format!(r#"{before},"{name}":{json}{after}"#),
            false => {
                let version = extension::VERSION;
                format!(r#"{before},"{FIELD}":{{"version":{version},"{name}":{json}}}{after}"#)
            }
        };
        if json_head.len() + TIMESTAMP_BYTES > MAX_ANSWER_BYTES {
            return None;
        }
        let version = entity_tag([&self.version, name, json]);
        Some(Self { version, json_head, is_extended: true })
    }

    /// The end of the head, before which a section is added.
    fn end(&self) -> &'static str {
        if self.is_extended { r#"},"timestamp":"# } else { r#","timestamp":"# }
    }
}

fn entity_tag<const N: usize>(parts: [&str; N]) -> String {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    format!("W/\"{}\"", package::Sha256::new(hasher.finalize().into()))
}

#[cfg(test)]
mod tests {
    use edge_mirror_base::clock::UnixMillis;
    use edge_mirror_store::testing::{put, zip_of};

    use super::*;
    use crate::state::meetings::{Meeting, MeetingPhase};

    fn body(status: &NodeStatus, accepted: AcceptedSections) -> String {
        format!("{}1.5}}", status.text_for(accepted).json_head)
    }

    #[test]
    fn an_answer_for_who_accepts_nothing_is_to_the_letter_what_it_has_always_been() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        let mut book = MeetingTable { token: "t".into(), ..MeetingTable::default() };
        for id in ["a", "b"] {
            let meeting = Meeting::new(
                id.parse().unwrap(),
                id.to_uppercase(),
                String::new(),
                UnixMillis::from_secs(1),
            );
            book.meetings.push(Meeting { status: MeetingPhase::Running, ..meeting });
        }
        put(&store, "a", &zip_of(b"papers"));
        let manifest = store.get("a".parse::<PackageId>().unwrap()).unwrap().manifest.clone();
        let (sha256, size) = (manifest.sha256, manifest.size_bytes);
        let package = format!(
            r#""sha256":"{sha256}","size":{size},"package_url":"/uploads/packages/meeting_a_pdfs.zip""#
        );
        let status = NodeStatus::of(&book, &store);
        assert_eq!(
            body(&status, AcceptedSections::default()),
            format!(
                r#"{{"id":"t","active_meetings":[{{"id":"a","title":"A",{package}}},{{"id":"b","title":"B","package_url":null}}],"timestamp":1.5}}"#
            )
        );
        let accepted = AcceptedSections { packages: true, ..AcceptedSections::default() };
        let meetings = r#"[{"id":"a","title":"A"},{"id":"b","title":"B"}]"#;
        assert_eq!(
            body(&status, accepted),
            format!(
                r#"{{"id":"t","active_meetings":{meetings},"edge_mirror":{{"version":1,"packages":[{{"id":"a",{package}}}]}},"timestamp":1.5}}"#
            )
        );
        // Both say the same, and differ in their versions.
        let read = |accepted| {
            edge_mirror_protocol::read_status(body(&status, accepted).as_bytes()).unwrap()
        };
        assert_eq!(read(AcceptedSections::default()), read(accepted));
        let version = |accepted| status.text_for(accepted).version.clone();
        assert_ne!(version(accepted), version(AcceptedSections::default()));

        // What would be too large for a node is left out.
        let fits = status.text_for(accepted).json_head.len() + TIMESTAMP_BYTES;
        assert_eq!(NodeStatus::within(fits, &book, &store), status);
        let large = NodeStatus::within(fits - 1, &book, &store);
        assert_eq!(large.plain, status.plain);
        assert_eq!(
            body(&large, accepted),
            format!(
                r#"{{"id":"t","active_meetings":{meetings},"edge_mirror":{{"version":1}},"timestamp":1.5}}"#
            )
        );
    }
}
