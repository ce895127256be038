//! Messages between a node and a main server.
//!
//! Writing is strict: always both lists, always strings, because the real
//! main server answers 500 to anything else and then stays broken. Reading
//! tolerates every shape that main servers in the field are known to send, and
//! reports what it could not read, because nothing may be deleted on the
//! strength of an answer that was not understood.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::unwrap_used,
        reason = "tests make the mess that the code has to live with"
    )
)]

/// Our own main server's additions to an answer.
pub mod casts;
pub mod dispatch;
pub mod extension;
mod fault;
pub mod fleet;
mod list;
pub mod object;
/// Pure types: ids, digests, manifests.
pub mod package;
/// Header fields that say how long an answer may take, and how urgent it is.
pub mod preference;
/// Packages from node to node.
pub mod relay;
pub mod remote_tasks;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use sha2::{Digest, Sha256 as Hasher};
use thiserror::Error;

use crate::{
    extension::{Extension, RelaySection},
    package::{PackageId, Sha256},
    relay::{MAX_REPORTED_PULLS, PullReport, RelayReport},
};
pub use fault::{Cause, FailedPull, Fault, MAX_FAILED_PULLS};
pub use list::MAX_MEETINGS;
use list::{ListItem, ListedMeeting, MeetingList, Scalar};

/// `POST /api/v1/nodes/register`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Registration {
    #[cfg_attr(feature = "openapi", schemars(length(min = 1, max = 256)))]
    pub node_id: String,
    #[cfg_attr(feature = "openapi", schemars(length(min = 1, max = 256)))]
    pub address: String,
    pub status: String,
}

/// Largest heartbeat that our own main server reads. Others set no limit, or a
/// larger one.
pub const MAX_HEARTBEAT_BYTES: usize = 1 << 20;
/// Largest answer to a poll that a node reads: several times the meetings that it
/// takes in; bounds a runaway answer.
pub const MAX_ANSWER_BYTES: usize = 4 << 20;
/// Most packages of one node that our own main server keeps.
pub const MAX_HELD_PACKAGES: usize = 1000;

/// `POST /api/v1/nodes/unregister`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Unregistration {
    pub node_id: String,
}

/// `POST /api/v1/nodes/heartbeat`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Heartbeat {
    #[cfg_attr(feature = "openapi", schemars(length(min = 1, max = 256)))]
    pub node_id: String,
    #[cfg_attr(feature = "openapi", schemars(length(min = 1, max = 256)))]
    pub address: String,
    pub status: String,
    pub active_meetings: Vec<MeetingRef>,
    /// Older main servers do not know the field and ignore it; older nodes
    /// do not send it.
    #[serde(default)]
    pub synced_meetings: Vec<String>,
    /// For our own main server; others ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(with = "openapi::Mirror"))]
    pub mirror: Option<NodeReport>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct MeetingRef {
    pub id: String,
    pub title: String,
}

impl Heartbeat {
    /// Drops entries until our own main server reads it: first active meetings, by which
    /// no main server decides anything; then synced ones. Returns how many were dropped.
    pub fn fit(&mut self) -> usize {
        let untold = self.mirror.as_mut().map_or(0, |mirror| {
            let untold = mirror.packages.len().saturating_sub(MAX_HELD_PACKAGES);
            mirror.packages.truncate(MAX_HELD_PACKAGES);
            mirror.pulls.truncate(MAX_REPORTED_PULLS);
            mirror.failed_pulls.truncate(MAX_FAILED_PULLS);
            untold
        });
        let mut excess = json_bytes(self).saturating_sub(MAX_HEARTBEAT_BYTES);
        untold
            + cut(&mut self.active_meetings, &mut excess)
            + cut(&mut self.synced_meetings, &mut excess)
    }
}

/// Removes entries from the end until they make up for the excess.
fn cut<T: Serialize>(list: &mut Vec<T>, excess: &mut usize) -> usize {
    let before = list.len();
    while *excess > 0
        && let Some(last) = list.pop()
    {
        // With its comma, which a single entry does not have.
        *excess = excess.saturating_sub(json_bytes(&last) + usize::from(!list.is_empty()));
    }
    before - list.len()
}

fn json_bytes(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |json| json.len())
}

