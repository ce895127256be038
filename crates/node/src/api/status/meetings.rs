//! The status page's meetings: those that are active, and those whose packages
//! are here.

use std::{collections::HashMap, sync::Arc};

use edge_mirror_base::{clock::UnixMillis, metrics::Label};
use edge_mirror_http::wire::snapshot::ItemWriter;
use edge_mirror_protocol::{
    ActiveMeeting, Cause, Fault,
    package::{PackageId, Sha256},
};
use edge_mirror_store::StoredPackage;
use serde::Serialize;

use crate::{
    board::{PrestagedMeeting, PullFailure, SyncState},
    fetch::{PullPhase, PullProgress, PullSource},
};

/// Bytes of one in JSON, about.
const MEETING_BYTES: usize = 448;
const HERE_BYTES: usize = 160;

/// A meeting that is active, or whose package is here, or both.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Meeting"))]
pub(super) struct MeetingRow<'a> {
    pub id: &'a PackageId,
    pub title: &'a str,
    pub active: bool,
    /// It is to be here before its meeting is started.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub prestaged: bool,
    pub state: MeetingState,
    pub size: Option<u64>,
    pub file_count: Option<u64>,
    pub sha256: Option<Sha256>,
    pub(crate) synced_at: Option<u64>,
    pub(crate) last_served: Option<u64>,
    pub downloads: u64,
    pub received: Option<u64>,
    pub total: Option<u64>,
    pub attempt: Option<u32>,
    pub(crate) failed_rounds: u32,
    pub(crate) last_error: Option<&'a str>,
    pub cause: Option<Cause>,
    pub(crate) next_try: Option<u64>,
    /// Only while it is being pulled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceView<'a>>,
}

/// Where a pull gets its bytes, and why.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "PullSource"))]
pub(super) struct SourceView<'a> {
    /// The node that sends it; null for the main server.
    pub node: Option<&'a str>,
    pub address: Option<&'a str>,
    pub reason: &'static str,
    /// Seconds since 1970.
    pub since: u64,
    /// Bytes per second now.
    pub rate: u64,
    /// The nodes that it comes through, the nearest first.
    pub path: &'a [String],
    /// Bytes of it that came from other nodes.
    pub relayed: u64,
}

impl<'a> SourceView<'a> {
    fn of(pull: &'a PullProgress) -> Self {
        let PullSource { parent, reason, since, path, relayed_bytes, .. } = &pull.source;
        let parent = parent.as_ref();
        Self {
            node: parent.map(|parent| &*parent.node_id),
            address: parent.map(|parent| &*parent.address),
            reason: reason.text(),
            since: since.as_secs(),
            rate: pull.rate,
            path,
            relayed: *relayed_bytes,
        }
    }
}

/// A stored package, as the node that this one replaces lists it.
#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "StoredPackage"))]
pub(super) struct PackageRow<'a> {
    id: &'a PackageId,
    title: &'a str,
    sync_time: u64,
    size: u64,
    file_count: u64,
    status: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) enum MeetingState {
    Waiting,
    Pulling,
    Verifying,
    Failing,
    /// Here and known to be the main server's current version.
    Synced,
    /// Here, but its version was not compared yet.
    Unconfirmed,
    /// Here, and its meeting is not active.
    Inactive,
    /// Here, and the main server has not said whether its meeting is active.
    Unknown,
    /// Here, and its meeting has not been started: clients get nothing of it yet.
    Prestaged,
}

/// The sources of a meeting's row.
#[derive(Clone, Copy)]
struct KnownMeeting<'a> {
    id: &'a PackageId,
    active: Option<&'a ActiveMeeting>,
    held: Option<&'a StoredPackage>,
    pull: Option<&'a PullProgress>,
    prestaged: Option<&'a PrestagedMeeting>,
}

impl<'a> KnownMeeting<'a> {
    /// The main server's title, if it lists the meeting.
    fn title(&self) -> &'a str {
        let held = self.held.map(|held| &held.manifest.title);
        let prestaged = self.prestaged.map(|meeting| &meeting.title);
        self.active.map(|active| &active.title).or(prestaged).or(held).map_or("", String::as_str)
    }
}

/// All of them, sorted by id. The sources are put in one list and sorted, not
/// looked up: with ten thousand, each lookup waits for the memory.
pub(super) struct MeetingRows<'a> {
    sync: &'a SyncState,
    /// Entries of one meeting are adjacent.
    sorted: Vec<(u128, KnownMeeting<'a>)>,
}

