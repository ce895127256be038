//! The content of a heartbeat.

use std::{collections::HashMap, sync::PoisonError};

use edge_mirror_protocol::{
    Heartbeat, HeldPackage, LoadReport, MeetingRef, NodeReport,
    package::PackageId,
    relay::{PullReport, RelayReport},
};
use edge_mirror_settings::Config;
use tokio::time::Instant;

use super::{PresenceWorker, failed};
use crate::{
    board,
    fetch::{PullPhase, PullProgress},
};

impl PresenceWorker {
    pub(super) fn heartbeat(
        &self,
        config: &Config,
        address: String,
        sync: &board::SyncState,
    ) -> Heartbeat {
        let store = self.board.store();
        let meeting = |m: &edge_mirror_protocol::ActiveMeeting| MeetingRef {
            id: m.id.to_string(),
            title: m.title.clone(),
        };
        let packages: Vec<_> = sync
            .active
            .iter()
            .filter_map(|meeting| Some((store.get(&meeting.id)?, sync.listed.get(&meeting.id)?)))
            .filter(|(held, listed)| held.manifest.sha256 == **listed)
            .map(|(held, _)| held)
            .filter(|held| held.is_of_fleet(&sync.fleet))
            .filter_map(|stored| {
                let (id, sha256) = (stored.manifest.key.package()?.clone(), stored.manifest.sha256);
                Some(HeldPackage { id, sha256 })
            })
            .collect();
        let synced_meetings = packages.iter().map(|package| package.id.to_string()).collect();
        // Others than our main server are not told of these.
        let prestaged = sync.prestaged.iter().filter(|(_, meeting)| meeting.is_here);
        let prestaged =
            prestaged.map(|(id, meeting)| HeldPackage { id: id.clone(), sha256: meeting.sha256 });
        let packages = packages.into_iter().chain(prestaged).collect();
        let pulls = self.fetch.under_way();
        let free_bytes = self.board.machine.borrow().disk_free;
        Heartbeat {
            node_id: config.node_id.clone(),
            address,
            status: "online".to_owned(),
            active_meetings: sync.active.iter().map(meeting).collect(),
            synced_meetings,
            mirror: Some(NodeReport {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                downloads: self.traffic.under_way(),
                free_bytes,
                packages,
                relay: self.relay_report(config),
                failed_pulls: failed::failed_pulls(sync, &pulls),
                pulls: pull_reports(pulls),
                load: self.load_report(config),
                takes_files: config.dispatch.enabled,
                ended: Some(self.traffic.totals()),
            }),
        }
    }

    /// True while our main server wants to know how far pulls are.
    pub(super) fn reports_progress(&self) -> bool {
        let is_told = self.board.relay.borrow().section.is_some();
        is_told && self.fetch.under_way().values().any(|pull| pull.phase != PullPhase::Deferred)
    }

    fn relay_report(&self, config: &Config) -> Option<RelayReport> {
        if !config.relay.enabled {
            return None;
        }
        let address = self.board.relay_address.borrow().clone()?;
        let https = *self.board.https.borrow();
        let certificate = *self.board.certificate.borrow();
        Some(RelayReport {
            address,
            https,
            certificate,
            site: config.site.clone(),
            max_children: config.relay.max_children,
        })
    }

    fn load_report(&self, config: &Config) -> Option<LoadReport> {
        let mut load = self.load.lock().unwrap_or_else(PoisonError::into_inner);
        let (machine, sent) = (self.board.machine.borrow(), self.traffic.served_bytes());
        load.measure(&machine, sent, config.serve.bandwidth, Instant::now())
    }
}

fn pull_reports(pulls: HashMap<PackageId, PullProgress>) -> Vec<PullReport> {
    let under_way = pulls.into_iter().filter(|(_, pull)| pull.phase != PullPhase::Deferred);
    let report = |(id, pull): (PackageId, PullProgress)| PullReport {
        id,
        received_bytes: pull.received_bytes,
        total_bytes: pull.total_bytes,
        parent: pull.source.parent.map(|parent| parent.node_id),
        rate: pull.rate,
        behind_bytes: pull.source.behind_bytes,
        slow_parents: pull.source.slow_parents,
    };
    under_way.map(report).collect()
}