/// Report of our node to our main server, beyond the contract.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct NodeReport {
    pub version: String,
    /// Downloads under way.
    pub downloads: u64,
    pub free_bytes: u64,
    /// Version of each synced meeting's package that the node holds.
    pub packages: Vec<HeldPackage>,
    /// None if it passes no packages on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayReport>,
    /// Pulls under way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pulls: Vec<PullReport>,
    /// Packages whose last attempt failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_pulls: Vec<FailedPull>,
    /// None from a version that does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<LoadReport>,
    /// It takes files that operators send.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub takes_files: bool,
    /// None from a version that does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<DownloadTotals>,
}

/// Downloads that have ended since the node was started, whole packages or parts of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct DownloadTotals {
    /// Their last byte was given to the network.
    pub completed: u64,
    /// The client left, or the package could not be read.
    pub broken_off: u64,
}

/// Load of a node's machine, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct LoadReport {
    pub cpu: u8,
    pub memory: u8,
    /// Share of the bandwidth limit that its operator set; None without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<u8>,
}

impl LoadReport {
    /// The part of it that clients cause: memory is taken whether they come or not.
    pub fn work(&self) -> u8 {
        self.cpu.max(self.uplink.unwrap_or(0)).min(100)
    }

    /// The part of the machine that is closest to its limit.
    pub fn busiest(&self) -> u8 {
        self.cpu.max(self.memory).max(self.uplink.unwrap_or(0)).min(100)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct HeldPackage {
    pub id: PackageId,
    pub sha256: Sha256,
}

/// An active meeting in a status answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveMeeting {
    pub id: PackageId,
    pub title: String,
    /// Digest of the package; sent by our own main server only.
    pub sha256: Option<Sha256>,
    /// Length of the package; sent with the digest.
    pub size_bytes: Option<u64>,
}

/// A meeting whose id is not a [`PackageId`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnservedMeeting {
    pub id: String,
    pub title: Option<String>,
}

/// `GET /api/v1/meetings/status/node`, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeetingStatus {
    /// Opaque: a different one means that something changed.
    pub token: String,
    pub active: Vec<ActiveMeeting>,
    /// Entries that could not be read. While there are any, the list may be
    /// incomplete, so nothing is deleted on its strength.
    pub unreadable: Vec<String>,
    /// Meetings whose ids can't be used as names. They have no package; those with a
    /// title leave the list complete.
    pub unserved: Vec<UnservedMeeting>,
    /// Number of meetings beyond [`MAX_MEETINGS`]; the list is then incomplete.
    pub left_out: usize,
    /// Locations of the packages, if the answer has one for every meeting: our own
    /// main server's does, which saves the node a request.
    pub offers: Option<Vec<OfferedPackage>>,
    /// The nodes to pull packages from; sent by our own main server only.
    pub relay: Option<RelaySection>,
    /// The version of this node's list of tasks; likewise. None if there is none.
    pub dispatch: Option<String>,
    /// Unreadable parts of the [`extension`], which concern no meeting.
    pub faults: Vec<String>,
}

/// `GET /api/v1/meetings/active/meetings`: a faster source of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedPackage {
    pub id: PackageId,
    pub title: String,
    /// Time of the meeting, in the main server's own format.
    pub time: Option<String>,
    /// A path below `/uploads/`, as sent: not percent-encoded.
    pub path: Option<String>,
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("the answer could not be understood: {0}")]
pub struct UnreadableAnswer(pub String);

/// A status answer in any of the shapes that main servers in the field send.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RawStatusAnswer<'a> {
    id: Scalar,
    active_meetings: MeetingList,
    active_meeting: ListItem,
    error: Scalar,
    /// Read by itself: what makes no sense in it spoils nothing else.
    #[serde(borrow)]
    edge_mirror: Option<&'a RawValue>,
}

