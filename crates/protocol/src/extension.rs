//! Additions of our own main server to the answer to a poll, for nodes that ask for them.
//!
//! A node names the highest format version and the sections that it understands in
//! `ACCEPT_HEADER`, which other main servers ignore. The answer then has an object
//! `edge_mirror` beside the contract's fields, of that version at most, with those
//! sections. What a node does not know in it is skipped, and what makes no sense is
//! left out: neither touches the meetings. A new section needs no new version; a
//! version is for another shape of the object.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    list::{ListedMeeting, MAX_MEETINGS, MeetingList},
    package::PackageId,
    relay::{
        MAX_PRESTAGED, MAX_SPARES, PackageAssignment, PrestageOffer, RelayAssignment, RelayKey,
    },
};

/// A list (RFC 9110, 5.6.1): `version=1, packages, relay, dispatch`.
pub const ACCEPT_HEADER: &str = "edge-mirror-accept";
/// Its value in the polls of this version.
pub const ACCEPT: &str = "version=1, packages, relay, dispatch";
/// Sent with the main server's requests for a part of a package that it compares: no client
/// gets that, and it is no download of the package.
pub const PROBE_HEADER: &str = "edge-mirror-probe";
/// Parsers quote what they can't read, which may be megabytes.
const MAX_FAULT_CHARS: usize = 200;
/// Name of the object in the answer.
const FIELD: &str = "edge_mirror";
/// The format that is written and read here.
pub const VERSION: u32 = 1;

/// The part of the extension that a node understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcceptedSections {
    /// Digest, size and location of the running meetings' packages.
    pub packages: bool,
    /// The nodes to pull packages from.
    pub relay: bool,
    /// The version of the node's list of tasks.
    pub dispatch: bool,
}

impl AcceptedSections {
    /// Reads the header's lines: none without a version that can be written here.
    pub fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let (mut version, mut accepted) = (0, Self::default());
        for word in lines.flat_map(|line| line.split(',')).map(str::trim) {
            match word.split_once('=') {
                Some(("version", number)) => version = number.parse().unwrap_or(0),
                None if word == "packages" => accepted.packages = true,
                None if word == "relay" => accepted.relay = true,
                None if word == "dispatch" => accepted.dispatch = true,
                _ => {}
            }
        }
        if version >= VERSION { accepted } else { Self::default() }
    }
}

/// The object, its sections still unread.
#[derive(Deserialize)]
struct RawExtension<'a> {
    version: u32,
    #[serde(default, borrow)]
    packages: Option<&'a RawValue>,
    #[serde(default, borrow)]
    relay: Option<&'a RawValue>,
    #[serde(default, borrow)]
    dispatch: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawRelaySection<'a> {
    #[serde(default)]
    key: Option<String>,
    #[serde(default, borrow)]
    packages: Vec<&'a RawValue>,
}

/// The readable part of it.
#[derive(Debug, Default)]
pub(crate) struct Extension {
    pub packages: Option<PackageHints>,
    pub relay: Option<RelaySection>,
    pub dispatch: Option<String>,
    /// The unreadable parts with the reasons, for the log.
    pub faults: Vec<String>,
}

/// The nodes that this node pulls running meetings' packages from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelaySection {
    /// The key of this main server's nodes.
    pub key: Option<RelayKey>,
    pub assignments: HashMap<PackageId, RelayAssignment>,
    /// Meetings that do not run yet; their packages have assignments, too.
    pub prestage: HashMap<PackageId, PrestageOffer>,
}

/// The packages of running meetings.
#[derive(Debug)]
pub(crate) struct PackageHints {
    by_id: HashMap<PackageId, ListedMeeting>,
    /// A meeting that is not in it has no package.
    is_complete: bool,
}

impl Extension {
    pub(crate) fn read(raw: &RawValue) -> Self {
        let mut read = Self::default();
        let RawExtension { version, packages, relay, dispatch } =
            match crate::parse(raw.get().as_bytes(), b'{') {
                Ok(extension) => extension,
                Err(error) => return read.without(FIELD, error.to_string()),
            };
        if version != VERSION {
            return read.without(FIELD, format!("its version is {version}"));
        }
        if let Some(packages) = packages {
            read = read.with_packages(packages);
        }
        if let Some(dispatch) = dispatch {
            read = read.with_dispatch(dispatch);
        }
        match relay {
            Some(relay) => read.with_relay(relay),
            None => read,
        }
    }

    fn with_dispatch(mut self, dispatch: &RawValue) -> Self {
        match serde_json::from_str::<String>(dispatch.get()) {
            Ok(version) => {
                self.dispatch = Some(version);
                self
            }
            Err(error) => self.without("dispatch", error.to_string()),
        }
    }

    fn with_packages(mut self, packages: &RawValue) -> Self {
        match serde_json::from_str::<MeetingList>(packages.get()) {
            Ok(list) => {
                let is_complete = list.unreadable.is_empty() && list.left_out == 0;
                if !is_complete {
                    self = self.without("packages", format!("{:?}", list.unreadable));
                }
                let by_id = list.meetings.into_iter().map(|hint| (hint.meeting.id.clone(), hint));
                self.packages = Some(PackageHints { by_id: by_id.collect(), is_complete });
                self
            }
            Err(error) => self.without("packages", error.to_string()),
        }
    }

