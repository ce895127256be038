//! Verifies without a node, in a configuration's storage folder.

use std::{fs, os::unix::fs::MetadataExt, path::Path, pin::pin, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use edge_mirror_base::tasks::{self, Tasks};
use edge_mirror_node::{
    board::StatusBoard,
    fetch::{Fetch, PullError, PullReason},
    upstream::Connector,
};
use edge_mirror_protocol::{object::ObjectKey, package::PackageId};
use edge_mirror_settings::{Config, Settings};
use edge_mirror_store::{OpenedPackage, Store, reread};

use super::report::{CheckedPackage, PackageVerdict, VerifyReport};
use crate::terminal::{
    live::{self, TransferProgress, TransferView},
    say,
};

/// Pulls have ended by then, or are not needed any more.
const GRACE: Duration = Duration::from_secs(2);

pub(super) struct OfflineStorage {
    store: Store,
    /// Packages without a matching manifest.
    unverified: Vec<ObjectKey>,
    repair: bool,
}

/// Fails if a node uses it.
pub(super) async fn open(config: &Config, repair: bool) -> Result<OfflineStorage> {
    let root = config.storage_path();
    let Ok(folder) = fs::metadata(&root) else {
        let root = root.display();
        bail!(say(
            format!("没有存储文件夹 {root}；请检查 storage.path，或使用 --node"),
            format!("there is no storage folder {root}; see storage.path, or --node"),
        ));
    };
    let own = rustix::process::geteuid();
    if repair && own.is_root() && folder.uid() != own.as_raw() {
        // The node could not remove what root creates there.
        let (root, user) = (root.display(), folder.uid());
        bail!(say(
            format!(
                "{root} 属于用户 {user}：请以该用户执行（sudo -u '#{user}' …），或通过正在运行的节点\
                 （--node），或加 --no-repair"
            ),
            format!(
                "{root} belongs to user {user}: run this as that user (sudo -u '#{user}' …), \
                 through the running node (--node), or with --no-repair"
            ),
        ));
    }
    let (store, found) = tasks::blocking(move || Store::open(&root)).await?;
    Ok(OfflineStorage { store, unverified: found.unverified, repair })
}

impl OfflineStorage {
    pub(super) async fn verify(
        mut self,
        config_file: &Path,
        view: &mut TransferView,
    ) -> Result<VerifyReport> {
        let mut stored = self.store.list();
        stored.sort_by(|one, other| one.manifest.key.cmp(&other.manifest.key));
        let counter = Arc::new(TransferProgress::of_total(self.store.used_bytes()));
        let (mut found, mut bad) = (Vec::with_capacity(stored.len()), Vec::new());
        for stored in stored {
            let manifest = &stored.manifest;
            let verdict = view.show_while(&counter, self.read(&manifest.key, &counter)).await;
            if matches!(verdict, PackageVerdict::Damaged | PackageVerdict::Unreadable(_)) {
                bad.push(found.len());
            }
            found.push(CheckedPackage {
                id: manifest.key.to_string(),
                title: manifest.title.clone(),
                size_bytes: manifest.size_bytes,
                verdict,
            });
        }
        for key in std::mem::take(&mut self.unverified) {
            // Nothing says what it should be; a node would read it at its start.
            bad.push(found.len());
            found.push(CheckedPackage {
                id: key.to_string(),
                title: String::new(),
                size_bytes: 0,
                verdict: PackageVerdict::Damaged,
            });
        }
        let of = self.store.root().display().to_string();
        if self.repair && !bad.is_empty() {
            let repairs = OfflineRepair::new(&self.store, config_file)?;
            for n in bad {
                repairs.repair(&mut found[n], view).await;
            }
            repairs.tasks.shut_down(GRACE).await;
        }
        Ok(VerifyReport { of, found })
    }

    async fn read(&self, key: &ObjectKey, counter: &TransferProgress) -> PackageVerdict {
        let (store, wanted) = (self.store.clone(), key.clone());
        let package: OpenedPackage =
            match tasks::blocking(move || store.open_package(&wanted)).await {
                Ok(Some(package)) => package,
                Ok(None) => return PackageVerdict::Damaged,
                Err(error) => return PackageVerdict::Unreadable(error.to_string()),
            };
        let count = |bytes| counter.add(bytes);
        let good = match reread::is_good(&self.store, &package, Duration::ZERO, count).await {
            Ok(good) => good,
            Err(error) => return PackageVerdict::Unreadable(error.to_string()),
        };
        if self.repair {
            // A good one is recorded, a bad one removed.
            let store = self.store.clone();
            let noted = tasks::blocking(move || store.record_reread(&package.0, good)).await;
            if let Err(error) = noted {
                return PackageVerdict::Unreadable(error.to_string());
            }
        }
        if good { PackageVerdict::Good } else { PackageVerdict::Damaged }
    }
}

/// Pulls packages without a node.
struct OfflineRepair {
    store: Store,
    fetch: Fetch,
    tasks: Tasks,
}

impl OfflineRepair {
    fn new(store: &Store, config_file: &Path) -> Result<Self> {
        let settings = Arc::new(Settings::load_or_create(config_file)?);
        let (tasks, port) = (Tasks::new(), settings.current().node_port);
        let board = Arc::new(StatusBoard::new(store.clone(), port));
        let fetch = Fetch::new(settings, board, Arc::<Connector>::default(), tasks.clone());
        Ok(Self { store: store.clone(), fetch, tasks })
    }

    async fn repair(&self, found: &mut CheckedPackage, view: &mut TransferView) {
        let Ok(id) = found.id.parse::<PackageId>() else { return };
        if let PackageVerdict::Unreadable(_) = found.verdict {
            // The disk may be at fault: nothing more should be written to it.
            return;
        }
        // A package without a manifest is good if its archive is.
        self.fetch.adopt(&id).await;
        found.verdict = match self.store.get(&id) {
            Some(_) => PackageVerdict::Good,
            None => self.pull(&id, view).await,
        };
        if let Some(stored) = self.store.get(&id) {
            found.size_bytes = stored.manifest.size_bytes;
            found.title.clone_from(&stored.manifest.title);
        }
    }

    async fn pull(&self, id: &PackageId, view: &mut TransferView) -> PackageVerdict {
        let (flight, counter) =
            (self.fetch.pull(id, PullReason::Missing), TransferProgress::default());
        let pulling = async {
            let mut looks = tokio::time::interval(live::EVERY);
            let mut outcome = pin!(flight.outcome());
            loop {
                tokio::select! {
                    outcome = &mut outcome => return outcome,
                    _ = looks.tick() => {
                        let progress = flight.progress();
                        counter.set(progress.received_bytes, progress.total_bytes);
                    }
                }
            }
        };
        match view.show_while(&counter, pulling).await {
            Ok(_) => PackageVerdict::Repaired,
            Err(error) => match &*error {
                PullError::Upstream(refused) if refused.is_not_found() => PackageVerdict::Removed,
                error => PackageVerdict::Lost(error.to_string()),
            },
        }
    }
}
