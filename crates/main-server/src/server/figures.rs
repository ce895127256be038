//! The figures that outlive a restart.

use edge_mirror_protocol::package::PackageId;

use super::Server;
use crate::{
    refusal::RequestError,
    state::{
        download_log::{DownloadFault, RefusedDownload},
        figures::SavedFigures,
    },
};

/// Meetings at a time that are looked at for nodes that lack a package.
const MAX_LOOKED_AT: usize = 20;

impl Server {
    /// At the start, before anybody is served.
    pub(crate) fn restore_figures(&self, figures: SavedFigures) {
        let SavedFigures { downloads, served_bytes, history } = figures;
        *self.download_log() = downloads;
        self.traffic.continue_from(served_bytes);
        self.history.send_replace(history);
    }

    pub(crate) fn figures(&self) -> SavedFigures {
        let history = self.history.borrow().clone();
        SavedFigures {
            downloads: self.download_log().clone(),
            served_bytes: self.traffic.served_bytes(),
            history,
        }
    }

    /// Keeps the records of meetings up to date. Blocks.
    pub(crate) fn follow_meetings(&self) {
        let (book, now) = (self.book(), self.clock.now());
        let waiting: Vec<_> = {
            let mut log = self.download_log();
            log.meetings.follow(book.running(), now);
            log.meetings.waiting().take(MAX_LOOKED_AT).cloned().collect()
        };
        for id in waiting {
            let Some(current) = self.digest(&id) else { continue };
            let (mut nodes, mut are_ready) = (0, true);
            for has_it in self.registry().readiness(&id, current, now) {
                nodes += 1;
                are_ready &= has_it;
            }
            if nodes > 0 && are_ready {
                self.download_log().meetings.note_ready(&id, nodes, now);
            }
        }
    }

    /// Counts a download that a client did not get.
    pub(crate) fn note_refused(
        &self,
        meeting: PackageId,
        client: std::net::IpAddr,
        refusal: &RequestError,
    ) {
        let reason = match refusal {
            RequestError::NothingToDownload => DownloadFault::UnknownMeeting,
            RequestError::NotRunning(_) => DownloadFault::NotRunning,
            RequestError::NoPackage => DownloadFault::NoPackage,
            RequestError::Verifying => DownloadFault::Verifying,
            RequestError::Fetching
            | RequestError::NotFetched
            | RequestError::PackageElsewhere
            | RequestError::PackageAtAnother => DownloadFault::NotHere,
            _ => DownloadFault::Storage,
        };
        let refused = RefusedDownload { at: self.clock.now(), meeting, client, reason, count: 1 };
        self.download_log().note_refused(refused);
    }
}