/// Reads a status answer. One without a list of meetings in any known shape is an
/// error: answers of a gateway or a failing server have an `id`, too, and would end
/// all meetings.
pub fn read_status(body: &[u8]) -> Result<MeetingStatus, UnreadableAnswer> {
    let RawStatusAnswer { id, active_meetings: mut list, active_meeting, error, edge_mirror } =
        parse(body, b'{')?;
    match active_meeting {
        _ if list.is_told => {}
        ListItem::Scalar(Scalar::Missing) => {
            return Err(UnreadableAnswer("no list of meetings".into()));
        }
        ListItem::Scalar(Scalar::Other(_)) => {
            return Err(UnreadableAnswer("active_meeting is no meeting".into()));
        }
        ListItem::Scalar(Scalar::Null) => {}
        single => list.add(None, single),
    }
    let token = id.text();
    if token.is_none() {
        // Every known shape has one: this may be half of something else.
        list.unreadable.push("no token".to_owned());
    }
    if error.is_something() {
        list.unreadable.push("it names an error".to_owned());
    }
    let MeetingList { mut meetings, mut unreadable, unserved, left_out, .. } = list;
    let Extension { packages, relay, dispatch, faults } =
        edge_mirror.map(Extension::read).unwrap_or_default();
    if let Some(packages) = packages {
        packages.apply(&mut meetings);
    }
    if left_out > 0 {
        unreadable.push(format!("{left_out} more than the {MAX_MEETINGS} that are taken in"));
    }
    // Null counts: there is no package.
    let all_told = !meetings.is_empty() && meetings.iter().all(|listed| listed.path.is_some());
    let offers = (all_told && unreadable.is_empty()).then(|| meetings.iter().map(offer).collect());
    let active = meetings.into_iter().map(|listed| listed.meeting).collect();
    let token = token.unwrap_or_default();
    Ok(MeetingStatus {
        token,
        active,
        unreadable,
        unserved,
        left_out,
        offers,
        relay,
        dispatch,
        faults,
    })
}

fn offer(listed: &ListedMeeting) -> OfferedPackage {
    let ListedMeeting { meeting: ActiveMeeting { id, title, .. }, time, path } = listed;
    let (id, title, time) = (id.clone(), title.clone(), time.clone());
    OfferedPackage { id, title, time, path: path.clone().flatten() }
}

/// Hashes an answer to a poll without the time in it, which differs each time:
/// answers with the same fingerprint say the same.
pub fn fingerprint(body: &[u8]) -> Sha256 {
    const KEY: &[u8] = b"\"timestamp\"";
    // A quotation mark within a text has a backslash before it, so this can't match
    // inside one; and no field that is read here has this name.
    let key = body.windows(KEY.len()).rposition(|part| part == KEY).map(|at| at + KEY.len());
    let (before, after) = body.split_at(key.unwrap_or(body.len()));
    let time = |byte: &u8| byte.is_ascii_digit() || b" :.eE+-".contains(byte);
    let rest = after.iter().position(|byte| !time(byte)).unwrap_or(after.len());
    let mut hasher = Hasher::new_with_prefix(before);
    hasher.update(&after[rest..]);
    Sha256::new(hasher.finalize().into())
}

/// The part of the answer to a heartbeat that only our own main server sends, for the
/// node's operators.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct HeartbeatNotice {
    /// The main server's reason that it can't reach the node at its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreachable: Option<String>,
    /// None if the node was accepted, or the main server does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admission: Option<AdmissionNotice>,
    /// The main server has casts for nodes, and the node may ask for them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub casts: bool,
}

/// The state of a node that gets no clients because nobody has accepted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub enum AdmissionNotice {
    Pending,
    Refused,
}

/// Reads the answer to a heartbeat; that of other main servers has no notice.
pub fn read_notice(body: &[u8]) -> HeartbeatNotice {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let notice = &answer["mirror"];
    HeartbeatNotice {
        unreachable: notice["unreachable"].as_str().map(str::to_owned),
        admission: AdmissionNotice::deserialize(&notice["admission"]).ok(),
        casts: notice["casts"] == true,
    }
}

/// Reads the list of active meetings with their offered packages. Leaves out
/// unreadable entries: the list only ever adds a faster route.
pub fn read_offers(body: &[u8]) -> Result<Vec<OfferedPackage>, UnreadableAnswer> {
    let list: MeetingList = parse(body, b'[')?;
    Ok(list.meetings.iter().map(offer).collect())
}

