//! The same package by BitTorrent: aria2c on the same machines, with the same uplinks.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

use super::{
    cases::Case,
    network::{BENCH, Host},
    sandbox::{self, run},
};
use crate::support::{Server, Stage};

const PEER_PORT: u16 = 6881;
const TRACKER_PORT: u16 = 6969;
/// 2^20 bytes in each piece, as our own digests have it.
const PIECE_LENGTH: &str = "20";
const PACKAGE: &str = "package.zip";
/// aria2c runs a program with three arguments when it has verified everything. This one
/// makes a file of each, in its folder; the second is always the number of files.
const AT_END: &str = "/usr/bin/touch";
const FINISHED: &str = "1";
const LOOK: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns the seconds until the last one has it, and the bytes that the first one sent.
pub(crate) fn run_once(stage: &Stage, case: &Case, package: &[u8]) -> Result<(f64, u64)> {
    let folder = match sandbox::memory(case.size * (case.nodes as u64 + 2))? {
        Some(folder) => folder,
        None => stage.make_new("swarm")?,
    };
    let tracker = Tracker::start()?;
    let seed = folder.join("seed");
    fs::create_dir(&seed)?;
    fs::write(seed.join(PACKAGE), package)?;
    let torrent = folder.join("torrent");
    let announce = format!("http://{BENCH}:{TRACKER_PORT}/announce");
    let (path, target) = (seed.join(PACKAGE), torrent.to_string_lossy());
    let options = ["-a", &announce, "-l", PIECE_LENGTH, "-o", &target];
    run("mktorrent", &[&options[..], &[&*path.to_string_lossy()]].concat())?;

    let hosts = (0..=case.nodes)
        .map(|number| Host::new(number, if number == 0 { case.cap } else { case.uplink }))
        .collect::<Result<Vec<_>>>()?;
    let (first, others) = hosts.split_first().expect("one of them has it");
    let mut seeder = Peer::start(stage, first, seed, &torrent)?;
    seeder.server.until("the tracker knows it", |_| Ok(tracker.peers() == 1))?;
    let before = first.sent_bytes()?;
    let begin = Instant::now();
    let folders = (1..=case.nodes).map(|number| folder.join(format!("peer{number}")));
    let peers = others.iter().zip(folders).map(|(host, folder)| {
        fs::create_dir(&folder)?;
        Peer::start(stage, host, folder, &torrent)
    });
    let mut peers = peers.collect::<Result<Vec<_>>>()?;
    let patience = Duration::from_secs_f64(case.copy_s() * case.nodes as f64) + PATIENCE;
    while !peers.iter().all(Peer::is_finished) {
        if begin.elapsed() > patience {
            let late = peers.iter().find(|peer| !peer.is_finished());
            bail!(
                "waited in vain: {}",
                late.map_or_else(String::new, |peer| peer.server.log_tail())
            );
        }
        std::thread::sleep(LOOK);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let sent = first.sent_bytes()? - before;
    peers.iter_mut().chain([&mut seeder]).for_each(|peer| peer.server.kill());
    let all_same = peers.iter().all(|peer| peer.has(package));
    fs::remove_dir_all(&folder)?;
    if !all_same {
        bail!("a peer has something else");
    }
    Ok((seconds, sent))
}

struct Peer {
    server: Server,
    folder: PathBuf,
}

impl Peer {
    fn start(stage: &Stage, host: &Host, folder: PathBuf, torrent: &Path) -> Result<Self> {
        let mut command: Command = host.command("aria2c");
        command.current_dir(&folder);
        command.args(["--enable-dht=false", "--bt-enable-lpd=false", "--disable-ipv6=true"]);
        // Those who have it stay, and what the first one has is trusted.
        command.args(["--seed-ratio=0.0", "--bt-seed-unverified=true"]);
        command.args(["--file-allocation=none", "--summary-interval=0", "--allow-overwrite=true"]);
        command.arg(format!("--listen-port={PEER_PORT}"));
        command.arg(format!("--on-bt-download-complete={AT_END}"));
        command.arg(torrent);
        let log = folder.join("log");
        let server = Server::spawn(stage, "aria2c", host.at(PEER_PORT), log, command)?;
        Ok(Self { server, folder })
    }

    fn is_finished(&self) -> bool {
        self.folder.join(FINISHED).exists()
    }

    fn has(&self, package: &[u8]) -> bool {
        fs::read(self.folder.join(PACKAGE)).is_ok_and(|found| found == package)
    }
}

/// Names everybody who asked to everybody who asks: a tracker of one torrent.
struct Tracker {
    peers: Peers,
    /// Serves while it is there.
    _runtime: Runtime,
}

type Peers = Arc<Mutex<BTreeSet<Ipv4Addr>>>;

impl Tracker {
    fn start() -> Result<Self> {
        let (peers, runtime) = (Peers::default(), Runtime::new()?);
        let listener = runtime.block_on(TcpListener::bind((BENCH, TRACKER_PORT)))?;
        runtime.spawn(serve(listener, peers.clone()));
        Ok(Self { peers, _runtime: runtime })
    }

    fn peers(&self) -> usize {
        self.peers.lock().expect("nobody panics with it").len()
    }
}

async fn serve(listener: TcpListener, peers: Peers) {
    while let Ok((stream, from)) = listener.accept().await {
        if let IpAddr::V4(address) = from.ip() {
            let answer = answer(&peers, address);
            // Who hangs up asks again.
            tokio::spawn(async move { announce(stream, &answer).await.ok() });
        }
    }
}

/// Returns it in bencode, with addresses in the compact form (BEP 3, BEP 23).
fn answer(peers: &Peers, from: Ipv4Addr) -> Vec<u8> {
    let mut peers = peers.lock().expect("nobody panics with it");
    peers.insert(from);
    let port = PEER_PORT.to_be_bytes();
    let compact: Vec<u8> =
        peers.iter().flat_map(|peer| [&peer.octets()[..], &port].concat()).collect();
    let head = format!("d8:intervali5e5:peers{}:", compact.len());
    [head.as_bytes(), &compact, b"e"].concat()
}

async fn announce(stream: TcpStream, answer: &[u8]) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 && line != "\r\n" {
        line.clear();
    }
    let head =
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", answer.len());
    stream.write_all(head.as_bytes()).await?;
    Ok(stream.write_all(answer).await?)
}