impl<'a> MeetingRows<'a> {
    pub(super) fn of(
        sync: &'a SyncState,
        stored: &'a [Arc<StoredPackage>],
        under_way: &'a HashMap<PackageId, PullProgress>,
    ) -> Self {
        let of = |id| KnownMeeting { id, active: None, held: None, pull: None, prestaged: None };
        let held = stored.iter().filter_map(|held| {
            Some(KnownMeeting { held: Some(held), ..of(held.manifest.key.package()?) })
        });
        let active = sync.active.iter().map(|m| KnownMeeting { active: Some(m), ..of(&m.id) });
        let pulls = under_way.iter().map(|(id, pull)| KnownMeeting { pull: Some(pull), ..of(id) });
        let prestaged = sync.prestaged.iter();
        let prestaged =
            prestaged.map(|(id, meeting)| KnownMeeting { prestaged: Some(meeting), ..of(id) });
        Self { sync, sorted: sorted(held.chain(active).chain(pulls).chain(prestaged).collect()) }
    }

    fn known(&self) -> impl Iterator<Item = KnownMeeting<'a>> {
        let one = |same: &[(u128, KnownMeeting<'a>)]| {
            let both = |one: KnownMeeting<'a>, other: KnownMeeting<'a>| KnownMeeting {
                id: one.id,
                active: one.active.or(other.active),
                held: one.held.or(other.held),
                pull: one.pull.or(other.pull),
                prestaged: one.prestaged.or(other.prestaged),
            };
            same.iter().map(|(_, known)| *known).reduce(both)
        };
        let same = |(n, one): &(u128, KnownMeeting<'_>), (m, other): &(u128, KnownMeeting<'_>)| {
            n == m && one.id == other.id
        };
        self.sorted.chunk_by(same).filter_map(one)
    }

    pub(super) fn write_all(&self, items: &mut ItemWriter<'_>) {
        items.expect(self.known().count(), MEETING_BYTES);
        for known in self.known() {
            items.add(known.id.as_str(), &meeting(self.sync, known));
        }
    }

    /// Packages that are here, as the node that this one replaces lists them.
    pub(super) fn write_stored(&self, items: &mut ItemWriter<'_>) {
        items.expect(self.known().count(), HERE_BYTES);
        for known in self.known() {
            let given = known.held.filter(|held| !held.manifest.withheld);
            let Some(held) = given else { continue };
            let here = PackageRow {
                id: known.id,
                title: known.title(),
                sync_time: held.manifest.verified_s,
                size: held.manifest.size_bytes,
                file_count: held.manifest.file_count,
                status: if known.active.is_some() { "active" } else { "synced" },
            };
            items.add(known.id.as_str(), &here);
        }
    }

    /// Active ones whose packages can't be pulled. A first attempt that failed does
    /// not count: a retry may succeed.
    pub(super) fn failing(&self) -> impl Iterator<Item = MeetingRow<'a>> {
        let sync = self.sync;
        let may_be = move |known: &KnownMeeting<'_>| {
            let failed = !sync.failing.is_empty() && sync.failing.contains_key(known.id);
            known.active.is_some() && (known.pull.is_some() || failed)
        };
        let shown = self.known().filter(may_be).map(move |known| meeting(sync, known));
        shown.filter(|meeting| meeting.failed_rounds > 0 || meeting.state == MeetingState::Failing)
    }
}

/// Ids mostly share a prefix and differ soon after it: the part behind it is
/// compared as a number, and those are adjacent in memory.
fn sorted(all: Vec<KnownMeeting<'_>>) -> Vec<(u128, KnownMeeting<'_>)> {
    let first = all.first().map_or("", |first| first.id.as_str());
    let common_prefix_len =
        all.iter().map(|known| common_prefix_len(known.id.as_str(), first)).min().unwrap_or(0);
    let number = |id: &PackageId| {
        let mut differs = [0; 16];
        // A shorter id sorts first: no id has a zero byte.
        let rest = &id.as_str().as_bytes()[common_prefix_len..];
        differs.iter_mut().zip(rest).for_each(|(to, byte)| *to = *byte);
        u128::from_be_bytes(differs)
    };
    let mut keyed: Vec<_> = all.into_iter().map(|known| (number(known.id), known)).collect();
    keyed.sort_unstable_by(|(n, one), (m, other)| n.cmp(m).then_with(|| one.id.cmp(other.id)));
    keyed
}

/// The length of the common prefix.
fn common_prefix_len(one: &str, other: &str) -> usize {
    one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count()
}

