//! The contract of a package store, on a folder and on an S3 server.

use std::{io::Write, sync::Arc, time::Duration};

use chrono::Utc;
use edge_mirror_protocol::package::Sha256;
use futures_util::TryStreamExt;
use sha2::{Digest, Sha256 as Hasher};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{error::UnusablePackages, packages::testing::TestS3};

/// A store and what keeps it alive.
struct TestStore {
    blobs: BlobStore,
    folder: TempDir,
    s3: Option<TestS3>,
}

impl TestStore {
    async fn both() -> [Self; 2] {
        [Self::folder(), Self::s3().await]
    }

    fn folder() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = PackagesLocation::Folder(folder.path().to_owned());
        let blobs = BlobStore::new(location, &S3Environment::default()).unwrap();
        Self { blobs, folder, s3: None }
    }

    async fn s3() -> Self {
        let s3 = TestS3::start().await;
        let location = "s3://bucket/some/prefix".parse().unwrap();
        let blobs = BlobStore::new(location, &S3Environment::new(s3.environment())).unwrap();
        Self { blobs, folder: tempfile::tempdir().unwrap(), s3: Some(s3) }
    }

    async fn put(&self, bytes: &[u8], as_if: &[u8]) -> Result<Sha256, BlobError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let sha256 = digest(as_if);
        let stop = CancellationToken::new();
        self.blobs.put(sha256, bytes.len() as u64, Arc::new(file), &stop).await?;
        Ok(sha256)
    }

    async fn read(&self, sha256: Sha256) -> Result<(u64, Vec<u8>), BlobError> {
        let (size, bytes) = self.blobs.open(sha256).await?;
        let pieces: Vec<_> = bytes.try_collect().await?;
        Ok((size, pieces.concat()))
    }

    async fn names(&self) -> Vec<Sha256> {
        let listed: Vec<StoredBlob> = self.blobs.list().await.unwrap().try_collect().await.unwrap();
        listed.iter().map(|blob| blob.sha256).collect()
    }
}

fn digest(bytes: &[u8]) -> Sha256 {
    Sha256::new(Hasher::digest(bytes).into())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_is_there_under_its_digest_until_it_is_removed() {
    for store in TestStore::both().await {
        store.blobs.check().await.unwrap();
        assert!(store.names().await.is_empty());
        let (small, large) = (b"small".to_vec(), vec![7; 20_000_000]);
        let small_name = store.put(&small, &small).await.unwrap();
        let large_name = store.put(&large, &large).await.unwrap();
        assert_eq!(store.read(small_name).await.unwrap(), (5, small.clone()));
        assert!(store.read(large_name).await.unwrap() == (20_000_000, large));
        let found = store.blobs.find(small_name).await.unwrap().unwrap();
        let age = store.blobs.now().await.unwrap() - found.modified;
        assert!(found.size == 5 && age.num_seconds().abs() < 60, "{age}");
        assert_eq!(store.put(&small, &small).await.unwrap(), small_name, "again");
        assert_eq!(store.names().await.len(), 2);
        store.blobs.remove(small_name).await.unwrap();
        store.blobs.remove(small_name).await.unwrap();
        assert_eq!(store.names().await, [large_name]);
        assert_eq!(store.blobs.find(small_name).await.unwrap(), None);
        assert!(matches!(store.read(small_name).await, Err(BlobError::Missing)));
        if let Some(s3) = store.s3 {
            assert_eq!(s3.conditions(), Vec::<String>::new(), "not every server heeds them");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_those_of_the_name_are_not_put() {
    for store in TestStore::both().await {
        let refused = store.put(b"changed on the way", b"verified").await;
        assert!(matches!(refused, Err(BlobError::Changed)), "{refused:?}");
        assert!(store.names().await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_says_so_and_is_used_again_when_it_is_back() {
    let store = TestStore::s3().await;
    let s3 = store.s3.as_ref().unwrap();
    let name = store.put(b"one", b"one").await.unwrap();
    s3.go_away().await;
    let told = store.blobs.check().await.unwrap_err();
    assert!(told.is_of_store() && told.to_string().contains("refused"), "{told}");
    assert!(store.put(b"two", b"two").await.unwrap_err().is_of_store());
    s3.come_back().await;
    s3.fail(true);
    assert!(store.blobs.check().await.unwrap_err().is_of_store());
    s3.fail(false);
    assert_eq!(store.read(name).await.unwrap().1, b"one");
}

#[tokio::test]
async fn a_folder_that_is_not_mounted_is_never_written_in_its_place() {
    let store = TestStore::folder();
    let place = store.folder.path().join("mount");
    let location = PackagesLocation::Folder(place.clone());
    let blobs = BlobStore::new(location, &S3Environment::default()).unwrap();
    let told = blobs.check().await.unwrap_err();
    assert!(told.is_of_store() && told.to_string().contains("no such folder"), "{told}");
    let stop = CancellationToken::new();
    let file = Arc::new(tempfile::tempfile().unwrap());
    assert!(blobs.put(digest(b""), 0, file, &stop).await.unwrap_err().is_of_store());
    assert!(!place.exists());
}

#[tokio::test]
async fn what_a_killed_main_server_left_half_written_goes_after_a_while() {
    let store = TestStore::folder();
    let name = store.put(b"one", b"one").await.unwrap().to_string();
    let part = store.folder.path().join("sha256").join(&name[..2]);
    std::fs::write(part.join(format!("{name}#1")), b"half").unwrap();
    store.blobs.sweep_unfinished(Utc::now() - Duration::from_secs(60)).await;
    assert_eq!(std::fs::read_dir(&part).unwrap().count(), 2, "somebody may be writing it");
    store.blobs.sweep_unfinished(Utc::now() + Duration::from_secs(60)).await;
    let left: Vec<_> = std::fs::read_dir(&part).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, [name.as_str()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_answers_no_says_why_and_shows_no_secret() {
    let s3 = TestS3::start().await;
    let told = |location: &str, change: fn(&mut String, &mut String)| {
        let mut environment = s3.environment();
        for (name, value) in &mut environment {
            change(name, value);
        }
        let location = location.parse().unwrap();
        BlobStore::new(location, &S3Environment::new(environment))
    };
    let wrong_secret = told("s3://bucket", |name, value| {
        if name.contains("SECRET") {
            value.push_str("-wrong");
        }
    });
    let denied = wrong_secret.unwrap().check().await.unwrap_err();
    assert!(matches!(denied, BlobError::Denied(_)), "{denied}");
    assert!(!format!("{denied} {denied:?}").contains("AKIDTEST"), "{denied:?}");
    let missing = told("s3://other", |_, _| ()).unwrap().check().await.unwrap_err();
    assert!(matches!(missing, BlobError::NoBucket), "{missing}");
    let nobody = told("s3://bucket", |name, _| {
        if name.contains("KEY") {
            name.clear();
        }
    });
    assert_eq!(nobody.unwrap_err(), UnusablePackages::NoCredentials);
    let plain = told("s3://bucket", |name, value| {
        if name.contains("ALLOW") {
            *value = "false".to_owned();
        }
    });
    assert_eq!(plain.unwrap_err(), UnusablePackages::PlainHttp);
    let half = told("s3://bucket", |name, _| {
        if name.contains("SECRET") {
            name.clear();
        }
    });
    let half = half.unwrap_err();
    assert!(matches!(half, UnusablePackages::Environment(_)), "{half}");
    assert!(!half.to_string().contains("AKIDTEST"), "{half}");
}
