//! The figures that outlive a restart: counters, and what the page shows of the last minutes.

use edge_mirror_http::wire::feed::History;
use serde::{Deserialize, Serialize};

use super::download_log::DownloadLog;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SavedFigures {
    pub(crate) downloads: DownloadLog,
    /// Bytes of packages that were sent from here.
    pub(crate) served_bytes: u64,
    pub(crate) history: History,
}

impl SavedFigures {
    /// False if nothing was downloaded since: minutes without downloads need not be saved.
    pub(crate) fn is_news_after(&self, saved: &Self) -> bool {
        (&self.downloads, self.served_bytes) != (&saved.downloads, saved.served_bytes)
    }
}