fn meeting<'a>(sync: &'a SyncState, known: KnownMeeting<'a>) -> MeetingRow<'a> {
    let KnownMeeting { id, active, held, pull, prestaged } = known;
    let prestaged = prestaged.filter(|_| active.is_none());
    let failing = sync.failing.get(id).or(prestaged.and_then(|meeting| meeting.failing.as_ref()));
    let manifest = held.map(|held| &held.manifest);
    let title = known.title();
    let active = active.is_some();
    let confirmed = manifest.is_some_and(|held| sync.confirmed.get(id) == Some(&held.sha256));
    let fault = last_fault(pull, failing);
    MeetingRow {
        id,
        title,
        active,
        prestaged: prestaged.is_some(),
        state: match state(active, confirmed, held.is_some(), pull, failing.is_some()) {
            MeetingState::Inactive if prestaged.is_some_and(|meeting| meeting.is_here) => {
                MeetingState::Prestaged
            }
            // It has another version.
            MeetingState::Inactive if prestaged.is_some() => MeetingState::Waiting,
            MeetingState::Inactive if !sync.complete => MeetingState::Unknown,
            known => known,
        },
        size: manifest.map(|manifest| manifest.size_bytes),
        file_count: manifest.map(|manifest| manifest.file_count),
        sha256: manifest.map(|manifest| manifest.sha256),
        synced_at: manifest.map(|manifest| manifest.verified_s),
        last_served: held.and_then(StoredPackage::last_served_s),
        downloads: held.map_or(0, StoredPackage::downloads),
        received: pull.map(|pull| pull.received_bytes),
        total: pull.and_then(|pull| pull.total_bytes),
        attempt: pull.map(|pull| pull.attempt),
        failed_rounds: failing.map_or(0, |failing| failing.rounds),
        last_error: fault.map(|fault| &*fault.text),
        cause: fault.map(|fault| fault.cause),
        next_try: next_try(pull, failing).map(UnixMillis::as_secs),
        source: pull.map(SourceView::of),
    }
}

/// The newer fault of the two: that of the round under way.
fn last_fault<'a>(
    pull: Option<&'a PullProgress>,
    failing: Option<&'a PullFailure>,
) -> Option<&'a Fault> {
    let in_round = pull.and_then(|pull| pull.failure.as_ref()).map(|(fault, _)| fault);
    in_round.or(failing.map(|failing| &failing.error))
}

fn next_try(pull: Option<&PullProgress>, failing: Option<&PullFailure>) -> Option<UnixMillis> {
    match pull {
        Some(pull) if pull.phase == PullPhase::Pausing => pull.failure.as_ref().map(|(_, at)| *at),
        Some(_) => None,
        None => failing.map(|failing| failing.next_try),
    }
}

fn state(
    active: bool,
    confirmed: bool,
    held: bool,
    pull: Option<&PullProgress>,
    failing: bool,
) -> MeetingState {
    match pull.map(|pull| pull.phase) {
        Some(PullPhase::Pulling) => MeetingState::Pulling,
        Some(PullPhase::Pausing) => MeetingState::Failing,
        Some(PullPhase::Verifying) => MeetingState::Verifying,
        Some(PullPhase::Waiting | PullPhase::Deferred) => MeetingState::Waiting,
        None if failing => MeetingState::Failing,
        None if held && !active => MeetingState::Inactive,
        None if held && confirmed => MeetingState::Synced,
        None if held => MeetingState::Unconfirmed,
        None => MeetingState::Waiting,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::fetch::PullReason;

    proptest! {
        /// Each meeting once, in the order of the ids, with all that is known.
        #[test]
        fn meetings_are_active_ones_and_those_being_pulled(
            active in prop::collection::btree_set("(meeting-)?[a-c.]{1,20}", 0..20),
            pulled in prop::collection::btree_set("(meeting-)?[a-c.]{1,20}", 0..20),
        ) {
            let ids = |names: &BTreeSet<String>| -> BTreeSet<PackageId> {
                names.iter().filter_map(|name| name.parse().ok()).collect()
            };
            let (active, pulled) = (ids(&active), ids(&pulled));
            // As the main server has them: in another order.
            let meeting = |id: &PackageId| ActiveMeeting { id: id.clone(), title: "T".into(), sha256: None, size_bytes: None };
            let listed: Vec<_> = active.iter().rev().map(meeting).collect();
            let sync = SyncState { active: Arc::new(listed.into()), ..SyncState::default() };
            let progress = PullProgress {
                phase: PullPhase::Pulling,
                reason: PullReason::Missing,
                attempt: 1,
                received_bytes: 0,
                total_bytes: None,
                rate: 0,
                failure: None,
                source: PullSource::default(),
            };
            let under_way = pulled.iter().map(|id| (id.clone(), progress.clone())).collect();
            let meetings = MeetingRows::of(&sync, &[], &under_way);
            let known = meetings.known().map(|m| (m.id, m.active.is_some(), m.pull.is_some()));
            let shown: Vec<_> = known.collect();
            let all: BTreeSet<_> = active.union(&pulled).collect();
            let both = |id| (id, active.contains(id), pulled.contains(id));
            let wanted: Vec<_> = all.into_iter().map(both).collect();
            prop_assert_eq!(shown, wanted);
        }
    }
}
