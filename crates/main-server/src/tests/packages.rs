//! Main servers with a shared package store: a folder, and a real S3 server.

use std::path::PathBuf;

use edge_mirror_store::testing::zip_of;
use futures_util::FutureExt;

use super::*;
use crate::{PackageStoreOptions, S3Environment, packages::testing::TestS3, server::blob_key};

/// A place that main servers share.
struct SharedPlace {
    url: String,
    environment: Vec<(String, String)>,
    /// The folder that the blobs are in.
    blobs: PathBuf,
}

impl SharedPlace {
    fn folder(folder: &TempDir) -> Self {
        let url = folder.path().to_str().unwrap().to_owned();
        Self { url, environment: Vec::new(), blobs: folder.path().join("sha256") }
    }

    fn s3(s3: &TestS3) -> Self {
        let (url, blobs) = ("s3://bucket/main".to_owned(), s3.bucket().join("main/sha256"));
        Self { url, environment: s3.environment(), blobs }
    }

    fn options(&self, folder: &TempDir, cache_bytes: Option<u64>) -> MasterOptions {
        let packages = PackageStoreOptions {
            location: self.url.parse().unwrap(),
            environment: S3Environment::new(self.environment.clone()),
            cache_bytes,
        };
        MasterOptions { packages: Some(packages), ..options(folder, LONG) }
    }

    async fn master(&self) -> TestMaster {
        self.master_in(tempfile::tempdir().unwrap(), None).await
    }

    async fn master_in(&self, folder: TempDir, cache_bytes: Option<u64>) -> TestMaster {
        let options = self.options(&folder, cache_bytes);
        TestMaster::with_options(folder, options).await
    }

    fn blob(&self, sha256: &str) -> PathBuf {
        self.blobs.join(&sha256[..2]).join(sha256)
    }
}

/// Stops a main server; its data folder stays.
async fn stopped(main: TestMaster) -> TempDir {
    let TestMaster { folder, master, client } = main;
    drop(client);
    assert!(master.shut_down(GRACE).await);
    folder
}

/// A folder with the state that `main` has now, and nothing else.
async fn state_of(main: &TestMaster) -> TempDir {
    let (folder, state) = (tempfile::tempdir().unwrap(), StateLocation::default());
    let file = folder.path().join("backup");
    crate::back_up(&state, &main.folder.path().join("data"), &file).await.unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    crate::restore(&state, &data, &file).await.unwrap();
    folder
}

async fn until<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .unwrap_or_else(|_| panic!("{what}"))
}

impl TestMaster {
    /// What a node that pulls is given.
    async fn pulled(&self, id: &str) -> (StatusCode, Vec<u8>) {
        let answer = self.get(&format!("/api/v1/meetings/{id}/download-package-direct")).await;
        (answer.status(), answer.bytes().await.unwrap().to_vec())
    }

    fn copy(&self, id: &str) -> PathBuf {
        self.folder.path().join(format!("data/packages/meeting_{id}/package.zip"))
    }

