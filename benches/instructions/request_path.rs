//! What `tests/instructions` counts the instructions of: a node that answers
//! one client, `request_path FOLDER KIND REQUESTS`. Nothing but the path of a request
//! is there: no worker runs, and nobody is called.
//!
//! The client is the first thread, whose instructions don't count. It acts only
//! when the node has nothing left to do, and the node goes on when the client
//! has let go: how much a read finds, and how often the node is woken, would
//! depend on who is quicker, else.

#![allow(clippy::disallowed_methods, reason = "a bench is no part of the product")]

use std::{
    env,
    io::{self, Cursor, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use edge_mirror_base::{log::Journal, tasks::Tasks};
use edge_mirror_http::{
    access::{AccessControl, Vault},
    listen::Listener,
};
use edge_mirror_node::{
    api::{AppState, ListenOptions, RelayTraffic},
    board::StatusBoard,
    casts::CastSender,
    fetch::Fetch,
};
use edge_mirror_protocol::package::{
    PackageId, PackageRoute, PackageSource, Validators, VerifyLevel,
};
use edge_mirror_settings::Settings;
use edge_mirror_store::{Provenance, Store};
use serde_json::json;
use socket2::{Domain, Socket, Type};
use tokio::runtime;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// What an archive of one entry `a.pdf` has besides its content.
const ARCHIVE_BYTES: usize = 108;
/// Left alone it grows, by the kernel's idea of how fast the client is.
const RECEIVE_BUFFER_BYTES: usize = 128 << 10;
/// A node that has not come to rest for so long has been at rest all the time:
/// its last bytes were still on their way in the kernel in the client's turn.
const AT_REST: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(10);

struct Kind {
    name: &'static str,
    package_bytes: usize,
    range: Option<(usize, usize)>,
    /// For each request.
    connect: bool,
}

const KINDS: [Kind; 3] = [
    Kind { name: "keep-alive", package_bytes: 1000, range: None, connect: false },
    Kind { name: "connection", package_bytes: 1000, range: None, connect: true },
    Kind {
        name: "range",
        package_bytes: 2_000_000,
        range: Some((500_000, 1_499_999)),
        connect: false,
    },
];

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, name, requests] = &arguments[..] else {
        bail!("tests/instructions runs this, as request_path FOLDER KIND REQUESTS");
    };
    let kind = KINDS.iter().find(|kind| kind.name == name).context("no such kind")?;
    let requests: u64 = requests.parse()?;
    let (turns, rest) = UnixStream::pair()?;
    let (tell, told) = mpsc::channel();
    let tasks = Tasks::new();
    let node = {
        let (folder, tasks) = (PathBuf::from(folder), tasks.clone());
        thread::spawn(move || serve(&folder, kind.package_bytes, rest, &tasks, &tell))
    };
    let asked = told.recv().map_err(anyhow::Error::from).and_then(|address| {
        turns.set_read_timeout(Some(AT_REST))?;
        let answer = vec![0; 2 * kind.package_bytes + 4096];
        let mut client = Client { address, turns, has_turn: false, answer };
        client.pass()?;
        client.ask(kind, requests)
    });
    tasks.token().cancel();
    node.join().map_err(|_| anyhow!("the node panicked"))??;
    asked
}

struct Client {
    address: SocketAddr,
    /// A byte from the node is the client's turn, a byte back the node's.
    turns: UnixStream,
    has_turn: bool,
    answer: Vec<u8>,
}

impl Client {
    fn ask(&mut self, kind: &Kind, requests: u64) -> Result<()> {
        let range = kind.range.map(|(first, last)| format!("range: bytes={first}-{last}\r\n"));
        let (status, length) = match kind.range {
            Some((first, last)) => (206, last + 1 - first),
            None => (200, kind.package_bytes),
        };
        let request = format!(
            "GET /api/v1/meetings/m/download-package HTTP/1.1\r\nhost: {}\r\n{}\r\n",
            self.address,
            range.unwrap_or_default()
        );
        let mut stream = self.connect()?;
        for at in 0..requests {
            if kind.connect && at > 0 {
                drop(stream);
                self.pass()?;
                stream = self.connect()?;
            }
            stream.write_all(request.as_bytes())?;
            let mut got = 0;
            while !is_whole(&self.answer[..got], status, length)? {
                self.pass()?;
                got = self.take_in(&mut stream, got)?;
            }
        }
        Ok(())
    }

