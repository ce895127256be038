//! The node's way of pulling, all of it but the polling: gate, request,
//! scratch file, digests, verification, commit.

use std::{
    collections::HashMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use edge_mirror::{
    board::Board,
    config::Settings,
    fetch::{Catalogue, Fetch, Offer, Phase, Reason},
    package::PackageId,
    store::Store,
    tasks::Tasks,
};
use serde_json::json;
use tokio::runtime::Runtime;

pub struct Node {
    runtime: Runtime,
    store: Store,
    fetch: Fetch,
    id: PackageId,
}

/// Times since the pull was asked for.
pub struct Pull {
    pub received: Duration,
    pub committed: Duration,
    pub cpu: Duration,
}

impl Node {
    /// A node whose main server offers one package, `offered`.
    pub fn start(folder: &Path, main_server_port: u16, offered: &str) -> Self {
        let folder = folder.join("node");
        std::fs::create_dir_all(&folder).expect("a folder");
        let config = json!({
            "nodeId": "bench",
            "mainServerIp": "127.0.0.1",
            "mainServerPort": main_server_port,
            "storage": {"path": folder.join("storage")},
            "network": {"retryCount": 1},
            "logging": {"fileEnabled": false},
        });
        let path = folder.join("node_config.json");
        std::fs::write(&path, config.to_string()).expect("a configuration");
        let settings = Arc::new(Settings::load_or_create(&path).expect("a configuration"));
        let origin = settings.current().main_server().to_owned();
        assert!(origin.starts_with("http://127.0.0.1:"), "{origin}");
        let (store, _) = Store::open(&settings.current().storage_path()).expect("a store");
        let board = Arc::new(Board::new(store.clone(), 0));
        let runtime = Runtime::new().expect("a runtime");
        let fetch = Fetch::new(settings, board, Arc::default(), Tasks::new());
        let id: PackageId = "bench".parse().expect("an id");
        let offer = Offer { path: Some(offered.to_owned()), ..Offer::default() };
        fetch.set_catalogue(Catalogue {
            origin: origin.to_owned(),
            offers: HashMap::from([(id.clone(), offer)]).into(),
        });
        Self { runtime, store, fetch, id }
    }

    /// Pulls the package, and removes it.
    pub fn pull(&self) -> Pull {
        let cpu_before = cpu();
        let began = Instant::now();
        let (received, committed) = self.runtime.block_on(async {
            let flight = self.fetch.pull(&self.id, Reason::OnDemand);
            let all_here = async {
                while flight.progress().phase != Phase::Verifying {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::select! {
                () = all_here => {}
                outcome = flight.outcome() => drop(outcome.expect("a pull that goes well")),
            }
            let received = began.elapsed();
            flight.outcome().await.expect("a pull that goes well");
            (received, began.elapsed())
        });
        self.store.remove(&self.id).expect("the package");
        Pull { received, committed, cpu: cpu() - cpu_before }
    }
}

/// What this process has used, in user and system mode.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    // Behind the command's name, which may hold anything: fields 14 and 15 of
    // proc(5), in hundredths of a second.
    let fields = stat.rsplit(')').next().expect("fields").split_whitespace();
    let ticks: u64 =
        fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}
