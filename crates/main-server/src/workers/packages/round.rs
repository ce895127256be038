//! A look at all that the shared store holds: what is missing there is put, and what no row
//! names any more is removed.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use edge_mirror_base::tasks;
use edge_mirror_protocol::package::{PackageId, Sha256};
use futures_util::TryStreamExt;
use tracing::{info, warn};

use crate::{
    packages::{BlobError, StoredBlob, package_of},
    server::{Server, SharedPackages},
    state::{commands::MeetingCommand, meetings::PackageBlob},
};

/// Least age of a blob that is swept, by the store's clock. An upload takes less, from its
/// bytes to its row.
const SWEPT_AFTER: TimeDelta = TimeDelta::days(1);

/// The memory from one round to the next.
#[derive(Debug, Default)]
pub(super) struct StoreRound {
    /// Blobs that no row named in the last round. They go in the next one, if that is still
    /// so: a main server that has just started may have an old state, or a new one.
    unnamed: HashSet<Sha256>,
}

impl StoreRound {
    pub(super) async fn run(
        &mut self,
        server: &Arc<Server>,
        shared: &SharedPackages,
    ) -> Result<(), BlobError> {
        let listed: Vec<StoredBlob> = shared.blobs.list().await?.try_collect().await?;
        let sizes = listed.iter().map(|blob| (blob.sha256, blob.size)).collect();
        share_copies(server, shared, &sizes).await?;
        self.sweep(server, shared, listed).await
    }

    async fn sweep(
        &mut self,
        server: &Server,
        shared: &SharedPackages,
        listed: Vec<StoredBlob>,
    ) -> Result<(), BlobError> {
        if !*server.leads.borrow() {
            // Another main server does, and has looked before.
            self.unnamed.clear();
            return Ok(());
        }
        let named = named_blobs(server);
        // Without the database nobody knows what is named by now.
        if named.is_empty() || server.state_fault.borrow().is_some() {
            return Ok(());
        }
        let before = shared.blobs.now().await? - SWEPT_AFTER;
        shared.blobs.sweep_unfinished(before).await;
        let unnamed: HashSet<_> = unnamed_before(&listed, &named, before).collect();
        for sha256 in unnamed.intersection(&self.unnamed) {
            if remove_unnamed(server, shared, *sha256, before).await? {
                server.counts.swept_packages.inc();
                info!(
                    "package {sha256}, which no meeting has any more, removed from the package store"
                );
            }
        }
        self.unnamed = unnamed;
        Ok(())
    }
}

fn named_blobs(server: &Server) -> HashSet<Sha256> {
    let book = server.book();
    let packages = book.meetings.iter().filter_map(|meeting| Some(meeting.package?.sha256));
    let mut named: HashSet<_> = packages.collect();
    named.extend(server.dispatch.table().named_blobs(server.clock.now()));
    named
}

/// The blobs that are as old as that, and named by no row.
fn unnamed_before<'a>(
    listed: &'a [StoredBlob],
    named: &'a HashSet<Sha256>,
    before: DateTime<Utc>,
) -> impl Iterator<Item = Sha256> + 'a {
    let unnamed = listed.iter().filter(move |blob| blob.modified < before);
    unnamed.map(|blob| blob.sha256).filter(|sha256| !named.contains(sha256))
}

/// Looks again right before: an upload of the same bytes may have put it meanwhile.
async fn remove_unnamed(
    server: &Server,
    shared: &SharedPackages,
    sha256: Sha256,
    before: DateTime<Utc>,
) -> Result<bool, BlobError> {
    let found = shared.blobs.find(sha256).await?;
    let is_old = found.is_some_and(|blob| blob.modified < before);
    if !is_old || named_blobs(server).contains(&sha256) {
        return Ok(false);
    }
    shared.blobs.remove(sha256).await?;
    Ok(true)
}

/// A copy here whose bytes are not in the store.
#[derive(Debug)]
struct UnsharedCopy {
    id: PackageId,
    package: PackageBlob,
    /// No row names it yet: it was there before the store was.
    is_unnamed: bool,
}

/// Puts the packages that lie here and are not in the store, and has rows name them.
async fn share_copies(
    server: &Arc<Server>,
    shared: &SharedPackages,
    sizes: &HashMap<Sha256, u64>,
) -> Result<(), BlobError> {
    for copy in unshared_copies(server, sizes) {
        let UnsharedCopy { id, package, is_unnamed } = copy;
        if sizes.get(&package.sha256) != Some(&package.size) {
            let Some(file) = open(server, &id, package.sha256).await else { continue };
            match server.put_blob(shared, package, file).await {
                Ok(()) => info!("package of meeting {id} put into the package store"),
                Err(error) if error.is_of_store() => return Err(error),
                Err(error) => {
                    warn!("package of meeting {id} can't be put into the package store: {error}");
                    continue;
                }
            }
        }
        if is_unnamed {
            let command = MeetingCommand::NamePackage { id: id.clone(), package };
            if let Err(cause) = server.change(command).await {
                return Err(BlobError::Unnamed(cause.to_string()));
            }
        }
    }
    Ok(())
}

