//! Tests of serving readers that are slower than this machine: by `sendfile`, through the
//! listener and over real sockets.

use std::{
    fs::File,
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body, http::Response};
use edge_mirror_base::tasks::Tasks;
use edge_mirror_settings::ServeConfig;
use edge_mirror_store::OpenCopy;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use super::{ActiveDownload, DownloadEnd, Traffic, body::DownloadBody};
use crate::listen::{Handlers, Listener, SendfileState, Transport};

const SIZE: usize = (24 << 20) + 5;
const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n";

struct Scene {
    file: File,
    bytes: Vec<u8>,
    traffic: Arc<Traffic>,
    sendfile_state: Arc<Mutex<Option<SendfileState>>>,
    client: TcpStream,
    tasks: Tasks,
    stop: CancellationToken,
}

impl Scene {
    /// A client that asked this often for a file, which is unlinked.
    async fn begin(times: usize) -> Self {
        let bytes: Vec<u8> = (0..SIZE as u32).map(|i| (i / 7) as u8 ^ (i >> 16) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let opened = Arc::new(OpenCopy::mapped(file.try_clone().unwrap()));
        let (traffic, sendfile_state) = (Arc::<Traffic>::default(), Arc::<Mutex<_>>::default());
        let (counted, seen) = (traffic.clone(), sendfile_state.clone());
        let mut answers = Handlers::from(Router::new());
        answers.fast_path = Some(Arc::new(move |_, _, _, transport| {
            let Transport::Plain(sendfile_state) = transport else { return None };
            *seen.lock().unwrap() = Some(sendfile_state.clone());
            let under_way = ActiveDownload::begin(counted.acquire_unlimited(), SIZE as u64);
            let body = DownloadBody::new(opened.clone(), 0..SIZE as u64, under_way, transport);
            Some(Response::new(Body::new(body)))
        }));
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let (tasks, stop) = (Tasks::new(), CancellationToken::new());
        let mut client = TcpStream::connect(listener.address()).await.unwrap();
        tasks.spawn("listener", listener.serve(answers, tasks.clone(), stop.clone()));
        client.write_all(&ASK.repeat(times)).await.unwrap();
        Self { file, bytes, traffic, sendfile_state, client, tasks, stop }
    }

    fn is_slow_peer(&self) -> bool {
        self.sendfile_state.lock().unwrap().as_ref().is_some_and(SendfileState::is_slow_peer)
    }

    /// Reads slowly until the socket has switched to `sendfile`.
    async fn read_until_slow(&mut self) -> Vec<u8> {
        let mut got = Vec::new();
        while !self.is_slow_peer() {
            assert!(got.len() < SIZE / 2, "it is not taken for slow");
            let mut some = vec![0; 100 << 10];
            let n = self.client.read(&mut some).await.unwrap();
            got.extend_from_slice(&some[..n]);
            tokio::time::sleep(Duration::from_millis(8)).await;
        }
        got
    }

    /// Reads the next answer's body, of which `got` was read before.
    async fn body(&mut self, mut got: Vec<u8>) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let end = |got: &[u8]| got.windows(4).position(|four| four == b"\r\n\r\n");
        loop {
            let head = end(&got[..got.len().min(4096)]).map(|at| at + 4);
            if let Some(head) = head.filter(|head| got.len() >= head + SIZE) {
                let next = got.split_off(head + SIZE);
                return Ok((got.split_off(head), next));
            }
            if self.client.read_buf(&mut got).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

#[tokio::test]
async fn every_byte_arrives_of_this_answer_and_of_the_next_on_the_same_connection() {
    let mut scene = Scene::begin(2).await;
    let got = scene.read_until_slow().await;
    let (first, got) = scene.body(got).await.unwrap();
    assert!(first == scene.bytes);
    let (second, got) = scene.body(got).await.unwrap();
    assert!(second == scene.bytes && got.is_empty());
    assert_eq!(scene.traffic.ended.counter(DownloadEnd::Whole).get(), 2);
}

#[tokio::test]
async fn what_is_under_way_completes_after_a_stop() {
    let mut scene = Scene::begin(1).await;
    let got = scene.read_until_slow().await;
    scene.stop.cancel();
    let (body, _) = scene.body(got).await.unwrap();
    assert!(body == scene.bytes);
    assert_eq!(scene.client.read(&mut [0]).await.unwrap(), 0);
    assert!(scene.tasks.shut_down(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_file_that_is_cut_short_breaks_off_and_never_completes() {
    let mut scene = Scene::begin(1).await;
    let got = scene.read_until_slow().await;
    scene.file.set_len(SIZE as u64 / 2).unwrap();
    assert!(scene.body(got).await.is_err());
    scene.stop.cancel();
    assert!(scene.tasks.shut_down(Duration::from_secs(5)).await);
    assert_eq!(scene.traffic.ended.counter(DownloadEnd::Whole).get(), 0);
}

#[tokio::test]
async fn a_limit_holds_for_them_too() {
    let mut scene = Scene::begin(1).await;
    let got = scene.read_until_slow().await;
    let left = SIZE - got.len();
    let bandwidth = left as u64 / 2;
    let serve = ServeConfig {
        cut_through: true,
        max_downloads: 0,
        max_per_client: 0,
        max_connections_per_client: 0,
        bandwidth,
    };
    scene.traffic.apply(&serve);
    let began = std::time::Instant::now();
    let (body, _) = scene.body(got).await.unwrap();
    assert!(body == scene.bytes);
    // Data that the socket already had is not held back.
    assert!(began.elapsed() > Duration::from_millis(1200), "{:?}", began.elapsed());
}