/// Reads ids and addresses out of a list of nodes. Leaves out what makes no sense.
pub fn read_nodes(body: &[u8]) -> Result<Vec<(String, String)>, UnreadableAnswer> {
    let nodes: Vec<Value> = parse(body, b'[')?;
    let text = |node: &Value, name: &str| Some(node.get(name)?.as_str()?.to_owned());
    Ok(nodes
        .iter()
        .filter_map(|node| Some((text(node, "node_id")?, text(node, "address")?)))
        .collect())
}

/// Title of a meeting that has none.
pub fn default_title(id: &PackageId) -> String {
    format!("会议 {id}")
}

/// Parses JSON that begins with this bracket: serde would also take a list for the
/// fields of an object in their order.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8], begin: u8) -> Result<T, UnreadableAnswer> {
    if body.trim_ascii_start().first().is_some_and(|first| *first != begin) {
        return Err(UnreadableAnswer(format!("it does not begin with {}", char::from(begin))));
    }
    serde_json::from_slice(body).map_err(|error| match error.is_data() {
        true => UnreadableAnswer(error.to_string()),
        false => UnreadableAnswer(format!("not JSON ({error})")),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(answer: Value) -> Result<MeetingStatus, UnreadableAnswer> {
        read_status(answer.to_string().as_bytes())
    }

    fn pairs(answer: Value) -> Vec<(String, String)> {
        let status = read(answer).unwrap();
        assert_eq!(status.unreadable, Vec::<String>::new());
        status.active.into_iter().map(|m| (m.id.to_string(), m.title)).collect()
    }

    fn pair(id: &str, title: &str) -> Vec<(String, String)> {
        vec![(id.into(), title.into())]
    }

    #[test]
    fn every_shape_in_the_field_is_understood() {
        let t = "tok";
        assert_eq!(
            pairs(json!({"id": t, "active_meetings": [{"id": "a", "title": "T"}]})),
            pair("a", "T")
        );
        assert_eq!(pairs(json!({"id": t, "active_meetings": [{"id": 7}]})), pair("7", "会议 7"));
        assert_eq!(
            pairs(json!({"id": t, "active_meetings": [{"id": 7, "title": null}]})),
            pair("7", "会议 7")
        );
        assert_eq!(
            pairs(json!({"id": t, "active_meetings": [{"id": "a", "title": 5}]})),
            pair("a", "5")
        );
        assert_eq!(pairs(json!({"id": t, "active_meetings": ["a"]})), pair("a", "会议 a"));
        assert_eq!(pairs(json!({"id": t, "active_meetings": [7, "7"]})), pair("7", "会议 7"));
        assert_eq!(
            pairs(json!({"id": t, "active_meetings": {"id": "a", "title": "T"}})),
            pair("a", "T")
        );
        assert_eq!(
            pairs(json!({"id": t, "active_meetings": {"a": {"title": "T"}}})),
            pair("a", "T")
        );
        for described in [json!({"title": null}), json!({"id": "a"}), json!({"package_url": "/u"})]
        {
            assert_eq!(
                pairs(json!({"id": t, "active_meetings": {"a": described}})),
                pair("a", "会议 a")
            );
        }
        assert_eq!(pairs(json!({"id": t, "active_meeting": "a"})), pair("a", "会议 a"));
        assert_eq!(pairs(json!({"id": t, "active_meeting": 7})), pair("7", "会议 7"));
        for none in [
            json!({"id": t, "active_meeting": null}),
            json!({"id": 5, "active_meetings": []}),
            json!({"id": t, "active_meetings": {}}),
            json!({"id": t, "active_meetings": [], "error": null}),
        ] {
            assert_eq!(pairs(none), []);
        }
    }

    #[test]
    fn an_answer_without_sense_is_no_answer() {
        for bad in [
            "",
            "<html>",
            "[]",
            "3",
            "null",
            "{}",
            r#"{"detail":"x"}"#,
            r#"{"id":"t","active_meetings":true}"#,
            r#"{"id":"t","active_meetings":"abc"}"#,
            r#"{"id":"t","active_meetings":5}"#,
            r#"{"id":"t","active_meetings":null}"#,
            r#"{"id":"t","active_meetings":false}"#,
            r#"{"id":"t","active_meetings":null,"active_meeting":"a"}"#,
            r#"{"id":"t","active_meeting":false}"#,
            r#"{"id":"t","active_meeting":[]}"#,
            r#"{"id":"t","active_meeting":1.5}"#,
            r#"["t",["a"]]"#,
            r#"{"id":"t"}"#,
            r#"{"id":"t","meetings":[]}"#,
            r#"{"id":"t","timestamp":1.5}"#,
            r#"{"id":"req-7f3a","error":"backend unavailable"}"#,
            r#"{"id":"gw-1","status":"degraded"}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"x"}}"#,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":null}"#,
        ] {
            assert!(read_status(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_that_may_be_an_error_is_not_complete() {
        for doubtful in [
            json!({"id": "t", "active_meetings": [], "error": "backend unavailable"}),
            json!({"id": "t", "active_meetings": {"id": "req-1", "error": "x"}}),
            json!({"id": "t", "active_meetings": [{"id": "req-1", "error": "x"}]}),
            json!({"id": "t", "active_meetings": {"error": "x"}}),
            json!({"id": "t", "active_meetings": {"code": 500, "message": "x"}}),
            json!({"id": "gw", "active_meetings": {"error": {"code": -32000}}}),
            json!({"id": "gw", "active_meetings": {"data": {"active": []}}}),
            json!({"id": "gw", "active_meetings": {"items": []}}),
            json!({"id": "gw", "active_meetings": {"detail": null}}),
            json!({"id": "gw", "active_meetings": {"available": false}}),
            json!({"id": "gw", "active_meetings": {"score": 1.5}}),
            json!({"id": "gw", "active_meetings": {"a": {"title": "T"}, "b": {"status": "x"}}}),
            json!({"id": "t", "active_meeting": ""}),
            json!({"id": "t", "active_meeting": {"error": "x"}}),
            json!({"id": null, "active_meetings": []}),
            json!({"id": {}, "active_meetings": []}),
        ] {
            assert_ne!(read(doubtful.clone()).unwrap().unreadable, [""; 0], "{doubtful}");
        }
        // A meeting all the same, if the value may be a title or an object.
        for (value, title) in [
            (json!("T"), Some("T")),
            (json!({}), Some("会议 a")),
            (json!(null), Some("会议 a")),
            (json!(false), None),
            (json!([]), None),
        ] {
            let by_id = read(json!({"id": "t", "active_meetings": {"a": value}})).unwrap();
            assert_eq!(by_id.active.first().map(|meeting| &*meeting.title), title);
        }
    }

    #[test]
    fn an_entry_without_sense_marks_the_list_as_incomplete() {
        let status = read(json!({"id": "t", "active_meetings": ["../x", null, "ok"]})).unwrap();
        assert_eq!((status.active.len(), status.unreadable.len()), (1, 2));
        assert_eq!(read(json!({"active_meetings": []})).unwrap().unreadable, ["no token"]);
        assert_eq!(read(json!({"id": "t", "active_meetings": [1.5]})).unwrap().unreadable, ["1.5"]);
    }

    #[test]
    fn a_meeting_whose_id_can_not_be_used_leaves_the_list_complete() {
        let described = json!({"id": "../x", "title": "T"});
        let by_id = json!({"../x": {"title": "T"}, "ok": {"title": "U"}});
        for list in [json!([described, "ok"]), by_id] {
            let status = read(json!({"id": "t", "active_meetings": list})).unwrap();
            assert_eq!((status.active.len(), status.unreadable.len()), (1, 0));
            let unserved = UnservedMeeting { id: "../x".into(), title: Some("T".into()) };
            assert_eq!(status.unserved, [unserved]);
        }
    }

    #[test]
    fn of_objects_within_an_entry_nothing_is_kept() {
        let nested = (0..100).fold(json!("a"), |inner, _| json!({"id": inner}));
        for list in [json!([nested.clone()]), nested] {
            let status = read(json!({"id": "t", "active_meetings": list})).unwrap();
            assert_eq!(status.unreadable, ["{id: an object}"]);
        }
    }

    #[test]
    fn what_is_more_than_a_node_takes_in_is_left_out_and_the_list_not_complete() {
        for (count, left_out) in [(MAX_MEETINGS - 1, 0), (MAX_MEETINGS, 0), (MAX_MEETINGS + 7, 7)] {
            let ids: Vec<_> = (0..count).map(|n| format!("m{n}")).collect();
            let by_id = ids.iter().map(|id| (id.clone(), json!({"title": "T"}))).collect();
            for list in [json!(ids), Value::Object(by_id)] {
                let status = read(json!({"id": "t", "active_meetings": list})).unwrap();
                assert_eq!((status.active.len(), status.left_out), (count - left_out, left_out));
                assert_eq!(status.unreadable.is_empty(), left_out == 0);
            }
            let nonsense = json!({"id": "t", "active_meetings": vec![json!(null); count]});
            let status = read(nonsense).unwrap();
            assert!(status.unreadable.len() < 20 && status.left_out == left_out);
            let offers = json!(ids.iter().map(|id| json!({"id": id})).collect::<Vec<_>>());
            let offers = read_offers(offers.to_string().as_bytes()).unwrap();
            assert_eq!(offers.len(), count - left_out);
        }
    }

    #[test]
    fn our_own_main_server_names_the_bytes() {
        let digest = "ab".repeat(32);
        let status =
            read(json!({"id": "t", "active_meetings": [{"id": "a", "sha256": digest}]})).unwrap();
        assert_eq!(status.active[0].sha256, digest.parse().ok());
    }

    #[test]
    fn an_answer_that_tells_of_every_package_leaves_nothing_to_ask() {
        let told = |second: Value| {
            let first = json!({"id": "a", "title": "T", "package_url": "/uploads/a.zip"});
            let offers =
                read(json!({"id": "t", "active_meetings": [first, second]})).unwrap().offers;
            offers.map(|offers| offers.into_iter().map(|offer| offer.path).collect::<Vec<_>>())
        };
        let one = json!({"id": "a", "title": "T", "time": "9:00", "package_url": "/uploads/a.zip"});
        for list in [one.clone(), json!([one])] {
            let offers = read(json!({"id": "t", "active_meetings": list})).unwrap().offers;
            assert_eq!(offers.unwrap()[0].time.as_deref(), Some("9:00"));
        }
        let a = || Some("/uploads/a.zip".to_owned());
        assert_eq!(told(json!({"id": "b", "package_url": null})), Some(vec![a(), None]));
        assert_eq!(told(json!({"id": "b", "title": "U"})), None);
        assert_eq!(told(json!("b")), None);
        assert_eq!(told(json!({"id": "../b", "package_url": null})), None);
    }

    #[test]
    fn answers_that_differ_by_their_time_only_say_the_same() {
        let same = |a: &str, b: &str| fingerprint(a.as_bytes()) == fingerprint(b.as_bytes());
        let list = r#"{"id":"t","active_meetings":[{"id":"a","title":"T"}]"#;
        let at = |time: &str| format!(r#"{list},"timestamp":{time}}}"#);
        assert!(same(&at("1763712345.678"), &at("1763712346")));
        assert!(same(&at(" 1.5e9"), &at("-1")));
        assert!(!same(&at("1"), &at("1").replace("\"T\"", "\"U\"")));
        assert!(!same(&at("1"), &at(r#"1,"more":2"#)));
        let first = |time: u64, id: &str| format!(r#"{{"timestamp": {time}, "id":"{id}"}}"#);
        assert!(same(&first(1, "t"), &first(2, "t")) && !same(&first(1, "t"), &first(1, "u")));
        // Inside a text, it is not the time.
        let titled = |n: u8| json!({"id": "t", "title": format!("\"timestamp\":{n}")}).to_string();
        assert!(!same(&titled(1), &titled(2)));
        assert!(same("{}", "{}") && !same("{}", "[]"));
    }

    #[test]
    fn offers_are_read_and_nonsense_left_out() {
        let body = json!([
            {"id": 3, "title": "T", "package_url": "/uploads/packages/T_3_pdfs.zip"},
            {"id": "b", "title": "U"},
            {"title": "no id"}, null,
        ]);
        let offers = read_offers(body.to_string().as_bytes()).unwrap();
        let paths: Vec<_> = offers.iter().map(|o| (o.id.as_str(), o.path.as_deref())).collect();
        assert_eq!(paths, [("3", Some("/uploads/packages/T_3_pdfs.zip")), ("b", None)]);
        assert!(read_offers(b"{}").is_err());
    }

    #[test]
    fn a_notice_is_read_from_our_main_servers_answer_and_is_empty_otherwise() {
        let none = HeartbeatNotice::default();
        for answer in ["", "null", "[]", r#"{"status":"success","timestamp":1.5}"#] {
            assert_eq!(read_notice(answer.as_bytes()), none, "{answer}");
        }
        for (unreachable, admission) in [
            (Some("refused".to_owned()), None),
            (None, Some(AdmissionNotice::Pending)),
            (Some("no route".to_owned()), Some(AdmissionNotice::Refused)),
        ] {
            let casts = admission.is_none();
            let notice = HeartbeatNotice { unreachable, admission, casts };
            let answer = serde_json::json!({"status": "success", "mirror": notice}).to_string();
            assert_eq!(read_notice(answer.as_bytes()), notice);
        }
        let later = br#"{"mirror": {"unreachable": "x", "admission": "a later state"}}"#;
        let unreachable = Some("x".to_owned());
        assert_eq!(read_notice(later), HeartbeatNotice { unreachable, ..none });
    }

    #[test]
    fn a_heartbeat_is_never_larger_than_our_main_server_reads() {
        let heartbeat = |count: usize, title: &str| {
            let id = |n: usize| format!("00000000-0000-4000-8000-{n:012}");
            let package =
                |n| HeldPackage { id: id(n).parse().unwrap(), sha256: Sha256::new([9; 32]) };
            Heartbeat {
                node_id: "n".into(),
                address: "1.2.3.4:5".into(),
                status: "online".into(),
                active_meetings: (0..count)
                    .map(|n| MeetingRef { id: id(n), title: title.into() })
                    .collect(),
                synced_meetings: (0..count).map(id).collect(),
                mirror: Some(NodeReport {
                    version: "1".into(),
                    downloads: 0,
                    free_bytes: 0,
                    packages: (0..count).map(package).collect(),
                    relay: None,
                    pulls: Vec::new(),
                    failed_pulls: Vec::new(),
                    load: None,
                    takes_files: false,
                    ended: None,
                }),
            }
        };
        let titles = ["Board".to_owned(), "会".repeat(300)];
        for (count, title) in [
            (0, 0),
            (MAX_HELD_PACKAGES, 0),
            (5000, 0),
            (MAX_MEETINGS, 0),
            (900, 1),
            (MAX_MEETINGS, 1),
        ] {
            let before = heartbeat(count, &titles[title]);
            let mut beat = before.clone();
            let left_out = beat.fit();
            let bytes = serde_json::to_vec(&beat).unwrap().len();
            assert!(bytes <= MAX_HEARTBEAT_BYTES, "{count}: {bytes}");
            assert!(
                left_out == 0 || bytes + 2000 > MAX_HEARTBEAT_BYTES || count > MAX_HELD_PACKAGES
            );
            assert_eq!(left_out == 0, beat == before);
            assert_eq!(beat.synced_meetings, before.synced_meetings, "by these meetings start");
            assert_eq!(beat.mirror.unwrap().packages.len(), count.min(MAX_HELD_PACKAGES));
        }
        let mut beat = heartbeat(MAX_MEETINGS, "");
        beat.synced_meetings.iter_mut().for_each(|id| *id = id.repeat(4));
        beat.fit();
        assert!(beat.active_meetings.is_empty() && beat.synced_meetings.len() > 5000);
        assert!(serde_json::to_vec(&beat).unwrap().len() <= MAX_HEARTBEAT_BYTES);
    }

    #[test]
    fn a_heartbeat_always_carries_both_lists() {
        let heartbeat = Heartbeat {
            node_id: "n".into(),
            address: "1.2.3.4:5".into(),
            status: "online".into(),
            active_meetings: vec![],
            synced_meetings: vec![],
            mirror: None,
        };
        assert_eq!(
            serde_json::to_value(heartbeat).unwrap(),
            json!({"node_id": "n", "address": "1.2.3.4:5", "status": "online", "active_meetings": [], "synced_meetings": []})
        );
    }
}

#[cfg(feature = "openapi")]
mod openapi {
    /// Reports that can't be read are ignored.
    #[derive(schemars::JsonSchema)]
    #[schemars(untagged)]
    #[expect(dead_code, reason = "for the API's description")]
    pub(crate) enum Mirror {
        Ours(super::NodeReport),
        Other(serde_json::Value),
    }
}