    /// Lets the node go on, until it has nothing left to do.
    fn pass(&mut self) -> Result<()> {
        if self.has_turn {
            self.turns.write_all(&[0])?;
        }
        self.has_turn = match self.turns.read(&mut [0]) {
            Ok(0) => bail!("the node has ended"),
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => return Err(error.into()),
        };
        Ok(())
    }

    /// A connection that the node has accepted.
    fn connect(&mut self) -> Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        socket.connect(&self.address.into())?;
        socket.set_nonblocking(true)?;
        self.pass()?;
        Ok(socket.into())
    }

    /// Reads what is there, behind what was read before.
    fn take_in(&mut self, stream: &mut TcpStream, mut got: usize) -> Result<usize> {
        loop {
            match stream.read(&mut self.answer[got..]) {
                Ok(0) => bail!("the connection ended after {got} bytes"),
                Ok(more) => got += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(got),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn is_whole(answer: &[u8], status: u16, length: usize) -> Result<bool> {
    let Some(head) = answer.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(false) };
    let right = answer.starts_with(format!("HTTP/1.1 {status} ").as_bytes());
    ensure!(right, "{}", String::from_utf8_lossy(&answer[..head]));
    Ok(answer.len() >= head + 4 + length)
}

/// A node of one package `m`, until `tasks` end.
fn serve(
    folder: &Path,
    bytes: usize,
    rest: UnixStream,
    tasks: &Tasks,
    tell: &mpsc::Sender<SocketAddr>,
) -> Result<()> {
    let config = folder.join("node_config.json");
    let text = json!({
        // Nobody asks there: a node's workers would, and what is not here.
        "mainServerIp": "127.0.0.1",
        "mainServerPort": 9,
        "nodeId": "counted",
        "logging": {"fileEnabled": false},
    });
    std::fs::write(&config, text.to_string())?;
    let settings = Arc::new(Settings::load_or_create(&config)?);
    let (store, _) = Store::open(&settings.current().storage_path())?;
    put(&store, bytes)?;
    let let_the_client = move || {
        // It has gone, at the end.
        let _ = (&rest).write_all(&[0]).and_then(|()| (&rest).read(&mut [0]));
    };
    let mut runtime = runtime::Builder::new_current_thread();
    runtime.enable_all().on_thread_park(let_the_client).build()?.block_on(async {
        let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        tell.send(listener.address())?;
        let board = Arc::new(StatusBoard::new(store, listener.address().port()));
        let connections = tasks.child();
        let (vault, _) = Vault::open(Vault::path_beside(settings.path()));
        let state = AppState {
            cast_sender: Arc::new(CastSender::new(settings.clone(), Arc::default())),
            settings: settings.clone(),
            board: board.clone(),
            fetch: Fetch::new(settings.clone(), board, Arc::default(), tasks.child()),
            traffic: Arc::default(),
            relay_traffic: RelayTraffic::default(),
            listening: ListenOptions { host: IpAddr::V4(Ipv4Addr::LOCALHOST), fixed_port: Some(0) },
            access: AccessControl::new("node", vault, move || settings.current().security.clone()),
            feed: Arc::default(),
            journal: Journal::default(),
            closing: tasks.token().clone(),
            casts: Arc::default(),
        };
        listener.serve(state.answers(), connections.clone(), tasks.token().clone()).await;
        connections.shut_down(PATIENCE).await;
        Ok(())
    })
}

/// As a pull does, verified.
fn put(store: &Store, bytes: usize) -> Result<()> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    zip.start_file("a.pdf", options)?;
    zip.write_all(&vec![7; bytes - ARCHIVE_BYTES])?;
    let archive = zip.finish()?.into_inner();
    ensure!(archive.len() == bytes, "{} bytes in place of {bytes}", archive.len());
    let mut pending = store.begin("m".parse::<PackageId>()?, Some(bytes as u64), u64::MAX)?;
    pending.write(&archive)?;
    let source = PackageSource {
        route: PackageRoute::Direct,
        origin: None,
        validators: Validators::default(),
    };
    let provenance = Provenance::of_package("m".into(), source);
    pending.commit(VerifyLevel::Full, None, provenance, || true)?;
    Ok(())
}
