//! Commands that name a meeting, whatever its id is.

use crate::support::{TestMaster, TestNode, zip_of};

use super::run;

#[tokio::test(flavor = "multi_thread")]
async fn a_meeting_of_any_id_is_published_synced_verified_and_got() {
    let main = TestMaster::build().start().await;
    let node = TestNode::of(&main.authority()).start().await;
    let folder = tempfile::tempdir().unwrap();
    let text = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (zip, got, package) = (text("in.zip"), text("out.zip"), zip_of("papers"));
    std::fs::write(&zip, &package).unwrap();
    for id in ["会议 1", "50%25#?"] {
        let publish = ["publish", &zip, "--title", "T", "--id", id, "--master", &main.url("")];
        let published = run(publish).await;
        assert_eq!(published.code, Some(0));
        let url = main.meeting_url(id, "/download-package");
        assert!(published.output.contains(&url), "{url}");
        main.until_held_by(id, &["node-test"]).await;
        assert_eq!(run(["sync", id, "--node", &node.url("")]).await.code, Some(0));
        assert_eq!(run(["verify", "--node", &node.url("")]).await.code, Some(0));
        assert_eq!(run(["get", &url, "-o", &got]).await.code, Some(0));
        assert!(std::fs::read(&got).unwrap() == package);
    }
    node.shut_down().await;
}
