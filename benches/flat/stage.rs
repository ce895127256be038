//! A store with that many packages, and the reports of a node that has them.

use std::{collections::HashMap, fs, os::unix::fs::MetadataExt, path::Path, sync::Arc};

use edge_mirror::{
    board::Board,
    config::{Settings, Verify},
    delivery::Traffic,
    fetch::Fetch,
    http::{For, snapshot},
    node::bench::{Known, plan},
    package::{Manifest, Route, Source, Validators},
    protocol,
    store::{Provenance, Store},
    tasks::Tasks,
    wire::snapshot::Snapshot,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

const ORIGIN: &str = "http://127.0.0.1:9";

pub struct Stage {
    pub count: usize,
    pub store: Store,
    pub manifests: Vec<Value>,
    settings: Arc<Settings>,
    board: Arc<Board>,
    fetch: Fetch,
    traffic: Traffic,
    folder: TempDir,
}

impl Stage {
    pub fn set(count: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the packages");
        let storage = folder.path().join("storage");
        let manifests = fill(&storage, count);
        let config = folder.path().join("node_config.json");
        let document = json!({"mainServerIp": "127.0.0.1", "mainServerPort": 9, "nodeId": "bench"});
        fs::write(&config, document.to_string()).expect("the folder is writable");
        let settings = Arc::new(Settings::load_or_create(&config).expect("it is valid"));
        let (store, _) = Store::open(&storage).expect("it opens");
        let board = Arc::new(Board::new(store.clone(), 9));
        let fetch = Fetch::new(settings.clone(), board.clone(), Arc::default(), Tasks::new());
        let stage = Self {
            count,
            store,
            manifests,
            settings,
            board,
            fetch,
            traffic: Traffic::default(),
            folder,
        };
        stage.board.sync.send_replace(Arc::new(stage.known().view()));
        stage
    }

    /// Of a main server of ours, with everything synced.
    pub fn known(&self) -> Known {
        let mut known = Known::of(ORIGIN, None);
        let answer = status_answer(&self.manifests, self.count, 1.0);
        let mut status = protocol::read_status(&answer).expect("it is well-formed");
        let offers = status.offers.take().expect("it tells of them");
        known.take_status(status);
        known.take_offers(offers);
        for meeting in self.manifests.iter().map(id) {
            known.confirm(&meeting.parse().expect("it is an id"), known.token.clone());
        }
        assert!(planned(&mut known, &self.store).is_empty());
        known
    }

    pub fn snapshot(&self, reader: For) -> Snapshot {
        snapshot(&self.settings, &self.board, &self.fetch, &self.traffic, reader)
    }

    /// A download of the package in the middle begins.
    pub fn serve_one(&self) {
        let id = id(&self.manifests[self.count / 2]).parse().expect("it is an id");
        self.store.get(&id).expect("it is there").note_served();
    }

    pub fn close(self) -> TempDir {
        self.folder
    }
}

pub fn planned(known: &mut Known, store: &Store) -> Vec<impl Sized + use<>> {
    known.look(store);
    let nothing = HashMap::new();
    plan(known.facts(&nothing), &known.token, Instant::now())
}

/// As our main server gives it, for the first `count` meetings.
pub fn status_answer(manifests: &[Value], count: usize, timestamp: f64) -> Vec<u8> {
    let item = |manifest: &Value| {
        json!({
            "id": manifest["id"], "title": manifest["title"], "sha256": manifest["sha256"],
            "size": manifest["size_bytes"],
            "package_url": format!("/uploads/packages/meeting_{}_pdfs.zip", id(manifest)),
        })
    };
    let active: Vec<_> = manifests[..count].iter().map(item).collect();
    let answer = json!({"id": "token", "active_meetings": active, "timestamp": timestamp});
    answer.to_string().into_bytes()
}

fn id(manifest: &Value) -> &str {
    manifest["id"].as_str().expect("every manifest has one")
}

pub fn manifest() -> Manifest {
    let folder = tempfile::tempdir().expect("a folder for a package");
    serde_json::from_value(fill(folder.path(), 1).remove(0)).expect("it is a manifest")
}

/// One package is pulled and verified, the others are copies of it under other
/// names, with manifests that speak of them. Returns the manifests.
fn fill(storage: &Path, count: usize) -> Vec<Value> {
    let (store, _) = Store::open(storage).expect("it opens");
    let first = "meeting-0".parse().expect("it is an id");
    let mut pending = store.begin(&first, None, u64::MAX).expect("there is room");
    // The smallest archive: the end of a directory without entries.
    let zip = [&b"PK\x05\x06"[..], &[0; 18]].concat();
    pending.write(&zip).expect("there is room");
    let source = Source {
        route: Route::PackageUrl,
        origin: Some(ORIGIN.to_owned()),
        validators: Validators { etag: Some("etag-of-some-length".into()), last_modified: None },
    };
    let provenance = Provenance { title: "预算会议 Budget".into(), source, modified_s: None };
    let stored = pending.commit(Verify::Full, None, provenance, || true).expect("it is good");
    let pattern = json!(stored.manifest);
    let mut manifests = vec![pattern.clone()];
    for n in 1..count {
        let id = format!("meeting-{n}");
        let folder = storage.join(format!("meeting_{id}"));
        fs::create_dir(&folder).expect("the folder is writable");
        fs::write(folder.join("package.zip"), &zip).expect("the folder is writable");
        let file = fs::metadata(folder.join("package.zip")).expect("it was just written");
        let mut manifest = pattern.clone();
        manifest["id"] = json!(id);
        manifest["file"]["inode"] = json!(file.ino());
        let mtime_ns = i128::from(file.mtime()) * 1_000_000_000 + i128::from(file.mtime_nsec());
        manifest["file"]["mtime_ns"] = json!(i64::try_from(mtime_ns).expect("before 2262"));
        fs::write(folder.join("manifest.json"), manifest.to_string()).expect("it is writable");
        manifests.push(manifest);
    }
    manifests
}
