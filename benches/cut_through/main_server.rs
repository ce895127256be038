//! A main server that sends a package piece by piece, at a pace, and notes
//! when it wrote each of them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use anyhow::{Result, ensure};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use super::{PIECE_BYTES, PIECE_EVERY};

pub(crate) struct MainServer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    package: Vec<u8>,
    go: Notify,
    /// Of the pull under way.
    written: Mutex<Vec<Instant>>,
}

impl Shared {
    fn written(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.written.lock().expect("nobody panics with it")
    }
}

impl MainServer {
    /// Offers this package under every name.
    pub(crate) async fn start(package: Vec<u8>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { package, go: Notify::new(), written: Mutex::default() });
        tokio::spawn(serve(listener, shared.clone()));
        Ok(Self { address, shared })
    }

    pub(crate) fn package(&self) -> &[u8] {
        &self.shared.package
    }

    /// Lets the next pull begin.
    pub(crate) fn go(&self) {
        self.shared.written().clear();
        self.shared.go.notify_one();
    }

    /// When it wrote the pieces of the last pull.
    pub(crate) fn written(&self) -> Vec<Instant> {
        self.shared.written().clone()
    }
}

/// The head of a request or of an answer.
pub(crate) struct Head {
    pub first_line: String,
    length: usize,
}

impl Head {
    pub(crate) async fn read(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<Self> {
        let mut asked = Self { first_line: String::new(), length: 0 };
        stream.read_line(&mut asked.first_line).await?;
        loop {
            let mut line = String::new();
            ensure!(stream.read_line(&mut line).await? > 0, "a head without an end");
            if line == "\r\n" {
                return Ok(asked);
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                asked.length = value.trim().parse()?;
            }
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        // Who is gone before the end has been ended by the bench.
        let shared = shared.clone();
        tokio::spawn(async move { answer(stream, &shared).await.ok() });
    }
}

/// One request to a connection: all that a node asks.
async fn answer(stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let asked = Head::read(&mut stream).await?;
    stream.read_exact(&mut vec![0; asked.length]).await?;
    let mut stream = stream.into_inner();
    let head = |kind: &str, length: usize| {
        format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    if !asked.first_line.contains("download-package-direct") {
        let body = match asked.first_line.contains("/active/meetings") {
            true => "[]",
            false => r#"{"status":"success","id":"1","active_meetings":[],"timestamp":1.5}"#,
        };
        let answer = head("application/json", body.len()) + body;
        return Ok(stream.write_all(answer.as_bytes()).await?);
    }
    stream.write_all(head("application/zip", shared.package.len()).as_bytes()).await?;
    shared.go.notified().await;
    let mut ticks = tokio::time::interval(PIECE_EVERY);
    for piece in shared.package.chunks(PIECE_BYTES) {
        ticks.tick().await;
        shared.written().push(Instant::now());
        stream.write_all(piece).await?;
    }
    Ok(())
}
