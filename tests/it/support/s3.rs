//! An S3 server on loopback, with a folder behind it. It can go away and come back, and
//! notes what it must never be asked. The main server's own tests use it, too.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use edge_mirror_base::tasks::Tasks;
use edge_mirror_http::listen::Listener;
use s3s::{
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use s3s_fs::FileSystem;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub(crate) const BUCKET: &str = "bucket";
const KEY: &str = "AKIDTEST";
pub(crate) const SECRET: &str = "a-very-secret-key";

pub(crate) struct TestS3 {
    folder: tempfile::TempDir,
    address: SocketAddr,
    gates: Arc<Gates>,
    running: Mutex<Option<(Tasks, CancellationToken)>>,
}

/// How it behaves, and what it has seen.
#[derive(Default)]
struct Gates {
    folder: PathBuf,
    /// Uploads are kept, and never answered.
    holds_ends: AtomicBool,
    /// The next upload is gone as soon as it is answered.
    loses_next: AtomicBool,
    /// Every answer is an error of the server.
    fails: AtomicBool,
    conditions: Mutex<Vec<String>>,
    gets: Mutex<Vec<String>>,
}

impl TestS3 {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.address();
        let gates = Gates { folder: folder.path().to_owned(), ..Gates::default() };
        let this = Self { folder, address, gates: Arc::new(gates), running: Mutex::default() };
        this.serve(listener);
        this
    }

    fn serve(&self, listener: Listener) {
        let mut service = S3ServiceBuilder::new(FileSystem::new(self.folder.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let (service, gates) = (service.build(), self.gates.clone());
        let router =
            Router::new().fallback(move |request| answer(service.clone(), gates.clone(), request));
        let (tasks, stop) = (Tasks::new(), CancellationToken::new());
        tasks.spawn("s3", listener.serve(router, tasks.clone(), stop.clone()));
        *self.running.lock().unwrap() = Some((tasks, stop));
    }

    /// Refuses connections from now on.
    pub(crate) async fn go_away(&self) {
        let (tasks, stop) = self.running.lock().unwrap().take().unwrap();
        stop.cancel();
        tasks.shut_down(Duration::ZERO).await;
    }

    pub(crate) async fn come_back(&self) {
        // The old connections may hold the port for a moment.
        for _ in 0..1000 {
            if let Ok(listener) = Listener::bind(self.address) {
                return self.serve(listener);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the port is taken");
    }

    /// Each upload gets whole, and who sent it never learns of it.
    pub(crate) fn hold_ends(&self) {
        self.gates.holds_ends.store(true, Ordering::Relaxed);
    }

    /// As if a sweep that had looked before removed the next upload.
    pub(crate) fn lose_next(&self) {
        self.gates.loses_next.store(true, Ordering::Relaxed);
    }

    pub(crate) fn fail(&self, fails: bool) {
        self.gates.fails.store(fails, Ordering::Relaxed);
    }

    /// Conditional headers that it was sent.
    pub(crate) fn conditions(&self) -> Vec<String> {
        self.gates.conditions.lock().unwrap().clone()
    }

    /// Paths of the objects that were read.
    pub(crate) fn gets(&self) -> Vec<String> {
        self.gates.gets.lock().unwrap().clone()
    }

    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://{}", self.address);
        let variables = [
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_ENDPOINT_URL", &endpoint),
            ("AWS_ALLOW_HTTP", "true"),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// The folder of the bucket.
    pub(crate) fn bucket(&self) -> PathBuf {
        self.folder.path().join(BUCKET)
    }
}

async fn answer(service: S3Service, gates: Arc<Gates>, request: Request) -> Response {
    let conditions = request.headers().keys().filter(|name| name.as_str().starts_with("if-"));
    gates.conditions.lock().unwrap().extend(conditions.map(ToString::to_string));
    let query = request.uri().query().unwrap_or_default();
    let is_end = request.method() == Method::POST && query.contains("uploadId");
    if request.method() == Method::GET && query.is_empty() {
        gates.gets.lock().unwrap().push(request.uri().path().to_owned());
    }
    if gates.fails.load(Ordering::Relaxed) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let path = gates.folder.join(request.uri().path().trim_start_matches('/'));
    let answer = service.oneshot(request).await.unwrap();
    if is_end && gates.loses_next.swap(false, Ordering::Relaxed) {
        std::fs::remove_file(path).unwrap();
    }
    if is_end && gates.holds_ends.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
    answer.map(Body::new)
}
