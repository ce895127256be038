//! Counts downloads: redirected to a node, served from here, or refused. For the page;
//! nothing is decided by it. Saved now and then. Pure: the time is passed in.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
};

use edge_mirror_base::clock::{UnixMillis, fractional_seconds};
use edge_mirror_protocol::package::PackageId;
use serde::{Deserialize, Serialize};

use crate::state::{MAX_NODES, meeting_records::MeetingRecords};

/// Downloads of either kind that the page shows.
const MAX_RECENT: usize = 50;

/// One download that a client asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DownloadRecord {
    #[serde(rename = "time", with = "fractional_seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub at: UnixMillis,
    pub meeting: PackageId,
    /// None: from here.
    pub node: Option<String>,
    pub client: IpAddr,
}

/// Downloads that a client asked for and did not get, for one reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RefusedDownload {
    /// Of the last time.
    #[serde(rename = "time", with = "fractional_seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub at: UnixMillis,
    pub meeting: PackageId,
    pub client: IpAddr,
    pub(crate) reason: DownloadFault,
    /// Times that it has asked.
    pub(crate) count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) enum DownloadFault {
    UnknownMeeting,
    NotRunning,
    NoPackage,
    /// The package is being verified.
    Verifying,
    /// It is in the shared package store, and not here yet.
    NotHere,
    /// The disk fails.
    Storage,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DownloadLog {
    redirects: u64,
    own_downloads: u64,
    refused_downloads: u64,
    /// Kept while a node is away: it comes back under the same id.
    by_node: HashMap<String, u64>,
    /// Oldest first.
    recent: VecDeque<DownloadRecord>,
    /// The last refused one last.
    refused: VecDeque<RefusedDownload>,
    pub(crate) meetings: MeetingRecords,
}

impl DownloadLog {
    pub(crate) fn note(&mut self, departure: DownloadRecord) {
        let is_redirect = departure.node.is_some();
        self.meetings.note_download(&departure.meeting, is_redirect, departure.at);
        match &departure.node {
            Some(node_id) => {
                self.redirects += 1;
                *self.of_node(node_id) += 1;
            }
            None => self.own_downloads += 1,
        }
        if self.recent.len() >= MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(departure);
    }

    /// A client that asks again and again is listed once.
    pub(crate) fn note_refused(&mut self, mut refused: RefusedDownload) {
        self.refused_downloads += 1;
        self.meetings.note_refused(&refused.meeting);
        let is_same = |known: &RefusedDownload| {
            (&known.meeting, known.client, known.reason)
                == (&refused.meeting, refused.client, refused.reason)
        };
        if let Some(before) =
            self.refused.iter().position(is_same).and_then(|place| self.refused.remove(place))
        {
            refused.count += before.count;
        }
        if self.refused.len() >= MAX_RECENT {
            self.refused.pop_front();
        }
        self.refused.push_back(refused);
    }

    pub(crate) fn refused_downloads(&self) -> u64 {
        self.refused_downloads
    }

    /// Newest first.
    pub(crate) fn refused(&self) -> impl Iterator<Item = &RefusedDownload> {
        self.refused.iter().rev()
    }

    pub(crate) fn redirects(&self) -> u64 {
        self.redirects
    }

    pub(crate) fn own_downloads(&self) -> u64 {
        self.own_downloads
    }

    pub(crate) fn redirects_to(&self, node_id: &str) -> u64 {
        self.by_node.get(node_id).copied().unwrap_or_default()
    }

    /// Newest first.
    pub(crate) fn recent(&self) -> impl Iterator<Item = &DownloadRecord> {
        self.recent.iter().rev()
    }

    fn of_node(&mut self, node_id: &str) -> &mut u64 {
        if self.by_node.len() >= MAX_NODES && !self.by_node.contains_key(node_id) {
            // More ids than there can be live nodes: those with the fewest downloads make
            // room, many at once, as looking for them takes long.
            let mut counts: Vec<_> = self.by_node.drain().collect();
            counts.select_nth_unstable_by(MAX_NODES / 4, |(_, a), (_, b)| a.cmp(b));
            self.by_node.extend(counts.drain(MAX_NODES / 4..));
        }
        self.by_node.entry(node_id.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn departure(at_s: u64, node: Option<&str>) -> DownloadRecord {
        DownloadRecord {
            at: UnixMillis::from_secs(at_s),
            meeting: "m".parse().unwrap(),
            node: node.map(str::to_owned),
            client: Ipv4Addr::LOCALHOST.into(),
        }
    }

    #[test]
    fn each_download_counts_where_it_went() {
        let mut download_log = DownloadLog::default();
        for (at_s, node) in [(1, Some("a")), (2, None), (3, Some("b")), (4, Some("a"))] {
            download_log.note(departure(at_s, node));
        }
        assert_eq!((download_log.redirects(), download_log.own_downloads()), (3, 1));
        let of = |node_id| download_log.redirects_to(node_id);
        assert_eq!((of("a"), of("b"), of("c")), (2, 1, 0));
        let recent: Vec<_> =
            download_log.recent().map(|departure| departure.at.as_secs()).collect();
        assert_eq!(recent, [4, 3, 2, 1]);
    }

    #[test]
    fn the_list_is_of_the_last_fifty_and_totals_go_on() {
        let mut download_log = DownloadLog::default();
        (0..60).for_each(|at_s| download_log.note(departure(at_s, None)));
        let recent: Vec<_> =
            download_log.recent().map(|departure| departure.at.as_secs()).collect();
        assert_eq!((recent.len(), recent[0], recent[49]), (50, 59, 10));
        assert_eq!(download_log.own_downloads(), 60);
    }

    #[test]
    fn a_client_that_is_refused_again_and_again_is_listed_once() {
        let mut download_log = DownloadLog::default();
        for (at_s, host) in [(1, 1), (2, 2), (3, 1)] {
            download_log.note_refused(RefusedDownload {
                at: UnixMillis::from_secs(at_s),
                meeting: "m".parse().unwrap(),
                client: Ipv4Addr::new(10, 0, 0, host).into(),
                reason: DownloadFault::NotRunning,
                count: 1,
            });
        }
        let listed: Vec<_> =
            download_log.refused().map(|refused| (refused.at.as_secs(), refused.count)).collect();
        assert_eq!((listed, download_log.refused_downloads()), (vec![(3, 2), (2, 1)], 3));
    }

    #[test]
    fn ids_without_end_take_no_memory_without_end() {
        let mut download_log = DownloadLog::default();
        download_log.note(departure(0, Some("busy")));
        download_log.note(departure(0, Some("busy")));
        for n in 0..2 * MAX_NODES {
            download_log.note(departure(0, Some(&format!("n{n}"))));
        }
        assert!(download_log.by_node.len() <= MAX_NODES);
        assert_eq!(download_log.redirects_to("busy"), 2, "who matters stays");
    }
}
