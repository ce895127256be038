//! The node's way of pulling, all of it but the polling: gate, request,
//! scratch file, digests, verification, commit. In this process, for only
//! there it says when it had the last byte.

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use edge_mirror_base::tasks::Tasks;
use edge_mirror_node::{
    board::StatusBoard,
    fetch::{Catalogue, Fetch, Offer, PullPhase, PullReason},
};
use edge_mirror_protocol::package::PackageId;
use edge_mirror_settings::Settings;
use edge_mirror_store::Store;
use serde_json::json;
use tokio::runtime::Runtime;

use super::support::process;

pub(crate) struct Node {
    runtime: Runtime,
    store: Store,
    fetch: Fetch,
    id: PackageId,
}

/// Times since the pull was asked for.
pub(crate) struct Pull {
    pub received_s: f64,
    pub committed_s: f64,
    pub cpu_s: f64,
}

impl Pull {
    pub(crate) fn after_s(&self) -> f64 {
        self.committed_s - self.received_s
    }
}

impl Node {
    /// A node whose main server offers one package, `offered`.
    pub(crate) fn start(folder: &Path, main_server: SocketAddr, offered: &str) -> Result<Self> {
        let config = json!({
            "nodeId": "bench",
            "mainServerIp": main_server.ip(),
            "mainServerPort": main_server.port(),
            "storage": {"path": folder.join("storage")},
            "network": {"retryCount": 1},
            "logging": {"fileEnabled": false},
        });
        let path = folder.join("node_config.json");
        fs::write(&path, config.to_string())?;
        let settings = Arc::new(Settings::load_or_create(&path)?);
        let origin = settings.current().main_server().to_owned();
        let (store, _) = Store::open(&settings.current().storage_path())?;
        let board = Arc::new(StatusBoard::new(store.clone(), 0));
        let fetch = Fetch::new(settings, board, Arc::default(), Tasks::new());
        let id: PackageId = "bench".parse()?;
        let offer = Offer { path: Some(offered.to_owned()), ..Offer::default() };
        fetch.set_catalogue(Catalogue {
            prestaged: Arc::default(),
            origin,
            offers: HashMap::from([(id.clone(), offer)]).into(),
        });
        Ok(Self { runtime: Runtime::new()?, store, fetch, id })
    }

    /// Pulls the package, and removes it.
    pub(crate) fn pull(&self) -> Result<Pull> {
        let cpu_before = process::all_ours_s()?;
        let began = Instant::now();
        let (received, committed) = self.runtime.block_on(async {
            let flight = self.fetch.pull(&self.id, PullReason::OnDemand);
            let all_here = async {
                while flight.progress().phase != PullPhase::Verifying {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::select! {
                () = all_here => {}
                outcome = flight.outcome() => drop(outcome?),
            }
            let received = began.elapsed();
            flight.outcome().await?;
            anyhow::Ok((received, began.elapsed()))
        })?;
        let cpu_s = process::all_ours_s()? - cpu_before;
        self.store.remove(&self.id)?;
        let (received_s, committed_s) = (received.as_secs_f64(), committed.as_secs_f64());
        Ok(Pull { received_s, committed_s, cpu_s })
    }
}
