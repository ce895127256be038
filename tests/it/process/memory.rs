//! Large packages and little memory.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use reqwest::header;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use crate::support::{
    client,
    process::{MemoryPeak, NodeFolder, Process, binary},
};

const MEGABYTE: usize = 1 << 20;
const PACKAGE_MEGABYTES: usize = 300;
const NODE_LIMIT_MIB: f64 = 48.0;
const MAIN_SERVER_LIMIT_MIB: f64 = 64.0;

/// Random bytes, stored: nothing can make them fewer on the way.
fn write_package(path: &Path) {
    let mut random = fastrand::Rng::with_seed(300);
    let mut zip = ZipWriter::new(BufWriter::new(File::create(path).unwrap()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut megabyte = vec![0; MEGABYTE];
    for number in 0..PACKAGE_MEGABYTES {
        if number % 50 == 0 {
            zip.start_file(format!("paper-{number}.bin"), stored).unwrap();
        }
        random.fill(&mut megabyte);
        zip.write_all(&megabyte).unwrap();
    }
    zip.finish().unwrap().into_inner().unwrap();
}

/// Downloads without keeping it; panics at the first byte that differs.
async fn download_equals(url: String, path: &Path) {
    let mut expected = tokio::fs::File::open(path).await.unwrap();
    let mut download = client().get(url).send().await.unwrap();
    assert!(download.status().is_success());
    let (mut there, mut at) = (Vec::new(), 0);
    while let Some(chunk) = download.chunk().await.unwrap() {
        there.resize(chunk.len(), 0);
        expected.read_exact(&mut there).await.unwrap();
        assert!(chunk[..] == there[..], "differs after byte {at}");
        at += chunk.len();
    }
    assert_eq!(at as u64, expected.metadata().await.unwrap().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_of_300_megabytes_passes_through_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("package.zip");
    let written = package.clone();
    tokio::task::spawn_blocking(move || write_package(&written)).await.unwrap();

    let mut command = binary();
    command.args(["master", "--host", "127.0.0.1", "--port", "0", "--data"]);
    command.arg(folder.path().join("main-server"));
    let mut master = Process::spawn(command);
    let master_memory = MemoryPeak::watch(master.id());
    let main_server = master.until_listening().await;
    let node_folder = NodeFolder::of(&main_server.to_string());
    let node = node_folder.start().await;
    let node_memory = MemoryPeak::watch(node.process.id());

    let meetings = format!("http://{main_server}/api/v1/meetings");
    let meeting = format!("{meetings}/large");
    let made = json!({"id": "large", "title": "Board"});
    let file = tokio::fs::File::open(&package).await.unwrap();
    let length = file.metadata().await.unwrap().len();
    let body = reqwest::Body::wrap_stream(ReaderStream::new(file));
    for request in [
        client().post(&meetings).json(&made),
        client()
            .put(format!("{meeting}/package"))
            .header(header::CONTENT_LENGTH, length)
            .body(body),
        client().post(format!("{meeting}/start")),
    ] {
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{:?}", answer.text().await);
    }
    let shown: Value = client().get(&meeting).send().await.unwrap().json().await.unwrap();
    assert_eq!(shown["size"], length);

    let synced = node.until_synced("large").await;
    assert_eq!((&synced["size"], &synced["sha256"]), (&shown["size"], &shown["sha256"]));
    let after_sync = node_memory.mebibytes();
    let downloads = (0..4).map(|_| download_equals(node.package_url("large"), &package));
    futures_util::future::join_all(downloads).await;

    let (node_peak, master_peak) = (node_memory.mebibytes(), master_memory.mebibytes());
    println!("node: {after_sync} MiB by the sync, {node_peak} in all; main server: {master_peak}");
    assert!(node_peak < NODE_LIMIT_MIB, "{node_peak} MiB, {after_sync} after the sync");
    assert!(master_peak < MAIN_SERVER_LIMIT_MIB, "{master_peak} MiB");
}