    async fn problems(&self) -> Vec<String> {
        let overview = self.json("/api/v1/overview").await;
        let problems = overview["problems"].as_array().unwrap().iter();
        problems.map(|problem| problem["code"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_uploaded_at_one_main_server_is_served_by_another() {
    let (folder, s3) = (tempfile::tempdir().unwrap(), TestS3::start().await);
    for place in [SharedPlace::folder(&folder), SharedPlace::s3(&s3)] {
        let first = place.master().await;
        let (runs, waits) = (zip_of(b"runs"), zip_of(b"waits"));
        let sha256 = first.meeting("runs", &runs).await;
        first.meeting("waits", &waits).await;
        first.started("runs").await;
        assert!(place.blob(&sha256).exists());

        let second = place.master_in(state_of(&first).await, None).await;
        until("what runs is pulled by itself", async || second.copy("runs").exists().then_some(()))
            .await;
        assert!(!second.copy("waits").exists());
        let meeting = second.json("/api/v1/meetings/runs").await;
        assert_eq!(meeting, first.json("/api/v1/meetings/runs").await);
        assert_eq!(
            (meeting["size"].as_u64(), &meeting["file_count"]),
            (Some(runs.len() as u64), &json!(1))
        );
        let asked = (0..20).map(|_| second.pulled("waits"));
        for answer in futures_util::future::join_all(asked).await {
            assert_eq!(answer, (StatusCode::OK, waits.clone()));
        }
        let path = "/api/v1/meetings/waits/download-package-direct";
        let (one, other) = (first.get(path).await, second.get(path).await);
        for name in [header::ETAG, header::LAST_MODIFIED] {
            assert_eq!(one.headers()[&name], other.headers()[&name]);
        }
        assert_eq!(second.problems().await, first.problems().await);

        // Another package at the first, which the second learns of with a new state.
        let newer = zip_of(b"another one");
        assert_eq!(first.upload("runs", newer.clone()).await.0, 200);
        let third = place.master_in(state_of(&first).await, None).await;
        assert_eq!(third.pulled("runs").await, (StatusCode::OK, newer));
    }
    assert_eq!(s3.conditions(), Vec::<String>::new());
    let waits = s3.gets();
    let waits: Vec<_> = waits.iter().filter(|path| path.contains("sha256")).collect();
    assert_eq!(waits.len(), 3, "once for all who wait: {waits:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn main_servers_that_share_a_database_serve_what_any_of_them_was_given_last() {
    let (postgres, folder) = (TestPostgres::start().await, tempfile::tempdir().unwrap());
    let (state, place) = (postgres.database("fleet").await, SharedPlace::folder(&folder));
    let master = async || {
        let folder = tempfile::tempdir().unwrap();
        let options = MasterOptions { state: state.clone(), ..place.options(&folder, None) };
        TestMaster::with_options(folder, options).await
    };
    let (one, other) = (master().await, master().await);
    let zips = [zip_of(b"first"), zip_of(b"second"), zip_of(b"third")];
    let first = one.meeting("m", &zips[0]).await;
    for (zip, (uploads, serves)) in
        zips.iter().zip([(&one, &other), (&other, &one), (&one, &other)])
    {
        let (status, meeting) = uploads.upload("m", zip.clone()).await;
        assert_eq!(status, 200, "{meeting}");
        until("the other one knows", async || {
            let known = serves.get("/api/v1/meetings/m").await.json::<Value>().await.unwrap();
            (known["sha256"] == meeting["sha256"]).then_some(())
        })
        .await;
        // A copy of the version before lies there.
        assert_eq!(serves.pulled("m").await, (StatusCode::OK, zip.clone()));
        assert_eq!(uploads.pulled("m").await, (StatusCode::OK, zip.clone()));
    }
    assert!(place.blob(&first).exists());
    let (status, _) = both(one.request(Method::DELETE, "/api/v1/meetings/m")).await;
    assert_eq!(status, 200);
    until("its copy goes there, too", async || (!other.copy("m").exists()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_that_were_there_before_are_put_into_the_store_once() {
    let folder = tempfile::tempdir().unwrap();
    let place = SharedPlace::folder(&folder);
    let main = TestMaster::start().await;
    let zip = zip_of(b"old");
    let sha256 = main.meeting("m", &zip).await;
    main.started("m").await;
    main.json("/api/v1/meetings/m").await;
    let token = main.token().await;
    let main = place.master_in(stopped(main).await, None).await;
    until("it is put", async || place.blob(&sha256).exists().then_some(())).await;
    let named = async || {
        let other = place.master_in(state_of(&main).await, None).await;
        (other.pulled("m").await.0 == 200).then_some(())
    };
    until("the row names it", named).await;
    assert_eq!(main.token().await, token, "nothing changed for anybody");

    // Without the option, what is here is served, and what is not is told apart.
    let bare = state_of(&main).await;
    let main = TestMaster::in_folder(stopped(main).await, LONG).await;
    assert_eq!(main.pulled("m").await, (StatusCode::OK, zip));
    assert_eq!(main.problems().await, ["no_nodes"]);
    let lost = TestMaster::in_folder(bare, LONG).await;
    assert_eq!(lost.pulled("m").await.0, 503);
    assert!(lost.problems().await.contains(&"packages_elsewhere".to_owned()));
    // An upload is the way out.
    let newer = zip_of(b"again");
    assert_eq!(lost.upload("m", newer.clone()).await.0, 200);
    assert_eq!(lost.pulled("m").await, (StatusCode::OK, newer));
    assert_eq!(lost.problems().await, ["no_nodes"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_away_what_is_here_is_served_and_uploads_are_refused() {
    let s3 = TestS3::start().await;
    let place = SharedPlace::s3(&s3);
    let main = place.master().await;
    let old = zip_of(b"old");
    main.meeting("here", &old).await;
    main.meeting("there", &zip_of(b"there")).await;
    let copy = state_of(&main).await;
    s3.go_away().await;
    let (status, told) = main.upload("here", zip_of(b"new")).await;
    assert_eq!(status, 503, "{told}");
    assert!(told["detail"].as_str().unwrap().contains("the package store"), "{told}");
    assert_eq!(main.pulled("here").await, (StatusCode::OK, old.clone()));
    assert!(main.problems().await.contains(&"package_store_unavailable".to_owned()));

    // It is no reason not to start.
    let other = place.master_in(copy, None).await;
    let answer = other.get("/api/v1/meetings/there/download-package-direct").await;
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key(header::RETRY_AFTER));
    other.started("there").await;
    until("it is a problem", async || {
        other.problems().await.contains(&"package_not_fetched".to_owned()).then_some(())
    })
    .await;
    s3.come_back().await;
    until("it is pulled", async || other.copy("there").exists().then_some(())).await;
    until("all is well again", async || {
        let problems = [main.problems().await, other.problems().await].concat();
        (!problems.iter().any(|code| code.starts_with("package"))).then_some(())
    })
    .await;
    assert_eq!(main.upload("here", zip_of(b"new")).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_were_damaged_in_the_store_are_never_served_and_an_upload_heals_them() {
    let folder = tempfile::tempdir().unwrap();
    let place = SharedPlace::folder(&folder);
    let main = place.master().await;
    let zip = zip_of(b"good");
    let sha256 = main.meeting("m", &zip).await;
    let mut bad = zip.clone();
    bad[40] ^= 1;
    for damaged in [bad, zip[..20].to_vec()] {
        std::fs::write(place.blob(&sha256), damaged).unwrap();
        let other = place.master_in(state_of(&main).await, None).await;
        assert_eq!(other.pulled("m").await.0, 503);
        assert!(!other.copy("m").exists());
        assert_eq!(other.upload("m", zip.clone()).await.0, 200);
        let third = place.master_in(state_of(&main).await, None).await;
        assert_eq!(third.pulled("m").await, (StatusCode::OK, zip.clone()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sweep_removes_between_the_store_and_the_row_is_put_again() {
    let s3 = TestS3::start().await;
    let place = SharedPlace::s3(&s3);
    let main = place.master().await;
    main.meeting("m", &zip_of(b"one")).await;
    s3.lose_next();
    let (status, meeting) = main.upload("m", zip_of(b"two")).await;
    assert_eq!(status, 200, "{meeting}");
    assert!(place.blob(meeting["sha256"].as_str().unwrap()).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_somebody_else_has_changed_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let place = SharedPlace::folder(&folder);
    let main = place.master().await;
    let zip = zip_of(b"good");
    main.meeting("m", &zip).await;
    // The same bytes in another file are verified again, others are fetched.
    for bytes in [zip.clone(), zip_of(b"another"), b"junk".to_vec()] {
        let other = main.folder.path().join("other");
        std::fs::write(&other, bytes).unwrap();
        std::fs::rename(other, main.copy("m")).unwrap();
        let begun = Instant::now();
        assert_eq!(main.pulled("m").await, (StatusCode::OK, zip.clone()));
        assert!(begun.elapsed() < Duration::from_secs(5), "nobody waits in vain");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_lost_is_put_again_from_a_copy() {
    let folder = tempfile::tempdir().unwrap();
    let place = SharedPlace::folder(&folder);
    let main = place.master().await;
    let sha256 = main.meeting("m", &zip_of(b"good")).await;
    std::fs::remove_file(place.blob(&sha256)).unwrap();
    let main = place.master_in(stopped(main).await, None).await;
    until("it is put again", async || place.blob(&sha256).exists().then_some(())).await;
    drop(main);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_stays_within_its_bound_and_keeps_what_runs() {
    let folder = tempfile::tempdir().unwrap();
    let place = SharedPlace::folder(&folder);
    let mut bytes = vec![0; 400_000];
    let mut zip = |seed| {
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        zip_of(&bytes)
    };
    let main = place.master_in(tempfile::tempdir().unwrap(), Some(1_000_000)).await;
    main.meeting("runs", &zip(1)).await;
    main.started("runs").await;
    let served = zip(2);
    main.meeting("served", &served).await;
    assert_eq!(main.pulled("served").await.0, 200);
    let next = zip(3);
    main.meeting("next", &next).await;
    let until_one_is_here = async || {
        until("there is room", async || {
            let here: Vec<_> =
                ["served", "next"].into_iter().filter(|id| main.copy(id).exists()).collect();
            (here.len() == 1).then_some(())
        })
        .await;
        assert!(main.copy("runs").exists());
    };
    until_one_is_here().await;
    // One of them is fetched again, and the other goes.
    assert_eq!(main.pulled("served").await, (StatusCode::OK, served));
    assert_eq!(main.pulled("next").await, (StatusCode::OK, next));
    until_one_is_here().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_meeting_takes_its_copy_along() {
    let folder = tempfile::tempdir().unwrap();
    let place = SharedPlace::folder(&folder);
    let main = place.master().await;
    let sha256 = main.meeting("m", &zip_of(b"one")).await;
    assert!(main.copy("m").exists());
    let (status, _) = both(main.request(Method::DELETE, "/api/v1/meetings/m")).await;
    assert_eq!(status, 200);
    assert!(!main.copy("m").exists());
    assert!(place.blob(&sha256).exists(), "it goes by the sweep");
}

#[tokio::test]
async fn a_store_that_can_not_be_used_like_this_is_told_at_the_start() {
    let s3 = TestS3::start().await;
    let told = async |url: &str, environment: Vec<(String, String)>| {
        let folder = tempfile::tempdir().unwrap();
        let place = SharedPlace { url: url.to_owned(), environment, blobs: PathBuf::new() };
        let refused = Master::start(place.options(&folder, None)).await;
        refused.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(told("s3://other", s3.environment()).await.contains("does not exist"));
    assert!(told("s3://bucket", Vec::new()).await.contains("AWS_ACCESS_KEY_ID"));
    let mut wrong = s3.environment();
    wrong[1].1.push('x');
    let denied = told("s3://bucket", wrong).await;
    assert!(denied.contains("denies access") && !denied.contains("secret-key"), "{denied}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_sent_at_one_main_server_is_given_to_nodes_by_another() {
    let (folder, s3) = (tempfile::tempdir().unwrap(), TestS3::start().await);
    for place in [SharedPlace::folder(&folder), SharedPlace::s3(&s3)] {
        let first = place.master().await;
        first.taking_files("a").await;
        let (status, mut file) = first.put(b"firmware").await;
        assert_eq!(status, 201, "{file}");
        assert_eq!(
            std::fs::read(place.blob(file["sha256"].as_str().unwrap())).unwrap(),
            b"firmware"
        );
        file["name"] = json!("fw.bin");
        let task = first.created(json!([file]), json!({})).await;
        first.until_ordered("a", 1).await;
        let (shared, alone) = (state_of(&first).await, state_of(&first).await);
        let path = format!("/{}/files/0", task["id"].as_str().unwrap());
        let bundle = format!("/{}/bundle?first=0&count=1", task["id"].as_str().unwrap());
        let second = place.master_in(shared, None).await;
        second.taking_files("a").await;
        let sha256: Sha256 = file["sha256"].as_str().unwrap().parse().unwrap();
        // A pull goes on when whoever asked for it has left.
        let server = &second.master.server;
        assert!(server.blob(sha256, 8).now_or_never().is_none());
        until("the file is here", async || server.store.get(blob_key(sha256))).await;
        assert_eq!(second.as_node("a", &path).await.bytes().await.unwrap(), "firmware");
        assert!(server.store.remove(blob_key(sha256)).is_ok());
        let asking = (0..50).map(|_| second.as_node("a", &bundle));
        for answer in futures_util::future::join_all(asking).await {
            assert_eq!(answer.bytes().await.unwrap(), "firmware");
        }
        // One that knows the task, and has no part in the place.
        let third = TestMaster::in_folder(alone, LONG).await;
        third.taking_files("a").await;
        let answer = third.as_node("a", &path).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["retry-after"]),
            (503, &"5".parse().unwrap())
        );
    }
}
