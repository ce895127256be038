//! How long after the main server wrote a byte a waiting client has it: while
//! the pull goes on (`serve.cutThrough`), and waiting for the whole.
//!
//! `cargo bench --bench cut_through` prints a table. A main server, a node and
//! its clients share this process, so the figures include the kernel's and the
//! scheduler's part twice, but no network's.

#![allow(clippy::disallowed_methods, reason = "a bench is no part of the product")]

use std::{
    io::{Cursor, Write},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use edge_mirror::{
    config::Settings,
    node::{Node, NodeOptions},
    store::growing::HELD_BACK_BYTES,
    telemetry::Journal,
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
};

const PACKAGE_BYTES: usize = 1 << 20;
/// What the main server writes at a time, and how often: 3 MB/s, so that a
/// hundred clients in this process can keep up.
const PIECE_BYTES: usize = 16 << 10;
const PIECE_EVERY: Duration = Duration::from_millis(5);
/// For all clients to have asked.
const SETTLE: Duration = Duration::from_millis(200);

/// When the main server wrote each piece of the package under way.
#[derive(Default)]
struct Stage {
    package: Vec<u8>,
    go: Notify,
    written: Mutex<Vec<Instant>>,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stage = Arc::new(Stage { package: package(), ..Stage::default() });
        let main = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = main.local_addr().unwrap();
        tokio::spawn(serve(main, stage.clone()));
        println!("| clients | mode | first byte, median | p99 | every piece, median | p99 |");
        println!("|---|---|---|---|---|---|");
        for (readers, rounds) in [(1, 100), (100, 10)] {
            for cut_through in [true, false] {
                measure(&stage, address, cut_through, readers, rounds).await;
            }
        }
    });
}

async fn measure(
    stage: &Arc<Stage>,
    main: SocketAddr,
    cut_through: bool,
    readers: usize,
    rounds: usize,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node_config.json");
    let config = json!({
        "mainServerIp": "127.0.0.1",
        "mainServerPort": main.port(),
        "syncInterval": 3600,
        "logging": {"fileEnabled": false},
        "serve": {"cutThrough": cut_through},
    });
    std::fs::write(&path, config.to_string()).unwrap();
    let settings = Arc::new(Settings::load_or_create(&path).unwrap());
    let options = NodeOptions {
        host: Ipv4Addr::LOCALHOST.into(),
        port: Some(0),
        journal: Journal::default(),
    };
    let node = Node::start(settings, options).await.unwrap();
    let (mut first, mut every) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let id = next_id();
        let mut clients = JoinSet::new();
        for _ in 0..readers {
            clients.spawn(download(node.address(), id.clone(), stage.package.len()));
        }
        tokio::time::sleep(SETTLE).await;
        stage.written.lock().unwrap().clear();
        stage.go.notify_one();
        let arrivals = clients.join_all().await;
        let written = stage.written.lock().unwrap().clone();
        for arrived in arrivals {
            let after = |(arrived, written): (&Instant, &Instant)| *arrived - *written;
            first.push(after((&arrived[0], &written[0])));
            // The last ones wait for the verification.
            let early = (stage.package.len() - HELD_BACK_BYTES as usize) / PIECE_BYTES;
            every.extend(arrived[..early].iter().zip(&written).map(after));
        }
    }
    node.shut_down().await;
    let mode = if cut_through { "cut-through" } else { "whole" };
    let [first_median, first_p99] = quantiles(first);
    let [every_median, every_p99] = quantiles(every);
    println!(
        "| {readers} | {mode} | {first_median} | {first_p99} | {every_median} | {every_p99} |"
    );
}

/// When the first byte of each piece was there.
async fn download(node: SocketAddr, id: String, size: usize) -> Vec<Instant> {
    let mut stream = TcpStream::connect(node).await.unwrap();
    let request = format!(
        "GET /api/v1/meetings/{id}/download-package HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut stream = BufReader::with_capacity(64 << 10, stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert!(stream.read_line(&mut line).await.unwrap() > 0, "an answer");
    }
    let (mut arrived, mut got) = (Vec::new(), 0);
    loop {
        let chunk = stream.fill_buf().await.unwrap().len();
        let now = Instant::now();
        if chunk == 0 {
            break;
        }
        got += chunk;
        while arrived.len() * PIECE_BYTES < got {
            arrived.push(now);
        }
        stream.consume(chunk);
    }
    assert_eq!(got, size);
    arrived
}

async fn serve(listener: TcpListener, stage: Arc<Stage>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::spawn(answer(stream, stage.clone()));
    }
}

/// One request to a connection: all that a node asks.
async fn answer(stream: TcpStream, stage: Arc<Stage>) {
    let mut stream = BufReader::new(stream);
    let (mut asked, mut line, mut length) = (String::new(), String::new(), 0);
    stream.read_line(&mut asked).await.unwrap();
    while line != "\r\n" {
        line.clear();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    stream.read_exact(&mut vec![0; length]).await.unwrap();
    let head = |kind: &str, length: usize| {
        format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let mut stream = stream.into_inner();
    if !asked.contains("download-package-direct") {
        let body = match asked.contains("/active/meetings") {
            true => "[]",
            false => r#"{"status":"success","id":"1","active_meetings":[],"timestamp":1.5}"#,
        };
        let answer = head("application/json", body.len()) + body;
        return stream.write_all(answer.as_bytes()).await.unwrap();
    }
    let answer = head("application/zip", stage.package.len());
    stream.write_all(answer.as_bytes()).await.unwrap();
    stage.go.notified().await;
    let mut ticks = tokio::time::interval(PIECE_EVERY);
    for piece in stage.package.chunks(PIECE_BYTES) {
        ticks.tick().await;
        stage.written.lock().unwrap().push(Instant::now());
        stream.write_all(piece).await.unwrap();
    }
}

fn next_id() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("m{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn package() -> Vec<u8> {
    let mut content = vec![0; PACKAGE_BYTES];
    fastrand::Rng::with_seed(1).fill(&mut content);
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("papers.bin", stored).unwrap();
    zip.write_all(&content).unwrap();
    zip.finish().unwrap().into_inner()
}

/// Median and 99th percentile, in milliseconds.
fn quantiles(mut delays: Vec<Duration>) -> [String; 2] {
    delays.sort();
    [0.5, 0.99].map(|share| {
        let at = ((delays.len() - 1) as f64 * share).round() as usize;
        format!("{:.2} ms", delays[at].as_secs_f64() * 1000.0)
    })
}
