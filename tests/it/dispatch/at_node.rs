//! Files at a node: their share of the storage, whom they give way to, who may have them.

use super::*;
use crate::support::zips::big_zip;

const CROSS_ORIGIN: &str = "access-control-allow-origin";

#[tokio::test(flavor = "multi_thread")]
async fn a_file_for_operators_stays_out_of_caches_and_from_other_sites() {
    let main = TestMaster::build().start().await;
    let operator = Operator::of(&main);
    let node = node(&main.authority(), "a").await;
    operator.until_known("a").await;
    let file = operator.upload("f", b"bytes").await;
    let secret = operator.send(vec![file.clone()], json!({})).await;
    let open = operator.send(vec![file], json!({"access": "open"})).await;
    for task in [&secret, &open] {
        operator.until_status(task, "completed").await;
    }
    let headers = node.get(&file_path(&open, "f")).await.headers().clone();
    assert_eq!(headers[CROSS_ORIGIN], "*");
    assert_eq!(headers["cache-control"], "no-cache");
    let headers = node.get(&file_path(&secret, "f")).await.headers().clone();
    assert!(!headers.contains_key(CROSS_ORIGIN), "{headers:?}");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["cross-origin-resource-policy"], "same-origin");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_package_goes_for_files_that_do_not_fit_their_share() {
    let main = TestMaster::build().start().await;
    let operator = Operator::of(&main);
    let config = json!({
        "nodeId": "a",
        "storage": {"maxSize": 4_000_000},
        "cleanup": {"enabled": false},
    });
    let package = "storage/meeting_ended/package.zip";
    let builder = TestNode::of(&main.authority()).with(config);
    let node = builder.file(package, &big_zip(1_500_000, 6)).start().await;
    operator.until_known("a").await;
    let package = node.storage().join("meeting_ended/package.zip");
    until("the package is adopted", async || {
        package.with_file_name("manifest.json").exists().then_some(())
    })
    .await;
    let file = operator.upload("large", &noise(2_900_000, 7)).await;
    let task = operator.send(vec![file], json!({"access": "open"})).await;
    let failed = operator.until_status(&task, "failed").await;
    let reason = failed["node_states"][0]["failed"][0]["reason"].to_string();
    assert!(reason.contains("dispatch.maxSize"), "{reason}");
    assert!(package.exists());

    node.configure(json!({"dispatch": {"maxSize": 3_000_000}})).await;
    let (_, again) = operator.call(Method::POST, &format!("{}/retry", path(&task)), None).await;
    operator.until_status(&again, "completed").await;
    assert!(!package.exists(), "what is allowed makes room");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_wait_for_the_schedule() {
    let main = TestMaster::build().start().await;
    let operator = Operator::of(&main);
    let proxy = Proxy::before(main.authority().parse().unwrap(), Way::Cut(usize::MAX));
    let config = json!({"nodeId": "a", "network": {"schedule": ["00:00-24:00 off"]}});
    let node = TestNode::of(&proxy.address().to_string()).with(config).start().await;
    operator.until_known("a").await;
    let file = operator.upload("f", b"bytes").await;
    let first = operator.send(vec![file.clone()], json!({})).await;
    let is_asked = async |asked: String| {
        until(&asked, async || proxy.asked().contains(&asked).then_some(())).await;
    };
    is_asked(format!("get /api/v1/nodes/dispatch/{} ", first["id"].as_str().unwrap())).await;
    // A more urgent one takes its place, and can't come, either.
    let second = operator.send(vec![file], json!({"priority": "urgent"})).await;
    is_asked(format!("get /api/v1/nodes/dispatch/{} ", second["id"].as_str().unwrap())).await;
    assert!(!proxy.asked().contains("/files/0"), "{}", proxy.asked());
    node.configure(json!({"network": {"schedule": []}})).await;
    for task in [&first, &second] {
        operator.until_status(task, "completed").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_file_is_gone_does_not_hold_up_the_next_one() {
    let main = TestMaster::build().start().await;
    let operator = Operator::of(&main);
    let node = node(&main.authority(), "a").await;
    operator.until_known("a").await;
    let node = node.stop().await;
    let lost = operator.upload("lost", b"lost bytes").await;
    let good = operator.upload("good", b"good bytes").await;
    let first = operator.send(vec![lost.clone()], json!({})).await;
    let second = operator.send(vec![good], json!({})).await;
    let sha256 = lost["sha256"].as_str().unwrap();
    let blob = main.data().join(format!("packages/.files/sha256/{}/{sha256}", &sha256[..2]));
    std::fs::remove_file(blob).unwrap();
    let _node = node.start().await;
    operator.until_status(&second, "completed").await;
    assert_eq!(operator.shown(&first).await["status"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_folder_that_was_copied_still_has_its_files() {
    let main = TestMaster::build().start().await;
    let operator = Operator::of(&main);
    let node = node(&main.authority(), "a").await;
    operator.until_known("a").await;
    let file = operator.upload("f", b"bytes").await;
    let task = operator.send(vec![file], json!({})).await;
    operator.until_status(&task, "completed").await;
    let stored = node.storage().join(".files").join(task["id"].as_str().unwrap()).join("f");
    let node = node.stop().await;
    std::fs::copy(&stored, stored.with_file_name("copy")).unwrap();
    std::fs::rename(stored.with_file_name("copy"), &stored).unwrap();
    let node = node.start().await;
    until("the file is served", async || {
        let answer = node.get(&file_path(&task, "f")).await;
        (answer.status() == StatusCode::OK).then_some(())
    })
    .await;
}