    /// Leaves out the packages that make no sense: their pulls go to the main server.
    fn with_relay(mut self, relay: &RawValue) -> Self {
        let section = serde_json::from_str::<RawRelaySection<'_>>(relay.get());
        let RawRelaySection { key, packages } = match section {
            Ok(section) => section,
            Err(error) => return self.without("relay", error.to_string()),
        };
        let (key, fault) = match key.map(|key| key.parse::<RelayKey>()).transpose() {
            Ok(key) => (key, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let mut section = RelaySection { key, ..RelaySection::default() };
        let mut faults: Vec<_> = fault.into_iter().collect();
        if packages.len() > MAX_MEETINGS {
            faults.push(format!("{} packages", packages.len()));
        }
        for package in packages.into_iter().take(MAX_MEETINGS) {
            match serde_json::from_str::<PackageAssignment>(package.get()) {
                Ok(PackageAssignment { id, mut assignment, prestage }) => {
                    if assignment.spares.len() > MAX_SPARES {
                        faults.push(format!("{} spares for {id}", assignment.spares.len()));
                        assignment.spares.truncate(MAX_SPARES);
                    }
                    if let Some(offer) = prestage
                        && section.prestage.len() < MAX_PRESTAGED
                    {
                        section.prestage.insert(id.clone(), offer);
                    }
                    section.assignments.insert(id, assignment);
                }
                Err(error) => faults.push(error.to_string()),
            }
        }
        self.relay = Some(section);
        // One line, however many there are.
        match faults.first() {
            Some(first) => self.without("relay", format!("{first} ({} such faults)", faults.len())),
            None => self,
        }
    }

    fn without(mut self, part: &str, reason: String) -> Self {
        let reason: String = reason.chars().take(MAX_FAULT_CHARS).collect();
        self.faults.push(format!("{part}: {reason}"));
        self
    }
}

impl PackageHints {
    /// Adds what is known of their packages to the meetings.
    pub(crate) fn apply(mut self, meetings: &mut [ListedMeeting]) {
        for listed in meetings {
            match self.by_id.remove(&listed.meeting.id) {
                Some(hint) => {
                    listed.meeting.sha256 = hint.meeting.sha256;
                    listed.meeting.size_bytes = hint.meeting.size_bytes;
                    listed.path = hint.path;
                }
                None if self.is_complete => listed.path = Some(None),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{MeetingStatus, read_status};

    const SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn read(extension: Value) -> MeetingStatus {
        let meetings = json!([{"id": "a", "title": "A"}, {"id": "b", "title": "B"}]);
        let answer = json!({"id": "t", "active_meetings": meetings, "edge_mirror": extension});
        read_status(answer.to_string().as_bytes()).unwrap()
    }

    fn of_a() -> Value {
        json!({"id": "a", "sha256": SHA256, "size": 0, "package_url": "/uploads/a"})
    }

    fn paths(status: &MeetingStatus) -> Vec<Option<&str>> {
        status.offers.iter().flatten().map(|offer| offer.path.as_deref()).collect()
    }

    #[test]
    fn packages_are_those_of_the_meetings_and_what_is_not_listed_has_none() {
        let status = read(json!({"version": 1, "packages": [of_a(), {"id": "other"}], "new": 5}));
        assert_eq!(paths(&status), [Some("/uploads/a"), None]);
        assert_eq!(status.active[0].sha256, Some(SHA256.parse().unwrap()));
        assert_eq!((&*status.active[0].title, status.active.len()), ("A", 2));
        assert!(status.active[1].sha256.is_none() && status.faults.is_empty());
        assert_eq!(paths(&read(json!({"version": 1, "packages": []}))), [None, None]);
    }

    #[test]
    fn what_makes_no_sense_spoils_neither_the_meetings_nor_the_rest() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        let deep = format!(r#"{{"id":"t","active_meetings":["a","b"],"edge_mirror":{deep}}}"#);
        let deep = read_status(deep.as_bytes()).unwrap();
        let bad = [
            json!(5),
            json!([]),
            json!({}),
            json!({"version": "1".repeat(10_000), "packages": [of_a()]}),
            json!({"version": -1, "packages": [of_a()]}),
            json!({"version": 2, "packages": [of_a()]}),
            json!({"version": 1, "packages": 5}),
            json!({"version": 1, "packages": "a"}),
            json!({"version": 1, "packages": [of_a(), 1.5]}),
            json!({"version": 1, "packages": [of_a(), {"package_url": "/uploads/b"}]}),
        ];
        for status in bad.into_iter().map(read).chain([deep]) {
            let ids: Vec<_> = status.active.iter().map(|meeting| meeting.id.as_str()).collect();
            assert_eq!(ids, ["a", "b"], "{status:?}");
            assert!(status.unreadable.is_empty(), "the list is complete: {status:?}");
            assert!(status.offers.is_none(), "it has to be asked for: {status:?}");
            let length = status.faults.iter().map(String::len).max();
            assert!(length.is_some_and(|length| length < 300), "{status:?}");
        }
        for silent in [json!(null), json!({"version": 1}), json!({"version": 1, "packages": null})]
        {
            let status = read(silent);
            assert!(status.offers.is_none() && status.faults.is_empty(), "{status:?}");
        }
        // One location that is none, and one digest.
        let odd = json!({"id": "a", "sha256": "x", "package_url": 5.5});
        let status = read(json!({"version": 1, "packages": [odd]}));
        assert_eq!((paths(&status), status.active[0].sha256), (vec![None, None], None));
    }

    #[test]
    fn only_what_a_node_names_is_for_it() {
        let all = AcceptedSections { packages: true, ..AcceptedSections::default() };
        let relay = AcceptedSections { relay: true, ..AcceptedSections::default() };
        for (lines, expected) in [
            (&[ACCEPT][..], AcceptedSections { packages: true, relay: true, dispatch: true }),
            (&["version=1, relay"], relay),
            (&["packages,version=1"], all),
            (&["version=1", "casts, packages"], all),
            (&["version=7, packages, new=5"], all),
            (&["version=1"], AcceptedSections::default()),
            (&["packages"], AcceptedSections::default()),
            (&["version=0, packages"], AcceptedSections::default()),
            (&["version=one, packages"], AcceptedSections::default()),
            (&["version=1, package"], AcceptedSections::default()),
            (&[""], AcceptedSections::default()),
            (&[], AcceptedSections::default()),
        ] {
            assert_eq!(AcceptedSections::parse(lines.iter().copied()), expected, "{lines:?}");
        }
    }

    #[test]
    fn the_version_of_a_list_of_tasks_is_any_text() {
        let status = read(json!({"version": 1, "dispatch": "3f"}));
        assert_eq!((status.dispatch.as_deref(), status.faults.len()), (Some("3f"), 0));
        let status = read(json!({"version": 1, "dispatch": ["3f"], "packages": [of_a()]}));
        assert_eq!((status.dispatch, status.faults.len()), (None, 1));
        assert!(status.offers.is_some());
    }

    #[test]
    fn parents_are_read_one_by_one_and_nonsense_is_one_fault() {
        let node = |id: &str| json!({"node_id": id, "address": "10.0.0.2:8001"});
        let relay = |value: Value| read(json!({"version": 1, "relay": value}));
        let good = relay(json!({
            "key": "0123456789abcdef",
            "packages": [
                {"id": "a", "parent": node("p"), "spares": [node("s")]},
                {"id": "b", "parent": null},
            ],
        }));
        assert!(good.faults.is_empty(), "{:?}", good.faults);
        let section = good.relay.unwrap();
        assert_eq!(section.key.unwrap().reveal(), "0123456789abcdef");
        let of = |id: &str| section.assignments[&id.parse::<PackageId>().unwrap()].clone();
        assert_eq!(of("a").parent.unwrap().node_id, "p");
        assert_eq!((of("a").spares.len(), of("b")), (1, RelayAssignment::default()));

        let offer = json!({
            "title": "C", "sha256": SHA256, "size": 5, "package_url": "/uploads/c",
        });
        let early = relay(json!({"packages": [
            {"id": "a", "parent": node("p")},
            {"id": "c", "parent": null, "prestage": offer},
            {"id": "d", "prestage": {"title": "no package"}},
        ]}));
        let section = early.relay.unwrap();
        assert_eq!((section.prestage.len(), section.assignments.len()), (1, 2));
        assert_eq!(section.prestage[&"c".parse::<PackageId>().unwrap()].size, 5);
        assert_eq!(early.faults.len(), 1, "{:?}", early.faults);

        let many: Vec<_> = (0..10_000).map(|n| node(&n.to_string())).collect();
        for (value, kept) in [
            (json!({"packages": [{"id": "a", "parent": node("p"), "spares": many}]}), 1),
            (json!({"packages": [{"id": "a", "parent": 5}, {"id": "../"}, 7, {"id": "b"}]}), 1),
            (json!({"key": "short", "packages": [{"id": "a"}]}), 1),
            (
                json!({"packages": (0..=MAX_MEETINGS).map(|n| json!({"id": n.to_string()})).collect::<Vec<_>>()}),
                MAX_MEETINGS,
            ),
        ] {
            let status = relay(value);
            assert_eq!(status.faults.len(), 1);
            let section = status.relay.unwrap();
            assert_eq!(section.assignments.len(), kept, "{:?}", status.faults);
            assert!(section.assignments.values().all(|of| of.spares.len() <= MAX_SPARES));
            assert_eq!(section.key, None);
        }
        let nonsense = relay(json!([1, 2]));
        assert_eq!((nonsense.relay, nonsense.faults.len()), (None, 1));
        assert_eq!(nonsense.active.len(), 2);
    }
}
