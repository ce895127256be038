//! A store with that many packages, and the reports of a node that has them.

use std::{collections::HashMap, fs, path::PathBuf, sync::Arc};

use anyhow::Result;
use edge_mirror_base::tasks::Tasks;
use edge_mirror_http::{delivery::Traffic, wire::snapshot::Snapshot};
use edge_mirror_node::{
    api::{RelayTraffic, StatusAudience, snapshot},
    bench::{MainServerView, plan},
    board::StatusBoard,
    fetch::Fetch,
};
use edge_mirror_protocol::{self as protocol, package::PackageId};
use edge_mirror_settings::Settings;
use edge_mirror_store::Store;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{Stage, storage};

/// A node's parts.
pub(crate) struct Parts {
    pub count: usize,
    pub store: Store,
    pub manifests: Vec<Value>,
    settings: Arc<Settings>,
    board: Arc<StatusBoard>,
    fetch: Fetch,
    traffic: Traffic,
    relay_traffic: RelayTraffic,
    storage: PathBuf,
}

impl Parts {
    pub(crate) fn set(stage: &Stage, count: usize) -> Result<Self> {
        let folder = stage.make_new("parts")?;
        let storage = folder.join("storage");
        let manifests = storage::fill(&storage, count, storage::ORIGIN)?;
        let config = folder.join("node_config.json");
        let document = json!({"mainServerIp": "127.0.0.1", "mainServerPort": 9, "nodeId": "bench"});
        fs::write(&config, document.to_string())?;
        let settings = Arc::new(Settings::load_or_create(&config)?);
        let (store, _) = Store::open(&storage)?;
        let board = Arc::new(StatusBoard::new(store.clone(), 9));
        let fetch = Fetch::new(settings.clone(), board.clone(), Arc::default(), Tasks::new());
        let parts = Self {
            count,
            store,
            manifests,
            settings,
            board,
            fetch,
            traffic: Traffic::default(),
            relay_traffic: RelayTraffic::default(),
            storage,
        };
        parts.board.sync.send_replace(Arc::new(parts.known().view()));
        Ok(parts)
    }

    /// Of a main server of ours, with everything synced.
    pub(crate) fn known(&self) -> MainServerView {
        let mut known = MainServerView::of(storage::ORIGIN, None);
        let answer = status_answer(&self.manifests, self.count, 1.0);
        let mut status = protocol::read_status(&answer).expect("it is well-formed");
        let offers = status.offers.take().expect("it tells of them");
        known.take_status(status);
        known.take_offers(offers);
        known.refresh_held(&self.store);
        for stored in self.store.list() {
            let (held, token) = (&stored.manifest, known.token.clone());
            let id = held.key.package().expect("it is a package");
            known.confirm(id, held.sha256, token, Instant::now());
        }
        assert!(planned(&mut known, &self.store).is_empty());
        known
    }

    pub(crate) fn snapshot(&self, reader: StatusAudience) -> Snapshot {
        let (settings, board) = (&self.settings, &self.board);
        snapshot(settings, board, &self.fetch, &self.traffic, &self.relay_traffic, reader)
    }

    /// A download of the package in the middle begins.
    pub(crate) fn serve_one(&self) {
        let id = storage::id(&self.manifests[self.count / 2]);
        let id = id.parse::<PackageId>().expect("it is an id");
        self.store.get(&id).expect("it is there").note_served();
    }

    /// Closes it; the storage folder stays.
    pub(crate) fn close(self) -> PathBuf {
        self.storage
    }
}

pub(crate) fn planned(known: &mut MainServerView, store: &Store) -> Vec<impl Sized + use<>> {
    known.refresh_held(store);
    let nothing = HashMap::new();
    plan(known.facts(&nothing), &known.token, Instant::now())
}

/// As our main server gives it, for the first `count` meetings.
pub(crate) fn status_answer(manifests: &[Value], count: usize, timestamp: f64) -> Vec<u8> {
    let item = |manifest: &Value| {
        json!({
            "id": manifest["id"], "title": manifest["title"], "sha256": manifest["sha256"],
            "size": manifest["size_bytes"],
            "package_url": format!("/uploads/packages/meeting_{}_pdfs.zip", storage::id(manifest)),
        })
    };
    let active: Vec<_> = manifests[..count].iter().map(item).collect();
    let answer = json!({"id": "token", "active_meetings": active, "timestamp": timestamp});
    answer.to_string().into_bytes()
}
