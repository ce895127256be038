//! A record of each meeting that was started: when all nodes had its package, and when
//! tablets came for it. Kept for thirty days, also of meetings that are deleted. Pure.

use std::{collections::HashMap, time::Duration};

use edge_mirror_base::clock::{UnixMillis, fractional_seconds};
use edge_mirror_protocol::package::PackageId;
use serde::{Deserialize, Serialize};

use crate::state::meetings::Meeting;

/// More than a venue has in thirty days; the oldest make room.
const MAX_RECORDS: usize = 2000;
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MeetingRecord {
    pub(crate) title: String,
    #[serde(with = "fractional_seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub(crate) started_at: UnixMillis,
    #[serde(default, with = "fractional_seconds::option")]
    #[cfg_attr(test, schemars(with = "Option<f64>"))]
    pub(crate) ended_at: Option<UnixMillis>,
    /// The first time that each node that was there had the package.
    #[serde(default, with = "fractional_seconds::option")]
    #[cfg_attr(test, schemars(with = "Option<f64>"))]
    pub(crate) ready_at: Option<UnixMillis>,
    /// Nodes that were there then.
    #[serde(default)]
    pub(crate) nodes: u64,
    #[serde(default, with = "fractional_seconds::option")]
    #[cfg_attr(test, schemars(with = "Option<f64>"))]
    pub(crate) first_download: Option<UnixMillis>,
    #[serde(default, with = "fractional_seconds::option")]
    #[cfg_attr(test, schemars(with = "Option<f64>"))]
    pub(crate) last_download: Option<UnixMillis>,
    /// Downloads that were redirected to nodes.
    #[serde(default)]
    pub(crate) redirects: u64,
    /// Downloads that were served by the main server.
    #[serde(default)]
    pub(crate) own_downloads: u64,
    /// Downloads that clients asked for and did not get.
    #[serde(default)]
    pub(crate) refused_downloads: u64,
}

/// By meeting, of its last start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct MeetingRecords(HashMap<PackageId, MeetingRecord>);

impl MeetingRecord {
    fn new(title: &str, started_at: UnixMillis) -> Self {
        Self {
            title: title.to_owned(),
            started_at,
            ended_at: None,
            ready_at: None,
            nodes: 0,
            first_download: None,
            last_download: None,
            redirects: 0,
            own_downloads: 0,
            refused_downloads: 0,
        }
    }
}

impl MeetingRecords {
    /// Begins the records of meetings that were started, and ends those of others.
    pub(crate) fn follow<'a>(
        &mut self,
        running: impl Iterator<Item = &'a Meeting>,
        now: UnixMillis,
    ) {
        let mut found = HashMap::new();
        for meeting in running {
            let started_at = meeting.started_at.unwrap_or(now);
            let record = self.0.remove(&meeting.id).filter(|known| known.started_at == started_at);
            let record = record.unwrap_or_else(|| MeetingRecord::new(&meeting.title, started_at));
            found.insert(meeting.id.clone(), record);
        }
        for record in self.0.values_mut() {
            record.ended_at.get_or_insert(now);
        }
        self.0.extend(found);
        self.0.retain(|_, record| now.saturating_since(record.started_at) < KEPT_FOR);
        if self.0.len() > MAX_RECORDS {
            let mut starts: Vec<_> = self.0.values().map(|record| record.started_at).collect();
            starts.sort_unstable();
            let oldest = starts[starts.len() - MAX_RECORDS];
            self.0.retain(|_, record| record.started_at >= oldest);
        }
    }

    /// The running meetings whose packages not all nodes have had yet.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &PackageId> {
        let waiting =
            |record: &MeetingRecord| record.ended_at.is_none() && record.ready_at.is_none();
        self.0.iter().filter(move |(_, record)| waiting(record)).map(|(id, _)| id)
    }

    pub(crate) fn note_ready(&mut self, id: &PackageId, nodes: u64, now: UnixMillis) {
        if let Some(record) = self.0.get_mut(id) {
            record.ready_at.get_or_insert(now);
            record.nodes = nodes;
        }
    }

    pub(crate) fn note_download(&mut self, id: &PackageId, is_redirect: bool, at: UnixMillis) {
        let Some(record) = self.0.get_mut(id) else { return };
        record.first_download.get_or_insert(at);
        record.last_download = Some(at);
        match is_redirect {
            true => record.redirects += 1,
            false => record.own_downloads += 1,
        }
    }

    pub(crate) fn note_refused(&mut self, id: &PackageId) {
        if let Some(record) = self.0.get_mut(id) {
            record.refused_downloads += 1;
        }
    }

    /// The one that was started last first.
    pub(crate) fn list(&self) -> Vec<(&PackageId, &MeetingRecord)> {
        let mut list: Vec<_> = self.0.iter().collect();
        list.sort_by(|(a_id, a), (b_id, b)| (b.started_at, b_id).cmp(&(a.started_at, a_id)));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::meetings::MeetingPhase;

    fn at(seconds: u64) -> UnixMillis {
        UnixMillis::from_secs(seconds)
    }

    fn running(id: &str, started_s: u64) -> Meeting {
        let meeting = Meeting::new(id.parse().unwrap(), "T".into(), String::new(), at(0));
        Meeting { status: MeetingPhase::Running, started_at: Some(at(started_s)), ..meeting }
    }

    #[test]
    fn a_meeting_is_followed_from_its_start_to_its_end_and_anew_from_the_next_start() {
        let (mut records, m) = (MeetingRecords::default(), running("m", 10));
        records.note_download(&m.id, true, at(9));
        records.follow([&m].into_iter(), at(11));
        assert_eq!(records.waiting().count(), 1);
        records.note_ready(&m.id, 3, at(13));
        records.note_ready(&m.id, 4, at(15));
        for (at_s, is_redirect) in [(20, true), (21, false), (22, true)] {
            records.note_download(&m.id, is_redirect, at(at_s));
        }
        records.note_refused(&m.id);
        records.follow([].into_iter(), at(30));
        records.follow([].into_iter(), at(40));
        assert_eq!(records.waiting().count(), 0);
        let [(_, record)] = records.list()[..] else { panic!("{records:?}") };
        let times = [record.ready_at, record.first_download, record.last_download, record.ended_at];
        assert_eq!(times, [13, 20, 22, 30].map(|s| Some(at(s))));
        let counts = (record.redirects, record.own_downloads, record.refused_downloads);
        assert_eq!(counts, (2, 1, 1));
        records.follow([&running("m", 50)].into_iter(), at(51));
        assert_eq!(records.list()[0].1.redirects, 0);
        records.follow([].into_iter(), at(50) + KEPT_FOR);
        assert_eq!(records.list(), []);
    }

    #[test]
    fn the_oldest_make_room() {
        let mut records = MeetingRecords::default();
        let meetings: Vec<_> =
            (0..MAX_RECORDS as u64 + 5).map(|n| running(&format!("m{n}"), n)).collect();
        records.follow(meetings.iter(), at(5000));
        assert_eq!(records.list().len(), MAX_RECORDS);
        assert_eq!(records.list().last().unwrap().0.as_str(), "m5");
    }
}
