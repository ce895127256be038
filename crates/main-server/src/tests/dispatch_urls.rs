//! Files that operators name by URL.

use axum::response::Redirect;

use super::*;
use crate::DispatchOptions;

const DISPATCH: &str = "/api/v1/dispatch";

/// A server of files, and another one that nobody allowed.
struct FileServers {
    allowed: SocketAddr,
    secret: SocketAddr,
    _tasks: Tasks,
}

fn serve(router: Router, tasks: &Tasks) -> SocketAddr {
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.address();
    tasks.spawn("files", listener.serve(router, tasks.clone(), CancellationToken::new()));
    address
}

impl FileServers {
    fn start() -> Self {
        let tasks = Tasks::new();
        let secret = serve(Router::new().route("/secret", get(|| async { "secret" })), &tasks);
        let away = format!("http://{secret}/secret");
        let files = Router::new()
            .route("/fw/1.bin", get(|| async { "firmware" }))
            .route("/other", get(|| async { "other" }))
            .route("/fw/moved", get(|| async { Redirect::temporary("/fw/1.bin") }))
            .route("/fw/outside", get(|| async { Redirect::temporary("/other") }))
            .route("/fw/away", get(|| async move { Redirect::temporary(&away) }))
            .route("/fw/loop", get(|| async { Redirect::temporary("/fw/loop") }));
        Self { allowed: serve(files, &tasks), secret, _tasks: tasks }
    }
}

async fn with_urls(urls: &[String]) -> TestMaster {
    let folder = tempfile::tempdir().unwrap();
    let urls = urls.iter().map(|url| url.parse().unwrap()).collect();
    let dispatch = DispatchOptions { urls, ..DispatchOptions::default() };
    let options = MasterOptions { dispatch, ..options(&folder, LONG) };
    let t = TestMaster::with_options(folder, options).await;
    t.taking_files("a").await;
    t
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_allowed_urls_are_sent_and_no_others_are_asked_for() {
    let servers = FileServers::start();
    let (base, secret) = (format!("http://{}/fw", servers.allowed), servers.secret);
    let t = with_urls(std::slice::from_ref(&format!("{base}/"))).await;
    let send = async |file: Value| {
        let task = json!({"files": [file], "to": {"all": true}});
        t.post(DISPATCH, task).await
    };
    for (path, name) in [("1.bin", "1.bin"), ("moved", "moved"), ("1.bin?version=2", "1.bin")] {
        let (status, task) = send(json!({"url": format!("{base}/{path}")})).await;
        assert_eq!(status, 201, "{task}");
        let files = t.json(&format!("{DISPATCH}/{}/files", task["id"].as_str().unwrap())).await;
        assert_eq!(files["files"][0]["name"], name);
        assert_eq!(files["files"][0]["size"], "firmware".len());
    }
    let wrong = Sha256::new([7; 32]);
    for (file, reason) in [
        (json!({"url": format!("http://{secret}/secret")}), "--dispatch-urls"),
        (json!({"url": format!("http://{}/other", servers.allowed)}), "--dispatch-urls"),
        (json!({"url": format!("{base}/outside")}), "--dispatch-urls"),
        (json!({"url": format!("{base}/away")}), "--dispatch-urls"),
        (json!({"url": format!("{base}/../other")}), "--dispatch-urls"),
        (json!({"url": format!("{base}/loop")}), "redirects too often"),
        (json!({"url": format!("{base}/none")}), "404"),
        (json!({"url": "file:///etc/passwd"}), "no http or https URL"),
        (json!({"url": "//x"}), "no http or https URL"),
        (json!({"url": format!("{base}/")}), "file name"),
        (json!({"url": format!("{base}/1.bin"), "path": "x"}), "not both"),
        (json!({"url": format!("{base}/1.bin"), "name": "../x"}), "file name"),
        (json!({"url": format!("{base}/1.bin"), "sha256": wrong}), "SHA-256"),
    ] {
        let (status, answer) = send(file.clone()).await;
        assert_eq!(status, 400, "{file}: {answer}");
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.contains(reason), "{file}: {detail}");
    }
    let (_, task) = send(json!({"url": format!("{base}/1.bin")})).await;
    assert_eq!(t.json(DISPATCH).await["tasks"][0]["id"], task["id"]);
    assert_eq!(t.json(DISPATCH).await["tasks"].as_array().unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_option_no_url_is_asked_for() {
    let servers = FileServers::start();
    let t = with_urls(&[]).await;
    let url = format!("http://{}/fw/1.bin", servers.allowed);
    let task = json!({"files": [{"url": url}], "to": {"all": true}});
    let (status, answer) = t.post(DISPATCH, task).await;
    assert_eq!(status, 400);
    assert!(answer["detail"].as_str().unwrap().contains("--dispatch-urls"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_that_is_too_low_is_refused() {
    let t = with_urls(&[]).await;
    let file = t.put(b"x").await.1;
    let file = json!({"name": "x", "sha256": file["sha256"]});
    let task = json!({"files": [file], "to": {"all": true}, "rate_limit": 1});
    let (status, answer) = t.post(DISPATCH, task).await;
    assert_eq!(status, 400);
    assert!(answer["detail"].as_str().unwrap().contains("rate_limit"), "{answer}");
}