/// Those of running meetings first.
fn unshared_copies(server: &Server, sizes: &HashMap<Sha256, u64>) -> Vec<UnsharedCopy> {
    let book = server.book();
    let mut meetings: Vec<_> = book.meetings.iter().collect();
    meetings.sort_by_key(|meeting| !meeting.is_running());
    let copies = meetings.into_iter().filter_map(|meeting| {
        let package = package_of(meeting, &server.store)?;
        let is_here = server.local_digest(&meeting.id) == Some(package.sha256);
        let is_shared = sizes.get(&package.sha256) == Some(&package.size);
        let is_unnamed = meeting.package.is_none();
        let id = meeting.id.clone();
        (is_here && (is_unnamed || !is_shared)).then_some(UnsharedCopy { id, package, is_unnamed })
    });
    copies.collect()
}

async fn open(server: &Server, id: &PackageId, sha256: Sha256) -> Option<Arc<File>> {
    let opened = server.store.package_to_reread(id).await.ok().flatten();
    let (_, opened) = opened.filter(|(stored, _)| stored.manifest.sha256 == sha256)?;
    let file = tasks::blocking(move || opened.file().try_clone()).await;
    file.ok().map(Arc::new)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use edge_mirror_base::clock::UnixMillis;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        LiveOptions, StateLocation,
        packages::{BlobStore, PackagesLocation, S3Environment},
        state::{
            master_state::MasterState,
            meetings::{Meeting, MeetingTable},
        },
    };

    /// A main server whose store is a folder.
    struct TestServer {
        server: Arc<Server>,
        shared: Arc<SharedPackages>,
        folder: tempfile::TempDir,
    }

    impl TestServer {
        async fn start() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (data, place) = (folder.path().join("data"), folder.path().join("store"));
            std::fs::create_dir(&place).unwrap();
            let (state, live) = <(StateLocation, LiveOptions)>::default();
            let opening = crate::open(&data, &state, Duration::ZERO, live);
            let server = Arc::new(opening.await.unwrap().server);
            let location = PackagesLocation::Folder(place);
            let blobs = BlobStore::new(location, &S3Environment::default()).unwrap();
            Self { server, shared: Arc::new(SharedPackages::new(blobs, None)), folder }
        }

        async fn put(&self, n: u8, days: u64) -> Sha256 {
            use sha2::{Digest, Sha256 as Hasher};
            let bytes = [n; 3];
            let sha256 = Sha256::new(Hasher::digest(bytes).into());
            let path = self.folder.path().join("bytes");
            std::fs::write(&path, bytes).unwrap();
            let (file, stop) = (File::open(&path).unwrap(), CancellationToken::new());
            self.shared.blobs.put(sha256, 3, Arc::new(file), &stop).await.unwrap();
            let name = sha256.to_string();
            let blob = self.folder.path().join("store/sha256").join(&name[..2]).join(&name);
            let blob = File::options().write(true).open(blob).unwrap();
            blob.set_modified(SystemTime::now() - Duration::from_secs(days * 86_400)).unwrap();
            sha256
        }

        fn name(&self, named: &[Sha256]) {
            let meetings = named.iter().enumerate().map(|(n, sha256)| {
                let id = format!("m{n}").parse().unwrap();
                let package =
                    PackageBlob { sha256: *sha256, size: 3, file_count: 1, modified_s: 1 };
                let meeting = Meeting::new(id, "T".into(), String::new(), UnixMillis::from_secs(1));
                Meeting { package: Some(package), ..meeting }
            });
            let meetings = MeetingTable { meetings: meetings.collect(), ..MeetingTable::default() };
            self.server.publish(Some(MasterState { meetings, ..MasterState::default() }.into()));
        }

        async fn holds(&self, all: &[Sha256]) -> Vec<bool> {
            let found = all.iter().map(|sha256| self.shared.blobs.find(*sha256));
            let found = futures_util::future::try_join_all(found).await.unwrap();
            found.iter().map(Option::is_some).collect()
        }
    }

    #[tokio::test]
    async fn what_no_row_names_goes_after_a_day_and_two_looks() {
        let test = TestServer::start().await;
        let (named, young, old) =
            (test.put(1, 9).await, test.put(2, 0).await, test.put(3, 9).await);
        let (again, named_late) = (test.put(4, 9).await, test.put(5, 9).await);
        let all = [named, young, old, again, named_late];
        let mut round = StoreRound::default();
        let run = async |round: &mut StoreRound| {
            round.run(&test.server, &test.shared).await.unwrap();
            test.holds(&all).await
        };
        for _ in 0..3 {
            assert_eq!(run(&mut round).await, [true; 5], "a state without packages is no state");
        }
        test.name(&[named]);
        assert_eq!(run(&mut round).await, [true; 5], "the state may be an old one");
        test.put(4, 0).await;
        test.server.leads.send_replace(false);
        assert_eq!(run(&mut round).await, [true; 5], "another main server does it");
        test.server.leads.send_replace(true);
        assert_eq!(run(&mut round).await, [true; 5], "which may have known better");
        test.name(&[named, named_late]);
        assert_eq!(run(&mut round).await, [true, true, false, true, true]);
        assert_eq!(run(&mut round).await, [true, true, false, true, true]);
        assert_eq!(test.server.counts.swept_packages.get(), 1);
    }
}
