//! Real main servers whose packages are in a real S3 server.

use edge_mirror_main_server::{MasterOptions, PackageStoreOptions, S3Environment};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    TestNode, client,
    process::{Process, binary},
    s3::{SECRET, TestS3},
    until, zip_of,
    zips::big_zip,
};

struct SharedMaster {
    process: Process,
    url: String,
}

impl SharedMaster {
    async fn start(s3: &TestS3, data: &std::path::Path) -> Self {
        let mut command = binary();
        command.args(["master", "--host", "127.0.0.1", "--port", "0", "--nodes", "open"]);
        command.args(["--packages", "s3://bucket/main", "--data"]).arg(data);
        command.envs(s3.environment());
        let mut process = Process::spawn(command);
        let url = format!("http://{}", process.until_listening().await);
        Self { process, url }
    }

    fn at(&self, path: &str) -> String {
        format!("{}/api/v1/meetings{path}", self.url)
    }

    async fn create(&self, id: &str) {
        let body = json!({"id": id, "title": "Board"});
        let answer = client().post(self.at("")).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
    }

    async fn begin(&self, id: &str) {
        let answer = client().post(self.at(&format!("/{id}/start"))).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }

    fn upload(
        &self,
        id: &str,
        zip: &[u8],
    ) -> impl Future<Output = reqwest::Result<StatusCode>> + use<> {
        let request = client().put(self.at(&format!("/{id}/package"))).body(zip.to_vec());
        async { Ok(request.send().await?.status()) }
    }

    async fn download(&self, id: &str) -> Option<Vec<u8>> {
        let url = self.at(&format!("/{id}/download-package-direct"));
        let answer = client().get(url).send().await.unwrap();
        let is_there = answer.status() == StatusCode::OK;
        let bytes = answer.bytes().await.unwrap().to_vec();
        is_there.then_some(bytes)
    }
}

fn objects(s3: &TestS3) -> usize {
    let folder = s3.bucket().join("main/sha256");
    let folders = std::fs::read_dir(folder).into_iter().flatten().flatten();
    folders.map(|folder| std::fs::read_dir(folder.path()).unwrap().count()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_the_store_and_the_row_leaves_the_old_package() {
    let (s3, data) = (TestS3::start().await, tempfile::tempdir().unwrap());
    let mut main = SharedMaster::start(&s3, data.path()).await;
    let (old, new) = (big_zip(12_000_000, 1), big_zip(12_000_000, 2));
    main.create("m").await;
    assert_eq!(main.upload("m", &old).await.unwrap(), StatusCode::OK);
    main.begin("m").await;
    let view = client().get(main.at("/m")).send().await.unwrap().json::<Value>().await.unwrap();

    s3.hold_ends();
    let upload = tokio::spawn(main.upload("m", &new));
    until("all of it is in the store", async || (objects(&s3) == 2).then_some(())).await;
    main.process.kill();
    assert!(upload.await.unwrap().is_err());
    let log = main.process.errors.get();
    assert!(!log.contains(SECRET) && log.contains("s3://bucket/main"), "{log}");

    // Here, and where nothing but the row is left.
    let again = SharedMaster::start(&s3, data.path()).await;
    assert_eq!(
        client().get(again.at("/m")).send().await.unwrap().json::<Value>().await.unwrap(),
        view
    );
    assert!(again.download("m").await.unwrap() == old);
    drop(again);
    std::fs::remove_dir_all(data.path().join("packages")).unwrap();
    let bare = SharedMaster::start(&s3, data.path()).await;
    assert!(bare.download("m").await.unwrap() == old);
}

#[tokio::test(flavor = "multi_thread")]
async fn whenever_it_is_killed_what_was_acknowledged_is_served_and_nothing_half() {
    let (s3, data) = (TestS3::start().await, tempfile::tempdir().unwrap());
    let mut random = fastrand::Rng::with_seed(16);
    let mut main = SharedMaster::start(&s3, data.path()).await;
    main.create("m").await;
    let mut kept = big_zip(9_000_000, 0);
    let begun = Instant::now();
    assert_eq!(main.upload("m", &kept).await.unwrap(), StatusCode::OK);
    let whole = begun.elapsed();
    let mut replaced = 0;
    for round in 1..=10 {
        let newer = big_zip(9_000_000, round);
        let upload = tokio::spawn(main.upload("m", &newer));
        tokio::time::sleep(whole.mul_f64(1.3 * random.f64())).await;
        main.process.kill();
        let is_acknowledged = matches!(upload.await.unwrap(), Ok(StatusCode::OK));
        // Half of the time nothing but the state and the store is left.
        if random.bool() {
            std::fs::remove_dir_all(data.path().join("packages")).unwrap();
        }
        main = SharedMaster::start(&s3, data.path()).await;
        let served = main.download("m").await.expect("it has a package");
        assert!(served == newer || (served == kept && !is_acknowledged), "round {round}");
        replaced += usize::from(served == newer);
        kept = served;
    }
    assert!(replaced < 10, "kills came too late");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_get_a_package_that_the_main_server_has_to_fetch_first() {
    let (s3, data) = (TestS3::start().await, tempfile::tempdir().unwrap());
    let main = SharedMaster::start(&s3, data.path()).await;
    let zip = big_zip(3_000_000, 1);
    main.create("m").await;
    assert_eq!(main.upload("m", &zip).await.unwrap(), StatusCode::OK);
    drop(main);
    std::fs::remove_dir_all(data.path().join("packages")).unwrap();
    let main = SharedMaster::start(&s3, data.path()).await;
    let node = TestNode::of(main.url.trim_start_matches("http://")).start().await;
    main.begin("m").await;
    node.until_synced("m").await;
    assert!(node.download("m").await.1 == zip);
    let gets = s3.gets().iter().filter(|path| path.contains("sha256")).count();
    assert_eq!(gets, 1);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_server_that_stops_does_not_wait_for_the_store() {
    let (s3, data) = (TestS3::start().await, tempfile::tempdir().unwrap());
    let options = || MasterOptions {
        data: data.path().to_owned(),
        listen: ([127, 0, 0, 1], 0).into(),
        packages: Some(PackageStoreOptions {
            location: "s3://bucket/main".parse().unwrap(),
            environment: S3Environment::new(s3.environment()),
            cache_bytes: None,
        }),
        ..MasterOptions::default()
    };
    let master = edge_mirror_main_server::Master::start(options()).await.unwrap();
    let url = format!("http://{}/api/v1/meetings", master.address());
    let body = json!({"id": "m", "title": "Board"});
    client().post(&url).json(&body).send().await.unwrap();
    s3.hold_ends();
    let package = client().put(format!("{url}/m/package")).body(zip_of("papers"));
    let upload = tokio::spawn(package.send());
    until("it is in the store", async || (objects(&s3) == 1).then_some(())).await;
    assert!(master.shut_down(std::time::Duration::from_secs(10)).await, "nothing was cut off");
    assert_eq!(upload.await.unwrap().unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
}
